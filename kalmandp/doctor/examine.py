"""`examine`: look through data sets before a model is trained on them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from kalmandp.doctor.atoms import check_atoms
from kalmandp.doctor.duplicates import check_duplicates, check_leakage
from kalmandp.doctor.findings import SEVERITIES, Finding
from kalmandp.doctor.judge import Judge
from kalmandp.doctor.labels import check_labels
from kalmandp.doctor.neighbours import check_neighbours
from kalmandp.doctor.outliers import check_outliers
from kalmandp.doctor.survey import Reading, Survey, read_set, survey
from kalmandp.doctor.work import check_work, forces_slope, work_between
from kalmandp.errors import InputError, require
from kalmandp.frames.frame import Frame
from kalmandp.potentials.settings import ModelSettings
from kalmandp.ranks.team import Alone, Team


def examine(
    data, *, rcut: float | None = None, model: ModelSettings | None = None,
    rng: np.random.Generator | None = None, team: Team | None = None,
) -> list[Finding]:  # fmt: skip
    """Look through data sets for what spoils a training run.

    Overlapping, missing and lone atoms; lengths, energies, forces and virials in other units or of
    the other sign, found from the data themselves; energies that contradict forces; outliers; net
    forces; missing and constant labels; duplicates in a set and frames that two sets share;
    neighbours against what the model takes; rare species.

    Parameters
    ----------
    data : path, or list of paths; the first is the training set, and the others must not repeat it.
        Whatever `kalmandp.convert` reads
    rcut : cut-off (Å) for counting neighbours where there is no model yet: each kind of potential says what
        it would make of them
    model : the section ``model`` of an input (`read_input(…).model`): neighbours are counted within its
        cut-off, and its kind says whether they suit it. Without both they are not counted
    rng : draws the frames to which a surrogate potential is fitted; default_rng(0) by default
    team : from `kalmandp.ranks.team.team_of`: its ranks share the reading and the search for pairs, each
        makes this call, and all find the same

    Returns
    -------
    list of Finding, errors first; empty if there is nothing to say

    Raises
    ------
    FileError
        If a data set cannot be read at all. Single frames that cannot be used are findings.
    InputError
        If arguments do not go together.

    Examples
    --------
    >>> examine("data/si64_lda_test.h5")  # nothing to say
    []
    """
    paths = [data] if isinstance(data, (str, os.PathLike)) else list(data)
    if not paths:
        raise InputError("data is an empty list; expected at least one data set")
    require(rcut is None or rcut > 0, "rcut", rcut, "a positive number of Å")
    if model is not None:
        require(rcut is None, "rcut", rcut, "none beside model, which has its cut-off")
        rcut = model.cutoff
    rng = np.random.default_rng(0) if rng is None else rng
    ranks = Alone() if team is None else team
    readings = [read_set(path, ranks) for path in paths]
    own = {name for reading in readings for name in reading.types}
    types = {name for theirs in ranks.all(own) for name in theirs}
    surveys = [survey(reading, types, rcut, ranks) for reading in readings]
    found: list[Finding] = []
    for s in surveys:
        found += s.found
        if len(s):
            found += _examine_one(s, rng)
            found += check_neighbours(s, model)
    for other in surveys[1:]:
        if len(other) and len(surveys[0]):
            found += _unknown_species(surveys[0], other)
            found += check_leakage(surveys[0], other)
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def look_at_virials(frames: Sequence[Frame]) -> list[Finding]:
    """Whether the virials of some frames have the sign and the unit that energies and forces say."""
    reading = Reading("the data", list(frames), list(range(len(frames))), [])
    s = survey(reading, reading.types)
    if not len(s):
        return []
    judge = Judge(s, np.random.default_rng(0))
    return [f for f in check_work(s, work_between(s), judge) if f.check in ("virial", "virial-offset")]


def _examine_one(s: Survey, rng: np.random.Generator) -> Iterator[Finding]:
    judge, work = Judge(s, rng), work_between(s)
    findings = list(check_work(s, work, judge))
    yield from check_atoms(s, units_are_off=any(f.check == "energy-force" for f in findings))
    yield from check_labels(s, judge)
    yield from check_duplicates(s)
    yield from check_outliers(s)
    yield from findings
    compared = forces_slope(work).is_known or judge.energies.is_known
    if not compared and not findings and np.isfinite(s.energy_f).any():
        yield s.finding(
            "note", "energy-force",
            f"units and signs of energies and forces were not compared: {len(work.a_s)} pairs of near frames "
            "are too few, or too far apart",
            "Frames of one trajectory, a few femtoseconds apart, would tell",
        )  # fmt: skip


def _unknown_species(s: Survey, other: Survey) -> Iterator[Finding]:
    new_t = other.counts_ft.any(axis=0) & ~s.counts_ft.any(axis=0)
    if new_t.any():
        names = ", ".join(s.types[t] for t in np.flatnonzero(new_t))
        yield other.finding(
            "error", "species", f"{names} is not in {s.name}",
            "A model cannot know it: add frames with it to the training set",
            np.flatnonzero(other.counts_ft[:, new_t].any(axis=1)),
        )  # fmt: skip
