"""A CUDA device made of g++ and NumPy: the kernels' own source, run on the host.

It says whether kernels and engines compute what they should, for any order of blocks and threads. It says
nothing of speed. `EmulatedDevice` offers what `kalmandp.engines.cuda.launch.Device` asks for; its arrays
(`strict_arrays`) refuse to be mixed with NumPy's, as CuPy's do, and count what would make the host wait.

To find what a kernel reads outside of its arrays, of shared memory too, run the tests of this folder with
GCC's AddressSanitizer. It ends them at the first such read, as some planted mistakes are, and names the line:

    export LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0
    pytest tests/engines -k "cuda and not planted and not emulator_finds"
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np

from cuda_emulator import strict_arrays
from kalmandp.engines.cuda.launch import Functions, parameters, source

HEADER = Path(__file__).parent / "cuda_emulator.h"
#: Compiled kernels are kept here from run to run, under the hash of their text.
KEPT = Path(tempfile.gettempdir()) / "kalmandp-cuda-emulator"
COMPILER = shutil.which("g++")
NEEDS_COMPILER = "g++ is not installed: the CUDA kernels cannot be run on the host"
FORWARD, BACKWARD, SHUFFLED = range(3)
#: Kernels of several devices, one for each thread of a test, have the same static memory.
ONE_AT_A_TIME = threading.Lock()
#: What every CUDA device can launch: blocks along x and y, threads of a block.
MOST_BLOCKS, MOST_THREADS = (2**31 - 1, 65535), 1024


class KernelError(AssertionError):
    """A kernel was launched with wrong arguments, or its threads wait for ever."""


class EmulatedDevice:
    """Runs kernels one thread at a time, blocks and threads in the order ``order``."""

    #: CuPy's module of NCCL, or what stands in for it (`emulated_nccl`)
    nccl = None

    def __init__(self, order: int = FORWARD, free: int = 0):
        self.xp, self.identity = strict_arrays, ("here", str(os.getpid()))
        self.order = order
        self.launched: list[str] = []
        self._free = free
        self._libraries: dict[str, ctypes.CDLL] = {}

    def free_bytes(self) -> int:
        return self._free

    def functions(self, file: str, **constants) -> Functions:
        text = source(file, **constants)
        if text not in self._libraries:
            self._libraries[text] = _compiled(text)
        library = self._libraries[text]
        return Functions(
            lambda name: lambda grid, block, arguments: self._launch(library, name, grid, block, arguments),
            parameters(text),
        )

    def _launch(self, *kernel) -> None:
        with ONE_AT_A_TIME:
            self._launch_now(*kernel)

    def _launch_now(self, library, name, grid, block, arguments) -> None:
        if grid[0] > MOST_BLOCKS[0] or grid[1] > MOST_BLOCKS[1] or block > MOST_THREADS:
            raise KernelError(f"{name} is launched with blocks {grid} of {block} threads")
        wanted = _signature(library, name)
        if len(wanted) != len(arguments):
            raise KernelError(f"{name} takes {len(wanted)} arguments; got {len(arguments)}")
        pointers = (ctypes.c_void_p * len(arguments))()
        keep = []
        for n, (kind, value) in enumerate(zip(wanted, arguments, strict=True)):
            got = _kind(value)
            if got != kind.removesuffix("[r]").removesuffix("[w]") + ("[]" if "[" in kind else ""):
                raise KernelError(f"argument {n} of {name} is {got}; expected {kind}")
            cell = np.array(
                [value._plain.ctypes.data if "[" in kind else value], dtype=np.int64 if "[" in kind else None
            )
            keep.append(cell)
            pointers[n] = cell.ctypes.data
        launch = getattr(library, f"launch_{name}")
        launch.restype = ctypes.c_char_p
        failure = launch(*grid, block, self.order, pointers)
        if failure:
            raise KernelError(f"{name}: {failure.decode()}")
        for array in arguments:
            strict_arrays.check_fences(array, name)
        self.launched.append(name)


def _kind(value) -> str:
    if isinstance(value, np.generic):
        return str(value.dtype)
    if not isinstance(value, strict_arrays.ndarray):
        raise KernelError(f"an argument is a {type(value).__name__}; expected an array of the device")
    return f"{value.dtype}[]"


def _signature(library, name) -> list[str]:
    function = getattr(library, f"signature_{name}")
    function.restype = ctypes.c_char_p
    return function().decode().split()


def _compiled(text: str) -> ctypes.CDLL:
    kernels = re.findall(r"__global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)", text)
    code = "\n".join([f'#include "{HEADER}"', text, *(f"EMULATE({k})" for k in kernels)])
    digest = hashlib.sha256(
        (code + HEADER.read_text() + Path(__file__).read_text() + str(strict_arrays.SANITIZED)).encode()
    ).hexdigest()[:24]
    library = KEPT / f"{digest}.so"
    if not library.exists():
        KEPT.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as folder:
            made = Path(folder) / "kernels.so"
            Path(folder, "kernels.cpp").write_text(code)
            command = [
                COMPILER,
                "-std=c++17",
                "-O2",
                "-w",
                "-shared",
                "-fPIC",
                "-U_FORTIFY_SOURCE",
                "-Wl,-Bsymbolic",
                *(["-fsanitize=address", "-g"] if strict_arrays.SANITIZED else []),
            ]
            subprocess.run([*command, f"{folder}/kernels.cpp", "-o", made], check=True)
            made.rename(library)
    return ctypes.CDLL(library)
