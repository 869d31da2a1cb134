"""Everything a run needs to go on with the same bits, in one HDF5 file that any program can read.

    /               attributes format ("kalmandp checkpoint"), version, kind (of potential)
    /json           input, model, info, generator, versions: JSON texts, stored as bytes (uint8)
    /potential      the model as the optimizer has it: weights (N,) float64, bias_atom_e, out_bias, and the
                    form's statistics (davg, dstd, …)
    /optimizer      of a Kalman filter: weights (N,), block_sizes (L,);
                    attributes lam, nu, process_noise, updates, covariance ("tiled", "cuda", "dense";
                    with coupled blocks "tiled coupled", …)
                    where virials are learnt, weights and the last block have an offset of them for each type
                    behind the model's N (`training.measurements.virial_offset`); virial_offset/atoms
                    (types,) and its attribute volume: atoms and Å³ that it was measured on
                    of Adam: weights, m, v (N,); attribute updates
                    of both, if the run averages: average (N,); attribute averaged, the updates in it
    /optimizer/P    the covariance, see below
    /feed           order: numbers of the frames in this epoch; attributes epoch, position
    /history        rows (lines, columns) of the learning curve; attribute columns, their names
    /diagnostics    updates (lines, columns), attribute columns: `training.report.diagnostics`;
                    traces (lines, 1 + L): count of updates, tr P_1 … tr P_L;  part, attribute per_line
    /gate           left_out, recent/…: `training.measurements.gate`, if the run has a gate
    /result         weights (N,) of the model that was written beside it, where they are not those of
                    /potential: averaged, or with a last layer that was solved for
    /committee      2/…, 3/…: the same as /optimizer of the other members, if the run trains a committee
    /progress       attributes step, seconds

Strings in attributes are of fixed length. P is block-diagonal; its blocks P_l belong to consecutive
weights, n_l = block_sizes[l] of them. "dense" has them as they are: block_0000, block_0001, …
"tiled" and, with a larger T, "cuda" have the lower halves in tiles of T × T numbers, and some columns U
that are not folded in yet:

    P_l = scale (A_l − U_lᵀ U_l)                         scale: attribute of /optimizer/P

    tiles    (number of tiles, T, T): A, block after block. A block has t_l = ⌈n_l/T⌉ rows of tiles; row i has
             the tiles j = 0 … i, in this order. Tile (i, j) holds A[iT:iT + T, jT:jT + T]; the upper half
             follows from A = Aᵀ, and what lies beyond n_l is zero.
    pending  (Σ t_l, number of columns, T): U[k, tT + c] = pending[t, k, c], t counted through all blocks

With coupled blocks P has, beside these P_l, what U leaves between blocks: P = scale (diag(A_l) − UᵀU),
see `kalman.coupled`; "dense coupled" has its U as pending (number of columns, N).

Numbers are float64, or float32 if P is kept so. With the setting ``checkpoint_dtype: "float32"`` the file
has P rounded to float32 though the run keeps it in float64 (its data sets then have the attribute dtype,
"float64"): half the size, but a restart no longer goes on with the same bits, a window of coupled blocks ends
there, and a P that is almost singular may lose its positive definiteness: the filter then raises an error.
Without this setting everything is exact.

Each data set is stored in chunks with a checksum (Fletcher 32). P is compressed (LZF) where at least half of
it is zero, at the start of a run or for weights that no frame has touched; once P is full its numbers do not
compress: LZF saves 5 to 7 % of a trained P at a tenth of the speed, gzip 14 % at a fiftieth.

The file is written under another name, synced to the disk, and then renamed: whatever happens, there is a
complete one.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import h5py
import numpy as np

import kalmandp
from kalmandp.errors import FileError
from kalmandp.files import naming, writing_hdf5
from kalmandp.potentials.potential import Potential
from kalmandp.training.state import codec

FORMAT = "kalmandp checkpoint"
VERSION = 3
#: Groups that not every run has.
IF_THERE = ("diagnostics", "gate", "result", "committee")
#: Bytes of a chunk of a large array, and of the pieces in which it is written.
CHUNK, PIECE = 1 << 20, 1 << 24
#: Bytes that must be free before writing begins.
RESERVE = 3 * PIECE
#: P is compressed if this share of its numbers is zero.
ZEROS = 0.5


def save_checkpoint(
    path, *, potential: Potential, source: dict, rng, states: dict, step, seconds, covariance_dtype=None
):
    """Write a checkpoint.

    Parameters
    ----------
    path : file to write or replace
    potential : the model as it is now
    source : the input of the run
    rng : the generator of the run
    states : {"optimizer": …, "feed": …, "history": …}, dicts of arrays, numbers and strings
    step, seconds : progress so far
    covariance_dtype : "float32" to store a float64 P rounded to that; None or "float64" for the exact bits

    Raises
    ------
    FileError
        If it cannot be written, because the disk or the memory is full; what was at ``path`` is unchanged.
    """
    check_reserve(path)
    with naming(path), writing_hdf5(path) as writer:
        file = writer.file
        file.attrs["format"] = np.bytes_(FORMAT)
        file.attrs["version"] = VERSION
        made_of = potential.state()
        file.attrs["kind"] = np.bytes_(made_of["kind"])
        trees = {"input": source, "model": made_of["form"], "info": made_of["info"]}
        trees |= {"generator": rng.bit_generator.state, "versions": versions()}

        def create(place, name: str, value: np.ndarray, is_P: bool) -> None:
            _create(writer, place, name, value, covariance_dtype if is_P else None, lzf=is_P)

        codec.put_json(file, trees, create)
        codec.put(file.create_group("potential"), made_of["arrays"], create)
        for name, state in states.items():
            codec.put(file.create_group(name), state, create)
        progress = file.create_group("progress")
        progress.attrs["step"], progress.attrs["seconds"] = int(step), float(seconds)


@contextlib.contextmanager
def open_checkpoint(path) -> Iterator[dict]:
    """Read a checkpoint: {"potential", "source", "generator", "optimizer", "feed", "history", …}.

    "diagnostics", "gate" and "result" are there where the file has them.

    Arrays of P ("P/…" in "optimizer") are read when they are asked for, piece by piece, so that a restart
    needs the memory of one P and not of two. They are there until the ``with`` block ends.

    Raises
    ------
    FileError
        If the file is missing, damaged, or not a checkpoint.
    """
    with contextlib.ExitStack() as stack:
        with reading(path):
            file = stack.enter_context(h5py.File(path, "r"))
            saved = _read(path, file)
        yield saved


def load_checkpoint(path) -> dict:
    """The same as `open_checkpoint`, with all arrays in memory."""
    with open_checkpoint(path) as saved, reading(path):
        saved["optimizer"] = {
            name: np.array(value) if isinstance(value, Stored) else value
            for name, value in saved["optimizer"].items()
        }
        return saved


@contextlib.contextmanager
def reading(path) -> Iterator[None]:
    """Turn what a damaged file can raise into a FileError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except FileError:
        raise
    except Exception as error:  # HDF5, JSON and NumPy raise errors of any class for damage
        raise FileError(f"{path}: cannot be read as a checkpoint ({error})") from error


