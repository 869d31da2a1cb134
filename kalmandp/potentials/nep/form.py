"""The choices that fix a NEP before it has weights, and where its weights lie."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kalmandp.errors import require
from kalmandp.potentials.layout import Array, LayerForm, Net, WeightLayout
from kalmandp.potentials.nep.invariants import BEYOND_THREE, Invariants
from kalmandp.potentials.nep.radii import atomic_number
from kalmandp.potentials.nep.zbl import ZBL
from kalmandp.potentials.plain import plain, plain_fields

#: Name of the bias that all atoms share in NEP3 and NEP4.
BIAS = "bias"
#: Largest l of GPUMD's tables.
LARGEST_L = 8


@dataclass(frozen=True)
class NEPForm:
    """The form of a NEP; names and order are those of ``nep.in``.

    Attributes
    ----------
    type_map : names of the atom types
    version : 3 (one net for all types), 4 (one per type), 5 (one per type, each with a bias of its own)
    radial_cutoff, angular_cutoff : Å, one number or one per type; a pair has the mean of its types' numbers
    n_max : (n_R, n_A): radial functions n = 0 … n_max
    basis_size : (K_R, K_A): each a sum of Chebyshev functions k = 0 … basis_size
    l_max : (L, f222, f1111, f112, f123, f233, f134); what is left out is 0
    neuron : width of the one hidden layer
    zbl : `ZBL`, a dictionary of its settings, or None

    Examples
    --------
    >>> form = NEPForm(("Te", "Pb"), radial_cutoff=8.0, angular_cutoff=4.0)
    >>> form.size, form.layout().size
    (42, 3033)
    """

    type_map: tuple[str, ...]
    version: int = 4
    radial_cutoff: Any = 8.0
    angular_cutoff: Any = 4.0
    n_max: tuple[int, int] = (6, 6)
    basis_size: tuple[int, int] = (6, 6)
    l_max: tuple[int, ...] = (4, 1)
    neuron: int = 30
    zbl: ZBL | None = None

    kind = "nep"

    def __post_init__(self):
        put = lambda name, value: object.__setattr__(self, name, value)
        put("type_map", tuple(str(t) for t in self.type_map))
        T = self.n_types
        require(T > 0 and len(set(self.type_map)) == T, "type_map", self.type_map, "names that differ")
        require(self.version in (3, 4, 5), "version", self.version, "3, 4 or 5")
        put("version", int(self.version))
        for name in ("radial_cutoff", "angular_cutoff"):
            put(name, _cutoffs(name, getattr(self, name), T))
        for name, wanted in (("n_max", 2), ("basis_size", 2), ("l_max", 7)):
            put(name, _whole(name, getattr(self, name), wanted, padded=name == "l_max"))
        put("neuron", _whole("neuron", (self.neuron,), 1)[0])
        require(self.neuron > 0, "neuron", self.neuron, "at least 1")
        for name, radial, angular in zip(self.type_map, self.radial_cutoff, self.angular_cutoff, strict=True):
            what = f"the angular cutoff of {name}"
            require(angular <= radial, what, angular, f"at most the radial one, {radial:g} Å")
        L = self.l_max[0]
        require(1 <= L <= LARGEST_L, "l_max", L, f"1 to {LARGEST_L}")
        put("l_max", (L, *(int(flag != 0) for flag in self.l_max[1:])))
        for name, flag in zip(BEYOND_THREE, self.l_max[1:], strict=True):
            require(not flag or int(name[-1]) <= L, f"l_max with q_{name}", L, f"at least {name[-1]}")
        if isinstance(self.zbl, dict):
            put("zbl", ZBL(**self.zbl))
        if self.zbl is not None:
            for name in self.type_map:
                atomic_number(name)
            if self.zbl.pairs is not None:
                got, wanted = len(self.zbl.pairs), T * (T + 1) // 2
                require(
                    got == wanted, "the number of pairs of the flexible ZBL", got, f"{wanted} for {T} types"
                )

    @property
    def n_types(self) -> int:
        """Number of atom types."""
        return len(self.type_map)

    @property
    def cutoff(self) -> float:
        """The largest distance at which a neighbour counts, Å."""
        return max(self.radial_cutoff)

    @cached_property
    def invariants(self) -> Invariants:
        """Q(s) of the angular part."""
        return Invariants(self.l_max)

    @property
    def size(self) -> int:
        """dim: how long q is."""
        return self.n_max[0] + 1 + (self.n_max[1] + 1) * self.invariants.size

    @property
    def basis(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(n_R + 1, K_R + 1) and (n_A + 1, K_A + 1)."""
        return (self.n_max[0] + 1, self.basis_size[0] + 1), (self.n_max[1] + 1, self.basis_size[1] + 1)

    def layout(self) -> WeightLayout:
        """Where each weight lies in w: for each centre type c_radial, c_angular (n, k, t) and its net.

        NEP3 has one net, after the arrays of all types. The bias that all types share stands last.
        """
        hidden = LayerForm(self.size, self.neuron, "tanh", "none", False)
        last = LayerForm(self.neuron, 1, "linear", "none", False, bias="own" if self.version == 5 else BIAS)
        radial, angular = self.basis
        pieces: list[Array | Net] = []
        for t in range(self.n_types):
            # two centre types meet in sums of energies and forces alone
            group = f"centre.{t}"
            pieces.append(Array(f"c_radial.{t}", (*radial, self.n_types), f"c.{t}", group))
            pieces.append(Array(f"c_angular.{t}", (*angular, self.n_types), f"c.{t}", group))
            if self.version > 3:
                pieces.append(Net(f"fitting.{t}", (hidden, last), group))
        if self.version == 3:
            pieces.append(Net("fitting.0", (hidden, last)))
        if self.version < 5:
            pieces.append(Array(BIAS, (1,), BIAS))
        fitting = [f"fitting.{0 if self.version == 3 else t}" for t in range(self.n_types)]
        return WeightLayout(pieces, fitting)

    def statistics_shapes(self) -> dict[str, tuple[int, ...]]:
        """q_scaler multiplies q before the net sees it."""
        return {"q_scaler": (self.size,)}

    def check_statistics(self, statistics: dict) -> None:
        """A scale is a positive number."""
        least = float(statistics["q_scaler"].min())
        require(least > 0, "q_scaler has the value", f"{least:g}", "positive numbers")

    def to_dict(self) -> dict:
        """A dictionary of plain lists and numbers; ``NEPForm(**d)`` restores it."""
        zbl = None if self.zbl is None else {k: plain(v) for k, v in asdict(self.zbl).items()}
        return {**plain_fields(self), "zbl": zbl}


def _cutoffs(name: str, value, n_types: int) -> tuple[float, ...]:
    """A cut-off per type from one number or several."""
    numbers = _numbers(value)
    if len(numbers) == 1:
        numbers *= n_types
    good = len(numbers) == n_types and all(0 < x < np.inf for x in numbers)
    require(good, name, value, f"one positive length in Å, or {n_types}, one per type")
    return numbers


def _whole(name: str, value, count: int, padded: bool = False) -> tuple[int, ...]:
    """Whole numbers ≥ 0; ``padded`` fills up with zeros."""
    numbers = _numbers(value)
    if padded:
        numbers += (0.0,) * (count - len(numbers))
    good = len(numbers) == count and all(x >= 0 and x.is_integer() for x in numbers)
    require(good, name, value, f"{count} whole numbers ≥ 0")
    return tuple(int(x) for x in numbers)


def _numbers(value) -> tuple[float, ...]:
    """One number, or several, as a tuple; empty if they are none."""
    try:
        return tuple(float(x) for x in np.atleast_1d(np.asarray(value, dtype=float)))
    except (TypeError, ValueError):
        return ()
