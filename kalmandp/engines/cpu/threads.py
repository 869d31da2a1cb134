"""A work-sharing team of threads; late threads are not awaited.

A kernel is a compiled function ``kernel(counters, me, …)`` without the interpreter's lock. It goes through
phases; in each the threads take tasks until none is left, and go on when all are done::

    while True:
        task = take(counters, me, phase, n_tasks)
        if task >= n_tasks:
            break
        …
        done(counters, phase)
    wait(counters, phase, n_tasks)

A thread begins with a share of its own, the same in every pass, so that what it wrote is still in its
cache; then it takes from the others' shares. Which thread does a task is left to chance, what a task does is
not: tasks add into accumulators of their own, summed afterwards in the order of the list. So results are
the same bits for any number of threads. A thread that comes late takes part from where the others are; one
that never comes is not missed.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types

from kalmandp.engines.cpu.compiling import KernelCompiler, PartCompiler
from kalmandp.engines.cpu.private import cgutils, intrinsic
from kalmandp.engines.cpu.stale import forget_stale_kernels
from kalmandp.errors import require

#: Multiplications (about 0.1 ms of them) below which waking another thread is not worth while.
WORTH_SHARING = 1_000_000
#: Phases of a kernel at most.
PHASES = 8
#: Counters lie this far apart: a cache line each.
LINE = 8

# before the first kernel is loaded: every module that has one takes its options from here
forget_stale_kernels()

#: Looks at a counter (some microseconds) before a thread that waits gives way.
SPINS = 100

#: Compiler's options of kernels. Without Numba's reference counts: they are atomic, and two threads that
#: look at rows of one array would spend their time passing the count to each other.
KERNEL: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "pipeline_class": KernelCompiler,
    "no_cfunc_wrapper": True,
    "_nrt": False,
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
    "error_model": "numpy",
}
#: The same for what kernels are made of: inlined always, and no code of their own.
PART: dict[str, Any] = {
    **KERNEL,
    "cache": False,
    "pipeline_class": PartCompiler,
    "forceinline": True,
    "no_cpython_wrapper": True,
}
#: A part that is optimised by itself first, as Numba does. Sums may be reordered in either step: the sums of
#: version 0.6.0 were, and keep their bits.
PART_TWICE: dict[str, Any] = {**{k: v for k, v in PART.items() if k != "pipeline_class"}, "cache": True}


@intrinsic
def _fetch_and_add(typingctx, counters, place, amount):
    """Return counters[place] and add to it, as one step that no other thread can come between."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", builder.gep(array.data, [args[1]]), args[2], "seq_cst")

    return types.int64(counters, types.int64, types.int64), codegen


@intrinsic
def _give_way(typingctx):
    """Yield this core to another thread of the machine, if one waits for it."""
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@njit(**PART)
def _be_patient(spins):
    """Wait a little: on a busy machine the thread that is waited for may need this core."""
    if spins > SPINS:
        _give_way()
    return spins + 1


@njit(**PART)
def _count(counters, phase, column, amount):
    """Add to the counter of a phase; return what it was."""
    place = (phase * counters.shape[1] + column) * LINE
    return _fetch_and_add(counters, np.int64(place), np.int64(amount))


@njit(**PART)
def take(counters, me, phase, n_tasks):
    """The number of the next task of a phase for thread ``me``; ``n_tasks`` if there is none."""
    team = counters.shape[1] - 1
    for k in range(team):
        who = (me + k) % team
        first, last = who * n_tasks // team, (who + 1) * n_tasks // team
        if first < last:
            task = first + _count(counters, np.int64(phase), who, np.int64(1))
            if task < last:
                return task
    return n_tasks


@njit(**PART)
def take_in_order(counters, phase, n_tasks):
    """The number of the next task of a phase, in the order of the list whoever asks; ``n_tasks`` if none.

    A task may wait for those before it: they have been taken, so somebody is working on them.
    """
    return min(_count(counters, phase, 0, 1), n_tasks)


@njit(**PART)
def step_on(steps, place):
    """Say that one more task on ``place`` of ``steps`` (…, LINE) is finished."""
    _fetch_and_add(steps, np.int64(place * LINE), np.int64(1))


@njit(**PART)
def wait_for_steps(steps, place, n):
    """Return when ``n`` tasks on ``place`` of ``steps`` are finished."""
    spins = 0
    while _fetch_and_add(steps, np.int64(place * LINE), np.int64(0)) < n:
        spins = _be_patient(spins)


@njit(**PART)
def done(counters, phase):
    """Say that a task of the phase is finished."""
    _count(counters, np.int64(phase), counters.shape[1] - 1, np.int64(1))


@njit(**PART)
def wait(counters, phase, n_tasks):
    """Return when all tasks of the phase are finished: those still running are others' last ones."""
    spins = 0
    while _count(counters, np.int64(phase), counters.shape[1] - 1, np.int64(0)) < n_tasks:
        spins = _be_patient(spins)


class Team:
    """Threads that run a kernel together.

    The calling thread works too, and waits for none that has not begun: on a busy machine it may do all
    of the work. (Numba's own parallel loops wait for every thread at the end of each loop.)

    Parameters
    ----------
    threads : how many; None asks `numba.get_num_threads` at every run. With 1 no thread is ever started.
    """

    def __init__(self, threads: int | None = None) -> None:
        whole = threads is None or (isinstance(threads, (int, np.integer)) and threads >= 1)
        require(whole, "threads", threads, "None or a whole number ≥ 1")
        self.threads = threads
        self._helpers: list[ThreadPoolExecutor] = []

    @property
    def size(self) -> int:
        """Threads that may work on a kernel at once."""
        return self.threads or numba.get_num_threads()

    def run(self, kernel: Any, work: float, *args: Any) -> None:
        """Run ``kernel(counters, me, *args)`` for every thread ``me`` of the team.

        ``work``, about the kernel's multiplications, says if help is worth it.
        """
        size = self.size if work >= WORTH_SHARING else 1
        counters = np.zeros((PHASES, size + 1, LINE), dtype=np.int64)
        while len(self._helpers) < size - 1:  # one thread each: helper k is always the same thread
            self._helpers.append(ThreadPoolExecutor(1, "kalmandp"))
        others = [self._helpers[k].submit(kernel, counters, k + 1, *args) for k in range(size - 1)]
        kernel(counters, 0, *args)
        for other in others:
            if not other.cancel():
                other.result()
