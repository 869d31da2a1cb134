"""RuNNer's input.data, both ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from frame_makers import random_frame
from source_files import read_whole as read

from kalmandp.errors import InputError
from kalmandp.formats.convert import convert
from kalmandp.formats.distances import FRAMES
from kalmandp.formats.programs.steps import TRUNCATED
from kalmandp.formats.runner import write_runner
from kalmandp.frames.dataset import Dataset

OUTPUTS = Path(__file__).parent / "outputs"


def test_input_data_both_ways(tmp_path):
    rng = np.random.default_rng(5)
    labels = ("energy", "forces")
    shapes = [("OHH", True), ("SiOO", True), ("H", False), ("OHHOHH", True)]
    frames = [
        random_frame(rng, s if s != "SiOO" else ["Si", "O", "O"], pbc=(p,) * 3, labels=labels)
        for s, p in shapes
    ]
    assert write_runner(tmp_path / "input.data", frames) == 4
    got, _, ignored = read(tmp_path / "input.data")
    assert ignored == set()
    for g, w in zip(got, frames, strict=True):
        assert (g.symbols, g.pbc) == (w.symbols, w.pbc)
        for name in ("positions", "energy", "forces", "cell"):
            if getattr(w, name) is not None:
                # to bohr and hartree and back: two roundings
                np.testing.assert_allclose(getattr(g, name), getattr(w, name), rtol=5e-16)
    done = convert(tmp_path / "input.data", tmp_path / "all.h5")
    assert (done.frames, done.systems) == (4, 4)
    with Dataset(tmp_path / "all.h5") as data:
        assert data.type_map == ("O", "H", "Si")


def test_charges_of_input_data_are_left_out_by_name(tmp_path):
    text = "begin\natom 0 0 0 H 0.1 0.2 0 0 0\nenergy -1\ncharge 1\nend"  # no end of the last line
    (tmp_path / "input.data").write_text(text)
    # a lone atom: no distance tells the unit
    with pytest.raises(InputError, match="its units are not stated and no distances tell"):
        convert(tmp_path / "input.data", tmp_path / "a.h5")
    done = convert(tmp_path / "input.data", tmp_path / "a.h5", units={"length": "bohr", "energy": "hartree"})
    assert done.ignored == ("atom energies", "atomic charges", "charge")


def test_what_input_data_cannot_hold_is_named(tmp_path):
    done = convert(OUTPUTS / "si8_md.pwo", tmp_path / "a.data")
    assert done.ignored == ("virial",)
    assert done.labels == {"energy": 4, "forces": 4}


def test_input_data_refuses_what_it_cannot_say(tmp_path):
    rng = np.random.default_rng(5)
    for options, message in (
        ({"labels": ("forces",)}, "has no energy; input.data needs one"),
        ({"pbc": (True, True, False)}, "expected all or none for input.data"),
    ):
        with pytest.raises(InputError, match=message):
            write_runner(tmp_path / "a.data", [random_frame(rng, **options)])
        assert not (tmp_path / "a.data").exists()


def test_forces_that_are_all_0_are_not_known(tmp_path):
    """RuNNer's columns of forces cannot be left out. Zeros among others are forces, of a symmetric place."""
    rng = np.random.default_rng(5)
    cell = {"pbc": (True,) * 3}
    bare = [random_frame(rng, "OHHOHH", labels=("energy",), **cell) for _ in range(3)]
    full = random_frame(rng, "OHHOHH", labels=("energy", "forces"), **cell)
    path = tmp_path / "input.data"
    write_runner(path, bare)
    assert path.read_text().count(" 0.0 0.0 0.0\n") == 18
    assert [f.forces for f in read(path)[0]] == [None] * 3
    done = convert(path, tmp_path / "again.data")
    assert done.labels == {"energy": 3}
    still = replace(full, forces=np.zeros_like(full.forces))
    write_runner(path, [still, full])
    assert [f.forces.any() for f in read(path)[0]] == [False, True]
    for frames, message in (([*bare, full], "has forces, and others"), ([full, *bare], "has no forces, and")):
        with pytest.raises(InputError, match=message):
            write_runner(tmp_path / "mixed.data", frames)
    # more than the frames that are looked at first: one that has forces keeps them
    write_runner(path, [*[still] * (FRAMES + 1), full])
    assert [f.forces is not None for f in read(path)[0]] == [False] * (FRAMES + 1) + [True]


def test_a_file_cut_in_its_first_structure_is_named_as_that(tmp_path):
    """Not as one whose units are not known."""
    (tmp_path / "input.data").write_text("begin\natom 0 0 0 H 0 0 0 0 0\natom 0 0 1 H 0 0 0")
    assert read(tmp_path / "input.data")[:2] == ([], [f"{tmp_path}/input.data frame 0: {TRUNCATED}"])


def test_sets_of_input_data_are_left_out_by_name(tmp_path):
    """n2p2 writes which set a structure was of; nnp-train draws anew."""
    rng = np.random.default_rng(3)
    frames = [random_frame(rng, "OHH", pbc=(True,) * 3, labels=("energy", "forces")) for _ in range(2)]
    write_runner(tmp_path / "input.data", frames)
    text = (tmp_path / "input.data").read_text()
    (tmp_path / "input.data").write_text(text.replace("begin\n", "begin set=train\n", 1))
    got, left_out, ignored = read(tmp_path / "input.data")
    assert (len(got), left_out, ignored) == (2, [], {"set=train"})
