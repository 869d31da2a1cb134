"""The second study: three models and their optimizers at equal seconds of one processor."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose


@pytest.fixture(scope="module")
def made(study, data, tmp_path_factory):
    """The part, run in short form: its folder, and the study."""
    folder = tmp_path_factory.mktemp("second")
    assert study.command.main(["second", "-o", str(folder), "--smoke", f"--data={data[0]}"]) == 0
    return folder, study.asked.study_of(folder, study.asked.read(folder)["second"])


def test_every_model_meets_every_family(made):
    folder, _ = made
    text = (folder / "tables" / "second.md").read_text(encoding="utf-8")
    for title in ("Deep Potential", "NEP", "HDNNP"):
        rows = [line for line in text.splitlines() if line.startswith(f"| {title}") and "|" in line[3:]]
        names = {row.split("|")[2].strip() for row in rows}
        assert {"default", "adam", "snes"} <= names, title
    assert (folder / "figures" / "second.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(folder.glob("runs/A/*/result.json"))) == 9


def test_results_have_virials_and_what_an_optimizer_keeps(study, made):
    _, smoke = made
    plan = study.second_plan
    results = {
        name: smoke.result(plan.unit(smoke, smoke.systems[0], "nep", name)) for name in plan.FAMILIES
    }
    for result in results.values():
        assert np.isfinite(result.final["virial_test"]) and np.isfinite(result.curve["virial"]).all()
        assert_allclose(result.cpu_seconds, result.facts["cpu_per_step"] * result.curve["step"])
    N = results["adam"].facts["n_weights"]
    # Adam's two moments and its weights; the filter's half of P, of as many rows as weights
    assert results["adam"].facts["state_bytes"] >= 8 * 3 * N
    assert results["default"].facts["state_bytes"] >= 8 * N * (N + 1) // 2


def test_a_run_of_so_many_seconds(study, data, tmp_path):
    """Its length is found once, kept, and the run ends near its seconds."""
    systems, _ = study.systems.find_systems(None, tmp_path, data)
    whole = study.study.Study(tmp_path, systems[:1], seconds=1.0)
    form = study.second_plan.TINY["dp"]
    unit = study.second_plan.unit(whole, systems[0], "dp", "adam", form=form)
    assert unit.key.startswith("A/adam_") and "_1s_" in unit.key
    folder = whole.folder_of(unit)
    folder.mkdir(parents=True)
    steps = study.budget.with_length(unit, folder).frames
    assert steps == study.budget.with_length(unit, folder).frames > 10
    assert study.one.carry_out(unit, folder, lambda event: None, lambda: False)
    result = whole.result(unit)
    assert result.facts["steps"] > 10 and result.curve["step"][-1] == result.facts["steps"]


def test_condition_numbers(study):
    """σ₁/σ_k of a matrix made of its singular vectors; a scaling of columns that makes it orthogonal."""
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.normal(size=(n, n)))[0][:, :10] for n in (20, 30))
    sigma = np.geomspace(1.0, 1e-4, 10)
    condition = study.second_conditioning.condition
    assert_allclose(condition((U * sigma) @ V.T), sigma[0] / sigma[8], rtol=1e-9)
    assert_allclose(condition(U * sigma), sigma[0] / sigma[8], rtol=1e-9)
    assert_allclose(condition(U), 1.0, rtol=1e-9)


def test_slope_and_time_to_an_error(study):
    tables, Result = study.second_tables, study.results.Result
    points = [(n, 3e-6 * n**1.5) for n in (100, 1000, 5000)]
    assert_allclose(tables.slope(points), 1.5, rtol=1e-12)
    assert np.isnan(tables.slope(points[:1]))
    curve = {"step": np.array([10.0, 20.0, 40.0]), "force": np.array([0.3, 0.1, 0.05])}
    result = Result({}, curve, {}, {"cpu_per_step": 0.5}, None)
    assert tables.seconds_to(result, 0.1) == 10.0 and np.isinf(tables.seconds_to(result, 0.01))
    assert tables.at_seconds(result, "force", 19.0) == 0.1
    assert np.isnan(tables.at_seconds(result, "force", 1.0))
