"""Liquid water at 300 K, with a potential that begins with nothing.

    python examples/on_the_fly/water.py -o water          (--smoke: a few steps)

16 molecules at 1 g/cm³ in steps of 0.5 fs; the reference is GFN1-xTB (`pip install "kalmandp[xtb]"`). Stop it
and start it again: it goes on where it was. At the end every 50th step is computed with the reference, too.
"""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from running import arguments, run

import kalmandp

DATA = Path(__file__).resolve().parents[2] / "data" / "thirteen" / "H2O_train.h5"
STEP_FS = 0.5


def main() -> None:
    args = arguments(__doc__, "on_the_fly_water", 20_000, STEP_FS).parse_args()
    if args.smoke:
        args.steps, args.compare = 20, 10
    with kalmandp.Dataset(DATA) as frames:
        first = frames[0]  # of a liquid that xTB has equilibrated
    atoms = Atoms(first.symbols, positions=first.positions, cell=first.cell, pbc=True)
    run(atoms, args, STEP_FS, temperature=lambda done: 300.0)


if __name__ == "__main__":
    main()
