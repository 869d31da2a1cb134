"""n2p2's filter against ten trajectories of nnp-train, weight by weight after each update."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hdnnp_cases import judges, read_frames, unpack
from numpy.testing import assert_allclose

from kalmandp.errors import InputError
from kalmandp.potentials.hdnnp.files import file_order, read_folder
from kalmandp.potentials.hdnnp.units import net_units
from kalmandp.potentials.potential import Potential
from kalmandp.training.config.n2p2 import N2P2Settings
from kalmandp.training.data.update_feed import Row, UpdateFeed, epoch_schedule
from kalmandp.training.measurements.measurement import make_sample
from kalmandp.training.trainers.n2p2 import N2P2Filter
from kalmandp.training.trainers.n2p2_trainer import N2P2Trainer

NAMES = sorted(judges("filter"))
#: Weights are of order one; the judge's own error is 1e-13.
TOLERANCE = 1e-12


class Run:
    """A trajectory: its model, its structures, and n2p2's training of them."""

    def __init__(self, name, folder, covariance="tiled", engine=None):
        judge = judges("filter")[name]
        self.trajectory = judge["trajectory"]
        self.model = model = read_folder(unpack(judge["files"], folder), "metal")
        self.form = model.form
        self.settings = N2P2Settings.read(model.training)
        self.frames = read_frames(judge["files"]["input.data"], self.form.type_map)
        self.order = file_order(self.form)
        self.potential = Potential(
            self.form, model.weights, bias_atom_e=model.bias_t, engine=engine, **model.statistics
        )
        self.items = self.potential.engine.frames(self.frames)
        self.trainer = self.trained(self.settings, covariance)
        self.filter = self.trainer.filter
        self.weights = self.trainer._weights  # changed in place by the filter
        self.potential.share_weights(self.weights)

    def trained(self, settings, covariance="tiled"):
        u = self.feed(settings).steps_per_epoch
        return N2P2Trainer(self.potential, settings, u, net_units(self.form), covariance=covariance)

    def feed(self, settings, seed=1):
        none = {"energy": [], "force": []}
        return UpdateFeed(settings, [len(f) for f in self.frames], none, np.random.default_rng(seed))

    def rows(self, rows):
        """H, ξ and the shares of the elements, of rows of one update as the judge names them."""
        return self.trainer.measure(make_sample(self.potential, self.frames), [
            Row(r["structure"]) if r["kind"] == "energy"
            else Row(r["structure"], r["atom"], "xyz".index(r["component"]))
            for r in rows
        ])  # fmt: skip

    def expected(self, epoch):
        w = np.empty(len(self.weights))
        stored = self.trajectory["weights"][epoch]
        # per element, in the order of n2p2's elements
        values = list(stored.values()) if isinstance(stored, dict) else stored
        for order, numbers in zip(self.order, values, strict=True):
            w[order] = numbers
        return w


@pytest.mark.parametrize("covariance", ["tiled", "dense"])
@pytest.mark.parametrize("name", NAMES)
def test_ten_updates(name, covariance, tmp_path):
    run = Run(name, tmp_path, covariance)
    assert run.filter.u == run.trajectory["updates_per_epoch"]
    assert_allclose(run.weights, run.expected(0), rtol=0, atol=1e-15)
    kalman = run.filter
    by_epoch = {}
    for update in run.trajectory["updates"]:
        by_epoch.setdefault(update["epoch"], []).append(update["rows"])
    for epoch in range(1, 11):
        for rows in by_epoch[epoch]:
            kalman.update(*run.rows(rows))
        wanted = run.expected(epoch)
        assert_allclose(run.weights, wanted, rtol=0, atol=TOLERANCE, err_msg=f"epoch {epoch}")
        assert np.abs(wanted - run.expected(epoch - 1)).max() > 1e-8, "the judge moves"
    # what nnp-train prints of the filter: mean |P_ii|, mean |P_ij|, q, eta or lambda, to eight digits
    status = list(run.trajectory["updater"].values())
    for part, lines in zip(kalman.filters, status, strict=True):
        P = part.covariance.dense(0)
        n, last = len(P), lines[-1]
        off = (np.abs(P).sum() - np.abs(np.diagonal(P)).sum()) / (n * (n - 1))
        second = kalman.eta if run.settings.kalman_type == 0 else kalman.lam
        assert_allclose([np.abs(np.diagonal(P)).mean(), off], last[2:4], rtol=2e-8)
        assert_allclose([kalman.q, second], last[6:8], rtol=2e-8)


