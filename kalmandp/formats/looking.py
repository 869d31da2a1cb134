"""A look at some frames as they are converted: do lengths, energies, forces and virials fit each other?

The unit of length is judged by distances, sign and unit of the virials by `kalmandp.doctor`: from the
work between frames of different cells, and from a potential fitted to the forces. Only the first frames
are looked at, up to `ATOMS` atoms: a second, whatever the size of the data set. Energies of exactly 0 are
counted in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kalmandp.formats.distances import ANGSTROM, IN_BOHR, spacing
from kalmandp.formats.distances import FRAMES as FRAMES_FOR_LENGTHS
from kalmandp.frames.frame import Frame
from kalmandp.registry import LOOK_AT_VIRIALS, load

#: Å: the nearest neighbours of most crystals, also where lengths are in bohr.
NEAR = 6.5
#: Atoms and frames that are looked at, and atoms of the largest frame.
ATOMS, FRAMES, LARGEST = 2000, 60, 1000


class Sample:
    """The first frames of a conversion."""

    def __init__(self):
        self.frames: list[Frame] = []
        self.atoms = self.without_energy = 0

    def take(self, frame: Frame) -> None:
        """Count a frame, and keep it if there is room."""
        self.without_energy += frame.energy == 0.0 and len(frame) > 1
        if self.atoms < ATOMS and len(self.frames) < FRAMES and 1 < len(frame) <= LARGEST:
            self.frames.append(frame)
            self.atoms += len(frame)

    def warnings(self) -> Iterator[str]:
        """What the data say against their labels."""
        if self.without_energy:
            frames = "a frame" if self.without_energy == 1 else f"{self.without_energy:,} frames"
            yield (
                f"the energy of {frames} is exactly 0, as some programs write where they have computed none: "
                "leave such frames out (--without), or do not train on them"
            )
        yield from _lengths(self.frames[:FRAMES_FOR_LENGTHS])
        if any(f.virial is not None for f in self.frames):
            yield from _virials(self.frames)


def _lengths(frames: list[Frame]) -> Iterator[str]:
    found = [s for f in frames if np.isfinite(s := spacing(f, NEAR))]
    usual = float(np.median(found)) if len(found) else 1.0
    if not ANGSTROM[0] <= usual <= IN_BOHR[0]:
        seems = "bohr" if IN_BOHR[0] < usual < IN_BOHR[1] else "another unit"
        yield (
            f"neighbouring atoms are {usual:.2f} bond lengths apart (expected 0.8 to 1.2): are lengths in "
            f"{seems}? If so, give  --unit length=…"
        )


def _virials(frames: list[Frame]) -> Iterator[str]:
    for finding in load(LOOK_AT_VIRIALS)(frames):
        yield f"{finding.seen}. {finding.advice}"
