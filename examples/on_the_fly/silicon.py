"""Silicon from a perfect crystal to a melt, with a potential that begins with nothing.

    python examples/on_the_fly/silicon.py -o si          (--smoke: a few steps)

The reference is GFN1-xTB, a tight-binding method (`pip install "kalmandp[xtb]"`). Stop it (Ctrl-C, kill) and
start it again: it goes on where it was. At the end every 50th step is computed with the reference, too.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk
from ase.io.trajectory import Trajectory
from ase.md.langevin import Langevin

from kalmandp import OnTheFly


def reference():
    """Tight binding. For Quantum ESPRESSO put these two lines in its place:

    from ase.calculators.espresso import Espresso
    return Espresso(pseudopotentials={"Si": "Si.pbe.UPF"}, kpts=(2, 2, 2), input_data={…})
    """
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", electronic_temperature=3000.0, verbosity=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="on_the_fly_silicon", metavar="FOLDER")
    parser.add_argument("--steps", type=int, default=5000, help="of 2 fs [5000]")
    parser.add_argument("--cells", type=int, default=2, help="primitive cells along each vector [2]")
    parser.add_argument("--relative", type=float, default=0.15, help="tolerance, of the RMS force [0.15]")
    parser.add_argument("--compare", type=int, default=50, help="steps between comparisons afterwards [50]")
    parser.add_argument("--smoke", action="store_true", help="a few steps of a small cell")
    args = parser.parse_args()
    steps, cells, compare = (20, 1, 10) if args.smoke else (args.steps, args.cells, args.compare)
    folder = Path(args.output)

    atoms = bulk("Si") * (cells, cells, cells)
    calc = OnTheFly(reference(), folder=folder, relative=args.relative, every=10)
    atoms.calc = calc
    rng = np.random.RandomState(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of ASE, on fixcm
        dynamics = Langevin(atoms, 2 * units.fs, temperature_K=300, friction=0.02 / units.fs, rng=rng)

    saved = calc.resume(atoms, rng)
    step = 0 if saved is None else saved["step"]
    trajectory = Trajectory(folder / "md.traj", "w" if step == 0 else "a")
    began = time.time()
    while step < steps:
        dynamics.set_temperature(temperature_K=300 + 1200 * step / steps)
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
    exact, rows = reference(), []
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


if __name__ == "__main__":
    main()
