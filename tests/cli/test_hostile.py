"""Files that are not what they claim: one line on stderr, status 1, and nothing left behind."""

from __future__ import annotations

import json
import time

import h5py
import numpy as np
import pytest
from systems import frames, settings

import kalmandp
from kalmandp.cli import main
from kalmandp.formats.extxyz import write_extxyz

#: Nothing may take longer than this, seconds, on a loaded machine.
PATIENCE = 20.0

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
RNG = np.random.default_rng(7)
NONSENSE = {
    "empty": b"",
    "zeros": bytes(4096),
    "random": RNG.bytes(5000),
    "HDF5 magic": HDF5_MAGIC + RNG.bytes(3000),
    "text": "Grüße\n".encode() * 50,
    "JSON": b'{"model": 3}',
}
COMMANDS = {
    "train": ("input.json", ["train", "FILE", "-o", "OUT"]),
    "plan": ("input.json", ["plan", "FILE"]),
    "restart": ("model.ckpt.h5", ["train", "INPUT", "-o", "OUT", "--restart", "FILE"]),
    "init-model": ("model.dp", ["train", "INPUT", "-o", "OUT", "--init-model", "FILE"]),
    "test model": ("model.dp", ["test", "-m", "FILE", "-s", "DATA"]),
    "test yaml": ("model.yaml", ["test", "-m", "FILE", "-s", "DATA"]),
    "test data": ("data.h5", ["test", "-m", "MODEL", "-s", "FILE"]),
    "info": ("data.h5", ["info", "FILE"]),
    "info yaml": ("model.yaml", ["info", "FILE"]),
    "convert xyz": ("data.extxyz", ["convert", "FILE", "OUT/data.h5"]),
    "convert hdf5": ("data.h5", ["convert", "FILE", "OUT/data.extxyz"]),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Paths of good files: DATA, INPUT, MODEL, CHECKPOINT."""
    folder = tmp_path_factory.mktemp("good")
    kalmandp.Dataset.write(folder / "morse.h5", frames(6))
    (folder / "input.json").write_text(json.dumps(settings(folder / "morse.h5")))
    arguments = ["-o", str(folder), "--smoke", "--quiet", "--skip-plots"]
    assert main(["train", str(folder / "input.json"), *arguments]) == 0
    return {
        "DATA": folder / "morse.h5", "INPUT": folder / "input.json", "MODEL": folder / "model.dp",
        "CHECKPOINT": folder / "model.ckpt.h5",
    }  # fmt: skip


def fails_in_one_line(arguments, capsys) -> str:
    capsys.readouterr()
    began = time.monotonic()
    status = main(arguments)
    err = capsys.readouterr().err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 1 and len(errors) == 1, err
    assert "Traceback" not in err
    assert time.monotonic() - began < PATIENCE
    return errors[0]


def filled(arguments, file, good, out) -> list[str]:
    words = {"FILE": file, "OUT": out, **good}
    return [str(words.get(a, a)).replace("OUT/", f"{out}/") for a in arguments]


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("command", COMMANDS)
def test_nonsense(command, content, good, tmp_path, capsys):
    name, arguments = COMMANDS[command]
    file, out = tmp_path / name, tmp_path / "out"
    file.write_bytes(content)
    out.mkdir()
    error = fails_in_one_line(filled(arguments, file, good, out), capsys)
    assert name in error, "the file is not named"
    assert not list(out.iterdir()), "something was left behind"


@pytest.mark.parametrize("part", [0.3, 0.7, 0.99])
@pytest.mark.parametrize(
    ("what", "arguments"),
    [
        ("DATA", ["test", "-m", "MODEL", "-s", "FILE"]),
        ("MODEL", ["test", "-m", "FILE", "-s", "DATA"]),
        ("CHECKPOINT", ["train", "INPUT", "-o", "OUT", "--restart", "FILE"]),
    ],
)
def test_truncated_files(what, arguments, part, good, tmp_path, capsys):
    whole = good[what].read_bytes()
    file = tmp_path / good[what].name
    file.write_bytes(whole[: int(part * len(whole))])
    assert file.name in fails_in_one_line(filled(arguments, file, good, tmp_path), capsys)


def _without_forces(file):
    for name in [n for n in _arrays(file) if n.endswith("force.npy")]:
        del file[name]


def _nan_label(file):
    name = next(n for n in _arrays(file) if n.endswith("force.npy"))
    file[name][1, 4] = np.nan


def _wrong_shape(file):
    name = next(n for n in _arrays(file) if n.endswith("coord.npy"))
    values = file[name][:, :-3]
    del file[name]
    file[name] = values


def _overlap(file):
    name = next(n for n in _arrays(file) if n.endswith("coord.npy"))
    file[name][2, 3:6] = file[name][2, 0:3]


def _units(file):
    file.attrs["energy_unit"] = "hartree"


def _arrays(file) -> list[str]:
    names: list[str] = []
    file.visit(lambda name: names.append(name) if isinstance(file[name], h5py.Dataset) else None)
    return names


@pytest.mark.parametrize(
    ("damage", "says"),
    [(_nan_label, "frame 1"), (_wrong_shape, "coord"), (_overlap, "frame 2"), (_units, "hartree")],
)
def test_bad_data_are_named_by_file_and_frame(damage, says, good, tmp_path, capsys):
    file = tmp_path / "bad.h5"
    file.write_bytes(good["DATA"].read_bytes())
    with h5py.File(file, "r+") as opened:
        damage(opened)
    error = fails_in_one_line(["test", "-m", str(good["MODEL"]), "-s", str(file)], capsys)
    assert "bad.h5" in error and says in error


def test_frames_without_labels_are_counted_out(good, tmp_path, capsys):
    file = tmp_path / "bare.h5"
    file.write_bytes(good["DATA"].read_bytes())
    with h5py.File(file, "r+") as opened:
        _without_forces(opened)
    assert main(["test", "-m", str(good["MODEL"]), "-s", str(file)]) == 0
    out = capsys.readouterr().out
    assert "energy" in out and "force" not in out.replace("bare", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["test", "-m", "MODEL", "-s", "nowhere.h5"],
        ["test", "-m", "nowhere.dp", "-s", "DATA"],
        ["test", "-m", "DATA", "-s", "DATA"],
        ["test", "-m", "MODEL", "-s", "MODEL"],
        ["test", "-m", "MODEL", "-s", "DATA", "-n", "-1"],
        ["test", "-m", "MODEL", "-s", "DATA", "-d", "nowhere/all"],
        ["info", "nowhere.h5"],
        ["plot", "nowhere"],
        ["plot", "OUT"],
        ["convert", "nowhere.xyz", "OUT/a.h5"],
        ["convert", "DATA", "OUT/a.zip"],
        ["convert", "DATA", "OUT/a.h5", "--index", "x"],
        ["convert", "DATA", "OUT/a.h5", "--type-map", "Si"],
        ["convert", "DATA", "OUT/a.h5", "--key", "energy"],
        ["train", "INPUT", "-o", "OUT", "--restart"],
        ["train", "INPUT", "-o", "INPUT"],
    ],
    ids=" ".join,
)
def test_mistakes(arguments, good, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    fails_in_one_line(filled(arguments, None, good, out), capsys)
    assert not list(out.iterdir()), "something was left behind"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["test", "-m", "OUT", "-s", "DATA"], "is a folder; expected a model of DeePMD-kit (.dp"),
        (["test", "-m", "MODEL", "-s", "INPUT"], "`kalmandp convert` makes one"),
        (["train", "INPUT", "-o", "OUT", "--restart", "OUT"], "is a folder; expected a checkpoint"),
        (["doctor", "DATA", "--rcut", "-3"], "rcut is -3.0; expected a positive number of Å"),
        (["doctor", "INPUT"], "its format is not recognised"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, list) else "",
)
def test_a_mistake_is_called_what_it_is(arguments, says, good, tmp_path, capsys):
    xyz, out = tmp_path / "some.xyz", tmp_path / "out"
    write_extxyz(xyz, frames(1))
    out.mkdir()
    if "doctor" in arguments and "INPUT" in arguments:
        pytest.importorskip("ase", reason="needs the package ase")
    assert says in fails_in_one_line(filled(arguments, xyz, good, out), capsys)


def test_frames_of_another_format_are_opened_as_they_are(good, tmp_path, capsys):
    said = []
    for name, write in (("some.h5", kalmandp.Dataset.write), ("some.xyz", write_extxyz)):
        write(tmp_path / name, frames(2))
        assert main(["test", "-m", str(good["MODEL"]), "-s", str(tmp_path / name)]) == 0
        said.append(capsys.readouterr().out.replace(name, "some"))
    assert said[0] == said[1] and "energy" in said[0]


def test_a_restart_that_does_not_fit_says_what_differs(good, tmp_path, capsys):
    tree = settings(good["DATA"])
    tree["model"]["descriptor"]["rcut"] = 4.0
    (tmp_path / "other.json").write_text(json.dumps(tree))
    arguments = ["train", str(tmp_path / "other.json"), "-o", str(tmp_path), "--restart"]
    error = fails_in_one_line([*arguments, str(good["CHECKPOINT"])], capsys)
    assert "does not fit this run: the input's section model differs" in error and "damaged" not in error


def test_a_cut_off_without_neighbours_is_told(good, tmp_path, capsys):
    tree = settings(good["DATA"])
    tree["model"]["descriptor"] |= {"rcut": 1.2, "rcut_smth": 0.5}
    (tmp_path / "short.json").write_text(json.dumps(tree))
    error = fails_in_one_line(["train", str(tmp_path / "short.json"), "-o", str(tmp_path)], capsys)
    assert "no atom has another within 1.2 Å" in error
