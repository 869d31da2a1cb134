"""The examples around DeePMD-kit do what they say, in their smallest form."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kalmandp
from kalmandp.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["input.json", "lkf.json"])
def test_deepmd_kits_input_as_it_is(name, tmp_path, capsys):
    source = ROOT / "examples" / "deepmd_input" / name
    assert "kalmandp" not in source.read_text()
    arguments = ["train", str(source), "-o", str(tmp_path), "--smoke", "--skip-plots"]
    assert main(arguments) == 0
    assert "validation frames, not trained on" in capsys.readouterr().out
    curve = np.genfromtxt(tmp_path / "lcurve.out", names=True)
    assert curve["step"][-1] == 2 and np.isfinite(curve["rmse_f_val"]).all()


def test_a_model_trained_by_deepmd_kit_is_refined(tmp_path):
    """The Adam model is read, three steps are made from it, and both are compared."""
    script = ROOT / "examples" / "refine" / "refine.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, str(script), "-o", str(tmp_path), "--smoke"], capture_output=True, text=True,
        encoding="utf-8", timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    force = [float(x) for x in re.findall(r"^force +([\d.]+)", done.stdout, re.MULTILINE)]
    assert len(force) == 2 and 50 < force[0] < 200
    info = kalmandp.Potential.load(tmp_path / "model.dp").info
    assert info["started from"] == {"file": "adam.dp", "how": "init-model"}
    assert (tmp_path / "errors.png").is_file()
