"""Random architectures and configurations for the judges, drawn from a generator."""

from __future__ import annotations

import numpy as np

from kalmandp.frames.frame import Frame
from kalmandp.potentials.activations import NAMES
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.descriptor import DeepPotential
from kalmandp.potentials.deep_potential.environment import gathered
from kalmandp.potentials.deep_potential.initial import initial_weights
from kalmandp.potentials.protocol import Parameters

#: The paper's network: the widths of its layers and the axis; one embedding per neighbour type.
PAPER = dict(
    embedding=(25, 25, 25), axis_neuron=16, fitting=(50, 50, 50), type_one_side=True, fitting_resnet_dt=False
)

SMOOTH = [name for name in NAMES if name not in ("relu", "relu6")]


def random_frame(rng, n_types=2, n_atoms=6, kind="tilted") -> Frame:
    """Atoms on a jittered lattice, so that none overlap, in a cell of the given kind."""
    sites = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)
    chosen = rng.permutation(len(sites))[:n_atoms]
    positions = 1.6 * sites[chosen] + rng.uniform(-0.25, 0.25, (n_atoms, 3))
    cell, pbc = np.eye(3) * 4.8, (True, True, True)
    if kind == "tilted":
        cell = cell + rng.uniform(-0.6, 0.6, (3, 3))
    elif kind == "slab":
        cell, pbc = np.diag([4.8, 4.8, 20.0]), (True, True, False)
    elif kind == "open":
        cell, pbc = None, (False, False, False)
    types = rng.integers(0, n_types, n_atoms)
    return Frame(positions, types, tuple("ABCD"[:n_types]), cell=cell, pbc=pbc)


def random_architecture(rng, n_types=2, **choices) -> Architecture:
    widths = [(3, 6, 12), (5, 5, 5), (4, 7), (2, 4, 4)]
    fittings = [(6, 6), (5, 10), (7,), ()]
    embedding = widths[rng.integers(len(widths))]
    drawn = dict(
        rcut=float(rng.uniform(2.5, 5.5)),
        rcut_smth=float(rng.uniform(0.3, 2.0)),
        sel=tuple(rng.integers(150, 200, n_types)),
        embedding=embedding,
        axis_neuron=int(rng.integers(1, embedding[-1] + 1)),
        fitting=fittings[rng.integers(len(fittings))],
        type_one_side=bool(rng.integers(2)),
        embedding_resnet_dt=bool(rng.integers(2)),
        fitting_resnet_dt=bool(rng.integers(2)),
        embedding_activation=SMOOTH[rng.integers(len(SMOOTH))],
        fitting_activation=SMOOTH[rng.integers(len(SMOOTH))],
        exclude_types=((0, n_types - 1),) if rng.integers(4) == 0 else (),
    )
    return Architecture(tuple("ABCD"[:n_types]), **{**drawn, **choices})


class Case:
    """A model on a frame, with its energy, c·F and C:W as functions of the weights."""

    def __init__(self, rng, architecture, frame, angular_mean=False):
        a = self.form = architecture
        self.frame = frame
        davg = np.zeros((a.n_types, 4))
        davg[:, 0] = rng.uniform(-0.2, 0.2, a.n_types)
        if angular_mean:
            davg[:, 1:] = rng.uniform(-0.1, 0.1, (a.n_types, 3))
        dstd = rng.uniform(0.3, 1.0, (a.n_types, 4))
        dstd[:, 1:] = dstd[:, 1:2]
        self.statistics = {"davg": davg, "dstd": dstd}
        self.layout = a.layout()
        weights = initial_weights(self.layout, rng)
        self.par = Parameters(DeepPotential(a), self.layout, weights, rng.normal(size=a.n_types))
        self.geometry = gathered(a, frame)
        self.env = self.environment(self.geometry.r_pc)

    def environment(self, r_pc):
        """The environment for other (also complex) pair vectors."""
        return self.par.descriptor.environment(self.statistics, self.geometry._replace(r_pc=r_pc))
