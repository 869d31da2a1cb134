"""The checkpoint as another program reads it, on a full disk, in little memory, and in float32."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from kills import survive
from numpy.testing import assert_allclose
from systems import frames, settings

import kalmandp
from kalmandp.commands.info import kind_of, read_checkpoint_header, stored_disagreement
from kalmandp.errors import FileError, FilterError, InputError
from kalmandp.plots.filter import read_diagnostics
from kalmandp.training.loop import Run, train
from kalmandp.training.state.checkpoint import load_checkpoint, open_checkpoint


def trained(tree, output, n_steps: int = 3, **options) -> Run:
    """A run after some steps, saved."""
    run = Run(kalmandp.read_input(tree), output, **options)
    for _ in range(n_steps):
        run.step()
    run.checkpoint()
    return run


def read_P(path) -> list[np.ndarray]:
    """The blocks of P, read as the docstring of `state.checkpoint` says, with h5py and NumPy alone."""
    with h5py.File(path) as file:
        sizes = file["optimizer/block_sizes"][()]
        group = file["optimizer/P"]
        tiles, pending, scale = group["tiles"][()], group["pending"][()], group.attrs["scale"]
    T, k, t, blocks = tiles.shape[1], 0, 0, []
    for n in sizes:
        rows = -(-n // T)
        A = np.zeros((rows * T, rows * T))
        for i in range(rows):
            for j in range(i + 1):
                A[i * T : i * T + T, j * T : j * T + T] = tiles[k]
                k += 1
        A = np.tril(A) + np.tril(A, -1).T
        U = pending[t : t + rows].transpose(1, 0, 2).reshape(pending.shape[1], rows * T)
        blocks.append((scale * (A - U.T @ U))[:n, :n])
        t += rows
    return blocks


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_another_program_can_read_it(data, tmp_path, dtype):
    run = trained(settings(data, optimizer={"covariance_dtype": dtype}), tmp_path, 10)
    P = run.trainer.filter.covariance
    assert P.state()["pending"].shape[1] and P.state()["scale"] != 1  # something is pending
    # UᵀU is summed in another order here
    tolerance = {"float64": 1e-13, "float32": 1e-6}[dtype]
    for l, block in enumerate(read_P(tmp_path / "model.ckpt.h5")):
        assert_allclose(block, P.dense(l), atol=tolerance, rtol=0)
    with h5py.File(tmp_path / "model.ckpt.h5") as file:
        assert (file["optimizer/weights"][()] == run.potential.weights).all()
        assert set(json.loads(file["json/versions"][()].tobytes())) >= {"kalmandp", "numpy", "numba", "h5py"}
        assert json.loads(file["json/input"][()].tobytes())["training"]["seed"] == 1
        columns = file["diagnostics"].attrs["columns"].decode().split()
        updates = dict(zip(columns, file["diagnostics/updates"][()].T, strict=True))
        assert updates["update"].tolist() == list(range(1, 21))
        assert updates["step"].tolist() == np.repeat(np.arange(1, 11), 2).tolist()
        traces = file["diagnostics/traces"][()]
        assert traces[:, 0].tolist() == [10, 20]
        assert_allclose(traces[-1, 1:], P.trace(), rtol=1e-15)


def test_a_mostly_empty_covariance_is_compressed_a_full_one_is_not(data, tmp_path):
    tree = settings(data, optimizer={"block_size": 300})
    trained(tree, tmp_path / "a", 0)
    trained(tree, tmp_path / "b", 20)  # some columns have been folded in
    with h5py.File(tmp_path / "a/model.ckpt.h5") as new, h5py.File(tmp_path / "b/model.ckpt.h5") as used:
        new, used = new["optimizer/P/tiles"], used["optimizer/P/tiles"]
        assert new.compression == "lzf" and used.compression is None
        assert new.id.get_storage_size() < 0.2 * used.id.get_storage_size()
        assert new.fletcher32 and used.fletcher32
    assert Run(kalmandp.read_input(tree), tmp_path, restart=tmp_path / "a/model.ckpt.h5").step_number == 0


def test_float32_on_request(data, tmp_path):
    """Half the size; the run itself is not changed, a restart is near to it."""
    large = {"block_size": 1000}  # P is most of the file
    tree = settings(data, optimizer=large)
    rounded = settings(data, optimizer={"checkpoint_dtype": "float32", **large})
    # 16 steps end a window, which rounding would cut short
    whole, cut = trained(tree, tmp_path / "a", 16), trained(rounded, tmp_path / "b", 16)
    assert (whole.potential.weights == cut.potential.weights).all()
    a, b = (tmp_path / d / "model.ckpt.h5" for d in "ab")
    assert b.stat().st_size < 0.55 * a.stat().st_size
    again = Run(kalmandp.read_input(rounded), tmp_path / "b", restart=b)
    assert again.trainer.filter.covariance.dtype == np.float64
    for l in range(len(whole.trainer.filter.blocks)):
        P = whole.trainer.filter.covariance.dense(l)
        # entries of A and UᵀU, none above 2, rounded by 6e-8 each
        assert_allclose(again.trainer.filter.covariance.dense(l), P, atol=2e-6, rtol=0)
    whole.step()
    again.step()
    assert_allclose(again.potential.weights, whole.potential.weights, atol=1e-4)
    assert (again.potential.weights != whole.potential.weights).any()


def test_a_window_ends_where_it_was_rounded(data, tmp_path):
    """P is then that of the blocks; exact, a restart goes on in the window."""
    for dtype, numbers in (("float64", 8), ("float32", 0)):
        tree = settings(data, optimizer={"checkpoint_dtype": dtype})
        run = trained(tree, tmp_path / dtype, 2)
        assert len(run.trainer.filter.covariance.window[0]) == 8  # two steps of 2 updates of 2
        again = Run(kalmandp.read_input(tree), tmp_path / dtype, restart=tmp_path / dtype / "model.ckpt.h5")
        assert len(again.trainer.filter.covariance.window[0]) == numbers


def test_a_restart_reads_P_piece_by_piece(data, tmp_path):
    trained(settings(data), tmp_path)
    with open_checkpoint(tmp_path / "model.ckpt.h5") as saved:
        assert not isinstance(saved["optimizer"]["P/tiles"], np.ndarray)
        part = saved["optimizer"]["P/tiles"][3:5]
    in_memory = load_checkpoint(tmp_path / "model.ckpt.h5")["optimizer"]["P/tiles"]
    assert (in_memory[3:5] == part).all()


def other_frames(tree, folder):
    kalmandp.Dataset.write(folder / "more.h5", frames(13))
    tree["training"]["training_data"]["systems"] = [str(folder / "more.h5")]


REFUSED = [
    (other_frames, "the training data hold 13 frames; expected 12"),
    (lambda tree, folder: tree.update(optimizer={"type": "Adam"}), "the input's optimizer is Adam"),
    (lambda tree, folder: tree["optimizer"].update(block_size=200), "cuts P into other blocks"),
    (lambda tree, folder: tree["optimizer"].update(covariance_dtype="float32"), "float32; expected float64"),
    (lambda tree, folder: tree["optimizer"].update(coupled=False), "coupled is False; expected True"),
    (lambda tree, folder: tree["model"]["descriptor"].update(rcut=4.0), "section model differs"),
]


@pytest.mark.parametrize(("change", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_a_restart_with_another_input_is_refused(data, tmp_path, change, says):
    trained(settings(data), tmp_path, 1)
    tree = settings(data)
    change(tree, tmp_path)
    with pytest.raises((InputError, FileError), match=says):
        Run(kalmandp.read_input(tree), tmp_path / "x", restart=tmp_path / "model.ckpt.h5")


# --- failures -------------------------------------------------------------------------------------


def test_the_state_before_a_failed_update_is_saved_beside(data, tmp_path):
    """A label that is not a number cannot come from a file; a covariance can lose its definiteness."""
    tree = settings(data, training={"save_freq": 2})
    steps, records = 5, []
    run_before = trained(tree, tmp_path / "before", steps)
    generator = train(tree, output=tmp_path / "run")
    for _ in range(steps):
        records.append(next(generator))
    run = generator.gi_yieldfrom.gi_frame.f_locals["run"]
    last = (tmp_path / "run/model.ckpt.h5").read_bytes()
    project = run.trainer.filter.covariance.project
    run.trainer.filter.covariance.project = lambda H: (project(H)[0], -np.eye(len(H)))
    frame = run.data.source(int(run.feed.order[run.feed.position]))
    with pytest.raises(FilterError) as caught:
        next(generator)
    message = str(caught.value)
    assert message.startswith(f"{frame}: H P Hᵀ is -1.000e+00")
    stopped = tmp_path / "run/model.ckpt.stopped.h5"
    assert f"saved as before this update in {stopped}" in message
    assert (tmp_path / "run/model.ckpt.h5").read_bytes() == last
    saved = load_checkpoint(stopped)
    wanted = load_checkpoint(tmp_path / "before/model.ckpt.h5")
    for name in ("optimizer", "feed"):
        assert all(np.array_equal(saved[name][key], wanted[name][key]) for key in wanted[name])
    assert run_before.step_number == saved["step"] == steps
    again = Run(kalmandp.read_input(tree), tmp_path / "again", restart=stopped)
    sample, _, _ = again.step()
    assert sample.frames[0].source == frame


LIMITED = """
import resource, sys
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run
run = Run(read_input(sys.argv[1]), sys.argv[2], restart=sys.argv[2] + "/model.ckpt.h5")
run.step()
what, size = getattr(resource, sys.argv[3]), int(sys.argv[4])
if what == resource.RLIMIT_AS:
    size += int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(what, (size, size))
