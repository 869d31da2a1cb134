"""The report of a run: whole without a network, true to the model and its data, and safe for odd names."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import frames, settings

import kalmandp
from kalmandp.cli import main
from kalmandp.errors import FileError, MissingPackage
from kalmandp.report import write_report
from kalmandp.report.errors import errors_of
from kalmandp.report.figures import themed
from kalmandp.report.usage import uses
from kalmandp.training.report.metrics import evaluate

#: Tags that have no end.
VOID = {"meta", "br", "link", "img", "input", "hr"}
ODD = "a <b>&\"'"


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    """A folder with an odd name, data of two systems and a short run."""
    folder = tmp_path_factory.mktemp("place") / ODD
    folder.mkdir()
    kalmandp.Dataset.write(folder / "train.h5", frames(8))
    kalmandp.Dataset.write(folder / "valid.h5", frames(5, seed=3))
    kalmandp.Dataset.write(folder / "wild.h5", frames(3, seed=4, spread=0.25))
    tree = settings("train.h5", training={"numb_steps": 24, "disp_freq": 4})
    tree["training"]["validation_data"] = {"systems": ["valid.h5", "wild.h5"]}
    tree["optimizer"]["gate"] = 100
    (folder / "input.json").write_text(json.dumps(tree))
    arguments = ["train", str(folder / "input.json"), "-o", str(folder / "run"), "--quiet", "--skip-plots"]
    assert main(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def report(ran) -> str:
    return write_report(ran / "run").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Checks that tags are closed in order; keeps attributes and text."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_it_is_one_whole_page_that_loads_nothing(report):
    read = Reader(report)
    ids = [value for _, name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 10
    links = [v for _, name, v in read.attributes if name in ("href", "xlink:href", "src", "clip-path")]
    links = [v for v in links if not v.startswith("data:image/png;base64,")]
    inside = [re.fullmatch(r"#(.+)|url\(#(.+)\)", v) for v in links]
    assert inside and all(m and (m[1] or m[2]) in ids for m in inside)
    assert not re.search(r"@import|@font-face|<script|url\(['\"]?(?!#)", report)
    assert "default-src 'none'" in report
    assert len(report) < 3_000_000


def test_odd_names_are_text(report):
    words = "".join(Reader(report).words)
    assert "<b>&" in words and "<b>" not in report


def test_every_section_is_there_and_can_be_reached(report):
    read = Reader(report)
    targets = [v[1:] for tag, name, v in read.attributes if tag == "a" and name == "href"]
    wanted = ("result learning errors where filter left-out data settings time use versions").split()
    assert targets == ["content", *wanted]
    labelled = [v for tag, name, v in read.attributes if tag == "svg" and name == "aria-label"]
    assert len(labelled) == 10 and all(labelled)  # five figures, each for a wide and a narrow window


def test_the_numbers_are_those_of_the_model(ran, report):
    potential = kalmandp.Potential.load(ran / "run" / "model.dp")
    with kalmandp.Dataset([ran / "valid.h5", ran / "wild.h5"], potential.type_map) as data:
        found, metrics = errors_of(potential, data), evaluate(potential, data)
        wild = evaluate(potential, data.subset(range(5, 8)))
        predicted = potential.evaluate(list(data))
    assert f"{1e3 * metrics.force_rmse:.3g} meV/Å" in report
    by_system = {name: r for r in found.systems for name in ("wild.h5", "valid.h5") if name in r.name}
    assert_allclose(by_system["wild.h5"].force, wild.force_rmse, rtol=1e-12)
    assert_allclose(by_system["wild.h5"].energy, wild.energy_rmse, rtol=1e-12)
    assert by_system["wild.h5"].force > by_system["valid.h5"].force  # its atoms are further off
    for t, row in enumerate(found.elements):
        errors = [p.forces - f.forces for p, f in zip(predicted, data_frames(ran, potential), strict=True)]
        of = [f.types == t for f in data_frames(ran, potential)]
        own = np.concatenate([e[its] for e, its in zip(errors, of, strict=True)])
        assert_allclose(row.force, np.sqrt(np.mean(own**2)), rtol=1e-9)  # the order of sums
    # the mean square over all components is that of the elements, weighted by their atoms
    squares = sum(r.n_atoms * r.force**2 for r in found.elements) / sum(r.n_atoms for r in found.elements)
    assert_allclose(np.sqrt(squares), metrics.force_rmse, rtol=1e-12)
    assert_allclose(np.mean(found.frames.energy_f**2), metrics.energy_rmse**2, rtol=1e-12)


def data_frames(ran, potential):
    with kalmandp.Dataset([ran / "valid.h5", ran / "wild.h5"], potential.type_map) as data:
        return list(data)


def test_the_command_writes_where_it_says(ran, tmp_path, capsys):
    path = tmp_path / "out.html"
    assert main(["report", str(ran / "run"), "-o", str(path), "--skip-doctor"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    text = path.read_text(encoding="utf-8")
    assert "What the doctor found" not in text and "kalmandp test -m" in text


def test_data_that_were_moved(ran, tmp_path):
    """The report says that they are gone; with the input file where they are now it is whole again."""
    moved = tmp_path / "moved"
    shutil.copytree(ran, moved)
    gone = ran.parent / "gone"
    ran.rename(gone)
    try:
        text = write_report(moved / "run", tmp_path / "a.html").read_text(encoding="utf-8")
        assert "cannot be read" in text and 'id="where"' not in text and 'id="filter"' in text
        again = write_report(moved / "run", tmp_path / "b.html", input=moved / "input.json")
        assert 'id="where"' in again.read_text(encoding="utf-8")
        tree = json.loads((moved / "input.json").read_text())
        tree["model"]["descriptor"]["rcut"] = 3.9
        (moved / "other.json").write_text(json.dumps(tree))
        with pytest.raises(FileError, match="its section model is not that of"):
            write_report(moved / "run", tmp_path / "c.html", input=moved / "other.json")
        assert not (tmp_path / "c.html").exists()
    finally:
        gone.rename(ran)


def test_a_run_without_a_filter_and_without_validation(ran, tmp_path):
    tree = settings(ran / "train.h5", training={"numb_steps": 4, "disp_freq": 2})
    tree["optimizer"] = {"type": "Adam"}
    list(kalmandp.train(tree, output=tmp_path))
    text = write_report(tmp_path, doctor=False).read_text(encoding="utf-8")
    assert 'id="filter"' not in text and "There are no validation frames" in text
    Reader(text)


def test_frames_that_were_left_out_are_named(ran, tmp_path):
    data = frames(12)
    wrong = data[5]
    data[5] = dataclasses.replace(wrong, forces=-wrong.forces)
    kalmandp.Dataset.write(tmp_path / "data.h5", data)
    # with a fixed R: one wrong frame in twelve would raise an R that follows the errors
    optimizer = {"gate": 50.0, "n_groups": 1, "adapt": 0.0}
    tree = settings(tmp_path / "data.h5", optimizer=optimizer, training={"numb_steps": 84})
    list(kalmandp.train(tree, output=tmp_path))
    text = write_report(tmp_path, doctor=False).read_text(encoding="utf-8")
    assert "--without 5`" in text and "A8B8 frame 5<" in text


@pytest.mark.parametrize(("kind", "words"), [
    ("se_e2_a", "pair_style   deepmd"), ("nep", "potential    m/nep.txt"), ("hdnnp", "nnp-predict 0"),
    ("another", "KalmanDP"),
])  # fmt: skip
def test_each_kind_of_model_has_its_commands(kind, words):
    listed = uses(kind, "m/nep.txt", ("Si", "O"))
    assert words in "\n".join(u.code for u in listed)
    programs = {"se_e2_a": "DeePMD-kit", "nep": "GPUMD", "hdnnp": "n2p2"}
    others = {program for k, program in programs.items() if not kind.startswith(k)}
    assert not any(w in u.where for u in listed for w in others)


def test_a_figure_takes_the_pages_colours_and_keeps_to_itself():
    svg = (
        '<?xml version="1.0"?><!DOCTYPE svg><svg width="9pt" viewBox="0 0 9 9"><metadata>x</metadata>'
        '<g id="a"><path style="fill: #0072b2" clip-path="url(#p)"/><use xlink:href="#a"/></g></svg>'
    )
    made = themed(svg, "n", "what <it> is")
    assert made.startswith("<svg role=") and "metadata" not in made and "&lt;it&gt;" in made
    assert 'id="n-a"' in made and "url(#n-p)" in made and 'href="#n-a"' in made and "var(--blue)" in made


def test_what_is_no_run(tmp_path, ran, monkeypatch):
    for folder, words in ((tmp_path, "holds no checkpoint"), (tmp_path / "nowhere", "is not a folder")):
        with pytest.raises(FileError, match=words):
            write_report(folder)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # what an absent package looks like
    with pytest.raises(MissingPackage, match=r'pip install "kalmandp\[plot\]"'):
        write_report(ran / "run", tmp_path / "x.html")
    assert not list(tmp_path.iterdir())
