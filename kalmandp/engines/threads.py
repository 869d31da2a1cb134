"""Threads that share out lists of tasks, and wait for nobody who has not begun.

A kernel is a compiled function ``kernel(counters, …)`` without the interpreter's lock. It goes through
phases; in each the threads take tasks off a shared counter until none is left, and go on when all are done::

    while True:
        task = take(counters, phase)
        if task >= n_tasks:
            break
        …
        done(counters, phase)
    wait(counters, phase, n_tasks)

Which thread does a task is left to chance, what a task does is not: tasks add into accumulators of their
own, summed afterwards in the order of the list. So results are the same bits for any number of threads. A
thread that comes late takes part from where the others are; one that never comes is not missed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from kalmandp.errors import require

#: Multiplications (about 0.1 ms of them) below which waking another thread is not worth while.
WORTH_SHARING = 1_000_000
#: Phases of a kernel at most.
PHASES = 8


@intrinsic
def _fetch_and_add(typingctx, counters, place, amount):
    """Return counters[place] and add to it, as one step that no other thread can come between."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", builder.gep(array.data, [args[1]]), args[2], "seq_cst")

    return types.int64(counters, types.int64, types.int64), codegen


@njit(cache=True, nogil=True)
def take(counters, phase):
    """The number of the next task of a phase."""
    return _fetch_and_add(counters, np.int64(phase), np.int64(1))


@njit(cache=True, nogil=True)
def done(counters, phase):
    """Say that a task of the phase is finished."""
    _fetch_and_add(counters, np.int64(PHASES + phase), np.int64(1))


@njit(cache=True, nogil=True)
def wait(counters, phase, n_tasks):
    """Return when all tasks of the phase are finished: those still running are others' last ones."""
    while _fetch_and_add(counters, np.int64(PHASES + phase), np.int64(0)) < n_tasks:
        pass


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
        self._pool: ThreadPoolExecutor | None = None
        self._size = 0

    def run(self, kernel: Any, work: float, *args: Any) -> None:
        """Run ``kernel(counters, *args)``; ``work``, about its multiplications, says if help is worth it."""
        counters = np.zeros(2 * PHASES, dtype=np.int64)
        n_helpers = self._helpers() if work >= WORTH_SHARING else 0
        if n_helpers > self._size:
            self._pool, self._size = ThreadPoolExecutor(n_helpers, "kalmandp"), n_helpers
        helpers = [self._pool.submit(kernel, counters, *args) for _ in range(n_helpers)]
        kernel(counters, *args)
        for helper in helpers:
            if not helper.cancel():
                helper.result()

    def _helpers(self) -> int:
        return (self.threads or numba.get_num_threads()) - 1
