"""Judge data of n2p2, and random HDNNPs on random frames."""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path

import numpy as np

from kalmandp.frames.elements import NUMBER
from kalmandp.frames.frame import Frame
from kalmandp.geometry.pairs import forces_from_pairs, gather, virial_from_pairs
from kalmandp.potentials import atomic
from kalmandp.potentials.activations import N2P2_NAMES
from kalmandp.potentials.hdnnp.descriptor import HDNNPDescriptor
from kalmandp.potentials.hdnnp.environment import symmetry_functions
from kalmandp.potentials.hdnnp.form import SCALINGS, STATISTICS, HDNNPForm
from kalmandp.potentials.hdnnp.symmetry_functions import SUBTYPES, SymmetryFunction
from kalmandp.potentials.protocol import Parameters

JUDGES = Path(__file__).parent / "hdnnp_judges"


@cache
def judges(name: str) -> dict:
    """One of models, filter, data."""
    return json.loads(lzma.decompress((JUDGES / f"{name}.json.xz").read_bytes()))


def unpack(files: dict, folder: Path) -> Path:
    """Write the files of a judge into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def frame_of(structure: dict, type_map, length: float = 1.0, repeat=(1, 1, 1)) -> Frame:
    """A judge's structure as a frame in Å, repeated along its lattice vectors."""
    symbols = structure["symbols"]
    positions = np.array(structure["positions"]) * length
    cell = structure["cell"]
    if cell is not None:
        cell = np.array(cell) * length
        shifts = np.stack(np.meshgrid(*map(np.arange, repeat), indexing="ij"), -1).reshape(-1, 3)
        positions = np.concatenate([positions + s @ cell for s in shifts])
        symbols = symbols * len(shifts)
        cell = cell * np.array(repeat)[:, None]
    types = [list(type_map).index(s) for s in symbols]
    return Frame(positions, types, tuple(type_map), cell=cell, pbc=cell is not None)


def read_frames(text: str, type_map) -> list[Frame]:
    """Structures of an input.data whose numbers are taken for Å and eV."""
    frames = []
    for block in text.split("begin")[1:]:
        rows = [line.split() for line in block.splitlines()]
        cell = [list(map(float, r[1:4])) for r in rows if r and r[0] == "lattice"]
        atoms = [r for r in rows if r and r[0] == "atom"]
        energy = next(float(r[1]) for r in rows if r and r[0] == "energy")
        frames.append(
            Frame(
                [list(map(float, r[1:4])) for r in atoms], [list(type_map).index(r[4]) for r in atoms],
                tuple(type_map), cell=cell or None, pbc=bool(cell), energy=energy,
                forces=[list(map(float, r[7:10])) for r in atoms],
            )
        )  # fmt: skip
    return frames


class Case:
    """A model on frames: E_i, f_pc and their gradients by `potentials.atomic`."""

    def __init__(self, form, weights, statistics, bias_t, frames):
        self.form = form
        self.descriptor = HDNNPDescriptor(form)
        self.layout = form.layout()
        self.par = Parameters(self.descriptor, self.layout, weights, np.asarray(bias_t))
        self.statistics = statistics
        self.geometry = gather(frames, form.type_map, form.cutoff)
        self.env = self.descriptor.environment(statistics, self.geometry)

    def moved(self, v_pc):
        """The case with pair vectors moved by v_pc."""
        new = object.__new__(Case)
        new.__dict__.update(self.__dict__)
        new.geometry = self.geometry._replace(r_pc=self.geometry.r_pc + v_pc)
        new.env = self.descriptor.environment(self.statistics, new.geometry)
        return new

    def energies(self, w=None):
        return atomic.energies(self._par(w), self.env)[0]

    def _par(self, w):
        return self.par if w is None else self.par._replace(weights=w)

    def pair_gradient(self, w=None):
        par = self._par(w)
        return atomic.pair_gradient(par, self.env, self._forward(par))

    def _forward(self, par):
        # what is kept is real for real weights, complex for complex ones
        E_i, forward = atomic.energies(par, self.env)
        return forward

    def weight_gradient(self, E_bar_i, v_pc):
        return atomic.weight_gradient(self.par, self.env, self._forward(self.par), E_bar_i, v_pc)

    def energy_gradient(self, E_bar_i):
        return atomic.energy_gradient(self.par, self.env, self._forward(self.par), E_bar_i)

    def forces(self):
        return forces_from_pairs(self.geometry, self.pair_gradient())

    def virial(self):
        return virial_from_pairs(self.geometry, self.pair_gradient())


