"""Ctrl-C in the middle of an update: the filter is as before it or as after it, never in between."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
from textbook import bits

from kalmandp.kalman import RLEKF
from kalmandp.kalman.uninterrupted import uninterrupted
from kalmandp.training.adam import Adam

N = 40


class Interrupted(np.ndarray):
    """Weights that get a Ctrl-C at the moment they are written: P has changed then, λ has not."""

    def __setitem__(self, at, value):
        os.kill(os.getpid(), signal.SIGINT)
        super().__setitem__(at, value)


def filters(covariance: str = "tiled"):
    for _ in range(2):
        kalman = RLEKF(np.ones(N), (15, 25), covariance=covariance)
        kalman.update(np.ones(N), 1.0, 1.0)
        yield kalman


def update(kalman) -> None:
    kalman.update(np.arange(N), 0.5, 2.0)


@pytest.mark.parametrize("covariance", ["dense", "tiled"])
def test_an_interrupt_within_an_update_comes_after_it(covariance):
    whole, interrupted = filters(covariance)
    update(whole)
    plain = interrupted.weights
    interrupted.weights = plain.view(Interrupted)
    with pytest.raises(KeyboardInterrupt):
        update(interrupted)
    interrupted.weights = plain
    assert bits(interrupted) == bits(whole)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_the_guard_an_update_is_half_done(monkeypatch):
    """The planted error: the judge above sees it."""
    import contextlib

    monkeypatch.setattr("kalmandp.kalman.filter.uninterrupted", contextlib.nullcontext)
    whole, interrupted = filters()
    update(whole)
    plain = interrupted.weights
    interrupted.weights = plain.view(Interrupted)
    with pytest.raises(KeyboardInterrupt):
        update(interrupted)
    interrupted.weights = plain
    assert bits(interrupted) != bits(whole)


def test_interrupts_at_many_moments():
    """A thread sends Ctrl-C at times of its own; each update happened as a whole or not at all."""
    kalman, again = filters()
    n_interrupts, sent = 0, threading.Event()
    rng = np.random.default_rng(0)
    delays = iter(rng.uniform(0, 3e-4, 200).tolist())
    for _ in range(60):
        before = kalman.updates
        timer = threading.Timer(next(delays), lambda: (os.kill(os.getpid(), signal.SIGINT), sent.set()))
        try:
            timer.start()
            while True:
                update(kalman)
        except KeyboardInterrupt:
            n_interrupts += 1
        timer.join()
        for _ in range(kalman.updates - before):
            update(again)
        assert bits(kalman) == bits(again)
    assert n_interrupts == 60 and again.updates > 1


def test_adam_is_guarded_too():
    one, other = (Adam(np.ones(N)) for _ in range(2))
    one.update(np.arange(N), 0.1)
    plain = other.m
    other.m = plain.view(Interrupted)
    other.m.__class__.__iadd__ = lambda self, x: (
        os.kill(os.getpid(), signal.SIGINT), np.add(plain, x, out=plain), plain
    )[-1]  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        other.update(np.arange(N), 0.1)
    del Interrupted.__iadd__
    assert (other.weights == one.weights).all() and other.updates == 1
    assert (other.v == one.v).all() and (other.m == one.m).all()


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
    thread.join()
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
