#!/usr/bin/env python3
"""Make the outputs in this folder: tiny calculations with Quantum ESPRESSO, CP2K and ABINIT.

    python tests/frames/outputs/make_outputs.py WORKDIR [pw | cp2k | abinit | example …]

The settings are far too loose for physics; what is tested is that files are read right. What is computed
was computed with Debian's packages quantum-espresso 6.7, cp2k 2023.1 and abinit 9.6.2 (pw.x, cp2k.psmp,
abinit; pseudopotentials of quantum-espresso-data, cp2k-data, abinit-data), half a minute on one core. The
outputs are then shortened: lines that no reader looks at (electronic iterations, tables of eigenvalues and
timings, names of the machine and its folders) are taken out; nothing else is changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[2] / "examples" / "convert_and_train" / "outputs"
PSEUDO = {
    "pw": os.environ.get("ESPRESSO_PSEUDO", "/usr/share/espresso/pseudo"),
    "cp2k": os.environ.get("CP2K_DATA_DIR", "/usr/share/cp2k"),
    "abinit": os.environ.get("ABI_PSPDIR", "/usr/share/abinit/psp"),
}
A = 5.431
DIAMOND = np.array(
    [[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]]
) / 4.0  # fmt: skip


def pw_input(name, calculation, rng, *, control="", electrons="", ions="", cell="", strain=0.0, shift=0.1):
    """Si₈, displaced by ``shift`` Å at random."""
    lattice = A * (np.eye(3) + strain * np.array([[0.3, 0, 0], [1, 0, 0], [0, -0.7, -0.3]]))
    positions = DIAMOND @ lattice + rng.normal(0.0, shift, (8, 3))
    rows = lambda array, word="": "\n".join(word + " ".join(f"{x:.8f}" for x in row) for row in array)
    extra = f"&IONS\n{ions}\n/\n" if calculation != "scf" else ""
    extra += f"&CELL\n{cell}\n/\n" if calculation.startswith("vc") else ""
    return f"""&CONTROL
  calculation = '{calculation}', prefix = '{name}', outdir = './out', pseudo_dir = '{PSEUDO["pw"]}'
  tprnfor = .true., tstress = .true., disk_io = 'nowf' {control}
/
&SYSTEM
  ibrav = 0, nat = 8, ntyp = 1, ecutwfc = 12, nosym = .true., nbnd = 20
  occupations = 'smearing', smearing = 'gauss', degauss = 0.01
/
&ELECTRONS
  conv_thr = 1e-8 {electrons}
/
{extra}ATOMIC_SPECIES
 Si 28.0855 Si.pz-vbc.UPF
K_POINTS gamma
CELL_PARAMETERS angstrom
{rows(lattice)}
ATOMIC_POSITIONS angstrom
{rows(positions, "Si ")}
"""


def pw_files() -> dict[str, str]:
    rng = np.random.default_rng(7)
    md = "ion_temperature = 'initial', tempw = 300"
    return {
        "si8_scf": pw_input("si8_scf", "scf", rng, strain=0.03),
        "si8_md": pw_input("si8_md", "md", rng, control=", nstep = 4, dt = 20", ions=md),
        "si8_vcrelax": pw_input("si8_vcrelax", "vc-relax", rng, control=", nstep = 3", shift=0.05),
        "si8_stopped": pw_input("si8_stopped", "scf", rng, electrons=", electron_maxstep = 3"),
        "si8_unconverged": pw_input(
            "si8_unconverged", "md", rng, control=", nstep = 2, dt = 20", ions=md,
            electrons=", electron_maxstep = 6, scf_must_converge = .false.",
        ),
    }  # fmt: skip


def example_files() -> dict[str, str]:
    """Four trajectories, hotter and hotter, in strained cells, for examples/convert_and_train."""
    rng = np.random.default_rng(8)
    files = {}
    for k, kelvin in enumerate((300, 600, 900, 1200)):
        ions = f"ion_temperature = 'initial', tempw = {kelvin}"
        control = f", nstep = {12 if k < 3 else 8}, dt = 60"
        files[f"si8_{kelvin}K"] = pw_input(
            f"si8_{kelvin}K", "md", rng, control=control, ions=ions, strain=0.01 * (k - 1), shift=0.08
        )
    return files


CP2K_INPUT = """&GLOBAL
  PROJECT {name}
  RUN_TYPE {run}
  PRINT_LEVEL MEDIUM
&END GLOBAL
&FORCE_EVAL
  METHOD QS
  STRESS_TENSOR ANALYTICAL
  &PRINT
    &FORCES ON
    &END FORCES
    &STRESS_TENSOR ON
    &END STRESS_TENSOR
  &END PRINT
  &DFT
    BASIS_SET_FILE_NAME {data}/BASIS_MOLOPT
    POTENTIAL_FILE_NAME {data}/GTH_POTENTIALS
    &MGRID
      CUTOFF 100
    &END MGRID
    &SCF
      MAX_SCF {steps}
      EPS_SCF 1.0E-6
      &OT
        PRECONDITIONER FULL_SINGLE_INVERSE
        MINIMIZER DIIS
      &END OT
    &END SCF
    &XC
      &XC_FUNCTIONAL PADE
      &END XC_FUNCTIONAL
    &END XC
  &END DFT
  &SUBSYS
    &CELL
      ABC 6.0 6.0 6.0
      ALPHA_BETA_GAMMA 90 85 95
    &END CELL
    &COORD
      O 0.00 0.00 0.10
      H 0.76 0.05 0.68
      H -0.75 0.00 0.70
      O 2.80 0.10 0.00
      H 3.30 0.80 0.30
      H 3.35 -0.65 0.20
    &END COORD
    &KIND H
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PADE-q1
    &END KIND
    &KIND O
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PADE-q6
    &END KIND
  &END SUBSYS
