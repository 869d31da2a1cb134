"""The gallery and the inputs run, every picture is small, and the exercises' checks tell right from wrong."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import kalmandp
from kalmandp.cli import main

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
GALLERY, EXERCISES = EXAMPLES / "gallery", EXAMPLES / "exercises"
SCRIPTS = sorted(path.name for path in GALLERY.glob("[0-9]*.py"))
#: What a script needs beyond matplotlib, and the extra that brings it.
NEEDS = {"09_train_then_run_md.py": ("ase", "ase")}
#: Largest size of a picture, bytes.
SMALL = 60_000


def need(package: str, extra: str) -> None:
    if find_spec(package) is None:
        pytest.skip(f'{package} is not installed; pip install "kalmandp[{extra}]" brings it')


@pytest.mark.parametrize("script", SCRIPTS)
def test_gallery(script):
    """In smoke mode, on one core, without a display; the checks inside each script hold."""
    for package, extra in (("matplotlib", "plot"), NEEDS.get(script, ("numpy", ""))):
        need(package, extra)
    one_core = {f"{name}_NUM_THREADS": "1" for name in ("NUMBA", "OMP", "OPENBLAS", "MKL")}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    pictures = lambda: {p.name: p.stat().st_mtime_ns for p in GALLERY.glob("*.png")}
    before = pictures()
    run = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(GALLERY / script), "--smoke"],
        env={**os.environ, **one_core, "MPLBACKEND": "Agg", "PYTHONPATH": path},
        capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert pictures() == before, "smoke mode must leave the pictures alone"


def test_every_script_has_a_small_picture_and_its_place_on_the_page():
    page = (GALLERY / "README.md").read_text(encoding="utf-8")
    assert len(SCRIPTS) >= 11
    for script in SCRIPTS:
        picture = (GALLERY / script).with_suffix(".png")
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size <= SMALL, picture.name
        assert f"({picture.name})" in page and f"({script})" in page, f"{script} is not on the page"


#: Inputs of other programs and of ours: what a run leaves besides lcurve.out, and words of its notice.
INPUTS = {
    "gpumd/nep.in": (("nep.txt", "loss.out", "force_train.out", "virial_test.out"), "population, generation"),
    "n2p2/input.nn": (("hdnnp", "learning-curve.out", "trainforces.out", "testpoints.out"), "kalman_epsilon"),
    "nep/input.json": (("nep.txt",), ""),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_of_three_programs(name, tmp_path, capsys):
    """Two steps; the files of that program are there, and the model that is left reads as a potential."""
    files, notice = INPUTS[name]
    before = sorted((EXAMPLES / name).parent.iterdir())
    assert main(["train", str(EXAMPLES / name), "-o", str(tmp_path), "--smoke", "--skip-plots"]) == 0
    told = capsys.readouterr()
    assert "validation frames, not trained on" in told.out and notice in told.err
    assert all((tmp_path / file).exists() for file in files)
    curve = np.genfromtxt(tmp_path / "lcurve.out", names=True)
    assert curve["step"][-1] == 2 and np.isfinite(curve["rmse_f_val"]).all()
    potential = kalmandp.Potential.load(tmp_path / files[0])
    assert potential.form.kind == ("hdnnp" if "n2p2" in name else "nep") and potential.layout.size > 500
    assert sorted((EXAMPLES / name).parent.iterdir()) == before, "a run with -o leaves the folder alone"


def test_doors_are_small_and_on_the_page():
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in INPUTS:
        folder = (EXAMPLES / name).parent
        assert f"({folder.name}/README.md)" in page, folder.name
        assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000


@pytest.fixture(scope="module")
def exercises():
    """The modules of the exercises, importable by name while the tests of this file run."""
    names = ("checks", "solutions", "mistakes")
    sys.path.insert(0, str(EXERCISES))
    try:
        yield dict(zip(names, map(import_module, names), strict=True))
    finally:
        sys.path.remove(str(EXERCISES))
        for name in names:
            sys.modules.pop(name, None)


NAMES = sorted(
    path.stem for path in EXERCISES.glob("*.py") if path.stem not in ("checks", "solutions", "mistakes")
)


@pytest.mark.parametrize("exercise", NAMES)
def test_the_solution_passes_and_the_empty_exercise_does_not(exercises, exercise):
    function, check = exercises["checks"].EXERCISES[exercise]
    check(getattr(exercises["solutions"], function))
    empty = runpy.run_path(str(EXERCISES / f"{exercise}.py"))
    with pytest.raises(NotImplementedError):
        check(empty[function])


def test_every_planted_mistake_is_caught(exercises):
    planted = exercises["mistakes"].MISTAKES
    assert {exercise for exercise, _, _ in planted} == set(NAMES), "every exercise has its mistakes"
    for exercise, what, function in planted:
        _, check = exercises["checks"].EXERCISES[exercise]
        with pytest.raises(AssertionError) as caught:
            check(function)
        assert len(str(caught.value)) > 20, f"{exercise}: {what}: the message is {caught.value!s}"


def test_a_student_is_told_where_the_work_stands(tmp_path, exercises):
    """As a student would: the file alone, then with a wrong answer, then with the right one."""
    source = (EXERCISES / "kalman_step.py").read_text(encoding="utf-8")
    wrong = "K = P @ H\n    S = noise + H @ K\n    return w + K * error / S, (P - K[:, None] * K / S) / lam"
    answers = {
        "to do": None, "P is wrong": wrong, "stops with ValueError": wrong.replace("P @ H", "P @ H[1:]"),
        "right": wrong.replace("noise +", "lam * noise +"),
    }  # fmt: skip
    path = os.pathsep.join([str(EXERCISES), *(entry for entry in sys.path if entry)])
    for told, body in answers.items():
        text = source if body is None else source.replace('raise NotImplementedError("return w, P")', body)
        (tmp_path / "kalman_step.py").write_text(text, encoding="utf-8")
        run = subprocess.run(
            [sys.executable, str(tmp_path / "kalman_step.py")], env={**os.environ, "PYTHONPATH": path},
            capture_output=True, text=True, encoding="utf-8", timeout=60,
        )  # fmt: skip
        assert told in run.stdout and (run.returncode == 0) == (told == "right"), run.stdout + run.stderr
