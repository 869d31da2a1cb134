"""Updates by many numbers at once: against the reference, bits, restart, the order of tasks, products."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from filter_checks import random_updates
from numba import njit
from numpy.testing import assert_allclose, assert_array_equal
from textbook import bits

from kalmandp.engines.cpu import products, threads
from kalmandp.engines.cpu.cholesky import factor
from kalmandp.engines.cpu.covariance import matrix, rounds
from kalmandp.engines.cpu.covariance.matrix import MatrixUpdates
from kalmandp.engines.cpu.covariance.tiled import PANEL, TiledCovariance
from kalmandp.engines.cpu.covariance.tiling import make_tiling
from kalmandp.errors import FilterError
from kalmandp.kalman import RLEKF, Blocks, prediction_variance
from kalmandp.kalman.cholesky import cholesky

#: Sizes around a tile (32 or 64) and a square of tiles (128), and blocks of one weight.
ODD = Blocks((1, 33, 300, 64, 128, 1, 131))


def mixed(kalman, m, seed=3):
    """Updates by m numbers, and by few before, between and after: rows that wait, and a factor s."""
    for count, updates in ((1, 2), (m, 1), (3, 5), (m, 2), (1, 1)):
        for H, error, R in random_updates(len(kalman.weights), count, updates, seed + count):
            kalman.update(H, error, R)
    return kalman


def compare(kalman, twin, rtol):
    assert_allclose(twin.weights, kalman.weights, rtol=0, atol=rtol * np.abs(kalman.weights).max())
    for l in range(len(kalman.blocks)):
        P = kalman.covariance.dense(l)
        got = twin.covariance.dense(l)
        assert (got == got.T).all()
        assert_allclose(got, P, rtol=0, atol=rtol * np.abs(P).max())


@pytest.mark.parametrize("m", [17, 32, 33, 64, 100, 257, 400])
@pytest.mark.parametrize("coupled", ["", " coupled"])
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-5)])
def test_twin(m, coupled, dtype, rtol):
    """Rounding: sums of hundreds of numbers in another order, times ten updates."""
    w0 = np.random.default_rng(0).normal(size=ODD.n_weights)
    kalman, twin = (
        mixed(RLEKF(w0, ODD, covariance=name + coupled, dtype=dtype, process_noise=1e-4), m)
        for name in ("dense", "tiled")
    )
    compare(kalman, twin, rtol)


def test_one_block_of_many_squares():
    """An odd number of squares of tiles, the last one ragged."""
    kalman, twin = (mixed(RLEKF(np.zeros(590), [590], covariance=name), 50) for name in ("dense", "tiled"))
    compare(kalman, twin, 1e-12)


class DiagonalOnce(TiledCovariance):
    """A diagonal entry counted a little too much."""

    def project(self, H_qw):
        K_qw, HPH_qq = super().project(H_qw)
        K_qw[:, 300] *= 1 + 1e-9
        return K_qw, HPH_qq


class Forgets(TiledCovariance):
    """Rows that waited are left out when the rows of a matrix go straight into the tiles."""

    def downdate(self, G_qw, lam):
        if len(G_qw) > PANEL:
            self._n_pending = 0
        super().downdate(G_qw, lam)


@pytest.mark.parametrize("mistake", [DiagonalOnce, Forgets])
def test_planted_mistakes_are_found(mistake):
    kalman, twin = (mixed(RLEKF(np.zeros(658), ODD, covariance=c), 40) for c in ("dense", mistake))
    with pytest.raises(AssertionError):
        compare(kalman, twin, 1e-12)


@pytest.mark.parametrize("name", ["tiled", "tiled coupled"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_same_bits_for_any_number_of_threads(name, dtype, monkeypatch):
    """Several groups of panels, rows that wait, and work that is shared always."""
    monkeypatch.setattr(threads, "WORTH_SHARING", 0)

    def state_with(n_threads):
        monkeypatch.setattr(numba, "get_num_threads", lambda: n_threads)
        return bits(mixed(RLEKF(np.zeros(1700), (900, 1, 799), covariance=name, dtype=dtype), 120))

    assert state_with(1) == state_with(2) == state_with(3)


@pytest.mark.parametrize("name", ["tiled", "tiled coupled"])
def test_restart_goes_on_with_the_same_bits(name):
    """From a moment when rows wait, so that the next matrix finds a scale and pending rows."""
    kalman = mixed(RLEKF(np.zeros(658), ODD, covariance=name), 70)
    assert len(kalman.state()["P/pending"][0]) > 0
    again = RLEKF.from_state(kalman.state())
    assert bits(mixed(again, 70, seed=8)) == bits(mixed(kalman, 70, seed=8))


@pytest.mark.parametrize("name", ["tiled", "tiled coupled"])
def test_projection_only_reads(name):
    """Also where rows wait; a measurement that is left out leaves every bit as it was."""
    kalman = mixed(RLEKF(np.zeros(658), ODD, covariance=name), 40)
    before = bits(kalman)
    H, error, R = next(random_updates(658, 90, 1))
    prediction_variance(kalman, H)
    assert not kalman.update(H, error, R, accept=lambda error, S: False).accepted
    assert bits(kalman) == before


@pytest.mark.parametrize("covariance", ["dense", "tiled", "dense coupled", "tiled coupled"])
def test_variances_of_many_predictions(covariance):
    """Σ_l H_l P_l H_lᵀ, row by row from the blocks themselves; with U where blocks are coupled."""
    kalman = mixed(RLEKF(np.zeros(658), ODD, covariance=covariance), 40)
    H = next(random_updates(658, 300, 1))[0]
    many = prediction_variance(kalman, H)
    one = np.concatenate([prediction_variance(kalman, h) for h in H[::37]])
    assert_allclose(many[::37], one, rtol=1e-12)


@pytest.mark.parametrize("m", [17, 48, 73, 200, 400])
def test_cholesky(m):
    rng = np.random.default_rng(m)
    A = rng.normal(size=(m, m))
    S, error = A @ A.T + 0.1 * np.eye(m), rng.normal(size=m)
    C, z, n = factor(S, error)
    wanted, z_wanted, _ = cholesky(S, error)
    assert n == m and (C == np.tril(C)).all()
    # S = C Cᵀ to m roundings: what any Cholesky factor promises
    assert_allclose(C @ C.T, S, rtol=0, atol=4 * m * np.finfo(float).eps * np.abs(S).max())
    condition = np.linalg.cond(S)
    assert_allclose(C, wanted, rtol=0, atol=1e-16 * condition * np.abs(C).max())
    assert_allclose(z, z_wanted, rtol=0, atol=1e-15 * condition * np.abs(z).max())


@pytest.mark.parametrize("bad", [0, 16, 37, 49])
@pytest.mark.parametrize("value", [-1.0, 0.0, np.nan, np.inf])
def test_cholesky_says_where_a_matrix_is_not_positive_definite(bad, value):
    rng = np.random.default_rng(0)
    S = np.diag(rng.uniform(1, 2, 50))
    S[bad, bad] = value
    assert factor(S, np.ones(50))[2] == cholesky(S, np.ones(50))[2] == bad


def test_an_S_that_is_not_positive_definite_leaves_the_filter_unchanged():
    kalman = mixed(RLEKF(np.zeros(658), ODD, covariance="tiled"), 40)
    before = bits(kalman)
    H = np.repeat(np.random.default_rng(0).normal(size=(1, 658)), 40, axis=0)
    with pytest.raises(FilterError, match=r"not positive definite: pivot .* of 40"):
        kalman.update(H, np.ones(40), 0.0)
    H[3, 5] = np.nan
    with pytest.raises(FilterError, match=r"H\[3, 5\] is nan"):
        kalman.update(H, np.ones(40), 1.0)
    assert bits(kalman) == before


@pytest.mark.parametrize("sizes", [(1,), (128,), (129,), (1000,), (33, 1, 700, 260)])
@pytest.mark.parametrize("T", [32, 64])
def test_every_square_is_worked_on_once_and_in_an_order_that_ends(sizes, T):
    tiling = make_tiling(Blocks(sizes), T)
    squares, pairs = rounds.make_rounds(tiling.rows, T)
    met = [(i, j) for i, j, _, _ in pairs.tolist()]
    assert len(set(met)) == len(met)
    tiles = set()
    for i, j in met:
        for r in range(*squares[i]):
            tiles |= {(r, c) for c in range(*squares[j]) if c <= r}
    firsts = tiling.rows[:, 1].tolist()
    assert tiles == {(r, c) for r, first in enumerate(firsts) for c in range(first, r + 1)}
    finished = [0] * len(squares)  # one thread that takes them in order waits for nothing
    for i, j, before_i, before_j in pairs.tolist():
        assert (finished[i], finished[j]) == (before_i, before_j)
        finished[i] += 1
        finished[j] += i != j


def blocks_of_products(dtype):
    """C, A and B, and what α C + β A B is; A (8, 40) in pieces of 20 columns, turned in memory."""
    rng = np.random.default_rng(0)
    C, A, B = (
        rng.normal(size=(8, 16)).astype(dtype),
        rng.normal(size=(8, 40)).astype(dtype),
        rng.normal(size=(40, 16)),
    )
    wanted = (0.5 * C.astype(float) - 2.0 * A.astype(float) @ B).astype(dtype)
    return C, A, B, wanted


def compiled():
    """The two products, compiled anew."""

    @njit
    def block(C, A, B):
        products.multiply_block(C, 0, 16, 0.5, -2.0, A, 0, 1, 8, 40, B, 0)

    @njit
    def strip(C, A, B):
        products.multiply_strip(C, 0, 16, 0.5, -2.0, A, 0, 1, 8, 20, B, 0, 160, 0, 2, 0, 0)

    return block, strip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products_whatever_the_registers(dtype, monkeypatch):
    """Right, and the same bits with few rows in registers as with all of them."""
    got = []
    for rows in (2, 8):
        monkeypatch.setattr(products, "_rows_in_registers", lambda rows=rows: rows)
        for product in compiled():
            C, A, B, wanted = blocks_of_products(dtype)
            product(C.reshape(-1), np.ascontiguousarray(A.T).reshape(-1), B.reshape(-1))
            assert_allclose(C, wanted, rtol=0, atol=60 * np.finfo(dtype).eps * np.abs(wanted).max())
            got.append(C)
    for other in got[1:]:
        assert_array_equal(other, got[0])


def test_work_space_is_given_back():
    """An update by many numbers allocates nothing that grows with P, and holds nothing afterwards."""
    import tracemalloc

    N, m = 3000, 64
    kalman = RLEKF(np.zeros(N), [N], covariance="tiled")
    H, error, R = next(random_updates(N, m, 1))
    kalman.update(H, error, R)
    tracemalloc.start()
    kalman.update(H, error, R)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 8 * N * m < kalman.covariance.nbytes / 5


def test_ranges_do_not_depend_on_the_machine():
    """H Kᵀ is summed over at most `RANGES` ranges, which cover the weights."""
    for sizes in ((1,), (100,), (5000,), (33, 1, 700)):
        tiling = make_tiling(Blocks(sizes), 32)
        ranges = MatrixUpdates(tiling, 32, None)._tables.ranges
        assert len(ranges) <= matrix.RANGES
        assert ranges[0, 0] == 0 and ranges[-1, 1] == len(tiling.rows)
        assert_array_equal(ranges[1:, 0], ranges[:-1, 1])


def information_and_filters(N, m, updates, lam, R, kinds):
    """P⁻¹ ← λP⁻¹ + HᵀH/R in long doubles (sums of positive terms do not drift), and filters beside it."""
    rng = np.random.default_rng(1)
    # directions that are measured a thousand times better than others, as weights of a network are
    basis_ww = np.linalg.qr(rng.normal(size=(N, N)))[0] * np.logspace(0, -3, N)[:, None]
    filters = {
        (name, dtype): RLEKF(np.zeros(N), [N], lam=lam, nu=1.0, covariance=name, dtype=dtype)
        for name, dtype in kinds
    }
    Y_ww = np.eye(N, dtype=np.longdouble)
    for _ in range(updates):
        H_qw = rng.normal(size=(m, N)) @ basis_ww
        for kalman in filters.values():
            kalman.update(H_qw, np.zeros(m), R)
        H_qw = H_qw.astype(np.longdouble)
        Y_ww = lam * Y_ww + H_qw.T @ H_qw / R
    return Y_ww, {kind: kalman.covariance.dense(0) for kind, kalman in filters.items()}


@pytest.mark.slow
def test_no_drift_over_many_numbers():
    """73 numbers at once, 22,000 in all: P stays the inverse of the exact information in every direction.

    Its eigenvalues relative to the exact ones, those of Cᵀ P C for P⁻¹ = C Cᵀ, are 1 to rounding times the
    condition of P, 10⁶.
    """
    kinds = {("dense", "float64"): 1e-8, ("tiled", "float64"): 1e-8, ("tiled", "float32"): 0.1}
    Y_ww, got = information_and_filters(60, 73, 300, 0.998, 1e-4, kinds)
    C_ww = cholesky(Y_ww, np.zeros(60))[0]
    for kind, tolerance in kinds.items():
        assert np.linalg.eigvalsh(got[kind]).min() > 0
        relative = (C_ww.T @ got[kind] @ C_ww).astype(float)
        assert np.abs(np.linalg.eigvalsh(relative) - 1).max() < tolerance
