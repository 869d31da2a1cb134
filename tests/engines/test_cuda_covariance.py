"""The CUDA covariance and filter against the plain ones, their kernels run by the emulator."""

from __future__ import annotations

from functools import partial

import numpy as np
import on_device
import pytest
from cuda_emulator import BACKWARD, SHUFFLED, KernelError, strict_arrays
from cuda_filters import FIVES, LONG, ODD, RTOL, compare, pair, run_both, same_info
from filter_checks import CHECKS, random_updates
from numpy.testing import assert_allclose
from textbook import bits

from kalmandp.arrays import namespace, to_numpy
from kalmandp.engines.cuda import tiling as cuda_tiling
from kalmandp.engines.cuda.covariance import CudaCovariance
from kalmandp.engines.cuda.filter import CudaRLEKF
from kalmandp.engines.cuda.tiling import NARROW, PANELS, panels
from kalmandp.errors import FilterError, InputError
from kalmandp.kalman import Blocks
from kalmandp.kalman.coupled import WINDOW


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("blocks", "m", "updates"),
    [
        (ODD, 1, WINDOW + 3), (ODD, 5, FIVES), (ODD, 13, WINDOW // 13 + 2), (ODD, WINDOW - 5, 2),
        (LONG, 2, 2), (LONG, WINDOW + 6, 1),
    ],
)  # fmt: skip
def test_twin(dtype, blocks, m, updates):
    """One, several and many right-hand sides; pending columns, folds, more numbers than pending columns."""
    kalman, twin = pair(blocks, dtype, process_noise=1e-3 if m == 5 else 0.0)
    run_both(kalman, twin, m, updates)
    compare(kalman, twin, RTOL[dtype])


def test_many_right_hand_sides_in_several_strips(monkeypatch):
    """Rows of tiles in pieces; and panels that add up to any number, the last with room to spare."""
    monkeypatch.setattr(cuda_tiling, "WIDE_STRIP", 128)
    kalman, twin = pair(Blocks((330, 70)))
    run_both(kalman, twin, 20, 2)
    compare(kalman, twin, RTOL["float64"])
    for m in range(1, 200):
        *full, last = panels(m)
        assert sum(full) < m <= sum(full) + last and set(panels(m)) <= set(PANELS)
        assert len(full) == 0 or m > NARROW


@pytest.mark.parametrize("m", [2, 16])
def test_long_sums_of_single_precision_are_exact_enough(m):
    """K of 1,100 weights in float32: rounding of a few hundred products, however many tiles there are."""
    rng, device = np.random.default_rng(0), on_device.emulated()
    P = rng.normal(size=(1100, 1100)).astype(np.float32).astype(float)
    P += P.T
    covariance = CudaCovariance(Blocks((1100,)), dtype="float32", device=device)
    covariance.assign(0, P)
    H = rng.normal(size=(m, 1100)).astype(np.float32).astype(float)
    K = H @ P.astype(np.float32).astype(float)
    found, _ = covariance.project(device.xp.asarray(H))
    assert_allclose(found.get(), K, rtol=0, atol=3e-7 * np.abs(K).max())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_filter(check):
    """The checks that every RLEKF must pass: ridge regression, the textbook, the information matrix."""
    check(partial(Adapter, device=on_device.emulated()), 2)


class Adapter:
    """A CUDA filter whose inputs and attributes are NumPy's, for checks that know of no device."""

    def __init__(self, *args, device, **choices):
        self.inner = CudaRLEKF(*args, device=device, **choices)

    def update(self, H, error, noise):
        return self.inner.update(self.inner.device.xp.asarray(H), error, noise)

    def __getattr__(self, name):
        value = getattr(self.inner, name)
        return to_numpy(value) if namespace(value) is not np else value

    @property
    def covariance(self):
        covariance = self.inner.covariance

        class Plain:
            dense = staticmethod(lambda l: covariance.dense(l).get())
            trace = staticmethod(lambda: covariance.trace().get())

        return Plain


class NoScale(CudaCovariance):
    """Pending columns added as G, not G/√s."""

    def downdate(self, G_qw, lam):
        scale, self._scale = self._scale, 1.0
        super().downdate(G_qw, lam)
        self._scale *= scale


class FoldsOnce(CudaCovariance):
    """The pending columns kept after they were folded in."""

    def fold(self):
        n = self._n_pending
        super().fold()
        self._n_pending = n // 2