def test_the_worst_forces_come_first(tmp_path):
    """k10: the six largest errors among all force components, the largest first."""
    run = Run("k10_two_standard_F_six_rows_worst_first", tmp_path)
    for epoch in (1, 5):
        run.weights[...] = run.expected(epoch - 1)
        rows = next(u["rows"] for u in run.trajectory["updates"] if u["epoch"] == epoch)
        chosen = run.feed(run.settings).next(lambda kind, f: run.trainer.sizes(kind, *run.items[f]))
        assert chosen == [Row(r["structure"], r["atom"], "xyz".index(r["component"])) for r in rows]


@pytest.mark.parametrize("name", NAMES)
def test_updates_of_an_epoch(name, tmp_path):
    run = Run(name, tmp_path)
    n_forces = sum(3 * len(f) for f in run.frames)
    kinds = epoch_schedule(run.settings, len(run.frames), n_forces, np.random.default_rng(1))
    stored = [u["rows"][0]["kind"] for u in run.trajectory["updates"] if u["epoch"] == 1]
    assert sorted(kinds) == sorted(stored)


def test_the_state_goes_on_with_the_same_bits(tmp_path):
    for name in ("k01_one_standard_E", "k07_two_fading_F_per_element"):
        run = Run(name, tmp_path / name)
        updates = [u["rows"] for u in run.trajectory["updates"]]
        kalman = run.filter
        for rows in updates[:5]:
            kalman.update(*run.rows(rows))
        state = kalman.state()
        for rows in updates[5:]:
            kalman.update(*run.rows(rows))
        first = run.weights.copy()
        run.weights[...] = 0.0
        again = N2P2Filter(run.weights, run.settings, 1, run.filter.parts)
        again.restore(state)
        for rows in updates[5:]:
            again.update(*run.rows(rows))
        assert (run.weights == first).all() and again.eta == kalman.eta and again.q == kalman.q


