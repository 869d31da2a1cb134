"""The floors of the house: imports point downwards, no file knows itself through others, models stay apart.

What is read here are syntax trees: an import inside a function counts as much as one at the top of a file.
What the registry names by a text ("module:name") is no import: that is what it is for.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from kalmandp.registry import KINDS, load

ROOT = Path(__file__).parents[1]

#: The floors from the lowest to the highest. A file may import from lower floors and from its own part;
#: parts that stand on one floor do not know each other. `kalmandp` itself (its names are looked up when they
#: are asked for) is below all.
FLOORS = (
    ("errors",),
    ("arrays", "checks", "constants", "examples", "files", "ranks", "registry", "testing"),
    ("frames",),
    ("geometry", "kalman"),
    ("formats",),
    ("potentials",),
    ("engines",),
    ("bridges", "doctor"),
    ("training",),
    ("plots",),
    ("on_the_fly",),
    ("commands",),
    ("report",),
    ("cli",),
    ("__main__",),
)
#: Imports that point upwards all the same: none.
UPWARD: set[str] = set()
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}


@cache
def modules() -> dict[str, Path]:
    """Files of the package by the names of their modules."""
    found = {}
    for path in sorted((ROOT / "kalmandp").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(module: str, text: str, known) -> set[str]:
    """Modules among ``known`` that the source ``text`` of a module imports, anywhere in it."""
    found = set()
    package = module if known.get(module, Path()).name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # what is imported from a folder may be a module of it
            names = [f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names]
        else:
            continue
        found |= {name for name in names if name in known}
    return found - {module}


@cache
def graph() -> dict[str, set[str]]:
    texts = {name: path.read_text(encoding="utf-8") for name, path in modules().items()}
    return {name: imported(name, text, modules()) for name, text in texts.items()}


def part(module: str) -> str:
    """The part of the house a module is in: the first name below `kalmandp`; "" for `kalmandp` itself."""
    return module.partition(".")[2].partition(".")[0]


def upward(edges: dict[str, set[str]]) -> list[str]:
    """Imports that do not point to a lower floor, nor stay in their part."""
    wrong = []
    for module, others in edges.items():
        for other in others:
            here, there = part(module), part(other)
            if there and here != there and not (here and FLOOR[there] < FLOOR[here]):
                wrong.append(f"{module} imports {other}")
    return wrong


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan's components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in edges[module]:
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in edges:
        if module not in number:
            visit(module)
    return found


def test_every_part_has_a_floor():
    assert {part(module) for module in modules()} - {""} == set(FLOOR)


def test_imports_point_downwards():
    assert set(upward(graph())) == UPWARD


def test_no_file_imports_itself_through_others():
    assert circles(graph()) == []


def test_an_import_that_points_upwards_and_a_circle_are_seen():
    """The planted mistakes: inside a function, and by a relative name."""
    known = modules()
    text = "def late():\n    from kalmandp.training import loop\n    from ..engines.cuda import launch\n"
    names = imported("kalmandp.geometry.pairs", text, known)
    assert names == {"kalmandp.training.loop", "kalmandp.engines.cuda.launch"}
    planted = {**graph(), "kalmandp.geometry.pairs": graph()["kalmandp.geometry.pairs"] | names}
    assert len(set(upward(planted)) - UPWARD) == 2
    (circle,) = circles(planted)
    assert {"kalmandp.geometry.pairs", "kalmandp.training.loop"} <= set(circle)
    beside = {"kalmandp.kalman.filter": {"kalmandp.geometry.pairs"}}
    assert upward(beside) == ["kalmandp.kalman.filter imports kalmandp.geometry.pairs"]


# --- what is imported is there -------------------------------------------------------------------------


def missing(text: str) -> list[str]:
    """Names that a source imports from the package, and that are not there."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").partition(".")[0] != "kalmandp":
            continue
        for name in (alias.name for alias in node.names):
            if f"{node.module}.{name}" not in modules() and not hasattr(import_module(node.module), name):
                found.append(f"{node.module}: {name}")
    return found


