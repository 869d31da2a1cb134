"""The API reference: every public name is explained, and every example in a docstring is true."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import kalmandp

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(kalmandp.__path__, "kalmandp.") if not m.name.endswith("__main__")
)
#: Public functions and classes whose docstrings must show how they are used.
SHOWN = (
    "Architecture", "Dataset", "Frame", "OnlineTrainer", "Potential.create", "Potential.evaluate",
    "Potential.force_jacobian", "RLEKF", "convert", "evaluate", "partition", "read_input", "train",
)  # fmt: skip


def public():
    """(name, object) of `kalmandp.__all__` and of the public methods and properties of its classes."""
    for name in kalmandp.__all__:
        subject = getattr(kalmandp, name)
        yield name, subject
        for member, value in vars(subject).items() if inspect.isclass(subject) else ():
            value = value if isinstance(value, property) else getattr(subject, member)
            if not member.startswith("_") and (isinstance(value, property) or callable(value)):
                yield f"{name}.{member}", value


def shortcomings(name, subject) -> list[str]:
    """What the docstring of a public object lacks."""
    text = inspect.getdoc(subject) or ""
    if not text.strip() or "(*args, **kwargs)" in text:
        return [f"{name} has no docstring"]
    raised = inspect.isclass(subject) and issubclass(subject, Exception)
    if raised or isinstance(subject, property):
        return []
    parameters = [p for p in inspect.signature(subject).parameters if p not in ("self", "cls")]
    sections = ("Parameters\n", "Attributes\n") if inspect.isclass(subject) else ("Parameters\n",)
    if parameters and not any(section in text for section in sections):
        return [f"{name} does not explain its parameters {parameters}"]
    # each parameter by its own name; those of a class may be explained as its attributes
    return [f"{name} does not explain {p!r}" for p in parameters if not re.search(rf"\b{p}\b", text)]


def test_every_module_and_folder_says_what_it_is_for():
    told = lambda path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert [str(path) for path in (ROOT / "kalmandp").rglob("*.py") if not told(path)] == []


@pytest.mark.parametrize(("name", "subject"), list(public()), ids=lambda x: x if isinstance(x, str) else "")
def test_public_names_are_explained(name, subject):
    assert shortcomings(name, subject) == []


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_used_most_is_shown(name):
    subject = kalmandp
    for part in name.split("."):
        subject = getattr(subject, part)
    assert ">>> " in inspect.getdoc(subject)


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_explained(name):
    module = importlib.import_module(name)
    if Path(module.__file__).stat().st_size:
        assert (module.__doc__ or "").strip(), f"{name} has no docstring"


def test_examples_in_docstrings_are_true(tmp_path, monkeypatch):
    """All doctests, in a folder that has the repository's data and may be written to."""
    for folder in ("data", "examples"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    attempted = 0
    for name in MODULES:
        result = doctest.testmod(importlib.import_module(name))
        assert result.failed == 0, name
        attempted += result.attempted
    assert attempted > 40  # those of every name in SHOWN are among them


def test_what_is_missing_is_seen():
    """The planted omissions."""

    def bare(one): ...

    def brief(one):
        """Do something."""

    def half(one, other):
        """Add.

        Parameters
        ----------
        one : a number
        """

    assert shortcomings("bare", bare) == ["bare has no docstring"]
    assert shortcomings("brief", brief) == ["brief does not explain its parameters ['one']"]
    assert shortcomings("half", half) == ["half does not explain 'other'"]