def test_both_engines_give_the_row(tmp_path):
    rows = Run("k04_two_fading_EF_normalised", tmp_path).trajectory["updates"][1]["rows"]
    runs = [Run("k04_two_fading_EF_normalised", tmp_path, engine=e) for e in ("numba", "numpy")]
    for got, wanted in zip(*(run.rows(rows) for run in runs), strict=True):
        assert_allclose(got, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_epochs_lower_the_errors(mode, tmp_path):
    """Five structures are learnt; the same seed gives the same bits."""
    finals = []
    for n in range(2):
        run = Run("k05_two_standard_E", tmp_path / str(n))
        settings = run.settings._replace(
            selection_mode=mode, short_energy_fraction=1.0, short_force_fraction=0.2, force_weight=1.0
        )
        trainer, feed = run.trained(settings), run.feed(settings, seed=3)
        n_forces = int(0.2 * feed.n_candidates("force"))
        assert feed.steps_per_epoch == 5 + n_forces

        def size(run=run, trainer=trainer):
            every = [[trainer.sizes(kind, *run.items[f]) for f in range(5)] for kind in ("energy", "force")]
            return [np.sqrt((np.concatenate(sizes) ** 2).mean()) for sizes in every]

        before, made = size(), []
        for _ in range(8 * feed.steps_per_epoch):
            chosen = [run.items[f] for f in trainer.choose(feed, run.items)]
            sample = make_sample(run.potential, [f for f, _ in chosen], [pairs for _, pairs in chosen])
            made += trainer.step(sample)
        assert (made.count("energy"), made.count("force")) == (8 * 5, 8 * n_forces)
        assert feed.progress == 8.0
        after = size()
        assert after[0] < 0.3 * before[0] and after[1] < 0.9 * before[1], (before, after)
        finals.append(run.potential.weights.tobytes())
    assert finals[0] == finals[1]


def test_data_that_cannot_be_learnt(tmp_path):
    run = Run("k05_two_standard_E", tmp_path)
    [bare] = [dataclasses.replace(run.frames[0], forces=None)]
    with pytest.raises(InputError, match="has no forces"):
        run.trainer.measure(make_sample(run.potential, [bare]), [Row(0, 1, 2)])
    with pytest.raises(InputError, match="updates of an epoch is 0"):
        run.feed(run.settings._replace(short_energy_fraction=0.1))


def feed(size_fk, rng, **stated):
    """A feed of structures of four atoms, and what it takes for the errors of their forces."""
    settings = N2P2Settings.of({"short_energy_fraction": 0.0, "short_force_fraction": 1.0, **stated})
    lacking = {"energy": [], "force": []}
    return UpdateFeed(settings, [len(s) // 3 for s in size_fk], lacking, rng), lambda kind, f: size_fk[f]


def test_selection():
    """All of them once; the worst first; the first above a share of the RMSE, else the worst tried."""
    rng = np.random.default_rng(1)
    size_fk = [np.array([0.1, 0.5, 0.3]), np.array([0.2, 0.0, 0.1])]
    own, sizes = feed(size_fk, rng)
    rows = [row for _ in range(6) for row in own.next(sizes)]
    assert sorted(rows) == [Row(f, 0, c) for f in (0, 1) for c in range(3)]
    own, sizes = feed(size_fk, rng, selection_mode_force=1, task_batch_size_force=2)
    assert [own.next(sizes) for _ in range(2)] == [[Row(0, 0, 1), Row(0, 0, 2)], [Row(1, 0, 0), Row(0, 0, 0)]]
    rmse = np.sqrt(np.mean(np.square(size_fk)))
    for threshold in (0.4 / rmse, 1e9):  # one is above; none is, and all are tried
        for _ in range(20):
            stated = {"rmse_threshold_force": threshold, "rmse_threshold_trials": 6, "selection_mode": 2}
            own, sizes = feed(size_fk, rng, **stated)
            assert own.next(sizes) == [Row(0, 0, 1)]


def test_a_selection_that_changes_with_the_epoch():
    """The worst first in epoch 0, at random in 1 (the order that is left of 0 is not gone on with)."""
    size_fk = [np.linspace(1.0, 2.0, 30), np.linspace(0.0, 0.9, 30)]
    own, sizes = feed(size_fk, np.random.default_rng(1), selection_mode=(1, 1, 0), short_force_fraction=0.25)
    row = lambda: 3 * (got := own.next(sizes)[0]).atom + got.axis - 30 * got.structure
    assert [row() for _ in range(15)] == list(range(29, 14, -1))
    second = [row() for _ in range(15)]
    assert second != list(range(14, -1, -1)) and len(set(second)) == 15
    s = N2P2Settings.read({"selection_mode": "0 10 1 5 2", "selection_mode_energy": "1"})
    assert [s.mode("force", e) for e in (0, 4, 5, 9, 10, 99)] == [0, 0, 2, 2, 1, 1]
    assert s.mode("energy", 7) == 1


def test_repeated_energies_are_those_of_the_forces_before():
    rng = np.random.default_rng(2)
    stated = {"short_energy_fraction": 1.0, "short_force_fraction": 0.5, "task_batch_size_force": 2}
    size_fk = [np.ones(3), np.ones(6), np.ones(3)]
    own, sizes = feed(size_fk, rng, **stated, repeated_energy_update=True)
    assert own.steps_per_epoch == 3 + 2 * 3
    made = [own.next(sizes) for _ in range(18)]
    of_forces = [n for n, rows in enumerate(made) if rows[0].atom >= 0]
    assert len(of_forces) == 6
    for n in of_forces:
        assert made[n + 1] == [Row(f) for f in dict.fromkeys(row.structure for row in made[n])]
    other, _ = feed(size_fk, rng, **stated, repeated_energy_update=True)
    while other.next(sizes)[0].atom < 0:
        pass
    again, _ = feed(size_fk, rng, **stated, repeated_energy_update=True)
    again.restore(other.state())  # between a force and its energies
    assert again.next(sizes) == other.next(sizes)
    settings = N2P2Settings.of({**stated, "repeated_energy_update": True})
    with pytest.raises(InputError, match="forces and no energy is 1"):
        UpdateFeed(settings, [2, 1], {"energy": [0], "force": []}, rng)


def test_structures_without_a_label_are_no_candidates():
    settings = N2P2Settings.of({"force_energy_ratio": 2})
    own = UpdateFeed(settings, [2, 1, 3], {"energy": [0], "force": [1]}, np.random.default_rng(1))
    assert (own.n_candidates("energy"), own.n_candidates("force"), own.steps_per_epoch) == (2, 15, 2 + 4)
    rows = [own.next(lambda kind, f: np.zeros(9))[0] for _ in range(30)]
    assert {r.structure for r in rows if r.atom < 0} == {1, 2}
    of_forces = {r for r in rows if r.atom >= 0}
    assert {r.structure for r in of_forces} == {0, 2} and len(of_forces) == 15
    assert {r.atom for r in of_forces if r.structure == 0} == {0, 1}


def test_settings_that_cannot_be():
    for training, wanted in (
        ({"kalman_type": "2"}, "kalman_type is 2"),
        ({"kalman_epsilon": "x"}, "kalman_epsilon is 'x'"),
        ({"kalman_epsilon": "0"}, "kalman_epsilon is 0.0"),
        ({"jacobian_mode": "3"}, "jacobian_mode is 3"),
        ({"kalman_eta": "0"}, "kalman_eta is 0.0"),
        ({"kalman_type": "1", "kalman_lambda_short": "1.1"}, "kalman_lambda_short is 1.1"),
        ({"short_force_fraction": "1.5"}, "short_force_fraction is 1.5; expected a share"),
        ({"short_force_fraction": "0.5", "force_energy_ratio": "3"}, "force_energy_ratio is 3.0"),
        ({"selection_mode_force": "4"}, "selection_mode_force is 4"),
        ({"selection_mode": "0 5"}, "selection_mode is .0, 5.; expected one of"),
        ({"selection_mode": "0 5 3"}, "selection_mode is .0, 5, 3."),
        ({"selection_mode": "0 x 1"}, "selection_mode is '0 x 1'"),
        ({"task_batch_size_force": "0"}, "task_batch_size_force is 0"),
        ({"force_weight": "0"}, "force_weight is 0"),
    ):
        with pytest.raises(InputError, match=wanted):
            N2P2Settings.read(training)
    assert N2P2Settings.read({"kalman_type": "1"}).kalman_epsilon == 0.1
    assert N2P2Settings.read({}).updates(10, 100) == (10, 0)
    own = {
        "selection_mode": "2",
        "selection_mode_energy": "0",
        "rmse_threshold": "0.5",
        "rmse_threshold_force": "2",
    }
    s = N2P2Settings.read({**own, "short_energy_error_threshold": "0.25", "rmse_threshold_trials_force": "7"})
    assert (s.mode("energy"), s.mode("force"), s.trials("energy"), s.trials("force")) == (0, 2, 3, 7)
    assert (s.threshold("energy"), s.threshold("force")) == (0.25, 2.0)
    assert N2P2Settings.read({"force_energy_ratio": "2.5"}).updates(10, 100) == (10, 25)