@pytest.mark.parametrize("folder", ["examples", "data", "tests"])
def test_examples_and_scripts_import_what_there_is(folder):
    """Also those that need more than the tests have: a GPU, another program, days."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        assert missing(path.read_text(encoding="utf-8")) == [], path


def test_a_name_that_is_not_there_is_seen():
    text = "def f():\n  from kalmandp.training.loop import Run, Walk\n  from kalmandp.engines import gpu\n"
    assert missing(text) == ["kalmandp.training.loop: Walk", "kalmandp.engines: gpu"]


# --- models and devices stay apart ------------------------------------------------------------------


def folders_of_models() -> dict[str, str]:
    """Folders of kinds, "deep_potential", below potentials/, engines/cpu/, engines/cuda/: their names."""
    names = {kind.descriptor.partition(":")[0].split(".")[2]: name for name, kind in KINDS.items()}
    others = {p.parent.name for p in (ROOT / "kalmandp" / "potentials").glob("*/descriptor.py")}
    return names | {folder: "" for folder in others - set(names)}


def room(module: str) -> str | None:
    """The folder of the model that a module belongs to."""
    return next((folder for folder in folders_of_models() if folder in module.split(".")), None)


def edges() -> list[tuple[str, str]]:
    """All imports: (module, what it imports)."""
    return [(module, other) for module, others in graph().items() for other in others]


def test_models_do_not_know_each_other():
    assert [(m, o) for m, o in edges() if room(m) and room(o) and room(m) != room(o)] == []


def test_what_is_common_does_not_know_a_model():
    """Only the registry names a model's modules, by their text; the bridges may import them."""
    assert {m for m, o in edges() if room(o) and not room(m) and part(m) != "bridges"} == set()


def test_the_devices_do_not_know_each_other():
    of = lambda module, device: module.startswith(f"kalmandp.engines.{device}.")
    assert [(m, o) for m, o in edges() if of(m, "cpu") and of(o, "cuda")] == []
    assert [(m, o) for m, o in edges() if of(m, "cuda") and of(o, "cpu")] == []


#: Names of fields of a form that are words of their own elsewhere.
COMMON = {"type_map", "kind", "rcut", "fitting", "version", "functions", "length_unit", "energy_unit"}



def own_fields() -> set[str]:
    """Fields of the forms and names of the statistics of all kinds, but for words that are common."""
    names = set()
    for kind in KINDS.values():
        form = load(kind.form)
        names |= {f.name for f in fields(form)}
    return (names | {"davg", "dstd"}) - COMMON


