"""States in HDF5: arrays become data sets with checksums, numbers and short texts attributes, trees JSON.

Shared by checkpoints and by the groups of `OnlineTrainer`. Nothing of variable length is ever written, and
nothing of it is read: HDF5 keeps such texts in heaps without checksums, which it does not survive if they are
damaged (`files.global_heap`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from kalmandp.errors import FileError
from kalmandp.ranks.rows import Rows

#: Writes an array: ``create(place, name, array, is_P)``.
Create = Callable[[h5py.Group, str, Any, bool], None]


def create_plain(place: h5py.Group, name: str, value: np.ndarray, is_P: bool) -> None:
    """A data set with a checksum in each chunk, so that damage is found when it is read."""
    chunked = {"chunks": True, "fletcher32": True} if value.size and value.ndim else {}
    place.create_dataset(name, data=value, **chunked)


def put(group: h5py.Group, state: dict, create: Create = create_plain) -> None:
    """Write a state: "a/b" goes into group a; what is below "P" is the covariance."""
    for name, value in state.items():
        folder, _, leaf = name.rpartition("/")
        place = group.require_group(folder) if folder else group
        if isinstance(value, (np.ndarray, Rows)):
            create(place, leaf, value, folder == "P")
        else:
            place.attrs[leaf] = np.bytes_(value) if isinstance(value, str) else value


def get(group: h5py.Group, stored: Callable[[h5py.Dataset], Any], prefix: str = "") -> dict[str, Any]:
    """What `put` has written; data sets of P are given through ``stored``, all others as arrays."""
    state = {prefix + name: attribute(group, name) for name in group.attrs}
    for name, value in group.items():
        if isinstance(value, h5py.Group):
            state |= get(value, stored, f"{prefix}{name}/")
        else:
            state[prefix + name] = stored(value) if prefix == "P/" else array(value)
    return state


def put_json(group: h5py.Group, trees: dict[str, Any], create: Create = create_plain) -> None:
    """Trees of plain values as bytes in data sets: attributes are limited to 64 KiB."""
    place = group.require_group("json")
    for name, tree in trees.items():
        text = json.dumps(tree, default=_plain).encode()
        create(place, name, np.frombuffer(text, dtype=np.uint8), False)


def get_json(group: h5py.Group, name: str) -> Any:
    """A tree that `put_json` has written."""
    data = group[f"json/{name}"]
    try:
        return json.loads(array(data).tobytes())
    except RecursionError:
        where = f"{data.file.filename}: {data.name}"
        raise FileError(f"{where} is nested too deep; is the file damaged?") from None


def array(data: h5py.Dataset) -> np.ndarray:
    """All of a data set of numbers."""
    if h5py.check_string_dtype(data.dtype) is not None or data.dtype.kind == "O":
        raise FileError(f"{data.file.filename}: {data.name} holds texts; expected numbers")
    return data[()]


def attribute(place: h5py.Group, name: str) -> Any:
    """An attribute: a number, or a text of fixed length."""
    kind = place.attrs.get_id(name).get_type()
    if kind.get_class() == h5py.h5t.STRING and kind.is_variable_str():
        where = f"{place.file.filename}: attribute {name} of {place.name}"
        raise FileError(f"{where} is of variable length; expected a fixed one")
    value = place.attrs[name]
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def _plain(value):
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)