ELEMENTS = ("H", "C", "O", "Cu")
SMOOTH = ("linear", "tanh", "sigmoid", "softplus", *N2P2_NAMES)
#: Of outputs: e^−a of a wide range overflows all other sums; 1 − tanh² of a large number has few digits, and
#: all of ∂E/∂w would have no more.
OUTPUTS = ("linear", "sigmoid", "complement", "softplus", "cosine")


def random_functions(rng, type_map, n=5) -> list[SymmetryFunction]:
    rows = []
    while len(rows) < n:
        kind = int(rng.choice([2, 3, 9, 20, 21, 22]))
        rc = float(rng.uniform(2.0, 4.5))
        sub = str(rng.choice([s + a for s in SUBTYPES for a in ("", "a")]))
        one, other = (str(rng.choice(type_map)) for _ in range(2))
        if kind == 2:
            f = SymmetryFunction(2, (one,), rc, eta=rng.uniform(0, 2), rs=rng.uniform(0, 2))
        elif kind in (3, 9):
            f = SymmetryFunction(
                kind, (one, other), rc, eta=rng.uniform(0, 0.2), rs=rng.uniform(0, 1),
                zeta=float(rng.choice([1.0, 1.7, 2.0, 4.0])), lam=float(rng.choice([-1.0, 1.0, 0.5])),
            )  # fmt: skip
        elif kind == 20:
            f = SymmetryFunction(20, (one,), rc, rl=float(rng.choice([-rc, 0.0, 0.8])), sub=sub)
        else:
            left, right = [(0.0, 180.0), (-60.0, 60.0), (90.0, 270.0), (30.0, 130.0)][rng.integers(4)]
            f = SymmetryFunction(
                kind, (one, other), rc, rl=float(rng.choice([-rc, 0.0, 0.8])), left=left, right=right, sub=sub
            )
        rows.append(f)
    return rows


def random_form(rng, n_types=2, **choices) -> HDNNPForm:
    type_map = tuple(sorted(rng.permutation(ELEMENTS)[:n_types].tolist(), key=NUMBER.__getitem__))
    hidden = [(4, 3), (5,), (3, 4, 3), ()][rng.integers(4)]
    drawn = dict(
        type_map=type_map,
        functions=[random_functions(rng, type_map, int(rng.integers(2, 7))) for _ in type_map],
        hidden=hidden,
        activations=(*(str(rng.choice(SMOOTH)) for _ in hidden), str(rng.choice(OUTPUTS))),
        cutoff_kind=int(rng.integers(1, 9)),
        cutoff_alpha=float(rng.choice([0.0, 0.2])),
        scaling=str(rng.choice(SCALINGS)),
        scale_min=float(rng.uniform(-1, 0)),
        scale_max=float(rng.uniform(0.5, 1)),
        normalize_nodes=bool(rng.integers(2)),
        length_unit=float(rng.choice([1.0, 0.7])),
        energy_unit=float(rng.choice([1.0, 2.7])),
        conv_energy=float(rng.choice([1.0, 1.9])),
    )
    return HDNNPForm(**{**drawn, **choices})


def random_frame(rng, form, n_atoms=5, kind="tilted") -> Frame:
    """Atoms on a jittered lattice, so that none overlap, in a cell of the given kind."""
    sites = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)
    positions = 1.3 * sites[rng.permutation(len(sites))[:n_atoms]] + rng.uniform(-0.25, 0.25, (n_atoms, 3))
    cell = {"tilted": np.eye(3) * 3.9 + rng.uniform(-0.4, 0.4, (3, 3)), "slab": np.diag([3.9, 3.9, 15.0])}
    pbc = {"tilted": (True, True, True), "slab": (True, True, False)}.get(kind, (False, False, False))
    types = rng.integers(0, form.n_types, n_atoms)
    return Frame(positions, types, form.type_map, cell=cell.get(kind), pbc=pbc)


def random_case(rng, form, frames, scale=1.0) -> Case:
    """Weights and statistics drawn, the latter near those of the frames."""
    geometry = gather(frames, form.type_map, form.cutoff)
    G_id, _ = symmetry_functions(form, geometry, derivatives=False)
    shape = form.statistics_shapes()["min"]
    statistics = {name: np.zeros(shape) for name in STATISTICS}
    for t in range(form.n_types):
        G = G_id[geometry.types_i == t] if (geometry.types_i == t).any() else np.zeros((1, shape[1]))
        spread = rng.uniform(0.1, 0.5, shape[1])
        statistics["min"][t], statistics["max"][t] = G.min(0) - spread, G.max(0) + spread
        statistics["mean"][t], statistics["sigma"][t] = G.mean(0), G.std(0) + spread
        for value in statistics.values():
            value[t, form.size_t[t] :] = 0.0
    weights = rng.normal(size=form.layout().size) * scale / 2
    return Case(form, weights, statistics, rng.normal(size=form.n_types), frames)
