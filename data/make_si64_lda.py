#!/usr/bin/env python3
"""Make the silicon data set: 64-atom diamond Si with LDA energies, forces and virials.

Five steps, run in this order by default; what is there already is not computed again::

    draw      configurations from Langevin dynamics with the Stillinger-Weber potential
    compute   one self-consistent LDA calculation per configuration (Quantum ESPRESSO, one core)
    pulay     what the finite basis adds to the virial
    check     stress against finite differences of the energy; SCF convergence
    collect   si64_lda_train.h5 and si64_lda_test.h5 (dpdata's ``deepmd/hdf5`` layout)

A sixth, ``extxyz``, writes the frames computed so far to ``DIR/si64_lda.extxyz``.

Example::

    python data/make_si64_lda.py --workdir DIR --frames 250

A trajectory is one pair (temperature, strained cell); its snapshots are 0.5 ps apart. Snapshots are
computed in a random order with a fixed seed, so that any beginning of the list covers all
temperatures and strains: a run that was stopped early is complete in kind. Train and test set have
no trajectory in common.

Needs numpy, numba and h5py; ``compute``, ``pulay`` and ``check`` need ``pw.x`` (Debian packages
quantum-espresso and quantum-espresso-data). Lengths in Angstrom, energies in eV, times in fs,
masses in u.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import shutil
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import h5py
import numba
import numpy as np

# ---------------------------------------------------------------- constants (CODATA 2018)
BOLTZMANN = 8.617333262e-5  # eV / K
HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Angstrom
EV_PER_U_A2_FS2 = 103.642697  # u (Angstrom / fs)^2 in eV
MASS_SI = 28.0855  # u

# ---------------------------------------------------------------- what is sampled
LATTICE_CONSTANT = 5.431  # Angstrom: experiment, and the minimum of the Stillinger-Weber potential
TEMPERATURES = (300.0, 600.0, 900.0, 1200.0, 1500.0)  # K
TIMESTEP = 2.0  # fs
FRICTION = 0.005  # 1 / fs
EQUILIBRATION_STEPS = 1000  # 2 ps
STEPS_BETWEEN_SNAPSHOTS = 250  # 0.5 ps
SEED = 20260101


def _strains() -> dict[str, np.ndarray]:
    """Name -> deformation F (3, 3), lower triangular; the cell vectors are the rows of 2 a0 F."""
    strains = {}
    for name, percent in (("iso-3", -3), ("iso-1.5", -1.5), ("iso+1.5", 1.5), ("iso+3", 3)):
        strains[name] = np.eye(3) * (1 + percent / 100)
    strains["none-a"] = np.eye(3)
    strains["none-b"] = np.eye(3)
    strains["uniaxial-x-3"] = np.diag([0.97, 1.0, 1.0])
    strains["uniaxial-z+3"] = np.diag([1.0, 1.0, 1.03])
    strains["shear-xy+4"] = np.array([[1.0, 0, 0], [0.04, 1.0, 0], [0, 0, 1.0]])
    strains["shear-xz-yz-4"] = np.array([[1.0, 0, 0], [0, 1.0, 0], [-0.03, 0.04, 1.0]])
    return strains


STRAINS = _strains()

# ---------------------------------------------------------------- how it is computed
CUTOFF_RY = 20.0
SMEARING_RY = 0.01  # Gaussian: hot sheared cells have a gap of only some 0.01 eV at the Gamma point
BANDS_PER_ATOM = 2.25  # two are occupied
SCF_THRESHOLD_RY = 1e-7  # forces then agree with a tightly converged run to 1e-4 eV/Angstrom
PSEUDOPOTENTIAL = "Si.pz-vbc.UPF"

PW_INPUT = """\
&CONTROL
  calculation = 'scf', prefix = 'si', outdir = './out', pseudo_dir = '{pseudo_dir}'
  tprnfor = .true., tstress = .true., disk_io = 'low'
/
&SYSTEM
  ibrav = 0, nat = {n_atoms}, ntyp = 1, ecutwfc = {cutoff}
  occupations = 'smearing', smearing = 'gauss', degauss = {smearing}, nbnd = {n_bands}
  nosym = .true.
/
&ELECTRONS
  conv_thr = {threshold:.1e}, mixing_beta = 0.4, diagonalization = 'david'
