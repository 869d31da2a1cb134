"""n2p2's files: what is wrong with them is named, with file and line."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hdnnp_cases import judges, random_case, random_form, random_frame, unpack
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kalmandp.errors import FileError, InputError, KalmanDPError
from kalmandp.potentials.hdnnp.environment import symmetry_functions
from kalmandp.potentials.hdnnp.files import read_folder, write_folder
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.hdnnp.input_nn import parse_input_nn
from kalmandp.potentials.hdnnp.symmetry_functions import SymmetryFunction
from kalmandp.potentials.hdnnp.units import atom_energies_of, bias_of, energy_factor, force_factor, units_name

FILES = judges("models")["03_CuS_2_3_9_cut6a"]["files"]
TEXT = FILES["input.nn"]


def change(pattern: str, new: str) -> str:
    text, n = re.subn(pattern, new, TEXT, count=1, flags=re.M)
    assert n == 1
    return text


MISTAKES = {
    "unknown keyword": (
        TEXT + "kalman_epsilom 0.01\n",
        r"line \d+: keyword 'kalman_epsilom' is unknown.*kalman_epsilon \(1/P",
    ),
    "another generation": (TEXT + "nnp_type 4G-HDNNP\n", r"nnp_type means: another generation"),
    "nets of their own": (TEXT + "element_nodes_short Cu 1 10\n", "element_nodes_short means: widths of one"),
    "no cutoff": (change("^cutoff_type.*$", ""), "there is no cutoff_type .cutoff function"),
    "cutoff unknown": (
        change("^cutoff_type.*$", "cutoff_type 11"),
        "cutoff_type is 11; expected a number from 0 to 8",
    ),
    "alpha too large": (change("^cutoff_type.*$", "cutoff_type 6 1.5"), "alpha of cutoff_type is 1.5"),
    "elements miscounted": (
        change("^number_of_elements.*$", "number_of_elements 3"),
        "2 elements; number_of_elements says 3",
    ),
    "no such element": (change("^elements .*$", "elements Cu Xx"), "element 'Xx' is unknown"),
    "element without functions": (
        change("^elements .*$", "elements Cu S O").replace("_of_elements 2", "_of_elements 3"),
        "element O has no symfunction_short",
    ),
    "function of another element": (
        TEXT + "symfunction_short Cu 2 O 0.1 0 5\n",
        "names O, which is not among",
    ),
    "weighted functions": (TEXT + "symfunction_short Cu 12 0.1 0 5\n", "type 12 is an element-weighted"),
    "unknown type": (TEXT + "symfunction_short Cu 7 Cu 0.1 0 5\n", "type 7 is unknown"),
    "too few numbers": (TEXT + "symfunction_short Cu 2 Cu 0.1 5\n", "expected eta rs rc"),
    "no number": (TEXT + "symfunction_short Cu 2 Cu 0.1 x 5\n", "not all of 0.1 x 5 are numbers"),
    "bare": (TEXT + "symfunction_short\n", "expected symfunction_short, an element"),
    "eta below zero": (TEXT + "symfunction_short Cu 2 Cu -0.33 0 5\n", "eta is -0.33; expected a number ≥ 0"),
    "window upside down": (TEXT + "symfunction_short Cu 20 Cu 6 5 p2\n", "rl is 6.0; expected"),
    "subtype": (TEXT + "symfunction_short Cu 20 Cu 0 5 p7\n", "subtype is p7; expected one of"),
    "angle": (TEXT + "symfunction_short Cu 22 Cu Cu 0 5 10 270 p2\n", r"left, right is \(10.0, 270.0\)"),
    "two scalings": (TEXT + "scale_symmetry_functions_sigma\n", "beside another scaling"),
    "letter": (
        change("^global_activation_short.*$", "global_activation_short s z l"),
        "activation 'z' is unknown",
    ),
    "letters missing": (
        change("^global_activation_short.*$", "global_activation_short s l"),
        "with 2 values; expected 3",
    ),
    "half a normalisation": (TEXT + "mean_energy -1\nconv_length 2\n", "has mean_energy, conv_length only"),
    "keyword twice": (TEXT + "cutoff_type 1\n", "cutoff_type a second time"),
    "not a number": (TEXT.replace("scale_min_short ", "scale_min_short x"), "is 'x.*'; expected a finite"),
    "atom_energy": (TEXT + "atom_energy O -1\n", "atom_energy O -1; expected one of"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_input_nn_are_named(mistake):
    text, wanted = MISTAKES[mistake]
    with pytest.raises(FileError, match=wanted) as found:
        parse_input_nn(text, "folder/input.nn")
    assert str(found.value).startswith("folder/input.nn")


def damaged(files, name, change):
    return {**files, name: change(files[name])}


FOLDERS = {
    "weights cut short": ("weights.029.data", lambda t: t[: len(t) // 2], "the net of Cu has 143"),
    "weights of another element": (
        "weights.016.data",
        lambda t: t + " 1.0\n",
        "has 144 weights; the net of S",
    ),
    "not finite": ("weights.016.data", lambda t: "nan\n" + "\n".join(t.splitlines()[1:]), "not finite"),
    "text for a weight": (
        "weights.016.data",
        lambda t: "x a 1\n" + t,
        "line 1: is 'x a 1'; expected a number first",
    ),
    "scaling of fewer functions": (
        "scaling.data",
        lambda t: "\n".join(t.splitlines()[:-1]),
        "15 of the 16 functions of Cu",
    ),
    "scaling of more functions": (
        "scaling.data",
        lambda t: t + "1 17 0 1 .5 .5\n",
        "function 17 of element 1; input.nn has 16 for S",
    ),
    "scaling with words": ("scaling.data", lambda t: t + "1 a b c\n", "expected numbers"),
    "scaling cut short": ("scaling.data", lambda t: t + "1 1 0.1 0.1 0.1 0.1 0.1\n", "expected two indices"),
}


@pytest.mark.parametrize("mistake", FOLDERS)
def test_damaged_folders_are_named(mistake, tmp_path):
    name, change, wanted = FOLDERS[mistake]
    folder = unpack(damaged(FILES, name, change), tmp_path)
    with pytest.raises(FileError, match=wanted) as found:
        read_folder(folder, "metal")
    assert name in str(found.value)


@pytest.mark.parametrize("name", sorted(FILES))
def test_missing_files_are_named(name, tmp_path):
    folder = unpack(FILES, tmp_path)
    (folder / name).unlink()
    with pytest.raises(FileError, match=f"{name}: no such file"):
        read_folder(folder)


def test_runners_scaling_and_comments(tmp_path):
    """No sigma, and the range of energies at the end; comments behind values."""
    lines = [" ".join(line.split()[:5]) for line in FILES["scaling.data"].splitlines() if "#" not in line]
    files = {**FILES, "scaling.data": "\n".join([*lines, "-1.0 2.0"])}
    files["input.nn"] = (
        "runner_mode 2  # RuNNer's\n" + TEXT.replace("cutoff_type 6", "cutoff_type 6 ") + "epochs 5\n"
    )
    model = read_folder(unpack(files, tmp_path), "metal")
    exact = read_folder(unpack(FILES, tmp_path / "exact"), "metal")
    for key in ("min", "max", "mean"):
        assert (model.statistics[key] == exact.statistics[key]).all()
    assert model.training["epochs"] == "5" and model.form == exact.form


def test_training_keywords_are_kept(tmp_path):
    text = TEXT + "epochs 5\nuse_short_forces\nkalman_type 1\nnormalize_data_set force\n"
    model = read_folder(unpack({**FILES, "input.nn": text}, tmp_path / "one"), "metal")
    wanted = {"epochs": "5", "use_short_forces": "", "kalman_type": "1", "normalize_data_set": "force"}
    assert model.training == wanted
    write_folder(tmp_path / "two", *model)
    assert read_folder(tmp_path / "two", "metal").training == wanted


def test_other_ways_to_write_the_same(tmp_path):
    """n2p2's second names, its generation by name, and comments that ! begins."""
    wanted = parse_input_nn(TEXT + "short_force_fraction 0.1\nshort_energy_fraction 0.5\n")
    other = TEXT.replace("\n", "  ! a comment\n").replace("symfunction_short", "!\nsymfunction_short", 1)
    other += "nnp_type 2G-HDNNP\nforce_fraction 0.1  ! of forces\nenergy_fraction 0.5\n"
    got = parse_input_nn(other)
    assert got.form == wanted.form and got.training == wanted.training
    with pytest.raises(FileError, match="short_force_fraction a second time"):
        parse_input_nn(TEXT + "short_force_fraction 0.1\nforce_fraction 0.1\n")


