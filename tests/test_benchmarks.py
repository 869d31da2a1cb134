"""The benchmarks' clocks count right, their water is water, and what is compared is the same thing."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp.errors import FileError
from kalmandp.formats.sources import Source, guess_format
from kalmandp.geometry.neighbours import neighbour_counts, neighbour_pairs

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "benchmarks"
SUPPORT = ("turns", "water", "peer", "bars", "stages", "gpu_clock", "gpu_runs")
OWN = ("frame", "growth", "training", "gpu", "conversion", "to_an_error")
NAMES = tuple(f"support.{m}" for m in SUPPORT) + OWN


@pytest.fixture(scope="module")
def benchmarks():
    """The benchmarks' modules by the last part of their names, importable while this file runs."""
    sys.path.insert(0, str(FOLDER))
    yield {name.rpartition(".")[2]: import_module(name) for name in NAMES}
    sys.path.remove(str(FOLDER))
    for name in [m for m in sys.modules if m.partition(".")[0] in ("support", *OWN)]:
        del sys.modules[name]


def test_a_turn_is_repeated_until_it_is_long_enough_and_states_the_mean(benchmarks):
    turns, told = benchmarks["turns"], []

    def hundredth(count: int) -> float:
        told.append(count)
        return 0.01 * count

    taken = turns.take_turns({"a": hundredth, "b": turns.clock(lambda: time.sleep(0.06))}, rounds=2)
    assert_allclose(taken["a"], [0.01] * 2, rtol=1e-12)  # a mean of equal numbers, to rounding
    assert told == [1] * turns.WARM_UP + [1, 10] * 2
    # a sum instead of a mean would be twice as much
    assert all(0.06 <= seconds < 0.1 for seconds in taken["b"])
    assert turns.medians({"c": [3.0, 1.0, 2.0]}) == {"c": 2.0}


def test_cycles(benchmarks):
    told = []
    seconds = benchmarks["stages"].in_cycles(lambda count: told.append(count) or 2.0 * count, 13)
    assert seconds(3) == 2.0 * 3 and told == [39]


def test_an_error_is_reached_where_it_stays_below(benchmarks):
    training, line = benchmarks["training"], np.arange(5.0)
    curve = training.Curve("a", line, 10 * line, line, np.array([9.0, 3.0, 5.0, 3.0, np.nan]))
    assert curve.first_below(4.0) is None  # a line that is not a number is not below
    curve = curve._replace(force=np.array([9.0, 3.0, 5.0, 4.0, 2.0]))
    assert [curve.first_below(f) for f in (10.0, 4.0, 2.0, 1.0)] == [0, 3, 4, None]
    said = training.table([curve, curve._replace(who="b", seconds=3 * curve.seconds, force=curve.force / 2)])
    assert "4 steps, 40 s" in said and "3 steps, 90 s = 2.2 ×" in said


def test_the_mean_of_energies_is_no_error_and_a_run_ends_where_both_are_reached(benchmarks, tmp_path, capsys):
    to_an_error = benchmarks["to_an_error"]
    from kalmandp.training.report.metrics import Comparison

    # errors of 1, 2 and 3 eV/atom: 2 on the mean, √(2/3) about it; a frame without an energy is passed over
    energies = [np.array([5.0, 5.0 + n * e]) for n, e in ((2, 1.0), (4, 2.0), (1, 3.0))]
    found = Comparison(np.array([2, 4, 1, 7]), [*energies, None], [], [], [])
    assert_allclose(to_an_error.energy_spread(found), math.sqrt(2 / 3), rtol=1e-12)

    model = {"type": "nep", "cutoff": [3.0, 3.0], "n_max": [1, 1], "basis_size": [2, 2], "neuron": 2}
    (tmp_path / "input.json").write_text(json.dumps({"model": model, "optimizer": {"type": "RLEKF"}}))
    data = FOLDER.parents[1] / "examples" / "gpumd" / "test.xyz"
    for target, steps in ((1e9, 1), (0.0, 4)):  # the first look is after the first step; four frames, a pass
        options = argparse.Namespace(
            data=data, model=tmp_path / "input.json", passes=1, seed=1, warm_up=False, began=0.0,
            energy=target, force=target,
        )  # fmt: skip
        to_an_error.child(options)
        told = json.loads(capsys.readouterr().out)
        assert (told["reached"], told["steps"], told["frames"]) == (bool(target), steps, 4)
        assert told["saved"] >= told["seconds"] and told["force"] > 0.0


