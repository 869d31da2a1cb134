"""Same input, same seed: the same bits, for 1, 2 and 3 threads, in one go or with a stop between."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from systems import frames, settings

import kalmandp
from kalmandp.kalman.coupled import WINDOW

#: Models large enough that their work is shared among threads.
LARGER = {"descriptor": {"neuron": [12, 24], "axis_neuron": 6}, "fitting_net": {"neuron": [24, 24]}}

#: Steps of 8 numbers: more than a window, so that columns are folded into P after the stop.
WINDOWS = {"numb_steps": WINDOW // 8 + 2}

CASES = {
    "float64": {"optimizer": {"type": "RLEKF", "block_size": 2048}, "training": WINDOWS},
    "float32": {
        "optimizer": {"type": "RLEKF", "block_size": 2048, "covariance_dtype": "float32"},
        "training": WINDOWS,
    },
    "many small blocks": {"optimizer": {"type": "RLEKF"}, "training": WINDOWS},
    "the last layer": {"optimizer": {"type": "RLEKF", "last_layer": True}, "training": WINDOWS},
    "batch of 2": {
        "optimizer": {"type": "RLEKF", "preset": "deepmd", "block_size": 2048},
        "training": {"training_data": {"batch_size": 2}},
    },
    "n2p2 and a sum of 2": {
        "optimizer": {
            "type": "RLEKF", "preset": "n2p2", "block_size": 2048, "n_groups": 2, "reduction": "sum",
            "candidates": {"energy": 1.0},
        },
        "training": {"training_data": {"batch_size": 2}},
    },
    "SNES": {"optimizer": {"type": "SNES", "population": 4}},
    "Adam": {"optimizer": {"type": "Adam"}, "training": {"training_data": {"batch_size": 2}}},
}  # fmt: skip

PROGRAM = """
import hashlib, json, sys, threading
import numba
from kalmandp.training.loop import train
from kalmandp.potentials.potential import Potential

def digest(folder):
    return hashlib.sha256(Potential.load(folder + "/model.dp").weights.tobytes()).hexdigest()

def run(*args, **options):
    global most
    for record in train(*args, **options):
        most = max(most, threading.active_count())

most = 1
inputs, place = json.load(open(sys.argv[1])), sys.argv[2]
found = {}
for name, tree in inputs.items():
    for threads in (1, 3):
        numba.set_num_threads(threads)
        folder = f"{place}/{name}-{threads}"
        run(tree, output=folder)
        found[f"{name}, {threads} threads"] = digest(folder)
        # stopped once, and gone on with one thread less: with 2 of the 3
        count = iter(range(100))
        run(tree, output=folder + "-cut", stop=lambda: next(count) == 2)
        numba.set_num_threads(max(1, threads - 1))
        run(tree, output=folder + "-cut", restart=folder + "-cut/model.ckpt.h5")
        found[f"{name}, {threads} threads, stopped"] = digest(folder + "-cut")
print(json.dumps({"digests": found, "threads": most}))
"""


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    """Of the weights of every run: another process, which may have three threads on any machine."""
    place = tmp_path_factory.mktemp("runs")
    kalmandp.Dataset.write(place / "morse.h5", frames(6))
    inputs = {}
    for name, changes in CASES.items():
        tree = settings(place / "morse.h5")
        for section, values in LARGER.items():
            tree["model"][section] |= values
        tree["optimizer"] = changes["optimizer"]
        training = {"numb_steps": 5, "training_data": {}} | changes.get("training", {})
        data = tree["training"]["training_data"] | training["training_data"]
        tree["training"] |= training | {"training_data": data}
        inputs[name] = tree
    (place / "inputs.json").write_text(json.dumps(inputs))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, place / "inputs.json", place], capture_output=True, text=True,
        timeout=300, env={**os.environ, "NUMBA_NUM_THREADS": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_the_same_bits(digests, name):
    mine = {run: digest for run, digest in digests["digests"].items() if run.startswith(f"{name},")}
    assert len(mine) == 4 and len(set(mine.values())) == 1, mine


def test_other_settings_are_other_bits(digests):
    """What the test above compares does tell runs apart."""
    assert len(set(digests["digests"].values())) == len(CASES)


def test_the_work_was_shared(digests):
    assert digests["threads"] >= 3, "one thread did all the work: nothing was compared"
