"""How fast files of frames are read: extended XYZ, OUTCAR, vasprun.xml, HDF5; beside ASE and dpdata.

    python examples/benchmarks/conversion.py [--small] [--atoms 96] [--frames 200] [--rounds 3] [--json FILE]

The files are invented, in the layouts of the programs. A turn reads all frames with energy, forces and
virial into memory; the last row is the whole of `kalmandp.convert` from extended XYZ to HDF5, with its
look at the data. ASE and dpdata take part where they are installed and read the format.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from support.turns import clock, machine, medians, take_turns, write_json

import kalmandp
from kalmandp.formats.extxyz import write_extxyz
from kalmandp.formats.sources import Source, guess_format
from kalmandp.formats.units import KILOBAR
from kalmandp.frames.frame import Frame
from kalmandp.frames.hdf5.writing import write_hdf5


def make_frames(n_frames: int, n_atoms: int) -> list[Frame]:
    """Frames of quartz-like composition with labels of no meaning."""
    rng = np.random.default_rng(0)
    types = np.sort(np.arange(n_atoms) % 3 > 0).astype(np.int32)
    side = (13.0 * n_atoms) ** (1 / 3)
    frames = []
    for _ in range(n_frames):
        W = rng.normal(size=(3, 3))
        frames.append(
            Frame(
                rng.uniform(0, side, (n_atoms, 3)), types, ("Si", "O"), cell=np.diag([side] * 3),
                energy=float(-8.0 * n_atoms + rng.normal()), forces=rng.normal(size=(n_atoms, 3)),
                virial=W + W.T,
            )
        )  # fmt: skip
    return frames


def outcar(frames: list[Frame]) -> str:
    """The lines of an OUTCAR that readers look for."""
    counts = [frames[0].symbols.count(s) for s in ("Si", "O")]
    text = [" vasp.6.4.2 20Jul23 complex"]
    text += [f" POTCAR:    PAW_PBE {s} 05Jan2001" for s in ("Si", "Si", "O", "O")]
    text += [f"   VRHFIN ={s}: s2p2\n   TITEL  = PAW_PBE {s} 05Jan2001" for s in ("Si", "O")]
    text += [
        f"   ions per type =  {counts[0]} {counts[1]}",
        "   NELM   =     60;   NELMIN=  2",
        "   ISPIN  =      1    spin",
    ]
    for k, f in enumerate(frames):
        text += [f"----------- Iteration {k + 1:6d}({n:4d})  -----------" for n in range(1, 10)]
        w = f.virial / f.volume / KILOBAR
        row = "".join(f"{x:12.5f}" for x in (w[0, 0], w[1, 1], w[2, 2], w[0, 1], w[1, 2], w[2, 0]))
        text += ["  FORCE on cell =-STRESS in cart. coord.  units (eV):", *["  part"] * 13, f"  in kB  {row}"]
        text += [f"  external pressure = {np.trace(w) / 3:11.2f} kB  Pullay stress =        0.00 kB"]
        text += [" VOLUME and BASIS-vectors are now :", " ---", "  energy-cutoff", "  volume of cell"]
        text += ["      direct lattice vectors                 reciprocal lattice vectors"]
        text += ["   " + "".join(f"{x:13.9f}" for x in (*v, *(v / 100))) for v in f.cell]
        text += [" POSITION                                       TOTAL-FORCE (eV/Angst)", " " + "-" * 80]
        rows = np.hstack([f.positions, f.forces]).tolist()
        text += ["".join(f"{x:13.5f}" for x in r) for r in rows]
        text += [" " + "-" * 80, "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)", "  " + "-" * 50]
        text += [f"  free  energy   TOTEN  = {f.energy:18.8f} eV", ""]
        text += [f"  energy  without entropy= {f.energy:16.8f}  energy(sigma->0) = {f.energy:16.8f}"]
    return "\n".join([*text, " General timing and accounting informations for this job:", ""])


def vasprun(frames: list[Frame]) -> str:
    """The elements of a vasprun.xml that readers look for."""

    def rows(name: str, array) -> str:
        body = "\n".join("<v>" + "".join(f"{x:17.8f}" for x in r) + " </v>" for r in array.tolist())
        return f'<varray name="{name}">\n{body}\n</varray>'

    symbols = frames[0].symbols
    atoms = "\n".join(f"<rc><c>{s} </c><c>{1 + (s == 'O')}</c></rc>" for s in symbols)
    kinds = "".join(
        f"<rc><c>{symbols.count(s)}</c><c>{s} </c><c>28.0</c><c>4.0</c><c>  PAW_PBE {s} 05Jan2001</c></rc>"
        for s in ("Si", "O")
    )
    text = ['<?xml version="1.0" encoding="ISO-8859-1"?>', "<modeling>", "<incar></incar>"]
    text += [
        '<kpoints><varray name="kpointlist"><v>0 0 0</v></varray>',
        '<varray name="weights"><v>1</v></varray></kpoints>',
    ]
    text += [
        '<parameters><i type="int" name="NELM">60</i></parameters>',
        f"<atominfo><atoms>{len(symbols)}</atoms>",
    ]
    text += [
        '<array name="atoms"><field>element</field><field>atomtype</field>',
        f"<set>{atoms}</set></array>",
    ]
    text += [f'<array name="atomtypes"><set>{kinds}</set></array></atominfo>']
    structure = lambda f: (
        f"<structure><crystal>{rows('basis', f.cell)}</crystal>"
        f"{rows('positions', f.positions @ np.linalg.inv(f.cell))}</structure>"
    )
    text += [structure(frames[0]).replace("<structure>", '<structure name="initialpos">')]
    for f in frames:
        energy = "".join(
            f'<i name="{n}">{f.energy:16.8f}</i>' for n in ("e_fr_energy", "e_wo_entrp", "e_0_energy")
        )
        text += ["<calculation>", *[f"<scstep><energy>{energy}</energy></scstep>"] * 9, structure(f)]
        text += [rows("forces", f.forces), rows("stress", f.virial / f.volume / KILOBAR)]
        text += [f"<energy>{energy}</energy></calculation>"]
    return "\n".join([*text, "</modeling>", ""])


def ours(path: Path) -> int:
    return sum(1 for _ in Source(str(path), guess_format(str(path))).frames())


def by_ase(path: Path) -> int:
    from ase.io import iread

    return sum(1 for atoms in iread(path, ":") if atoms.get_forces() is not None)


def by_dpdata(path: Path, name: str) -> int:
    import dpdata

    if name == "deepmd/hdf5":
        return sum(len(s) for s in dpdata.MultiSystems().from_deepmd_hdf5(str(path)).systems.values())
    return len(dpdata.LabeledSystem(str(path), fmt=name))


def candidates(folder: Path, frames: list[Frame]) -> dict[tuple[str, str], Callable[[], int]]:
    """(format, reader) -> what reads all frames and returns their number; each is tried once."""
    write_extxyz(folder / "a.extxyz", frames)
    (folder / "OUTCAR").write_text(outcar(frames))
    (folder / "vasprun.xml").write_text(vasprun(frames))
    write_hdf5(folder / "a.hdf5", frames)
    files = {
        "extended XYZ": ("a.extxyz", True, None),
        "OUTCAR": ("OUTCAR", True, "vasp/outcar"),
        "vasprun.xml": ("vasprun.xml", True, "vasp/xml"),
        "HDF5": ("a.hdf5", False, "deepmd/hdf5"),
    }
    found: dict[tuple[str, str], Callable[[], int]] = {}
    for what, (name, ase_reads, dpdata_name) in files.items():
        path = folder / name
        found[what, "kalmandp"] = lambda path=path: ours(path)
        if ase_reads:
            found[what, "ASE"] = lambda path=path: by_ase(path)
        if dpdata_name:
            found[what, "dpdata"] = lambda path=path, fmt=dpdata_name: by_dpdata(path, fmt)
    found["extended XYZ to HDF5", "kalmandp"] = lambda: (
        kalmandp.convert(folder / "a.extxyz", folder / "b.h5").frames
    )
    for key, read in list(found.items()):
        try:
            n = read()
        except ImportError:
            del found[key]
            continue
        if n != len(frames):
            raise SystemExit(f"{key[1]} reads {n} of {len(frames)} frames of {key[0]}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="a short run, to try it out")
    parser.add_argument("--atoms", type=int, default=96, help="in a frame")
    parser.add_argument("--frames", type=int, default=200, help="in a file")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each reader")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    args = parser.parse_args()
    n_frames, n_atoms, rounds = (20, 24, 1) if args.small else (args.frames, args.atoms, args.rounds)
    frames = make_frames(n_frames, n_atoms)
    with tempfile.TemporaryDirectory() as folder:
        reads = candidates(Path(folder), frames)
        seconds = medians(take_turns({key: clock(read) for key, read in reads.items()}, rounds))
    print(f"{n_frames} frames of {n_atoms} atoms; frames per second, median of {rounds}\n")
    print(f"{'':22s}{'kalmandp':>10s}{'ASE':>10s}{'dpdata':>10s}")
    for what in dict.fromkeys(key[0] for key in seconds):
        rates = [seconds.get((what, who)) for who in ("kalmandp", "ASE", "dpdata")]
        print(f"{what:22s}" + "".join(f"{n_frames / s:10,.0f}" if s else f"{'–':>10s}" for s in rates))
    if args.json:
        rates = {f"{what}, {who}": n_frames / s for (what, who), s in seconds.items()}
        write_json(
            args.json, {"machine": machine(), "frames": n_frames, "atoms": n_atoms, "per second": rates}
        )


if __name__ == "__main__":
    main()
