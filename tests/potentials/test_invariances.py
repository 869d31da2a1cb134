"""What every potential must do whatever its weights: the symmetries of physics, over the registry."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from cases import named, random_frame, random_potential
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from kalmandp.frames.frame import Frame
from kalmandp.registry import ENGINES, KINDS

#: Kinds with the engines that they have on the processor.
OURS = [
    (kind, name)
    for kind, row in KINDS.items()
    for name, (device, reference) in ENGINES.items()
    if device == "cpu" and (reference or device in row.fused)
]
everywhere = pytest.mark.parametrize(("kind", "engine"), OURS)


def close(got, wanted, of) -> None:
    """The same sums in another order: rounding of the largest of ``of``."""
    assert_allclose(got, wanted, rtol=1e-10, atol=1e-11 * max(1.0, np.abs(of).max()))


@everywhere
@pytest.mark.parametrize("cell", ["tilted", "slab", "open"])
def test_translation_rotation_permutation(kind, engine, cell):
    rng = np.random.default_rng(11)
    p = random_potential(kind, rng, engine=engine)
    frame = named(random_frame(rng, 2, 7, cell), p.form)
    here = p.evaluate(frame)
    moved = dataclasses.replace(frame, positions=frame.positions + [3.1, -20.0, 0.7])
    Q = Rotation.random(random_state=1).as_matrix()
    turned_cell = None if frame.cell is None else frame.cell @ Q.T
    turned = dataclasses.replace(frame, positions=frame.positions @ Q.T, cell=turned_cell)
    mirrored = dataclasses.replace(
        frame, positions=-frame.positions, cell=None if frame.cell is None else -frame.cell
    )
    order = rng.permutation(len(frame))
    mixed = dataclasses.replace(frame, positions=frame.positions[order], types=frame.types[order])
    for there, F, W in (
        (p.evaluate(moved), here.forces, here.virial),
        (p.evaluate(turned), here.forces @ Q.T, Q @ here.virial @ Q.T),
        (p.evaluate(mirrored), -here.forces, here.virial),
        (p.evaluate(mixed), here.forces[order], here.virial),
    ):
        close(there.energy, here.energy, here.energy)
        close(there.forces, F, here.forces)
        close(there.virial, W, here.virial)
    assert np.abs(here.forces).max() > 1e-3  # there is something to turn


@everywhere
def test_forces_sum_to_zero_and_the_virial_is_symmetric(kind, engine):
    rng = np.random.default_rng(12)
    p = random_potential(kind, rng, n_types=3, engine=engine)
    result = p.evaluate(named(random_frame(rng, 3, 7), p.form))
    close(result.forces.sum(0), 0, 0.01 * result.forces)
    close(result.virial, result.virial.T, 0.1 * result.virial)
    assert_allclose(result.energy, result.atomic_energies.sum(), rtol=1e-13)


@everywhere
def test_energy_is_extensive(kind, engine):
    """Twice the cell is twice the energy; with cut-offs up to 5.5 Å the cell of 4.8 Å may be smaller."""
    rng = np.random.default_rng(13)
    p = random_potential(kind, rng, engine=engine)
    frame = named(random_frame(rng, 2, 5), p.form)
    shift = frame.cell[1]
    double = Frame(
        np.concatenate([frame.positions, frame.positions + shift]),
        np.concatenate([frame.types, frame.types]),
        frame.type_map,
        cell=frame.cell * [[1.0], [2.0], [1.0]],
    )
    one, two = p.evaluate(frame), p.evaluate(double)
    close(two.energy, 2 * one.energy, two.energy)
    close(two.virial, 2 * one.virial, two.virial)