def test_water_has_its_bonds_angles_and_density(benchmarks):
    water = benchmarks["water"]
    frame = water.water(192)
    O_mc, H_mhc = frame.positions[:64], frame.positions[64:].reshape(64, 2, 3)
    bond_mhc = H_mhc - O_mc[:, None]
    length_mh = np.sqrt((bond_mhc**2).sum(-1))
    assert_allclose(length_mh, water.BOND, rtol=1e-12)  # rotations keep lengths to rounding
    cosine_m = (bond_mhc[:, 0] * bond_mhc[:, 1]).sum(-1) / length_mh.prod(-1)
    assert_allclose(cosine_m, math.cos(water.ANGLE), rtol=1e-12)
    grams, cm3 = 64 * 18.015 / 6.02214e23, frame.volume * 1e-24
    assert_allclose(grams / cm3, 1.0, rtol=0.01)  # the lattice's spacing has four digits
    pairs = neighbour_pairs(frame, water.RCUT)
    assert 15_000 < len(pairs.i_p) < 18_000
    assert (neighbour_counts(frame, pairs).max(0) <= water.SEL).all()


def test_limits_are_sums_of_reads_and_passes(benchmarks):
    frame, stages = benchmarks["frame"], benchmarks["stages"]
    limit = "limit"
    times = {(frame.HALF.format("float64"), limit): 100.0, (frame.HALF.format("float32"), limit): 50.0}
    times[frame.NET, limit] = 1.0
    passes = list(stages.PASSES.values())
    assert passes == [1, 1, 2, 5]
    of = lambda stage: frame.limit_of(stage, times, 192)
    assert of("update, m = 5, float32") == 50.0
    assert of(stages.SIGNED) == 5 * 100 + (1 + 2) + 4 * (1 + 1 + 5)
    assert of("frame, paired (4 updates of 2), float64") == 4 * 100 + 4 * (1 + 1 + 2 + 5)
    assert of("frame, joint (1 update of 5), float32") == 50 + (1 + 1 + 2) + 4 * 5
    assert of(stages.ADAM) == 1 + 1 + 5
    assert of(stages.INFERENCE.format(6144)) == 32 * 2
    assert of("neighbours") is None
    del times[frame.NET, limit]
    assert of(stages.SIGNED) is None and of("update, m = 1, float64") == 100.0


def test_every_reader_reads_every_frame(benchmarks, tmp_path):
    conversion = benchmarks["conversion"]
    frames = conversion.make_frames(3, 6)
    reads = conversion.candidates(tmp_path, frames)  # stops if a reader gives another number
    ours = {what for what, who in reads if who == "kalmandp"}
    assert ours >= {"extended XYZ", "OUTCAR", "vasprun.xml", "HDF5"}
    for name in ("a.extxyz", "OUTCAR", "vasprun.xml", "a.hdf5"):
        for read, wanted in zip(kalmandp_frames(tmp_path / name), frames, strict=True):
            assert_allclose(read.forces, wanted.forces, atol=1e-5)  # five decimals of an OUTCAR
            assert_allclose(read.virial, wanted.virial, atol=1e-4)


def kalmandp_frames(path):
    return list(Source(str(path), guess_format(str(path))).frames())


def test_exponent(benchmarks):
    exponent = benchmarks["growth"].exponent
    assert_allclose(exponent({x: 3.0 * x**1.5 for x in (1.0, 2.0, 5.0)}), 1.5, rtol=1e-12)  # exact law
    assert math.isnan(exponent({1.0: 1.0}))


def test_the_other_process_answers_and_its_end_is_an_error_with_its_log(benchmarks, tmp_path, monkeypatch):
    peer = benchmarks["peer"]
    script = tmp_path / "child.py"
    script.write_text(
        "import sys, json\n"
        "print(json.dumps({'seconds': 0.5 * int(sys.stdin.readline())}), flush=True)\n"
        "sys.exit('this is why')\n"
    )
    monkeypatch.setattr(peer, "CHILD", script)
    process = peer.Process(sys.executable, {}, tmp_path, "train")
    assert process.seconds(4) == 2.0
    with pytest.raises(peer.DeepmdError, match="this is why"):
        process.seconds(1)
    process.close()


