"""n2p2's normalisation of a data set: units in which energies and forces have the spread 1.

The energies of atoms are taken off first. With E/n of each structure, F of all components together, and
standard deviations σ of samples (n − 1)::

    mean_energy = ⟨E/n⟩
    ref      conv_energy = 1/σ(E/n),           conv_length = σ(F)/σ(E/n)
    force    conv_energy = σ(F_nn)/σ(F),       conv_length = σ(F_nn)        F_nn of the first weights
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kalmandp.errors import InputError, require
from kalmandp.geometry.pairs import forces_from_pairs, gather
from kalmandp.potentials import atomic
from kalmandp.potentials.hdnnp.descriptor import HDNNPDescriptor
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.protocol import Parameters

#: n2p2's ways; it recommends the second.
WAYS = ("ref", "force")


def normalised(form: HDNNPForm, frames, atom_energy_t, way: str, weights=None, statistics=None) -> HDNNPForm:
    """The form with mean_energy, conv_energy and conv_length of these frames.

    Parameters
    ----------
    form : HDNNPForm, whose own normalisation counts for nothing
    frames : list of Frame with energies and forces
    atom_energy_t : (n_types,) in the unit of the form's files
    way : "ref" or "force"
    weights, statistics : of the first model, for "force"

    Raises
    ------
    InputError
        Frames without labels, or labels that do not vary.
    """
    require(way in WAYS, "normalize_data_set", way, " or ".join(WAYS))
    plain = replace(form, mean_energy=0.0, conv_energy=1.0, conv_length=1.0, energy_unit=1.0)
    energies, forces, predicted = [], [], []
    for frame in frames:
        if frame.energy is None or frame.forces is None:
            raise InputError(f"{frame.source}: has no energy or no forces; normalisation needs both")
        count_t = np.bincount(frame.with_type_map(form.type_map).types, minlength=form.n_types)
        energies.append((frame.energy / form.energy_unit - count_t @ np.asarray(atom_energy_t)) / len(frame))
        forces.append(frame.forces.ravel() * (form.length_unit / form.energy_unit))
        if way == "force":
            predicted.append(_forces(plain, frame, weights, statistics).ravel() * form.length_unit)
    E_f = np.array(energies)
    spread_E, spread_F = _spread("energies", E_f), _spread("forces", np.concatenate(forces))
    energy, length = 1.0 / spread_E, spread_F / spread_E
    if way == "force":
        spread_nn = _spread("forces of the first weights", np.concatenate(predicted))
        energy, length = spread_nn / spread_F, spread_nn
    return replace(form, mean_energy=float(E_f.mean()), conv_energy=energy, conv_length=length)


def _spread(what: str, values) -> float:
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    require(spread > 0, f"the spread of {what}", spread, "labels that vary, to normalise by")
    return spread


def _forces(form: HDNNPForm, frame, weights, statistics):
    """Forces of a model in its own units of energy, per Å."""
    descriptor = HDNNPDescriptor(form)
    env = descriptor.environment(statistics, gather(frame, form.type_map, form.cutoff))
    par = Parameters(descriptor, form.layout(), np.asarray(weights), np.zeros(form.n_types))
    _, forward = atomic.energies(par, env)
    return forces_from_pairs(env.geometry, atomic.pair_gradient(par, env, forward))
