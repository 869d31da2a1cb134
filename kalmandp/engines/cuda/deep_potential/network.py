"""CUDA twin of `potentials.network`: all nets of one form go through a layer in one launch.

The embedding nets of a model have one form, and so have its fitting nets; in the flat weights they lie one
after another. A kernel takes rows of several nets, told apart by pieces, and computes together with a product
what stands beside it: φ and its derivatives, idt, skip, ā from ȳ. A layer is one launch forward, one along a
tangent, and one or two backward, whatever the number of nets. cuBLAS would need ten and more small calls for
the same; and since CuPy does not let cuBLAS be recorded, they could never become a CUDA graph.

Gradients are written, not added: nothing has to be zero before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cuda.launch import THREADS, Device, blocks_for
from kalmandp.potentials.activations import with_threshold
from kalmandp.potentials.layout import LayerForm, WeightLayout
from kalmandp.potentials.network import LayerCache

#: Numbers of activations and skips in network.cu.
CODES = {
    "tanh": 0, "linear": 1, "none": 1, "relu": 2, "relu6": 3, "softplus": 4, "sigmoid": 5, "gelu": 6,
    "gelu_tf": 6, "silu": 7, "silut": 8, "custom_silu": 8,
}  # fmt: skip
SKIPS = {"none": 0, "same": 1, "double": 2}
#: Rows and columns of a product's tile, as in network.cu; rows of a piece whose gradients are summed.
SIDE, CHUNK = 32, 128


class Rows(NamedTuple):
    """Which net each row belongs to; tables of the device.

    tiles : pieces of at most SIDE rows, (net, first, one past the last)
    chunks : pieces of at most CHUNK rows, sorted by net, at least one of each
    first_chunk : (nets + 1,) of each net;  total : number of rows
    """

    tiles: Any
    chunks: Any
    first_chunk: Any
    total: int

    @property
    def one_chunk_each(self) -> bool:
        """Whether a gradient needs no sum over chunks."""
        return len(self.chunks) == len(self.first_chunk) - 1


def rows_of(device: Device, n_nets: int, pieces) -> Rows:
    """Tables for pieces ``(net, first row, one past the last)`` in any order."""
    pieces = sorted((int(net), int(first), int(end)) for net, first, end in pieces if end > first)

    def cut(size: int) -> list[tuple[int, int, int]]:
        return [(net, r, min(r + size, end)) for net, first, end in pieces for r in range(first, end, size)]

    chunks = cut(CHUNK)
    chunks = sorted(chunks + [(net, 0, 0) for net in set(range(n_nets)) - {net for net, _, _ in chunks}])
    first_chunk = np.searchsorted([net for net, _, _ in chunks], np.arange(n_nets + 1))
    put = lambda table: device.xp.asarray(np.array(table, dtype=np.int32).reshape(-1, 3))
    total = max((end for _, _, end in pieces), default=0)
    return Rows(put(cut(SIDE)), put(chunks), device.xp.asarray(first_chunk.astype(np.int32)), total)


class Nets:
    """The passes of `potentials.network` on a device, for nets of one form.

    Parameters
    ----------
    device : where the arrays are
    layout : of the weights
    names : of the nets, one after another in the weights
    """

    def __init__(self, device: Device, layout: WeightLayout, names: list[str]):
        self.xp, self._f = device.xp, device.functions("network.cu")
        self.forms: tuple[LayerForm, ...] = layout.nets[names[0]]
        self.n_nets = len(names)
        self._starts = [layout[f"{names[0]}.layer.{n}.W"].start for n in range(len(self.forms))]
        # from one net to the next
        sizes = [t.size for t in layout.tensors if t.net == names[0]]
        self._stride = sum(sizes)

    def forward(self, w: Any, rows: Rows, x: Any) -> tuple[Any, list[LayerCache]]:
        """y = net(x) for rows of x (b, n_in); returns y (b, n_out) and the cache of each layer."""
        caches = []
        for n, form in enumerate(self.forms):
            phi, d1, d2, y = (self.xp.empty((rows.total, form.n_out)) for _ in range(4))
            self._f.layer_forward(
                self._grid(rows, form.n_out), THREADS, *self._layer(w, n), *_activation(form.activation),
                rows.tiles, x, phi, d1, d2, y,
            )  # fmt: skip
            caches.append(LayerCache(x, phi, d1, d2))
            x = y
        return x, caches

    def tangent(
        self, w: Any, rows: Rows, caches: list[LayerCache], x_dot: Any
    ) -> tuple[Any, list[LayerCache]]:
        """ẏ = ∂y/∂x · ẋ at the point of ``forward``; returns ẏ (b, n_out) and caches with tangents."""
        filled = []
        for n, (form, cache) in enumerate(zip(self.forms, caches, strict=True)):
            a_dot, y_dot = (self.xp.empty((rows.total, form.n_out)) for _ in range(2))
            self._f.layer_tangent(
                self._grid(rows, form.n_out), THREADS, *self._layer(w, n), rows.tiles, x_dot, cache.d1, a_dot,
                y_dot,
            )  # fmt: skip
            filled.append(cache._replace(x_dot=x_dot, a_dot=a_dot))
            x_dot = y_dot
        return x_dot, filled

    def backward(
        self, w: Any, rows: Rows, caches: list[LayerCache], y_bar: Any, y_dot_bar: Any = None,
        gradient: Any = None, wants_input: bool = True,
    ) -> tuple[Any, Any]:  # fmt: skip
        """Adjoint of ``forward`` and, with ẏ̄ and caches that ``tangent`` has filled, of both together.

        Parameters
        ----------
        y_bar, y_dot_bar : ∂L/∂y and ∂L/∂ẏ, (b, n_out); None for the latter where nothing moves
        gradient : (N,) like the weights, those of these nets are written; None if they are not wanted
        wants_input : False leaves x̄ of the first layer out

        Returns
        -------
        x̄ and ẋ̄ (b, n_in), None where they were not asked for
        """
        moves = y_dot_bar is not None
        for n in reversed(range(len(self.forms))):
            form, cache = self.forms[n], caches[n]
            # without tangents, arrays that are not read
            bars = (y_bar, y_dot_bar if moves else y_bar, cache.phi, cache.d1, cache.d2)
            bars += (cache.a_dot if moves else cache.phi, moves)
            if gradient is not None:
                self._gradient(w, rows, n, cache, bars, gradient)
            if n == 0 and not wants_input:
                return None, None
            x_bar = self.xp.empty((rows.total, form.n_in))
            x_dot_bar = self.xp.empty((rows.total, form.n_in)) if moves else x_bar
            tiles, columns = self._grid(rows, form.n_in)
            self._f.layer_backward(
                (tiles, columns * (1 + moves)),
                THREADS,
                *self._layer(w, n),
                rows.tiles,
                *bars,
                x_bar,
                x_dot_bar,
            )
            y_bar, y_dot_bar = x_bar, x_dot_bar if moves else None
        return y_bar, y_dot_bar

    def _gradient(self, w, rows: Rows, n: int, cache: LayerCache, bars: tuple, gradient) -> None:
        """W̄, b̄ and idt̄ of layer n, at their place in the gradient."""
        form, at = self.forms[n], self._starts[n]
        size = form.n_out * (form.n_in + 1 + form.has_idt)
        parts = gradient if rows.one_chunk_each else self.xp.empty((len(rows.chunks), size))
        x_dot = cache.x if cache.x_dot is None else cache.x_dot
        *layer, _ = self._layer(w, n)
        self._f.layer_gradient(
            (len(rows.chunks), blocks_for(form.n_out, SIDE) * blocks_for(form.n_in + 1, SIDE)), THREADS,
            *layer, rows.chunks, cache.x, x_dot, *bars, 0 if rows.one_chunk_each else size, parts,
        )  # fmt: skip
        if not rows.one_chunk_each:
            self._f.layer_sums(
                (blocks_for(size), self.n_nets),
                THREADS,
                parts,
                size,
                rows.first_chunk,
                at,
                self._stride,
                gradient,
            )

    def _grid(self, rows: Rows, n: int) -> tuple[int, int]:
        return len(rows.tiles), blocks_for(n, SIDE)

    def _layer(self, w: Any, n: int) -> tuple:
        """The arguments that describe layer n to every kernel."""
        form = self.forms[n]
        return w, self._starts[n], self._stride, form.n_in, form.n_out, form.has_idt, SKIPS[form.skip]


def _activation(name: str) -> tuple[int, float]:
    """Code and threshold of an activation's name (already validated by the reference)."""
    kind, threshold = with_threshold(name)
    return CODES[kind], threshold
