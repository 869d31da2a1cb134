"""The trainable weights: one flat vector w, and the named tensors that are views of it.

A layout is a list of pieces in the order of w: arrays of a descriptor, and nets. In a net the layers lie from
input to output, in each layer W, b, then idt where there is one. A matrix lies in w as Wᵀ, row after row
(column-major W): the order of RLEKF's published codes, which decides what a block of P holds when a block
boundary cuts a layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from kalmandp.potentials.network import Layer, skip_kind


class Tensor(NamedTuple):
    """One named piece of w. A matrix W has shape (n_in, n_out)."""

    name: str
    net: str
    layer: str
    kind: str
    shape: tuple[int, ...]
    start: int
    group: str = ""

    @property
    def size(self) -> int:
        """How many weights it has."""
        return int(np.prod(self.shape))

    @property
    def stop(self) -> int:
        """Where the next tensor begins."""
        return self.start + self.size


class LayerForm(NamedTuple):
    """Form of one layer y = gain·φ((xW + b)·scale)[·idt] + skip.

    bias : "own", "none", or the name of an array of the layout that several nets share as their b
    scale : 1, or what a pre-activation is multiplied by (1/n_in for "node normalisation")
    gain : 1, or what φ is multiplied by (eV per unit of a net's energy)
    """

    n_in: int
    n_out: int
    activation: str
    skip: str
    has_idt: bool
    bias: str = "own"
    scale: float = 1.0
    gain: float = 1.0


def net_form(widths, activation: str, resnet_dt: bool, last: bool) -> tuple[LayerForm, ...]:
    """Layers of DeePMD-kit's nets from their widths (input first); ``last`` adds the linear output layer."""
    layers = []
    for n_in, n_out in pairwise(widths):
        skip = skip_kind(n_in, n_out)
        layers.append(LayerForm(n_in, n_out, activation, skip, resnet_dt and skip != "none"))
    if last:
        layers.append(LayerForm(widths[-1], 1, "linear", "none", False))
    return tuple(layers)


class Net(NamedTuple):
    """A net of the layout: its name and its layers.

    group : pieces with the same name here are strongly correlated, as those of one centre type are; a block
        of P holds all of a group, where it may be so large (`kalman.blocks`)
    """

    name: str
    forms: tuple[LayerForm, ...]
    group: str = ""


class Array(NamedTuple):
    """An array of weights that belongs to no net: its name, its shape, the layer it counts to, its group."""

    name: str
    shape: tuple[int, ...]
    layer: str
    group: str = ""


class WeightLayout:
    """Where each tensor of a model lies in its flat vector of weights.

    Parameters
    ----------
    pieces : `Net` and `Array`, in the order of w
    fitting : for each type the name of the net that makes E_i of q_i

    Attributes
    ----------
    size : N, the number of weights
    tensors : tuple of `Tensor`, in the order of w
    nets : name -> layers
    """

    def __init__(self, pieces: Iterable[Net | Array], fitting: Sequence[str]):
        self.nets: dict[str, tuple[LayerForm, ...]] = {}
        self.fitting_nets = tuple(fitting)
        tensors: list[Tensor] = []

        group = ""

        def add(name: str, net: str, layer: str, kind: str, shape) -> None:
            start = tensors[-1].stop if tensors else 0
            tensors.append(Tensor(name, net, layer, kind, tuple(shape), start, group))

        for piece in pieces:
            group = piece.group
            if isinstance(piece, Array):
                add(piece.name, "", piece.layer, "array", piece.shape)
                continue
            net, forms = piece.name, piece.forms
            self.nets[net] = forms
            for number, form in enumerate(forms):
                layer = f"{net}.layer.{number}"
                add(f"{layer}.W", net, layer, "W", (form.n_in, form.n_out))
                if form.bias == "own":
                    add(f"{layer}.b", net, layer, "b", (form.n_out,))
                if form.has_idt:
                    add(f"{layer}.idt", net, layer, "idt", (form.n_out,))
        self.tensors = tuple(tensors)
        self.size = tensors[-1].stop if tensors else 0
        self._by_name = {t.name: t for t in self.tensors}

    def __getitem__(self, name: str) -> Tensor:
        return self._by_name[name]

    def view(self, w, name: str):
        """The tensor ``name`` as a view of the flat vector ``w``; a matrix as (n_in, n_out)."""
        t = self._by_name[name]
        piece = w[t.start : t.stop]
        if t.kind == "W":
            return piece.reshape(t.shape[::-1]).T
        return piece.reshape(t.shape) if t.kind == "array" else piece

    def layers(self, w, net: str) -> list[Layer]:
        """The layers of a net, their tensors views of ``w``."""
        return [self._layer(w, f"{net}.layer.{n}", form) for n, form in enumerate(self.nets[net])]

    def _layer(self, w, layer: str, form: LayerForm) -> Layer:
        bias = {"own": f"{layer}.b", "none": None}.get(form.bias, form.bias)
        return Layer(
            W=self.view(w, f"{layer}.W"),
            b=None if bias is None else self.view(w, bias),
            idt=self.view(w, f"{layer}.idt") if form.has_idt else None,
            skip=form.skip,
            activation=form.activation,
            scale=form.scale,
            gain=form.gain,
        )

    def shift_energies(self, w, delta: float) -> None:
        """Add ``delta`` (eV) to every E_i through the last biases, each once, though types may share one."""
        seen = set()
        for net in self.fitting_nets:
            form, last = self.nets[net][-1], len(self.nets[net]) - 1
            name = f"{net}.layer.{last}.b" if form.bias == "own" else form.bias
            if name != "none" and name not in seen:
                self.view(w, name)[...] += delta / form.gain
                seen.add(name)

    def prior(self, p0: float):
        """P₀ of the weights: p0, or an array (N,) where a net's unit of energy is not eV.

        A last layer whose output is multiplied by ``gain`` has weights in units of 1/gain eV, and the
        variance p0/gain² then.
        """
        gains = {
            f"{net}.layer.{n}": form.gain for net, forms in self.nets.items() for n, form in enumerate(forms)
        }
        if all(gain == 1.0 for gain in gains.values()):
            return p0
        P0_w = np.full(self.size, p0)
        for t in self.tensors:
            P0_w[t.start : t.stop] /= gains.get(t.layer, 1.0) ** 2
        return P0_w

    def fitting(self, w, t: int) -> list[Layer]:
        """Layers of the net of centre type ``t``."""
        return self.layers(w, self.fitting_nets[t])
