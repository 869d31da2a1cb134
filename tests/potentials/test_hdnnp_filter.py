"""n2p2's filter against ten trajectories of nnp-train, weight by weight after each update."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hdnnp_cases import judges, read_frames, unpack
from numpy.testing import assert_allclose

from kalmandp.errors import InputError
from kalmandp.potentials.hdnnp.files import file_order, read_folder
from kalmandp.potentials.hdnnp.units import energy_factor, force_factor
from kalmandp.potentials.potential import Potential
from kalmandp.training.trainers.n2p2 import N2P2Filter, N2P2Settings, epoch_schedule, select
from kalmandp.training.trainers.n2p2_epochs import Factors, N2P2Training, Row

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
        factors = Factors(energy_factor(self.form), force_factor(self.form) * self.settings.force_weight)
        self.training = N2P2Training(
            self.potential, self.frames, self.settings, np.random.default_rng(1), factors, covariance
        )
        self.filter = self.training.filter

    @property
    def weights(self):
        return self.potential.weights

    def rows(self, rows):
        """H, ξ and the shares of the elements, of rows of one update as the judge names them."""
        return self.training.measure([
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
    every = [
        {"kind": "force", "structure": s, "atom": i, "component": c}
        for s, frame in enumerate(run.frames) for i in range(len(frame)) for c in "xyz"
    ]  # fmt: skip
    for epoch in (1, 5):
        run.weights[...] = run.expected(epoch - 1)
        _, xi, _ = run.rows(every)
        chosen = select(xi, 6, run.settings.selection_mode, np.random.default_rng(1))
        rows = next(u["rows"] for u in run.trajectory["updates"] if u["epoch"] == epoch)
        assert [every[k] for k in chosen] == rows


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
        training = N2P2Training(run.potential, run.frames, settings, np.random.default_rng(3))
        size = lambda t=training: [np.sqrt((t._sizes(rows) ** 2).mean()) for rows in (t.energies, t.forces)]
        before = size()
        for _ in range(8):
            made = training.epoch()
            assert made == {"energy": 5, "force": int(0.2 * len(training.forces))}
        after = size()
        assert after[0] < 0.3 * before[0] and after[1] < 0.9 * before[1], (before, after)
        finals.append(run.potential.weights.tobytes())
    assert finals[0] == finals[1]


def test_data_that_cannot_be_learnt(tmp_path):
    run = Run("k05_two_standard_E", tmp_path)
    bare = [dataclasses.replace(run.frames[0], forces=None)]
    forces = run.settings._replace(short_force_fraction=1.0)
    with pytest.raises(InputError, match="no energy or no forces"):
        N2P2Training(run.potential, bare, forces, np.random.default_rng(1))
    with pytest.raises(InputError, match="updates of an epoch is 0"):
        few = run.settings._replace(short_energy_fraction=0.1)
        N2P2Training(run.potential, bare, few, np.random.default_rng(1))


def test_selection():
    rng = np.random.default_rng(1)
    errors = np.array([0.1, -0.5, 0.3, 0.2])
    assert sorted(select(errors, 4, 0, rng)) == [0, 1, 2, 3]
    assert select(errors, 2, 1, rng).tolist() == [1, 2]
    for _ in range(20):
        assert select(errors, 1, 2, rng, threshold=0.4, trials=4).tolist() == [1]
        # nothing is above: the worst of those tried
        assert select(errors, 1, 2, rng, threshold=1.0, trials=4).tolist() == [1]
        assert len(set(select(errors, 3, 2, rng, threshold=0.25, trials=3).tolist())) == 3
    with pytest.raises(InputError, match="candidates taken"):
        select(errors, 5, 0, rng)


def test_settings_that_cannot_be():
    for training, wanted in (
        ({"kalman_type": "2"}, "kalman_type is 2"),
        ({"kalman_epsilon": "x"}, "kalman_epsilon is 'x'"),
        ({"kalman_epsilon": "0"}, "kalman_epsilon is 0.0"),
        ({"jacobian_mode": "3"}, "jacobian_mode is 3"),
        ({"kalman_eta": "0"}, "kalman_eta is 0.0"),
    ):
        with pytest.raises(InputError, match=wanted):
            N2P2Settings.read(training)
    assert N2P2Settings.read({"kalman_type": "1"}).kalman_epsilon == 0.1
    assert N2P2Settings.read({}).updates(10, 100) == (10, 0)
    assert N2P2Settings.read({"force_energy_ratio": "2.5"}).updates(10, 100) == (10, 25)
