"""Silicon from a perfect crystal to a melt, with a potential that begins with nothing.

    python examples/on_the_fly/silicon.py -o si          (--smoke: a few steps)

The reference is GFN1-xTB, a tight-binding method (`pip install "kalmandp[xtb]"`). Stop it (Ctrl-C, kill) and
start it again: it goes on where it was. At the end every 50th step is computed with the reference, too.

The cell matters. xTB has the Γ point only: in a cell that is too small a force depends on more than the atoms
within the cut-off, and no potential can learn it. `--locality` tells how much: it computes a shaken cell, and
two of it side by side, which have the same surroundings for each atom.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk, make_supercell
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


#: Cells by their number of atoms. That of 32 is half of the doubled cube, with periods of 9.4 Å; those of the
#: primitive cell twice along each vector, 16 atoms, are 7.7 Å.
CELLS = {
    2: np.diag([1, 1, 1]), 16: np.diag([2, 2, 2]), 54: np.diag([3, 3, 3]),
    32: [[-1, 1, 1], [1, -1, 1], [1, 1, -1]], 64: np.diag([2, 2, 2]),
}  # fmt: skip


def silicon(n_atoms: int):
    """The perfect crystal."""
    return make_supercell(bulk("Si", cubic=n_atoms in (32, 64)), CELLS[n_atoms])


def locality(n_atoms: int, size: float = 0.1) -> tuple[float, float]:
    """RMS force of a shaken cell, and of its difference to the same cell twice, side by side; eV/Å."""
    atoms = silicon(n_atoms)
    atoms.rattle(size, seed=0)
    found = []
    for computed in (atoms.copy(), atoms * (2, 1, 1)):
        computed.calc = reference()
        found.append(computed.get_forces()[:n_atoms])
    one, two = found
    return float(np.sqrt((one**2).mean())), float(np.sqrt(((one - two) ** 2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="on_the_fly_silicon", metavar="FOLDER")
    parser.add_argument("--steps", type=int, default=5000, help="of 2 fs [5000]")
    parser.add_argument("--atoms", type=int, default=32, choices=sorted(CELLS), help="in the cell [32]")
    parser.add_argument("--locality", action="store_true", help="how local are the reference's forces?")
    parser.add_argument("--relative", type=float, default=0.2, help="tolerance, of the RMS force [0.2]")
    parser.add_argument("--compare", type=int, default=50, help="steps between comparisons afterwards [50]")
    parser.add_argument("--smoke", action="store_true", help="a few steps of a small cell")
    args = parser.parse_args()
    if args.locality:
        rms, off = (1e3 * x for x in locality(args.atoms))
        print(f"{args.atoms} atoms: RMS force {rms:.0f} meV/Å, off by {off:.0f} from a cell twice as long")
        return
    steps, n_atoms, compare = (20, 2, 10) if args.smoke else (args.steps, args.atoms, args.compare)
    folder = Path(args.output)

    atoms = silicon(n_atoms)
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
