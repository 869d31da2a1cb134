"""What an HDNNP (Behler–Parrinello networks) is made of, before it has weights."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

from kalmandp.errors import require
from kalmandp.frames.elements import NUMBER
from kalmandp.potentials.activations import activation
from kalmandp.potentials.hdnnp.cutoffs import Cutoff, checked_cutoff
from kalmandp.potentials.hdnnp.symmetry_functions import (
    SymmetryFunction,
    checked_function,
    sort_key,
)
from kalmandp.potentials.layout import LayerForm, Net, WeightLayout
from kalmandp.potentials.plain import plain_fields

#: How a symmetry function becomes an input of the net, see `environment.scaling_numbers`.
SCALINGS = ("none", "center", "scale", "scale+center", "sigma")
#: What is taken from the data for each function, in the order of scaling.data.
STATISTICS = ("min", "max", "mean", "sigma")


@dataclass(frozen=True)
class HDNNPForm:
    """The choices that fix an HDNNP; types stand in the order of the atomic number, as in n2p2's files.

    The nets work in units of their own. With one unit of length of the symmetry functions ``length_unit`` Å,
    one unit of energy of the files ``energy_unit`` eV, and n2p2's normalisation::

        r = r_Å/length_unit,    E_eV = energy_unit (Σ_i net(q_i)/conv_energy + n mean_energy + Σ atom_energy)

    The energies of atoms and ``mean_energy`` are the model's bias_t (`units.bias_of`). conv_length changes no
    number of the model: it is part of the unit in which n2p2's filter sees a force.

    Attributes
    ----------
    type_map : names of the elements, by atomic number
    functions : for each element its `SymmetryFunction` rows, sorted by `symmetry_functions.sort_key`
    hidden : widths of the hidden layers
    activations : of the hidden layers and of the output, `activations.NAMES` and ``N2P2_NAMES``
    cutoff_kind, cutoff_alpha : n2p2's cutoff_type
    scaling, scale_min, scale_max : of `SCALINGS`, S_min, S_max
    normalize_nodes : pre-activations are divided by the number of inputs
    length_unit, energy_unit : Å and eV
    mean_energy, conv_energy, conv_length : n2p2's normalisation, in the units of the files; 0, 1, 1 without
    """

    type_map: tuple[str, ...]
    functions: tuple[tuple[SymmetryFunction, ...], ...]
    hidden: tuple[int, ...] = (15, 15)
    activations: tuple[str, ...] = ("tanh", "tanh", "linear")
    cutoff_kind: int = 2
    cutoff_alpha: float = 0.0
    scaling: str = "scale+center"
    scale_min: float = 0.0
    scale_max: float = 1.0
    normalize_nodes: bool = False
    length_unit: float = 1.0
    energy_unit: float = 1.0
    mean_energy: float = 0.0
    conv_energy: float = 1.0
    conv_length: float = 1.0

    kind = "hdnnp"

    def __post_init__(self):
        put = lambda name, value: object.__setattr__(self, name, value)
        put("type_map", tuple(str(t) for t in self.type_map))
        require(len(self.type_map) > 0, "type_map", self.type_map, "at least one element")
        unknown = [t for t in self.type_map if t not in NUMBER]
        require(not unknown, "type_map", f"with {unknown}", "names of elements")
        in_order = sorted(set(self.type_map), key=NUMBER.__getitem__)
        require(list(self.type_map) == in_order, "type_map", list(self.type_map), in_order)
        n, wanted = len(self.functions), f"{self.n_types}, one for each of {self.type_map}"
        require(n == self.n_types, "functions", f"{n} lists", wanted)
        put("functions", tuple(self._sorted(t) for t in range(n)))
        put("hidden", tuple(int(m) for m in self.hidden))
        put("activations", tuple(str(a).lower() for a in self.activations))
        put("normalize_nodes", bool(self.normalize_nodes))
        for f in fields(self):
            if f.type == "float":
                put(f.name, float(getattr(self, f.name)))
        checked_cutoff(self.cutoff_kind, self.cutoff_alpha)
        require(all(m > 0 for m in self.hidden), "hidden", self.hidden, "widths > 0")
        n = len(self.hidden) + 1
        require(len(self.activations) == n, "activations", self.activations, f"{n} names")
        for name in self.activations:
            activation(name)
        require(self.scaling in SCALINGS, "scaling", self.scaling, f"one of {', '.join(SCALINGS)}")
        wanted = f"more than scale_min, {self.scale_min}"
        require(self.scale_min < self.scale_max, "scale_max", self.scale_max, wanted)
        for name in ("length_unit", "energy_unit", "conv_energy", "conv_length"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a number > 0")

    def _sorted(self, t: int) -> tuple[SymmetryFunction, ...]:
        rows = [checked_function(f, self.type_map) for f in self.functions[t]]
        require(len(rows) > 0, f"functions of {self.type_map[t]}", "an empty list", "at least one function")
        rows.sort(key=lambda f: sort_key(f, self.type_map))
        return tuple(rows)

    @property
    def n_types(self) -> int:
        """Number of elements."""
        return len(self.type_map)

    @property
    def cutoff(self) -> float:
        """The largest r_c of all functions, Å."""
        return max(f.rc for rows in self.functions for f in rows) * self.length_unit

    @property
    def cutoff_function(self) -> Cutoff:
        """Type and α of f_c."""
        return checked_cutoff(self.cutoff_kind, self.cutoff_alpha)

    @property
    def size_t(self) -> tuple[int, ...]:
        """Number of functions of each element."""
        return tuple(len(rows) for rows in self.functions)

    def layout(self) -> WeightLayout:
        """One net for each element: its functions, the hidden layers, one energy."""
        nets = [Net(f"fitting.{t}", self._net(n), f"centre.{t}") for t, n in enumerate(self.size_t)]
        return WeightLayout(nets, [net.name for net in nets])

    def _net(self, n_in: int) -> tuple[LayerForm, ...]:
        widths = (n_in, *self.hidden, 1)
        layers = []
        for l, (m, k) in enumerate(pairwise(widths)):
            layers.append(
                LayerForm(
                    m, k, self.activations[l], "none", False,
                    scale=1.0 / m if self.normalize_nodes else 1.0,
                    gain=self.energy_unit / self.conv_energy if l == len(self.hidden) else 1.0,
                )
            )  # fmt: skip
        return tuple(layers)

    def statistics_shapes(self) -> dict[str, tuple[int, ...]]:
        """min, max, mean and sigma of each function, filled up with zeros to the longest element."""
        return {name: (self.n_types, max(self.size_t)) for name in STATISTICS}

    def check_statistics(self, statistics: dict) -> None:
        """min ≤ max, sigma ≥ 0."""
        width = statistics["max"] - statistics["min"]
        require(bool((width >= 0).all()), "max − min", width.min(), "numbers ≥ 0")
        sigma = statistics["sigma"]
        require(bool((sigma >= 0).all()), "sigma", sigma.min(), "numbers ≥ 0")

    def to_dict(self) -> dict:
        """Plain lists and numbers; ``HDNNPForm(**d)`` restores it."""
        return plain_fields(self)
