"""Random potentials of each kind and configurations for the judges, drawn from a generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from kinds import FIXTURES, random_architecture

from kalmandp.frames.frame import Frame
from kalmandp.geometry.pairs import gather
from kalmandp.potentials.potential import Potential
from kalmandp.potentials.protocol import Parameters
from kalmandp.registry import descriptor_of, kind_of, load

__all__ = ["PAPER", "Case", "random_architecture", "random_form", "random_frame", "random_potential"]

#: The paper's network: the widths of its layers and the axis; one embedding per neighbour type.
PAPER = dict(
    embedding=(25, 25, 25), axis_neuron=16, fitting=(50, 50, 50), type_one_side=True, fitting_resnet_dt=False
)


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


def random_form(kind: str, rng, n_types=2, device=None, **choices):
    """A form of a kind; one that the fused engine of ``device`` takes, if the kind has one."""
    for _ in range(100):
        form = FIXTURES[kind].form(rng, n_types, **choices)
        fused = kind_of(form).fused.get(device)
        if fused is None or not load(fused).unfit(form):
            return form
    raise AssertionError(f"of 100 forms {kind} the engine on {device} takes none")


def random_potential(kind: str, rng, n_types=2, engine="numpy", **choices) -> Potential:
    """A potential of a kind with random weights, computed by an engine of the processor."""
    form = random_form(kind, rng, n_types, "cpu" if engine == "numba" else None, **choices)
    fixture = FIXTURES[kind]
    return Potential(
        form, fixture.weights(rng, form), bias_atom_e=rng.normal(size=n_types), engine=engine,
        **fixture.statistics(rng, form),
    )  # fmt: skip


class Case:
    """A model on a frame, with its energy, c·F and C:W as functions of the weights."""

    def __init__(self, rng, form, frame, wide=False):
        self.form = form
        self.frame = named(frame, form)
        fixture = FIXTURES[form.kind]
        self.statistics = fixture.statistics(rng, form, wide)
        self.layout = form.layout()
        weights = fixture.weights(rng, form)
        self.par = Parameters(descriptor_of(form), self.layout, weights, rng.normal(size=form.n_types))
        check = self.par.descriptor.check
        self.geometry = gather(self.frame, form.type_map, form.cutoff, check=check)
        self.env = self.environment(self.geometry.r_pc)

    def environment(self, r_pc):
        """The environment for other (also complex) pair vectors."""
        return self.par.descriptor.environment(self.statistics, self.geometry._replace(r_pc=r_pc))


def named(frame: Frame, form) -> Frame:
    """The frame with its types called what the form calls them."""
    return replace(frame, type_map=form.type_map)
