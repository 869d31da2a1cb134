"""Frames to test with, drawn from a generator or by hypothesis, and how to compare them."""

from __future__ import annotations

import os

import numpy as np
from hypothesis import strategies as st

from kalmandp.frames.frame import Frame

NUMBERS = ("positions", "cell", "energy", "forces", "virial", "atomic_energies")
LABELS = ("energy", "forces", "virial", "atomic_energies")


def random_frame(rng, symbols="OHH", *, pbc=(True, True, True), labels=LABELS[:3], type_map=None):
    """A frame in a tilted cell of about 8 Å with random labels."""
    n = len(symbols)
    type_map = tuple(dict.fromkeys(symbols)) if type_map is None else tuple(type_map)
    cell = np.diag(rng.uniform(7.0, 9.0, 3)) + rng.normal(0.0, 0.7, (3, 3))
    values = {
        "energy": rng.normal(-5.0 * n, 1.0),
        "forces": rng.normal(size=(n, 3)),
        "virial": rng.normal(size=(3, 3)),
        "atomic_energies": rng.normal(size=n),
    }
    return Frame(
        positions=rng.uniform(-0.5, 1.5, (n, 3)) @ cell,
        types=[type_map.index(s) for s in symbols],
        type_map=type_map,
        cell=cell if any(pbc) else None,
        pbc=pbc,
        **{label: values[label] for label in labels},
    )


@st.composite
def frame_lists(draw):
    """Lists of frames: random compositions, orders of atoms, periodicity and sets of labels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames = []
    for _ in range(draw(st.integers(1, 6))):
        symbols = draw(st.lists(st.sampled_from(["O", "H", "Si"]), min_size=1, max_size=5))
        pbc = draw(st.tuples(*[st.booleans()] * 3))
        labels = draw(st.sets(st.sampled_from(LABELS)))
        frames.append(random_frame(rng, symbols, pbc=pbc, labels=labels))
    return frames


def assert_same_frames(got, wanted) -> None:
    """Same atoms, order, periodicity, and bit for bit the same numbers."""
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        assert g.symbols == w.symbols
        assert g.pbc == w.pbc
        for name in NUMBERS:
            x, y = getattr(g, name), getattr(w, name)
            assert (x is None) == (y is None), f"{g.source}: {name}"
            if x is not None:
                # files hold float64: nothing may be lost
                np.testing.assert_array_equal(x, y, err_msg=f"{g.source}: {name}")


def write_system(folder, *, types=(0, 1, 1), names=("O", "H"), sets=(2,), rng=None, **extra) -> dict:
    """A deepmd/npy folder written with nothing but NumPy; returns what is in it.

    ``extra`` gives further texts (``nopbc=""``) or None for arrays to leave out (``force=None``).
    """
    rng = np.random.default_rng(0) if rng is None else rng
    os.makedirs(folder)
    n = len(types)
    np.savetxt(os.path.join(folder, "type.raw"), types, fmt="%d")
    if names is not None:
        np.savetxt(os.path.join(folder, "type_map.raw"), names, fmt="%s")
    arrays: dict = {}
    for s, n_frames in enumerate(sets):
        part = {
            "coord": rng.uniform(0.0, 9.0, (n_frames, 3 * n)),
            "box": np.tile(np.diag([9.0, 9.5, 10.0]).ravel(), (n_frames, 1)),
            "energy": rng.normal(size=n_frames),
            "force": rng.normal(size=(n_frames, 3 * n)),
            "virial": rng.normal(size=(n_frames, 9)),
        }
        os.makedirs(os.path.join(folder, f"set.{s:03d}"))
        for name, values in part.items():
            if name not in extra:
                np.save(os.path.join(folder, f"set.{s:03d}", f"{name}.npy"), values)
            arrays.setdefault(name, []).append(values)
    for name, text in extra.items():
        if text is not None:
            with open(os.path.join(folder, name.replace("_raw", ".raw")), "w") as file:
                file.write(text)
    return {name: np.concatenate(parts) for name, parts in arrays.items()}