class HalfTheRows(CudaCovariance):
    """Many right-hand sides with the strips of the lower half, as if nothing stood above the diagonal."""

    def _make(self, *arguments):
        super()._make(*arguments)
        self._tables = self._tables._replace(
            wide_strips=self._tables.strips, first_wide=self._tables.first_strip
        )


@pytest.mark.parametrize(("mistake", "m"), [(NoScale, 5), (FoldsOnce, 5), (HalfTheRows, 20)])
def test_planted_mistakes_are_found(mistake, m):
    """Beyond the end of a window, where a fold has been."""
    kalman, twin = pair(Blocks((70, 1)))
    twin.covariance = mistake(twin.blocks, device=twin.device)
    with pytest.raises((AssertionError, FilterError)):
        run_both(kalman, twin, m, WINDOW // m + 2)
        compare(kalman, twin, RTOL["float64"])


@pytest.mark.parametrize("order", [BACKWARD, SHUFFLED])
def test_no_race_between_threads_or_blocks(order):
    """Blocks, and threads between barriers, in another order: the same bits."""
    for blocks, numbers in ((ODD, ((5, FIVES), (20, 1))), (LONG, ((1, 2),))):
        states = []
        for device in (on_device.emulated(), on_device.emulated(order=order)):
            _, twin = pair(blocks, device=device)
            for m, updates in numbers:
                for H, error, R in random_updates(blocks.n_weights, m, updates):
                    twin.update(device.xp.asarray(H), error, R)
            states.append(bits(twin))
        assert states[0] == states[1]


def test_blocks_may_live_on_different_devices():
    """The seam for several GPUs: the update of the module's docstring, with m × m numbers exchanged."""
    kalman, _ = pair(ODD)
    sizes = ODD.sizes[:2], ODD.sizes[2:]
    parts = [CudaCovariance(Blocks(some), device=on_device.emulated()) for some in sizes]
    cut = sum(sizes[0])
    weights, lam = kalman.weights.copy(), kalman.lam
    for m in (3, 12):
        for H, error, R in random_updates(261, m, 12):
            projected = [
                P.project(P.device.xp.asarray(H_d))
                for P, H_d in zip(parts, np.split(H, [cut], axis=1), strict=True)
            ]
            S = lam * R * np.eye(m) + sum(HPH.get() for _, HPH in projected)
            C = np.linalg.cholesky(S)
            G = [P.whiten(K, P.device.xp.asarray(C)) for P, (K, _) in zip(parts, projected, strict=True)]
            weights += np.concatenate([g.get() for g in G], axis=1).T @ np.linalg.solve(C, error)
            for P, g in zip(parts, G, strict=True):
                P.downdate(g, lam)
            lam = kalman.nu * lam + 1 - kalman.nu
            kalman.update(H, error, R)
    assert_allclose(weights, kalman.weights, rtol=0, atol=1e-10 * np.abs(weights).max())
    dense = [P.dense(l).get() for P in parts for l in range(len(P.blocks))]
    for l, P in enumerate(dense):
        assert_allclose(P, kalman.covariance.dense(l), rtol=0, atol=1e-10 * np.abs(P).max())


def test_updates_are_enqueued_without_waiting():
    kalman, twin = pair(ODD)
    todo = [
        (twin.device.xp.asarray(H), twin.device.xp.asarray(e), R) for H, e, R in random_updates(261, 2, 5)
    ]
    twin.enqueue(*todo[0])
    before = len(strict_arrays.waits)
    for measurement in todo[1:]:
        twin.enqueue(*measurement)
    assert len(strict_arrays.waits) == before
    done = twin.synchronize()
    for (H, error, R), (error_q, got) in zip(random_updates(261, 2, 5), done, strict=True):
        info = kalman.update(H, error, R)
        assert_allclose(error_q, error)
        same_info(got, info, rtol=1e-9)
    compare(kalman, twin, RTOL["float64"])
    assert twin.synchronize() == []


def test_what_is_not_accepted_leaves_the_filter_as_it_was():
    """Asked with the error and S of the reference; what is accepted is an update as without asking."""
    kalman, twin = pair(ODD)
    asked = []
    for n, (H, error, R) in enumerate(random_updates(261, 2, 4)):
        accept = lambda e, S, n=n: asked.append((e, S)) or n != 2
        before = bits(twin)
        info = kalman.update(H, error, R, accept)
        got = twin.update(twin.device.xp.asarray(H), error, R, accept)
        same_info(got, info, rtol=1e-9)
        for wanted, found in zip(*asked[-2:], strict=True):
            assert_allclose(found, wanted, rtol=1e-9)
        assert got.accepted == (n != 2) == (bits(twin) != before)
    compare(kalman, twin, RTOL["float64"])


def test_half_an_update_is_neither_given_out_nor_built_upon(monkeypatch):
    _, twin = pair(Blocks((70,)))
    H, error, R = next(random_updates(70, 2, 1))
    H = twin.device.xp.asarray(H)

    def ctrl_c(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(twin.covariance, "downdate", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        twin.enqueue(H, twin.device.xp.asarray(error), R)
    for use in (twin.state, lambda: twin.update(H, error, R)):
        with pytest.raises(FilterError, match="interrupted in the middle of an update"):
            use()


def spoilt(kind, H, error):
    """A measurement that must be refused, and what the message says."""
    H, error = H.copy(), error.copy()
    if kind == "H":
        H[0, 17] = np.nan
    elif kind == "error":
        error[1] = np.inf
    else:
        H *= 1e200
    return H, error


@pytest.mark.parametrize(
    ("kind", "says"), [("H", "H P Hᵀ"), ("error", "error is not finite"), ("overflow", "H P Hᵀ")]
)
def test_a_failure_leaves_the_filter_as_it_was_before_that_update(kind, says):
    """Found when settled, several updates and a fold later; those before it are taken in."""
    device = on_device.emulated()
    (_, twin), (_, good) = pair(ODD, device=device), pair(ODD, device=device)
    for n, (H, error, R) in enumerate(random_updates(261, 5, FIVES + 5)):
        if n < 5:
            good.update(device.xp.asarray(H), error, R)
        if n == 5:
            H, error = spoilt(kind, H, error)
        twin.enqueue(device.xp.asarray(H), device.xp.asarray(error), R)
    with pytest.raises(FilterError, match=says):
        twin.synchronize()
    assert twin.updates == 5 and bits(twin) == bits(good)
    for H, error, R in random_updates(261, 5, 3, seed=9):  # and it goes on
        good.update(device.xp.asarray(H), error, R)
        twin.update(device.xp.asarray(H), error, R)
    assert bits(twin) == bits(good)


def test_an_indefinite_covariance_is_refused_by_name():
    kalman, twin = pair(Blocks((70,)))
    P = np.eye(70)
    P[3, 3] = -5.0
    kalman.covariance.assign(0, P)
    twin.covariance.assign(0, P)
    H = np.zeros((2, 70))
    H[0, 0] = H[1, 3] = 1.0
    messages = []
    for filter_, put in ((kalman, np.asarray), (twin, twin.device.xp.asarray)):
        with pytest.raises(FilterError) as caught:
            filter_.update(put(H), np.zeros(2), 1.0)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_what_does_not_fit_is_refused_before_it_is_allocated():
    device = on_device.emulated(free=1 << 20)
    with pytest.raises(InputError, match=r"covariance P takes 0\.\d\d GiB; the GPU has 0\.00 GiB free"):
        CudaCovariance(Blocks((3000,)), device=device)
    assert CudaCovariance(Blocks((200,)), device=device).nbytes < 1 << 20


def test_planned_memory_is_what_is_held():
    device = on_device.emulated()
    _, twin = pair(ODD, device=device)
    for H, error, R in random_updates(261, 1, 2):
        twin.update(device.xp.asarray(H), error, R)
    assert twin.covariance.nbytes == CudaCovariance.needs(ODD)


def test_the_emulator_finds_wrong_arguments_and_writes_outside():
    device = on_device.emulated()
    xp, f = device.xp, device.functions("filter.cu")
    with pytest.raises(InputError, match="an array for sum_parts is float32; expected float64"):
        f.sum_parts(1, 32, xp.ones(3), 3, 1, xp.ones(1, np.float32))
    launch = f._launcher("sum_parts")  # not as the package launches it
    with pytest.raises(KernelError, match="argument 3 of sum_parts is float32"):
        launch((1, 1), 32, (xp.ones(3), np.int32(3), np.int32(1), xp.ones(1, np.float32)))
    with pytest.raises(KernelError, match="argument 1 of sum_parts is int64"):
        launch((1, 1), 32, (xp.ones(3), np.int64(3), np.int32(1), xp.ones(1)))
    with pytest.raises(KernelError, match=r"sum_parts is launched with blocks \(1, 65536\)"):
        f.sum_parts((1, 65536), 32, xp.ones(3), 3, 1, xp.ones(1))
    with pytest.raises(AssertionError, match="written outside"):
        f.sum_parts(2, 32, xp.ones(3), 3, 1, xp.empty(1))
