"""How the weights are cut into the blocks whose covariance is kept.

The error covariance of N weights has N² entries. RLEKF keeps only square blocks on its diagonal::

    P = diag(P_1, …, P_L),     P_l of shape (n_l, n_l),     Σ_l n_l = N

so memory and work are Σ n_l² ≤ N·N_b. Weights of one layer are strongly correlated and belong in one
block where possible; blocks should be neither too large (work) nor too small (lost correlation).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace
from kalmandp.errors import InputError, require

BLOCK_SIZE = 5120  # the paper's default N_b


class Part(NamedTuple):
    """One parameter array of a model (a matrix W, a bias b, …), in the order of the flat weights.

    group : parts that stand side by side with the same name here are kept in one block where they fit into
        one, and share none with a part of another group unless that fits in whole; "" for no group
    """

    name: str
    size: int
    layer: str
    group: str = ""


@dataclass(frozen=True)
class Blocks:
    """The sizes n_1 … n_L of consecutive blocks that cover weights 0 … N−1 without gap or overlap.

    Iterating gives the slices of the flat weight vector, one per block.
    """

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        require(len(self.sizes) > 0, "the number of blocks", 0, "at least one")
        for l, size in enumerate(self.sizes):
            require(_is_count(size), f"the size of block {l}", repr(size), "a positive integer")
        object.__setattr__(self, "sizes", tuple(int(size) for size in self.sizes))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The slice of the flat weights that each block covers."""
        stops = tuple(accumulate(self.sizes))
        return tuple(slice(stop - size, stop) for size, stop in zip(self.sizes, stops, strict=True))

    @property
    def n_weights(self) -> int:
        """N, the number of weights covered."""
        return sum(self.sizes)

    def extended(self, n: int) -> Blocks:
        """The same with n weights more in the last block: nuisances, whose covariance with it is kept."""
        return Blocks((*self.sizes[:-1], self.sizes[-1] + n))

    def sums(self, x_w: Any) -> Any:
        """The sum of N numbers over each block, (L,), of NumPy or CuPy as they are."""
        return namespace(x_w).stack([x_w[w].sum() for w in self])

    def __len__(self) -> int:
        """L, the number of blocks."""
        return len(self.sizes)

    def __iter__(self) -> Iterator[slice]:
        return iter(self.slices)


class CovarianceMemory(NamedTuple):
    """Bytes that P takes as symmetric halves, Σ n_l(n_l + 1)/2 numbers, and as full squares, Σ n_l²."""

    halves: int
    squares: int


