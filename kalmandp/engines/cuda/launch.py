"""Where CUDA source becomes functions: the one seam between the engines and a device.

A device offers four things, and the CUDA engines use nothing else::

    device.xp                                    the array module (CuPy)
    device.functions("potential.cu", M=25)       the kernels of a source file, as attributes
    functions.moments(grid, block, *arguments)   launches one, in the caller's current stream
    device.free_bytes()                          memory for new arrays, 0 if that is not known

The same source compiles as C++ (every CUDA word a macro), and a device that runs it so, on NumPy arrays,
is how kernels and engines are held to their references on a machine without a GPU.

Arguments are C-contiguous arrays, and numbers; they go to a kernel as its declaration says (`parameters`).

CUDA graphs. Nothing is recorded into one so far. What would have to be true first: a recorded launch repeats
its arguments, but λ, the scale of P and the number of its pending columns are arguments that change with
every update, atoms are drawn anew, and each frame has arrays of its own; so these numbers would have to move
to the device, and a graph be kept for each frame or its arrays copied into fixed places. While recording,
CuPy's pool may not be asked for what it does not have, and what it gives must outlive the graph; and CuPy
refuses to record cuBLAS, of which nothing is left on the way of an update of up to eight numbers
(`cuda.deep_potential.network`). Whether it pays is one measurement: examples/benchmarks/gpu.py prints how
long the launches of an update take and how long its work. Where the GPU idles for a large part, record first
what has no changing numbers: the passes of the potential on one frame.
"""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, Protocol

import numpy as np

from kalmandp.errors import InputError, MissingPackage, require
from kalmandp.geometry.cutoff import SWITCH_COEFFICIENTS
from kalmandp.potentials.activations import GELU_CUBIC, GELU_SCALE

#: Threads of a warp, on every NVIDIA device.
WARP = 32
#: Threads of a block, unless a kernel's own shape decides.
THREADS = 256


class Device(Protocol):
    """What the CUDA engines ask of a device."""

    xp: Any

    def functions(self, file: str, **constants: Any) -> Functions: ...

    def free_bytes(self) -> int: ...


#: What a kernel takes for each of its parameters: a number of that type, or an array of that dtype.
Form = type[np.int32] | type[np.float64] | np.dtype


class Functions:
    """The kernels of one compiled source, as attributes: ``functions.name(grid, block, *arguments)``.

    Parameters
    ----------
    launcher : name of a kernel -> what launches it
    forms : `parameters` of the source
    """

    def __init__(self, launcher: Callable[[str], Callable], forms: dict[str, tuple[Form, ...]]):
        self._launcher, self.forms = launcher, forms

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("_"):
            raise AttributeError(name)
        launch, forms = self._launcher(name), self.forms[name]

        def run(grid: int | tuple[int, int], block: int, *arguments: Any) -> None:
            grid = (grid, 1) if type(grid) is int else grid
            if all(grid):  # CUDA refuses an empty grid
                if len(arguments) != len(forms):
                    require(False, f"the number of arguments of {name}", len(arguments), len(forms))
                launch(grid, block, tuple([_argument(name, *a) for a in zip(forms, arguments, strict=True)]))

        setattr(self, name, run)
        return run


def _argument(kernel: str, form: Form, value: Any) -> Any:
    """A number in the bytes that the kernel reads, whatever its type in Python; an array, if it fits.

    CuPy would hand over the bytes of any number and the address of any array: a cut-off of 6, not 6.0, would
    be read as another number.
    """
    if not isinstance(form, np.dtype):
        return form(value)
    if value.dtype != form or not value.flags.c_contiguous:
        what = f"{value.dtype}{'' if value.flags.c_contiguous else ', strided'}"
        require(False, f"an array for {kernel}", what, f"{form}, contiguous")
    return value


_KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(([^)]*)\)")
_NUMBERS: dict[str, Any] = {"int": np.int32, "double": np.float64}
_ARRAYS = {"int": np.dtype("int32"), "double": np.dtype("float64"), "float": np.dtype("float32")}


def parameters(text: str) -> dict[str, tuple[Form, ...]]:
    """What each kernel of a source takes, from how it is declared there.

    Examples
    --------
    >>> kernel = "__global__ void scale(const int *at, double factor, double *x) {}"
    >>> parameters(kernel)["scale"]
    (dtype('int32'), <class 'numpy.float64'>, dtype('float64'))
    """
    real = re.search(r"#define REAL (\w+)", text)

    def form(declaration: str) -> Form:
        words = re.sub(r"\bREAL\b", real[1] if real else "REAL", declaration).replace("const ", "").split()
        return (_ARRAYS if "*" in declaration else _NUMBERS)[words[0]]

    return {name: tuple(map(form, inside.split(","))) for name, inside in _KERNEL.findall(text)}


def gpu_number(local_rank: int, count: int) -> int:
    """The GPU of a rank among the ``count`` of its machine: ranks take turns.

    Examples
    --------
    >>> [gpu_number(rank, 4) for rank in range(6)]
    [0, 1, 2, 3, 0, 1]
    """
    require(count > 0, "the number of GPUs", count, "at least one")
    return local_rank % count


