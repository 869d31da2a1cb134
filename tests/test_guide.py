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

import pytest

from kalmandp.registry import ENGINES

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


@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("*.py")))
def test_examples_run(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name, "--smoke"])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert EXPECTED[name] in capsys.readouterr().out


def test_another_descriptor_trains_on_the_reference(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["second_order.py", "--smoke"])
    path = ROOT / "examples" / "add_your_own" / "second_order.py"
    spec = importlib.util.spec_from_file_location("second_order", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "second_order", module)  # the seam imports engines by their module
    monkeypatch.setattr("kalmandp.engines.ENGINES", dict(ENGINES))
    spec.loader.exec_module(module)
    module.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["4"] * 3 + ["13"] * 3


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
        ranks, bits = re.search(r"(\d+) ranks.* weights (\w+) \(the same on all\)", done.stdout).groups()
        said[int(ranks)] = bits
    assert said.keys() == {1, 2} and len(set(said.values())) == 1
