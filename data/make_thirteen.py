#!/usr/bin/env python3
"""Make the thirteen data sets of the RLEKF paper's Table 1, labelled by GFN1-xTB.

Cu, Si, C (graphene), Ag, Mg, NaCl, Li, Al, MgAlCu, H2O, S (alpha-S8), CuO, CuC (C on Cu(111)); cells,
time steps and numbers of snapshots are in `thirteen_systems.py`. For each system::

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

As in the paper the test frames follow the train frames in time, a few fs apart: `kalmandp doctor`
says so of the first of them, and rightly. The trajectories are short, some 0.1 to 0.4 ps: they
vibrate about one structure, and their mean temperature, which each file carries, is off by 20 to 50
K; that of the alloy and of C on Cu is 80 K too high, because the heat of relaxation is not gone.

Needs numpy and ``pip install "kalmandp[xtb]"`` (tblite, ase, scipy); some 25 minutes of one core in
all. Lengths in Angstrom, energies in eV, times in fs, masses in u.
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
from importlib.metadata import version
from pathlib import Path

import numpy as np
from thirteen_checks import derivatives, examine
from thirteen_dynamics import ACCURACY, ELECTRONIC_TEMPERATURE, METHOD, Failed, Langevin, Xtb
from thirteen_systems import BY_NAME, SYSTEMS, System

# ---------------------------------------------------------------- how it is sampled and checked
TEMPERATURE = 300.0  # K
FRICTION = 0.01  # 1 / fs
FRICTION_OF_EQUILIBRATION = 0.03  # 1 / fs
SEED = 20260102
TIGHT_ACCURACY = ACCURACY / 100  # of `check`
SECONDS_BETWEEN_SAVES = 20.0


# ================================================================ run
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
    masses = atoms.get_masses()
    md = Langevin(Xtb(atoms), atoms.positions, masses, system.time_step, system.start, rng)
    rows: dict[str, list] = {}
    if partial.exists():
        with _load(partial, system) as saved:
            md.restore(saved)
            rows = {n[4:]: list(saved[n]) for n in saved.files if n.startswith("row_")}
    report = Progress(f"{system.name} {number + 1}/{of}", md.step, system.steps)
    while md.step < system.steps:
        equilibrating = md.step < system.equilibration
        clock = time.process_time()
        md.advance(FRICTION_OF_EQUILIBRATION if equilibrating else FRICTION, TEMPERATURE)
        seconds = time.process_time() - clock
        if md.step >= system.equilibration:
            _append(rows, md, seconds, system)
        if report(md):
            so_far = {f"row_{n}": np.array(r) for n, r in rows.items()}
            _write(partial, md.state() | so_far | {"plan": system.plan})
    cell = {"cell": atoms.cell[:], "numbers": atoms.numbers, "start_pos": atoms.positions}
    _write(target, {n: np.array(r) for n, r in rows.items()} | cell | {"plan": system.plan})
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
        with _load(file, system) as loaded:
            found.append(dict(loaded))
    return found


# ================================================================ check
def check(system: System, workdir: Path) -> dict:
    """Write and return ``NAME_check.json``, the report of `derivatives` on the first trajectory."""
    target = workdir / f"{system.name}_check.json"
    if not target.exists():
        cells, rng = cells_of(system)
        label = Xtb(cells[0], TIGHT_ACCURACY)
        report = derivatives(label, trajectories(system, workdir)[0], rng)
        beside = target.with_suffix(".writing")
        beside.write_text(json.dumps(report, indent=2))
        beside.replace(target)
    return json.loads(target.read_text())


# ================================================================ collect
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
    from kalmandp.frames.hdf5.writing import write_hdf5

    found = trajectories(system, workdir)
    figures = examine(found)
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
def _load(file: Path, system: System):
    """An .npz file, if it was sampled as ``system`` says now."""
    loaded = np.load(file)
    plan = str(loaded["plan"]) if "plan" in loaded.files else "unknown"
    if plan != system.plan:
        loaded.close()
        raise Failed(f"{file} was sampled with {plan}; expected {system.plan} (remove the file)")
    return loaded


def _write(target: Path, arrays: dict) -> None:
    """``arrays`` to an .npz file, written beside and renamed: a reader never sees half of it."""
    beside = target.with_name(f".{target.stem}.writing.npz")
    np.savez(beside, **arrays)
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
        seconds = np.concatenate([rows["seconds"] for rows in trajectories(system, workdir)])
    except Failed as failure:
        return f"{name}: FAILED, no file written: {failure}"
    return f"{name}: done; {summary(figures)}, {np.median(seconds):.2f} s (one core) per label"


def summary(figures: dict[str, float]) -> str:
    return (
        f"{figures['atoms']} atoms, {figures['snapshots']} snapshots, "
        f"{figures['mean_temperature_K']:.0f} K, RMS force "
        f"{figures['force_rms_eV_per_angstrom']:.3f} eV/Å, energy std "
        f"{figures['energy_std_meV_per_atom']:.2f} meV/atom, displacement "
        f"{figures['rms_displacement_from_start_angstrom']:.2f} Å, conserved energy within "
        f"{figures['conserved_energy_range_meV_per_atom']:.2f} meV/atom"
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
