"""There and back through every format we write, bit for bit where the format allows it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from frame_makers import assert_same_frames, frame_lists, random_frame
from hypothesis import given, settings

from kalmandp.errors import InputError
from kalmandp.formats.convert import convert
from kalmandp.formats.extxyz import write_extxyz
from kalmandp.frames.dataset import Dataset


def there_and_back(frames, folder: Path, name: str, **options):
    write_extxyz(folder / "source.extxyz", frames)
    convert(folder / "source.extxyz", folder / name, **options)
    convert(folder / name, folder / "back.h5")
    with Dataset(folder / "back.h5") as data:
        return list(data)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.h5", {}),
        ("a.h5", {"compression": "gzip"}),
        ("npy", {}),
        ("mixed", {"mixed": True}),
        ("a.extxyz", {}),
    ],
)
@settings(max_examples=5, deadline=None)
@given(frames=frame_lists())
def test_nothing_is_lost(name, options, frames):
    with tempfile.TemporaryDirectory() as folder:
        got = there_and_back(frames, Path(folder), name, **options)
    # float64 in binary, or in the shortest decimals that give it back: not one bit may differ
    assert_same_frames(got, frames)


def test_mixed_makes_one_system_of_many_compositions(tmp_path):
    rng = np.random.default_rng(0)
    shapes = [["Si", "O", "O"], ["O", "H", "H"], ["H", "O", "H"], ["O", "H"]]
    frames = [random_frame(rng, shape) for shape in shapes]
    write_extxyz(tmp_path / "a.extxyz", frames)
    done = convert(tmp_path / "a.extxyz", tmp_path / "mixed", mixed=True)
    assert (done.frames, done.systems) == (4, 2)
    assert sorted(p.name for p in (tmp_path / "mixed").iterdir()) == ["2", "3"]
    types = np.load(tmp_path / "mixed" / "3" / "set.000" / "real_atom_types.npy")
    names = (tmp_path / "mixed" / "3" / "type_map.raw").read_text().split()
    assert [[names[t] for t in row] for row in types] == shapes[:3]
    with pytest.raises(InputError, match=r"mixed is given, and .* is a file; expected a folder"):
        convert(tmp_path / "a.extxyz", tmp_path / "a.h5", mixed=True)


def test_dpdata_reads_our_mixed_folders(tmp_path):
    dpdata = pytest.importorskip("dpdata")
    rng = np.random.default_rng(0)
    frames = [random_frame(rng, shape) for shape in (["Si", "O", "O"], ["O", "H", "H"], ["O", "H"])]
    write_extxyz(tmp_path / "a.extxyz", frames)
    convert(tmp_path / "a.extxyz", tmp_path / "mixed", mixed=True)
    systems = dpdata.MultiSystems()
    systems.load_systems_from_file(str(tmp_path / "mixed"), fmt="deepmd/npy/mixed")
    assert systems.get_nframes() == 3
    energies = sorted(float(e) for system in systems for e in system.data["energies"])
    assert energies == sorted(frame.energy for frame in frames)


def test_frames_of_ase_at_its_printed_precision(tmp_path):
    """ASE writes eight decimals of positions and forces: so much is left, and not more."""
    ase = pytest.importorskip("ase")
    io = pytest.importorskip("ase.io")
    from ase.calculators.singlepoint import SinglePointCalculator

    frame = random_frame(np.random.default_rng(1), ["O", "H", "H"])
    atoms = ase.Atoms(frame.symbols, positions=frame.positions, cell=frame.cell, pbc=True)
    stress = -(frame.virial + frame.virial.T) / 2 / frame.volume
    results = {"energy": frame.energy, "forces": frame.forces, "stress": stress, "magmoms": [1.0, 0, 0]}
    atoms.calc = SinglePointCalculator(atoms, **results)
    io.write(tmp_path / "ase.extxyz", atoms)
    io.write(tmp_path / "a.traj", atoms)
    assert convert(tmp_path / "a.traj", tmp_path / "b.h5").ignored == ("magmoms",)
    convert(tmp_path / "ase.extxyz", tmp_path / "a.h5")
    with Dataset(tmp_path / "a.h5") as data:
        got = data[0]
    np.testing.assert_allclose(got.positions, frame.positions, atol=5.1e-9)
    np.testing.assert_allclose(got.forces, frame.forces, atol=5.1e-9)
    assert got.energy == frame.energy
    # one product with the volume, of numbers printed in full
    np.testing.assert_allclose(got.virial, -stress * frame.volume, rtol=1e-13, atol=1e-15)
