"""The tiled covariance against the plain one: values, bits, positive definiteness, drift, restart."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numba
import numpy as np
import pytest
from filter_checks import random_updates
from numpy.testing import assert_allclose
from textbook import bits, dense_covariance

from kalmandp.engines.cpu import threads
from kalmandp.engines.cpu.covariance import gain
from kalmandp.engines.cpu.covariance import tiled as tiled
from kalmandp.engines.cpu.covariance.tiled import TiledCovariance, covariance_cases
from kalmandp.engines.cpu.covariance.tiling import make_tiling
from kalmandp.engines.cpu.threads import Team
from kalmandp.engines.cuda.covariance import CoupledCudaCovariance, CudaCovariance
from kalmandp.errors import InputError
from kalmandp.kalman import RLEKF, Blocks, Part, covariance_memory, partition
from kalmandp.kalman.coupled import WINDOW, CoupledCovariance
from kalmandp.kalman.covariance import DenseCovariance
from kalmandp.registry import COVARIANCES, find

#: Sizes around the tile's (32 in float64, 64 in float32), and blocks of one weight.
ODD = Blocks((1, 33, 200, 64, 97, 1, 131))


def run(kalman, m, updates, seed=3):
    for H, error, R in random_updates(len(kalman.weights), m, updates, seed):
        kalman.update(H, error, R)
    return kalman


def compare(kalman, twin, rtol):
    """Weights, and P block by block relative to the block's largest entry."""
    scale = np.abs(kalman.weights).max()
    assert_allclose(twin.weights, kalman.weights, rtol=0, atol=rtol * scale)
    for l in range(len(kalman.blocks)):
        P = kalman.covariance.dense(l)
        assert_allclose(twin.covariance.dense(l), P, rtol=0, atol=rtol * np.abs(P).max())
    assert_allclose(twin.covariance.diagonal(), kalman.covariance.diagonal(), rtol=10 * rtol)
    assert_allclose(twin.covariance.trace(), kalman.covariance.trace(), rtol=rtol)


@pytest.mark.parametrize("case", covariance_cases(), ids=lambda c: f"{c.twin.__name__}-{c.dtype}-m{c.m}")
def test_twin(case):
    w0 = np.random.default_rng(0).normal(size=case.blocks.n_weights)
    kalman, twin = (
        run(RLEKF(w0, case.blocks, covariance=c, dtype=case.dtype), case.m, case.updates)
        for c in (case.reference, case.twin)
    )
    compare(kalman, twin, case.rtol)


@pytest.mark.parametrize("name", ["tiled", "tiled coupled", "dense coupled"])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_gain_is_that_of_the_reference(name, m):
    """G, the new weights and both norms of one update; 527 weights are two whole pieces and a part."""
    rng = np.random.default_rng(m)
    K_qw, weights, z_q = rng.normal(size=(m, 527)), rng.normal(size=527), rng.normal(size=m)
    C_qq = np.tril(rng.normal(size=(m, m))) + 2 * m * np.eye(m)
    wanted = DenseCovariance(ODD).gain(K_qw.copy(), C_qq, z_q, weights)
    got = find(COVARIANCES, name, "covariance")(ODD).gain(K_qw.copy(), C_qq, z_q, weights)
    for one, other in zip(got, wanted, strict=True):  # sums of 527 numbers in another order
        assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    assert got.step_square == pytest.approx(((got.weights - weights) ** 2).sum(), rel=1e-12)


class NoScale(TiledCovariance):
    """Pending columns added as G, not G/√s."""

    def downdate(self, G_qw, lam):
        scale, self._scale = self._scale, 1.0
        super().downdate(G_qw, lam)
        self._scale *= scale


class FoldsOnce(TiledCovariance):
    """Some pending columns kept after they were folded in."""

    def fold(self):
        super().fold()
        self._n_pending = 4


class DiagonalTwice(TiledCovariance):
    """A tile of the diagonal counted as it stands and transposed."""

    def project(self, H_qw):
        K_qw, HPH_qq = super().project(H_qw)
        t, j = self._tile_of_weight()
        A = self._tiles[self._diagonal_tiles()][t, j, j]
        return K_qw + 1e-6 * A * H_qw, HPH_qq


@pytest.mark.parametrize("mistake", [NoScale, FoldsOnce, DiagonalTwice])
def test_planted_mistakes_are_found(mistake):
    """The parity check of test_twin, on a twin that is wrong."""
    kalman, twin = (run(RLEKF(np.zeros(527), ODD, covariance=c), 5, 40) for c in ("dense", mistake))
    with pytest.raises(AssertionError):
        compare(kalman, twin, 1e-10)