&END FORCE_EVAL
{motion}"""

CP2K_MOTION = """&MOTION
  &MD
    ENSEMBLE NPT_F
    STEPS 3
    TIMESTEP 0.5
    TEMPERATURE 300
    &BAROSTAT
      TIMECON 100
    &END BAROSTAT
    &THERMOSTAT
    &END THERMOSTAT
  &END MD
  &PRINT
    &FORCES ON
    &END FORCES
    &CELL ON
    &END CELL
  &END PRINT
&END MOTION
"""


def cp2k_files() -> dict[str, str]:
    fill = lambda name, run, steps=60, motion="": CP2K_INPUT.format(
        name=name, run=run, steps=steps, motion=motion, data=PSEUDO["cp2k"]
    )
    return {
        "water_scf": fill("water_scf", "ENERGY_FORCE"),
        "water_unconverged": fill("water_unconverged", "ENERGY_FORCE", steps=3),
        "water_npt": fill("water_npt", "MD", motion=CP2K_MOTION),
    }


ABINIT_INPUT = """pp_dirpath "{data}"
pseudos "14si.pspnc"
ecut 6
kptopt 1
ngkpt 1 1 1
nshiftk 1
shiftk 0 0 0
nsym 1
nstep {steps}
toldff 1.0d-6
rprim 0.0 0.5 0.5  0.51 0.0 0.5  0.5 0.5 0.0
ntypat 1
znucl 14
natom 2
typat 1 1
xred 0.0 0.0 0.01 0.25 0.26 0.25
nband 8
occopt 4
tsmear 0.02
{extra}
"""


def abinit_files() -> dict[str, str]:
    fill = lambda extra, steps=30: ABINIT_INPUT.format(extra=extra, steps=steps, data=PSEUDO["abinit"])
    one = "acell 3*10.26\n"
    return {
        "si2_md": fill(one + "ionmov 12\nntime 4\nmdtemp 300 300\ndtion 60\namu 28.0855"),
        "si2_two": fill("ndtset 2\nacell1 3*10.2\nacell2 3*10.3\n"),
        "si2_unconverged": fill(one, steps=2),
    }


def shortened(program: str, text: str) -> str:
    """The output without lines that no reader looks at."""
    if program == "abinit":
        kept = [line for line in text.splitlines() if not re.match(ABINIT_DROPPED, line)]
    else:
        wanted = CP2K_KEPT if program == "cp2k" else PW_KEPT
        kept = [line for line in text.splitlines() if re.match(wanted, line)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)) + "\n"


#: Lines that are kept: those the readers look for, the tables after them, headlines.
PW_KEPT = (
    r"^ +(Program PWSCF|lattice parameter|number of atoms|unit-cell|scf convergence|celldm|crystal axes|"
    r"[ab]\(\d\) =|site n\.|\d+ +\w+ +tau|End of self|total energy  |estimated|convergence|Forces|"
    r"atom +\d+ type|total   stress|[-\d. ]+$|JOB DONE|This run|nstep|smearing)|^!|^[A-Z_]+ [({]|^Si |^$"
)
CP2K_KEPT = (
    r"^ (CP2K\| version|GLOBAL\| (Project|Run)|CELL\||"
    r"MODULE QUICKSTEP|  (Atom|\s+\d+ +\d \w)|ENERGY\||ATOMIC FORCES|"
    r"# Atom|     +\d+ +\d +\w+ |SUM OF|STRESS\||MD\| Ens)|^ *\*.*ENDED|^ *$|"
    r"^ +\d+ +\d+ +\w+ |^ +\*\*\* (SCF|WARN)"
)

ABINIT_DROPPED = r"^(-|\.(?!Version)|,| +kpt| +wtk)"

SUFFIX = {"pw": ".pwo", "example": ".pwo", "cp2k": ".out", "abinit": ".abo"}


def main() -> None:
    work, programs = Path(sys.argv[1]).resolve(), sys.argv[2:] or ["pw", "cp2k", "abinit"]
    work.mkdir(parents=True, exist_ok=True)
    for program in programs:
        files = {"pw": pw_files, "cp2k": cp2k_files, "abinit": abinit_files, "example": example_files}
        folder = EXAMPLE if program == "example" else HERE
        for name, text in files[program]().items():
            file = work / f"{name}.in"
            file.write_text(text)
            command = {
                "pw": ["pw.x", "-in", file.name],
                "example": ["pw.x", "-in", file.name],
                "cp2k": ["cp2k.psmp", "-i", file.name],
                "abinit": ["abinit", file.name],
            }[program]
            with open(work / f"{name}.log", "w") as log:
                subprocess.run(command, cwd=work, stdout=log, check=False)
            result = work / (f"{name}.abo" if program == "abinit" else f"{name}.log")
            (folder / f"{name}{SUFFIX[program]}").write_text(shortened(program, result.read_text()))
            for beside in work.glob(f"{name}-*"):
                if re.search(r"-(pos|frc)-1\.xyz$|-1\.cell$", beside.name):
                    (HERE / beside.name).write_text(beside.read_text())


if __name__ == "__main__":
    main()
