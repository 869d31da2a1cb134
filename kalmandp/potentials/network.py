"""A fully connected net: forward, tangent, and backward passes, each a few lines.

One layer, rows of x being independent inputs::

    y = φ(x W + b) · idt + skip(x)       skip = x, [x, x] or nothing

(With ``scale`` s ≠ 1 it is φ(s(xW + b)): every derivative with respect to xW + b has the factor s.)

Two words are needed to read what follows. Let x be moved: x(t) = x + tẋ, with a direction ẋ of one's choice.

tangent   ẏ = dy/dt, how fast y moves then. By the chain rule it is carried along from layer to layer,
          beside y: y = f(x) gives ẏ = f′(x)·ẋ. One pass, one direction, all outputs.
adjoint   ȳ = ∂L/∂y for one number L that all of the rest computes from y. By the chain rule it is carried
          back from layer to layer: y = f(x) gives x̄ = f′(x)ᵀ·ȳ. One pass, one number, all inputs; a weight
          is one more input. A quantity used twice gets the sum of both adjoints.

So there are three passes, and each line of one is the transpose of a line of another:

forward     y(x); what the others need again of it is kept, in a "cache"
tangent     ẏ = ∂y/∂x · ẋ                          along one direction ẋ
backward    from adjoints ȳ = ∂L/∂y and ẏ̄ = ∂L/∂ẏ to those of x, ẋ and the weights

The last one, run on a tangent, is the "directional second derivative": with L = ẏ it gives ∂ẏ/∂w,
the derivative with respect to the weights of a derivative with respect to the input. A force is such
an ẏ, so this is where ∂F/∂w comes from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kalmandp.arrays import namespace
from kalmandp.potentials.activations import activation


class Layer(NamedTuple):
    """W (n_in, n_out), b (n_out,) or None, idt (n_out,) or None; skip "none" | "same" | "double".

    ``scale`` multiplies the pre-activation; it is 1 but for nets with "node normalisation" (HDNNP).
    ``gain`` multiplies φ; it is 1 but in the last layer of nets whose energies are not in eV (HDNNP).
    """

    W: Any
    b: Any
    idt: Any
    skip: str
    activation: str
    scale: float = 1.0
    gain: float = 1.0


class LayerCache(NamedTuple):
    """What backward needs: the input x and φ, φ′, φ″ at a = xW + b; tangents ẋ, ȧ where there are."""

    x: Any
    phi: Any
    d1: Any
    d2: Any
    x_dot: Any = None
    a_dot: Any = None


def skip_kind(n_in: int, n_out: int) -> str:
    """DeePMD-kit's rule: identity if the widths agree, [x, x] if they double, else nothing."""
    return "same" if n_out == n_in else "double" if n_out == 2 * n_in else "none"


def _skip(layer: Layer, x):
    xp = namespace(x)
    return {"none": lambda: 0.0, "same": lambda: x, "double": lambda: xp.concatenate([x, x], -1)}[
        layer.skip
    ]()


def _skip_adjoint(layer: Layer, y_bar):
    if layer.skip == "double":
        n = y_bar.shape[-1] // 2
        return y_bar[..., :n] + y_bar[..., n:]
    return y_bar if layer.skip == "same" else 0.0


def forward(layers: list[Layer], x):
    """y = net(x) for rows of x (b, n_in); returns y (b, n_out) and the cache of each layer.

    Deep Potential, steps 2 and 4: the layers E_l and F_l, x + tanh(xW + b), composed. DeePMD-kit's skip
    connection doubles x where the width doubles, and may scale φ by a learnt idt.
    """
    caches = []
    for layer in layers:
        a = x @ layer.W if layer.b is None else x @ layer.W + layer.b
        phi, d1, d2 = activation(layer.activation)(a if layer.scale == 1.0 else layer.scale * a)
        if layer.scale != 1.0:  # φ′ and φ″ with respect to a = xW + b
            d1, d2 = layer.scale * d1, layer.scale**2 * d2
        if layer.gain != 1.0:
            phi, d1, d2 = layer.gain * phi, layer.gain * d1, layer.gain * d2
        caches.append(LayerCache(x, phi, d1, d2))
        # y = φ(xW + b) · idt + skip(x)
        x = (phi if layer.idt is None else phi * layer.idt) + _skip(layer, x)
    return x, caches


def tangent(layers: list[Layer], caches: list[LayerCache], x_dot):
    """ẏ = ∂y/∂x · ẋ at the point of ``forward``; returns ẏ (b, n_out) and caches with tangents.

    Not in the papers. One layer: a = xW + b moves as ȧ = ẋW (b does not depend on x), φ(a) as φ′(a) ȧ.
    """
    filled = []
    for layer, cache in zip(layers, caches, strict=True):
        # ȧ = ẋ W;   ẏ = φ′(a) ȧ · idt + skip(ẋ)
        a_dot = x_dot @ layer.W
        filled.append(cache._replace(x_dot=x_dot, a_dot=a_dot))
        y_dot = cache.d1 * a_dot
        x_dot = (y_dot if layer.idt is None else y_dot * layer.idt) + _skip(layer, x_dot)
    return x_dot, filled


