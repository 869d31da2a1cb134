"""In which units an n2p2 folder is: as its files say, or as distances tell."""

from __future__ import annotations

import pytest
from n2p2_support import frames, in_angstrom, text
from numpy.testing import assert_allclose

from kalmandp import FileError, InputError, Potential, read_input
from kalmandp.bridges.n2p2.units import shared_units
from kalmandp.bridges.n2p2.usage import usage
from kalmandp.constants import BOHR
from kalmandp.formats.runner import write_runner
from kalmandp.training.loop import Run


def test_units_of_both_files_are_those_of_the_data(place):
    assert shared_units(place / "input.nn", place / "input.data") == ("atomic", (), True)
    (place / "input.nn").write_text(text(rc=7.5))
    units, [notice], _ = shared_units(place / "input.nn", place / "input.data")
    assert units == "atomic" and "up to 7.5, are taken in bohr" in notice and "small (4.0 Å" in notice
    assert read_input(place / "input.nn").model.cutoff == pytest.approx(7.5 * BOHR)
    (place / "input.nn").write_text(text(rc=6.0))
    in_angstrom(place / "input.data")
    assert shared_units(place / "input.nn", place / "input.data") == ("metal", (), True)
    (place / "input.nn").write_text(text(rc=12.0))
    units, [notice], _ = shared_units(place / "input.nn", place / "input.data")
    assert units == "metal" and "up to 12, are taken in Å" in notice and "is large" in notice


def test_units_that_cannot_be(place):
    (place / "input.nn").write_text("# units: metal\n" + text())
    with pytest.raises(
        FileError, match=r"says that it is in Å and eV, and .*input\.data is in bohr and hartree"
    ):
        shared_units(place / "input.nn", place / "input.data")
    # numbers in Å whose comment says bohr: the atoms are too close
    (place / "input.nn").write_text(text())
    in_angstrom(place / "input.data")
    data = (place / "input.data").read_text().replace("begin\n", "begin\ncomment units: bohr hartree\n")
    (place / "input.data").write_text(data)
    notices = shared_units(place / "input.nn", place / "input.data").notices
    assert any("bond lengths apart in bohr" in n for n in notices)
    # numbers in bohr whose comment says Å: the atoms are too far apart
    write_runner(place / "input.data", frames())
    data = (place / "input.data").read_text().replace("units: bohr hartree", "units: angstrom eV")
    (place / "input.data").write_text(data)
    (place / "input.nn").write_text(text(rc=6.0))
    notices = shared_units(place / "input.nn", place / "input.data").notices
    assert any("as if bohr were taken for Å" in n for n in notices)
    # a cut-off that reaches no second neighbour
    (place / "input.nn").write_text(text(rc=4.5))
    notices = shared_units(place / "input.nn", place / "input.data").notices
    assert any("reaches hardly beyond the closest atoms" in n for n in notices)


def test_a_folder_without_units_has_those_of_its_input_data(place, tmp_path):
    """Cut-offs of 8.5 look like Å; the input.data beside them says bohr."""
    (place / "input.nn").write_text(text(rc=8.5))
    potential = Run(read_input(place / "input.nn"), tmp_path / "run").potential
    wanted = potential.evaluate(next(frames()))
    potential.save(tmp_path / "model")
    for file in (tmp_path / "model").iterdir():
        body = "\n".join(x for x in file.read_text().splitlines() if not x.startswith("# units"))
        (place / file.name).write_text(body + "\n")
    again = Potential.load(place)
    assert again.form.length_unit == BOHR
    got = again.evaluate(next(frames()))
    assert_allclose(got.energy, wanted.energy, rtol=1e-13)
    assert_allclose(got.forces, wanted.forces, rtol=1e-10, atol=1e-12)
    # without it nothing tells, and that is said
    (place / "input.data").unlink()
    with pytest.warns(UserWarning, match="does not say its units; taken as Å and eV by the size of its cut"):
        assert Potential.load(place).form.length_unit == 1.0


@pytest.mark.parametrize("units, cutoff, more", [
    ("atomic", 8.5, " & cflength 1.88972612462 cfenergy 0.03674932217"), ("metal", 6.0, ""),
])  # fmt: skip
def test_lammps_is_told_the_units_of_the_files(place, units, cutoff, more):
    """The cut-off is in LAMMPS's Å, and the factors are the model's units in an Å and an eV."""
    (place / "input.nn").write_text(f"# units: {units}\n{text(rc=cutoff)}")
    (_, _, code), _ = usage(str(place), ("Cl", "Na"))
    style, coefficients = code.rsplit("\n", 1)
    words = " ".join(style.split())
    assert coefficients.split() == ["pair_coeff", "*", "*", "Cl", "Na"]
    reach = cutoff * BOHR if units == "atomic" else cutoff
    begin = f'pair_style hdnnp {reach:.6f} dir "{place}" showew no showewsum 100 resetew no maxew 100'
    assert words.startswith(begin)
    numbers, wanted = words[len(begin) :].split(), more.split()
    assert numbers[:2] == wanted[:2] and len(numbers) == len(wanted)
    assert_allclose([float(x) for x in numbers[2::2]], [float(x) for x in wanted[2::2]], rtol=1e-9)


def test_units_that_are_none_are_named(place):
    (place / "input.nn").write_text("# units: furlong\n" + text())
    with pytest.raises(FileError, match="units is 'furlong'; expected atomic"):
        read_input(place / "input.nn")


def test_units_of_an_input_nn_that_an_input_of_ours_names(place):
    """Its own line counts; without one the input.data beside it, or the key; a contradiction is named."""

    def cutoff(line="", rc=8.0, **model):
        (place / "input.nn").write_text(line + text(rc=rc))
        tree = {
            "model": {"type": "hdnnp", "input_nn": str(place / "input.nn"), **model},
            "optimizer": {"type": "RLEKF"},
            "training": {"training_data": {"systems": [str(place / "input.data")]}, "numb_steps": 1},
        }
        return read_input(tree).model.cutoff

    assert cutoff("# units: metal\n") == 8.0
    assert cutoff() == pytest.approx(8.0 * BOHR)  # input.data is in bohr
    (place / "input.data").unlink()
    assert cutoff(units="atomic") == pytest.approx(8.0 * BOHR)
    with pytest.warns(UserWarning, match="does not say its units; taken as Å and eV"):
        assert cutoff() == 8.0
    with pytest.raises(InputError, match=r"model/units is atomic; expected none but metal, as .* says"):
        cutoff("# units: metal\n", units="atomic")
