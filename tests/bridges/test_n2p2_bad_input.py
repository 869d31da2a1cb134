"""`kalmandp train input.nn` with files that cannot be: one error names file and line, nothing is left."""

from __future__ import annotations

import re

import pytest
from n2p2_support import FUNCTIONS, frames, text
from numpy.testing import assert_array_equal

from kalmandp import Potential, read_input
from kalmandp.cli import main
from kalmandp.potentials.hdnnp.files import read_folder
from kalmandp.training.data.splitting import datasets
from kalmandp.training.loop import Run

GOOD = text()
LINES = len(GOOD.splitlines())


def put(path, content) -> None:
    """A file with this text or these bytes; None for a folder in its place."""
    if path.is_file():
        path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def changed(pattern: str, new: str, old: str = GOOD) -> str:
    made, n = re.subn(pattern, new, old, count=1, flags=re.M)
    assert n == 1
    return made


def stated(line: str) -> str:
    return f"{GOOD}{line}\n"


#: name -> the input.nn, what the error says after the file's name
OF_INPUT_NN = {
    "empty": ("", "input.nn is empty; expected lines of text"),
    "folder": (None, "input.nn: is a folder"),
    "binary": (bytes(range(256)), "input.nn is not a text"),
    "comments alone": ("# nothing\n", "there is no elements (their symbols); expected one"),
    "no elements": (changed("^elements.*$", ""), "there is no elements (their symbols)"),
    "no functions": (
        changed(r"^(symfunction_short.*\n)+", ""),
        "has no symfunction_short; expected at least one",
    ),
    "unknown keyword": (stated("force_wieght 3"), "did you mean force_weight (what force errors and their"),
    "element twice": (
        changed("^elements.*$", "elements Na Na"),
        "line 3: element Na twice; expected each once",
    ),
    "cutoff_type a word": (
        changed("^cutoff_type.*$", "cutoff_type cos"),
        "cutoff_type is 'cos'; expected a whole",
    ),
    "cutoff_type bare": (
        changed("^cutoff_type.*$", "cutoff_type"),
        "cutoff_type with 0 values; expected 1 to 2",
    ),
    "cutoff_type long": (changed("^cutoff_type.*$", "cutoff_type 1 .1 .2"), "with 3 values; expected 1 to 2"),
    "layers < 0": (
        changed("^global_hidden.*$", "global_hidden_layers_short -1"),
        "is '-1'; expected a whole number",
    ),
    "width 0": (
        changed("^global_nodes.*$", "global_nodes_short 0"),
        "global_nodes_short is '0'; expected a whole",
    ),
    "widths for two": (changed("^global_nodes.*$", "global_nodes_short 4 4"), "with 2 values; expected 1"),
    "eta < 0": (
        stated("symfunction_short Na 2 Cl -1 0 9"),
        f"line {LINES + 1}: symmetry function type 2 with Cl",
    ),
    "zeta 0": (stated("symfunction_short Na 3 Cl Cl 1 1 0 9"), "zeta is 0.0; expected a number ≥ 1"),
    "r_c 0": (stated("symfunction_short Na 2 Cl 1 0 0"), "rc is 0.0; expected a length > 0"),
    "too few fields": (
        stated("symfunction_short Na 2 Cl 1 9"),
        "has 2 values at its end; expected eta rs rc",
    ),
    "scale nan": (stated("scale_min_short nan"), "scale_min_short is 'nan'; expected a finite number"),
    "mean_energy nan": (
        stated("mean_energy nan\nconv_energy 1\nconv_length 1"),
        "mean_energy is 'nan'; expected a finite number",
    ),
    "atom_energy a word": (stated("atom_energy Na a"), "atom_energy of Na is 'a'; expected a finite number"),
    "atom_energy nan": (stated("atom_energy Na nan"), "atom_energy of Na is 'nan'; expected a finite number"),
    "atom_energy twice": (stated("atom_energy Na 1\natom_energy Na 2"), "atom_energy of Na a second time"),
    "epochs twice": (stated("epochs 5"), f"line {LINES + 1}: epochs a second time; expected it once"),
    "epochs 0": (changed("^epochs.*$", "epochs 0"), "epochs is '0'; expected a number > 0"),
    "epochs nan": (changed("^epochs.*$", "epochs nan"), "epochs is 'nan'; expected a number > 0"),
    "seed < 0": (
        changed("^random_seed.*$", "random_seed -1"),
        "random_seed is '-1'; expected a whole number ≥ 0",
    ),
    "all test": (stated("test_fraction 1.0"), "test_fraction is '1.0'; expected a share of the structures"),
    "test < 0": (stated("test_fraction -.1"), "test_fraction is '-.1'; expected a share of the structures"),
    "no old weights": (stated("use_old_weights_short"), "has no weights.*.data; expected them for"),
}

