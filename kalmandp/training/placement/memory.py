"""Whether P fits into the memory that is free, asked before any of it is taken."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kalmandp.errors import InputError
from kalmandp.kalman.blocks import Blocks, Part, covariance_memory, partition
from kalmandp.training.config.presets import KalmanChoices

#: P may take this share of the free memory.
SHARE = 0.9
#: Block sizes that a message proposes, the largest that fits first.
PROPOSED = (10240, 5120, 2560, 1280, 640, 320, 160, 64, 32)
#: Of blocks that are not coupled the smallest that a message proposes.
SMALLEST_ALONE = 320


class Place(Protocol):
    """Where P is to be: a `training.placement.device`."""

    def memory(self, blocks: Blocks, choices: KalmanChoices) -> int: ...

    def free_bytes(self) -> int: ...


class CovarianceNeed(NamedTuple):
    """The blocks of P and the bytes it takes, as the covariance of ``choices`` stores it."""

    blocks: Blocks
    memory: int


def parts_of(layout) -> list[Part]:
    """The weights of a potential as parts that `kalman.blocks.partition` takes."""
    return [Part(t.name, t.size, t.layer, t.group) for t in layout.tensors]


def host_memory(blocks: Blocks, choices: KalmanChoices) -> int:
    """Bytes of P in the memory of the processor."""
    if choices.covariance == "dense":
        return covariance_memory(blocks, choices.covariance_dtype).squares
    from kalmandp.engines.cpu.covariance.tiled import (
        TiledCovariance,  # Numba stays behind its seam until asked for
    )

    return TiledCovariance.needs(blocks, choices.covariance_dtype)


def covariance_need(
    parts: Sequence[Part], choices: KalmanChoices, place: Place | None = None
) -> CovarianceNeed:
    """What P of these weights takes, on the processor or at another place; nothing is allocated."""
    blocks = partition(parts, choices.partition, choices.block_size)
    memory = host_memory if place is None else place.memory
    return CovarianceNeed(blocks, memory(blocks, choices))


def check_generation(n_weights: int, population: int) -> None:
    """Refuse a generation of SNES that does not fit into the free memory of the processor.

    Raises
    ------
    InputError
        It names what the generation needs and what is free.
    """
    free, need = available_memory(), generation_memory(n_weights, population)
    if free and need > SHARE * free:
        raise InputError(
            f"{population} members of {n_weights:,} weights need {_gib(need)} and {_gib(free)} of memory are "
            f"free, of which they may take {SHARE:.0%}; expected a smaller optimizer/population"
        )


def generation_memory(n_weights: int, population: int) -> int:
    """Bytes of a generation of `training.trainers.snes`: what was drawn for each member, float64."""
    return 8 * n_weights * population


def check_memory(parts: Sequence[Part], choices: KalmanChoices, place: Place | None = None) -> None:
    """Refuse a P that does not fit into the free memory, with what would.

    Parameters
    ----------
    parts : of the weights
    choices : of the filter
    place : where P is to be; by default the memory of the processor

    Raises
    ------
    InputError
        It names what P needs, what is free, and choices with which P fits.
    """
    free = available_memory() if place is None else place.free_bytes()
    need = covariance_need(parts, choices, place)
    if not free or need.memory <= SHARE * free:
        return
    fitting = list(_fitting(parts, choices, place, SHARE * free))
    way_on = f"optimizer/… that fits: {' or '.join(fitting)}" if fitting else "expected a smaller network"
    raise InputError(
        f"P of {need.blocks.n_weights:,} weights needs {_gib(need.memory)} "
        f"({choices.covariance_dtype}, the largest of {len(need.blocks)} blocks {max(need.blocks.sizes):,}) "
        f"and {_gib(free)} of memory are free, of which P may take {SHARE:.0%}; {way_on}"
    )


def _fitting(
    parts: Sequence[Part], choices: KalmanChoices, place: Place | None, limit: float
) -> Iterator[str]:
    """What would fit: P in float32; the largest smaller block; or, where neither does, both.

    Coupled blocks stay in float64, which they need (`presets`), and may be small.
    """
    # the blocks of the other partitions are what they are
    cut = choices.partition not in ("LEKF", "GEKF")
    dtypes = [choices.covariance_dtype]
    if dtypes == ["float64"] and not (cut and choices.coupled):
        dtypes.append("float32")
    smallest = 0 if choices.coupled else SMALLEST_ALONE
    sizes = [size for size in PROPOSED if smallest <= size < choices.block_size] if cut else []
    found = False
    for dtype, size in [(dtypes[-1], None), *((d, size) for d in dtypes for size in sizes)]:
        stated: dict[str, Any] = {"covariance_dtype": dtype} if dtype != choices.covariance_dtype else {}
        stated |= {"block_size": size} if size else {}
        memory = covariance_need(parts, replace(choices, **stated), place).memory
        if stated and memory <= limit and not (found and len(stated) == 2):
            found = True
            yield f"{json.dumps(stated)[1:-1]} ({_gib(memory)})"
            if size:
                return


def available_memory() -> int:
    """Bytes of memory that are free for a new array; 0 if the system does not tell.

    The least of what the machine has free, what the group of processes may still take (a container, a
    job of a queue), and what a limit of this process's addresses (``ulimit -v``) leaves.
    """
    free = [n for n in (_machine(), _group(), _addresses()) if n is not None]
    return max(1, min(free)) if free else 0


def _machine() -> int | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _group(root: str = "/sys/fs/cgroup") -> int | None:
    """What the memory control group of this process, and each above it, leaves (version 2)."""
    own = next((line[3:] for line in _lines("/proc/self/cgroup") if line.startswith("0::")), "/")
    free = []
    place = Path(root) / own.lstrip("/")
    for folder in (place, *place.parents):
        limit, used = (_lines(folder / f"memory.{name}") for name in ("max", "current"))
        if limit and used and limit[0].isdigit() and used[0].isdigit():
            free.append(int(limit[0]) - int(used[0]))
        if folder == Path(root):
            break
    return min(free, default=None)


def _addresses() -> int | None:
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = next((line for line in _lines("/proc/self/statm")), "")
    if limit == resource.RLIM_INFINITY or not used:
        return None
    return limit - int(used.split()[0]) * resource.getpagesize()


def _lines(path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []


def _gib(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.3g} GiB"
