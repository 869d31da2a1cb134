"""`convert`: from any file of frames to an HDF5 file, a deepmd/npy folder or extended XYZ."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, count, islice
from typing import NamedTuple

from kalmandp.errors import InputError
from kalmandp.formats.extxyz import write_extxyz
from kalmandp.formats.looking import Sample
from kalmandp.formats.runner import write_runner
from kalmandp.formats.sources import (
    EXTXYZ_SUFFIXES,
    HDF5_SUFFIXES,
    Source,
    check_format,
    guess_format,
)
from kalmandp.formats.units import given_units
from kalmandp.frames.frame import Frame, checked_type_map
from kalmandp.frames.hdf5.layouts import LABELS
from kalmandp.frames.hdf5.storage import path_text
from kalmandp.frames.hdf5.writing import write_hdf5, write_npy

#: Words of a message -> the reason it stands for.
LEFT_OUT = {
    "SCF cycle did not converge": "SCF not converged",
    "SCF cycle has no end": "SCF not converged",
    "does not say whether its SCF": "convergence not stated",
    "the file says": "SCF not converged",
    "the file ends before": "the file ends before they are complete",
    "the rest of this file": "a file that cannot be read, or not to its end",
}
RUNNER_SUFFIX = ".data"
#: What an input.data can hold.
RUNNER_LABELS = ("energy", "forces")


class Conversion(NamedTuple):
    """What `convert` did.

    Attributes
    ----------
    path : the file or folder written
    frames : number of frames written
    systems : number of systems they make (1 for extended XYZ and input.data)
    labels : label -> number of frames that have it
    skipped : messages of frames left out: SCF not converged, step incomplete, and with
        ``skip_invalid`` numbers that cannot be used
    ignored : names of quantities in the source that were not taken over, or that the format written
        cannot hold
    names : label -> names in the sources that it was read from, where they differ from its own
    notes : what was taken for granted or is worth a look: units, convergence, merged kinds of atoms
    warnings : what the data themselves say against their units or the sign of their virials
    """

    path: str
    frames: int
    systems: int
    labels: dict[str, int]
    skipped: tuple[str, ...]
    ignored: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def reasons(self) -> dict[str, int]:
        """Why frames were left out -> how many."""
        counts: dict[str, int] = {}
        for message in self.skipped:
            reason = message.partition(": ")[2] or message
            known = next((why for why in LEFT_OUT if why in reason), None)
            reason = "cannot be used" if known is None else LEFT_OUT[known]
            counts[reason] = counts.get(reason, 0) + 1
        return counts

    def fates(self) -> list[tuple[str, str]]:
        """Each kind of label of the sources, and what became of it."""
        rows = []
        for label in LABELS:
            n, names = self.labels.get(label, 0), [n for n in self.names.get(label, ()) if n != label]
            if label == "virial" and "stress" in self.names:
                names += [f"{name} (W = −σV)" for name in self.names["stress"]]
            if n:
                of = "all" if n == self.frames else f"{n:,} of {self.frames:,}"
                rows.append(
                    (label, f"taken over, {of} frames" + (f", from {', '.join(names)}" if names else ""))
                )
        return rows + [(name, "not taken over") for name in self.ignored]


def convert(
    src, dst, *, format: str | None = None, type_map=None, index: slice | str | None = None,
    keys: dict[str, str] | None = None, skip_invalid: bool = False,
    attributes: dict[str, str | int | float] | None = None, overwrite: bool = True,
    compression: str | None = None, progress: Callable[[int], None] | None = None,
    keep_unconverged: bool = False, mixed: bool = False, without: Iterable[int] | str = (),
    units: dict[str, str] | None = None, look: bool = True,
) -> Conversion:  # fmt: skip
    """Convert frames, in their order, between file formats.

    Parameters
    ----------
    src : path, or list of paths that are read one after the other
        HDF5 and folders in DeePMD-kit's layouts, extended XYZ; outputs of VASP (OUTCAR, vasprun.xml),
        Quantum ESPRESSO (pw.x; cp.x by dpdata), CP2K, ABINIT, FHI-aims and PWmat (MOVEMENT); text dumps
        of LAMMPS; .cfg of MLIP; .npz of sGDML; input.data of RuNNer and n2p2; all else that dpdata and
        ase.io read
    dst : path
        ``.h5`` or ``.hdf5``: deepmd/hdf5, the layout of `Dataset.write`; ``.xyz`` or ``.extxyz``:
        extended XYZ; ``.data``: RuNNer's input.data; a name without suffix, or a folder: deepmd/npy,
        one folder below it per system
    format : format of ``src``, if neither its name nor its content tells it; one of
        "extxyz", "deepmd/hdf5", "deepmd/npy", "deepmd/npy/mixed", "vasp/outcar", "vasp/xml",
        "espresso/pw", "espresso/cp", "cp2k", "abinit", "aims", "pwmat/movement", "lammps/dump", "mtp",
        "npz", "runner", "ase", "ase:NAME" with one of ASE's formats, "dpdata:NAME" with one of dpdata's,
        e.g. "dpdata:gaussian/log"
    type_map : names of the types in the file written; by default in order of appearance
    index : slice, or its text "start:stop:step", of the frames to take
    keys : for extended XYZ and what ASE reads, label -> its name in the file, e.g.
        ``{"energy": "REF_energy"}``
    skip_invalid : leave out frames that cannot be used (labels that are not finite, say) and list
        them in the result, instead of raising
    attributes : dict of texts and numbers for the root of an HDF5 file: where the data come from
    overwrite : replace a file that is there (a folder that is not empty is never replaced)
    compression : None or "gzip", for HDF5
    progress : called with the number of frames so far, after each
    keep_unconverged : take steps whose SCF cycle did not converge, instead of leaving them out
    mixed : for a folder, the layout deepmd/npy/mixed: one system per number of atoms
    without : numbers of frames to leave out, or their text "3,7,9-10"; as `kalmandp doctor` numbers them:
        from 0, over all of ``src``, before ``index`` is applied
    units : units of the numbers in ``src``, in place of those that the file states: dict from length,
        energy, force, virial and stress to the name of a unit, e.g. ``{"length": "bohr"}``; "-eV" turns
        the sign. Units not given follow from length and energy, which are Å and eV by default
    look : check some frames for consistency (`kalmandp.formats.looking`): the unit of length by distances,
        sign and unit of virials by energies and forces

    Examples
    --------
    >>> done = convert("data/si64_lda_test.h5", "some.xyz", index="0:3")
    >>> done.frames, done.labels
    (3, {'energy': 3, 'forces': 3, 'virial': 3})

    Returns
    -------
    Conversion

    Raises
    ------
    FileError
        If the source cannot be read or the destination not be written; then nothing is written.
    InputError
        If a frame cannot be used, an argument cannot be understood, or no frame has a name of ``keys``.
    MissingPackage
        If the format is read by ASE or dpdata and that is not installed; with the install line.
    """
    paths = [path_text(p) for p in ([src] if isinstance(src, (str, os.PathLike)) else src)]
    if not paths:
        raise InputError("src is an empty list; expected at least one path")
    dst = path_text(dst)
    write = _writer(dst, type_map, attributes, overwrite, compression, mixed)
    skipped: list[str] = []
    left, numbers = _numbers(without), count()
    given = given_units(units) if units else None
    sources = [
        Source(
            path,
            guess_format(path) if format is None else check_format(format),
            keys=keys,
            type_map=None if type_map is None else checked_type_map("type_map", type_map),
            skipped=skipped if skip_invalid else None,
            left_out=skipped,
            keep_unconverged=keep_unconverged,
            without=left,
            numbers=numbers,
            units=given,
            alone=len(paths) == 1,
        )
        for path in paths
    ]
    frames = _slice(chain.from_iterable(s.frames() for s in sources), _as_slice(index))
    labels = dict.fromkeys(LABELS, 0)
    sample = Sample() if look else None
    try:
        watched = _watched(frames, labels, type_map, progress, sample)
        last = _all_left_out(left, numbers) if index is None else ()
        n_frames, systems = write(chain(watched, last, _keys_found(keys, labels, sources)))
    except InputError as error:
        if skipped and "no frames" in str(error):
            raise InputError(f"no frame of {paths[0]} can be used: {skipped[0]}") from None
        raise
    present = {label: n for label, n in labels.items() if n}
    lost = {label for label in present if dst.endswith(RUNNER_SUFFIX) and label not in RUNNER_LABELS}
    ignored = sorted(lost.union(*(s.ignored for s in sources)))
    present = {label: n for label, n in present.items() if label not in lost}
    names: dict[str, set[str]] = {}
    for s in sources:
        for label, found in s.told.names.items():
            names.setdefault(label, set()).update(found)
    return Conversion(
        dst, n_frames, systems, present, tuple(skipped), tuple(ignored),
        {label: tuple(sorted(found)) for label, found in names.items()},
        tuple(_notes(sources)), () if sample is None else tuple(sample.warnings()),
    )  # fmt: skip


def _notes(sources: list[Source]) -> Iterator[str]:
    """What readers noted, each once, with the file if there are several."""
    by_note: dict[str, list[str]] = {}
    for source in sources:
        for note in source.told.notes:
            by_note.setdefault(note, []).append(source.path)
    for note, paths in by_note.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        yield f"{paths[0]}{more}: {note}"


def _writer(dst: str, type_map, attributes, overwrite, compression, mixed):
    """A function that writes frames to ``dst`` and returns the numbers of frames and systems."""
    suffix = os.path.splitext(dst.rstrip("/"))[1].lower()
    is_folder = dst.endswith("/") or os.path.isdir(dst) or not suffix
    if mixed and not is_folder:
        raise InputError(f"mixed is given, and {dst} is a file; expected a folder (a name without suffix)")
    if not is_folder and suffix in HDF5_SUFFIXES:

        def write(frames):
            infos = write_hdf5(
                dst, frames, type_map=type_map, attributes=attributes, overwrite=overwrite,
                compression=compression,
            )  # fmt: skip
            return sum(info.n_frames for info in infos), len(infos)

        return write
    for name, value in (("attributes", attributes), ("compression", compression)):
        if value:
            raise InputError(f"{name} is given, and {dst} is no HDF5 file; expected a name in .h5 or .hdf5")
    if not is_folder and suffix in EXTXYZ_SUFFIXES:
        return lambda frames: (write_extxyz(dst, frames, overwrite=overwrite), 1)
    if not is_folder and suffix == RUNNER_SUFFIX:
        return lambda frames: (write_runner(dst, frames, overwrite=overwrite), 1)
    if is_folder:

        def write(frames):
            infos = write_npy(dst, frames, type_map=type_map, mixed=mixed)
            return sum(info.n_frames for info in infos), len(infos)

        return write
    known = ", ".join((*HDF5_SUFFIXES, *EXTXYZ_SUFFIXES, RUNNER_SUFFIX))
    raise InputError(f"{dst}: ends in {suffix}; expected {known}, or no suffix for a folder")


def _watched(frames: Iterable[Frame], labels: dict[str, int], type_map, progress, sample: Sample | None):
    """The same frames, while their labels are counted; a species outside of ``type_map`` is refused."""
    for number, frame in enumerate(frames, start=1):
        if type_map is not None:
            frame = frame.with_type_map(type_map)
        for label in labels:
            labels[label] += getattr(frame, label) is not None
        if sample is not None:
            sample.take(frame)
        yield frame
        if progress is not None:
            progress(number)


def _keys_found(keys, labels: dict[str, int], sources: list[Source]) -> Iterator[Frame]:
    """Runs after the last frame, yields none: an error if no frame had a name that was given for a label."""
    for label, name in (keys or {}).items():
        if not labels["virial" if label == "stress" else label]:
            others = sorted(set().union(*(s.ignored for s in sources)))
            raise InputError(
                f"no frame of {sources[0].path} has {name!r}, which keys gives for {label}; expected a name "
                f"that is in the file (not used so far: {', '.join(others) or 'none'})"
            )
    yield from ()


def _numbers(without: Iterable[int] | str) -> frozenset[int]:
    """The numbers of a text "3,7,9-10", or of any other iterable."""
    if not isinstance(without, str):
        return frozenset(int(k) for k in without)
    pieces = [re.fullmatch(r"(\d{1,7})(?:[-–](\d{1,7}))?", piece.strip()) for piece in without.split(",")]
    ranges = [(int(p[1]), int(p[2] or p[1])) for p in pieces if p]
    if len(ranges) < len(pieces) or any(a > b for a, b in ranges):
        raise InputError(f"without is {without[:60]!r}; expected numbers of frames such as '3,7,9-10'")
    return frozenset(k for a, b in ranges for k in range(a, b + 1))


def _all_left_out(without: frozenset[int], numbers: Iterator[int]) -> Iterator[Frame]:
    """Runs after the last frame, yields none: an error if a frame to leave out does not exist."""
    total = next(numbers)
    if without and not 0 <= min(without) <= max(without) < total:
        raise InputError(f"without goes from {min(without)} to {max(without)}; expected 0 to {total - 1}")
    yield from ()


def _as_slice(index: slice | str | None) -> slice:
    if index is None:
        return slice(None)
    given = index
    if isinstance(index, str):
        try:
            parts = [int(part) if part.strip() else None for part in index.split(":")]
            index = slice(*parts) if len(parts) > 1 else None
        except (ValueError, TypeError):
            index = None
    if isinstance(index, slice):
        numbers = (index.start, index.stop, index.step)
        if all(n is None or isinstance(n, int) for n in numbers) and index.step != 0:
            return index
    raise InputError(f"index is {given!r}; expected a slice or a text such as '0:100' or '::5'")


def _slice(frames: Iterator[Frame], index: slice) -> Iterator[Frame]:
    if all(n is None or n >= 0 for n in (index.start, index.stop, index.step)):
        return islice(frames, index.start, index.stop, index.step)
    # counted from the end: the end has to be known, so all of them are held in memory
    return iter(list(frames)[index])
