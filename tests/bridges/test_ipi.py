"""i-PI, the program itself, with our calculator behind ASE's socket client."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ase", reason="needs ASE: pip install kalmandp[ase]")

from ase.build import bulk
from ase.calculators.socketio import SocketClient

from kalmandp.bridges.ase import KalmanDP

TEMPLATE = Path(__file__).parents[2] / "examples" / "molecular_dynamics" / "ipi_input.xml"
STEPS = 20


def test_a_path_integral_run(silicon, tmp_path):
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which("i-pi", path=tools)
    if program is None:
        pytest.skip("needs i-PI: pip install ipi")
    atoms = bulk("Si", cubic=True, a=5.41)
    atoms.positions += np.random.default_rng(0).normal(0, 0.05, (8, 3))
    lines = ["8", "# CELL(abcABC): 5.41 5.41 5.41 90 90 90 positions{angstrom} cell{angstrom}"]
    lines += [f"Si {x:.15f} {y:.15f} {z:.15f}" for x, y, z in atoms.positions]
    (tmp_path / "start.xyz").write_text("\n".join(lines) + "\n")
    address = f"kalmandp_test_{os.getpid()}"
    text = TEMPLATE.read_text().replace("STEPS", str(STEPS)).replace("ADDRESS", address)
    (tmp_path / "input.xml").write_text(text)

    atoms.calc = KalmanDP(silicon)
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

    step, _, conserved, _, potential = np.loadtxt(tmp_path / "silicon.out").T
    assert step[-1] == STEPS
    # all beads start from the same positions; i-PI's Hartree has nine digits, its output eight decimals
    np.testing.assert_allclose(potential[0], energy, rtol=1e-7)
    assert np.ptp(conserved) / 8 < 1e-3
    assert np.ptp(conserved) < 0.1 * np.ptp(potential)
    assert potential[0] != pytest.approx(potential[-1], abs=1e-3)
