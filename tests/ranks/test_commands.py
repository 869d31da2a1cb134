"""Commands that look at frames say the same on several ranks as on one, and one rank writes."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from small_models import tree_of, write_data, write_input
from starting import missing, start

from kalmandp.cli import main

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "never")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    write_data(folder, n_valid=9)
    write_input(folder / "input.json", tree_of("hdnnp", folder))
    done = start(2, *kalmandp("train", folder / "input.json", "-o", folder / "run", "--skip-plots"))
    assert done.returncode == 0, done.stderr
    return folder


def kalmandp(*words) -> list[str]:
    return ["-m", "kalmandp", *map(str, words)]


def alone(*words) -> tuple[int, str, str]:
    """Status and what is printed, on one rank without MPI: in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(word) for word in words])
    return status, out.getvalue(), err.getvalue()


def told_alike(*words) -> str:
    """What a command prints, which must be the same on one rank without MPI and on three."""
    one, three = alone(*words), start(3, *kalmandp(*words))
    assert one == (three.returncode, three.stdout, three.stderr)
    return one[1]


def test_test(folder):
    model = folder / "run" / "hdnnp"
    words = ["test", "-m", model, "-s", folder / "valid.h5"]
    assert "9 frames" in told_alike(*words)
    details = [*words, "--uncertainty", folder / "run" / "model.ckpt.h5", "-d", folder / "detail"]
    assert "in 1 σ" in told_alike(*details)
    assert (folder / "detail.f.out").exists()


def test_doctor(folder):
    told = told_alike("doctor", folder / "train.h5", folder / "valid.h5", "--rcut", "4.5", "--json")
    assert "near-duplicates" in told


def test_select(folder):
    chosen = {}
    for name, ranks in (("one", 0), ("three", 3)):
        words = [
            "select", "-m", folder / "run" / "model.ckpt.h5", "-s", folder / "valid.h5", "-n", "4",
            "-o", folder / f"{name}.extxyz",
        ]  # fmt: skip
        status = start(ranks, *kalmandp(*words)).returncode if ranks else alone(*words)[0]
        assert status == 0
        chosen[name] = (folder / f"{name}.why").read_bytes(), (folder / f"{name}.extxyz").read_bytes()
    assert chosen["one"] == chosen["three"]


def test_others_say_that_they_are_for_one_rank(folder):
    done = start(2, *kalmandp("info", folder / "train.h5"))
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "runs on one rank, and 2 were started" in error
