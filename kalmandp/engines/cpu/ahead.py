"""The kernels of a first step, compiled side by side by processes of their own.

Numba compiles a kernel when it is first called, one after the other, and keeps it on disk. `Compilation`
has processes compile them at the same time, while the data are read; the run then finds them on disk. Each
process takes the next kernel of one list that no other has taken: half of them from its beginning, half from
its end, for neighbours in the list share parts, which a process compiles once. A process that fails, or a
folder that cannot be written to, costs nothing but that time: what is missing is compiled when it is called,
as ever.

The list comes from a step of a tiny potential with a `Team` that notes kernels and the types of their
arguments, and runs none. A kind names that potential in the registry (`registry.Kind.ahead`).
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import typeof, types

from kalmandp.engines.cpu.private import leave_out_scipy
from kalmandp.engines.cpu.threads import Team
from kalmandp.registry import KINDS, descriptor_of, load, make_engine

#: Processes at most; the kernel that takes longest takes a third of the time of all.
MOST = 4
#: Set by launchers of MPI: many processes share this machine already, and all would compile.
LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "SLURM_NTASKS")
#: Where a process can be doubled after its imports (elsewhere libraries of the system do not bear it).
FORKS = sys.platform == "linux"
#: No threads in a process that is doubled.
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}


class Tiny(NamedTuple):
    """What a kind gives, as ``ahead``, to have its kernels compiled.

    form : of a small potential
    longest : its kernels that take longest to compile, the first of them first and beside it the one that
        shares most parts with it
    by_rows : its first step measures every component by itself (`atomic.rows`), as a preset "matrix"
    """

    form: Any
    longest: tuple
    by_rows: bool


class NotingTeam(Team):
    """Notes kernels and the types of their arguments, and runs none: arrays of the last one become zeros."""

    def __init__(self) -> None:
        super().__init__(1)
        self.noted: dict[tuple[int, tuple], tuple[Any, tuple]] = {}

    def run(self, kernel: Any, work: float, *args: Any) -> None:
        counters = types.Array(types.int64, 3, "C")
        signature = (counters, types.int64, *(typeof(arg) for arg in args))
        self.noted[id(kernel), signature] = kernel, signature
        for result in args[-1] if isinstance(args[-1], tuple) else args[-1:]:
            if isinstance(result, np.ndarray):
                result.fill(0)


class Compilation:
    """Compiles, in other processes, the kernels of a step of a kind of potential that are not compiled yet.

    Parameters
    ----------
    kind : of potential, a name in `registry.KINDS`
    covariance_dtype : "float64" or "float32", of P; None if no filter is used
    """

    def __init__(self, kind: str, covariance_dtype: str | None) -> None:
        self._processes: list[subprocess.Popen] = []
        self._folder: tempfile.TemporaryDirectory | None = None
        count = min(MOST, os.cpu_count() or 1)
        shared = any(os.environ.get(name, "1") != "1" for name in LAUNCHERS)
        if shared or count < 2 or KINDS[kind].ahead is None or _is_compiled(_tiny(kind).longest[0]):
            return
        try:
            self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            words = [kind, covariance_dtype or "none", self._folder.name, str(count)]
            for turn in range(1 if FORKS else count):
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", __name__, *words, str(turn)],
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                        env=os.environ | ONE_THREAD, start_new_session=True,
                    )
                )  # fmt: skip
        except OSError:  # no more processes here: what is missing is compiled when it is called
            self.stop()

    @property
    def running(self) -> bool:
        """Whether there is something to wait for."""
        return any(process.poll() is None for process in self._processes)

    def wait(self) -> None:
        """Return when all is compiled, or has failed."""
        for process in self._processes:
            process.wait()

    def stop(self) -> None:
        """End the processes that still run. Numba's files are complete or absent."""
        for process in self._processes:
            if FORKS and process.poll() is None:  # with the processes that it was doubled into
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
        if self._folder is not None:
            self._folder.cleanup()


def _tiny(kind: str) -> Tiny:
    return load(str(KINDS[kind].ahead))()