def covariance_memory(blocks: Blocks, dtype: str = "float64") -> CovarianceMemory:
    """Return the bytes that P of a partition takes, stored in ``dtype``."""
    itemsize = np.dtype(dtype).itemsize
    halves = sum(n * (n + 1) // 2 for n in blocks.sizes)
    squares = sum(n * n for n in blocks.sizes)
    return CovarianceMemory(halves * itemsize, squares * itemsize)


def partition(
    parts: Iterable[Part | Sequence], strategy: str = "RLEKF", block_size: int = BLOCK_SIZE
) -> Blocks:
    """Cut the weights of a model into blocks: RLEKF, splitting strategy, steps 1 and 2.

    Parameters
    ----------
    parts : the model's parameter arrays, ``Part(name, size, layer)``, in the order of the flat weights
    strategy : one of

        ``"RLEKF"``
            the paper's text: a part larger than N_b is split into pieces of N_b; what remains of it
            is gathered with the parts that follow while their sum is at most N_b. Parts of a group
            are gathered as one; a group larger than N_b is cut by itself.
        ``"RLEKF-code"``
            what DeePMD-kit (``LKF``) and MatPL do: parts are gathered while their sum is at most
            N_b, but what remains of a split part stays alone.
        ``"LEKF"``
            one block per layer, however large.
        ``"SEKF"``
            the flat vector cut evenly into ⌈N/N_b⌉ pieces, whatever the layers.
        ``"GEKF"``
            one block: the full covariance.

    block_size : N_b, the largest block of RLEKF and SEKF

    Examples
    --------
    >>> parts = [Part("W0", 7, "layer 0"), Part("b0", 2, "layer 0"), Part("W1", 3, "layer 1")]
    >>> partition(parts, block_size=5).sizes  # 7 = 5 + 2; the remainder is gathered: 2 + 2, then 3
    (5, 4, 3)
    >>> partition(parts, "RLEKF-code", block_size=5).sizes
    (5, 2, 5)
    >>> partition(parts, "LEKF").sizes
    (9, 3)

    Raises
    ------
    InputError
        Unknown strategy, no parts, a size below 1, or the parts of one layer not side by side (LEKF).

    Notes
    -----
    Hu et al., "RLEKF: An Optimizer for Deep Potential with Ab Initio Accuracy", AAAI 2023,
    section "The Splitting Strategy of RLEKF".
    """
    all_parts = [Part(*part) for part in parts]
    require(len(all_parts) > 0, "the number of parts", 0, "at least one")
    for part in all_parts:
        require(_is_count(part.size), f"part {part.name!r} size", part.size, "a positive integer")
    require(_is_count(block_size), "block_size", repr(block_size), "a positive integer")
    if strategy not in STRATEGIES:
        raise InputError(f"strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}")
    return Blocks(tuple(STRATEGIES[strategy](all_parts, operator.index(block_size))))


def _rlekf(parts: list[Part], block_size: int) -> Iterator[int]:
    whole: list[Part] = []
    for group, members in groupby(parts, key=lambda part: part.group):
        one = list(members)
        size = sum(part.size for part in one)
        if group and size > block_size:
            yield from _gathered(whole, block_size)
            yield from _gathered(one, block_size)
            whole = []
        else:
            whole += [Part(group, size, "")] if group else one
    yield from _gathered(whole, block_size)


def _gathered(parts: list[Part], block_size: int) -> Iterator[int]:
    gathered = 0
    for part in parts:
        if gathered and gathered + part.size > block_size:
            yield gathered
            gathered = 0
        gathered += part.size
        # split: ⌊p/N_b⌋ pieces of N_b; the remainder goes on as the first of the next gathering
        while gathered > block_size:
            yield block_size
            gathered -= block_size
    if gathered:
        yield gathered


def _rlekf_code(parts: list[Part], block_size: int) -> Iterator[int]:
    groups, gathered = [], 0
    for part in parts:
        if gathered + part.size > block_size:
            if gathered:
                groups.append(gathered)
            gathered = part.size
        else:
            gathered += part.size
    groups.append(gathered)
    for group in groups:
        # only a single large part can exceed N_b; its remainder is a block of its own
        pieces, remainder = divmod(group, block_size)
        yield from [block_size] * pieces
        if remainder:
            yield remainder


def _lekf(parts: list[Part], block_size: int) -> Iterator[int]:
    seen: set[str] = set()
    for layer, members in groupby(parts, key=lambda part: part.layer):
        if layer in seen:
            raise InputError(
                f"the parts of layer {layer!r} are not side by side in the flat weights; "
                "LEKF keeps one block per layer and needs them consecutive"
            )
        seen.add(layer)
        yield sum(part.size for part in members)


def _sekf(parts: list[Part], block_size: int) -> Iterator[int]:
    total = sum(part.size for part in parts)
    pieces = -(-total // block_size)
    smaller, larger = divmod(total, pieces)
    yield from [smaller + 1] * larger + [smaller] * (pieces - larger)


def _gekf(parts: list[Part], block_size: int) -> Iterator[int]:
    yield sum(part.size for part in parts)


STRATEGIES: dict[str, Callable[[list[Part], int], Iterator[int]]] = {
    "RLEKF": _rlekf,
    "RLEKF-code": _rlekf_code,
    "LEKF": _lekf,
    "SEKF": _sekf,
    "GEKF": _gekf,
}


def _is_count(value: object) -> bool:
    try:
        return not isinstance(value, bool) and operator.index(value) > 0  # type: ignore[arg-type]
    except TypeError:
        return False