def words(tree: ast.AST) -> set[str]:
    """All names in a syntax tree, and all texts but docstrings."""
    scopes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    first = [n.body[0] for n in ast.walk(tree) if isinstance(n, scopes) and n.body]
    docstrings = {id(n.value) for n in first if isinstance(n, ast.Expr)}
    found = set()
    for node in ast.walk(tree):
        for kind, name in ((ast.Attribute, "attr"), (ast.Name, "id"), (ast.arg, "arg"), (ast.keyword, "arg")):
            if isinstance(node, kind):
                found.add(getattr(node, name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found.add(node.value)
    return found


def test_what_is_common_names_no_field_of_a_model():
    """None: what a kind has to say of its fields stands in its folder, and the registry knows where."""
    found = {}
    for module, path in modules().items():
        if room(module) or part(module) == "bridges":
            continue
        named = words(ast.parse(path.read_text(encoding="utf-8"))) & own_fields()
        if named:
            found[path.relative_to(ROOT / "kalmandp").as_posix()] = named
    assert found == {}


def test_a_field_that_is_named_is_seen():
    """The planted mistakes; a docstring is none."""
    seen = lambda text: words(ast.parse(text)) & own_fields()
    assert seen("form.axis_neuron") == {"axis_neuron"} == seen("choices['axis_neuron']")
    assert seen("def f(dstd): ...") == {"dstd"} == seen("g(dstd=1)")
    assert seen('"""sel"""\ndef f():\n    """sel"""') == set()


# --- what is loaded when -------------------------------------------------------------------------------

IMPORT = "import kalmandp"
REFERENCE = """
import numpy as np, kalmandp
data = kalmandp.Dataset("data/si64_lda_test.h5")
potential = kalmandp.Potential.create(
    data.type_map, rcut=3.0, frames=data[:1], rng=np.random.default_rng(0), embedding=(3, 4), axis_neuron=2,
    fitting=(4,), engine="numpy",
)
potential.evaluate(data[0])
potential.energy_jacobian(data[0])
kalman = kalmandp.RLEKF(np.zeros(4), [4], covariance="dense")
kalman.update(np.ones((1, 4)), [1.0], 1.0)
"""
TRAINING = """
import sys, tempfile, kalmandp
settings = kalmandp.read_input({
    "model": {
        "type_map": ["Si"],
        "descriptor": {"type": "se_e2_a", "rcut": 3.0, "neuron": [3, 4], "axis_neuron": 2},
        "fitting_net": {"neuron": [4]},
    },
    "optimizer": {"type": "RLEKF"},
    "training": {
        "training_data": {"systems": ["data/si64_lda_test.h5"]}, "numb_steps": 1, "seed": 1, "save_freq": 1,
    },
})
with tempfile.TemporaryDirectory() as folder:
    for _ in kalmandp.train(settings, output=folder):
        pass
"""


def loaded(code: str) -> set[str]:
    """Modules that a new Python has loaded after running ``code``."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], cwd=ROOT, text=True,
        capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (IMPORT, ("cupy", "ase", "matplotlib", "numba", "h5py", "kalmandp.engines", "kalmandp.potentials")),
        # vesin imports ase where it is installed
        (REFERENCE, ("cupy", "matplotlib", "kalmandp.engines.cuda", "kalmandp.training")),
        (TRAINING, ("cupy", "matplotlib", "kalmandp.engines.cuda", "kalmandp.plots")),
    ],
    ids=("import", "reference", "training"),
)
def test_nothing_is_loaded_that_is_not_used(code, absent):
    found = {name for name in loaded(code) for top in absent if name == top or name.startswith(f"{top}.")}
    assert found == set()


def test_what_is_loaded_is_seen():
    """The planted mistake."""
    assert "kalmandp.engines.cuda.launch" in loaded("import kalmandp.engines.cuda.launch")


# --- what is needed of a thing is written in its contract ---------------------------------------------

#: What may be asked for all the same, and why: things of other libraries, platforms, or the user's own.
FOREIGN = {
    # a command's module may have the first two (who asks says what they are); words before a command is known
    "cli": {"arranged", "ON_RANKS", "on_ranks"},
    "bridges/deepmd/codec": {"CSafeLoader", "CSafeDumper"},  # PyYAML with and without its C library
    "formats/foreign/ase": {"results"},  # ASE's calculators
    "frames/frame": {"check_state", "results"},
    "geometry/neighbours": {"type_map"},  # a Dataset knows its types, a list of frames does not
    "kalman/covariance": {"shape"},  # a data set of an open HDF5 file, or numbers
    "kalman/filter": {"writeable"},  # NumPy's flags have it, CuPy's do not
    "on_the_fly/reference": {"implemented_properties", "reset"},
    "potentials/potential": {"get_positions", "writeable"},
    "ranks/mpi": {"sched_getaffinity", "getloadavg"},  # not on every system
    "training/config/inputs": {"strerror"},
    "training/placement/memory": {"sysconf_names"},  # not on Windows
    "training/report/metrics": {"positions"},  # one Frame or ase.Atoms, or several
}


def sniffed(text: str) -> set[str]:
    """Attributes that a source asks for where they may be missing."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            asks = node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
            if asks and isinstance(name := node.args[1], ast.Constant):
                found.add(str(name.value))
    return found


def test_what_a_part_needs_of_another_is_in_a_contract():
    names = {str(p.relative_to(ROOT / "kalmandp").with_suffix("")): p for p in modules().values()}
    asked = {name: sniffed(path.read_text(encoding="utf-8")) for name, path in names.items()}
    assert {name: words for name, words in asked.items() if words} == FOREIGN


def test_an_attribute_that_is_asked_for_is_seen():
    text = "xp = getattr(engine, 'xp', np)\nif hasattr(P, 'window'):\n    getattr(P, 'known')\n"
    assert sniffed(text) == {"xp", "window"}
