"""CUDA twin of `potential.network`: matrix products by cuBLAS, one fused kernel between them.

Layers are `potential.network.Layer`s whose tensors are views of the flat weights; gradients go into the
same views of a flat gradient. Each tensor of a net is written once: nothing has to be zero before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kalmandp.engines.cuda_launch import THREADS, WARP, Device, blocks_for
from kalmandp.potential.activations import SILUT_THRESHOLD
from kalmandp.potential.network import Layer

#: Numbers of activations and skips in network.cu.
CODES = {
    "tanh": 0, "linear": 1, "none": 1, "relu": 2, "relu6": 3, "softplus": 4, "sigmoid": 5, "gelu": 6,
    "gelu_tf": 6, "silu": 7, "silut": 8, "custom_silu": 8,
}  # fmt: skip
SKIPS = {"none": 0, "same": 1, "double": 2}


class LayerCache(NamedTuple):
    """The input x and φ, φ′, φ″ at a = xW + b; tangents ẋ, ȧ where there are."""

    x: Any
    phi: Any
    d1: Any
    d2: Any
    x_dot: Any = None
    a_dot: Any = None


class Networks:
    """The passes of `potential.network` on a device."""

    def __init__(self, device: Device):
        self.xp = device.xp
        self._f = device.functions("network.cu")

    def forward(self, layers: list[Layer], x: Any) -> tuple[Any, list[LayerCache]]:
        """y = net(x) for rows of x (b, n_in); returns y (b, n_out) and the cache of each layer."""
        caches = []
        for layer in layers:
            code, threshold = _activation(layer.activation)
            phi = self.xp.ascontiguousarray(x @ layer.W)
            d1, d2, y = (self.xp.empty_like(phi) for _ in range(3))
            rows, n_in, n_out = *x.shape, phi.shape[1]
            self._f.layer_forward(
                blocks_for(phi.size), THREADS, phi, d1, d2, y, x, layer.b, *_idt(layer), SKIPS[layer.skip],
                rows, n_in, n_out, code, threshold,
            )  # fmt: skip
            caches.append(LayerCache(x, phi, d1, d2))
            x = y
        return x, caches

    def tangent(
        self, layers: list[Layer], caches: list[LayerCache], x_dot: Any
    ) -> tuple[Any, list[LayerCache]]:
        """ẏ = ∂y/∂x · ẋ at the point of ``forward``; returns ẏ (b, n_out) and caches with tangents."""
        filled = []
        for layer, cache in zip(layers, caches, strict=True):
            a_dot = self.xp.ascontiguousarray(x_dot @ layer.W)
            y_dot = self.xp.empty_like(a_dot)
            self._f.layer_tangent(
                blocks_for(a_dot.size), THREADS, a_dot, cache.d1, y_dot, x_dot, *_idt(layer),
                SKIPS[layer.skip], *x_dot.shape, a_dot.shape[1],
            )  # fmt: skip
            filled.append(cache._replace(x_dot=x_dot, a_dot=a_dot))
            x_dot = y_dot
        return x_dot, filled

    def backward(self, layers: list[Layer], caches: list[LayerCache], y_bar: Any, gradient=None) -> Any:
        """Adjoint of ``forward``: x̄ (b, n_in); ``gradient``, a list of `Layer`, gets those of the weights."""
        for n in reversed(range(len(layers))):
            layer, cache = layers[n], caches[n]
            a_bar, idt_bar = self._adjoints(layer, cache)
            self._f.layer_backward(
                blocks_for(a_bar.size), THREADS, y_bar, cache.phi, cache.d1, *_idt(layer), *a_bar.shape,
                a_bar, idt_bar,
            )  # fmt: skip
            if gradient is not None:
                # W̄ = xᵀ ā, in w as W̄ᵀ
                gradient[n].W.T[...] = a_bar.T @ cache.x
                self._sums(layer, gradient[n], a_bar, idt_bar)
            y_bar = self._input_adjoint(layer, a_bar, y_bar)
        return y_bar

    def tangent_backward(
        self, layers: list[Layer], caches: list[LayerCache], y_bar: Any, y_dot_bar: Any, gradient
    ) -> tuple[Any, Any]:
        """Adjoint of ``forward`` and ``tangent`` together: x̄, ẋ̄ (b, n_in), and ``gradient`` written."""
        for n in reversed(range(len(layers))):
            layer, cache = layers[n], caches[n]
            a_bar, idt_bar = self._adjoints(layer, cache)
            a_dot_bar = self.xp.empty_like(a_bar)
            self._f.layer_tangent_backward(
                blocks_for(a_bar.size), THREADS, y_bar, y_dot_bar, cache.phi, cache.d1, cache.d2, cache.a_dot,
                *_idt(layer), *a_bar.shape, a_bar, a_dot_bar, idt_bar,
            )  # fmt: skip
            # a = xW + b and ȧ = ẋW share W:  W̄ = xᵀ ā + ẋᵀ ǡ
            gradient[n].W.T[...] = a_bar.T @ cache.x + a_dot_bar.T @ cache.x_dot
            self._sums(layer, gradient[n], a_bar, idt_bar)
            y_bar = self._input_adjoint(layer, a_bar, y_bar)
            y_dot_bar = self._input_adjoint(layer, a_dot_bar, y_dot_bar)
        return y_bar, y_dot_bar

    def _adjoints(self, layer: Layer, cache: LayerCache) -> tuple[Any, Any]:
        """Room for ā, and for the terms of idt̄ where there is an idt."""
        a_bar = self.xp.empty_like(cache.phi)
        return a_bar, a_bar if layer.idt is None else self.xp.empty_like(a_bar)

    def _sums(self, layer: Layer, gradient: Layer, a_bar: Any, idt_bar: Any) -> None:
        """b̄ = Σ ā and idt̄, over the rows."""
        rows, n_out = a_bar.shape
        threads = min(THREADS, WARP * blocks_for(max(rows, 1), WARP))
        self._f.sum_parts(n_out, threads, a_bar, rows, n_out, gradient.b)
        if layer.idt is not None:
            self._f.sum_parts(n_out, threads, idt_bar, rows, n_out, gradient.idt)

    def _input_adjoint(self, layer: Layer, a_bar: Any, y_bar: Any) -> Any:
        # x̄ = ā Wᵀ + skipᵀ(ȳ)
        x_bar = self.xp.ascontiguousarray(a_bar @ layer.W.T)
        if layer.skip != "none":
            self._f.add_skip(
                blocks_for(x_bar.size), THREADS, x_bar, y_bar, SKIPS[layer.skip], *x_bar.shape, a_bar.shape[1]
            )
        return x_bar


def _activation(name: str) -> tuple[int, float]:
    """Code and threshold of an activation's name (already validated by the reference)."""
    kind, _, threshold = name.lower().partition(":")
    return CODES[kind], float(threshold) if threshold else SILUT_THRESHOLD


def _idt(layer: Layer) -> tuple[Any, int]:
    """The array idt, or b in its place, and whether there is one."""
    return (layer.b, 0) if layer.idt is None else (layer.idt, 1)
