"""The kernels of a first step, compiled side by side by processes of their own.

Numba compiles a kernel when it is first called, one after the other, and keeps it on disk. `Compilation`
has processes compile them at the same time, each some of the kernels, while the data are read; the run
then finds them on disk. A process that fails, or a folder that cannot be written to, costs nothing but that
time: what is missing is compiled when it is called, as ever.

A process makes a step of a tiny potential with a `Team` that compiles kernels and does not run them, so that
the types of all arguments are those of a real step.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numba import typeof, types

from kalmandp.engines.cpu.deep_potential.gradient_kernels import weight_gradient
from kalmandp.engines.cpu.threads import Team

#: What each process compiles. The weights' gradient takes about as long as all the rest.
GROUPS = ("gradient", "others")
#: Set by launchers of MPI: many processes share this machine already, and all would compile.
LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "SLURM_NTASKS")


class CompilingTeam(Team):
    """Compiles the kernels that ``wanted`` chooses, and runs none: the last argument becomes zeros."""

    def __init__(self, wanted: Callable[[Any], bool]) -> None:
        super().__init__(1)
        self._wanted = wanted

    def run(self, kernel: Any, work: float, *args: Any) -> None:
        if self._wanted(kernel):
            counters = types.Array(types.int64, 3, "C")
            kernel.compile((counters, types.int64, *(typeof(arg) for arg in args)))
        args[-1].fill(0)


class Compilation:
    """All kernels of a step of the Deep Potential being compiled, if they are not.

    Parameters
    ----------
    covariance_dtype : "float64" or "float32", of P; None if no filter is used
    """

    def __init__(self, covariance_dtype: str | None) -> None:
        self._processes: list[subprocess.Popen] = []
        shared = any(os.environ.get(name, "1") != "1" for name in LAUNCHERS)
        if shared or (os.cpu_count() or 1) < 2 or _is_compiled(weight_gradient):
            return
        try:
            for group in GROUPS:
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", __name__, group, covariance_dtype or "none"],
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
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
        """End the processes that still run. Numba's files are whole or not there."""
        for process in self._processes:
            process.kill()
            process.wait()


def _is_compiled(kernel: Any) -> bool:
    """Whether compiled code of a kernel is on disk. True, too, if that cannot be told."""
    try:
        return bool(kernel._cache._cache_file._load_index())
    except AttributeError:  # Numba keeps its files in another way, or nowhere
        return True


def compile_group(group: str, covariance_dtype: str | None) -> None:
    """Compile the kernels of one process."""
    gradient = group == "gradient"
    _deep_potential(lambda kernel: (kernel is weight_gradient) == gradient)
    if covariance_dtype and not gradient:
        _filter(covariance_dtype)


def _deep_potential(wanted: Callable[[Any], bool]) -> None:
    """All passes of a step of a tiny Deep Potential."""
    from kalmandp.engines.cpu.deep_potential.engine import NumbaEngine
    from kalmandp.frames.frame import Frame
    from kalmandp.potentials.deep_potential.architecture import Architecture
    from kalmandp.potentials.protocol import Parameters
    from kalmandp.registry import descriptor_of

    form = Architecture(("A",), 4.0, 0.5, (20,), embedding=(8,), axis_neuron=2, fitting=(8,))
    layout = form.layout()
    engine = NumbaEngine(form, layout, threads=1)
    engine._team = CompilingTeam(wanted)
    statistics = {name: np.ones(shape) for name, shape in form.statistics_shapes().items()}
    par = Parameters(descriptor_of(form), layout, np.zeros(layout.size), np.zeros(1))
    frame = Frame(np.zeros((1, 3)), np.zeros(1, dtype=np.int64), ("A",), cell=100.0 * np.eye(3))
    env = engine.environment(statistics, [frame])
    _, forward = engine.energies(par, env)
    f_pc = engine.pair_gradient(par, env, forward)
    engine.forces(env, f_pc)
    engine.virial(env, f_pc)
    engine.energy_gradient(par, env, forward, np.ones(1))


def _filter(dtype: str) -> None:
    """Two updates of a tiny filter, the second of which finds pending columns."""
    from kalmandp.kalman import RLEKF

    kalman = RLEKF(np.zeros(40), (40,), covariance="tiled", dtype=dtype)
    for _ in range(2):
        kalman.update(np.ones((2, 40)), np.ones(2), 1.0)


def main(argv: Iterable[str]) -> None:
    gc.disable()  # the process is short
    group, dtype = argv
    compile_group(group, None if dtype == "none" else dtype)


if __name__ == "__main__":
    main(sys.argv[1:])