def test_what_is_there_is_not_lost(tmp_path):
    model = read_folder(unpack(FILES, tmp_path), "metal")
    with pytest.raises(FileError, match="exists"):
        write_folder(tmp_path, *model, overwrite=False)
    for name, text in FILES.items():
        assert (tmp_path / name).read_text() == text
    with pytest.raises(InputError, match="weights' shape"):
        write_folder(tmp_path, model.form, model.weights[:-1], *model[2:])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_round_trip_of_random_models(tmp_path_factory, seed, n_types):
    """Written and read: the same form, the same bits of weights and statistics."""
    rng = np.random.default_rng(seed)
    form = random_form(rng, n_types, length_unit=1.0, energy_unit=1.0, conv_energy=1.0)
    case = random_case(rng, form, random_frame(rng, form, 5))
    folder = tmp_path_factory.mktemp("model")
    write_folder(folder, form, case.par.weights, case.statistics, case.par.bias_t)
    again = read_folder(folder, "metal")
    assert again.form == form and (again.weights == case.par.weights).all()
    assert all((again.statistics[k] == v).all() for k, v in case.statistics.items())
    assert_allclose(again.bias_t, case.par.bias_t, rtol=1e-15)


def test_units():
    form = parse_input_nn(TEXT + "mean_energy -3\nconv_energy 2\nconv_length 0.5\n").form
    assert units_name(form) == "atomic"
    assert_allclose(bias_of(form, [1.0, 2.0]), np.array([-2.0, -1.0]) * 27.211386245988)
    assert_allclose(atom_energies_of(form, bias_of(form, [1.0, 2.0])), [1.0, 2.0])
    # one hartree is 2 normalised units; a force of one hartree/bohr is 2/0.5
    assert_allclose(energy_factor(form) * 27.211386245988, 2.0)
    assert_allclose(force_factor(form) * 27.211386245988 / 0.529177210903, 4.0)
    with pytest.raises(InputError, match="units is 'SI'"):
        parse_input_nn(TEXT, units="SI")


