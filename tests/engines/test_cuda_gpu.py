"""The same checks on a real GPU:  pytest -m gpu   (KALMANDP_REQUIRE_GPU=1: fail, not skip, without one).

What no emulator sees, races and what is read before it was written, NVIDIA's sanitizer finds; without CuPy's
memory pool it knows where each array ends, too:

    export KALMANDP_NO_POOL=1
    compute-sanitizer --tool memcheck pytest -m gpu -k "engines or neighbours or nets or what_else"
    compute-sanitizer --tool racecheck pytest -m gpu -k "engines or neighbours or nets or what_else"
"""

from __future__ import annotations

import os
from functools import partial

import cuda_filters
import numpy as np
import on_device
import parity
import pytest
import test_cuda_coupled as coupled_tests
import test_cuda_covariance as covariance_tests
import test_cuda_neighbours as neighbour_tests
import test_cuda_network as network_tests
import test_cuda_potential as potential_tests
import test_cuda_restart as restart_tests
import test_cuda_shared as shared_tests
import test_cuda_strictness as strictness_tests
import test_cuda_training as training_tests
from cases import PAPER, Case, random_frame
from filter_checks import CHECKS, random_updates
from numpy.testing import assert_allclose, assert_array_equal
from systems import frames, settings
from test_cuda_training import data  # noqa: F401 - a fixture
from textbook import bits

import kalmandp
from kalmandp.engines.cuda.filter import CudaRLEKF
from kalmandp.engines.cuda.sort import order_of_keys
from kalmandp.engines.cuda.tiling import PANELS
from kalmandp.kalman import Blocks
from kalmandp.potentials.activations import NAMES
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.registry import make_engine
from kalmandp.training.loop import train

pytestmark = pytest.mark.gpu
#: More tiles than the device has multiprocessors, blocks of odd sizes, of one weight, of one tile.
BLOCKS = Blocks((1, 5120, 1777, 64, 3))


@pytest.fixture(scope="module")
def gpu():
    device = on_device.real()
    if os.environ.get("KALMANDP_NO_POOL") == "1":
        device.xp.cuda.set_allocator(None)
    return device


@pytest.fixture
def there(gpu, monkeypatch):
    """Tests of other files make their device by `on_device.emulated`: it is the GPU while this lasts."""
    monkeypatch.setattr(on_device, "emulated", lambda: gpu)


@pytest.mark.parametrize("name", ["cuda", "cupy"])
@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5])  # 0: no pairs
def test_engines(gpu, name, seed):
    case, some = parity.build(seed, n_types=1 + seed % 3)
    parity.check(name, case, some, device=gpu)


@pytest.mark.parametrize("seed", range(6))
def test_neighbours(gpu, seed):
    """Cells of many bins and cells smaller than the cut-off, open and periodic; a frame of 4,000 atoms."""
    n, length, cutoff = ((40, 9.0, 3.9), (7, 3.5, 6.0), (4000, 36.0, 5.0))[seed % 3]
    cell = length * (np.eye(3) + 0.1 * np.random.default_rng(seed).normal(size=(3, 3)))
    pbc = (True, True, True) if seed < 3 else (True, False, True)
    neighbour_tests.same(neighbour_tests.random_frame(seed, n, cell, pbc), cutoff, device=gpu)


def test_sorting(gpu):
    keys = np.random.default_rng(0).integers(0, 5000, 300_000).astype(np.int32)
    order, first = order_of_keys(gpu, gpu.xp.asarray(keys), 5000)
    assert_array_equal(order.get(), np.argsort(keys, kind="stable"))
    assert_array_equal(first.get(), np.searchsorted(np.sort(keys), np.arange(5001)))


