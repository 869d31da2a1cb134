"""Every CUDA source compiles for real GPUs, without one, and stays within the registers it was made for."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import kalmandp
from kalmandp.engines.cuda.deep_potential.constants import TABLE
from kalmandp.engines.cuda.launch import OPTIONS, source
from kalmandp.engines.cuda.tiling import NARROW, PANELS

ARCHITECTURES = ("80", "90", "100")
#: Every source with every set of constants that the engines compile it with.
SOURCES = [
    ("environment.cu", TABLE),
    ("neighbours.cu", {}),
    ("sort.cu", {}),
    ("potential.cu", TABLE),
    ("network.cu", {}),
    ("filter.cu", {}),
    *(("covariance.cu", {"REAL": real}) for real in ("double", "float")),
    *(
        ("project.cu" if m <= NARROW else "project_wide.cu", {"REAL": real, "RHS": m})
        for real in ("double", "float")
        for m in PANELS
    ),
]
NAMES = [
    " ".join([file, *(str(v) for v in constants.values() if constants is not TABLE)])
    for file, constants in SOURCES
]
#: All of them for one architecture; for the others one of each file, to save time.
ONE_OF_EACH = [k for k, (_, constants) in enumerate(SOURCES) if constants.get("RHS", 2) in (2, 64)]
CASES = [(a, k) for a in ARCHITECTURES for k in (range(len(SOURCES)) if a == "90" else ONE_OF_EACH)]


#: What CuPy adds to the options of a `RawModule`.
CUPYS_OWN = ("-ftz=true", "--device-as-default-execution-space")
INSTALL = 'pip install "kalmandp[cuda13]" nvidia-cuda-nvrtc  (or "kalmandp[cuda12]" nvidia-cuda-nvrtc-cu12)'


def compile_by_nvrtc(text: str, architecture: str) -> None:
    """Compile as CuPy does on a GPU, but without one: CuPy's own binding of NVRTC needs no driver."""
    nvrtc = pytest.importorskip(
        "cupy_backends.cuda.libs.nvrtc", reason=f"CuPy is not installed: {INSTALL}", exc_type=ImportError
    )
    try:
        supported = nvrtc.getSupportedArchs()
    except RuntimeError as error:
        pytest.skip(f"NVRTC cannot be loaded ({error}): {INSTALL}")
    if int(architecture) not in supported:
        pytest.skip(f"this NVRTC knows no sm_{architecture}")
    program = nvrtc.createProgram(text, "kernels.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*OPTIONS, *CUPYS_OWN, f"-arch=sm_{architecture}"))
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None
    finally:
        nvrtc.destroyProgram(program)


@pytest.mark.parametrize(("architecture", "k"), CASES, ids=[f"sm_{a} {NAMES[k]}" for a, k in CASES])
def test_compiles_by_nvrtc(architecture, k):
    file, constants = SOURCES[k]
    compile_by_nvrtc(source(file, **constants), architecture)


def test_nvrtc_finds_a_planted_error():
    with pytest.raises(AssertionError, match="expected an expression"):
        compile_by_nvrtc(source("filter.cu").replace("*done += 1", "*done += "), "80")


def resources(text: str, architecture: str, folder) -> dict[str, dict[str, int]]:
    """Registers, shared memory, stack and spills of each kernel, as ptxas reports them."""
    (folder / "kernels.cu").write_text(text)
    command = ["nvcc", *OPTIONS, f"-arch=sm_{architecture}", "-cubin", "-Xptxas", "-v", "kernels.cu"]
    report = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stderr
    table = {}
    for part in report.split("Compiling entry function '")[1:]:
        number = lambda pattern, part=part: int((re.search(pattern, part) or [0, 0])[1])
        table[part.split("'")[0]] = {
            "registers": number(r"Used (\d+) registers"),
            "shared": number(r"(\d+) bytes smem"),
            "stack": number(r"(\d+) bytes stack frame"),
            "spills": number(r"(\d+) bytes spill stores"),
        }
    return table


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc (the CUDA toolkit) is not installed")
@pytest.mark.parametrize(
    "k", [k for k, (_, c) in enumerate(SOURCES) if c.get("RHS", 8) in (8, 64)], ids=NAMES.__getitem__
)
def test_no_kernel_spills_its_registers(k, tmp_path):
    """For Hopper; at most 48 KiB of shared memory, which every device gives without asking."""
    file, constants = SOURCES[k]
    for name, used in resources(source(file, **constants), "90", tmp_path).items():
        assert used["spills"] <= 16, (name, used)
        assert used["shared"] <= 48 * 1024, (name, used)
        assert used["registers"] > 0, name


def calls_of_the_array_module() -> dict[str, set[str]]:
    """Functions that the package calls as ``xp.name(…)``, and the keywords they are given."""
    calls: dict[str, set[str]] = {}
    for path in Path(kalmandp.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                if (getattr(owner, "id", None) or getattr(owner, "attr", None)) == "xp":
                    calls.setdefault(node.func.attr, set()).update(k.arg for k in node.keywords if k.arg)
    return calls


def test_cupy_has_what_the_package_asks_of_an_array_module():
    """The emulated device's arrays are NumPy's and know more: names and keywords, checked without a GPU."""
    cupy = pytest.importorskip("cupy", reason=f"CuPy is not installed: {INSTALL}", exc_type=ImportError)
    calls = calls_of_the_array_module()
    assert {"empty", "searchsorted", "cumsum"} <= set(calls)
    for name, keywords in calls.items():
        function = getattr(cupy, name)
        try:
            known = inspect.signature(function).parameters
        except (TypeError, ValueError):  # a ufunc
            continue
        if all(p.kind is not p.VAR_KEYWORD for p in known.values()):
            assert keywords <= set(known), name
