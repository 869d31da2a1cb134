"""Sets at the edge of what the doctor can compute: it says what it knows, and no NumPy warning comes out."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kalmandp.doctor import examine
from kalmandp.formats.extxyz import write_extxyz
from kalmandp.frames.dataset import Dataset
from kalmandp.frames.frame import Frame

TEST = Path(__file__).parents[2] / "data" / "si64_lda_test.h5"


def silicon(n: int = 48) -> list[Frame]:
    with Dataset(TEST) as data:
        return list(data[:n])


def unknown_names(rng) -> list[Frame]:
    """Names that are no elements: no bond length is known."""
    return [replace(f, type_map=("A_w",)) for f in silicon(12)]


def far_apart(rng) -> list[Frame]:
    """No frame is near another, and energies are in hartree: only the fitted potential can judge."""
    return [replace(f, energy=f.energy / 27.2114) for f in springs(rng, [5] * 30)]


def springs(rng, numbers) -> list[Frame]:
    """Pairs of atoms on springs that point anywhere; as many pairs as ``numbers`` say."""
    frames = []
    for n in numbers:
        direction = rng.normal(size=(n, 3))
        direction /= np.sqrt((direction**2).sum(1, keepdims=True))
        length = rng.uniform(2.2, 2.6, n)
        first = 20.0 * np.arange(n)[:, None] * np.array([1.0, 0.0, 0.0])
        positions = np.concatenate([first, first + length[:, None] * direction])
        forces = 10.0 * (length - 2.4)[:, None] * direction
        frames.append(
            Frame(
                positions, np.zeros(2 * n, int), ("Si",), energy=float(5.0 * ((length - 2.4) ** 2).sum()),
                forces=np.concatenate([forces, -forces]),
            )
        )  # fmt: skip
    return frames


def open_with_virials(rng) -> list[Frame]:
    """Clusters with virials of the wrong size: no volume goes with them."""
    frames = springs(rng, np.repeat(np.arange(2, 14), 2))
    return [replace(f, virial=9.0 * (f.forces.T @ f.positions)) for f in frames]


def single_atoms(rng) -> list[Frame]:
    return [
        Frame([[0, 0, 0]], [0], ("Si",), 20.0 * np.eye(3), energy=-5.0 - 0.1 * k, forces=np.zeros((1, 3)))
        for k in range(6)
    ]


def no_forces(rng) -> list[Frame]:
    return [replace(f, forces=None, virial=None) for f in silicon(6)]


def one_frame(rng) -> list[Frame]:
    return silicon(1)


def no_labels(rng) -> list[Frame]:
    return [replace(f, energy=None, forces=None, virial=None) for f in silicon(6)]


SETS = (unknown_names, far_apart, open_with_virials, single_atoms, no_forces, one_frame, no_labels)


@pytest.mark.parametrize("make", SETS, ids=lambda make: make.__name__)
def test_no_warning_of_numpy(make, tmp_path):
    write_extxyz(tmp_path / "a.extxyz", make(np.random.default_rng(0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = examine(tmp_path / "a.extxyz")
    assert not [f for f in found if "nan" in f.seen + f.advice], [str(f) for f in found]


def test_the_fitted_potential_alone_names_the_unit(tmp_path):
    """Its number of atoms is taken from the frames: there is no step to take it from."""
    write_extxyz(tmp_path / "a.extxyz", far_apart(np.random.default_rng(0)))
    found = [f for f in examine(tmp_path / "a.extxyz") if f.check == "energy-force"]
    assert [f.severity for f in found] == ["warning"] and "energies in Hartree" in found[0].advice