try:
    run.checkpoint()
except Exception as error:
    print(type(error).__name__, error)
    sys.exit(0)
sys.exit(3)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="this system has no limit of file sizes")
@pytest.mark.parametrize("part", [0.01, 0.6])
def test_a_full_disk_leaves_the_last_checkpoint(data, tmp_path, part):
    """A limit on the size of files is to a program what a full disk is: a write that fails half way."""
    run = tmp_path / "run"
    tree = tmp_path / "input.json"
    tree.write_text(json.dumps(settings(data)))
    trained(settings(data), run, 2)
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    limit = int(part * len(before["model.ckpt.h5"]))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tree, run, "RLIMIT_FSIZE", str(limit)],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"FileError {run / 'model.ckpt.h5'}: cannot be written (File too large)")
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before


def test_no_memory_for_a_checkpoint_leaves_the_last_one(data, tmp_path):
    run = tmp_path / "run"
    tree = tmp_path / "input.json"
    tree.write_text(json.dumps(settings(data)))
    trained(settings(data), run, 2)
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tree, run, "RLIMIT_AS", "0"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    says = f"FileError {run / 'model.ckpt.h5'}: cannot be written (less than 48 MiB of memory are free)"
    assert done.stdout.startswith(says)
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before
    load_checkpoint(run / "model.ckpt.h5")


@pytest.mark.skipif(shutil.which("kill") is None, reason="this system has no signals to kill with")
def test_killed_at_any_moment(tmp_path):
    """`python tests/training/kills.py` does the same a hundred times."""
    tally = survive(tmp_path, 3, np.random.default_rng(1), n_groups=1)
    assert tally.kills == 3


READERS = [load_checkpoint, read_checkpoint_header, read_diagnostics, stored_disagreement]


@pytest.mark.parametrize("read", READERS)
def test_whatever_reads_a_checkpoint_checks_it(data, tmp_path, read):
    """One of a later version, and a file of another program, are refused by each by name."""
    run = trained(settings(data), tmp_path)
    path = run.checkpoint_path
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(FileError, match=r"ckpt\.h5: checkpoint version is 99; this program reads up to 3"):
        read(path)
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "kalmandp checkpoint"  # of variable length: it lies in a heap
    with pytest.raises(FileError, match=r"model\.ckpt\.h5: is not a checkpoint"):
        read(path)
    assert kind_of(str(path)) == "data"