@pytest.mark.parametrize("P0", [0.01, np.linspace(0.1, 3, 527)])
def test_initial_variances(P0):
    kalman = RLEKF(np.zeros(527), ODD, P0=P0, covariance="tiled")
    assert_allclose(dense_covariance(kalman), np.diag(np.broadcast_to(P0, 527)), rtol=0)
    assert_allclose(kalman.covariance.diagonal(), np.broadcast_to(P0, 527), rtol=0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_same_bits_for_any_number_of_threads(dtype, monkeypatch):
    """Enough work that it is shared, with m = 1 and several panels, and folds between them."""
    monkeypatch.setattr(threads, "WORTH_SHARING", 0)

    def state_with(n_threads):
        monkeypatch.setattr(numba, "get_num_threads", lambda: n_threads)
        kalman = RLEKF(np.zeros(1700), (900, 1, 799), covariance="tiled", dtype=dtype)
        run(kalman, 1, 40)
        return bits(run(kalman, 35, 2))

    assert state_with(1) == state_with(2) == state_with(5)


def test_numbas_number_of_threads_is_obeyed():
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = RLEKF(np.zeros(1700), (900, 800), covariance="tiled")
        run(one, 2, 3)
        assert not one.covariance._team._helpers
    finally:
        numba.set_num_threads(before)
    assert bits(run(RLEKF(np.zeros(1700), (900, 800), covariance="tiled"), 2, 3)) == bits(one)


def test_stays_symmetric_and_positive_definite():
    """Measurements far more exact than the prior, which is where a covariance loses its definiteness."""
    kalman = RLEKF(np.zeros(150), (70, 80), P0=10.0, lam=0.95, covariance="tiled")
    rng = np.random.default_rng(1)
    for _ in range(500):
        kalman.update(rng.normal(size=(2, 150)), rng.normal(size=2), 1e-4)
    for l in range(2):
        P = kalman.covariance.dense(l)
        assert (P == P.T).all()
        assert np.linalg.eigvalsh(P).min() > 0


def exact_information(N, P0, updates, lam, seed):
    """P⁻¹ by summing λP⁻¹ + HᵀH/R: sums of positive terms do not drift."""
    Y = np.eye(N) / P0
    for H, _, R in random_updates(N, 1, updates, seed):
        Y = lam * Y + H.T @ H / R
    return Y


def drift(updates, covariance, dtype):
    N, lam = 40, 0.995
    kalman = RLEKF(np.zeros(N), lam=lam, nu=1.0, covariance=covariance, dtype=dtype)
    run(kalman, 1, updates)
    P = np.linalg.inv(exact_information(N, 1.0, updates, lam, 3))
    got = kalman.covariance.dense(0)
    assert np.linalg.eigvalsh(got).min() > 0
    return np.abs(got - P).max() / np.abs(P).max()


@pytest.mark.parametrize("covariance", ["dense", "tiled"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-4)])
def test_forgets_its_rounding_errors(covariance, dtype, tolerance):
    """λ < 1: the filter forgets old errors as it forgets old data, so the error does not grow."""
    assert drift(3000, covariance, dtype) < tolerance


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-4)])
def test_no_drift_over_many_updates(dtype, tolerance):
    """A hundred times the 1/(1 − λ) = 200 updates that the filter remembers."""
    assert drift(20_000, "tiled", dtype) < tolerance


def test_nothing_grows_with_P_in_an_update():
    """After the first update of its kind, an update allocates a few vectors of N numbers."""
    import tracemalloc

    N = 3000
    kalman = RLEKF(np.zeros(N), [N], covariance="tiled")
    run(kalman, 1, 33)
    tracemalloc.start()
    run(kalman, 1, 33)  # a fold among them
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 8 * N < kalman.covariance.nbytes / 30


def test_memory_of_the_papers_network():
    """Tiles, pending columns and work space against the halves: nothing is made but the tiling."""
    sizes = [25, 25, 625, 25, 625, 25] * 2 + [20000, 50, 2500, 50, 2500, 50, 50, 1] * 2
    blocks = partition([Part(str(i), n, str(i)) for i, n in enumerate(sizes)], "RLEKF-code")
    for dtype in ("float64", "float32"):
        halves = covariance_memory(blocks, dtype).halves
        itemsize = np.dtype(dtype).itemsize
        T = 256 // itemsize
        tiling = make_tiling(blocks, T)
        tiles = tiling.n_tiles * T * T * itemsize
        assert tiles < 1.02 * halves
        pending = len(tiling.rows) * tiled.PENDING * T * itemsize
        for m, limit in ((1, 1.06), (72, 1.14)):
            width = min(m, tiled.PANEL)
            sums = tiling.n_sums * T * 8 * width
            assert tiles + pending + sums < limit * halves


