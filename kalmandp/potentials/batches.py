"""Many frames in batches of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

#: Atoms put side by side in one evaluation; more gains no time and takes memory.
ATOMS_AT_ONCE = 2000


def batches(frames, pairs=None) -> Iterator[tuple[list, list | None]]:
    """Frames in their order, in lists of about `ATOMS_AT_ONCE` atoms, with their pairs.

    Parameters
    ----------
    frames : iterable of Frame
    pairs : iterable of Pairs, one per frame, or None
    """
    batch: list = []
    batch_pairs: list | None = None if pairs is None else []
    pairs, atoms = None if pairs is None else iter(pairs), 0
    for frame in frames:
        batch.append(frame)
        if batch_pairs is not None:
            batch_pairs.append(next(pairs))
        atoms += len(frame)
        if atoms >= ATOMS_AT_ONCE:
            yield batch, batch_pairs
            batch, batch_pairs, atoms = [], None if pairs is None else [], 0
    if batch:
        yield batch, batch_pairs
