#!/usr/bin/env python3
"""Make the thirteen data sets of the RLEKF paper's Table 1, labelled by GFN1-xTB.

Cu, Si, C (graphene), Ag, Mg, NaCl, Li, Al, MgAlCu, H2O, S (alpha-S8), CuO, CuC (C on Cu(111)), cells
and time steps as in `thirteen_systems.py`. For each system::

    run       molecular dynamics at 300 K with GFN1-xTB itself; every snapshot carries its labels
    check     forces and virial against differences of the energy; the SCF threshold
    collect   NAME_train.h5 (former 80 % of each trajectory) and NAME_test.h5 (latter 20 %)

Example::

    python data/make_thirteen.py --workdir DIR --processes 2
    python data/make_thirteen.py --workdir DIR --only Cu Ag

What is there already is not computed again; a trajectory that was interrupted goes on where it was
saved last. A calculation that does not converge, forces that are not the gradient of the energy or
a trajectory that does not conserve its energy stop the system: no file is written for it.

The labels are NOT those of the paper, which are plane-wave DFT (PWmat): they are a semi-empirical
tight-binding method that anyone can install, at the Gamma point of a small cell. They test how a
network is trained, and say nothing of copper.

Needs tblite, ase, scipy, h5py and kalmandp (run it with the repository in PYTHONPATH, or installed).
One core and some three minutes for each system. Lengths in Angstrom, energies in eV, times in fs,
masses in u.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import multiprocessing
import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from thirteen_systems import BY_NAME, SYSTEMS, System

# ---------------------------------------------------------------- constants (CODATA 2018)
BOLTZMANN = 8.617333262e-5  # eV / K
HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Angstrom
EV_PER_U_A2_FS2 = 103.642697  # u (Angstrom / fs)^2 in eV

# ---------------------------------------------------------------- how it is sampled and computed
TEMPERATURE = 300.0  # K
FRICTION = 0.01  # 1 / fs
FRICTION_OF_EQUILIBRATION = 0.03  # 1 / fs
SEED = 20260102
METHOD = "GFN1-xTB"
ELECTRONIC_TEMPERATURE = 3000.0  # K: Fermi smearing that lets metals converge
ACCURACY = 1.0  # tblite's default: energy to 1e-6 Hartree; `check` measures what that leaves
TIGHT_ACCURACY = 0.01
SECONDS_BETWEEN_SAVES = 20.0

#: `check`: |analytic - difference| of a directional derivative, relative to the root mean square
#: that direction would give; an error of sign, unit or shape is a hundred times larger.
TOLERANCE = 0.01
#: `examine`: drift of the conserved energy over a trajectory, meV per atom (k_B T is 26).
MOST_DRIFT = 10.0


class Failed(RuntimeError):
    """A system whose labels cannot be vouched for."""


# ================================================================ label
@dataclass(frozen=True)
class Label:
    """Energy (eV), forces (n, 3) (eV/Angstrom), virial (3, 3) = -dE/dstrain (eV)."""

    energy: float
    forces: np.ndarray
    virial: np.ndarray


class Xtb:
    """GFN1-xTB of one periodic system; each SCF cycle starts from the charges of the one before.

    The energy is the Mermin free energy E - TS of electrons at ELECTRONIC_TEMPERATURE, of which
    forces and virial are the derivatives.
    """

    def __init__(self, atoms, accuracy: float = ACCURACY):
        from tblite.interface import Calculator

        cell, pos = atoms.cell[:] / BOHR, atoms.positions / BOHR
        self._calculator = Calculator(METHOD, atoms.numbers, pos, 0, 0, cell, np.ones(3, bool))
        kelvin = BOLTZMANN / HARTREE
        settings = {
            "verbosity": 0,
            "temperature": ELECTRONIC_TEMPERATURE * kelvin,
            "accuracy": accuracy,
        }
        for name, value in settings.items():
            self._calculator.set(name, value)
        self._cell_cc = atoms.cell[:].copy()
        self._result = None

    def __call__(self, pos_ic: np.ndarray, cell_cc: np.ndarray | None = None) -> Label:
        """Label of these positions, in another cell if one is given.

        Raises
        ------
        Failed
            If the SCF cycle does not converge, from the charges before or from scratch.
        """
        cell_cc = self._cell_cc if cell_cc is None else cell_cc
        self._calculator.update(positions=pos_ic / BOHR, lattice=cell_cc / BOHR)
        try:
            self._result = self._calculator.singlepoint(self._result)
        except RuntimeError:
            try:
                self._result = self._calculator.singlepoint(None)
            except RuntimeError as error:
                raise Failed(f"tblite: {error}") from None
        label = Label(
            float(self._result["energy"]) * HARTREE,
            -np.array(self._result["gradient"]) * HARTREE / BOHR,
            -np.array(self._result["virial"]) * HARTREE,  # tblite's virial is dE/dstrain
        )
        if not all(np.isfinite(x).all() for x in (label.energy, label.forces, label.virial)):
            raise Failed("tblite returned a number that is not finite")
        return label


# ================================================================ run
class Langevin:
    """BAOAB Langevin dynamics whose total momentum stays zero.

    B. Leimkuhler, C. Matthews, Appl. Math. Res. Express 2013, 34. Beside the state it keeps
    ``heat``, what the thermostat has given: E_pot + E_kin - heat is conserved, up to the error of
    the time step (J. D. Chodera's shadow work).
    """

    def __init__(self, label, pos_ic, mass_i, time_step, temperature, rng):
        self.label, self.rng, self.time_step = label, rng, time_step
        self.pos_ic = np.array(pos_ic)
        self.mass_i1 = mass_i[:, None] * EV_PER_U_A2_FS2  # eV fs^2 / Angstrom^2
        self.vel_ic = self._thermal(temperature)
        self.step, self.heat = 0, 0.0
        self.now = label(self.pos_ic)

    def _still(self, vel_ic: np.ndarray) -> np.ndarray:
        return vel_ic - (self.mass_i1 * vel_ic).sum(axis=0) / self.mass_i1.sum()

    def _thermal(self, temperature: float) -> np.ndarray:
        speed_i1 = np.sqrt(BOLTZMANN * temperature / self.mass_i1)
        return self._still(speed_i1 * self.rng.normal(size=self.pos_ic.shape))

    @property
    def kinetic(self) -> float:
        return float(0.5 * (self.mass_i1 * self.vel_ic**2).sum())

    @property
    def temperature(self) -> float:
        """2 E_kin / (3 n - 3) k_B: the centre of mass stands still."""
        return 2 * self.kinetic / ((self.pos_ic.size - 3) * BOLTZMANN)

    @property
    def conserved(self) -> float:
        return self.now.energy + self.kinetic - self.heat

    def advance(self, friction: float) -> None:
        h, decay = self.time_step, np.exp(-friction * self.time_step)
        self.vel_ic = self.vel_ic + 0.5 * h * self.now.forces / self.mass_i1
        self.pos_ic = self.pos_ic + 0.5 * h * self.vel_ic
        before = self.kinetic
        self.vel_ic = decay * self.vel_ic + np.sqrt(1 - decay**2) * self._thermal(TEMPERATURE)
        self.heat += self.kinetic - before
        self.pos_ic = self.pos_ic + 0.5 * h * self.vel_ic
        self.now = self.label(self.pos_ic)
        self.vel_ic = self.vel_ic + 0.5 * h * self.now.forces / self.mass_i1
        self.step += 1

    def state(self) -> dict:
        """What `restore` needs; the forces are computed again."""
        generator = json.dumps(self.rng.bit_generator.state)
        return {"pos_ic": self.pos_ic, "vel_ic": self.vel_ic, "step": self.step,
                "heat": self.heat, "generator": generator}  # fmt: skip

    def restore(self, state) -> None:
        self.pos_ic, self.vel_ic = np.array(state["pos_ic"]), np.array(state["vel_ic"])
        self.step, self.heat = int(state["step"]), float(state["heat"])
        self.rng.bit_generator.state = json.loads(str(state["generator"]))
        self.now = self.label(self.pos_ic)


def cells_of(system: System) -> tuple[list, np.random.Generator]:
    """The initial cells and the generator after them, the same whichever systems are asked for."""
    rng = np.random.default_rng([SEED, SYSTEMS.index(system)])
    return system.build(rng), rng


def run(system: System, workdir: Path) -> None:
    """Write ``NAME_0.npz``, ``NAME_1.npz``, …: one finished trajectory each."""
    cells, rng = cells_of(system)
    streams = rng.spawn(len(cells))
    for number, (atoms, stream) in enumerate(zip(cells, streams, strict=True)):
        target = workdir / f"{system.name}_{number}.npz"
        if not target.exists():
            trajectory(system, number, len(cells), atoms, stream, target)


def trajectory(system: System, number: int, of: int, atoms, rng, target: Path) -> None:
    """Run one trajectory from where it was saved last, and write it to ``target``."""
    partial = target.with_suffix(".partial.npz")
    label = Xtb(atoms)
    md = Langevin(
        label, atoms.positions, atoms.get_masses(), system.time_step, system.start, rng
    )
    rows: dict[str, list] = {}
    if partial.exists():
        with np.load(partial) as saved:
            md.restore(saved)
            rows = {n[4:]: list(saved[n]) for n in saved.files if n.startswith("row_")}
    report = Progress(f"{system.name} {number + 1}/{of}", md.step, system.steps)
    while md.step < system.steps:
        equilibrating = md.step < system.equilibration
        clock = time.perf_counter()
        md.advance(FRICTION_OF_EQUILIBRATION if equilibrating else FRICTION)
        seconds = time.perf_counter() - clock
        if md.step >= system.equilibration:
            _append(rows, md, seconds, system)
        if report(md):
            _write(partial, md.state() | {f"row_{n}": np.array(r) for n, r in rows.items()})
    cell = {"cell": atoms.cell[:], "numbers": atoms.numbers, "start_pos": atoms.positions}
    _write(target, {n: np.array(r) for n, r in rows.items()} | cell)
    partial.unlink(missing_ok=True)


def _append(rows: dict[str, list], md: Langevin, seconds: float, system: System) -> None:
    """Temperature and conserved energy of every step; labels of every ``stride``-th."""
    row = {"temperature": md.temperature, "conserved": md.conserved, "seconds": seconds}
    if (md.step - system.equilibration) % system.stride == 0:
        now = md.now
        row |= {"positions": md.pos_ic, "energy": now.energy, "forces": now.forces,
                "virial": now.virial}  # fmt: skip
    for name, value in row.items():
        rows.setdefault(name, []).append(value)


class Progress:
    """A line now and then; says so, that the state can be saved as often."""

    def __init__(self, title: str, done: int, steps: int):
        self.title, self.first, self.steps = title, done, steps
        self.begun = self.last = time.time()

    def __call__(self, md: Langevin) -> bool:
        now = time.time()
        if now - self.last < SECONDS_BETWEEN_SAVES:
            return False
        self.last = now
        per_step = (now - self.begun) / (md.step - self.first)
        left = per_step * (self.steps - md.step)
        print(
            f"{self.title}: step {md.step} of {self.steps}, {md.temperature:.0f} K, "
            f"{per_step:.2f} s per step, {left / 60:.1f} min left",
            flush=True,
        )
        return True


def trajectories(system: System, workdir: Path) -> list[dict[str, np.ndarray]]:
    """The finished trajectories of a system."""
    found = []
    for file in sorted(workdir.glob(f"{system.name}_[0-9].npz")):
        with np.load(file) as loaded:
            found.append(dict(loaded))
    return found


# ================================================================ check
def check(system: System, workdir: Path) -> dict:
    """Write and return ``NAME_check.json``: derivatives beside differences of E, the SCF error.

    The last snapshot of the first trajectory, moved along one random direction of all atoms (each
    component of unit variance) and strained along two: all alike, and a random symmetric one.

    Raises
    ------
    Failed
        If they differ by more than TOLERANCE.
    """
    target = workdir / f"{system.name}_check.json"
    if target.exists():
        return json.loads(target.read_text())
    cells, rng = cells_of(system)
    atoms, rows = cells[0], trajectories(system, workdir)[0]
    pos_ic, cell_cc = rows["positions"][-1], rows["cell"]
    label = Xtb(atoms, TIGHT_ACCURACY)
    tight = label(pos_ic)
    d_ic = rng.normal(size=pos_ic.shape)
    d_cc = rng.normal(size=(3, 3))
    d_cc = (d_cc + d_cc.T) / 2

    def slope(h, changed):  # -dE/ds
        return (label(*changed(-h)).energy - label(*changed(h)).energy) / (2 * h)

    def strained(d_cc):
        def changed(s):
            f_cc = np.eye(3) + s * d_cc
            return pos_ic @ f_cc, cell_cc @ f_cc

        return slope(5e-4, changed)

    w_cc, force_norm = tight.virial, float(np.linalg.norm(tight.forces))
    w_norm = float(np.linalg.norm(w_cc)) + force_norm * 1.0  # virials of a few eV are differences
    pairs = {
        "forces along a random direction (eV/Angstrom)": (
            float((tight.forces * d_ic).sum()),
            slope(1e-3, lambda s: (pos_ic + s * d_ic, cell_cc)),
            force_norm,
        ),
        "virial, trace (eV)": (float(np.trace(w_cc)), strained(np.eye(3)), w_norm),
        "virial along a random strain (eV)": (
            float((w_cc * d_cc).sum()), strained(d_cc), w_norm
        ),
    }  # fmt: skip
    report = {name: list(pair[:2]) for name, pair in pairs.items()}
    for part in ("energy", "forces", "virial"):
        error = np.abs(rows[part][-1] - getattr(tight, part)).max()
        report[f"error of the usual SCF threshold, {part}, largest"] = float(error)
    for name, (analytic, differences, scale) in pairs.items():
        if abs(analytic - differences) > TOLERANCE * scale:
            raise Failed(f"{name}: {analytic:.6f}, by differences of the energy {differences:.6f}")
    _write_text(target, json.dumps(report, indent=2))
    return report


# ================================================================ collect
def examine(system: System, found: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Figures of the whole set, which become attributes of its files.

    Raises
    ------
    Failed
        If the conserved energy drifts, or a net force is left.
    """
    n = len(found[0]["numbers"])
    stack = lambda name: np.concatenate([rows[name] for rows in found])
    per_atom = np.concatenate([rows["energy"] / len(rows["numbers"]) for rows in found])
    forces = np.concatenate([rows["forces"].ravel() for rows in found])
    wander = max(np.ptp(rows["conserved"]) / len(rows["numbers"]) for rows in found) * 1e3
    moved = [rows["positions"] - rows["start_pos"] for rows in found]
    moved = [m - m.mean(axis=1, keepdims=True) for m in moved]
    net = max(np.abs(rows["forces"].sum(axis=1)).max() for rows in found)
    figures = {
        "atoms": n,
        "snapshots": sum(len(rows["energy"]) for rows in found),
        "trajectories": len(found),
        "mean_temperature_K": float(stack("temperature").mean()),
        "force_rms_eV_per_angstrom": float(np.sqrt(np.mean(forces**2))),
        "energy_std_meV_per_atom": float(
            np.sqrt(np.mean([np.var(r["energy"] / len(r["numbers"])) for r in found])) * 1e3
        ),
        "energy_range_meV_per_atom": float(np.ptp(per_atom) * 1e3),
        "conserved_energy_range_meV_per_atom": float(wander),
        "largest_net_force_eV_per_angstrom": float(net),
        "rms_displacement_from_start_angstrom": float(
            np.sqrt(np.mean(np.concatenate([(m**2).sum(-1).ravel() for m in moved])))
        ),
        "largest_virial_over_volume_GPa": float(
            max(np.abs(r["virial"].mean(0)).max() / abs(np.linalg.det(r["cell"])) for r in found)
            * 160.2176634
        ),
        "seconds_per_label": float(np.median(stack("seconds"))),
    }
    if wander > MOST_DRIFT:
        raise Failed(f"the conserved energy ranges over {wander:.1f} meV per atom")
    if net > 1e-6:
        raise Failed(f"a net force of {net:.1e} eV/Angstrom is left")
    return figures


def frames_of(system: System, found: list[dict[str, np.ndarray]], part: str):
    """Yield the Frames of the former (train) or latter (test) part of each trajectory."""
    from ase.data import chemical_symbols

    from kalmandp import Frame

    for number, rows in enumerate(found):
        types = [system.type_map.index(chemical_symbols[z]) for z in rows["numbers"]]
        chosen = slice(0, system.train) if part == "train" else slice(system.train, None)
        labels = (rows[name][chosen] for name in ("positions", "energy", "forces", "virial"))
        for k, (pos_ic, energy, forces_ic, virial_cc) in enumerate(zip(*labels, strict=True)):
            yield Frame(
                pos_ic, types, system.type_map, rows["cell"], energy=energy, forces=forces_ic,
                virial=virial_cc, source=f"{system.name} trajectory {number} frame {k}",
            )  # fmt: skip


def collect(system: System, workdir: Path, output: Path, report: dict) -> dict[str, float]:
    """Write ``NAME_train.h5`` and ``NAME_test.h5``; return the figures of `examine`."""
    from kalmandp.frames.writing import write_hdf5

    found = trajectories(system, workdir)
    figures = examine(system, found)
    output.mkdir(parents=True, exist_ok=True)
    for part in ("test", "train"):  # the train set last: where it is, both are
        frames = list(frames_of(system, found, part))
        notes = provenance(system, part, len(frames), figures, report)
        write_hdf5(
            output / f"{system.name}_{part}.h5", frames, type_map=system.type_map,
            attributes=notes, compression="gzip",
        )  # fmt: skip
    return figures


def provenance(system: System, part: str, n: int, figures: dict, report: dict) -> dict:
    """What the numbers are, where they come from, what may be done with them."""
    apart = system.stride * system.time_step
    versions = ", ".join(f"{name} {version(name)}" for name in ("tblite", "ase", "numpy"))
    return {
        "title": f"{system.name} ({system.structure}), GFN1-xTB: {part} set ({n} frames)",
        "system": system.cell,
        "method": (
            f"{METHOD} (C. Bannwarth et al., J. Chem. Theory Comput. 13, 1989 (2017)) by {versions}, "
            f"Python {platform.python_version()}; Gamma point only, 3-D periodic (vacuum included); "
            f"Fermi smearing at {ELECTRONIC_TEMPERATURE:g} K, unpolarised, accuracy {ACCURACY:g}. "
            "The energy is the Mermin free energy E - TS of the electrons, of which forces and "
            "virial are the derivatives."
        ),
        "sampling": (
            f"Langevin dynamics (BAOAB) with the same method at {TEMPERATURE:g} K: time step "
            f"{system.time_step:g} fs, friction {FRICTION:g} / fs, first velocities at "
            f"{system.start:g} K; {system.equilibration} steps of equilibration with friction "
            f"{FRICTION_OF_EQUILIBRATION:g} / fs are left out; then every {system.stride}. step is a "
            f"snapshot, {apart:g} fs apart. Frames stand in the order of time; positions are not "
            "wrapped into the cell."
        ),
        "split": (
            f"of each trajectory of {system.snapshots} snapshots the former 80 % ({system.train}) "
            f"are the train set, the latter 20 % ({system.snapshots - system.train}) the test set"
        ),
        "time_step_fs": system.time_step,
        "stride": system.stride,
        "snapshots_apart_fs": apart,
        "temperature_K": TEMPERATURE,
        "electronic_temperature_K": ELECTRONIC_TEMPERATURE,
        "seed": SEED,
        "frames": n,
        **figures,
        "check": json.dumps(report),
        "check_meaning": (
            "each pair: analytic, by differences of the energy (SCF threshold a hundred times "
            "tighter), last snapshot of the first trajectory"
        ),
        "paper": (
            f"stands for the row {system.name} of Table 1 of S. Hu et al., RLEKF, AAAI 2023 "
            f"({system.paper_snapshots} snapshots, {system.paper_time_step} fs). These are NOT the "
            "authors' data: their labels are plane-wave DFT by PWmat and are not public."
        ),
        "limits": (
            "A semi-empirical method at one k point of a small cell, a short trajectory: for "
            "comparing ways of training, not for predicting the material."
        ),
        "script": "data/make_thirteen.py",
        "make_again": f"python data/make_thirteen.py --workdir DIR --only {system.name}",
        "created": datetime.date.today().isoformat(),
        "license": "BSD-3-Clause (computed for this project)",
        "units": "Angstrom, eV, eV/Angstrom; virial in eV, virial = -dE/dstrain, row-major",
    }


# ================================================================ files
def _write(target: Path, arrays: dict) -> None:
    """``arrays`` to an .npz file, written beside and renamed: a reader never sees half of it."""
    beside = target.with_name(f".{target.stem}.writing.npz")
    np.savez(beside, **arrays)
    beside.replace(target)


def _write_text(target: Path, text: str) -> None:
    beside = target.with_name(f".{target.name}.writing")
    beside.write_text(text)
    beside.replace(target)


# ================================================================ all of them
def make(name: str, workdir: Path, output: Path) -> str:
    """Run, check and collect one system; what became of it, in a line."""
    system = BY_NAME[name]
    if (output / f"{name}_train.h5").exists() and (output / f"{name}_test.h5").exists():
        return f"{name}: is there already"
    try:
        run(system, workdir)
        figures = collect(system, workdir, output, check(system, workdir))
    except Failed as failure:
        return f"{name}: FAILED, no file written: {failure}"
    return f"{name}: done; " + row(name, figures)


def row(name: str, figures: dict[str, float]) -> str:
    return (
        f"{figures['atoms']} atoms, {figures['snapshots']} snapshots, "
        f"{figures['mean_temperature_K']:.0f} K, RMS force "
        f"{figures['force_rms_eV_per_angstrom']:.3f} eV/Å, energy std "
        f"{figures['energy_std_meV_per_atom']:.2f} meV/atom, displacement "
        f"{figures['rms_displacement_from_start_angstrom']:.2f} Å, conserved energy within "
        f"{figures['conserved_energy_range_meV_per_atom']:.2f} meV/atom, "
        f"{figures['seconds_per_label']:.2f} s per label"
    )


def main() -> int:
    """The command line; exit status 1 if a system failed."""
    names = [system.name for system in SYSTEMS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="scratch; trajectories")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME",
                        help=f"of {' '.join(names)}, in this order (default: all)")  # fmt: skip
    parser.add_argument("--processes", type=int, default=1, help="systems at a time, a core each")
    here = Path(__file__).resolve().parent
    parser.add_argument("--output", type=Path, default=here / "thirteen")
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # for the processes to come
    failed = 0
    with contextlib.ExitStack() as stack:
        fresh = multiprocessing.get_context("spawn")
        pool = stack.enter_context(fresh.Pool(args.processes, maxtasksperchild=1))
        jobs = [pool.apply_async(make, (name, args.workdir, args.output)) for name in args.only]
        for job in jobs:
            line = job.get()
            failed += "FAILED" in line
            print(line, flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