#: name -> what becomes of the input.data, what the error says
OF_DATA = {
    "empty": (lambda t: "", "input.data: holds no structure; expected lines from 'begin' to 'end'"),
    "folder": (lambda t: None, "input.data: is a folder; expected the structures"),
    "binary": (lambda t: bytes(range(256)), "input.data line 1: is"),
    "cut in its first structure": (lambda t: t[:400], "ends before its first structure is complete"),
    "a word": (lambda t: changed(r"^atom \S+", "atom x", t), "line 6: is 'atom x"),
    "a number less": (
        lambda t: changed(r"^(atom.*) \S+$", r"\1", t),
        "expected an atom with 9 numbers and names",
    ),
    "no end": (
        lambda t: changed("^end\n", "", t),
        "(expected lattice, atom, energy, charge, comment or end)",
    ),
    "no begin": (lambda t: changed("^begin\n", "", t), "expected 'begin'"),
    "nan position": (
        lambda t: changed(r"^atom \S+", "atom nan", t),
        "positions[0, 0] is nan; expected a finite",
    ),
    "nan force": (
        lambda t: changed(r"^(atom.*) \S+$", r"\1 nan", t),
        "forces[0, 2] is nan; expected a finite",
    ),
    "infinite energy": (
        lambda t: changed("^energy.*$", "energy inf", t),
        "energy is inf; expected a finite number",
    ),
    "no energies": (lambda t: re.sub("^energy.*\n", "", t, flags=re.M), "frames have no energy"),
    "half a lattice": (lambda t: changed("^lattice.*\n", "", t), "cell has shape (2, 3); expected (3, 3)"),
    "another element": (lambda t: t.replace(" Na ", " K "), "has atoms of K; expected the elements of"),
    "no unit, one atom": (
        lambda t: "begin\natom 0 0 0 Na 0 0 0 0 0\nenergy -1\ncharge 0\nend\n",
        "expected a line 'comment units: bohr hartree'",
    ),
}


def refused(place, capsys, *more) -> str:
    """The one line that the command says; no file is left of its run."""
    assert main(["train", str(place / "input.nn"), "--smoke", "-o", str(place / "run"), *more]) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error", "Trace"))]
    assert line.startswith("error: ")
    assert [f for f in (place / "run").rglob("*") if f.is_file()] == []
    return line


@pytest.mark.parametrize("mistake", OF_INPUT_NN)
def test_what_is_wrong_with_input_nn_is_one_error(place, capsys, mistake):
    content, wanted = OF_INPUT_NN[mistake]
    put(place / "input.nn", content)
    assert wanted in refused(place, capsys)


@pytest.mark.parametrize("mistake", OF_DATA)
def test_what_is_wrong_with_input_data_is_one_error(place, capsys, mistake):
    change, wanted = OF_DATA[mistake]
    put(place / "input.data", change((place / "input.data").read_text()))
    assert wanted in refused(place, capsys)


def test_what_is_missing_or_double_is_noticed(place):
    """Nothing is taken in silence: a seed, a function that stands twice, a keyword that has no effect."""
    notices = read_input(place / "input.nn", optimizer="n2p2").notices
    assert not any("stands more than once" in n or "and taken" in n for n in notices)
    twice = FUNCTIONS.format(rc=12.0).splitlines()[0]
    body = re.sub("^(random_seed|epochs).*\n", "", GOOD, flags=re.M)
    put(place / "input.nn", f"{body}{twice}\nweights_min -2\n")
    settings = read_input(place / "input.nn")
    assert "not stated, and taken: epochs 20, random_seed 1" in settings.notices
    assert (settings.training.n_epochs, settings.training.seed) == (20.0, 1)
    assert any(
        n.startswith("'symfunction_short Na 2 Na 0.01 0.0 12.0' stands more") for n in settings.notices
    )
    [idle] = [n for n in settings.notices if n.startswith("without effect here")]
    assert "weights_min" in idle
    [idle] = [n for n in read_input(place / "input.nn", optimizer="n2p2").notices if "without effect" in n]
    assert "weights_min" not in idle


def test_a_function_that_says_nothing_is_noticed(place, tmp_path):
    put(place / "input.nn", stated("symfunction_short Na 2 Cl 0.5 99 12"))
    with pytest.warns(
        UserWarning, match=r"Na 2 Cl 0.5 99.0 12.0' has the same value for all atoms of the data"
    ):
        Run(read_input(place / "input.nn"), tmp_path)


def test_an_encoding_of_comments_is_no_mistake(place):
    """A byte order mark, line ends of Windows, and a comment in Latin-1."""
    wanted = read_input(place / "input.nn").model
    text = "# Größe\n" + GOOD.replace("\n", "\r\n")
    for content in (text.encode("latin-1"), b"\xef\xbb\xbf" + text.encode()):
        put(place / "input.nn", content)
        assert read_input(place / "input.nn").model == wanted


