"""A small NEP and a small Deep Potential, and frames of four atoms with labels drawn at random."""

import numpy as np

import kalmandp

NEP = {
    "kind": "nep", "radial_cutoff": 4.0, "angular_cutoff": 3.5, "n_max": (2, 2), "basis_size": (3, 3),
    "l_max": (2, 1), "neuron": 4,
}  # fmt: skip
DP = {"rcut": 4.0, "embedding": (4, 8), "axis_neuron": 2, "fitting": (6,)}


def frames(n=4, seed=0):
    rng = np.random.default_rng(seed)
    base = np.array([[0, 0, 0], [1.8, 1.8, 0], [1.8, 0, 1.8], [0, 1.8, 1.8]])
    made = []
    for _ in range(n):
        made.append(kalmandp.Frame(
            base + rng.normal(0, 0.1, base.shape), [0, 1, 0, 0], ("A", "B"), 3.6 * np.eye(3),
            energy=rng.normal(), forces=0.1 * rng.normal(size=base.shape),
            virial=np.diag(rng.normal(size=3)),
        ))  # fmt: skip
    return made
