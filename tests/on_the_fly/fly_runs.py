"""Molecular dynamics of four atoms of copper, the reference being ASE's EMT; a process that may be killed."""

import sys
import warnings

import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin

import kalmandp

MODEL = {"neuron": 8, "radial_cutoff": 4.0, "angular_cutoff": 3.5, "n_max": (2, 2), "basis_size": (3, 3),
         "l_max": (2,)}  # fmt: skip


def calculator(folder, reference=None, **choices):
    choices = {"relative": 0.3, "every": 4, "model": MODEL, **choices}
    return kalmandp.OnTheFly(EMT() if reference is None else reference, folder=folder, **choices)


def copper():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def simulate(folder, steps=40, every=5, say=False):
    """Run to the end from where it was; positions, weights, and the number of calls."""
    atoms, rng = copper(), np.random.RandomState(3)
    calc = calculator(folder)
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
                print(step, len(calc.labels), flush=True)
    return atoms.get_positions(), calc.potential.weights.copy(), calc.labels


if __name__ == "__main__":
    simulate(sys.argv[1], say=True)
