"""The nets of an HDNNP as a `cpu.network.NetStack`, and their forward pass.

The nets of the elements have inputs of different numbers, an activation for each layer, a scale of the
pre-activations and a gain of the last layer; their passes back are those of `cpu.network`, which see all this
in φ′ and φ″ only.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from kalmandp.engines.cpu.activation import CODES, EXACT, apply, logistic
from kalmandp.engines.cpu.linear import add_row, dot_product
from kalmandp.engines.cpu.network import A_COL, COLUMNS, N_IN, N_OUT, NetStack
from kalmandp.engines.cpu.threads import PART
from kalmandp.potentials.activations import N2P2_NAMES

#: Codes of n2p2's further activations, behind those of `cpu.activation`.
FURTHER = {name: 100 + n for n, name in enumerate(N2P2_NAMES)}


class Activations(NamedTuple):
    """For each layer the activation's code;  scale, gain : (n, l) of each net's layers."""

    code_l: Any
    scale_nl: Any
    gain_nl: Any


def activation_code(name: str) -> int:
    """Code of an activation of `activations.NAMES` without a threshold, or of ``N2P2_NAMES``."""
    return FURTHER[name] if name in FURTHER else CODES[name]


def net_stack(layout) -> tuple[NetStack, Activations]:
    """The fitting nets of a layout in numbers."""
    nets = [layout.nets[name] for name in layout.fitting_nets]
    forms = np.empty((len(nets), len(nets[0]), 8), np.int64)
    for n, (name, layers) in enumerate(zip(layout.fitting_nets, nets, strict=True)):
        x = a = 0
        for l, f in enumerate(layers):
            start = layout[f"{name}.layer.{l}.W"].start
            forms[n, l] = f.n_in, f.n_out, x, a, start, layout[f"{name}.layer.{l}.b"].start, -1, 0
            x, a = x + f.n_in, a + f.n_out
    first = np.concatenate([f[A_COL] + np.arange(0, f[N_OUT], COLUMNS) for f in forms[0]])
    stack = NetStack(
        forms, 0, 0.0, False, int(forms[:, :, N_IN].sum(axis=1).max()), int(forms[0, :, N_OUT].sum()), 1,
        int(forms[:, :, [N_IN, N_OUT]].max()), False,
        np.array([(n, c) for n in range(len(nets)) for c in first], dtype=np.int64),
    )  # fmt: skip
    of_layers = lambda name: np.array([[getattr(f, name) for f in layers] for layers in nets], dtype=float)
    codes = np.array([activation_code(f.activation) for f in nets[0]])
    return stack, Activations(codes, of_layers("scale"), of_layers("gain"))


@njit(**EXACT)
def _further(code, a):
    """φ, φ′, φ″ of the activations in ``FURTHER``, in their order."""
    if code == 100:
        s, d, dd = logistic(-a)
        return s, -d, dd
    if code == 101:
        g = math.exp(-0.5 * a * a)
        return g, -a * g, (a * a - 1.0) * g
    if code == 102:
        c = math.cos(a)
        return c, -math.sin(a), -c
    if code == 103:
        e = math.exp(-a)
        return e, -e, e
    return a * a, 2.0 * a, 2.0


@njit(**PART)
def _activate(code, scale, gain, phi, d1, d2):
    """φ, φ′, φ″ with respect to a, of gain·φ(scale·a); ``phi`` holds a before."""
    n = len(phi)
    if scale != 1.0:
        for j in range(n):
            phi[j] *= scale
    if code < 100:
        apply(code, 0.0, code == 1, phi, phi, d1, d2)
    else:
        for j in range(n):
            phi[j], d1[j], d2[j] = _further(code, phi[j])
    if scale != 1.0 or gain != 1.0:
        for j in range(n):
            phi[j], d1[j], d2[j] = gain * phi[j], gain * scale * d1[j], gain * scale * scale * d2[j]


@njit(**PART)
def forward_rows(nets, act, net, w, r0, r1, cache, y):
    """Twin of `network.forward`: the first columns of X hold q; y (rows, 1) the energies."""
    form, X, phi, d1, d2 = nets.forms[net], cache.X, cache.phi, cache.d1, cache.d2
    L = form.shape[0]
    for n in range(L):
        n_in, n_out, xo, ao, ws, bs, ds, skip = form[n]
        dot_product(phi, ao, X, xo, w, ws, n_in, n_out, r0, r1)
        for r in range(r0, r1):
            add_row(phi[r], ao, w, bs, n_out)
            a = phi[r, ao : ao + n_out]
            _activate(
                act.code_l[n], act.scale_nl[net, n], act.gain_nl[net, n], a, d1[r, ao : ao + n_out],
                d2[r, ao : ao + n_out],
            )  # fmt: skip
            out, to = (y[r], 0) if n == L - 1 else (X[r], xo + n_in)
            for j in range(n_out):
                out[to + j] = a[j]