/
ATOMIC_SPECIES
  Si {mass} {pseudopotential}
K_POINTS gamma
CELL_PARAMETERS angstrom
{cell}
ATOMIC_POSITIONS angstrom
{positions}
"""


# ================================================================ draw
@numba.njit
def stillinger_weber(pos_ic, cell_cc, force_ic):
    """Energy (eV) of Stillinger-Weber silicon; writes the forces (eV/Angstrom) to ``force_ic``.

    E = sum_pairs A eps (B (s/r)^4 - 1) e^{s/(r-as)}
      + sum_{j<k} lambda eps (cos t_jik + 1/3)^2 e^{g s/(r_ij-as)} e^{g s/(r_ik-as)}

    F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985). Minimum image: every height of the
    cell must exceed twice the cutoff a s = 3.77 Angstrom (plus what shear takes).
    """
    eps, sigma, a = 2.1683, 2.0951, 1.80
    big_a, big_b, lam, gamma = 7.049556277, 0.6022245584, 21.0, 1.20
    r_cut = a * sigma
    n = pos_ic.shape[0]
    inv_cc = np.linalg.inv(cell_cc)
    near_jc, r_j, index_j = np.empty((64, 3)), np.empty(64), np.empty(64, np.int64)
    energy = 0.0
    force_ic[:] = 0.0
    for i in range(n):
        count = 0
        for j in range(n):
            if j == i:
                continue
            d_c = pos_ic[j] - pos_ic[i]
            d_c = d_c - np.rint(d_c @ inv_cc) @ cell_cc
            r = math.sqrt(d_c[0] ** 2 + d_c[1] ** 2 + d_c[2] ** 2)
            if r < r_cut - 1e-6:
                near_jc[count], r_j[count], index_j[count] = d_c, r, j
                count += 1
        for p in range(count):
            r, j = r_j[p], index_j[p]
            if j > i:  # each pair once
                q = big_b * (sigma / r) ** 4
                tail = math.exp(sigma / (r - r_cut))
                e_pair = big_a * eps * (q - 1) * tail
                slope = -big_a * eps * 4 * q / r * tail - e_pair * sigma / (r - r_cut) ** 2
                energy += e_pair
                for c in range(3):
                    f = slope * near_jc[p, c] / r
                    force_ic[i, c] += f
                    force_ic[j, c] -= f
            for s in range(p):
                t, k = r_j[s], index_j[s]
                cosine = 0.0
                for c in range(3):
                    cosine += near_jc[p, c] * near_jc[s, c]
                cosine /= r * t
                u = cosine + 1.0 / 3.0
                tails = lam * eps * math.exp(gamma * sigma * (1 / (r - r_cut) + 1 / (t - r_cut)))
                energy += tails * u * u
                d_cos = 2 * tails * u
                d_r = -tails * u * u * gamma * sigma / (r - r_cut) ** 2
                d_t = -tails * u * u * gamma * sigma / (t - r_cut) ** 2
                for c in range(3):
                    e_r, e_t = near_jc[p, c] / r, near_jc[s, c] / t
                    g_j = d_cos * (e_t - cosine * e_r) / r + d_r * e_r
                    g_k = d_cos * (e_r - cosine * e_t) / t + d_t * e_t
                    force_ic[j, c] -= g_j
                    force_ic[k, c] -= g_k
                    force_ic[i, c] += g_j + g_k
    return energy


def diamond(deformation_cc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (64, 3) and cell rows (3, 3), Angstrom, of a deformed 2 x 2 x 2 diamond cell."""
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    basis = np.concatenate([fcc, fcc + 0.25])
    shifts = np.array([[x, y, z] for x in range(2) for y in range(2) for z in range(2)])
    fractional = (shifts[:, None, :] + basis[None, :, :]).reshape(-1, 3) / 2
    cell = 2 * LATTICE_CONSTANT * deformation_cc
    return fractional @ cell, cell


