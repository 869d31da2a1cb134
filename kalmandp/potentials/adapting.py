"""A model made ready for other data: another energy bias, another order of the types.

The nets stay as they are; what changes is E_i = fitting(D_i) + bias_t[i], or which number a type has.
"""

from __future__ import annotations

import numpy as np

from kalmandp.errors import InputError
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.statistics import RCOND, energy_bias
from kalmandp.potentials.potential import Potential


def with_bias(potential: Potential, bias_t) -> Potential:
    """The same potential with another energy per atom of each type.

    Parameters
    ----------
    potential : Potential
    bias_t : (n_types,) eV, in the order of the potential's type_map; what ``bias_atom_e + out_bias`` becomes

    Raises
    ------
    InputError
        For another number of values than there are types, or values that are not finite.
    """
    return Potential(
        potential.architecture, potential.weights, davg=potential.davg, dstd=potential.dstd,
        bias_atom_e=bias_t, info=potential.info, engine=potential.engine.name,
    )  # fmt: skip


def refitted_bias(potential: Potential, frames, mode: str = "change", rcond: float = RCOND) -> np.ndarray:
    """The energy bias that fits the frames best, as DeePMD-kit's ``change-bias`` takes it.

    With n_ft atoms of type t in frame f, and E_f its label::

        "change":  bias_t + δ_t,   δ = argmin Σ_f (E_f − E(frame f) − Σ_t n_ft δ_t)²
        "set":     b_t,            b = argmin Σ_f (E_f − Σ_t n_ft b_t)²

    Where the frames leave δ or b undetermined (one composition, two types) it is the one of smallest norm;
    for a type that does not occur it is zero.

    Parameters
    ----------
    potential : Potential
    frames : iterable of Frame, gone through once; those without an energy are passed over
    mode : "change" (what the model says is corrected) or "set" (it is not asked)
    rcond : singular values below this share of the largest count as zero

    Returns
    -------
    bias_t : (n_types,) eV, for `with_bias`

    Raises
    ------
    InputError
        For another mode, frames without any energy, or a type that the potential does not know.
    """
    if mode not in ("change", "set"):
        raise InputError(f"mode is {mode!r}; expected 'change' or 'set'")
    seen = 0

    def labelled():
        nonlocal seen
        for frame in frames:
            if frame.energy is not None:
                seen += 1
                yield frame

    predicted = (lambda frame: potential.evaluate(frame).energy) if mode == "change" else None
    fitted = energy_bias(labelled(), potential.type_map, rcond=rcond, predicted=predicted)
    if not seen:
        raise InputError("none of the frames has an energy; expected at least one to fit the bias to")
    return potential.bias_atom_e + potential.out_bias + fitted if mode == "change" else fitted


def reordered(potential: Potential, type_map) -> Potential:
    """The same potential with its types numbered in another order; it computes the same numbers.

    Parameters
    ----------
    potential : Potential
    type_map : the names of its types, in the new order

    Raises
    ------
    InputError
        If the names are not those of the potential. A type cannot be added, nor taken away: both change
        Σ sel, the divisor of T, and with it what all other types compute.
    """
    a, names = potential.architecture, tuple(type_map)
    if sorted(names) != sorted(a.type_map):
        raise InputError(
            f"type_map is {list(names)}; expected the model's types {list(a.type_map)} in some order (a type "
            "more or less would change Σ sel, by which every descriptor is divided)"
        )
    old = [a.type_map.index(name) for name in names]
    new = {o: n for n, o in enumerate(old)}
    changed = Architecture(
        **{
            **a.to_dict(),
            "type_map": names,
            "sel": [a.sel[o] for o in old],
            "exclude_types": [[new[p], new[q]] for p, q in a.exclude_types],
        }
    )
    pieces = [potential.weights[_span(potential, net)] for net in _nets(a, old)]
    rows = lambda name: getattr(potential, name)[old]
    return Potential(
        changed, np.concatenate(pieces), davg=rows("davg"), dstd=rows("dstd"),
        bias_atom_e=rows("bias_atom_e"), out_bias=rows("out_bias"), info=potential.info,
        engine=potential.engine.name,
    )  # fmt: skip


def _nets(a: Architecture, old: list[int]) -> list[str]:
    """Names of the nets in the order of the new layout; net of a pair: centre + n_types·neighbour."""
    centres = [None] if a.type_one_side else old
    embeddings = [a.embedding_index(centre, neighbour) for neighbour in old for centre in centres]
    return [f"embedding.{e}" for e in embeddings] + [f"fitting.{t}" for t in old]


def _span(potential: Potential, net: str) -> slice:
    """Where the weights of a net lie in w."""
    tensors = [t for t in potential.layout.tensors if t.net == net]
    return slice(tensors[0].start, tensors[-1].stop)
