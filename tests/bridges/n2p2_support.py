"""A folder of n2p2 with a small model and random labels."""

from __future__ import annotations

import numpy as np
import pytest

from kalmandp import Frame
from kalmandp.formats.runner import write_runner

MODEL = """
number_of_elements 2
elements Cl Na
cutoff_type 2
scale_symmetry_functions
center_symmetry_functions
global_hidden_layers_short 1
global_nodes_short 4
global_activation_short t l
"""
FUNCTIONS = "".join(
    f"symfunction_short {a} 2 {b} {eta} 0.0 {{rc}}\n"
    for a in ("Na", "Cl") for b in ("Na", "Cl") for eta in (0.01, 0.1)
)  # fmt: skip
TRAINING = """
epochs 4
random_seed 7
use_short_forces
updater_type 1
kalman_type 0
kalman_epsilon 0.05
kalman_eta 0.02
kalman_lambda_short 0.97
short_energy_fraction 1.0
short_force_fraction 0.1
force_weight 2.0
selection_mode 2
rmse_threshold 0.5
task_batch_size_force 3
jacobian_mode 2
parallel_mode 1
write_weights_epoch 1
"""
SITES = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
N, UPDATES = 6, 6 + int(0.1 * 6 * 24) // 3


def frames(n=N, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        a = 5.6 * (1 + 0.02 * rng.normal())
        forces = rng.normal(size=(8, 3))
        yield Frame(
            0.5 * a * SITES + 0.1 * rng.normal(size=(8, 3)), [0] * 4 + [1] * 4, ("Na", "Cl"),
            cell=a * np.eye(3), energy=float(rng.normal() - 24), forces=forces - forces.mean(0),
        )  # fmt: skip


def text(training=TRAINING, rc=12.0, more=""):
    """An input.nn; what ``more`` states takes the place of what ``training`` says of it."""
    said = {line.split()[0] for line in more.splitlines()}
    kept = (line for line in training.splitlines(keepends=True) if not said & set(line.split()[:1]))
    training = "".join(kept)
    return MODEL + FUNCTIONS.format(rc=rc) + training + more


@pytest.fixture
def place(tmp_path):
    (tmp_path / "input.nn").write_text(text())
    write_runner(tmp_path / "input.data", frames())
    return tmp_path


def in_angstrom(path):
    """An input.data in Å and eV that says nothing of it."""
    lines = []
    for f in frames():
        lines += ["begin", *(f"lattice {' '.join(map(repr, row))}" for row in f.cell.tolist())]
        for s, r, force in zip(f.symbols, f.positions.tolist(), f.forces.tolist(), strict=True):
            lines.append(f"atom {' '.join(map(repr, r))} {s} 0.0 0.0 {' '.join(map(repr, force))}")
        lines += [f"energy {f.energy!r}", "charge 0.0", "end"]
    path.write_text("\n".join(lines) + "\n")