def langevin(pos_ic, cell_cc, temperature, rng, equilibration, stride, n_snapshots):
    """Yield ``n_snapshots`` pairs (positions, potential energy) of a BAOAB Langevin trajectory.

    B. Leimkuhler, C. Matthews, Appl. Math. Res. Express 2013, 34. The centre of mass stands still.
    """
    pos_ic, force_ic = pos_ic.copy(), np.zeros_like(pos_ic)
    inverse_mass = 1 / (MASS_SI * EV_PER_U_A2_FS2)  # Angstrom^2 / (eV fs^2)
    thermal_speed = math.sqrt(BOLTZMANN * temperature * inverse_mass)
    decay = math.exp(-FRICTION * TIMESTEP)
    kick = math.sqrt(1 - decay**2) * thermal_speed

    def noise(scale):
        sample_ic = rng.normal(scale=scale, size=pos_ic.shape)
        return sample_ic - sample_ic.mean(axis=0)

    vel_ic = noise(thermal_speed)
    energy = stillinger_weber(pos_ic, cell_cc, force_ic)
    for step in range(1, equilibration + stride * (n_snapshots - 1) + 1):
        vel_ic += 0.5 * TIMESTEP * inverse_mass * force_ic
        pos_ic += 0.5 * TIMESTEP * vel_ic
        vel_ic = decay * vel_ic + noise(kick)
        pos_ic += 0.5 * TIMESTEP * vel_ic
        energy = stillinger_weber(pos_ic, cell_cc, force_ic)
        vel_ic += 0.5 * TIMESTEP * inverse_mass * force_ic
        if step >= equilibration and (step - equilibration) % stride == 0:
            yield pos_ic.copy(), energy


def draw(workdir: Path, n_frames: int) -> None:
    """Write ``drawn.npz``: at least ``n_frames`` configurations, in the order of computation."""
    target = workdir / "drawn.npz"
    if target.exists():
        return
    kinds = [(t, name) for t in range(len(TEMPERATURES)) for name in STRAINS]
    n_snapshots = math.ceil(n_frames / len(kinds))
    *seeds, order_seed = np.random.SeedSequence(SEED).spawn(len(kinds) + 1)
    rows = []
    for trajectory, ((t, name), seed) in enumerate(zip(kinds, seeds, strict=True)):
        pos_ic, cell_cc = diamond(STRAINS[name])
        snapshots = langevin(
            pos_ic,
            cell_cc,
            TEMPERATURES[t],
            np.random.default_rng(seed),
            EQUILIBRATION_STEPS,
            STEPS_BETWEEN_SNAPSHOTS,
            n_snapshots,
        )
        for positions, energy in snapshots:
            rows.append((positions, cell_cc, energy, TEMPERATURES[t], name, trajectory))
    order = _covering_order(len(kinds), n_snapshots, np.random.default_rng(order_seed))
    names = ("positions", "cell", "sw_energy", "temperature", "strain", "trajectory")
    arrays = {n: np.array([rows[i][c] for i in order]) for c, n in enumerate(names)}
    _write_beside(target, lambda path: np.savez(path, **arrays))


def _covering_order(n_kinds: int, n_snapshots: int, rng: np.random.Generator) -> np.ndarray:
    """One snapshot of every trajectory before the second of any; each round in random order."""
    rounds = [rng.permutation(n_kinds) * n_snapshots + s for s in range(n_snapshots)]
    return np.concatenate(rounds)


# ================================================================ compute
@dataclass(frozen=True)
class Program:
    """Where pw.x and its pseudopotential are."""

    command: str
    pseudo_dir: str


def run_pw(
    program: Program,
    directory: Path,
    pos_ic: np.ndarray,
    cell_cc: np.ndarray,
    threshold_ry: float = SCF_THRESHOLD_RY,
) -> dict:
    """One SCF calculation in ``directory`` (emptied afterwards if it converged); see `parse_pw`."""
    directory.mkdir(parents=True, exist_ok=True)
    text = PW_INPUT.format(
        pseudo_dir=program.pseudo_dir,
        n_atoms=len(pos_ic),
        cutoff=CUTOFF_RY,
        threshold=threshold_ry,
        smearing=SMEARING_RY,
        n_bands=round(BANDS_PER_ATOM * len(pos_ic)),
        mass=MASS_SI,
        pseudopotential=PSEUDOPOTENTIAL,
        cell=_table(cell_cc),
        positions=_table(pos_ic, "Si "),
    )
    (directory / "pw.in").write_text(text)
    one_core = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    start = time.perf_counter()
    with open(directory / "pw.out", "w") as out:
        command = [program.command, "-in", "pw.in"]
        subprocess.run(command, cwd=directory, stdout=out, stderr=out, env=one_core, check=True)
    result = parse_pw(directory / "out" / "si.xml", abs(np.linalg.det(cell_cc)))
    result["seconds"] = time.perf_counter() - start
    if result["converged"]:
        shutil.rmtree(directory)
    return result