def test_forms_that_cannot_be():
    f = SymmetryFunction(2, ("Si",), 3.0, eta=0.1)
    for choices, wanted in (
        (
            {"type_map": ("Si", "O"), "functions": [[f], [f]]},
            r"\['Si', 'O'\]; expected \['O', 'Si'\]",
        ),
        ({"type_map": ("Q",)}, "names of elements"),
        ({"type_map": ()}, "at least one element"),
        ({"functions": [[]]}, "at least one function"),
        ({"functions": [[f], [f]]}, "functions is 2 lists; expected 1"),
        ({"activations": ("tanh",)}, "activations"),
        ({"scaling": "best"}, "scaling is best"),
        ({"scale_min": 2.0}, "scale_max is 1.0; expected more than"),
        ({"conv_energy": -1.0}, "conv_energy is -1.0"),
        ({"hidden": (0, 2)}, "widths > 0"),
    ):
        with pytest.raises(KalmanDPError, match=wanted):
            HDNNPForm(**{"type_map": ("Si",), "functions": [[f]], **choices})


def test_a_function_that_is_listed_twice_is_two_inputs(tmp_path):
    """n2p2 takes such files: a model must be readable with all its weights."""
    rng = np.random.default_rng(1)
    form = random_form(rng, 2, length_unit=1.0, energy_unit=1.0, conv_energy=1.0)
    twice = [[*rows, rows[0]] for rows in form.functions]
    form = type(form)(**{**form.to_dict(), "functions": twice})
    case = random_case(rng, form, random_frame(rng, form, 5))
    write_folder(tmp_path, form, case.par.weights, case.statistics, case.par.bias_t)
    assert read_folder(tmp_path, "metal").form == form
    G_id, _ = symmetry_functions(form, case.geometry)
    for atoms, functions, rows in zip(case.env.atoms_t, form.functions, twice, strict=True):
        k = functions.index(rows[0])
        assert functions[k + 1] == functions[k] and (G_id[atoms, k] == G_id[atoms, k + 1]).all()


def columns(text: str, most: int) -> list[list[float]]:
    """The first numbers of each line, without comments."""
    rows = (line.split("#")[0].split() for line in text.splitlines())
    return [[float(word) for word in row[:most]] for row in rows if row]


@pytest.mark.parametrize("name", sorted(judges("models")))
def test_written_files_have_n2p2s_numbers_in_its_order(name, tmp_path):
    """nnp-predict reads them line by line: each number stands where n2p2 has it, with all its digits."""
    files = judges("models")[name]["files"]
    model = read_folder(unpack(files, tmp_path / "n2p2"), "metal")
    write_folder(tmp_path / "ours", *model)
    assert {path.name for path in (tmp_path / "ours").iterdir()} == set(files)
    for file in set(files) - {"input.nn"}:
        most = 6 if file == "scaling.data" else 1
        assert columns((tmp_path / "ours" / file).read_text(), most) == columns(files[file], most)
