"""What a descriptor is: the contract that every potential of this package meets.

All potentials have one form. A descriptor q_i sums up what atom i sees, and a net of its type makes an energy
of it::

    E_i = net_t(q_i) + b_t,        E = Σ_i E_i

Everything above q (energies, forces, and their derivatives with respect to the weights) is written once, in
`potentials.atomic`. A potential is therefore a *form* (the choices that are made before there are weights)
and a *descriptor* (the five passes between pair vectors and q). Dots are tangents along a motion v_p of the
pair vectors, bars are adjoints; both are explained in `potentials.network`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol

from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import Pairs
from kalmandp.geometry.pairs import Geometry
from kalmandp.potentials.layout import WeightLayout


class Form(Protocol):
    """The choices that fix a model's form, before it has weights: a frozen dataclass.

    kind : name of the potential in the registry
    type_map : names of the atom types;  n_types : how many
    cutoff : largest distance at which a neighbour counts, Å
    """

    kind: str

    @property
    def type_map(self) -> tuple[str, ...]: ...
    @property
    def n_types(self) -> int: ...
    @property
    def cutoff(self) -> float: ...
    def layout(self) -> WeightLayout:
        """Where each weight lies in the flat vector w."""
        ...

    def statistics_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the numbers that are taken from data once and never trained."""
        ...

    def check_statistics(self, statistics: dict) -> None:
        """Raise `InputError` for numbers that cannot be used."""
        ...

    def to_dict(self) -> dict:
        """Plain lists and numbers; ``type(form)(**d)`` restores it."""
        ...


class Parameters(NamedTuple):
    """All that a prediction needs besides the environment.

    descriptor : `Descriptor`;  layout : `WeightLayout`
    weights : (N,) w;  bias_t : (n_types,) energy added to each atom of a type, eV; not trained
    """

    descriptor: Any
    layout: WeightLayout
    weights: Any
    bias_t: Any


class New(NamedTuple):
    """A potential that has been made from data: its form, first weights, statistics by name, and notes.

    bias_t : energies of the types (eV) where the kind decides them itself, None for those stated or fitted
    """

    form: Any
    weights: Any
    statistics: dict
    info: dict
    bias_t: Any = None


class Remark(NamedTuple):
    """What a kind of potential has to say about data, e.g. that atoms have more neighbours than it takes.

    severity : "error", "warning" or "note";  check : a word for it;  seen : what, with the number
    advice : what to do;  frames : places of the frames concerned, in the order they were given
    """

    severity: str
    check: str
    seen: str
    advice: str
    frames: Any = ()


class Environment(Protocol):
    """What a frame is to a potential; it does not depend on the weights and is computed once."""

    @property
    def geometry(self) -> Geometry: ...
    @property
    def atoms_t(self) -> tuple:
        """For each type the numbers of its atoms."""
        ...


class Descriptor(ABC):
    """From pair vectors to q and back; the base of every descriptor.

    Rows of q_id belong to atoms; where types have descriptors of different lengths, ``size_t``, a row is
    filled up with zeros. The weights are ``par.weights``, the flat vector of all of them (complex for the
    oracles).
    """

    form: Any
    size_t: tuple[int, ...]

    @abstractmethod
    def __init__(self, form: Any): ...

    def check(self, frame: Frame, pairs: Pairs) -> None:  # noqa: B027, most take every frame
        """Raise `InputError` if the potential cannot take a frame with these pairs."""

    @abstractmethod
    def environment(self, statistics: dict, geometry: Geometry) -> Any:
        """What does not depend on the weights, from `Form.statistics_shapes` and the geometry."""

    @abstractmethod
    def forward(self, par: Parameters, env: Any) -> tuple[Any, Any]:
        """q (i, d), and a cache for the passes below."""

    @abstractmethod
    def tangent(self, par: Parameters, env: Any, cache: Any, v_pc: Any) -> tuple[Any, Any]:
        """q̇ (i, d) = Σ_p ∂q/∂r_p · v_p, and what `tangent_adjoint` needs of it."""

    @abstractmethod
    def pair_adjoint(self, par: Parameters, env: Any, cache: Any, q_bar_id: Any) -> Any:
        """f_pc = Σ_id q̄_id ∂q_id/∂r_pc, (p, 3)."""

    @abstractmethod
    def weight_adjoint(self, par: Parameters, env: Any, cache: Any, q_bar_id: Any, gradient: Any) -> None:
        """Adds Σ_id q̄_id ∂q_id/∂w to ``gradient`` (N,); nothing for a descriptor without weights."""

    @abstractmethod
    def tangent_adjoint(
        self, par: Parameters, env: Any, cache: Any, tangents: Any, q_bar_id: Any, q_dot_bar_id: Any,
        gradient: Any,
    ) -> None:  # fmt: skip
        """Adds Σ_id (q̄_id ∂q_id/∂w + q̇̄_id ∂q̇_id/∂w) to ``gradient`` (N,)."""

    def fixed(self, env: Any) -> tuple[Any, Any] | None:
        """E_i and f_pc of a part of the energy that has no weights (ZBL); None if there is none."""
        return None
