"""The guide "add your own" and the examples of embedding are executed, in short form."""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import kinds
import numpy as np
import pytest
import test_derivatives
from cases import Case, random_form, random_frame

import kalmandp
from kalmandp.registry import KINDS, register

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "embedding"


def test_the_guide_is_true(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "examples" / "add_your_own" / "README.md").read_text(encoding="utf-8")
    # the fences of Markdown would be taken for expected output
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    parsed = doctest.DocTestParser().get_doctest(blocks, {}, "guide", "README.md", 0)
    result = doctest.DocTestRunner().run(parsed)
    assert result.failed == 0 and result.attempted > 20


EXPECTED = {
    "host_loop.py": "the next step has the same bits",
    "mpi_frames.py": "the same on all",
    "behler_parrinello.py": "epoch 1: unseen frames",
    "curve_fit.py": "± least squares",
}


def no_library_for_mpi4py() -> bool:
    """Whether mpi4py is installed, but no MPI to go with it."""
    if importlib.util.find_spec("mpi4py") is None:
        return False
    try:
        importlib.import_module("mpi4py.MPI")
    except RuntimeError:
        return True
    return False


@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("*.py")))
def test_examples_run(name, capsys, monkeypatch):
    if name == "mpi_frames.py" and no_library_for_mpi4py():
        pytest.skip("mpi4py is installed, but no MPI library")
    monkeypatch.setattr(sys, "argv", [name, "--smoke"])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert EXPECTED[name] in capsys.readouterr().out


@pytest.fixture
def second_order(monkeypatch):
    """The example's module; its kind is registered while a test runs."""
    monkeypatch.syspath_prepend(ROOT / "examples" / "add_your_own")
    module = importlib.import_module("second_order")
    yield module
    del sys.modules["second_order"], KINDS[module.NAME]


def test_another_descriptor_trains_by_an_ordinary_input(second_order, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["second_order.py", "--smoke"])
    second_order.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["4"] * 3 + ["13"] * 3
    assert lines[3].split()[2:4] != lines[6].split()[2:4]


def test_another_descriptor_is_known_to_all(second_order, tmp_path):
    """Inputs, engines and stored states; what it does not have is named."""
    settings = second_order.settings("second_order", "train.h5", "test.h5", 4.0, True)
    assert settings.model.kind == "second_order" and settings.model.choices["embedding"] == (4, 8)
    data = kalmandp.Dataset(ROOT / "data" / "si64_lda_test.h5")
    choices = {**settings.model.choices, "sel": (40,)}
    potential = kalmandp.Potential.create(
        data.type_map, kind="second_order", rng=np.random.default_rng(0), frames=data[:1], **choices
    )
    assert potential.engine.name == "numpy"
    again = kalmandp.Potential.from_state(potential.state())
    assert again.form == potential.form and type(again.form) is second_order.SecondOrderForm
    assert again.evaluate(data[0]).energy == potential.evaluate(data[0]).energy
    four = kalmandp.Potential(
        kalmandp.Architecture(**potential.form.to_dict()), potential.weights, engine="numpy",
        bias_atom_e=potential.bias_atom_e, **potential.statistics,
    )  # fmt: skip
    assert abs(four.evaluate(data[0]).energy - potential.evaluate(data[0]).energy) > 1e-6  # nine rows more
    with pytest.raises(kalmandp.InputError, match="engine is 'numba', which potentials second_order do not"):
        potential.with_engine("numba")
    with pytest.raises(kalmandp.InputError, match="second_order has no model file"):
        potential.save(tmp_path / "model.dp")
    with pytest.raises(kalmandp.InputError, match="registered already"):
        register("second_order", KINDS["se_e2_a"])


def test_another_descriptor_passes_the_judges_of_all(second_order, monkeypatch):
    """The judges that loop over the registry, given what they ask of a new kind."""
    usual = kinds.SE_E2_A
    form = lambda rng, n_types, **choices: second_order.SecondOrderForm(
        **usual.form(rng, n_types, **choices).to_dict()
    )
    monkeypatch.setitem(kinds.FIXTURES, second_order.NAME, usual._replace(form=form))
    test_derivatives.test_every_kind_is_judged()
    rng = np.random.default_rng(1)
    for _ in range(5):
        case = Case(rng, random_form(second_order.NAME, rng, 2), random_frame(rng, 2, 6))
        test_derivatives.judge(case, rng)


def test_a_kind_without_a_fixture_is_seen(second_order):
    """The planted mistake: a descriptor that nobody judges."""
    with pytest.raises(AssertionError, match="has no entry in"):
        test_derivatives.test_every_kind_is_judged()


@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="mpiexec (MPI) is not installed")
@pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="the package mpi4py is not installed")
def test_any_number_of_ranks_gives_the_same_bits():
    said = {}
    for n in (1, 2):
        done = subprocess.run(
            ["mpiexec", "-n", str(n), sys.executable, str(EXAMPLES / "mpi_frames.py"), "--smoke"],
            capture_output=True, text=True, timeout=120,
            env={**os.environ, "PYTHONPATH": ":".join(sys.path), "OMPI_ALLOW_RUN_AS_ROOT": "1",
                 "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        ranks, bits = re.search(r"(\d+) ranks?\b.* weights (\w+) \(the same on all\)", done.stdout).groups()
        said[int(ranks)] = bits
    assert said.keys() == {1, 2} and len(set(said.values())) == 1
