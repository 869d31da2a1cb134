"""train, test and info take extended XYZ as it is, without convert."""

from __future__ import annotations

import json

from systems import frames, settings

from kalmandp.cli import main
from kalmandp.formats.extxyz import write_extxyz


def test_extended_xyz_directly(tmp_path, capsys):
    write_extxyz(tmp_path / "train.xyz", frames(8))
    write_extxyz(tmp_path / "test.xyz", frames(3, seed=4))
    tree = settings("train.xyz", training={"numb_steps": 2, "save_freq": 2})
    (tmp_path / "input.json").write_text(json.dumps(tree))
    out = tmp_path / "run"
    assert main(["train", str(tmp_path / "input.json"), "-o", str(out), "--quiet", "--skip-plots"]) == 0
    capsys.readouterr()
    assert main(["test", "-m", str(out / "model.dp"), "-s", str(tmp_path / "test.xyz")]) == 0
    assert "on 3 frames of" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "train.xyz")]) == 0
    told = capsys.readouterr().out
    assert "8 in 1 system" in told and "energy, forces" in told
    (tmp_path / "notes.txt").write_text("nothing of ours\n")
    assert main(["info", str(tmp_path / "notes.txt")]) == 1
    assert "is not an HDF5 file that can be read" in capsys.readouterr().err
