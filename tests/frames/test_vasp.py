"""OUTCAR and vasprun.xml: texts in their layout written here, because VASP's files are not ours to ship."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
from frame_makers import random_frame
from source_files import read_whole as read

from kalmandp.errors import FileError
from kalmandp.formats.units import KILOBAR

OUTPUTS = Path(__file__).parent / "outputs"


def outcar(frames, *, nelm=60, iterations=None, end=True) -> str:
    """Frames in the layout of an OUTCAR of VASP 6."""
    first = frames[0]
    species = list(dict.fromkeys(first.symbols))
    counts = [first.symbols.count(s) for s in species]
    text = [" vasp.6.4.2 20Jul23 complex"]
    text += [f" POTCAR:    PAW_PBE {s} 05Jan2001" for s in species * 2]
    text += [f"   TITEL  = PAW_PBE {s}_pv 05Jan2001" for s in species]
    text += [f"   ions per type =  {' '.join(map(str, counts))}", f"   NELM   = {nelm:6d};   NELMIN=  2"]
    text += ["   ISPIN  =      2    spin polarized calculation?"]
    for k, frame in enumerate(frames):
        for n in range(1, (iterations or [9] * len(frames))[k] + 1):
            text.append(f"----------- Iteration {k + 1:6d}({n:4d})  -----------")
            text.append(f"  free energy    TOTEN  = {0.0:18.8f} eV")
        text.append("----------- aborting loop because EDIFF is reached -----------")
        w = frame.virial / frame.volume / KILOBAR
        row = "".join(f"{x:12.5f}" for x in (w[0, 0], w[1, 1], w[2, 2], w[0, 1], w[1, 2], w[2, 0]))
        text += ["  FORCE on cell =-STRESS in cart. coord.  units (eV):", *["  contribution"] * 13]
        text += [f"  in kB  {row}"]
        text += [" VOLUME and BASIS-vectors are now :", " ---", "  energy-cutoff", "  volume of cell"]
        text += ["      direct lattice vectors                 reciprocal lattice vectors"]
        text += ["   " + "".join(f"{x:13.9f}" for x in (*v, 0.0, 0.0, 0.0)) for v in frame.cell]
        text += [" POSITION                                       TOTAL-FORCE (eV/Angst)", " ---"]
        text += [
            " " + "".join(f"{x:13.5f}" for x in r) + "    " + "".join(f"{x:14.6f}" for x in f)
            for r, f in zip(frame.positions, frame.forces, strict=True)
        ]
        text += [f"  free  energy   TOTEN  = {frame.energy:18.8f} eV"]
        text += ["", f"  energy  without entropy=  {0.0:16.8f}  energy(sigma->0) =  {0.0:16.8f}"]
    return "\n".join(text + [" General timing and accounting informations for this job:"] * end) + "\n"


def vasprun(frames, *, nelm=60, iterations=9, end=True) -> str:
    """Frames in the layout of a vasprun.xml."""
    rows = lambda name, array: (
        f'<varray name="{name}">'
        + "".join(f"<v> {' '.join(f'{x:16.8f}' for x in row)} </v>" for row in array)
        + "</varray>"
    )
    atoms = "".join(f"<rc><c>{s} </c><c> 1</c></rc>" for s in frames[0].symbols)
    text = ['<?xml version="1.0"?>', "<modeling>", f'<parameters><i name="NELM">{nelm}</i>']
    text += ['<i name="NELM"> 1</i></parameters>']
    text += [f'<atominfo><array name="atoms"><set>{atoms}</set></array></atominfo>']
    for frame in frames:
        basis = rows("basis", frame.cell)
        places = rows("positions", frame.positions @ np.linalg.inv(frame.cell))
        text += ["<calculation>", "<scstep></scstep>" * iterations]
        text += [f"<structure><crystal>{basis}</crystal>{places}</structure>"]
        text += [rows("forces", frame.forces), rows("stress", frame.virial / frame.volume / KILOBAR)]
        text += [f'<energy><i name="e_fr_energy">{frame.energy:.8f}</i><i name="e_0_energy">0</i></energy>']
        text += ["</calculation>"]
    return "\n".join(text + ["</modeling>"] * end)


@pytest.fixture
def silica():
    rng = np.random.default_rng(3)
    frames = [random_frame(rng, ["Si", "O", "O"]) for _ in range(3)]
    for frame in frames:
        frame.virial[:] = (frame.virial + frame.virial.T) / 2
    return frames


def close(got, wanted, *, positions, forces, virial):
    for g, w in zip(got, wanted, strict=True):
        assert g.symbols == w.symbols
        np.testing.assert_allclose(g.cell, w.cell, atol=1e-8)  # eight or nine decimals
        np.testing.assert_allclose(g.positions, w.positions, atol=positions)
        np.testing.assert_allclose(g.energy, w.energy, atol=1e-8)
        np.testing.assert_allclose(g.forces, w.forces, atol=forces)
        np.testing.assert_allclose(g.virial, w.virial, atol=virial)


def test_outcar(tmp_path, silica):
    (tmp_path / "run.out").write_text(outcar(silica))
    frames, left_out, ignored = read(tmp_path / "run.out")
    assert (left_out, ignored) == ([], {"magnetic moments"})
    # five and six decimals; 1e-5 kB of a cell of 500 Å³ are 3e-6 eV
    close(frames, silica, positions=6e-6, forces=6e-7, virial=6e-6)


def test_outcar_against_dpdata(tmp_path, silica):
    system = pytest.importorskip("dpdata.system")
    (tmp_path / "OUTCAR").write_text(outcar(silica))
    ours, _, _ = read(tmp_path / "OUTCAR")
    data = system.load_format("vasp/outcar").from_labeled_system(str(tmp_path / "OUTCAR"))
    for k, frame in enumerate(ours):
        np.testing.assert_array_equal(frame.positions, data["coords"][k])
        np.testing.assert_array_equal(frame.forces, data["forces"][k])
        assert frame.energy == data["energies"][k]
        # constants of other years
        np.testing.assert_allclose(frame.virial, data["virials"][k], rtol=1e-6)


@pytest.mark.parametrize(("suffix", "module"), [(".gz", gzip), (".bz2", bz2), (".xz", lzma)])
def test_compressed_files(tmp_path, silica, suffix, module):
    for name, text in (("OUTCAR", outcar(silica)), ("vasprun.xml", vasprun(silica))):
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(module.compress(text.encode()))
        assert len(read(path)[0]) == 3
        path.write_bytes(module.compress(text.encode())[:-30])
        with pytest.raises(FileError, match=path.name):
            read(path)


def test_unconverged_steps_of_vasp(tmp_path, silica):
    (tmp_path / "OUTCAR").write_text(outcar(silica, nelm=10, iterations=[9, 10, 3]))
    frames, left_out, _ = read(tmp_path / "OUTCAR")
    assert [f.energy for f in frames] == pytest.approx([silica[0].energy, silica[2].energy], abs=1e-8)
    assert left_out == [f"{tmp_path / 'OUTCAR'} frame 1: its SCF cycle did not converge"]
    frames, left_out, _ = read(tmp_path / "OUTCAR", keep_unconverged=True)
    assert (len(frames), left_out) == (3, [])
    (tmp_path / "vasprun.xml").write_text(vasprun(silica, nelm=9))
    assert len(read(tmp_path / "vasprun.xml")[1]) == 3
    said = outcar(silica).replace("aborting loop because EDIFF is", "aborting loop EDIFF was not", 1)
    (tmp_path / "OUTCAR").write_text(said)
    assert len(read(tmp_path / "OUTCAR")[1]) == 1


def test_vasprun(tmp_path, silica):
    (tmp_path / "vasprun.xml").write_text(vasprun(silica))
    frames, left_out, _ = read(tmp_path / "vasprun.xml")
    assert left_out == []
    close(frames, silica, positions=1e-7, forces=1e-8, virial=1e-7)
    # PSTRESS:  F = H − pV
    text = vasprun(silica).replace("<parameters>", '<parameters><i name="PSTRESS">10.0</i>')
    (tmp_path / "vasprun.xml").write_text(text)
    frames, _, _ = read(tmp_path / "vasprun.xml")
    wanted = silica[0].energy - 10.0 * KILOBAR * silica[0].volume
    np.testing.assert_allclose(frames[0].energy, wanted, atol=1e-7)


@pytest.mark.parametrize(("name", "write"), [("OUTCAR", outcar), ("vasprun.xml", vasprun)])
def test_a_killed_run_of_vasp_gives_the_steps_it_finished(tmp_path, silica, name, write):
    text = write(silica, end=False)
    path = tmp_path / name
    path.write_text(text)
    assert [len(x) for x in read(path)[:2]] == [3, 0]
    counts = set()
    for length in np.linspace(len(text) * 0.1, len(text) - 1, 40).astype(int):
        path.write_text(text[:length])
        try:
            frames, left_out, _ = read(path)
        except FileError as error:
            assert str(path) in str(error)
            continue
        for frame, wanted in zip(frames, silica, strict=False):
            np.testing.assert_allclose(frame.energy, wanted.energy, atol=1e-8)
        counts.add((len(frames), len(left_out)))
    assert {(1, 1), (2, 1)} <= counts


def test_steps_of_a_machine_learned_force_field_are_no_labels(tmp_path, silica):
    learned = outcar(silica[:1]).splitlines()
    learned = [
        line.replace("(eV/Angst)", "(eV/Angst) (ML)").replace("free  energy   TOTEN", "free  energy ML TOTEN")
        for line in learned[9:-1]
        if "Iteration" not in line
    ]
    text = outcar(silica[1:]).replace(" General", "\n".join(learned) + "\n General")
    (tmp_path / "OUTCAR").write_text(text)
    frames, left_out, _ = read(tmp_path / "OUTCAR")
    assert (len(frames), left_out) == (2, [])


def test_half_a_number_is_not_a_number(tmp_path, silica):
    (tmp_path / "OUTCAR").write_text(outcar(silica[:1]))
    for path, mark in (
        (tmp_path / "OUTCAR", "free  energy   TOTEN  ="),
        (OUTPUTS / "water_scf.out", "ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:"),
        (OUTPUTS / "si8_scf.pwo", "!    total energy              ="),
    ):
        text = path.read_text()
        number = text.index(mark) + len(mark)
        number += len(text[number:]) - len(text[number:].lstrip())
        cut = tmp_path / path.name
        cut.write_text(text[: number + 5])  # such as "-34.1"
        frames, left_out, _ = read(cut)
        assert (frames, left_out) == ([], [f"{cut} frame 0: the file ends before this step is complete"])
