"""A model made ready for other data: another energy bias, another order of the types.

The nets stay as they are; what changes is E_i = net(q_i) + bias_t[i], or which number a type has.
"""

from __future__ import annotations

import numpy as np

from kalmandp.errors import InputError
from kalmandp.potentials.energy_bias import RCOND, energy_bias
from kalmandp.potentials.potential import Potential
from kalmandp.registry import kind_of, load


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
    return potential.replace(bias_atom_e=bias_t, out_bias=None)


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
    mode : "change" (corrects the energies of the model) or "set" (does not use them)
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
    """The same potential with its types, or some of them, in another order; its energies stay the same.

    Parameters
    ----------
    potential : Potential
    type_map : the names of its types in the new order; fewer than there are where its kind can be cut.
        A kind that has one order of its own (by atomic number) keeps it

    Raises
    ------
    InputError
        If the names are not those of the potential. A type cannot be added, and can be taken away only where
        `registry.Kind.cuts` says so: in a Deep Potential either changes Σ sel, the divisor of T, and with it
        what all other types compute.
    """
    names, kind = tuple(type_map), kind_of(potential.form)
    known = len(set(names)) == len(names) and set(names) <= set(potential.type_map)
    if not known or (len(names) < len(potential.type_map) and not kind.cuts):
        raise InputError(
            f"type_map is {list(names)}; expected the model's types {list(potential.type_map)} in some order"
            + (", or some of them" if kind.cuts else "")
        )
    old = [potential.type_map.index(name) for name in names]
    form, weights, statistics = load(kind.reordered)(
        potential.form, potential.weights, potential.statistics, old
    )
    old = [potential.type_map.index(name) for name in form.type_map]
    return potential.replace(
        form=form, weights=weights, statistics=statistics, bias_atom_e=potential.bias_atom_e[old],
        out_bias=potential.out_bias[old],
    )  # fmt: skip
