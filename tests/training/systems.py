"""Small labelled data sets made on the spot: a Morse solid of two species, with exact derivatives."""

from __future__ import annotations

import numpy as np

from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.potentials.potential import Potential
from kalmandp.training.trainers.kalman import KalmanTrainer

#: Depth (eV) and distance (Å) of the Morse wells A–A, A–B, B–B; their stiffness (1/Å) and cut-off (Å).
DEPTH = np.array([[0.30, 0.50], [0.50, 0.20]])
DISTANCE = np.array([[2.6, 2.3], [2.3, 2.8]])
STIFFNESS, CUTOFF = 1.4, 4.2


def label(frame: Frame) -> Frame:
    """The frame with energy, forces and virial of the Morse pairs, shifted to zero at the cut-off."""
    p = neighbour_pairs(frame, CUTOFF)
    r = np.sqrt((p.r_pc**2).sum(1))
    D = DEPTH[frame.types[p.i_p], frame.types[p.j_p]]
    r0 = DISTANCE[frame.types[p.i_p], frame.types[p.j_p]]

    def morse(r):
        x = np.exp(-STIFFNESS * (r - r0))
        return D * (x * x - 2 * x), D * STIFFNESS * (2 * x - 2 * x * x)

    # smooth at the cut-off: φ(r) − φ(r_c) − (r − r_c) φ′(r_c)
    (V, dV), (Vc, dVc) = morse(r), morse(np.full_like(r, CUTOFF))
    energy = 0.5 * (V - Vc - (r - CUTOFF) * dVc).sum()
    f_pc = 0.5 * ((dV - dVc) / r)[:, None] * p.r_pc
    forces = np.zeros((len(frame), 3))
    np.add.at(forces, p.i_p, f_pc)
    np.add.at(forces, p.j_p, -f_pc)
    virial = -f_pc.T @ p.r_pc
    fields = {n: getattr(frame, n) for n in ("positions", "types", "type_map", "cell", "pbc", "source")}
    return Frame(**fields, energy=energy, forces=forces, virial=virial)


def frames(n_frames: int, seed: int = 0, spread: float = 0.12) -> list[Frame]:
    """Jittered, slightly strained CsCl cells of 16 atoms."""
    rng = np.random.default_rng(seed)
    unit = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    cells = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    scaled = (cells[:, None, :] + unit[None]).reshape(-1, 3) / 2
    types = np.tile([0, 1], 8)
    out = []
    for k in range(n_frames):
        cell = 5.6 * (np.eye(3) + rng.normal(0, 0.02, (3, 3)))
        positions = scaled @ cell + rng.normal(0, spread, (16, 3))
        out.append(label(Frame(positions, types, ("A", "B"), cell=cell, source=f"morse frame {k}")))
    return out


def settings(data, **changes) -> dict:
    """An input for `train`, small enough for a test; ``changes`` go into its sections."""
    tree = {
        "model": {
            "type_map": ["A", "B"],
            "descriptor": {
                "type": "se_e2_a", "sel": "auto", "rcut": 4.2, "rcut_smth": 1.0,
                "neuron": [6, 12], "axis_neuron": 4, "type_one_side": True,
            },
            "fitting_net": {"neuron": [12, 12], "resnet_dt": False},
        },
        "optimizer": {"type": "RLEKF", "block_size": 300},
        "training": {
            "training_data": {"systems": [str(data)]}, "numb_steps": 20, "seed": 1,
            "disp_freq": 5, "save_freq": 1000,
        },
    }  # fmt: skip
    for section, values in changes.items():
        tree.setdefault(section, {}).update(values)
    return tree


def small_potential(seed=2):
    """A potential of the two species, with random weights."""
    return Potential.create(
        ("A", "B"), rcut=4.2, rcut_smth=1.0, frames=frames(4), rng=np.random.default_rng(seed),
        embedding=(4, 6), axis_neuron=2, fitting=(6,), type_one_side=True,
    )  # fmt: skip


def kalman_trainer(start, choices, per_epoch=None) -> KalmanTrainer:
    """A trainer of a copy of ``start``."""
    rng = np.random.default_rng(0)
    return KalmanTrainer(start.with_engine(None), choices, rng, per_epoch=per_epoch)
