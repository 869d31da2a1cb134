"""Ways to damage a file: bytes, words of a text, and the structure of an HDF5 file."""

from __future__ import annotations

import re

import h5py
import numpy as np

#: What to put in the place of a number or a word.
WORDS = [
    b"1e400", b"-1e400", b"nan", b"NaN", b"Infinity", b"-1", b"0", b"1000000000000", b"9" * 60,
    b"9" * 5000, b"1e308", b"1e-320", b"true", b"null", b'"x"', b"[]", b"{}", b'""', b"-0.0", b"0x10",
    b"1_000", b"\xff\xfe", b"..", b"../../x", b"/etc/passwd", b"\x00", b"[" * 100000, b'{"a":' * 50000,
    b"!!python/object:os.system", b"!!python/object/apply:os.system ['touch pwned']", b"*a", b"&a [*a]",
    b"1,2", "Ⅷ".encode(), b"9e18", b"2.5",
]  # fmt: skip
_WORD = re.compile(rb"[^\s\"',:={}\[\]]+")


def damage_bytes(whole: bytes, rng: np.random.Generator) -> bytes:
    """Flips, cuts, doublings, zeros and noise."""
    data = bytearray(whole)
    kind = rng.integers(7)
    here = int(rng.integers(len(data)))
    length = int(rng.choice([1, 2, 4, 8, 64, 512]))
    if kind == 0:
        del data[here:]
    elif kind == 1:
        data[here : here + length] = rng.bytes(length)
    elif kind == 2:
        data[here : here + length] = bytes([int(rng.choice([0, 255, 127, 128]))]) * length
    elif kind == 3:
        del data[here : here + length]
    elif kind == 4:
        data[here:here] = data[here : here + length]
    elif kind == 5:
        data = bytearray(whole[: int(rng.choice([0, 8, 100]))] + rng.bytes(int(rng.integers(4000))))
    else:
        for place in rng.integers(0, len(data), int(rng.choice([1, 1, 2, 5, 50]))):
            data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def damage_words(whole: bytes, rng: np.random.Generator) -> bytes:
    """Some words replaced by others that mean trouble."""
    words = list(_WORD.finditer(whole))
    for n in sorted(rng.integers(0, len(words), int(rng.choice([1, 1, 2, 5]))), reverse=True):
        start, stop = words[n].span()
        other = WORDS[rng.integers(len(WORDS))] if rng.random() < 0.8 else words[rng.integers(len(words))][0]
        whole = whole[:start] + other + whole[stop:]
    return whole


def damage_hdf5(path, rng: np.random.Generator) -> None:
    """Change one thing in a well-formed HDF5 file with h5py, so that it stays well formed."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        arrays = [name for name in names if isinstance(file[name], h5py.Dataset)]
        name = str(rng.choice(arrays if arrays and rng.random() < 0.8 else names))
        if rng.random() < 0.25:
            _damage_attribute(file[name] if rng.random() < 0.5 else file, rng)
            return
        old = file[name][()] if isinstance(file[name], h5py.Dataset) else None
        del file[name]
        kind = int(rng.integers(16))
        if kind == 0:
            file[name] = h5py.SoftLink(str(rng.choice(["/", "/nowhere", "/" + name])))
        elif kind == 1:
            file[name] = h5py.ExternalLink(str(rng.choice(["nowhere.h5", "/etc/passwd", "../good.h5"])), "/")
        elif kind == 2:
            file.create_group(name)
        elif kind == 3:
            file[name] = h5py.Empty("f8")
        elif kind == 4:
            file[name] = "a text"
        elif kind == 5 and old is not None:
            rest = np.shape(old)[1:]
            file.create_dataset(name, shape=(10**12, *rest), chunks=(1, *rest), dtype="f8")
        elif kind == 6:
            file.create_dataset(name, shape=(1 << 62,), chunks=(1 << 16,), dtype="f8", compression=9)
        elif kind == 7:
            file.create_dataset(name, shape=(4,), dtype="f8", external=[("/etc/passwd", 0, 32)])
        elif kind == 8:
            layout = h5py.VirtualLayout((4, 9), "f8")
            layout[:] = h5py.VirtualSource("../good.h5", "x", (4, 9))
            file.create_virtual_dataset(name, layout)
        elif kind == 9 and old is not None:
            kinds = ["c16", "S4", "i1", "f4", "bool"] if np.asarray(old).dtype.kind in "iufb" else ["S9"]
            file[name] = np.asarray(old).astype(str(rng.choice(kinds)))
        elif kind == 10 and np.size(old) and np.asarray(old).dtype.kind == "f":
            flat = np.array(old).reshape(-1)
            flat[rng.integers(flat.size)] = rng.choice([np.nan, np.inf, 1e300, -1e300, 1e9])
            file[name] = flat.reshape(np.shape(old))
        elif kind == 11 and np.size(old) and np.asarray(old).dtype.kind in "iu":
            flat = np.array(old).reshape(-1)
            flat[rng.integers(flat.size)] = rng.choice([np.iinfo(flat.dtype).max, 7, 100])
            file[name] = flat.reshape(np.shape(old))
        elif kind == 12 and np.ndim(old):
            file[name] = np.asarray(old)[:-1]
        elif kind == 13 and old is not None:
            file[name] = np.asarray(old)[None]
        elif kind == 14:
            file.create_dataset(name, data=np.zeros(3, dtype=[("a", "f8"), ("b", "i4")]))
        else:
            file.create_dataset(name, shape=(2,), dtype=h5py.special_dtype(ref=h5py.Reference))


def _damage_attribute(place, rng: np.random.Generator) -> None:
    names = list(place.attrs)
    name = str(rng.choice(names)) if names else "units"
    values = [
        np.nan, -1, 10**18, "x", np.zeros((2, 2)), h5py.Empty("f8"), np.bytes_(b"\xff"), "[" * 9000, "{}",
        np.zeros(2, dtype=[("a", "f8")]), np.array(["a", "b"], dtype=object), 1e300,
    ]  # fmt: skip
    value = values[rng.integers(len(values))]
    if name in place.attrs:
        del place.attrs[name]
    if rng.random() < 0.85:
        dtype = h5py.string_dtype() if isinstance(value, np.ndarray) and value.dtype == object else None
        place.attrs.create(name, value, dtype=dtype)
