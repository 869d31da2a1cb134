"""What a Deep Potential (se_e2_a) is made of, before it has weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kalmandp.errors import InputError
from kalmandp.potentials.activations import activation
from kalmandp.potentials.layout import Net, WeightLayout, net_form
from kalmandp.potentials.plain import plain_fields


@dataclass(frozen=True)
class Architecture:
    """The choices that fix the form of a Deep Potential. Defaults are DeePMD-kit's, and so are names; where
    its name differs it stands in parentheses.

    Attributes
    ----------
    type_map : names of the atom types
    rcut, rcut_smth : cut-off r_c and the radius r_s where the smooth switch begins, Å
    sel : largest number of neighbours of each type
    embedding : widths of the embedding net's layers (descriptor ``neuron``)
    axis_neuron : M‹, the number of columns of G that form the second factor of D
    fitting : widths of the fitting net's hidden layers (fitting_net ``neuron``)
    type_one_side : one embedding net per neighbour type (True) or per (centre, neighbour) pair
    embedding_resnet_dt, fitting_resnet_dt : a learnt time step before each skip connection
    embedding_activation, fitting_activation : φ, see ``activations.NAMES``
    exclude_types : pairs of types that do not see each other

    Examples
    --------
    >>> water = Architecture(("O", "H"), rcut=6.0, rcut_smth=0.5, sel=(46, 92))
    >>> water.n_neighbours, water.descriptor_size
    (138, 160)
    """

    kind: ClassVar[str] = "se_e2_a"

    type_map: tuple[str, ...]
    rcut: float = 6.0
    rcut_smth: float = 0.5
    sel: tuple[int, ...] = ()
    embedding: tuple[int, ...] = (10, 20, 40)
    axis_neuron: int = 4
    fitting: tuple[int, ...] = (120, 120, 120)
    type_one_side: bool = False
    embedding_resnet_dt: bool = False
    fitting_resnet_dt: bool = True
    embedding_activation: str = "tanh"
    fitting_activation: str = "tanh"
    exclude_types: tuple[tuple[int, int], ...] = ()

    def __post_init__(self):
        put = lambda name, value: object.__setattr__(self, name, value)
        put("type_map", tuple(str(t) for t in self.type_map))
        for name in ("rcut", "rcut_smth"):
            put(name, float(getattr(self, name)))
        for name in ("sel", "embedding", "fitting"):
            put(name, tuple(int(n) for n in getattr(self, name)))
        put("exclude_types", tuple((int(a), int(b)) for a, b in self.exclude_types))
        n = self.n_types
        checks = (
            (n > 0, "type_map", self.type_map, "at least one type"),
            (len(set(self.type_map)) == n, "type_map", self.type_map, "names that differ"),
            (self.rcut > 0, "rcut", self.rcut, "a positive length in Å"),
            (0 <= self.rcut_smth < self.rcut, "rcut_smth", self.rcut_smth, f"0 ≤ … < {self.rcut}"),
            (len(self.sel) == n, "sel", self.sel, f"{n} numbers, one per type of {self.type_map}"),
            (
                all(s >= 0 for s in self.sel) and sum(self.sel) > 0,
                "sel",
                self.sel,
                f'counts ≥ 0, not all 0 ("auto" is 0 where no atom has another within {self.rcut:g} Å)',
            ),
            (len(self.embedding) > 0, "embedding neuron", self.embedding, "at least one layer"),
            (all(m > 0 for m in self.embedding), "embedding neuron", self.embedding, "widths > 0"),
            (all(m > 0 for m in self.fitting), "fitting neuron", self.fitting, "widths > 0"),
            (
                1 <= self.axis_neuron <= self.embedding[-1] if self.embedding else False,
                "axis_neuron",
                self.axis_neuron,
                f"1 to {self.embedding[-1] if self.embedding else '?'}, the embedding's last width",
            ),
            (
                all(0 <= a < n and 0 <= b < n for a, b in self.exclude_types),
                "exclude_types",
                self.exclude_types,
                f"pairs of type numbers below {n}",
            ),
        )
        for good, what, got, wanted in checks:
            if not good:
                raise InputError(f"{what} is {got}; expected {wanted}")
        activation(self.embedding_activation)
        activation(self.fitting_activation)

    @property
    def n_types(self) -> int:
        """Number of atom types."""
        return len(self.type_map)

    @property
    def cutoff(self) -> float:
        """r_c, Å."""
        return self.rcut

    def layout(self) -> WeightLayout:
        """Order of w: embedding nets in the order of their index, then fitting nets by centre type."""
        embedding = net_form(
            (1, *self.embedding), self.embedding_activation, self.embedding_resnet_dt, last=False
        )
        fitting = net_form(
            (self.descriptor_size, *self.fitting), self.fitting_activation, self.fitting_resnet_dt, last=True
        )
        nets = [Net(f"embedding.{e}", embedding) for e in range(self.n_embeddings)]
        names = [f"fitting.{t}" for t in range(self.n_types)]
        return WeightLayout([*nets, *(Net(name, fitting) for name in names)], names)

    def statistics_shapes(self) -> dict[str, tuple[int, ...]]:
        """davg and dstd (n_types, 4), the normalisation of R, 1/Å."""
        return {"davg": (self.n_types, 4), "dstd": (self.n_types, 4)}

    def check_statistics(self, statistics: dict) -> None:
        """Raise `InputError` unless every spread dstd is positive.

        Parameters
        ----------
        statistics : davg and dstd by name
        """
        if not (statistics["dstd"] > 0).all():
            raise InputError(
                f"dstd has the value {statistics['dstd'].min():g}; expected positive numbers"
            )

    @property
    def n_neighbours(self) -> int:
        """Σ sel, the divisor of T."""
        return sum(self.sel)

    @property
    def descriptor_size(self) -> int:
        """M · M‹, the length of D_i."""
        return self.embedding[-1] * self.axis_neuron

    @property
    def n_embeddings(self) -> int:
        """Number of embedding nets: one per neighbour type, or per pair of types."""
        return self.n_types if self.type_one_side else self.n_types**2

    def embedding_index(self, centre, neighbour):
        """Which embedding net serves a pair of types: neighbour, or centre + n_types·neighbour.

        Parameters
        ----------
        centre, neighbour : numbers of types, or arrays of them
        """
        return neighbour if self.type_one_side else centre + self.n_types * neighbour

    def is_excluded(self, centre: int, neighbour: int) -> bool:
        """Whether a pair of types is among ``exclude_types``, in either order.

        Parameters
        ----------
        centre, neighbour : numbers of types
        """
        return (centre, neighbour) in self.exclude_types or (
            neighbour,
            centre,
        ) in self.exclude_types

    def to_dict(self) -> dict:
        """A dictionary of plain lists and numbers; ``Architecture(**d)`` restores it."""
        return plain_fields(self)
