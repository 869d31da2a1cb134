"""Baselines, spans and ratios against closed forms; the names of optimizers and of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp.errors import InputError

INF = float("inf")


def curve(study, error, steps=16, per_step=1.0, updates=1, per_epoch=4):
    """A result whose test errors of both kinds are ``error(step)``."""
    step = np.arange(1.0, steps + 1)
    table = {
        "step": step, "epoch": step / per_epoch, "updates": updates * step, "seconds": per_step * step,
        "energy": error(step), "force": 10 * error(step),
    }  # fmt: skip
    final = {"energy_test": table["energy"][-1], "force_test": table["force"][-1]}
    return study.results.Result({}, table, final, {}, Path())


def test_ratios_of_known_curves(study):
    """1/t and 8/t: the second is at any limit after 8 × as many steps, each of a tenth of the time."""
    fast = curve(study, lambda t: 1 / t, per_step=10.0, updates=4)
    slow = curve(study, lambda t: 8 / t, steps=128)
    limit = study.curves.baseline([fast, slow], "energy", 1.28)
    assert_allclose(limit, 1.28 / 16, rtol=1e-15)  # both end at 1/16
    costs = [study.curves.reached(result, "energy", limit) for result in (fast, slow)]
    # 16/1.28 = 12.5 and 128/1.28 = 100: the first whole steps at or below the limit
    assert [c["epoch"].low for c in costs] == [13 / 4, 100 / 4]
    ratio = {name: study.curves.ratio(costs[1][name], costs[0][name]) for name in study.curves.COSTS}
    assert all(span.is_known for span in ratio.values())
    assert_allclose(ratio["epoch"].low, 100 / 13, rtol=1e-15)
    assert_allclose(ratio["updates"].low, 100 / 52, rtol=1e-15)
    assert_allclose(ratio["seconds"].low, 100 / 130, rtol=1e-15)
    assert study.curves.reached(slow, "force", 10 * limit)["epoch"] == costs[1]["epoch"]


def test_seconds_per_step_take_the_place_of_the_runs_own_clock(study):
    result = curve(study, lambda t: 1 / t, per_step=10.0)
    assert study.curves.reached(result, "energy", 0.25, 0.5)["seconds"] == (2.0, 2.0)
    assert study.curves.reached(result, "energy", 0.25)["seconds"] == (40.0, 40.0)


def test_a_baseline_never_reached_gives_a_bound(study):
    curves = study.curves
    never, soon = curve(study, lambda t: 1 + 0 * t), curve(study, lambda t: 1 / t)
    costs = [curves.reached(result, "energy", 0.5)["epoch"] for result in (never, soon)]
    assert costs == [(4.0, INF), (0.5, 0.5)]
    assert curves.ratio(*costs) == (8.0, INF) and str(curves.ratio(*costs)) == "> 8.00"
    assert curves.ratio(*costs[::-1]) == (0.0, 1 / 8) and str(curves.ratio(*costs[::-1])) == "< 0.125"
    assert str(curves.ratio(costs[0], costs[0])) == "–"


def test_a_touch_does_not_count_but_at_the_end(study):
    errors = np.array([3.0, 1.0, 3.0, 1.0, 1.0, 3.0, 3.0, 1.0])
    swings = lambda n: curve(study, lambda t: errors[t.astype(int) - 1], steps=n)
    at = lambda n, **hold: study.curves.reached(swings(n), "energy", 1.0, **hold)["seconds"]
    assert at(8) == (4.0, 4.0) and at(8, hold=1) == (2.0, 2.0)
    assert at(8, hold=3) == (8.0, 8.0)  # the run's last evaluation
    assert at(3) == (3.0, INF) and at(2) == (2.0, 2.0)


def test_of_several_schedules_the_first_there_counts(study):
    curves = study.curves
    short, long = curve(study, lambda t: 2 - t / 16), curve(study, lambda t: 2 - t / 64, steps=80)
    at = lambda limit: curves.soonest([curves.reached(r, "energy", limit) for r in (short, long)])["seconds"]
    assert at(1.5) == (8.0, 8.0)  # the short one is there sooner
    assert at(0.9) == (71.0, 71.0)  # the short one, which ends at 1, never is: 2 − 71/64 ≤ 0.9
    assert at(0.5) == (80.0, INF)  # neither: the longest says how much is not enough


@pytest.mark.parametrize(
    "spans, wanted",
    [
        ([(1, 1), (3, 3), (9, 9)], (3, 3)),
        ([(1, 1), (3, 3), (9, INF)], (3, 3)),  # however large the last is
        ([(1, 1), (3, INF), (4, 4)], (3, 4)),  # 3 to ∞ may be below 4 or above
        ([(1, 1), (3, INF), (4, INF)], (3, INF)),
        ([(0, 5), (2, 2), (8, 8)], (2, 5)),
        ([(2, 2), (4, INF)], (3, INF)),
        ([], (0, INF)),
    ],
)
def test_median_of_bounds(study, spans, wanted):
    assert study.curves.median([study.curves.Span(*s) for s in spans]) == wanted


def test_names_of_optimizers(study):
    of = study.optimizers.optimizer
    types = [
        of(name).sections["optimizer"]["type"] for name in ("default", "n2p2", 'a={"preset": "matpl-gkf"}')
    ]
    assert types == ["RLEKF", "GEKF", "GEKF"]  # each preset's own
    assert of("adam-300").epochs == 300 and of("adam-300").base == "adam" and of("adam").epochs is None
    assert of("paper").sections == {"optimizer": {"type": "RLEKF", "preset": "paper"}}
    assert of("lekf").sections == {"optimizer": {"type": "LEKF"}}
    assert of('mine={"p0": 0.1}').sections["optimizer"] == {"type": "RLEKF", "p0": 0.1}
    for name, words in (
        ("sgd", "sgd"),
        ("mine={p0}", "JSON"),
        ('mine={"p_0": 1}', "p_0"),
        ("m=[1]", "object"),
        ("paper={}", "paper"),
    ):
        with pytest.raises(InputError, match=words):
            of(name)


def test_keys_and_identities(study, data, tmp_path):
    systems, missing = study.systems.find_systems(["A", "Cu"], tmp_path, data)
    assert [s.name for s in systems] == ["A"] and missing == ["Cu"]
    a_study = study.study.Study(tmp_path, systems)
    unit = a_study.unit(systems[0], "default")
    assert unit.key == "A/default_30epochs_seed1"
    # thirty epochs of Adam are thirty epochs of Adam
    twins = [a_study.unit(systems[0], name) for name in ("adam", "adam-30")]
    assert twins[0].key == twins[1].key and twins[0].identity() == twins[1].identity()
    again = study.unit.unit_from(study.results.unit_tree(unit))
    assert again == unit and again.identity() == unit.identity()
    assert (
        len({a_study.unit(systems[0], n).key for n in ("default", "paper", "adam", "adam-300", "gekf")}) == 5
    )
    with pytest.raises(InputError, match="Xx"):
        study.systems.find_systems(["Xx"])
    with pytest.raises(InputError, match=r"nothing\.h5"):
        study.systems.find_systems(None, None, ["A=nothing.h5,nothing.h5"])


def test_every_part_asks_for_runs_that_the_package_accepts(study, data, tmp_path):
    """Each key stands for one run: settings are resolved, and no two different runs share a folder."""
    systems, _ = study.systems.find_systems(["A", "B"], tmp_path, data)
    a_study = study.study.Study(tmp_path, systems, optimizers=("default", "paper", "adam", "adam-300"))
    known: dict[str, dict] = {}
    for name in study.command.PARTS:
        units = getattr(study, name).units(a_study)
        assert units or name == "speed"
        for unit in units:
            identity = study.results.plain(unit.identity())
            assert known.setdefault(unit.key, identity) == identity
    assert len(known) > 100


def test_what_was_asked_adds_up(study, tmp_path):
    asked = study.asked
    asked.note(tmp_path, ["table1"], {"systems": ["Cu"], "optimizers": ["default"], "seeds": 2})
    asked.note(tmp_path, ["table1"], {"systems": ["Si", "Cu"], "optimizers": ["adam"], "epochs": 5.0})
    known = asked.read(tmp_path)["table1"]
    assert known["systems"] == ["Cu", "Si"] and known["optimizers"] == ["default", "adam"]
    assert (known["epochs"], known["seeds"]) == (5.0, 1)
    asked.note(tmp_path, ["table1"], {})
    assert asked.read(tmp_path)["table1"]["systems"] is None  # all of them
    asked.note(tmp_path, ["table1"], {"smoke": True, "systems": ["Si64"]})
    assert asked.read(tmp_path)["table1"]["systems"] == ["Si64"]


def test_schedule_is_dense_at_first_and_ends_with_the_run(study):
    due = sorted(study.one.schedule(80, 24_000))
    assert {10, 20, 40, 80, 120, 160, 240, 320, 400} <= set(due) and due[-1] == 24_000
    gaps = np.diff([k for k in due if k >= 800])
    assert len(due) < 120 and (gaps <= 0.1 * 24_000).all()
    assert study.one.schedule(3, 1) == {1}


def test_initial_weights_are_drawn_by_the_study(study, data):
    from kalmandp import Dataset, Potential

    frames = Dataset(data[0].partition("=")[2].partition(",")[0])
    p = Potential.create(
        ["Si"], rcut=4.0, frames=frames[:1], rng=np.random.default_rng(1), embedding=(20, 40), axis_neuron=4,
        fitting=(60, 60), fitting_resnet_dt=True,
    )  # fmt: skip
    rng = lambda: np.random.default_rng(3)
    for what, kind in (("W", "W"), ("idt", "idt")):
        init = study.unit.Init(what, 0.5, 2.0)
        w = study.one.redrawn(p, init, rng())
        assert (w == study.one.redrawn(p, init, rng())).all()
        for t in p.layout.tensors:
            part, old = w[t.start : t.stop], p.weights[t.start : t.stop]
            if t.kind != kind:
                assert (part == old).all()
            elif t.size >= 60:
                scaled = part * (np.sqrt(sum(t.shape)) if what == "W" else 1.0)
                # five standard errors of the mean and of the deviation
                assert abs(scaled.mean() - 0.5) < 5 * 2 / np.sqrt(t.size)
                assert abs(scaled.std() - 2) < 5 * 2 / np.sqrt(2 * t.size)


def test_time_left_is_estimated_from_what_was_seen(study, tmp_path):
    """Two runs of ten steps: the first takes twice as long as was expected, and so will the second."""
    from io import StringIO

    system = study.systems.System("A", tmp_path, tmp_path)
    a_study = study.study.Study(tmp_path, [system])
    jobs = [study.pool.Job(a_study.unit(system, "default", seed), tmp_path, 10, 3.0) for seed in (1, 2)]
    display = study.display.Display(jobs, 1, stream=StringIO())
    assert display.seconds_left() == 2 * 10 * 3.0
    display.begin(0, jobs[0])
    display.told(0, {"step": 1, "steps": 10})
    display.seen[display._kind(jobs[0])] = (24.0, 4 * 3.0)  # four more steps in 24 s
    display.slots[0].step = 5
    assert display.seconds_left() == 2 * (5 * 3.0 + 10 * 3.0)


def test_a_coarse_picture_of_P(study):
    from kalmandp.kalman.blocks import Blocks
    from kalmandp.kalman.covariance import DenseCovariance

    blocks = Blocks((300, 212))
    P = DenseCovariance(blocks, 1.0)
    first = np.eye(300)
    first[3, 200] = first[200, 3] = -7.0
    P.assign(0, first)
    picture = study.one.coarse(P, blocks)
    assert picture.shape == (256, 256)  # two weights a cell
    assert picture[1, 100] == picture[100, 1] == 7.0
    assert (np.diagonal(picture) == 1.0).all()
    assert picture[:150, 150:].max() == 0.0 and picture.sum() == 256 + 14
