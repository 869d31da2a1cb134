"""A kernel that is kept on disk is forgotten when a part of it in another file has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kalmandp
from kalmandp.engines.cpu.stale import forget_stale_kernels

PART = "from numba import njit\n@njit(forceinline=True)\ndef part(x):\n    return x + {}\n"
MIDDLE = "from small.engines.parts import part\n"
KERNEL = """from numba import njit
from small.engines.middle import part
@njit(cache=True)
def kernel(x):
    return part(x)
"""
OTHER = "from numba import njit\n@njit(cache=True)\ndef other(x):\n    return 2 * x\n"
RUN = """from small.engines.kernels import kernel
from small.engines.others import other
print(kernel(1), other(1))
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "small"
    (folder / "engines").mkdir(parents=True)
    for name, text in {
        "__init__.py": "", "engines/__init__.py": "", "engines/parts.py": PART.format(1),
        "engines/middle.py": MIDDLE, "engines/kernels.py": KERNEL, "engines/others.py": OTHER,
    }.items():  # fmt: skip
        (folder / name).write_text(text)
        os.utime(folder / name, (1e9, 1e9))
    return folder


def _run(package, program: str = RUN) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=package.parent, env=environment, check=True, text=True,
        stdout=subprocess.PIPE, timeout=300,
    )  # fmt: skip
    return done.stdout.strip()


def test_what_imports_an_edited_part_is_forgotten(package):
    assert _run(package) == "2 2"
    (package / "engines" / "parts.py").write_text(PART.format(5))
    assert _run(package) == "2 2"  # Numba alone does not see it
    removed = forget_stale_kernels(package / "engines", package)
    assert [path.name.split("-")[0] for path in removed] == ["kernels.kernel"]
    assert _run(package) == "6 2"
    assert forget_stale_kernels(package / "engines", package) == []


def test_nothing_is_forgotten_where_nothing_was_edited(package):
    _run(package)
    assert forget_stale_kernels(package / "engines", package) == []
    kept = sorted((package / "engines").rglob("*.nbi"))
    assert len(kept) == 2


def test_a_kernel_whose_file_is_gone_goes_with_it(package):
    _run(package)
    (package / "engines" / "others.py").unlink()
    (package / "engines" / "parts.py").touch()
    removed = {path.name.split("-")[0] for path in forget_stale_kernels(package / "engines", package)}
    assert removed == {"kernels.kernel", "others.other"}


TYPES = "from typing import NamedTuple\nclass Two(NamedTuple):\n    a: int\n    b: int\n"
ADDS = "from numba import njit\n@njit(cache=True)\ndef adds(two):\n    return two.a + two.b\n"
CALLS = """from small.engines.adds import adds
from small.engines.{} import {}
print(adds({}(1, 2)))
"""


@pytest.mark.parametrize(("module", "name"), [("kinds", "Two"), ("types", "Pair")])
def test_a_kernel_that_names_a_class_which_has_moved_is_forgotten(package, module, name):
    """The kernel's own file neither changes nor imports the class: its caller does."""
    engines = package / "engines"
    (engines / "adds.py").write_text(ADDS)
    (engines / "types.py").write_text(TYPES)
    for path in (engines / "adds.py", engines / "types.py"):
        os.utime(path, (1e9, 1e9))
    assert _run(package, CALLS.format("types", "Two", "Two")) == "3"
    (engines / "types.py").unlink()
    (engines / f"{module}.py").write_text(TYPES.replace("Two", name))
    assert [path.name.split("-")[0] for path in forget_stale_kernels(engines, package)] == ["adds.adds"]
    assert _run(package, CALLS.format(module, name, name)) == "3"


def test_an_index_that_is_cut_short_is_forgotten(package):
    _run(package)
    (cut,) = (package / "engines").rglob("others.*.nbi")
    cut.write_bytes(cut.read_bytes()[:-20])
    os.utime(cut, (1.1e9, 1.1e9))
    (package / "engines" / "unrelated.py").touch()
    assert forget_stale_kernels(package / "engines", package) == [cut]
    assert _run(package) == "2 2"


def test_a_kernel_that_another_process_removes_meanwhile_is_no_error(package, monkeypatch):
    _run(package)
    (package / "engines" / "parts.py").touch()
    find = Path.rglob

    def found_and_gone(root, pattern):
        paths = list(find(root, pattern))
        if pattern == "*.nbi":
            paths[0].unlink()
        return paths

    monkeypatch.setattr(Path, "rglob", found_and_gone)
    assert forget_stale_kernels(package / "engines", package) == []


def test_every_module_with_a_kernel_is_found():
    """Kernels are kept below the folder that is looked through, and take their options from `threads`."""
    root = Path(kalmandp.__file__).parent
    with_kernels = [p for p in root.rglob("*.py") if "@njit(" in p.read_text(encoding="utf-8")]
    assert len(with_kernels) > 10
    for path in with_kernels:
        assert path.is_relative_to(root / "engines" / "cpu"), path
        text = path.read_text(encoding="utf-8")
        alone = "from kalmandp.engines" not in text
        assert alone or "engines.cpu.threads import" in text or path.name == "threads.py", path