def _table(rows: np.ndarray, label: str = "") -> str:
    return "\n".join(label + " ".join(f"{x:.10f}" for x in row) for row in rows)


def parse_pw(xml_file: Path, volume: float) -> dict:
    """Read pw.x's XML (Hartree, bohr).

    Returns a dict with energy (eV), forces (n, 3) (eV/Angstrom), virial (3, 3) (eV), converged,
    iterations and the program's version. Quantum ESPRESSO's stress is s = -(1/V) dE/dstrain,
    positive under compression, hence virial = -dE/dstrain = V s (``check`` compares it with E).
    """
    root = ElementTree.parse(xml_file).getroot()
    output = root.find("output")
    scf = output.find("convergence_info/scf_conv")

    def matrix(tag):
        return np.array(output.find(tag).text.split(), dtype=float).reshape(-1, 3)

    return {
        "energy": float(output.find("total_energy/etot").text) * HARTREE,
        "forces": matrix("forces") * HARTREE / BOHR,
        "virial": matrix("stress") * HARTREE / BOHR**3 * volume,
        "converged": scf.find("convergence_achieved").text.strip() == "true",
        "iterations": int(scf.find("n_scf_steps").text),
        "version": root.find("general_info/creator").get("VERSION"),
    }


def compute(workdir: Path, program: Program, n_frames: int, deadline: float) -> None:
    """Compute the first ``n_frames`` drawn configurations that have no file yet in ``frames/``."""
    drawn = np.load(workdir / "drawn.npz")
    frames = workdir / "frames"
    frames.mkdir(exist_ok=True)
    for index in range(min(n_frames, len(drawn["sw_energy"]))):
        target = frames / f"{index:04d}.npz"
        if target.exists():
            continue
        if time.time() > deadline:
            print(f"out of time before frame {index}", flush=True)
            return
        frame = {name: drawn[name][index] for name in drawn.files}
        try:
            directory = workdir / "scratch" / f"{index:04d}"
            frame |= run_pw(program, directory, frame["positions"], frame["cell"])
        except subprocess.CalledProcessError as error:
            print(f"{index:04d} failed: {error}", flush=True)
            continue
        _write_beside(target, lambda path, frame=frame: np.savez(path, **frame))
        print(
            f"{index:04d} {frame['temperature']:6.0f} K {frame['strain']:14s} "
            f"E {frame['energy']:.6f} eV  {frame['iterations']} iterations "
            f"{frame['seconds']:.1f} s",
            flush=True,
        )