@pytest.mark.parametrize(("kind", "sizes"), [("fitting", (33, 0, 1500)), ("embedding", (257, 1, 700))])
def test_nets(gpu, kind, sizes):
    layout = network_tests.layout_of()
    wanted, got = (
        f(layout, kind, sizes) for f in (network_tests.reference, partial(network_tests.passes, gpu))
    )
    for name, value in wanted.items():
        assert_allclose(got[name], value, rtol=0, atol=1e-11 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("phi", NAMES)
def test_activations(gpu, phi):
    case, some = parity.build(1, embedding_activation="tanh", fitting_activation=phi)
    parity.check("cuda", case, some, device=gpu)


@pytest.mark.parametrize("name", ["cuda", "cupy"])
def test_the_papers_network_and_many_frames(gpu, name):
    choices = {**PAPER, "exclude_types": ((0, 0),), "type_one_side": False}
    a = Architecture(("A", "B"), 4.5, 0.5, (120, 120), **choices)
    rng = np.random.default_rng(8)
    some = [random_frame(rng, 2, n) for n in (7, 3, 12, 20, 1, 16)]
    parity.check(name, Case(rng, a, some[0]), some, device=gpu)


@pytest.mark.parametrize("m", [*PANELS, 5, 13, 39, 79])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_covariance(gpu, dtype, m):
    kalman, twin = cuda_filters.pair(BLOCKS, dtype, gpu)
    cuda_filters.run_both(kalman, twin, m, 40 // m + 1)
    cuda_filters.compare(kalman, twin, {"float64": 1e-10, "float32": 1e-4}[dtype])


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_filter(gpu, check):
    check(partial(covariance_tests.Adapter, device=gpu), 2)


@pytest.mark.parametrize(("m", "coupled"), [(2, True), (13, False), (13, True)])
def test_P_shared_by_ranks(there, m, coupled):
    """Ranks are threads with the one GPU; several GPUs and NCCL need ``mpiexec`` and a training."""
    shared_tests.test_the_bits_of_one_and_the_plain_filter(m, 70 // m, coupled, "float64")


def test_the_same_bits_from_run_to_run(gpu):
    """The filter, and the passes of the fused engine: no sum depends on the order of threads."""
    states = []
    for _ in range(2):
        twin = CudaRLEKF(np.zeros(BLOCKS.n_weights), BLOCKS, device=gpu)
        for H, error, R in random_updates(BLOCKS.n_weights, 2, 20):
            twin.enqueue(gpu.xp.asarray(H), gpu.xp.asarray(error), R)
        twin.synchronize()
        states.append(bits(twin))
    assert states[0] == states[1]
    case, some = parity.build(5)
    engine = lambda: make_engine("cuda", case.form, case.layout, device=gpu)
    one, two = (parity.passes(engine(), case, some, parity.seeded()) for _ in range(2))
    for name in one:
        assert (one[name] == two[name]).all(), name


def test_the_callers_stream_is_used(gpu):
    """Work put into a stream of the caller's own is done there: no other stream is waited for."""
    cupy = gpu.xp
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        twin = CudaRLEKF(np.zeros(BLOCKS.n_weights), BLOCKS, device=gpu)
        for H, error, R in random_updates(BLOCKS.n_weights, 2, 5):
            twin.enqueue(cupy.asarray(H), cupy.asarray(error), R)
        stream.synchronize()
        twin.synchronize()
    other = CudaRLEKF(np.zeros(BLOCKS.n_weights), BLOCKS, device=gpu)
    for H, error, R in random_updates(BLOCKS.n_weights, 2, 5):
        other.update(cupy.asarray(H), error, R)
    assert bits(twin) == bits(other)


@pytest.mark.parametrize(
    "optimizer", [{}, {"measurement": "signed"}, {"measurement": "joint", "with_virial": True}]
)
def test_a_run_of_fifty_updates_equals_that_on_the_processor(gpu, tmp_path, optimizer):
    kalmandp.Dataset.write(tmp_path / "morse.h5", frames(40))
    tree = settings(tmp_path / "morse.h5", optimizer=optimizer, training={"numb_steps": 50, "disp_freq": 25})
    weights = []
    for device in ("cpu", gpu):
        kalman_updates = [record.updates for record in train(tree, output=tmp_path / "run", device=device)]
        weights.append(kalmandp.Potential.load(tmp_path / "run" / "model.dp").weights)
    assert kalman_updates[-1] >= 50
    assert_allclose(weights[1], weights[0], rtol=0, atol=1e-8 * np.abs(weights[0]).max())


@pytest.mark.parametrize("optimizer", training_tests.OPTIMIZERS)
def test_every_measurement_in_batches_of_two(there, data, tmp_path, optimizer):  # noqa: F811
    training_tests.test_a_run_equals_that_on_the_processor(data, tmp_path, optimizer)


@pytest.mark.parametrize("check", [
    training_tests.test_adam_and_the_reference_functions_run_there_too,
    training_tests.test_restart_goes_on_with_the_same_bits_and_on_the_other_device,
    training_tests.test_diagnostics_and_gate_see_what_they_see_on_the_processor,
])  # fmt: skip
def test_runs(there, data, tmp_path, check):  # noqa: F811
    check(data, tmp_path)


def test_a_step_that_fails_and_a_host_code_that_learns(there, data, tmp_path):  # noqa: F811
    training_tests.test_a_failed_step_names_its_frame(tmp_path)
    training_tests.test_a_host_code_learns_and_saves_there(tmp_path)
    training_tests.test_predictions_and_jacobians_are_numpys(data)
    training_tests.test_an_array_of_the_device_can_be_the_potentials_own()


@pytest.mark.parametrize("check", [
    covariance_tests.test_blocks_may_live_on_different_devices,
    covariance_tests.test_what_is_not_accepted_leaves_the_filter_as_it_was,
    covariance_tests.test_an_indefinite_covariance_is_refused_by_name,
    coupled_tests.test_coupled_updates_of_different_sizes,
    coupled_tests.test_a_coupled_filter_moves_between_host_and_device,
    neighbour_tests.test_without_a_cell_and_without_neighbours,
    neighbour_tests.test_slabs_wires_and_atoms_far_away,
    neighbour_tests.test_atoms_on_the_edges_of_bins,
    neighbour_tests.test_excluded_types_are_left_out_and_the_shortest_distance_is_known,
    potential_tests.test_a_sharp_net_gets_a_finer_table,
    potential_tests.test_frames_side_by_side_equal_frames_alone,
    strictness_tests.test_numbers_go_to_a_kernel_in_the_bytes_that_it_reads,
    strictness_tests.test_a_cutoff_that_is_a_whole_number,
    strictness_tests.test_statistics_and_pairs_in_the_order_of_columns_before_rows,
    strictness_tests.test_noise_in_the_order_of_columns_before_rows,
], ids=lambda check: check.__name__)  # fmt: skip
def test_what_else_the_emulator_runs(there, check):
    check()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_covariances_that_are_coupled_restarted_and_moved(there, dtype):
    for m, updates in ((2, 36), (13, 6), (40, 2)):
        coupled_tests.test_coupled_blocks(dtype, m, updates)
    restart_tests.test_restart_goes_on_with_the_same_bits(dtype)
    restart_tests.test_a_checkpoint_moves_between_host_and_device("tiled", dtype)


@pytest.mark.parametrize("kind", ["H", "error", "overflow"])
def test_a_failure_leaves_the_filter_as_it_was(there, kind):
    says = "error is not finite" if kind == "error" else "H P Hᵀ"
    covariance_tests.test_a_failure_leaves_the_filter_as_it_was_before_that_update(kind, says)


@pytest.mark.parametrize("excluded", [(), ((0, 1),)])
def test_overlaps_and_too_many_neighbours_are_refused(there, excluded):
    neighbour_tests.test_overlaps_and_too_many_neighbours_are_refused_in_the_hosts_words(excluded)
