"""Random NEPs and frames for the tests, what they predict, and the stored judges."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from kalmandp.frames.frame import Frame
from kalmandp.geometry.pairs import forces_from_pairs, gather, virial_from_pairs
from kalmandp.potentials.atomic import energies, pair_gradient
from kalmandp.potentials.nep.descriptor import NEPDescriptor
from kalmandp.potentials.nep.form import NEPForm
from kalmandp.potentials.nep.zbl import UNIVERSAL
from kalmandp.potentials.protocol import Parameters

JUDGES = Path(__file__).parent / "nep_judges" / "nep_judges.npz"
SYMBOLS = ("O", "H", "Ti", "Pb")


class Prediction(NamedTuple):
    E_i: np.ndarray
    F_ic: np.ndarray
    W_fdc: np.ndarray
    q_id: np.ndarray


def predict(par, env) -> Prediction:
    """E_i, F, W and q."""
    E_i, forward = energies(par, env)
    f_pc = pair_gradient(par, env, forward)
    return Prediction(
        E_i, forces_from_pairs(env.geometry, f_pc), virial_from_pairs(env.geometry, f_pc), forward[0]
    )


def parameters(form, weights, bias_t=None) -> Parameters:
    bias_t = np.zeros(form.n_types) if bias_t is None else bias_t
    return Parameters(NEPDescriptor(form), form.layout(), weights, bias_t)


def environment(form, statistics, frames):
    """The reference environment of a frame or several."""
    return NEPDescriptor(form).environment(statistics, gather(frames, form.type_map, form.cutoff))


def random_frame(rng, type_map, n_atoms=6, kind="tilted") -> Frame:
    """Atoms on a jittered lattice, so that none overlap, in a cell of the given kind."""
    sites = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)
    chosen = rng.permutation(len(sites))[:n_atoms]
    positions = 1.6 * sites[chosen] + rng.uniform(-0.25, 0.25, (n_atoms, 3))
    cell, pbc = np.eye(3) * 4.8, (True, True, True)
    if kind == "tilted":
        cell = cell + rng.uniform(-0.6, 0.6, (3, 3))
    elif kind == "slab":
        cell, pbc = np.diag([4.8, 4.8, 20.0]), (True, True, False)
    elif kind == "open":
        cell, pbc = None, (False, False, False)
    return Frame(positions, rng.integers(0, len(type_map), n_atoms), type_map, cell=cell, pbc=pbc)


def random_zbl(rng, n_types):
    kind = rng.integers(3)
    if kind == 2:
        rows = []
        for _ in range(n_types * (n_types + 1) // 2):
            shape = np.array(UNIVERSAL) * rng.uniform(0.8, 1.2, 8)
            rows.append((rng.uniform(0.5, 0.8), rng.uniform(1.6, 2.2), *shape))
        return {"pairs": rows}
    return {"inner": 0.8, "outer": 1.9, "factor": 0.8 if kind == 1 else None}


def random_form(rng, n_types=2, **choices) -> NEPForm:
    """A form with anything on or off."""
    type_map = SYMBOLS[:n_types]
    per_type = rng.random() < 0.5
    count = n_types if per_type else 1
    L = int(rng.integers(1, 6))
    flags = [int(rng.random() < 0.5 and L >= least) for least in (2, 1, 2, 3, 3, 4)]
    fields = {
        "version": int(rng.choice([3, 4, 5])),
        "radial_cutoff": tuple(rng.uniform(3.0, 4.0, count)),
        "angular_cutoff": tuple(rng.uniform(2.0, 3.0, count)),
        "n_max": tuple(rng.integers(0, 4, 2)),
        "basis_size": tuple(rng.integers(0, 5, 2)),
        "l_max": (L, *flags),
        "neuron": int(rng.integers(1, 8)),
        "zbl": random_zbl(rng, n_types) if rng.random() < 0.4 else None,
    }
    return NEPForm(type_map, **{**fields, **choices})


class Case:
    """A random model and what a frame (or several) is to it."""

    def __init__(self, rng, form, frames, scale=0.7):
        self.form, self.frames = form, frames
        self.statistics = {"q_scaler": rng.uniform(0.5, 1.5, form.size)}
        self.par = parameters(
            form, scale * rng.normal(size=form.layout().size), rng.normal(size=form.n_types)
        )
        self.geometry = gather(frames, form.type_map, form.cutoff)
        self.env = self.par.descriptor.environment(self.statistics, self.geometry)

    def moved(self, v_pc):
        """The environment after every pair vector was moved by v."""
        geometry = self.geometry._replace(r_pc=self.geometry.r_pc + v_pc)
        return self.par.descriptor.environment(self.statistics, geometry)


def judge_models() -> list[str]:
    with np.load(JUDGES) as stored:
        return sorted({key.split("/")[0] for key in stored.files})


class Judge:
    """One stored model: its file, and per structure a frame and the values of another program."""

    def __init__(self, name: str, folder):
        with np.load(JUDGES) as stored:
            values = {key: stored[key] for key in stored.files if key.startswith(f"{name}/")}
        self.path = Path(folder) / "nep.txt"
        self.path.write_bytes(values.pop(f"{name}/nep.txt").tobytes())
        self.values = [
            {key.split("/", 2)[2]: value for key, value in values.items() if key.startswith(f"{name}/{s}/")}
            for s in range(3)
        ]

    def frame(self, s: int, type_map) -> Frame:
        v = self.values[s]
        types = [type_map.index(name) for name in str(v["symbols"]).split()]
        return Frame(v["positions"], types, type_map, cell=v["cell"])
