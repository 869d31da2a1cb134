"""Silicon from a perfect crystal to a melt, with a potential that begins with nothing.

    python examples/on_the_fly/silicon.py -o si          (--smoke: a few steps)

The reference is GFN1-xTB, a tight-binding method (`pip install "kalmandp[xtb]"`). Stop it (Ctrl-C, kill) and
start it again: it goes on where it was. At the end every 50th step is computed with the reference, too.

The cell matters. xTB has the Γ point only: in a cell that is too small a force depends on more than the atoms
within the cut-off, and no potential can learn it. `--locality` tells how much: it computes a shaken cell, and
two of it side by side, which have the same surroundings for each atom.
"""

from __future__ import annotations

import numpy as np
from ase.build import bulk, make_supercell
from running import arguments, run, xtb

#: Cells by their number of atoms. That of 32 is half of the doubled cube, with periods of 9.4 Å; those of the
#: primitive cell twice along each vector, 16 atoms, are 7.7 Å.
CELLS = {
    2: np.diag([1, 1, 1]), 16: np.diag([2, 2, 2]), 54: np.diag([3, 3, 3]),
    32: [[-1, 1, 1], [1, -1, 1], [1, 1, -1]], 64: np.diag([2, 2, 2]),
}  # fmt: skip
STEP_FS = 2.0


def silicon(n_atoms: int):
    """The perfect crystal."""
    return make_supercell(bulk("Si", cubic=n_atoms in (32, 64)), CELLS[n_atoms])


def locality(n_atoms: int, size: float = 0.1) -> tuple[float, float]:
    """RMS force of a shaken cell, and of its difference to the same cell twice, side by side; eV/Å."""
    atoms = silicon(n_atoms)
    atoms.rattle(size, seed=0)
    found = []
    for computed in (atoms.copy(), atoms * (2, 1, 1)):
        computed.calc = xtb()
        found.append(computed.get_forces()[:n_atoms])
    one, two = found
    return float(np.sqrt((one**2).mean())), float(np.sqrt(((one - two) ** 2).mean()))


def main() -> None:
    parser = arguments(__doc__, "on_the_fly_silicon", 5000, STEP_FS)
    parser.add_argument("--atoms", type=int, default=64, choices=sorted(CELLS), help="in the cell [64]")
    parser.add_argument("--locality", action="store_true", help="how local are the reference's forces?")
    args = parser.parse_args()
    if args.locality:
        rms, off = (1e3 * x for x in locality(args.atoms))
        print(f"{args.atoms} atoms: RMS force {rms:.0f} meV/Å, off by {off:.0f} from a cell twice as long")
        return
    if args.smoke:
        args.steps, args.atoms, args.compare = 20, 2, 10
    run(silicon(args.atoms), args, STEP_FS, temperature=lambda done: 300 + 1200 * done)


if __name__ == "__main__":
    main()
