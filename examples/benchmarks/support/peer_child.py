"""Runs under a Python that has DeePMD-kit, and repeats what it is told.

    PYTHON peer_child.py prepare FOLDER                       model.dp -> plain.pb, compressed.pb
    PYTHON peer_child.py train FOLDER                         steps of FOLDER/input.json
    PYTHON peer_child.py infer FOLDER MODEL FRAME.npz         energy, forces and virial

The last two read a number of repetitions from each line of their input, and answer with a line of JSON:
the seconds that these took.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np


def prepare() -> None:
    """The same model for TensorFlow, as it is and with its embedding net in a table."""
    from importlib import import_module

    from deepmd.entrypoints.convert_backend import convert_backend

    convert_backend(INPUT="model.dp", OUTPUT="plain.pb")
    compress = import_module("deepmd.tf.entrypoints.compress")
    # compress asks for a learning rate, which a converted model has not and the table does not need
    rate = {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-8}
    update = compress.update_deepmd_input
    compress.update_deepmd_input = lambda tree, *a, **k: update({**tree, "learning_rate": rate}, *a, **k)
    compress.compress(
        input="plain.pb", output="compressed.pb", extrapolate=5, step=0.01, frequency="-1",
        checkpoint_folder="model-compression", training_script=None, mpi_log="master", log_path=None,
        log_level=30,
    )  # fmt: skip


def train(answer) -> None:
    """Time from one call for the next batch to a later one: everything that DeePMD-kit does per step."""
    import torch
    from deepmd.pt.entrypoints.main import get_trainer
    from deepmd.utils.argcheck import normalize
    from deepmd.utils.compat import update_deepmd_input

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with open("input.json") as file:
        config = json.load(file)
    trainer = get_trainer(normalize(update_deepmd_input(config, warning=False)))
    fetch, left, start = trainer._next_training_batch, 0, 0.0

    def next_batch(*args, **kwargs):
        nonlocal left, start
        if left == 0:
            if start:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                answer(seconds=time.perf_counter() - start)
            line = sys.stdin.readline()
            if not line:
                sys.stderr.flush()
                os._exit(0)  # the loop has no other end
            left, start = int(line), time.perf_counter()
        left -= 1
        return fetch(*args, **kwargs)

    trainer._next_training_batch = next_batch
    trainer.run()


def infer(answer, model: str, frame: str) -> None:
    """Energy, forces and virial by DeePMD-kit's C++ through its Python interface."""
    from deepmd.infer import DeepPot

    with np.load(frame) as file:
        positions, cell, types = (file[name] for name in ("positions", "cell", "types"))
    potential = DeepPot(model)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            energy, forces, _ = potential.eval(positions.reshape(1, -1), cell.reshape(1, -1), types)
        seconds = time.perf_counter() - start
        answer(seconds=seconds, energy=float(energy.item()), force=float(forces.reshape(-1)[0]))


def main() -> None:
    what, folder, *rest = sys.argv[1:]
    os.chdir(folder)
    # answers go out alone: whatever the libraries print is sent to the log
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values) -> None:
        print(json.dumps(values), file=out, flush=True)

    if what == "prepare":
        prepare()
    elif what == "train":
        train(answer)
    else:
        infer(answer, *rest)


if __name__ == "__main__":
    main()
