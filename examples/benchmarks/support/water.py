"""Water at 1 g/cm³, made up: molecules on a jittered lattice, turned at random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kalmandp import Frame, Potential

TYPE_MAP = ("O", "H")
SPACING = 3.1035  # Å between molecules on a cubic lattice at 1 g/cm³
JITTER = 0.25  # Å
BOND, ANGLE = 0.9572, np.deg2rad(104.52)  # Å and radians: the free molecule
#: Molecules along each edge, by the number of atoms.
CELLS = {24: (2, 2, 2), 192: (4, 4, 4), 648: (6, 6, 6), 1536: (8, 8, 8), 6144: (16, 16, 8)}
#: The RLEKF paper's network: N = 53,102 for two types.
NETWORK = {
    "embedding": (25, 25, 25), "axis_neuron": 16, "fitting": (50, 50, 50), "type_one_side": True,
    "fitting_resnet_dt": False,
}  # fmt: skip
RCUT, RCUT_SMTH, SEL = 6.0, 0.5, (46, 92)


def water(n_atoms: int, seed: int = 1) -> Frame:
    """A frame of as many atoms, one of the numbers in `CELLS`; oxygen first."""
    return molecules(CELLS[n_atoms], seed)


def molecules(cells: tuple[int, int, int], seed: int = 1) -> Frame:
    """A frame of so many molecules along each edge."""
    rng = np.random.default_rng(seed)
    O_mc = SPACING * (np.indices(cells).reshape(3, -1).T + 0.5)
    O_mc = O_mc + rng.uniform(-JITTER, JITTER, O_mc.shape)
    # two bonds at ± half the angle from one axis, turned by a random orthogonal matrix
    half = ANGLE / 2
    bond_hc = BOND * np.array([[np.sin(half), np.cos(half), 0.0], [-np.sin(half), np.cos(half), 0.0]])
    turn_mcc, _ = np.linalg.qr(rng.normal(size=(len(O_mc), 3, 3)))
    H_mhc = O_mc[:, None] + np.einsum("mcd,hd->mhc", turn_mcc, bond_hc)
    positions = np.concatenate([O_mc, H_mhc.reshape(-1, 3)])
    types = np.repeat([0, 1], [len(O_mc), 2 * len(O_mc)])
    return Frame(positions, types, TYPE_MAP, cell=np.diag(SPACING * np.array(cells)), source="water")


def potential(frame: Frame, seed: int = 1, **choices) -> Potential:
    """A potential with the paper's network and random weights: its sums are as long as a trained one's."""
    choices = {"rcut": RCUT, "rcut_smth": RCUT_SMTH, "sel": SEL} | NETWORK | choices
    return Potential.create(TYPE_MAP, frames=[frame], rng=np.random.default_rng(seed), **choices)


def labelled(frame: Frame, seed: int = 2, **choices) -> Frame:
    """The frame with the labels of another random potential, and noise of 10 meV and 0.1 eV/Å."""
    rng = np.random.default_rng(seed)
    truth = potential(frame, seed, **choices).evaluate(frame)
    return replace(
        frame,
        energy=truth.energy + 0.01 * rng.normal(),
        forces=truth.forces + 0.1 * rng.normal(size=truth.forces.shape),
    )
