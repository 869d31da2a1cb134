"""What a user sees when a run must not go on, or when frames were left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from systems import frames, settings

import kalmandp
from kalmandp.cli import main
from kalmandp.files import one_run_in


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with data and an input file."""
    good = frames(12)
    wrong = replace(good[5], forces=-good[5].forces)
    kalmandp.Dataset.write(tmp_path / "morse.h5", [*good[:5], wrong, *good[6:]])
    return tmp_path


def write(place: Path, **changes) -> str:
    (place / "input.json").write_text(json.dumps(settings("morse.h5", **changes)))
    return str(place / "input.json")


def test_a_folder_in_use_is_left_alone(place, capsys):
    out = place / "run"
    path = write(place, training={"numb_steps": 2})
    assert main(["train", path, "-o", str(out), "--quiet", "--skip-plots"]) == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with one_run_in(out):
        assert main(["train", path, "-o", str(out), "--quiet"]) == 1
        assert main(["train", path, "-o", str(out), "--quiet", "--restart"]) == 1
    assert capsys.readouterr().err.count("another run is in this folder (process ") == 2
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_an_update_that_fails_names_its_frame(place, capsys):
    path = write(place, optimizer={"p0": 1e308})
    assert main(["train", path, "-o", str(place / "run"), "--quiet"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "morse.h5#/A8B8 frame " in err and "there was no update before it" in err


def test_memory_is_asked_before(place, capsys, monkeypatch):
    monkeypatch.setattr("kalmandp.training.placement.memory.available_memory", lambda: 10_000)
    assert main(["train", write(place), "-o", str(place / "run"), "--quiet"]) == 1
    assert "of memory are free, of which P may take 90%" in capsys.readouterr().err
    assert not list((place / "run").iterdir())


def test_what_the_gate_left_out_is_listed(place, capsys):
    # with a fixed R: one wrong frame in twelve would raise an R that follows the errors
    optimizer = {"gate": 50.0, "n_groups": 1, "adapt": 0.0}
    path = write(place, optimizer=optimizer, training={"numb_steps": 84, "disp_freq": 40})
    out = place / "run"
    assert main(["train", path, "-o", str(out), "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "Left out by the gate: 1 of 12 frames:" in text
    assert "morse.h5#/A8B8 frame 5: force" in text and str(out / "left_out.out") in text
    assert main(["plot", str(out)]) == 0
    drawn = capsys.readouterr().out.split()
    assert str(out / "filter.png") in drawn and (out / "filter.png").stat().st_size > 10_000


def test_a_run_with_adam_has_no_figure_of_a_filter(place, capsys):
    tree = settings("morse.h5", training={"numb_steps": 2})
    tree["optimizer"] = {"type": "Adam"}
    (place / "adam.json").write_text(json.dumps(tree))
    out = place / "run"
    assert main(["train", str(place / "adam.json"), "-o", str(out), "--quiet", "--skip-plots"]) == 0
    capsys.readouterr()
    assert main(["plot", str(out)]) == 0
    assert "filter" not in capsys.readouterr().out