def _is_compiled(kernel: Any) -> bool:
    """Whether compiled code of a kernel is on disk. True, too, if that cannot be told."""
    try:
        return bool(kernel._cache._cache_file._load_index())
    except AttributeError:  # Numba keeps its files in another way, or nowhere
        return True


def compile_kernels(kind: str, covariance_dtype: str | None) -> None:
    """Compile the kernels of a first step, in this process."""
    for kernel, signature in kernels_of_a_step(kind, covariance_dtype):
        kernel.compile(signature)


def kernels_of_a_step(kind: str, covariance_dtype: str | None) -> list[tuple[Any, tuple]]:
    """The kernels of a first step with the types of their arguments; the longest ones come first."""
    tiny, team = _tiny(kind), NotingTeam()
    _step(tiny, team)
    if covariance_dtype:
        _filter(covariance_dtype, tiny.by_rows, team)
    last = len(tiny.longest)
    place = lambda one: tiny.longest.index(one[0]) if one[0] in tiny.longest else last
    return sorted(team.noted.values(), key=place)


def _step(tiny: Tiny, team: NotingTeam) -> None:
    """All passes of a step of a tiny potential."""
    from kalmandp.frames.frame import Frame
    from kalmandp.potentials.atomic import Numbers
    from kalmandp.potentials.protocol import Parameters

    form, name = tiny.form, tiny.form.type_map[0]
    layout = form.layout()
    engine = make_engine("numba", form, layout, threads=1)
    engine._team = team
    statistics = {name: np.ones(shape) for name, shape in form.statistics_shapes().items()}
    par = Parameters(descriptor_of(form), layout, np.zeros(layout.size), np.zeros(form.n_types))
    frame = Frame(np.zeros((1, 3)), np.zeros(1, dtype=np.int64), (name,), cell=100.0 * np.eye(3))
    frames, pairs = zip(*engine.frames([frame]), strict=True)
    env = engine.environment(statistics, frames, pairs)
    _, forward = engine.energies(par, env)
    f_pc = engine.pair_gradient(par, env, forward)
    engine.forces(env, f_pc)
    engine.virial(env, f_pc)
    if tiny.by_rows:
        none = np.zeros(0, np.int64)
        numbers = Numbers(np.zeros(1, np.int64), np.zeros((1, 2), np.int64), none, np.zeros((1, 3), np.int64))
        engine.rows(par, env, forward, numbers)
    else:
        engine.energy_gradient(par, env, forward, np.ones(1))


def _filter(dtype: str, by_rows: bool, team: NotingTeam) -> None:
    """Two updates of a tiny filter, the second of which finds pending columns where there may be some."""
    from kalmandp.engines.cpu.covariance.tiled import PANEL, WAITING, TiledCovariance
    from kalmandp.kalman.blocks import Blocks

    m, N = (max(PANEL, WAITING) + 8, 64) if by_rows else (2, 40)
    P = TiledCovariance(Blocks((N,)), 1.0, dtype)
    P._team = team
    for _ in range(2):
        K_qw, _ = P.project(np.ones((m, N)))
        C_qq, z_q, _ = P.cholesky(np.eye(m), np.ones(m))
        P.downdate(P.gain(K_qw, C_qq, z_q, np.zeros(N)).G_qw, 1.0)


def main(argv: Iterable[str]) -> None:
    """One of ``count`` processes; the first of them is doubled into the others once all is imported."""
    gc.disable()  # the process is short
    leave_out_scipy()
    kind, dtype, taken, count, turn = argv
    kernels = list(enumerate(kernels_of_a_step(kind, None if dtype == "none" else dtype)))
    number, others = int(turn), []
    for other in range(1, int(count)) if FORKS else ():
        if (child := os.fork()) == 0:
            number, others = other, []
            break
        others.append(child)
    for place, (kernel, signature) in reversed(kernels) if number % 2 else kernels:
        try:
            (Path(taken) / str(place)).touch(exist_ok=False)
        except FileExistsError:
            continue
        kernel.compile(signature)
    for other in others:
        os.waitpid(other, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
