"""Ctrl-C in the middle of an update of a run: the run is as before it or as after it, never in between."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from itertools import islice

import numpy as np
import pytest
from systems import frames, settings

import kalmandp
from kalmandp.errors import FilterError
from kalmandp.kalman import RLEKF
from kalmandp.kalman.coupled import WINDOW
from kalmandp.training.loop import Run
from kalmandp.training.measurements.measurement import make_sample
from kalmandp.training.state.checkpoint import load_checkpoint
from kalmandp.training.trainers.uninterrupted import uninterrupted

pytestmark = pytest.mark.usefixtures("ctrl_c")

#: Seconds in which a thread must have come to its end, on a busy machine.
PATIENCE = 60.0


class Interrupted(np.ndarray):
    """Weights that get a Ctrl-C at the moment they are written: P has changed then, λ has not."""

    def __setitem__(self, at, value):
        os.kill(os.getpid(), signal.SIGINT)
        super().__setitem__(at, value)

    def __isub__(self, other):  # Adam's last line
        os.kill(os.getpid(), signal.SIGINT)
        return super().__isub__(other)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "morse.h5"
    kalmandp.Dataset.write(path, frames(8))
    return path


def make_run(data, folder, optimizer) -> Run:
    tree = settings(data)
    tree["optimizer"] = optimizer if "type" in optimizer else {**tree["optimizer"], **optimizer}
    return Run(kalmandp.read_input(tree), folder)


def optimizer_of(run: Run):
    """The object whose weights are changed in place."""
    return run.trainer.adam if hasattr(run.trainer, "adam") else run.trainer.filter


def interrupt(run: Run) -> None:
    """A step with a Ctrl-C in the middle of its first update."""
    inner = optimizer_of(run)
    plain = inner.weights
    inner.weights = plain.view(Interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            run.step()
    finally:
        inner.weights = plain


@pytest.mark.parametrize("optimizer", [{}, {"covariance": "dense"}, {"type": "Adam"}], ids=str)
def test_what_is_saved_after_an_interrupt_is_whole(data, tmp_path, optimizer):
    whole, interrupted = (make_run(data, tmp_path / name, optimizer) for name in ("whole", "interrupted"))
    interrupt(interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if "type" in optimizer:
        whole.step()
    else:  # its first update alone
        whole.feed.next()
        sample = make_sample(whole.potential, [whole.data[int(whole.feed.order[0])]])
        for m in islice(whole.trainer.measure(sample), 1):
            whole.trainer.update(m)
    saved = load_checkpoint(interrupted.checkpoint())
    wanted = whole.trainer.state()
    assert saved["optimizer"]["updates"] == 1
    assert all(np.array_equal(saved["optimizer"][name], value) for name, value in wanted.items())
    assert (saved["potential"].weights == wanted["weights"]).all()


@pytest.mark.parametrize("optimizer", [{}, {"type": "Adam"}], ids=str)
def test_without_the_guard_an_update_is_half_done(data, tmp_path, optimizer):
    """The planted error. A half updated filter is not saved even then; Adam's would be."""
    run = make_run(data, tmp_path, optimizer)
    run.trainer.guard = contextlib.nullcontext
    interrupt(run)
    if "type" in optimizer:
        assert (run.trainer.adam.m != 0).any() and (run.potential.weights == run.trainer.adam.weights).all()
        return
    with pytest.raises(FilterError, match="interrupted in the middle of an update"):
        run.checkpoint()
    assert not run.checkpoint_path.exists()


@pytest.mark.parametrize("covariance", ["tiled", "tiled coupled"])
def test_interrupts_at_many_moments(covariance):
    """A thread sends Ctrl-C at times of its own; each update happened as a whole or not at all."""
    N, m = 40, 5
    kalman, again = (RLEKF(np.ones(N), (15, 25), covariance=covariance) for _ in range(2))
    n_interrupts = 0
    rng = np.random.default_rng(0)
    H, error = rng.normal(size=(m, N)), rng.normal(size=m)
    delays = iter(rng.uniform(0, 3e-4, 200).tolist())
    for _ in range(60):
        before = kalman.updates
        kalman.update(H, error, 2.0)  # one at least
        timer = threading.Timer(next(delays), lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            timer.start()
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                with uninterrupted():
                    kalman.update(H, error, 2.0)
        except KeyboardInterrupt:
            n_interrupts += 1
        timer.join(PATIENCE)
        for _ in range(kalman.updates - before):
            again.update(H, error, 2.0)
        a, b = kalman.state(), again.state()
        assert all(np.array_equal(a[name], b[name]) for name in a)
    assert n_interrupts == 60 and again.updates * m > 4 * WINDOW


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, lambda number, frame: None])
def test_handlers_of_the_host_come_back(handler):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with uninterrupted():
            with uninterrupted():
                pass
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_of_the_main_thread_nothing_is_touched():
    seen = []

    def work() -> None:
        with uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    assert seen == [signal.default_int_handler]


def test_a_signal_reaches_its_handler_once_and_at_the_end():
    order = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: order.append("handled"))
    try:
        with uninterrupted():
            with uninterrupted():
                os.kill(os.getpid(), signal.SIGTERM)
                order.append("inner")
            order.append("outer")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert order == ["inner", "outer", "handled"]
