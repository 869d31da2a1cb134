"""The second study: three models and their optimizers at equal seconds of one processor."""

from __future__ import annotations

from dataclasses import replace

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
    results = {name: smoke.result(plan.unit(smoke, smoke.systems[0], "nep", name)) for name in plan.FAMILIES}
    for result in results.values():
        assert np.isfinite(result.final["virial_test"]) and np.isfinite(result.curve["virial"]).all()
        assert_allclose(result.cpu_seconds, result.facts["cpu_per_step"] * result.curve["step"])
    N = results["adam"].facts["n_weights"]
    # Adam's two moments and its weights; the filter's half of P, of as many rows as weights
    assert results["adam"].facts["state_bytes"] >= 8 * 3 * N
    assert results["default"].facts["state_bytes"] >= 8 * N * (N + 1) // 2


@pytest.mark.parametrize("name", ["default", "adam"])
def test_a_run_of_so_many_seconds(study, data, tmp_path, name):
    """Adam has the length that its trial foresees; the others end when their seconds are over."""
    systems, _ = study.systems.find_systems(None, tmp_path, data)
    whole = study.study.Study(tmp_path, systems[:1], seconds=0.5)
    form = study.second_plan.TINY["dp"]
    unit = study.second_plan.unit(whole, systems[0], "dp", name, form=form)
    assert unit.key.startswith(f"A/{name}_") and "_0.5s_" in unit.key
    folder = whole.folder_of(unit)
    folder.mkdir(parents=True)
    assert study.budget.with_length(unit, folder).frames == study.budget.with_length(unit, folder).frames > 10
    told: list[int] = []
    note = lambda line: told.append(line.get("step", 0))
    assert not study.one.carry_out(unit, folder, note, lambda: 10 in told)  # stopped, and gone on with
    foreseen = study.budget.with_length(unit, folder).frames
    assert study.one.carry_out(unit, folder, note, lambda: False)
    result = whole.result(unit)
    steps = result.facts["steps"]
    assert steps == result.curve["step"][-1] == max(told)
    if name == "adam":
        assert steps == foreseen
    else:  # the step that uses up the seconds is the last one
        assert 0.5 <= result.cpu_seconds[-1] < 0.5 + 2 * result.facts["cpu_per_step"]


def test_a_clock_counts_on_where_it_was_kept(study, data, tmp_path, monkeypatch):
    systems, _ = study.systems.find_systems(None, tmp_path, data)
    whole = study.study.Study(tmp_path, systems[:1], seconds=10.0)
    unit = study.second_plan.unit(whole, systems[0], "dp", "default", form=study.second_plan.TINY["dp"])
    now = iter(float(n) for n in range(100))  # every step takes a second
    monkeypatch.setattr(study.budget.time, "process_time", lambda: next(now))
    for steps in (study.budget.WARM_UP + 2, study.budget.WARM_UP + 1):
        clock = study.budget.Clock(unit, tmp_path)
        for _ in range(steps):
            with clock.step():
                pass
        clock.keep()
    assert (clock.counted, clock.per_step) == (3, 1.0)
    assert not clock.is_over(9) and clock.is_over(10)
    for other in (replace(unit, seconds=None), study.second_plan.unit(whole, systems[0], "dp", "adam")):
        assert not study.budget.Clock(other, tmp_path).is_over(10**9)


def test_condition_numbers(study):
    """σ₁/σ_k of a matrix made of its singular vectors; a scaling of columns that makes it orthogonal."""
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.normal(size=(n, n)))[0][:, :10] for n in (20, 30))
    sigma = np.geomspace(1.0, 1e-4, 10)
    condition = study.second_conditioning.condition
    assert_allclose(condition((U * sigma) @ V.T), sigma[0] / sigma[8], rtol=1e-9)
    assert_allclose(condition(U * sigma), sigma[0] / sigma[8], rtol=1e-9)
    assert_allclose(condition(U), 1.0, rtol=1e-9)


def test_own_data_have_a_table_of_both_errors_for_the_models_asked_for(study, data, tmp_path):
    command = ["second", "-o", str(tmp_path), "--smoke", f"--data={data[0]}", "--models", "nep"]
    assert study.command.main([*command, "--optimizers", "default"]) == 0
    (row,) = (tmp_path / "tables" / "second_own.md").read_text(encoding="utf-8").splitlines()[6:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["A", "NEP", "default"]
    (result,) = [study.results.read_result(path.parent) for path in tmp_path.glob("runs/A/*/result.json")]
    errors = [result.final[f"{kind}_test"] for kind in ("energy", "energy_mae", "force", "force_mae")]
    assert_allclose([float(cell.replace(",", "")) for cell in cells[6:10]], 1e3 * np.array(errors), rtol=5e-3)


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
