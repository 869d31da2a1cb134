"""What the examples of this folder share: a run that goes on where it was, and its comparison afterwards."""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import units
from ase.io.trajectory import Trajectory
from ase.md.langevin import Langevin

from kalmandp import OnTheFly


def xtb():
    """Tight binding. For Quantum ESPRESSO put these two lines in its place:

    from ase.calculators.espresso import Espresso
    return Espresso(pseudopotentials={"Si": "Si.pbe.UPF"}, kpts=(2, 2, 2), input_data={…})
    """
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", electronic_temperature=3000.0, verbosity=0)


def arguments(document: str, output: str, steps: int, step_fs: float) -> argparse.ArgumentParser:
    """The options that all examples have."""
    parser = argparse.ArgumentParser(description=document.splitlines()[0])
    parser.add_argument("-o", "--output", default=output, metavar="FOLDER")
    parser.add_argument("--steps", type=int, default=steps, help=f"of {step_fs:g} fs [{steps}]")
    parser.add_argument("--relative", type=float, default=0.2, help="tolerance, of the RMS force [0.2]")
    parser.add_argument("--every", type=int, default=5, help="steps between checks of σ [5]")
    parser.add_argument("--compare", type=int, default=50, help="steps between comparisons afterwards [50]")
    parser.add_argument("--smoke", action="store_true", help="a few steps of a small cell")
    return parser


def run(atoms, args: argparse.Namespace, step_fs: float, temperature: Callable[[float], float]) -> None:
    """Langevin dynamics with `OnTheFly`, from nothing or on from its folder; compared with xTB at the end.

    Parameters
    ----------
    atoms : where it begins
    args : of `arguments`
    step_fs : time step, fs
    temperature : K, of the share of the steps that is done

    Notes
    -----
    The friction is 0.02 a step: 0.01/fs where a step is 2 fs, 0.04/fs where it is 0.5 fs.
    """
    folder, steps, compare = Path(args.output), args.steps, args.compare
    calc = OnTheFly(xtb(), folder=folder, relative=args.relative, every=args.every)
    atoms.calc = calc
    rng = np.random.RandomState(1)
    dt = step_fs * units.fs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of ASE, on fixcm
        dynamics = Langevin(atoms, dt, temperature_K=temperature(0.0), friction=0.02 / dt, rng=rng)

    saved = calc.resume(atoms, rng)
    step = 0 if saved is None else saved["step"]
    trajectory = Trajectory(folder / "md.traj", "w" if step == 0 else "a")
    began = time.time()
    while step < steps:
        dynamics.set_temperature(temperature_K=temperature(step / steps))
        dynamics.run(10)
        step += 10
        if step % compare == 0:
            trajectory.write(atoms)
        if step % 50 == 0:
            calc.save(atoms, rng, step=step)
        if step % 250 == 0 or step == steps:
            print(
                f"step {step:>6}  {atoms.get_temperature():5.0f} K  {len(calc.labels):>4} calls "
                f"({100 * len(calc.labels) / step:.1f} %)  {time.time() - began:6.0f} s", flush=True,
            )  # fmt: skip
    trajectory.close()
    comparison(calc, folder, steps)


def comparison(calc, folder: Path, steps: int) -> None:
    """Errors on frames of the trajectory, with the potential as it was at each, and as it is at the end."""
    exact, rows = xtb(), []
    for atoms in Trajectory(folder / "md.traj"):
        then = atoms.calc.results
        atoms.calc = exact
        forces, energy = atoms.get_forces(), atoms.get_potential_energy()
        at_the_end, std = calc.learner.predict(calc.potential.as_frame(atoms))
        error = at_the_end.forces - forces
        rows.append([
            np.mean((then["forces"] - forces) ** 2), np.mean(error**2), np.mean(forces**2),
            np.mean(np.abs(error) < std.forces), np.mean(np.abs(error) < 2 * std.forces),
            (at_the_end.energy - energy) / len(atoms),
            np.mean(np.abs(then["forces"] - forces) < calc.relative * np.sqrt(np.mean(forces**2))),
        ])  # fmt: skip
    run, end, square, one, two, energy, within = np.array(rows).T
    rms, scale = lambda x: 1e3 * float(np.sqrt(x.mean())), np.sqrt(square.mean())
    found = {
        "steps": steps, "calls": len(calc.labels), "calls / steps": len(calc.labels) / steps,
        "frames compared": len(rows), "RMS force (meV/Å)": 1e3 * float(scale),
        "force RMSE during the run (meV/Å)": rms(run), "… / RMS force": float(np.sqrt(run.mean()) / scale),
        "share of components within the tolerance during the run": float(within.mean()),
        "force RMSE of the potential at the end (meV/Å)": rms(end),
        "energy RMSE at the end (meV/atom)": rms(energy**2),
        "share of errors within 1 σ": float(one.mean()), "within 2 σ": float(two.mean()),
    }  # fmt: skip
    (folder / "figures.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(found, indent=1, ensure_ascii=False))
    try:
        print(calc.picture(folder / "on_the_fly.png"))
    except ImportError as error:
        print(error)
