"""Time of one step of molecular dynamics in ASE: our calculator, and DeePMD-kit's on the same model file.

    python examples/benchmarks/md_step.py [--small] [--rounds 25] [--atoms 192 1536]
                                          [--model MODEL.dp] [--json FILE]

Water at 1 g/cm³ with the RLEKF paper's network and a cut-off of 6 Å (random weights, for which all sums are
as long as for trained ones), or your model of H and O. Between two evaluations every atom moves by about
0.01 Å, as in half a femtosecond at room temperature. If DeePMD-kit is installed beside kalmandp, its
calculator takes turns with ours on the converted file. Medians over the rounds; the part of the neighbour
list in our time is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
from ase import Atoms
from support import water

from kalmandp import Frame, Potential
from kalmandp.bridges.ase import KalmanDP, frame_of


def atoms_of(frame: Frame) -> Atoms:
    symbols = [frame.type_map[t] for t in frame.types]
    return Atoms(symbols, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)


def deepmd_calculator(model: Path, folder: Path):
    """DeePMD-kit's calculator on the converted file, or None where it is not installed."""
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which("dp", path=tools)
    if program is None:
        return None
    try:
        from deepmd.calculator import DP
    except ImportError:
        return None
    converted = folder / "model.pb"
    subprocess.run([program, "convert-backend", model, converted], check=True, capture_output=True)
    return DP(str(converted))


def measure(atoms: Atoms, calculators: dict, rounds: int, rng) -> dict[str, list[float]]:
    """Seconds of each calculator in each round, on the same positions; the first three do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calculators}
    walkers = {name: atoms.copy() for name in calculators}
    for _ in range(rounds + 3):
        step = rng.normal(0, 0.005, (len(atoms), 3))
        results = []
        for name, calc in calculators.items():
            walker = walkers[name]
            walker.positions += step
            walker.calc = calc
            start = time.perf_counter()
            results.append(walker.get_forces())
            seconds[name].append(time.perf_counter() - start)
        for other in results[1:]:
            # no race between different results
            np.testing.assert_allclose(other, results[0], atol=1e-6)
    return {name: values[3:] for name, values in seconds.items()}


def time_of_pairs(calc: KalmanDP, atoms: Atoms, rounds: int) -> float:
    """Median seconds that the list with a skin takes while it is reused."""
    frame = frame_of(atoms, calc.potential.type_map)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        calc.verlet.pairs(frame)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--small", action="store_true", help="24 atoms: seconds, not minutes")
    parser.add_argument("--atoms", type=int, nargs="+", default=[192, 1536], choices=sorted(water.CELLS))
    parser.add_argument("--model", type=Path, help="a .dp file with the types H and O")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()

    rng = np.random.default_rng(1)
    record = []
    print(f"{numba.get_num_threads()} threads")
    print(f"{'atoms':>8}{'pairs':>10}{'calculator':>14}{'median ms':>12}{'least ms':>10}{'list ms':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for n in [24] if options.small else options.atoms:
            frame = water.water(n)
            atoms = atoms_of(frame)
            potential = Potential.load(options.model) if options.model else water.potential(frame)
            model = Path(folder) / "model.dp"
            potential.save(model)
            calculators = {"kalmandp": KalmanDP(model), "deepmd-kit": deepmd_calculator(model, Path(folder))}
            calculators = {name: calc for name, calc in calculators.items() if calc is not None}
            seconds = measure(atoms, calculators, options.rounds, rng)
            ours = calculators["kalmandp"]
            n_pairs = len(ours.verlet.pairs(frame_of(atoms, potential.type_map)).i_p)
            for name, values in seconds.items():
                listed = f"{1e3 * time_of_pairs(ours, atoms, 9):.3f}" if name == "kalmandp" else ""
                times = 1e3 * np.array([np.median(values), min(values)])
                print(f"{len(atoms):8}{n_pairs:10}{name:>14}{times[0]:12.2f}{times[1]:10.2f}{listed:>10}")
                record.append({"atoms": len(atoms), "pairs": n_pairs, "calculator": name, "seconds": values})
    if options.json:
        Path(options.json).write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