class CupyDevice:
    """The current CUDA device, through CuPy. Nothing here changes stream or memory pool.

    Parameters
    ----------
    local_rank : of a process of MPI, its number among those on its machine: the GPU with that number, in
        turns, is made the current one. By default the current one stays

    Raises
    ------
    MissingPackage
        If CuPy is not installed; the message has the install line.
    InputError
        If there is no usable driver or device, or nothing to compile kernels with.
    """

    def __init__(self, local_rank: int | None = None) -> None:
        try:
            import cupy
        except ImportError as error:
            raise MissingCupy() from error
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise InputError(_no_device(str(error))) from error
        if not count:
            raise InputError(_no_device("none is visible"))
        if local_rank is not None:
            cupy.cuda.Device(gpu_number(local_rank, count)).use()
        try:
            cupy.arange(1)  # asks for what every kernel needs, NVRTC and the headers of CUDA
        except Exception as error:  # CuPy raises errors of any class where one is missing
            raise InputError(_no_compiler(str(error))) from error
        self.xp = cupy

    @property
    def nccl(self) -> Any:
        """CuPy's module of NCCL, by which devices of several ranks talk; None if it is not installed."""
        module = self.xp.cuda.nccl
        return module if module.available else None

    @property
    def identity(self) -> tuple[str, str]:
        """Which device this is, of all machines."""
        return platform.node(), str(self.xp.cuda.Device().pci_bus_id)

    @cache  # noqa: B019 - a device lives as long as the process
    def functions(self, file: str, **constants: Any) -> Functions:
        """The kernels of ``file``, compiled for the current device (CuPy keeps the result on disk)."""
        text = source(file, **constants)
        module = self.xp.RawModule(code=text, options=OPTIONS)

        def launcher(name: str) -> Callable:
            kernel = module.get_function(name)
            return lambda grid, block, arguments: kernel(grid, (block,), arguments)

        return Functions(launcher, parameters(text))

    def free_bytes(self) -> int:
        """What the device and CuPy's own pool have free."""
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free + self.xp.get_default_memory_pool().free_bytes())


#: Options of every compilation. Fused multiply-add is CUDA's default and stays on.
OPTIONS = ("-std=c++17",)


def source(file: str, **constants: Any) -> str:
    """The text of ``file`` after the constants that it shares with the reference, and its helpers."""
    folder = resources.files("kalmandp.engines.cuda") / "sources"
    headers = ["device.cuh", *(["tiles.cuh"] if "REAL" in constants else [])]
    parts = [f"#define {name} {value}" for name, value in constants.items()]
    texts = [(folder / name).read_text(encoding="utf-8") for name in (*headers, file)]
    text = "\n".join([*parts, shared_constants(), *texts])
    # comments are not ASCII; CuPy writes the text to a file in the encoding of the user's locale
    return re.sub(r"[^\x00-\x7f]", "~", text)


def shared_constants() -> str:
    """Numbers of the mathematics as CUDA constants, from where the reference has them."""
    A, B, C = SWITCH_COEFFICIENTS
    scalars = {
        "SWITCH_A": A, "SWITCH_B": B, "SWITCH_C": C, "GELU_SCALE": GELU_SCALE, "GELU_CUBIC": GELU_CUBIC,
    }  # fmt: skip
    return "\n".join(f"#define {name} {_literal(value)}" for name, value in scalars.items())


def braces(row) -> str:
    """A row of numbers as the initial value of an array, to the last digit.

    Examples
    --------
    >>> braces([1, 0.1])
    '{(1.0), (0.1)}'
    """
    return "{" + ", ".join(map(_literal, row)) + "}"


def _literal(value: float) -> str:
    return f"({float(value)!r})"


def blocks_for(work: int, per_block: int = THREADS) -> int:
    """⌈work / per_block⌉"""
    return -(-work // per_block)


class MissingCupy(MissingPackage):
    """CuPy is not installed; the message has the line that installs the one that fits the driver."""

    def __init__(self) -> None:
        version = driver_version()
        extras = ["cuda12", "cuda13"] if version is None else ["cuda13" if version >= 13000 else "cuda12"]
        lines = " or ".join(f'pip install "kalmandp[{extra}]"' for extra in extras)
        which = "" if version is None else f" (the driver speaks CUDA {version // 1000})"
        text = f"device 'cuda' needs the package 'cupy', which is not installed{which}; install it with:"
        ImportError.__init__(self, f"{text} {lines}")


def driver_version() -> int | None:
    """CUDA's version that the installed driver speaks (13000 is 13.0); None without a driver."""
    version = ctypes.c_int()
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            if ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(version)) == 0:
                return version.value
        except OSError:
            continue
    return None


def _no_device(why: str) -> str:
    return (
        f"device is 'cuda', but no CUDA device can be used ({why}); expected an NVIDIA GPU, or device 'cpu'"
    )


def _no_compiler(why: str) -> str:
    return (
        f"device is 'cuda', but CuPy cannot run a kernel there ({why}); expected CUDA's NVRTC and headers: "
        "the CUDA toolkit of the version that CuPy is for, or pip install 'cupy-cuda13x[ctk]' (cupy-cuda12x)"
    )


def check_memory(
    device: Device, n_bytes: int, what: str,
    helps: str = 'A smaller optimizer/block_size, or optimizer/covariance_dtype "float32",',
) -> None:  # fmt: skip
    """Refuse what cannot fit before anything is allocated; ``helps`` is what would make it smaller.

    Raises
    ------
    InputError
        With both sizes.
    """
    free = device.free_bytes()
    if free and n_bytes > free:
        raise InputError(
            f"{what} takes {n_bytes / 2**30:.2f} GiB; the GPU has {free / 2**30:.2f} GiB free. {helps} helps"
        )