@pytest.mark.parametrize("covariance", ["dense", "tiled"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("m", [1, 5])
def test_restart_goes_on_with_the_same_bits(covariance, dtype, m, tmp_path):
    """Through an HDF5 file, at a moment when columns are pending."""
    w0 = np.random.default_rng(0).normal(size=527)
    kalman = RLEKF(w0, ODD, covariance=covariance, dtype=dtype, process_noise=1e-3)
    run(kalman, m, 45)
    with h5py.File(tmp_path / "filter.h5", "w") as file:
        for name, value in kalman.state(copy=False).items():
            file[name] = value
    run(kalman, m, 20, seed=8)
    with h5py.File(tmp_path / "filter.h5") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        state = {name: file[name] if name.startswith("P/") else file[name][()] for name in names}
        again = RLEKF.from_state(state)
    assert again.updates == 45
    run(again, m, 20, seed=8)
    assert bits(again) == bits(kalman)


def test_a_state_is_a_copy_unless_asked_otherwise():
    kalman = run(RLEKF(np.zeros(527), ODD, covariance="tiled"), 1, 5)
    state, before = kalman.state(), bits(kalman)
    assert np.shares_memory(kalman.state(copy=False)["P/tiles"], kalman.covariance._tiles)
    run(kalman, 1, WINDOW + 16)  # through a fold, which writes the tiles themselves
    assert bits(RLEKF.from_state(state)) == before


@pytest.mark.parametrize(("one", "other"), [("dense", "tiled"), ("tiled", "dense")])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_run_can_go_on_with_the_other_covariance(one, other, dtype):
    kalman = run(RLEKF(np.zeros(527), ODD, covariance=one, dtype=dtype), 2, WINDOW // 2 + 8)
    moved = RLEKF.from_state(kalman.state(), covariance=other)
    assert moved.state()["covariance"] == other and moved.covariance.dtype == dtype
    compare(kalman, moved, {"float64": 1e-14, "float32": 1e-6}[dtype])
    compare(*(run(k, 2, WINDOW // 2) for k in (kalman, moved)), {"float64": 1e-12, "float32": 1e-5}[dtype])


def test_damaged_states_are_refused():
    state = run(RLEKF(np.zeros(527), ODD, covariance="tiled"), 1, 5).state()
    damaged = [
        ({"P/tiles": None}, "has no 'tiles'"),
        ({"P/tiles": state["P/tiles"][:-1]}, "tiles shape"),
        ({"P/tiles": state["P/tiles"].astype(int)}, "tiles type is int64; expected float32 or float64"),
        ({"P/pending": state["P/pending"][:, :, :7]}, "pending shape"),
        ({"P/pending": np.zeros((len(state["P/pending"]), 99, 32))}, "pending columns stored is 99"),
        ({"P/scale": -1.0}, "the scale stored is -1.0"),
        ({"lam": None}, r"without \['lam'\]"),
        ({"lam": 1.5}, "lam is 1.5"),
        ({"block_sizes": [500]}, "the blocks' sum is 500; expected 527"),
        ({"weights": np.full(527, np.nan)}, "not finite"),
        ({"covariance": "sparse"}, "covariance is 'sparse'; expected one of"),
    ]
    for change, message in damaged:
        bad = {name: value for name, value in {**state, **change}.items() if value is not None}
        with pytest.raises(InputError, match=message):
            RLEKF.from_state(bad)


def test_the_filter_alone_needs_no_numba():
    code = (
        "import sys, numpy as np; from kalmandp.kalman import RLEKF; "
        "RLEKF(np.zeros(3)).update(np.ones(3), 1.0, 1.0); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_covariance_that_is_registered_has_a_twin_test():
    twins = {case.twin for case in covariance_cases()} | {DenseCovariance, CoupledCovariance}
    twins |= {CudaCovariance, CoupledCudaCovariance}  # in tests/engines/test_cuda_covariance.py
    assert {find(COVARIANCES, name, "covariance") for name in COVARIANCES} == twins


def test_the_length_of_a_step_hangs_on_no_place_in_memory():
    """Once its last bit did: where the new weights came to lie just behind the old ones."""
    N, m = 700, 3
    rng = np.random.default_rng(0)
    K_qw, C_qq, z_q = rng.normal(size=(m, N)), np.linalg.cholesky(np.eye(m) + 0.5), rng.normal(size=m)
    found = set()
    for gap in (0, 8, 100, N):
        memory = np.zeros(2 * N + gap)
        weights, new, parts = memory[:N], memory[N + gap :], np.empty((-(-N // gain.PIECE), 2))
        Team().run(gain.gain, 1, K_qw.copy(), C_qq, z_q, weights, new, parts)
        found.add(parts.tobytes())
    assert len(found) == 1
