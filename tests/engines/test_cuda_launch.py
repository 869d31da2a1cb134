"""Asking for a GPU: what is said when there is none, and that nothing is imported before it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import small_inputs

import kalmandp
from kalmandp.cli import main
from kalmandp.engines.cuda import launch as cuda_launch
from kalmandp.engines.cuda.deep_potential.constants import TABLE
from kalmandp.engines.cuda.deep_potential.network import CODES
from kalmandp.engines.cuda.launch import CupyDevice, MissingCupy, source
from kalmandp.errors import InputError, KalmanDPError
from kalmandp.geometry.cutoff import SWITCH_COEFFICIENTS
from kalmandp.potentials.activations import NAMES
from kalmandp.potentials.deep_potential.table import lagrange_coefficients
from kalmandp.registry import ENGINES, choose_engine
from kalmandp.training.placement.device import open_device


def without_gpu() -> str:
    """What the error says here; the test is skipped where there is a GPU."""
    try:
        CupyDevice()
    except KalmanDPError as error:
        return str(error)
    pytest.skip("there is a GPU: nothing is missing")


def test_without_a_gpu_the_error_says_what_to_do():
    assert "pip install" in without_gpu() or "no CUDA device can be used" in without_gpu()


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (None, 'kalmandp[cuda12]" or pip install "kalmandp[cuda13]'),
        (12080, 'with: pip install "kalmandp[cuda12]"'),
        (13000, 'with: pip install "kalmandp[cuda13]"'),
    ],
)
def test_the_install_line_fits_the_driver(monkeypatch, version, says):
    monkeypatch.setattr(cuda_launch, "driver_version", lambda: version)
    assert says in str(MissingCupy())


def test_there_is_no_silent_fall_back(tmp_path, capsys):
    says = without_gpu()
    with pytest.raises(KalmanDPError):
        open_device("cuda")
    with pytest.raises(InputError, match="device is 'gpu'; expected one of cpu, cuda"):
        open_device("gpu")
    with pytest.raises(InputError, match="device is 'gpu'; expected one of cpu, cuda"):
        choose_engine(None, "gpu", small_inputs.small_architecture(), None)
    (tmp_path / "input.json").write_text(small_inputs.small_input(tmp_path))
    assert main(["train", str(tmp_path / "input.json"), "-o", str(tmp_path), "--device", "cuda"]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "model.dp").exists()


def test_nothing_of_a_gpu_is_imported_before_it_is_asked_for():
    code = (
        "import sys, kalmandp, kalmandp.training.loop, kalmandp.engines.cuda.deep_potential.engine; "
        "assert 'cupy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_constants_are_those_of_the_reference():
    """Every number survives its way into CUDA source; every activation has a number there."""
    text = source("potential.cu", **TABLE)
    for value in (*lagrange_coefficients().ravel(), *SWITCH_COEFFICIENTS):
        assert f"({float(value)!r})" in text
    assert set(CODES) == set(NAMES)
    assert "#define RHS 4" in source("covariance.cu", REAL="double", RHS=4)
    assert {"cupy", "cuda"} <= set(ENGINES)


def test_the_callers_stream_device_and_memory_pool_are_left_alone():
    """No module of the package chooses or waits for a stream, or changes what belongs to the process.

    But for one line: a rank of a run that MPI started takes the GPU with its number. A host's process never
    comes there, as it brings its own device.
    """
    words = (
        "deviceSynchronize",
        "null.synchronize",
        "stream.synchronize",
        "Stream(",
        "set_allocator",
        "setDevice",
        "cuda.Device(",
        ".use()",
        "free_all_blocks",
    )
    folder = Path(kalmandp.__file__).parent
    found = {
        (path.name, word)
        for path in folder.rglob("*.py")
        for word in words
        if word in path.read_text("utf-8")
    }
    assert found == {("launch.py", "cuda.Device("), ("launch.py", ".use()")}
    lines = (folder / "engines" / "cuda" / "launch.py").read_text("utf-8").splitlines()
    assert sum(".use()" in line for line in lines) == 1
    # the only one that asks for it is the placement of a run
    callers = {p.name for p in folder.rglob("*.py") if "team.local_rank" in p.read_text("utf-8")}
    assert callers == {"device.py"}
