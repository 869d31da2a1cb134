"""Path-integral molecular dynamics: i-PI moves the beads, our ASE calculator answers over a socket.

    pip install ipi "kalmandp[ase]"
    python examples/molecular_dynamics/ipi_md.py --model run/model.dp -o md

The script starts the server (``i-pi input.xml``) and is its client. More clients, here or on other machines,
share the beads among them: i-PI hands each a configuration in turn.
"""

# %%
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.socketio import SocketClient
from short_model import arguments

from kalmandp.bridges.ase import KalmanDP

options = arguments(__doc__.splitlines()[0])
STEPS = 10 if options.smoke else 500

# %% Start: the crystal in i-PI's flavour of xyz, and the input with its steps and the name of the socket
atoms = bulk("Si", cubic=True, a=5.40) * (2, 2, 2)
a, b, c, alpha, beta, gamma = atoms.cell.cellpar()
lines = [
    str(len(atoms)),
    f"# CELL(abcABC): {a} {b} {c} {alpha} {beta} {gamma} positions{{angstrom}} cell{{angstrom}}",
    *(f"{s} {x:.12f} {y:.12f} {z:.12f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)),
]
(options.output / "start.xyz").write_text("\n".join(lines) + "\n")
address = f"kalmandp_{os.getpid()}"
template = (Path(__file__).parent / "ipi_input.xml").read_text()
text = template.replace("STEPS", str(STEPS)).replace("ADDRESS", address)
(options.output / "input.xml").write_text(text)

# %% The server
program = shutil.which("i-pi", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
if program is None:
    sys.exit("needs i-PI, which is not installed; install it with:  pip install ipi")
server = subprocess.Popen([program, "input.xml"], cwd=options.output, stdout=subprocess.DEVNULL)

# %% The client: ASE's, with our calculator
try:
    socket = Path(f"/tmp/ipi_{address}")
    while not socket.exists() and server.poll() is None:
        time.sleep(0.1)
    atoms.calc = KalmanDP(options.model)
    SocketClient(unixsocket=address, timeout=60).run(atoms, use_stress=True)
    server.wait(timeout=60)
finally:
    server.kill()

# %% What i-PI has written
columns = np.loadtxt(options.output / "silicon.out")
conserved, temperature = columns[:, 2] / len(atoms), columns[:, 3]
print(f"{len(columns) - 1} steps of 4 beads: {temperature.mean():.0f} K on average, the conserved quantity")
print(f"stays within {1e3 * np.ptp(conserved):.3f} meV/atom")
