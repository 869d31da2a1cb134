"""A new HDNNP: its form, its statistics from data, its first weights."""

from __future__ import annotations

import warnings

import numpy as np

from kalmandp.errors import InputError, require
from kalmandp.frames.elements import NUMBER
from kalmandp.potentials.hdnnp.default_set import MOST, default_functions
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.hdnnp.initial import initial_weights, n2p2_draws, n2p2_weights
from kalmandp.potentials.hdnnp.input_nn import function_line
from kalmandp.potentials.hdnnp.normalisation import WAYS, normalised
from kalmandp.potentials.hdnnp.statistics import function_statistics
from kalmandp.potentials.hdnnp.units import bias_of
from kalmandp.potentials.protocol import New

#: How the first weights are drawn.
INITIAL = ("standard", "n2p2", "nguyen-widrow")
#: Frames that the statistics are taken from, at most; evenly chosen.
FRAMES = 200
#: Values of a symmetry function that differ by less tell atoms apart by rounding only.
NOTHING = 1e-12


def form_frames(choices) -> int:
    """Frames that a form is made from: many for a default set, whose distances are the data's."""
    return 1 if choices.get("functions") is not None else FRAMES


def new(
    type_map, frames, rng, *, functions=None, cutoff: float = 6.0, angular_cutoff: float | None = None,
    n_radial: int | None = None, n_angular: int | None = None, most: int = MOST,
    statistics_frames: int = FRAMES, initial: str = "standard", random_seed: int = 1,
    weights_min: float = -1.0, weights_max: float = 1.0, normalize: str | None = None, atom_energy_t=None,
    **choices,
) -> New:  # fmt: skip
    """A form for these elements, statistics of these frames, and random weights.

    Parameters
    ----------
    type_map : names of the elements, in any order; the form has them by atomic number
    frames : list of Frame, or a Dataset
    rng : numpy Generator for the weights
    functions : for each element, by atomic number, a list of `SymmetryFunction`; None for `default_set`
    cutoff, angular_cutoff, n_radial, n_angular, most : of the default set, see `default_functions`
    statistics_frames : so many frames at most, evenly chosen, give the statistics
    initial : "standard" (ours), "n2p2" or "nguyen-widrow", which take n2p2's numbers of ``random_seed``
    weights_min, weights_max : range of n2p2's first weights
    normalize : n2p2's normalize_data_set, "ref" or "force": mean_energy, conv_energy and conv_length are
        those of the frames that give the statistics, and the energies of the types follow
    atom_energy_t : with ``normalize`` the energies of free atoms, in the form's unit; None for 0
    choices : further fields of `HDNNPForm`; by default functions are standardised (scaling "sigma")

    Raises
    ------
    InputError
        For settings that do not fit together, or without frames.
    """
    require(initial in INITIAL, "initial", initial, ", ".join(INITIAL))
    unknown = [name for name in type_map if name not in NUMBER]
    require(not unknown, "type_map", f"with {unknown}", "names of elements")
    require(normalize in (None, *WAYS), "normalize_data_set", normalize, " or ".join(WAYS))
    type_map = sorted(type_map, key=NUMBER.__getitem__)
    n = len(frames)
    if not n:
        raise InputError("there are no frames; expected some, for the statistics of the symmetry functions")
    chosen = [frames[int(k)] for k in np.unique(np.linspace(0, n - 1, min(n, statistics_frames)).astype(int))]
    if functions is None:
        choices = {"scaling": "sigma", **choices}
        functions = default_functions(type_map, chosen, cutoff, angular_cutoff, n_radial, n_angular, most)
        unit = choices.get("length_unit", 1.0)
        require(unit == 1.0, "length_unit", unit, "1 for the default set, which is in Å")
    form = HDNNPForm(tuple(type_map), functions, **choices)
    seen = function_statistics(form, chosen)
    _warn_of_constants(form, seen.by_name)
    if initial == "standard":
        weights = initial_weights(form, rng)
    else:
        draws = n2p2_draws(form, random_seed)
        weights = n2p2_weights(form, draws, weights_min, weights_max, initial == "nguyen-widrow")
    info = {"min_nbor_dist": seen.closest} if np.isfinite(seen.closest) else {}
    if normalize is None:
        return New(form, weights, seen.by_name, info)
    energy_t = np.zeros(form.n_types) if atom_energy_t is None else np.asarray(atom_energy_t, dtype=float)
    form = normalised(form, chosen, energy_t, normalize, weights, seen.by_name)
    return New(form, weights, seen.by_name, info, bias_of(form, energy_t))


def _warn_of_constants(form: HDNNPForm, by_name) -> None:
    """A function that is the same for all atoms of an element, 0 mostly, tells the net nothing.

    Its range, if rounding has left one, is taken from ``by_name``, or the scaling would make a signal of it.
    """
    constant = by_name["max"] - by_name["min"] < NOTHING
    for name in ("min", "max"):
        by_name[name][constant] = by_name["mean"][constant]
    by_name["sigma"][constant] = 0.0
    same = [
        function_line(name, f)
        for t, name in enumerate(form.type_map)
        for d, f in enumerate(form.functions[t])
        if constant[t, d] and by_name["max"][t].any()
    ]
    if same:
        others = "" if len(same) == 1 else f" (and {len(same) - 1} more)"
        what = f"{same[0]!r}{others} has the same value for all atoms of the data, and tells the net nothing"
        warnings.warn(what, stacklevel=3)