# ================================================================ pulay
def pulay(workdir: Path, program: Program) -> None:
    """Write ``pulay.json``: the isotropic virial P that energies at one cutoff add, per cell.

    Quantum ESPRESSO's stress is the derivative at a fixed set of plane waves; the energies of cells
    of different size belong to one cutoff, so that -dE/dstrain = W_analytic + P (Pulay stress;
    S. Froyen, M. L. Cohen, J. Phys. C 19, 2623 (1986)). Plane waves enter in discrete shells, which
    makes the energy a fine staircase in the size of the cell; P is therefore taken from the whole
    range of strains, with one frame scaled by exp(x):

        E(x) + integral_0^x tr W_analytic(y) dy = E(0) - 3 P x
    """
    pos_ic, cell_cc, index = _reference_frame(workdir)
    x = np.linspace(-0.03, 0.03, 13)
    runs = []
    for factor in np.exp(x):
        directory = workdir / "scratch" / "pulay"
        runs.append(run_pw(program, directory, pos_ic * factor, cell_cc * factor))
    energy = np.array([run["energy"] for run in runs])
    trace = np.array([np.trace(run["virial"]) for run in runs])
    integral = np.polyval(np.polyint(np.polyfit(x, trace, 4)), x)
    line = np.polyfit(x, energy + integral, 1)
    staircase = energy + integral - np.polyval(line, x)
    report = {
        "frame": index,
        "P (eV per cell)": -line[0] / 3,
        "standard error of P (eV)": float(
            np.sqrt((staircase**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum()) / 3
        ),
        "staircase of the energy, root mean square (eV per cell)": _rms(staircase),
        "x": x.tolist(),
        "energy (eV)": energy.tolist(),
        "trace of the analytic virial (eV)": trace.tolist(),
    }
    _write_beside(workdir / "pulay.json", lambda p: p.write_text(json.dumps(report, indent=2)))
    print(json.dumps(report, indent=2))


def _reference_frame(workdir: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Positions, cell and number of the first unstrained configuration at 900 K."""
    drawn = np.load(workdir / "drawn.npz")
    index = int(np.argmax((drawn["temperature"] == 900.0) & (drawn["strain"] == "none-a")))
    return drawn["positions"][index], drawn["cell"][index], index


# ================================================================ check
def check(workdir: Path, program: Program) -> None:
    """Write ``check.json``: derivatives beside differences of E; errors of the SCF threshold.

    The strains are so small that no plane wave enters or leaves: the analytic virial, without the
    Pulay term, must agree with them.
    """
    pos_ic, cell_cc, index = _reference_frame(workdir)
    directory = workdir / "scratch" / "check"

    def at(f_cc=np.eye(3), shift_ic=0.0, threshold=1e-11):  # noqa: B008 (read only)
        return run_pw(
            program, directory, (pos_ic + shift_ic) @ f_cc, cell_cc @ f_cc, threshold_ry=threshold
        )

    def slope(step, changed):
        return (changed(-step)["energy"] - changed(step)["energy"]) / (2 * step)

    tight, usual = at(), at(threshold=SCF_THRESHOLD_RY)
    virial, first_x = tight["virial"], np.zeros_like(pos_ic)
    first_x[0, 0] = 1.0
    directions = {
        "virial, trace (eV)": np.eye(3),
        "virial, xx (eV)": np.diag([1.0, 0, 0]),
        "virial, xy (eV)": np.array([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]]),
    }
    report = {"frame": index, "each pair": "analytic, differences of the energy"}
    for name, d_cc in directions.items():
        differences = slope(5e-4, lambda s, d=d_cc: at(np.eye(3) + s * d))
        report[name] = [float((virial * d_cc).sum()), differences]
    differences = slope(0.01, lambda s: at(shift_ic=s * first_x))
    report["force, atom 0, x (eV/Angstrom)"] = [float(tight["forces"][0, 0]), differences]
    for name in ("energy", "forces", "virial"):
        error = np.abs(usual[name] - tight[name]).max()
        report[f"error of the usual SCF threshold, {name}, largest"] = float(error)
    _write_beside(workdir / "check.json", lambda p: p.write_text(json.dumps(report, indent=2)))
    print(json.dumps(report, indent=2))


# ================================================================ collect
def computed(workdir: Path) -> dict[str, np.ndarray]:
    """All converged frames in the order of computation, stacked; prints what is left out.

    The Pulay virial is added (step ``pulay``), so that energies and virials belong together.
    """
    files = sorted((workdir / "frames").glob("[0-9]*.npz"))
    frames = []
    for file in files:
        with np.load(file) as loaded:
            frame = dict(loaded, frame=np.array(int(file.stem)))
        if frame["converged"]:
            frames.append(frame)
        else:
            print(f"frame {file.stem} left out: the SCF cycle did not converge")
    data = {name: np.stack([f[name] for f in frames]) for name in frames[0]}
    data["virial"] = data["virial"] + pulay_virial(workdir) * np.eye(3)
    return data


def pulay_virial(workdir: Path) -> float:
    """P in eV per cell, as found by the step ``pulay``."""
    return json.loads((workdir / "pulay.json").read_text())["P (eV per cell)"]


def is_test(trajectory: np.ndarray) -> np.ndarray:
    """Ten of the fifty trajectories: two of each temperature, one of each strain."""
    temperature, strain = np.divmod(trajectory, len(STRAINS))
    return strain % len(TEMPERATURES) == temperature


def examine(data: dict[str, np.ndarray]) -> str:
    """Net forces, spread of energies and forces, agreement with the Stillinger-Weber energy."""
    energy, n_atoms = data["energy"], data["positions"].shape[1]
    lines = [
        f"{len(energy)} frames, {np.median(data['seconds']):.1f} s per SCF (median)",
        f"largest net force {abs(data['forces'].sum(axis=1)).max():.1e} eV/Angstrom",
        f"energy per atom: standard deviation {energy.std() / n_atoms * 1e3:.1f} meV, "
        f"range {np.ptp(energy) / n_atoms * 1e3:.1f} meV",
        f"force: root mean square {_rms(data['forces']):.3f} eV/Angstrom",
    ]
    for t in TEMPERATURES:
        mine = data["temperature"] == t
        lines.append(f"  {t:5.0f} K: {mine.sum():3d} frames, {_rms(data['forces'][mine]):.3f}")
    # One line E_LDA = a E_SW + b(strain): a frame far off it is suspect.
    columns = [data["sw_energy"]] + [data["strain"] == name for name in STRAINS]
    design = np.stack(columns, axis=1).astype(float)
    residual = energy - design @ np.linalg.lstsq(design, energy, rcond=None)[0]
    far = data["frame"][abs(residual) > 5 * residual.std()]
    lines.append(
        f"against Stillinger-Weber: residual {residual.std() / n_atoms * 1e3:.1f} meV per atom; "
        f"beyond five standard deviations: {far.tolist() or 'none'}"
    )
    return "\n".join(lines)


def _rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(array**2)))


def collect(workdir: Path, output: Path) -> None:
    """Write ``si64_lda_train.h5`` and ``si64_lda_test.h5``."""
    data = computed(workdir)
    print(examine(data))
    test = is_test(data["trajectory"])
    for part, mine in (("train", ~test), ("test", test)):
        chosen = {name: array[mine] for name, array in data.items()}
        target = output / f"si64_lda_{part}.h5"
        notes = provenance(chosen, part, pulay_virial(workdir))
        _write_beside(target, lambda path, c=chosen, n=notes: write_hdf5(path, c, n))
        print(f"{target.name}: {mine.sum()} frames, {len(set(chosen['trajectory']))} trajectories")


def write_hdf5(path: Path, data: dict[str, np.ndarray], notes: dict) -> None:
    """One file in dpdata's ``deepmd/hdf5`` layout, provenance in the attributes of the root.

    Written with h5py itself because the system stands at the root, where dpdata opens it by the
    name of the file alone, and because it carries arrays beyond a frame's labels.
    """
    n, n_atoms = data["positions"].shape[:2]
    arrays = {
        "coord": data["positions"].reshape(n, -1),
        "box": data["cell"].reshape(n, 9),
        "energy": data["energy"],
        "force": data["forces"].reshape(n, -1),
        "virial": data["virial"].reshape(n, 9),
        "temperature": data["temperature"],
        "trajectory": data["trajectory"].astype(np.int32),
        "frame": data["frame"].astype(np.int32),
        "strain": data["strain"].astype("S16"),
    }
    with h5py.File(path, "w") as file:
        file["type.raw"] = np.zeros(n_atoms, dtype=np.int32)
        file["type_map.raw"] = np.array(["Si"], dtype="S")
        for name, array in arrays.items():
            file.create_dataset(f"set.000/{name}.npy", data=array, compression="gzip", shuffle=True)
        file.attrs.update(notes)


def provenance(data: dict[str, np.ndarray], part: str, pulay_ev: float) -> dict[str, str | float]:
    """What the numbers are, where they come from, what may be done with them."""
    return {
        "title": f"Diamond silicon, 64 atoms, LDA: {part} set ({len(data['energy'])} frames)",
        "method": (
            f"Quantum ESPRESSO pw.x {data['version'][0]}; LDA (Perdew-Zunger); norm-conserving "
            f"pseudopotential {PSEUDOPOTENTIAL} (von Barth-Car); plane waves to {CUTOFF_RY:g} Ry, "
            f"density to {4 * CUTOFF_RY:g} Ry; Gamma point only; Gaussian smearing {SMEARING_RY:g} "
            f"Ry, {round(BANDS_PER_ATOM * 64)} bands; conv_thr {SCF_THRESHOLD_RY:g} Ry. The energy "
            "is the free energy E - TS of the smeared electrons, of which the forces are the "
            "gradient. Configurations: Langevin dynamics with the Stillinger-Weber potential at "
            f"{', '.join(f'{t:g}' for t in TEMPERATURES)} K, lattice constant "
            f"{LATTICE_CONSTANT} Angstrom deformed as named in set.000/strain.npy; snapshots "
            f"{STEPS_BETWEEN_SNAPSHOTS * TIMESTEP / 1000:g} ps apart."
        ),
        "virial_correction": (
            "set.000/virial.npy is the analytic virial plus pulay_virial_eV on the diagonal: the "
            "Pulay term that makes it the strain derivative of energies at one cutoff."
        ),
        "pulay_virial_eV": pulay_ev,
        "limits": (
            "One k point: for testing and teaching, not for predicting silicon. Plane waves enter "
            "in shells: cells of different size are out of step by some 0.5 meV per atom."
        ),
        "script": "data/make_si64_lda.py",
        "created": datetime.date.today().isoformat(),
        "license": "BSD-3-Clause (computed for this project)",
        "units": (
            "Angstrom, eV, eV/Angstrom; virial in eV, virial = -dE/dstrain, row-major; "
            "temperature in K"
        ),
        # the same for programs, as kalmandp.Dataset writes and checks it
        "format": "deepmd/hdf5",
        "length_unit": "angstrom",
        "energy_unit": "eV",
        "force_unit": "eV/angstrom",
        "virial_unit": "eV",
        "virial_sign": "W = -dE/dstrain, row-major",
        "columns": (
            "temperature: of the thermostat; trajectory: number of the (temperature, strain) pair; "
            "strain: name of the cell; frame: place in the order of computation. Frames stand in "
            "that order: any beginning covers all temperatures and strains. Train and test set "
            "have no trajectory in common. Positions are not wrapped into the cell."
        ),
    }


def write_extxyz(workdir: Path, path: Path) -> None:
    """All frames computed so far as extended XYZ: energy, virial, forces."""
    data = computed(workdir)
    blocks = []
    for i, positions in enumerate(data["positions"]):
        cell, virial = (" ".join(f"{x:.10f}" for x in data[k][i].flat) for k in ("cell", "virial"))
        head = (
            f'Lattice="{cell}" Properties=species:S:1:pos:R:3:forces:R:3 pbc="T T T" '
            f'energy={data["energy"][i]:.10f} virial="{virial}" '
            f"temperature={data['temperature'][i]:g} strain={data['strain'][i]} "
            f"trajectory={data['trajectory'][i]}"
        )
        rows = np.concatenate([positions, data["forces"][i]], axis=1)
        blocks.append(f"{len(positions)}\n{head}\n{_table(rows, 'Si ')}\n")
    _write_beside(path, lambda beside: beside.write_text("".join(blocks)))


# ================================================================ files
def _write_beside(target: Path, write) -> None:
    """Call ``write`` on a neighbouring path, then rename: a reader never sees half a file."""
    beside = target.with_name(f".{target.stem}.writing{target.suffix}")
    write(beside)
    beside.replace(target)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="scratch; results per frame")
    parser.add_argument("--frames", type=int, default=250, help="configurations to compute")
    steps = ("draw", "compute", "pulay", "check", "collect")
    parser.add_argument("--steps", nargs="+", choices=(*steps, "extxyz"), default=steps)
    parser.add_argument("--pw", default="pw.x", help="the program (default: pw.x)")
    parser.add_argument("--pseudo-dir", default="/usr/share/espresso/pseudo")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no SCF after this")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent)
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    program = Program(args.pw, args.pseudo_dir)
    deadline = time.time() + 60 * args.minutes
    if "draw" in args.steps:
        draw(args.workdir, args.frames)
    if "compute" in args.steps:
        compute(args.workdir, program, args.frames, deadline)
    if "pulay" in args.steps and not (args.workdir / "pulay.json").exists():
        pulay(args.workdir, program)
    if "check" in args.steps and not (args.workdir / "check.json").exists():
        check(args.workdir, program)
    if "collect" in args.steps:
        collect(args.workdir, args.output)
    if "extxyz" in args.steps:
        write_extxyz(args.workdir, args.workdir / "si64_lda.extxyz")


if __name__ == "__main__":
    main()
