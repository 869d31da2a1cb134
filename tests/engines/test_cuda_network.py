"""Nets of one form, a layer of all of them in one launch, against `potentials.network` net by net."""

from __future__ import annotations

import numpy as np
import on_device
import pytest
from cuda_emulator import BACKWARD, SHUFFLED
from numpy.testing import assert_allclose

from kalmandp.engines.cuda.deep_potential.network import CHUNK, SIDE, Nets, rows_of
from kalmandp.potentials import network
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.initial import initial_weights
from kalmandp.potentials.layout import WeightLayout

#: Sums of a few hundred products, in another order.
RTOL = 1e-12


def layout_of(**choices) -> WeightLayout:
    fields = {"embedding": (5, 10), "axis_neuron": 7, "fitting": (35, 70, 70), "fitting_resnet_dt": True}
    return Architecture(("A", "B", "C"), 4.0, 0.5, (9, 9, 9), **{**fields, **choices}).layout()


def passes(device, layout, kind: str, sizes, seed: int = 0) -> dict[str, np.ndarray]:
    """Every pass on the device, for so many rows of each net, the rows of the last net in two pieces."""
    rng, xp = np.random.default_rng(seed), device.xp
    nets = Nets(device, layout, [f"{kind}.{k}" for k in range(len(sizes))])
    ends = np.cumsum([0, *sizes])
    pieces = list(zip(range(len(sizes)), ends[:-1], ends[1:], strict=True))
    net, first, end = pieces.pop()
    pieces += [(net, first, (first + end) // 2), (net, (first + end) // 2, end)]
    rows = rows_of(device, len(sizes), pieces)
    w, n_in, n_out = initial_weights(layout, rng), nets.forms[0].n_in, nets.forms[-1].n_out
    x, x_dot = rng.normal(size=(2, ends[-1], n_in))
    y_bar, y_dot_bar = rng.normal(size=(2, ends[-1], n_out))
    put, gradients = xp.asarray, [xp.asarray(np.full(layout.size, 7.0)) for _ in range(2)]
    y, caches = nets.forward(put(w), rows, put(x))
    x_bar, none = nets.backward(put(w), rows, caches, put(y_bar), None, gradients[0])
    assert none is None
    y_dot, filled = nets.tangent(put(w), rows, caches, put(x_dot))
    both = nets.backward(put(w), rows, filled, put(y_bar), put(y_dot_bar), gradients[1])
    assert nets.backward(put(w), rows, caches, put(y_bar), wants_input=False) == (None, None)
    results = (y, x_bar, y_dot, *both, *gradients)
    names = ("y", "x_bar", "y_dot", "both x_bar", "both x_dot_bar", "gradient", "both gradient")
    return {name: value.get() for name, value in zip(names, results, strict=True)}


def reference(layout, kind: str, sizes, seed: int = 0) -> dict[str, np.ndarray]:
    """The same net by net. Weights of other nets keep what was in the gradient before."""
    rng = np.random.default_rng(seed)
    w, (form, *_, last) = initial_weights(layout, rng), layout.nets[f"{kind}.0"]
    ends = np.cumsum([0, *sizes])
    x, x_dot = rng.normal(size=(2, ends[-1], form.n_in))
    y_bar, y_dot_bar = rng.normal(size=(2, ends[-1], last.n_out))
    out = {"gradient": np.full(layout.size, 7.0), "both gradient": np.full(layout.size, 7.0)}
    parts: dict[str, list] = {}
    for k in range(len(sizes)):
        rows, layers = slice(ends[k], ends[k + 1]), layout.layers(w, f"{kind}.{k}")
        for gradient in out.values():
            for tensor in layout.tensors:
                if tensor.net == f"{kind}.{k}":
                    gradient[tensor.start : tensor.stop] = 0.0
        one, two = (layout.layers(gradient, f"{kind}.{k}") for gradient in out.values())
        y, caches = network.forward(layers, x[rows])
        x_bar = network.backward(layers, caches, y_bar[rows], one)
        y_dot, filled = network.tangent(layers, caches, x_dot[rows])
        both = network.tangent_backward(layers, filled, y_bar[rows], y_dot_bar[rows], two)
        for name, value in zip(
            ("y", "x_bar", "y_dot", "both x_bar", "both x_dot_bar"), (y, x_bar, y_dot, *both), strict=True
        ):
            parts.setdefault(name, []).append(value)
    return out | {name: np.concatenate(values) for name, values in parts.items()}


@pytest.mark.parametrize(("kind", "sizes"), [
    ("fitting", (SIDE + 1, 3, 5)), ("fitting", (1, 0, CHUNK + 9)), ("embedding", (2 * CHUNK + 1, 0, 1)),
])  # fmt: skip
@pytest.mark.parametrize("idt", [False, True])
def test_every_pass_of_every_net(kind, sizes, idt):
    """Widths and rows that fill tiles and that do not, one piece of a net and several, a net without rows."""
    layout = layout_of(fitting_resnet_dt=idt, embedding_resnet_dt=idt, type_one_side=True)
    wanted, got = reference(layout, kind, sizes), passes(on_device.emulated(), layout, kind, sizes)
    for name, value in wanted.items():
        assert_allclose(got[name], value, rtol=0, atol=RTOL * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("order", [BACKWARD, SHUFFLED])
def test_no_race_between_threads_or_blocks(order):
    layout, sizes = layout_of(), (SIDE + 1, 2, CHUNK + 3)
    one, two = (passes(on_device.emulated(order=o), layout, "fitting", sizes) for o in (0, order))
    for name, value in one.items():
        assert (two[name] == value).all(), name


def test_a_planted_mistake_is_seen(monkeypatch):
    """Chunks of another net summed."""
    layout, sizes, make = layout_of(), (4, 3, CHUNK + 9), rows_of

    def shifted(*arguments):
        rows = make(*arguments)
        rows.first_chunk[1:3] += np.int32(1)
        return rows

    monkeypatch.setitem(globals(), "rows_of", shifted)
    wanted, got = reference(layout, "fitting", sizes), passes(on_device.emulated(), layout, "fitting", sizes)
    assert not np.allclose(got["gradient"], wanted["gradient"])
    assert_allclose(got["x_bar"], wanted["x_bar"], rtol=0, atol=1e-11)
