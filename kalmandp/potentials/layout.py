"""The trainable weights: one flat vector w, and the named tensors that are views of it.

Order of w: embedding nets in the order of their index, then fitting nets by centre type; in each net
the layers from input to output; in each layer W, b, then idt where there is one. A matrix lies in w
as Wᵀ, row after row (column-major W): the order of RLEKF's published codes, which decides what
a block of P holds when a block boundary cuts a layer.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.network import Layer, skip_kind


class Tensor(NamedTuple):
    """One named piece of w. A matrix W has shape (n_in, n_out)."""

    name: str
    net: str
    layer: str
    kind: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """How many weights it has."""
        return int(np.prod(self.shape))

    @property
    def stop(self) -> int:
        """Where the next tensor begins."""
        return self.start + self.size


class LayerForm(NamedTuple):
    """Form of one layer y = φ(xW + b)[·idt] + skip."""

    n_in: int
    n_out: int
    activation: str
    skip: str
    has_idt: bool


def net_form(widths, activation: str, resnet_dt: bool, last: bool) -> tuple[LayerForm, ...]:
    """Layers of a net from its widths (input first); ``last`` adds the linear output layer."""
    layers = []
    for n_in, n_out in pairwise(widths):
        skip = skip_kind(n_in, n_out)
        layers.append(LayerForm(n_in, n_out, activation, skip, resnet_dt and skip != "none"))
    if last:
        layers.append(LayerForm(widths[-1], 1, "linear", "none", False))
    return tuple(layers)


class WeightLayout:
    """Where each tensor of a model lies in its flat vector of weights.

    Attributes
    ----------
    size : N, the number of weights
    tensors : tuple of `Tensor`, in the order of w
    """

    def __init__(self, architecture: Architecture):
        a = architecture
        embedding = net_form(
            (1, *a.embedding), a.embedding_activation, a.embedding_resnet_dt, last=False
        )
        fitting = net_form(
            (a.descriptor_size, *a.fitting), a.fitting_activation, a.fitting_resnet_dt, last=True
        )
        nets = [(f"embedding.{e}", embedding) for e in range(a.n_embeddings)]
        nets += [(f"fitting.{t}", fitting) for t in range(a.n_types)]
        self.n_embeddings = a.n_embeddings
        self.nets: dict[str, tuple[LayerForm, ...]] = dict(nets)
        tensors: list[Tensor] = []
        start = 0
        for net, forms in nets:
            for number, form in enumerate(forms):
                layer = f"{net}.layer.{number}"
                pieces = [("W", (form.n_in, form.n_out)), ("b", (form.n_out,))]
                pieces += [("idt", (form.n_out,))] if form.has_idt else []
                for kind, shape in pieces:
                    tensor = Tensor(f"{layer}.{kind}", net, layer, kind, shape, start)
                    tensors.append(tensor)
                    start = tensor.stop
        self.tensors = tuple(tensors)
        self.size = start
        self._by_name = {t.name: t for t in self.tensors}

    def __getitem__(self, name: str) -> Tensor:
        return self._by_name[name]

    def view(self, w, name: str):
        """The tensor ``name`` as a view of the flat vector ``w``; a matrix as (n_in, n_out)."""
        t = self._by_name[name]
        piece = w[t.start : t.stop]
        return piece.reshape(t.shape[::-1]).T if t.kind == "W" else piece

    def layers(self, w, net: str) -> list[Layer]:
        """The layers of a net, their tensors views of ``w``."""
        return [
            Layer(
                W=self.view(w, f"{net}.layer.{number}.W"),
                b=self.view(w, f"{net}.layer.{number}.b"),
                idt=self.view(w, f"{net}.layer.{number}.idt") if form.has_idt else None,
                skip=form.skip,
                activation=form.activation,
            )
            for number, form in enumerate(self.nets[net])
        ]

    def embedding(self, w, e: int) -> list[Layer]:
        """Layers of embedding net ``e``."""
        return self.layers(w, f"embedding.{e}")

    def fitting(self, w, t: int) -> list[Layer]:
        """Layers of the fitting net of centre type ``t``."""
        return self.layers(w, f"fitting.{t}")
