"""Figures: drawn from what a run leaves, whole or not at all, without touching pyplot."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp import plots
from kalmandp.errors import FileError, InputError, MissingPackage
from kalmandp.plots.errors import error_histogram
from kalmandp.training.report.history import History, Record
from kalmandp.training.report.metrics import Comparison
from kalmandp.training.report.summary import Details, read_details, write_details

#: First bytes of each kind of file.
MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def comparison(n_frames: int = 12, n_atoms: int = 8, seed: int = 0) -> Comparison:
    """Frames whose predictions are off by known errors; frame 1 has no forces, frame 2 no energy."""
    rng = np.random.default_rng(seed)

    def pairs(shape, error):
        label = rng.normal(size=shape)
        return np.stack([label, label + error * rng.normal(size=shape)], axis=-1)

    forces = [pairs((n_atoms, 3), 0.05) for _ in range(n_frames)]
    energy = [pairs((), 0.01) for _ in range(n_frames)]
    virial = [pairs((3, 3), 0.1) if f % 2 else None for f in range(n_frames)]
    forces[1], energy[2] = None, None
    return Comparison(np.full(n_frames, n_atoms), energy, forces, virial, [None] * n_frames)


def history(n: int = 30, valid: bool = True) -> History:
    curve = History()
    for k in range(1, n + 1):
        e, f = 0.3 * np.exp(-k / 8), 0.9 * np.exp(-k / 12) + 0.05
        record = Record(
            step=10 * k, epoch=k / 5, n_steps=10 * n, updates=50 * k, seconds=2.0 * k, rmse_e=1.1 * e,
            rmse_f=1.1 * f, rmse_v=np.nan, valid_e=e if valid else np.nan, valid_f=f if valid else np.nan,
            valid_v=np.nan, lam=0.99, lr=np.nan, diagnostics={}, event="display",
        )  # fmt: skip
        curve.add(record)
    return curve


@pytest.mark.parametrize("suffix", MAGIC)
def test_both_figures_are_drawn_in_every_format(tmp_path, suffix):
    for draw, what in ((plots.learning_curve, history()), (plots.parity, comparison())):
        path = draw(what, tmp_path / f"figure.{suffix}")
        assert path.read_bytes().startswith(MAGIC[suffix])
    assert [p.name for p in tmp_path.iterdir()] == [f"figure.{suffix}"], "something was left beside"


def test_many_points_are_drawn_as_density(tmp_path):
    few, many = comparison(), comparison(n_frames=50, n_atoms=30)
    for name, what in (("few", few), ("many", many)):
        plots.parity(what, tmp_path / f"{name}.svg")
    assert "count" not in (tmp_path / "few.svg").read_text()
    assert "count" in (tmp_path / "many.svg").read_text()


def test_the_errors_in_the_corner_are_those_of_the_data(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_errors", lambda ax, error, unit: drawn.append((error, unit)))
    plots.parity(comparison(), tmp_path / "parity.png")
    details = Details.of(comparison())
    for (error, unit), values in zip(drawn, (details.energy, details.force), strict=True):
        assert unit.startswith("meV/")
        # 1e3 for eV → meV; differences of the same doubles
        assert_allclose(error, 1e3 * (values[..., 1] - values[..., 0]).ravel(), rtol=1e-12)


@pytest.mark.parametrize("valid", [True, False])
def test_a_history_and_its_lcurve_give_the_same_curve(tmp_path, valid):
    curve = history(valid=valid)
    curve.write(tmp_path / "lcurve.out")
    read = plots.read_lcurve(tmp_path / "lcurve.out")
    assert_allclose(read["rmse_e_trn"], curve["rmse_e"], rtol=1e-6)  # seven digits are written
    assert_allclose(read["rmse_f_val"], curve["valid_f"], rtol=1e-6)
    plots.learning_curve(tmp_path / "lcurve.out", tmp_path / "lcurve.png")


def test_deepmd_kits_own_lcurve_is_drawn(tmp_path):
    lines = ["#  step      rmse_val    rmse_trn    rmse_e_val  rmse_e_trn    rmse_f_val  rmse_f_trn   lr"]
    lines += ["# If there is no available reference data, rmse_*_{val,trn} will print nan"]
    lines += [
        f"{100 * k:7d}  2e1 3e1  {0.1 / k:.2e} {0.2 / k:.2e} {1 / k:.2e} {2 / k:.2e}  1e-3" for k in (1, 2)
    ]
    (tmp_path / "lcurve.out").write_text("\n".join(lines) + "\n")
    read = plots.read_lcurve(tmp_path / "lcurve.out")
    assert_allclose(read["rmse_f_trn"], [2.0, 1.0])
    plots.learning_curve(tmp_path / "lcurve.out", tmp_path / "curve.pdf")


@pytest.mark.parametrize("content", [b"", b"1 2 3\n", b"# step a\n1 2 3\n", b"# step\nx\n", b"\xff\xfe#"])
def test_a_damaged_lcurve_is_named(tmp_path, content):
    (tmp_path / "lcurve.out").write_bytes(content)
    with pytest.raises(FileError, match=r"lcurve\.out"):
        plots.read_lcurve(tmp_path / "lcurve.out")


def test_what_cannot_be_drawn_is_an_error_and_leaves_nothing(tmp_path):
    nothing = Comparison(np.array([8]), [None], [None], [None], [None])
    for draw, what, suffix in (
        (plots.parity, nothing, "png"),
        (plots.parity, comparison(), "jpg"),
        (plots.learning_curve, History(), "png"),
    ):
        with pytest.raises(InputError):
            draw(what, tmp_path / f"figure.{suffix}")
    with pytest.raises(FileError, match="no such file"):
        plots.learning_curve(tmp_path / "lcurve.out", tmp_path / "figure.png")
    with pytest.raises(FileError, match="there is no folder"):
        plots.parity(comparison(), tmp_path / "no folder" / "figure.png")
    assert not list(tmp_path.iterdir())


def test_one_value_everywhere_can_be_drawn(tmp_path):
    same = np.zeros((4, 3, 2))
    flat = Comparison(np.array([4]), [np.array([-3.0, -3.0])], [same], [None], [None])
    plots.parity(flat, tmp_path / "parity.png")
    plots.learning_curve(history(1), tmp_path / "curve.png")


def test_details_survive_their_files(tmp_path):
    c = comparison()
    paths = write_details(c, tmp_path / "run.v1", "water.h5")
    kinds = {p.name.removeprefix("run.v1.").removesuffix(".out") for p in paths}
    assert kinds == {"e", "e_peratom", "f", "v", "v_peratom"}
    assert paths[0].read_text().splitlines()[0] == "# water.h5: data_e pred_e"
    back, before = read_details(tmp_path / "run.v1"), Details.of(c)
    for name in Details._fields:  # 18 digits are written: the same doubles
        assert (getattr(back, name) == getattr(before, name)).all()
    energy = np.loadtxt(tmp_path / "run.v1.e.out")
    assert_allclose(energy[0], c.energy[0], rtol=1e-15)
    forces = np.loadtxt(tmp_path / "run.v1.f.out")
    assert forces.shape == (11 * 8, 6)  # one frame of twelve has no forces
    assert (forces[0] == [*c.forces[0][0, :, 0], *c.forces[0][0, :, 1]]).all()
    virial = np.loadtxt(tmp_path / "run.v1.v.out")
    assert (virial[0, 9:] == c.virial[1][..., 1].ravel()).all()


def test_pyplot_is_not_imported_and_settings_not_changed(tmp_path):
    code = (
        "import sys, matplotlib\n"
        "settings = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'}\n"
        "before = settings()\n"
        "from kalmandp import plots\n"
        f"plots.learning_curve({{'step': [1, 2], 'rmse_e_trn': [1., .5]}}, {str(tmp_path / 'a.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert settings() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_without_matplotlib_the_install_line_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # what an absent package looks like
    with pytest.raises(MissingPackage, match=r'pip install "kalmandp\[plot\]"'):
        plots.parity(comparison(), tmp_path / "parity.png")


# --- histograms of errors, one column -------------------------------------------------------------


@pytest.mark.parametrize("suffix", MAGIC)
@pytest.mark.parametrize("column", [False, True])
def test_histograms_in_every_format(tmp_path, suffix, column):
    models = {"before": comparison(seed=1), "after": comparison(seed=2)}
    for n, what in enumerate((comparison(), models)):
        path = error_histogram(what, tmp_path / f"errors{n}.{suffix}", column=column)
        assert path.read_bytes().startswith(MAGIC[suffix])


def test_histograms_show_the_errors_of_each_model(tmp_path):
    models = {"before": comparison(seed=1), "after": comparison(seed=2)}
    text = error_histogram(models, tmp_path / "errors.svg").read_text()
    for name, what in models.items():
        force = Details.of(what).force
        rmse = 1e3 * np.sqrt(np.mean((force[..., 1] - force[..., 0]) ** 2))
        assert f"{name}: RMSE {rmse:.3g} meV/Å" in text


def test_a_column_is_as_wide_as_one_panel(tmp_path):
    def size(path):
        found = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"|height="([\d.]+)pt".*?width="([\d.]+)pt"',
                          path.read_text()[:2000])  # fmt: skip
        groups = [float(g) for g in found.groups() if g]
        return groups if found[1] else groups[::-1]

    for draw, what in ((plots.parity, comparison()), (plots.learning_curve, history())):
        page, column = (size(draw(what, tmp_path / "x.svg", column=c)) for c in (False, True))
        assert_allclose(column[0], page[0] / 2)
        assert_allclose(column[1], page[1] * 2)


def test_what_no_histogram_can_show(tmp_path):
    with pytest.raises(InputError, match="there are 4 models to draw; expected one to 3"):
        error_histogram(dict.fromkeys("abcd", comparison()), tmp_path / "x.png")
    empty = Details(np.zeros((0, 2)), np.zeros((0, 3, 2)), np.zeros((0, 3, 3, 2)))
    with pytest.raises(InputError, match="expected labels to draw"):
        error_histogram(empty, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_a_curve_says_of_how_many_validation_frames_it_is(tmp_path):
    lines = {"step": [1, 2, 3], "rmse_f_val": [0.3, 0.2, 0.1], "frames_val": [48, 48, 48]}
    whole = plots.learning_curve(lines, tmp_path / "whole.svg").read_text()
    assert "validation, 48 frames" in whole and "all of them" not in whole
    sampled = {**lines, "frames_val": [128, 128, 1000]}
    part = plots.learning_curve(sampled, tmp_path / "part.svg").read_text()
    assert "validation, 128 of 1,000 frames" in part and "all of them" in part