@pytest.mark.parametrize("share, n_test", [(0.01, 1), (0.5, 3), (0.9, 5)])
def test_one_structure_at_least_is_learnt(place, share, n_test):
    put(place / "input.nn", stated(f"test_fraction {share}"))
    settings = read_input(place / "input.nn")
    data, validation = datasets(settings, 1)
    assert (len(data), len(validation)) == (len(list(frames())) - n_test, n_test)
    small = place / "small"
    small.mkdir()
    first = (place / "input.data").read_text().split("end\n")[:2]
    put(small / "input.data", "".join(f"{x}end\n" for x in first))
    put(small / "input.nn", stated("test_fraction 0.9"))
    assert [len(part) for part in datasets(read_input(small / "input.nn"), 1)] == [1, 1]


@pytest.fixture
def model(place):
    """A folder with a model, made by the command."""
    assert (
        main(["train", str(place / "input.nn"), "--smoke", "-o", str(place), "--skip-plots", "--quiet"]) == 0
    )
    return place / "hdnnp"


MODEL_FILES = ("input.nn", "scaling.data", "weights.011.data")
#: name -> file, what becomes of it, what the error says
OF_MODEL = {
    **{f"{file} missing": (file, lambda t: "gone", f"{file}: no such file") for file in MODEL_FILES},
    **{f"{file} empty": (file, lambda t: "", f"{file} is empty") for file in MODEL_FILES},
    **{f"{file} a folder": (file, lambda t: None, f"{file}: is a folder") for file in MODEL_FILES},
    **{
        f"{file} binary": (file, lambda t: bytes(range(256)), f"{file} is not a text") for file in MODEL_FILES
    },
    "weights cut in a number": (
        MODEL_FILES[2],
        lambda t: t[: t.rstrip().rindex("\n") + 10],
        "line 26: is",
    ),
    "a weight too much": (MODEL_FILES[2], lambda t: t + "0.5\n", "has 26 weights; the net of Na has 25"),
    "min above max": (
        "scaling.data",
        lambda t: changed(r"^( +1 +1) +\S+", r"\1 1e9", t),
        "line 2: min is 1e+09",
    ),
    "sigma below 0": (
        "scaling.data",
        lambda t: changed(r"^( +1 +1.*) \S+$", r"\1 -1", t),
        "sigma is -1; expected",
    ),
    "a function less": (
        "scaling.data",
        lambda t: t[: t.rstrip().rindex("\n") + 1],
        "has 3 of the 4 functions of Cl",
    ),
    "other units": (
        "input.nn",
        lambda t: t.replace("atomic", "SI"),
        "units is 'SI'; expected atomic (bohr and",
    ),
}


@pytest.mark.parametrize("mistake", OF_MODEL)
def test_what_is_wrong_with_a_model_is_one_error(place, model, capsys, mistake):
    """Of every command that reads a model; use_old_weights_short reads it as well."""
    file, change, wanted = OF_MODEL[mistake]
    content = change((model / file).read_text())
    if content == "gone":
        (model / file).unlink()
    else:
        put(model / file, content)
    capsys.readouterr()
    data = str(place / "input.data")
    for command in (
        ["test", "-m", str(model), "-s", data], ["info", str(model)], ["show", str(model), "type-map"],
        ["change-bias", str(model), "-s", data, "-o", str(place / "new")],
        ["model-devi", "-m", str(model), str(model), "-s", data],
    ):  # fmt: skip
        assert main(command) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and wanted in line
    assert not (place / "new").exists()
    assert wanted in refused(place, capsys, "-i", str(model))
    put(place / "input.nn", stated("use_old_weights_short"))
    assert wanted in refused(place, capsys)


def test_scaling_without_sigma_is_refused_where_sigma_counts(model):
    lines = [" ".join(x.split()[:5]) for x in (model / "scaling.data").read_text().splitlines()[1:]]
    exact = read_folder(model, "atomic").statistics
    put(model / "scaling.data", "\n".join(lines))
    found = read_folder(model, "atomic").statistics
    assert_array_equal(found["mean"], exact["mean"])
    assert not found["sigma"].any() and exact["sigma"].any()
    body = (model / "input.nn").read_text().replace("center_symmetry_functions\n", "")
    put(model / "input.nn", body.replace("scale_symmetry_functions\n", "scale_symmetry_functions_sigma\n"))
    with pytest.raises(OSError, match="line 1: has no sigma, which scale_symmetry_functions_sigma needs"):
        Potential.load(model)


def test_half_a_file_of_structures_is_told(place, tmp_path):
    """What was written before a program was killed is learnt; what is left out is said."""
    content = (place / "input.data").read_text()
    put(place / "input.data", content[: content.rindex("energy")])
    with pytest.warns(UserWarning, match="1 frame is left out: .* frame 5: the file ends before this step"):
        run = Run(read_input(place / "input.nn"), tmp_path)
    assert_array_equal(run.data[4].types, list(frames())[4].types)
    assert len(run.data) == 5
