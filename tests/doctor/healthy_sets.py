"""Healthy sets of many kinds, made by calculators: crystals, alloys, clusters, surfaces, liquids, mixtures.

Each is a list of Frames whose energies, forces and virials are right by construction. They are what the
doctor must have nothing to say against; `measure.py` counts what it says, also of planted faults.

Calculators: effective-medium theory, Lennard-Jones, Morse and TIP3P of ASE's, and those of `pair_potentials`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms, units
from ase.build import bcc100, bulk, diamond100, fcc111, graphene, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.calculators.tip3p import TIP3P
from ase.cluster import Icosahedron
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from pair_potentials import StillingerWeber, finnis_sinclair, ionic, springs

from kalmandp.frames.frame import Frame


def labelled(atoms: Atoms, calc, shift: float = 0.0) -> Frame:
    """A frame with the labels of ``calc``; ``shift`` eV per atom, as total energies of DFT have."""
    atoms = atoms.copy()
    atoms.calc = calc
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    virial = None
    if atoms.pbc.all():
        try:
            virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
        except Exception:
            virial = None
    symbols = atoms.get_chemical_symbols()
    names = tuple(dict.fromkeys(symbols))
    return Frame(
        atoms.positions, [names.index(s) for s in symbols], names, cell=np.array(atoms.cell),
        pbc=tuple(atoms.pbc),
        energy=energy + shift * len(atoms), forces=forces, virial=virial,
    )  # fmt: skip


def rattled(make, calc, n=40, amplitude=0.08, strain=0.02, seed=0, shift=0.0) -> list[Frame]:
    """Independent frames: displaced by ``amplitude`` Å, cells strained by ``strain``."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        code = make.__code__
        atoms = make(k) if code.co_argcount > len(make.__defaults__ or ()) else make()
        if strain:
            periodic = np.array(atoms.pbc, float)
            e = strain * rng.normal(size=(3, 3)) * periodic[:, None] * periodic[None]
            atoms.set_cell(atoms.cell @ (np.eye(3) + 0.5 * (e + e.T)), scale_atoms=True)
        atoms.positions += amplitude * rng.normal(size=atoms.positions.shape)
        frames.append(labelled(atoms, calc, shift))
    return frames


def dynamics(make, calc, n=40, kelvin=300.0, stride=5, dt=2.0, seed=0, start=20, shift=0.0) -> list[Frame]:
    """Frames of a trajectory."""
    rng = np.random.default_rng(seed)
    atoms = make()
    atoms.calc = calc
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * kelvin, rng=rng)
    md = Langevin(atoms, dt * units.fs, temperature_K=kelvin, friction=0.02 / units.fs, rng=rng, fixcm=False)
    md.run(start)
    frames = []
    for _ in range(n):
        md.run(stride)
        frames.append(labelled(atoms, calc, shift))
    return frames