def test_table_and_bars(benchmarks, tmp_path):
    pytest.importorskip("matplotlib", reason='matplotlib is not installed; pip install "kalmandp[plot]"')
    bars = benchmarks["bars"]
    rows = [
        bars.Row("a", {bars.OURS: 0.002, bars.LIMIT: 0.001}),
        bars.Row("b", {bars.OURS: 1.0, bars.DEEPMD: 30.0}),
    ]
    lines = bars.table(rows).splitlines()
    assert lines[1].split() == ["a", "2.000", "1.000", "0.50×", "–", "–"]
    assert lines[2].split() == ["b", "1000.000", "–", "–", "30000.000", "30.00×"]
    assert bars.plot(rows, tmp_path / "bars.png", "title").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileError):
        bars.plot(rows, tmp_path / "missing" / "bars.png", "title")


def test_records_are_whole(benchmarks, tmp_path):
    turns = benchmarks["turns"]
    turns.write_json(tmp_path / "record.json", {"machine": turns.machine()})
    assert json.loads((tmp_path / "record.json").read_text())["machine"]["cores"] >= 1


def test_the_gpus_benchmark_measures_what_it_says(benchmarks, monkeypatch):
    """On the tests' device: whole cycles of updates, all kernels of a step, a share of all their time."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the CUDA kernels cannot be run on the host")
    gpu, runs = benchmarks["gpu"], benchmarks["gpu_runs"]
    monkeypatch.syspath_prepend(FOLDER.parents[1] / "tests" / "engines")
    bench = gpu.bench_of(argparse.Namespace(dry_run=True, small=False, rounds=1))
    bench.network |= {"embedding": (2, 4), "axis_neuron": 2, "fitting": (4,), "rcut": 2.0}
    rows = runs.updates(bench, copied=1e9, sizes=(1,))
    assert [row["P"] for row in rows] == ["float64", "float32"]
    halves = 8 * sum(n * (n + 1) / 2 for n in runs.blocks_of(bench).sizes)
    assert_allclose(rows[0]["half of P/copy"], halves / (1e-3 * rows[0]["ms"]) / 1e9, rtol=1e-12)
    table = runs.kernels(bench, runs.SIGNED)
    assert_allclose(sum(row["share"] for row in table), 1.0)
    once = {row["kernel"]: row["a step"] for row in table}
    assert once["project.cu: multiply"] == 5 and once["environment.cu: pair_environment"] == 1
    (row,) = runs.learning(bench, *gpu.SI64, seconds=60.0, epochs=1, small=True)
    assert row["frames"] == 1 and row["meV/Å"] > 0


@pytest.mark.parametrize("name", ["nep.py", "nep_memory.py", "nep_conditioning.py", "nep_training.py"])
def test_benchmarks_of_nep_run_and_print_their_figures(name):
    one = {f"{library}_NUM_THREADS": "1" for library in ("NUMBA", "OMP", "OPENBLAS", "MKL")}
    root = str(FOLDER.parents[1])
    done = subprocess.run(
        [sys.executable, FOLDER / name, "--small"], capture_output=True, text=True, timeout=900,
        env={**os.environ, **one, "PYTHONPATH": root},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout
    if name == "nep.py":
        parts = {x[:24].strip(): float(x[24:].split()[0]) for x in said.splitlines() if " ms" in x}
        assert {"the filter's update", "its P Hᵀ", "rows of 72 forces", "together"} <= parts.keys()
        assert 0 < float(re.search(r"gemm \d+: ([\d.]+) of it", said)[1]) < 2
    elif name == "nep_memory.py":
        # more than an interpreter with its compiler, less than a machine has
        assert 0.05 < float(re.search(r"memory at most ([\d.]+) GiB", said)[1]) < 4
    elif name == "nep_conditioning.py":
        rows = np.array([line.split()[:6] for line in said.splitlines() if line[:9].strip().isdigit()], float)
        assert rows[:, 0].tolist() == 2 * [10, 22, 46, 100]
        # P ≤ P₀/Λ, and nearly that along what no measurement tells: three digits are printed
        assert_allclose(rows[:, 2], rows[:, 3], rtol=6e-3)
        assert (rows[:, 4] > 0).all() and rows[7, 2] > 2 > 1.1 > rows[3, 2]
        assert_allclose(rows[:, 5], rows[:, 2] / rows[:, 4], rtol=0.05)  # two digits
    else:
        ends = [line.split("|")[1:5] for line in said.splitlines() if line.startswith("| ") and "/" in line]
        assert [name.strip() for name, *_ in ends] == ["NEP/RLEKF", "NEP/Adam", "NEP/SNES", "DP/RLEKF"]
        assert all(float(energy) > 0 for _, _, _, energy in ends)
