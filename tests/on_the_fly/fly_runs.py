"""Molecular dynamics of four atoms of copper, the reference being ASE's EMT."""

import warnings

import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin

import kalmandp

MODEL = {"neuron": 8, "radial_cutoff": 4.0, "angular_cutoff": 3.5, "n_max": (2, 2), "basis_size": (3, 3),
         "l_max": (2,)}  # fmt: skip


class Anew(EMT):
    """EMT without memory: its neighbours, and so the order of its sums, are those of these atoms alone."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, all_changes)


def calculator(folder, reference=None, **choices):
    choices = {"relative": 0.3, "every": 4, "model": MODEL, **choices}
    return kalmandp.OnTheFly(Anew() if reference is None else reference, folder=folder, **choices)


def copper():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def simulate(folder, steps=40, every=5, say=None, **choices):
    """Run to the end from where it was, calling `say` after each save; positions, weights, and the labels."""
    atoms, rng = copper(), np.random.RandomState(3)
    calc = calculator(folder, **choices)
    atoms.calc = calc
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dynamics = Langevin(atoms, 4 * units.fs, temperature_K=600, friction=0.02 / units.fs, rng=rng)
        saved = calc.resume(atoms, rng)
        step = 0 if saved is None else saved["step"]
        while step < steps:
            dynamics.run(every)
            step += every
            calc.save(atoms, rng, step=step)
            if say:
                say()
    return atoms.get_positions(), calc.potential.weights.copy(), calc.labels
