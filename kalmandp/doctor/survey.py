"""One pass over a data set: the frames, and of each what the checks want to know of its pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kalmandp.doctor.findings import Finding
from kalmandp.doctor.pair_basis import CUTOFF, densities, distances, pair_sums, radial
from kalmandp.errors import InputError, KalmanDPError, require
from kalmandp.formats.sources import Source, guess_format
from kalmandp.frames.elements import covalent_radii
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import (
    NeighbourStatistics,
    Pairs,
    joined,
    neighbour_pairs,
    statistics_of,
)
from kalmandp.ranks.team import Alone, Team, agree

#: Arrays that energies depend on beside positions, and that nothing here reads.
INPUTS = {"fparam", "aparam", "spin", "spins", "force_mag", "magmoms", "efield", "electric_field"}


@dataclass
class Survey:
    """A data set, read and looked at once.

    Attributes
    ----------
    name : as the user named it
    types : names of the species that occur, sorted
    frames : those that could be read and have no atoms on top of each other
    numbers_f : their places in the data set, from 0
    found : what was found while reading
    fingerprint_fk : `pair_basis.pair_sums` of each frame
    ratio_f : the shortest distance over the sum of the covalent radii; NaN where none is known
    closest_f : the two atoms of it and their distance, Å
    spacing_f : median over the atoms of their shortest such ratio
    lone_f : number of atoms without a neighbour within `pair_basis.CUTOFF`
    neighbours : how many neighbours atoms have within ``rcut``; None without ``rcut``, or without frames
    """

    name: str
    types: tuple[str, ...] = ()
    frames: list[Frame] = field(default_factory=list)
    numbers_f: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    found: list[Finding] = field(default_factory=list)
    fingerprint_fk: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    ratio_f: np.ndarray = field(default_factory=lambda: np.zeros(0))
    closest_f: list[tuple[int, int, float]] = field(default_factory=list)
    spacing_f: np.ndarray = field(default_factory=lambda: np.zeros(0))
    lone_f: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    neighbours: NeighbourStatistics | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def counts_ft(self) -> np.ndarray:
        """Atoms of each type in each frame."""
        return np.array([np.bincount(f.types, minlength=len(self.types)) for f in self.frames]).reshape(
            len(self), len(self.types)
        )

    @cached_property
    def n_atoms_f(self) -> np.ndarray:
        return self.counts_ft.sum(1)

    @cached_property
    def groups(self) -> dict[tuple, np.ndarray]:
        """Frames with the same atoms in the same order and the same periodicity."""
        found = defaultdict(list)
        for f, frame in enumerate(self.frames):
            found[frame.types.tobytes(), frame.pbc].append(f)
        return {key: np.array(members) for key, members in found.items()}

    @cached_property
    def energy_f(self) -> np.ndarray:
        """Energies, eV; NaN where there is none."""
        return np.array([np.nan if f.energy is None else f.energy for f in self.frames])

    def formula(self, f: int) -> str:
        counts = zip(self.types, self.counts_ft[f], strict=True)
        return "".join(f"{name}{n}" for name, n in counts if n)

    def finding(self, severity: str, check: str, seen: str, advice: str, frames=()) -> Finding:
        """A Finding about some of ``frames``, given by their places in this survey."""
        places = np.asarray(frames, dtype=int)
        return Finding(severity, check, self.name, seen, advice, tuple(self.numbers_f[places]))


class Reading(NamedTuple):
    """A data set that has been read, or one rank's part: frames, their numbers, what was found on the way.

    inputs : names of `INPUTS` that the data set has and nothing reads
    """

    name: str
    frames: list[Frame]
    numbers: list[int]
    found: list[Finding]
    inputs: tuple[str, ...] = ()

    @property
    def types(self) -> set[str]:
        """Names of the species that occur."""
        return {name for f in self.frames for name in np.array(f.type_map)[np.unique(f.types)].tolist()}


def read_set(path, team: Team | None = None) -> Reading:
    """Read a data set; frames that cannot be used become findings.

    Parameters
    ----------
    path : whatever `kalmandp.convert` reads
    team : ranks that share the frames; each reads those whose number modulo R is its own

    Raises
    ------
    FileError
        If the data set cannot be read at all.
    """
    team = Alone() if team is None else team
    reading = Reading(str(path), [], [], [])
    source = Source(str(path), guess_format(str(path)))
    failed: Exception | None = None
    try:
        for number, make in enumerate(source.makers()):
            if number % team.size == team.rank:
                _read(reading, number, make)
    except KalmanDPError as error:
        failed = error
    agree(team, failed)
    return reading._replace(inputs=tuple(name for name in source.ignored if name.lower() in INPUTS))


def _read(reading: Reading, number: int, make: Callable[[], Frame]) -> None:
    try:
        frame = make()
        require(len(frame) > 0, f"{frame.source}: the number of atoms", 0, "at least one")
    except InputError as error:
        reading.found.append(_unusable("unusable", reading.name, number, error))
        return
    reading.frames.append(frame)
    reading.numbers.append(number)


class _Look(NamedTuple):
    """What the search for pairs has found of a frame; the fields are those of `Survey`."""

    number: int
    frame: Frame
    fingerprint_k: np.ndarray
    ratio: float
    closest: tuple[int, int, float]
    spacing: float
    lone: int
    neighbours: NeighbourStatistics | None


def survey(reading: Reading, types, rcut: float | None = None, team: Team | None = None) -> Survey:
    """Look at the pairs of each frame.

    Parameters
    ----------
    reading : from `read_set`
    types : names of all types, also those of sets that this one is compared with
    rcut : cut-off (Å) for counting neighbours, if they are wanted
    team : the ranks that share the frames, as in `read_set`; the survey is of all of them, on each
    """
    team = Alone() if team is None else team
    s = Survey(reading.name, tuple(sorted(types)))
    radius_t = covalent_radii(s.types)
    own: list[_Look] = []
    overlaps: list[Finding] = []
    for number, frame in zip(reading.numbers, reading.frames, strict=True):
        try:
            own.append(_look(number, frame.with_type_map(s.types), radius_t, rcut))
        except InputError as error:
            overlaps.append(_unusable("overlap", s.name, number, error))
    told = team.all((own, reading.found, overlaps, reading.inputs))
    looks = sorted((look for theirs in told for look in theirs[0]), key=lambda look: look.number)
    s.found += sorted((f for theirs in told for f in theirs[1]), key=lambda f: f.frames)
    inputs = sorted({name for theirs in told for name in theirs[3]})
    if inputs:
        s.found.append(
            Finding(
                "warning", "unread", reading.name, f"{', '.join(inputs)} of the data set are not read",
                "Energies and forces depend on them, and no model here knows them",
            )
        )  # fmt: skip
    s.found += sorted((f for theirs in told for f in theirs[2]), key=lambda f: f.frames)
    s.frames = [look.frame for look in looks]
    s.numbers_f = np.array([look.number for look in looks], dtype=int)
    s.fingerprint_fk = np.array([look.fingerprint_k for look in looks])
    s.ratio_f, s.spacing_f = np.array([x.ratio for x in looks]), np.array([x.spacing for x in looks])
    s.closest_f, s.lone_f = [look.closest for look in looks], np.array([x.lone for x in looks], dtype=int)
    counted = [look.neighbours for look in looks if look.neighbours is not None]
    s.neighbours = joined(counted) if counted else None
    return s


def _look(number: int, frame: Frame, radius_t: np.ndarray, rcut: float | None) -> _Look:
    pairs = neighbour_pairs(frame, max(CUTOFF, rcut or 0.0))
    neighbours = None if rcut is None else statistics_of(frame, _within(pairs, rcut), rcut)
    pairs = _within(pairs, CUTOFF)
    r_p = distances(pairs)
    rho_itk = densities(radial(r_p), pairs, frame.types, len(frame.type_map))
    ratio_i, closest = _ratios(frame, pairs, r_p, radius_t)
    finite = ratio_i[np.isfinite(ratio_i)]
    return _Look(
        number, frame, pair_sums(rho_itk, frame.types),
        float(finite.min()) if len(finite) else np.nan, closest or (0, 0, np.inf),
        float(np.median(finite)) if len(finite) else np.nan,
        len(frame) - len(np.unique(pairs.i_p)), neighbours,
    )  # fmt: skip


def spacing_of(frame: Frame, cutoff: float) -> float:
    """Median over the atoms of the shortest distance over a bond's length, within ``cutoff``."""
    pairs = neighbour_pairs(frame, cutoff)
    ratio_i, _ = _ratios(frame, pairs, distances(pairs), covalent_radii(frame.type_map))
    finite = ratio_i[np.isfinite(ratio_i)]
    return float(np.median(finite)) if len(finite) else np.nan


def _unusable(check: str, name: str, number: int, error: InputError) -> Finding:
    return Finding("error", check, name, str(error), "Take the frame out, or mend it", (number,))


def _within(pairs: Pairs, cutoff: float) -> Pairs:
    near = (pairs.r_pc * pairs.r_pc).sum(1) < cutoff * cutoff
    return pairs if near.all() else Pairs(*(part[near] for part in pairs))


def _ratios(frame: Frame, pairs: Pairs, r_p, radius_t):
    """Each atom's shortest distance over the sum of the radii, and the pair where it is least."""
    ratio_p = r_p / (radius_t[frame.types[pairs.i_p]] + radius_t[frame.types[pairs.j_p]])
    ratio_p = np.where(np.isfinite(ratio_p), ratio_p, np.inf)
    ratio_i = np.full(len(frame), np.inf)
    np.minimum.at(ratio_i, pairs.i_p, ratio_p)
    if not len(ratio_p) or not np.isfinite(ratio_p.min()):
        return ratio_i, None
    p = int(ratio_p.argmin())
    return ratio_i, (int(pairs.i_p[p]), int(pairs.j_p[p]), float(r_p[p]))