def backward(layers: list[Layer], caches: list[LayerCache], y_bar, gradient=None):
    """Adjoint of ``forward``: from ȳ = ∂L/∂y (b, n_out) to x̄ = ∂L/∂x (b, n_in).

    ``gradient``, a list of `Layer` whose tensors are arrays like the weights', gets ∂L/∂W, ∂L/∂b,
    ∂L/∂idt added in place.
    """
    for n in reversed(range(len(layers))):
        layer, cache = layers[n], caches[n]
        # φ̄ = ȳ · idt;   ā = φ̄ φ′(a);   W̄ = xᵀ ā;   b̄ = Σ ā;   x̄ = ā Wᵀ + skipᵀ(ȳ)
        phi_bar = y_bar if layer.idt is None else y_bar * layer.idt
        a_bar = phi_bar * cache.d1
        if gradient is not None:
            _add(gradient[n].W, cache.x.T @ a_bar)
            if layer.b is not None:
                _add(gradient[n].b, a_bar.sum(0))
            if layer.idt is not None:
                _add(gradient[n].idt, (y_bar * cache.phi).sum(0))
        y_bar = a_bar @ layer.W.T + _skip_adjoint(layer, y_bar)
    return y_bar


def tangent_backward(layers: list[Layer], caches: list[LayerCache], y_bar, y_dot_bar, gradient):
    """Adjoint of ``forward`` and ``tangent`` together, for L(y, ẏ): the directional second derivative.

    Not in the papers. One layer takes (x, ẋ) to (y, ẏ) by::

        a = xW + b,    y = φ(a)·idt + skip(x)
        ȧ = ẋW,        ẏ = φ′(a)ȧ·idt + skip(ẋ)

    and L depends on W through a and through ȧ, on a through φ(a) and, that is the second derivative,
    through φ′(a). Line by line, from the end to the beginning::

        φ̄ = ȳ·idt                     φ̇̄ = ẏ̄·idt                of φ(a) and of φ′(a)ȧ
        ā = φ̄ φ′(a) + φ̇̄ φ″(a) ȧ       ǡ = φ̇̄ φ′(a)              (ǡ stands for the adjoint of ȧ)
        W̄ = xᵀā + ẋᵀǡ                 b̄ = Σ_rows ā
        x̄ = āWᵀ + skipᵀ(ȳ)            ẋ̄ = ǡWᵀ + skipᵀ(ẏ̄)
        idt̄ = Σ_rows [ȳ φ(a) + ẏ̄ φ′(a) ȧ]

    With ȳ = 0 and ẏ̄ = 1 this is ∂ẏ/∂w. Without tangents (ẋ = 0, ẏ̄ = 0) it is `backward`.

    Parameters
    ----------
    caches : those returned by ``tangent``
    y_bar, y_dot_bar : ∂L/∂y and ∂L/∂ẏ, (b, n_out)
    gradient : list of `Layer`, gets ∂L/∂W, ∂L/∂b, ∂L/∂idt added in place

    Returns
    -------
    x_bar, x_dot_bar : ∂L/∂x and ∂L/∂ẋ, (b, n_in)
    """
    for n in reversed(range(len(layers))):
        layer, cache = layers[n], caches[n]
        phi_bar = y_bar if layer.idt is None else y_bar * layer.idt
        phi_dot_bar = y_dot_bar if layer.idt is None else y_dot_bar * layer.idt
        # φ̇ = φ′(a) ȧ depends on a as well:  ā = φ̄ φ′ + φ̇̄ φ″ ȧ;   ǡ = φ̇̄ φ′
        a_bar = phi_bar * cache.d1 + phi_dot_bar * cache.d2 * cache.a_dot
        a_dot_bar = phi_dot_bar * cache.d1
        # a = xW + b and ȧ = ẋW share W:  W̄ = xᵀ ā + ẋᵀ ǡ
        _add(gradient[n].W, cache.x.T @ a_bar + cache.x_dot.T @ a_dot_bar)
        if layer.b is not None:
            _add(gradient[n].b, a_bar.sum(0))
        if layer.idt is not None:
            _add(
                gradient[n].idt,
                (y_bar * cache.phi + y_dot_bar * cache.d1 * cache.a_dot).sum(0),
            )
        y_bar, y_dot_bar = (
            a_bar @ layer.W.T + _skip_adjoint(layer, y_bar),
            a_dot_bar @ layer.W.T + _skip_adjoint(layer, y_dot_bar),
        )
    return y_bar, y_dot_bar


def _add(target, value) -> None:
    target += value