def water_box(n: int = 8, side: float = 6.3, seed: int = 0) -> Atoms:
    """Water molecules on a grid, turned at random, with TIP3P's shape."""
    rng = np.random.default_rng(seed)
    box = Atoms(cell=[side] * 3, pbc=True)
    per = int(np.ceil(n ** (1 / 3)))
    angle = np.radians(104.52)
    shape = np.array([[0, 0, 0], [0.9572, 0, 0], [0.9572 * np.cos(angle), 0.9572 * np.sin(angle), 0]])
    for k in range(n):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        place = (np.array([k % per, k // per % per, k // per**2]) + 0.5) * side / per
        box += Atoms("OHH", shape @ turn + place + 0.1 * rng.normal(size=3))
    return box


def _alloy(symbols, base, seed):
    atoms = base()
    atoms.set_chemical_symbols(np.random.default_rng(seed).choice(symbols, len(atoms)).tolist())
    return atoms


def _without(atoms, *numbers):
    del atoms[list(numbers)]
    return atoms


cu = lambda k=2, a=3.61: bulk("Cu", cubic=True, a=a) * (k, k, k)
si = lambda k=2: bulk("Si", cubic=True, a=5.43) * (k, k, k)


def copper_cells(n: int = 120, seed: int = 3) -> list[Frame]:
    """Copper cells of 1 to 64 atoms, some of them with vacancies."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        a, b, c = rng.integers(1, 4, 3)
        atoms = bulk("Cu", cubic=bool(rng.integers(2)), a=3.6) * (int(a), int(b), int(c))
        if len(atoms) > 3 and rng.random() < 0.4:
            del atoms[rng.choice(len(atoms), min(2, len(atoms) // 4 + 1), replace=False).tolist()]
        atoms.set_cell(atoms.cell * rng.uniform(0.95, 1.05), scale_atoms=True)
        atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
        frames.append(labelled(atoms, EMT()))
    return frames


ar = lambda k=2, a=5.3: bulk("Ar", "fcc", a=a, cubic=True) * (k, k, k)
lj = lambda: LennardJones(sigma=3.4, epsilon=0.0104, rc=8.0, smooth=True)
fe = lambda k=2: bulk("Fe", "bcc", a=2.87, cubic=True) * (k, k, k)
morse = lambda r0=2.5, rho0=5.0: MorsePotential(epsilon=0.6, r0=r0, rho0=rho0, rcut1=1.7 * r0, rcut2=2.2 * r0)

#: Name -> a function that makes the set. The first are small and fast.
SETS: dict[str, Callable[[], list[Frame]]] = {
    "Cu crystal, strained (EMT)": lambda: rattled(cu, EMT()),
    "Cu 300 K (EMT)": lambda: dynamics(cu, EMT()),
    "Ni 900 K (EMT)": lambda: dynamics(lambda: bulk("Ni", cubic=True) * (2, 2, 2), EMT(), kelvin=900),
    "Al cubic cell (EMT)": lambda: rattled(lambda: bulk("Al", cubic=True), EMT(), 60, 0.1, 0.03),
    "Ag volumes, perfect (EMT)": lambda: [
        labelled(bulk("Ag", cubic=True, a=a) * (2, 2, 2), EMT()) for a in np.linspace(3.9, 4.4, 25)
    ],
    "Cu volumes and displacements (EMT)": lambda: rattled(
        lambda k: cu(2, 3.45 + 0.015 * (k // 2)), EMT(), 40, 0.06, 0.0
    ),
    "Pd liquid 2500 K (EMT)": lambda: dynamics(
        lambda: bulk("Pd", cubic=True, a=4.1) * (2, 2, 2), EMT(), kelvin=2500, stride=10, start=150
    ),
    "Cu slab (EMT)": lambda: rattled(lambda: fcc111("Cu", (3, 3, 4), vacuum=8.0), EMT(), 40, 0.08, 0.0),
    "CO on Cu slab (EMT)": lambda: rattled(_co_on_copper, EMT(), 40, 0.05, 0.0),
    "Au55 cluster (EMT)": lambda: dynamics(lambda: Atoms(Icosahedron("Au", 3)), EMT(), 40, 500),
    "Cu vacancies (EMT)": lambda: rattled(lambda k: _without(cu(), *range(k % 3)), EMT(), 60, 0.05, 0.01),
    "CuAu alloy (EMT)": lambda: rattled(
        lambda k: _alloy(["Cu", "Au"], lambda: cu(2, 3.85), k), EMT(), 60, 0.08, 0.02
    ),
    "CuNiAl alloy (EMT)": lambda: rattled(
        lambda k: _alloy(["Cu", "Ni", "Al"], lambda: cu(2, 3.7), k), EMT(), 60, 0.08, 0.02
    ),
    "Cu cells of 1 to 108 atoms (EMT)": copper_cells,
    "Cu dimers (EMT)": lambda: [
        labelled(Atoms("Cu2", [[0, 0, 0], [0, 0, r]]), EMT()) for r in np.linspace(1.8, 5.0, 40)
    ],
    "N2 in boxes (EMT)": lambda: rattled(
        lambda: Atoms("N2", [[0, 0, 0], [0, 0, 1.1]], cell=[9] * 3, pbc=True), EMT(), 40, 0.05, 0.0
    ),
    "methanol 300 K (EMT)": lambda: dynamics(lambda: molecule("CH3OH"), EMT(), 40, 300, 2, 0.5),
    "Pt, DFT-like totals (EMT)": lambda: rattled(
        lambda: bulk("Pt", cubic=True) * (2, 2, 2), EMT(), shift=-2.1e4
    ),
    "Cu, coarse labels (EMT)": lambda: _rounded(rattled(cu, EMT()), 1e-3, 1e-3, 1e-2),
    "Cu and Cu slabs and clusters (EMT)": lambda: (
        rattled(cu, EMT(), 20)
        + rattled(lambda: fcc111("Cu", (2, 2, 4), vacuum=8.0), EMT(), 20, 0.06, 0.0)
        + rattled(lambda: Atoms(Icosahedron("Cu", 2)), EMT(), 20, 0.08, 0.0)
    ),
    "Ar crystal (LJ)": lambda: rattled(ar, lj(), amplitude=0.15, strain=0.02),
    "Ar liquid (LJ)": lambda: dynamics(lambda: ar(2, 5.7), lj(), kelvin=120, stride=20, dt=5, start=150),
    "Ar gas (LJ)": lambda: rattled(lambda: ar(2, 9.0), lj(), amplitude=0.7, strain=0.02),
    "Ne13 cluster (LJ)": lambda: rattled(
        lambda: Atoms(Icosahedron("Ne", 2, latticeconstant=4.4)),
        LennardJones(sigma=2.75, epsilon=0.003, rc=8.0, smooth=True),
        40,
        0.1,
        0.0,
    ),
    "Fe crystal (Morse)": lambda: rattled(fe, morse(), amplitude=0.06),
    "Fe 1200 K (Morse)": lambda: dynamics(fe, morse(), 30, kelvin=1200, stride=2, start=10),
    "Fe surface (Morse)": lambda: rattled(
        lambda: bcc100("Fe", (3, 3, 4), vacuum=7.0), morse(), 40, 0.05, 0.0
    ),
    "wire, periodic along z (Morse)": lambda: rattled(
        lambda: Atoms("Cu8", [[0.1 * (k % 2), 0, 2.5 * k] for k in range(8)], cell=[0, 0, 20], pbc=[0, 0, 1]),
        morse(),
        40,
        0.06,
        0.0,
    ),
    "Si crystal (SW)": lambda: rattled(lambda: si(1), StillingerWeber(), 60, 0.08, 0.02),
    "Si 300 K, 64 atoms (SW)": lambda: dynamics(si, StillingerWeber(), kelvin=300),
    "Si 300 K, ten near frames (SW)": lambda: dynamics(si, StillingerWeber(), 10, 300, 1, 1.0),
    "Si liquid 3000 K (SW)": lambda: dynamics(
        si, StillingerWeber(), kelvin=3000, stride=10, start=200, dt=1.0
    ),
    "Si vacancy (SW)": lambda: rattled(lambda: _without(si(), 0), StillingerWeber(), 40, 0.05, 0.01),
    "Si surface (SW)": lambda: rattled(
        lambda: diamond100("Si", (2, 2, 6), vacuum=7.0), StillingerWeber(), 40, 0.05, 0.0
    ),
    "Ge, DFT-like totals (SW)": lambda: rattled(
        lambda: bulk("Ge", cubic=True, a=5.66), StillingerWeber(5.66 / 5.43), 60, 0.06, 0.02, shift=-2922.0
    ),
    "Si, large strains (SW)": lambda: rattled(lambda: si(1), StillingerWeber(), 60, 0.05, 0.06),
    "Mo crystal (FS)": lambda: rattled(
        lambda: bulk("Mo", cubic=True) * (2, 2, 2), finnis_sinclair(2.72, 1.5), amplitude=0.06
    ),
    "Ti hcp 600 K (FS)": lambda: dynamics(
        lambda: bulk("Ti", "hcp", a=2.95, c=4.68) * (2, 2, 2), finnis_sinclair(2.9), kelvin=600
    ),
    "Li bcc (FS)": lambda: rattled(
        lambda: bulk("Li", cubic=True) * (2, 2, 2), finnis_sinclair(3.02, 0.25), amplitude=0.15
    ),
    "W liquid 6000 K (FS)": lambda: dynamics(
        lambda: bulk("W", cubic=True) * (2, 2, 2),
        finnis_sinclair(2.74, 1.5),
        kelvin=6000,
        stride=10,
        start=150,
    ),
    "NaCl (ions)": lambda: rattled(
        lambda: bulk("NaCl", "rocksalt", a=5.64, cubic=True), ionic(2.82, {11: 1, 17: -1}), 60, 0.08, 0.015
    ),
    "MgO 1000 K (ions)": lambda: dynamics(
        lambda: bulk("MgO", "rocksalt", a=4.21, cubic=True),
        ionic(2.105, {12: 2, 8: -2}, 5.5),
        kelvin=1000,
        dt=1.0,
    ),
    "ZnS (ions)": lambda: rattled(
        lambda: bulk("ZnS", "zincblende", a=5.41, cubic=True),
        ionic(2.34, {30: 1, 16: -1}, 6.0),
        60,
        0.06,
        0.015,
    ),
    "CsCl supercell (ions)": lambda: rattled(
        lambda: bulk("CsCl", "cesiumchloride", a=4.12, cubic=True) * (2, 2, 2),
        ionic(3.57, {55: 1, 17: -1}),
        40,
        0.1,
        0.01,
    ),
    "graphene sheet (springs)": lambda: rattled(
        lambda: graphene(size=(3, 3, 1), vacuum=6.0), springs(1.42, 30.0), 40, 0.04, 0.0
    ),
    "Al crystal (springs)": lambda: rattled(
        lambda: bulk("Al", cubic=True) * (2, 2, 2), springs(2.86, 3.0), 40, 0.08, 0.01
    ),
    "water, rigid molecules (TIP3P)": lambda: [
        labelled(water_box(27, 9.4, seed=s), TIP3P(rc=4.5)) for s in range(40)
    ],
    "ice-like, one seed shaken (TIP3P)": lambda: [_shaken(s) for s in range(40)],
}


def _co_on_copper() -> Atoms:
    from ase.build import add_adsorbate

    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    add_adsorbate(slab, molecule("CO"), 1.9, "ontop", mol_index=1)
    return slab


def _shaken(seed: int) -> Frame:
    """The same box with molecules moved as a whole by a little."""
    rng = np.random.default_rng(seed)
    box = water_box(27, 9.4, seed=1)
    box.positions += np.repeat(0.05 * rng.normal(size=(27, 3)), 3, axis=0)
    return labelled(box, TIP3P(rc=4.5))


def _rounded(frames: list[Frame], energy: float, force: float, virial: float) -> list[Frame]:
    from dataclasses import replace

    return [
        replace(
            f, energy=round(f.energy / energy) * energy, forces=np.round(f.forces / force) * force,
            virial=np.round(f.virial / virial) * virial,
        )
        for f in frames
    ]  # fmt: skip
