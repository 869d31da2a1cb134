"""The map from formula to line to test tells the truth: each function, docstring and test is there."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`([\w/]+\.py)(?:: ([\w.]+(?:, [\w.]+)*))?`")

#: What the RLEKF paper numbers, and that code can do: each must be in the map.
WANTED = [f"Deep Potential, step {n}" for n in (1, 2, 3, 4, 5)]
WANTED += [f"RLEKF, eq. ({n})" for n in (1, 2, 5)]
WANTED += ["Algorithm 1, l. 1 to 5", *(f"Algorithm 1, l. {n}" for n in (6, 8, 10, 11)), "l. 14"]
WANTED += ["Algorithm 2, l. 2 and 3", "Algorithm 2, l. 4 and 5", "Algorithm 2, l. 1 to 6"]
WANTED += ["splitting strategy", "Theorem 1", "Fit energy"]


class Row(NamedTuple):
    label: str
    functions: list[tuple[str, str]]
    tests: list[str]


def rows(path: Path) -> list[Row]:
    """Lines of the table whose cells are: equation, …, functions, tests."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and NAMED.search(cells[2]):
            named = [(f, n) for f, names in NAMED.findall(cells[2]) for n in (names or "").split(", ")]
            found.append(Row(cells[0], named, re.findall(r"`(tests/[^`]+)`", cells[3])))
    return found


ROWS = rows(ROOT / "examples" / "map.md")


def test_the_map_is_read():
    assert len(ROWS) >= 30
    labels = " ; ".join(row.label for row in ROWS)
    assert [w for w in WANTED if w not in labels.replace("steps 2 and 4", "step 4")] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.label}: {row.functions[0][1]}")
def test_functions_name_their_equation(row):
    for file, name in row.functions:
        module = importlib.import_module("kalmandp." + file.removesuffix(".py").replace("/", "."))
        subject = module
        for part in filter(None, name.split(".")):
            subject = getattr(subject, part)
        text = inspect.getsource(module) if subject is module else inspect.getdoc(subject)
        assert row.label in " ".join(text.split()), f"{file}: {name} does not name {row.label!r}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.label}: {row.tests}")
def test_tests_use_what_they_are_said_to_judge(row):
    """The test file exists and mentions the function, its class or module, or what calls it."""
    assert row.tests, row.label
    for test in row.tests:
        tree = ast.parse((ROOT / test).read_text(encoding="utf-8"))
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        used |= attributes | {f".{name}" for name in attributes}
        imports = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
        used |= {alias.name for n in imports for alias in n.names}
        for file, name in row.functions:
            wanted = {*filter(None, name.split(".")), *CALLERS.get(name, ())}
            if not name:
                wanted = {Path(file).stem, "update"}
            assert wanted & used, f"{test} mentions none of {sorted(wanted)}"


#: "l. 10:  K_l = P_l H_lᵀ" in a comment or docstring, and the same in a row of the map.
LINE = re.compile(r"l\. (\d+):\s+([^\W\d_])(?:_\w+)? [=←]")
LINE_OF_MAP = re.compile(r"\| (?:Algorithm 1, )?l\. (\d+) \| ([^\W\d_])(?:_\w+)? [=←]")


def lines_of_algorithm_1(texts) -> dict[str, set[str]]:
    """The numbers of the lines that are said to compute H, S, K, w, P and λ."""
    found: dict[str, set[str]] = {}
    for text in texts:
        for number, symbol in LINE.findall(text) + LINE_OF_MAP.findall(text):
            found.setdefault(symbol, set()).add(number)
    return found


def test_map_and_code_give_a_line_of_algorithm_1_one_number():
    code = ROOT / "kalmandp"
    paths = [*code.rglob("*.py"), *code.rglob("*.cu"), ROOT / "examples" / "map.md"]
    found = lines_of_algorithm_1(path.read_text(encoding="utf-8") for path in paths)
    assert found == {"H": {"7"}, "S": {"8"}, "K": {"10"}, "P": {"11"}, "w": {"12"}, "λ": {"14"}}
    planted = "# l. 9:  K_l = P_l H_lᵀ", "| Algorithm 1, l. 10 | K_l = P_l H_l | `kalman/covariance.py` |"
    assert lines_of_algorithm_1(planted) == {"K": {"9", "10"}}


#: What tests call so that these run: passes inside of a prediction, steps inside of a training run.
#: With a dot a method: `Potential.evaluate`, which is no other function of this name.
CALLERS = {
    "raw_environment": ("build_moved", "environment"),
    "embed": ("energies",),
    "forward": ("energies", "network"),
    "tangent": ("weight_gradient",),
    "energies": (".evaluate",),
    "chebyshev": ("environment",),
    "pair_energy": ("predict",),
    "radial_factor": ("symmetry_functions", "SymmetryFunction", "random_case"),
    "angular_factor": ("symmetry_functions", "SymmetryFunction", "random_case"),
    "scaling_numbers": ("symmetry_functions",),
    "DenseCovariance.project": ("update",),
    "DenseCovariance.downdate": ("update",),
    "RLEKF.update": ("step",),
    "KalmanTrainer.measure": ("step",),
    "Schedule.prefactors": ("run_all",),
}


def test_the_short_map_of_the_readme():
    """Files and functions that the README names exist."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for file, names in NAMED.findall(text):
        if not (ROOT / "kalmandp" / file).exists():
            assert (ROOT / file).exists() or list((ROOT / "tests").rglob(file)), f"README names {file}"
            continue
        module = importlib.import_module("kalmandp." + file.removesuffix(".py").replace("/", "."))
        for name in filter(None, names.split(", ")):
            subject = module
            for part in name.split("."):
                subject = getattr(subject, part)


def test_a_label_that_no_docstring_has_is_seen():
    """The planted mistake."""
    wrong = Row("RLEKF, eq. (9)", [("kalman/filter.py", "RLEKF")], ["tests/kalman/test_filter.py"])
    with pytest.raises(AssertionError, match=r"RLEKF does not name 'RLEKF, eq. \(9\)'"):
        test_functions_name_their_equation(wrong)
    untested = wrong._replace(functions=[("kalman/theorem.py", "remembered")], tests=["tests/test_plots.py"])
    with pytest.raises(AssertionError, match="mentions none of"):
        test_tests_use_what_they_are_said_to_judge(untested)
    # that test evaluates the errors of a model, by a function of the same name
    other = Row("", [("potentials/atomic.py", "energies")], ["tests/training/test_snes.py"])
    with pytest.raises(AssertionError, match="mentions none of"):
        test_tests_use_what_they_are_said_to_judge(other)