def versions() -> dict[str, str]:
    """What a run's bits depend on besides its input: the programs, and the kind of machine."""
    found = {"kalmandp": kalmandp.__version__, "python": platform.python_version()}
    for package in ("numpy", "numba", "h5py", "vesin"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return {**found, "machine": platform.machine(), "system": platform.system()}


# --- writing --------------------------------------------------------------------------------------


def check_reserve(path) -> None:
    """Try to get the memory that writing takes: HDF5 may not survive when it is refused memory later."""
    try:
        np.empty(RESERVE, dtype=np.uint8)
    except MemoryError:
        raise FileError(
            f"{path}: cannot be written (less than {RESERVE >> 20} MiB of memory are free)"
        ) from None


def _create(writer, place, name: str, value: np.ndarray, dtype: str | None = None, lzf=False) -> None:
    """A data set with a checksum in each chunk, so that damage is found when it is read.

    It is written piece by piece, and a disk that is full is noticed at the first that does not fit.
    """
    if not value.size or not value.ndim:
        place.create_dataset(name, data=value)
        return
    stored = np.dtype(dtype or value.dtype)
    n_chunks = -(-value.nbytes // CHUNK)
    data = place.create_dataset(
        name, shape=value.shape, dtype=stored, fletcher32=True,
        chunks=(-(-len(value) // n_chunks), *value.shape[1:]),
        compression="lzf" if lzf and _is_mostly_zero(value) else None,
    )  # fmt: skip
    if stored != value.dtype:
        data.attrs["dtype"] = np.bytes_(str(value.dtype))
    pieces = max(1, PIECE // CHUNK) * data.chunks[0]
    for start in range(0, len(value), pieces):
        data[start : start + pieces] = value[start : start + pieces].astype(stored, copy=False)
        writer.check()


def _is_mostly_zero(value: np.ndarray) -> bool:
    """Judged from about a hundred rows, so that it costs nothing."""
    sample = value[:: max(1, len(value) // 100)]
    return int(np.count_nonzero(sample)) <= (1 - ZEROS) * sample.size


# --- reading --------------------------------------------------------------------------------------


class Stored:
    """An array in an open file: its shape and dtype, and parts of it when they are asked for."""

    def __init__(self, data: h5py.Dataset):
        self._data = data
        dtype = data.attrs.get("dtype")  # it may be stored rounded, see above
        self.dtype = data.dtype if dtype is None else np.dtype(dtype.decode())
        self.shape = data.shape

    @property
    def rounded(self) -> bool:
        """Whether the file has fewer digits of it than the run had."""
        return self._data.dtype != self.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index) -> np.ndarray:
        return np.asarray(self._data[index], dtype=self.dtype)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[()], dtype=dtype)


def _read(path, file: h5py.File) -> dict[str, Any]:
    version = check_format(path, file)
    made_of = {
        "kind": stored_kind(file),
        "form": codec.get_json(file, "model"),
        "info": codec.get_json(file, "info"),
        "arrays": codec.get(file["potential"], Stored),
    }
    return {
        "potential": Potential.from_state(made_of),
        "source": codec.get_json(file, "input"),
        "generator": codec.get_json(file, "generator"),
        "versions": codec.get_json(file, "versions") if version > 1 else {},
        "step": int(codec.attribute(file["progress"], "step")),
        "seconds": float(codec.attribute(file["progress"], "seconds")),
        **{name: codec.get(file[name], Stored) for name in ("optimizer", "feed", "history")},
        **{name: codec.get(file[name], Stored) for name in IF_THERE if name in file},
    }


def check_format(path, file: h5py.File) -> int:
    """The version of a checkpoint; a FileError if an open file is none, or of a later version."""
    if not is_checkpoint(file):
        raise FileError(f"{path}: is not a checkpoint of this program")
    version = int(codec.attribute(file, "version"))
    if version > VERSION:
        raise FileError(f"{path}: checkpoint version is {version}; this program reads up to {VERSION}")
    return version


def is_checkpoint(file: h5py.File) -> bool:
    """Whether an open file says that it is a checkpoint."""
    try:
        return "format" in file.attrs and codec.attribute(file, "format") == FORMAT
    except FileError:  # a text of variable length: the file is another program's
        return False


def stored_kind(file: h5py.File) -> str:
    """The kind of potential in a checkpoint; up to version 2 there was one."""
    return codec.attribute(file, "kind") if "kind" in file.attrs else "se_e2_a"
