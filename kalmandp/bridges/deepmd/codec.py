"""DeePMD-kit's model tree on disk: HDF5 (``.dp``) and YAML (``.yaml``, ``.yml``).

A tree is nested dictionaries and lists of plain values; the arrays sit under keys ``"@variables"``.

- HDF5: the root attribute ``json`` holds the tree; each array is a root data set ``variable_0007``
  and stands in the text as ``"/variable_0007"``.
- YAML: an array is a mapping with ``@class: np.ndarray``, its dtype and its value as nested lists.

What is read may come from anywhere, so nothing here trusts a size that a file states about itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kalmandp.errors import FileError, InputError, KalmanDPError, MissingPackage
from kalmandp.files import naming, replacing

SUFFIXES = {".dp": "hdf5", ".yaml": "yaml", ".yml": "yaml"}
#: Models of DeePMD-kit's backends, which need the backend to be read; what converts them.
FOREIGN = (".pb", ".pbtxt", ".pth", ".pt", ".savedmodel", ".savedmodeltf", ".hlo", ".jax")

#: Arrays of a file may take this many bytes, plus `EXPANSION` times its length (compressed arrays).
ALLOWANCE = 64 << 20
EXPANSION = 64
#: YAML text becomes Python objects of many times its size; a larger model belongs in a .dp.
YAML_LIMIT = 64 << 20
#: Nesting of DeePMD-kit's own trees ends at about ten.
DEPTH_LIMIT = 64

_DATASET = re.compile(r"/?(\w+)", re.ASCII)


def load_tree(path) -> dict:
    """Read a model tree; arrays come as NumPy arrays.

    Raises
    ------
    FileError
        If the file is missing, truncated, damaged, or no DeePMD-kit model.
    InputError
        If the suffix is none of .dp, .yaml, .yml.
    MissingPackage
        For YAML without PyYAML.
    """
    path = Path(path)
    read = _read_hdf5 if _kind(path) == "hdf5" else _read_yaml
    if not path.is_file():
        raise FileError(f"{path}: no such file; expected a DeePMD-kit model")
    try:
        tree = read(path)
    except KalmanDPError:
        raise
    except Exception as error:  # HDF5, JSON and YAML raise errors of any class for damage
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FileError(
            f"{path}: cannot be read as a DeePMD-kit model ({reason[0][:200]}); "
            "is it complete, and of the kind its suffix says?"
        ) from error
    if not isinstance(tree, dict):
        raise FileError(f"{path}: holds a {type(tree).__name__}; expected a DeePMD-kit model tree")
    return tree


def save_tree(tree: dict, path) -> None:
    """Write a model tree. The file appears whole or not at all.

    Raises
    ------
    FileError
        If it cannot be written; what was there before stays.
    InputError
        If the suffix is none of .dp, .yaml, .yml.
    """
    path = Path(path)
    encode = _encode_hdf5 if _kind(path) == "hdf5" else _encode_yaml
    data = encode(tree)
    with replacing(path) as beside, naming(path):
        Path(beside).write_bytes(data)


def _kind(path: Path) -> str:
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None and path.is_dir():
        raise InputError(f"{path}: is a folder; expected a file with one of {', '.join(SUFFIXES)}")
    if kind is None:
        hint = ""
        if path.suffix.lower() in FOREIGN:
            hint = f"; DeePMD-kit converts it: dp convert-backend {path.name} {path.stem}.dp"
        raise InputError(f"{path}: suffix is {path.suffix!r}; expected one of {', '.join(SUFFIXES)}{hint}")
    return kind


def _map_tree(node, on_array, depth: int = 0):
    """A copy of a tree with ``on_array`` applied to every array."""
    if depth > DEPTH_LIMIT:
        raise ValueError(f"the tree is nested deeper than {DEPTH_LIMIT}")
    if isinstance(node, dict):
        return {key: _map_tree(value, on_array, depth + 1) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_map_tree(value, on_array, depth + 1) for value in node]
    return on_array(node) if isinstance(node, np.ndarray) else node


# --- HDF5 -----------------------------------------------------------------------------------------


def _read_hdf5(path: Path) -> dict:
    import h5py

    data = path.read_bytes()
    if not data.startswith(b"\x89HDF\r\n\x1a\n"):
        raise FileError(f"{path}: is no HDF5 file; expected a DeePMD-kit model in HDF5")
    with h5py.File(path, "r") as file:
        if "json" not in file.attrs:
            raise FileError(f"{path}: is HDF5 without the attribute 'json'; expected a .dp model")
        arrays = _Arrays(file, ALLOWANCE + EXPANSION * len(data))
        return _resolve(json.loads(_tree_text(file, data)), arrays, below_variables=False)


def _tree_text(file, data: bytes) -> str | bytes:
    """The text of the attribute ``json``, where possible without the HDF5 library.

    The library follows the lengths and addresses of a damaged text blindly: it can end the process,
    go round in circles or ask for gigabytes. So the text is picked out of the file's bytes by hand.
    Where an attribute was deleted and written anew, an old reference may be left over: then, and
    only then, the library is asked.
    """
    attribute = file.attrs.get_id("json")
    if attribute.shape != () or attribute.dtype.kind not in "OS":
        raise ValueError("the attribute 'json' is not a text")
    if attribute.dtype.kind == "O":  # of variable length, as h5py writes a text
        texts = _referenced_texts(data, b"json\0")
        if not texts:
            raise ValueError("the text of the attribute 'json' is not where the file says")
        if len(texts) == 1:
            return texts.pop()
    text = file.attrs["json"]
    if not isinstance(text, str | bytes):
        raise ValueError("the attribute 'json' is not a text")
    return text


def _referenced_texts(data: bytes, name: bytes) -> set[bytes]:
    """Texts that an attribute of this name refers to.

    In an attribute's message the name is followed by its type and shape (some 50 bytes), and these
    by the reference: length of the text (4 bytes), address of a heap (8), index of an object (4).
    """
    objects = dict(_heap_objects(data))
    found, place = set(), data.find(name)
    while place >= 0:
        for start in range(place + len(name), place + len(name) + 128):
            length = int.from_bytes(data[start : start + 4], "little")
            text = objects.get(data[start + 4 : start + 16])
            if text is not None and length <= len(text):
                found.add(text[:length])
        place = data.find(name, place + 1)
    return found


def _heap_objects(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Objects of HDF5's global heaps, where texts of variable length lie, with what refers to them.

    A heap is ``GCOL``, version (4 bytes with padding), length (8), then objects: index (2 bytes),
    uses (2), padding (4), length (8), data padded to a multiple of eight.
    """
    heap = data.find(b"GCOL")
    while heap >= 0:
        end = min(heap + int.from_bytes(data[heap + 8 : heap + 16], "little"), len(data))
        place = heap + 16
        while place + 16 <= end:
            size = int.from_bytes(data[place + 8 : place + 16], "little")
            reference = heap.to_bytes(8, "little") + data[place : place + 2] + b"\0\0"
            yield reference, data[place + 16 : min(place + 16 + size, end)]
            place += 16 + -(-size // 8) * 8
        heap = data.find(b"GCOL", heap + 4)


class _Arrays:
    """Reads root data sets by name, and no more bytes in all than ``budget``."""

    def __init__(self, file, budget: int):
        self.file, self.budget = file, budget

    def __call__(self, name: str) -> np.ndarray:
        import h5py

        match = _DATASET.fullmatch(name)
        link = self.file.get(match[1], getlink=True) if match else None
        # a soft or external link may lead anywhere
        if match is None or not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name[:40]!r} names no data set of the file")
        item = self.file[match[1]]
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiub":
            raise ValueError(f"{name[:40]!r} is not an array of numbers")
        if item.is_virtual or item.external:
            raise ValueError(f"{name[:40]!r} has its numbers in another file")
        self.budget -= int(np.prod([float(n) for n in item.shape])) * item.dtype.itemsize
        if self.budget < 0:
            raise ValueError(f"{name[:40]!r} states shape {item.shape}, more than the file can hold")
        return np.asarray(item[()])


def _resolve(node, arrays: _Arrays, below_variables: bool, depth: int = 0):
    """Put arrays in place of their names: every text below a key "@variables"."""
    if depth > DEPTH_LIMIT:
        raise ValueError(f"the tree is nested deeper than {DEPTH_LIMIT}")
    if isinstance(node, dict):
        return {
            key: _resolve(value, arrays, below_variables or key == "@variables", depth + 1)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_resolve(value, arrays, below_variables, depth + 1) for value in node]
    return arrays(node) if below_variables and isinstance(node, str) else node


def _encode_hdf5(tree: dict) -> bytes:
    """The file's bytes, made in memory: HDF5 never meets a full disk."""
    import h5py

    with h5py.File("model", "w", driver="core", backing_store=False) as file:
        number = iter(range(1 << 31))

        def store(array):
            return file.create_dataset(f"variable_{next(number):04d}", data=array).name

        file.attrs["json"] = json.dumps(_map_tree(tree, store), separators=(",", ":"))
        file.flush()
        return file.id.get_file_image()


# --- YAML -----------------------------------------------------------------------------------------


def _yaml():
    try:
        import yaml
    except ImportError as error:
        raise MissingPackage("pyyaml", "yaml", "a model in YAML") from error
    return yaml


def _read_yaml(path: Path) -> dict:
    yaml = _yaml()
    size = path.stat().st_size
    if size > YAML_LIMIT:
        raise FileError(
            f"{path}: has {size} bytes; expected at most {YAML_LIMIT} of YAML. "
            "Convert it to .dp with DeePMD-kit's `dp convert-backend`"
        )
    text, loader = path.read_text(encoding="utf-8"), _plain_loader(yaml)
    _check_depth(yaml, text, loader)
    tree = yaml.load(text, Loader=loader)
    # each value takes at least one character, unless aliases were made to multiply
    return _restore(tree, _Budget(size))


def _plain_loader(yaml):
    """PyYAML's safe loader, left with mappings, sequences, texts, numbers, booleans and null."""
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    kept = (None, *(f"tag:yaml.org,2002:{t}" for t in "map seq str int float bool null".split()))

    class PlainLoader(base):  # type: ignore[misc, valid-type]
        yaml_constructors = {  # noqa: RUF012 (PyYAML's own class attribute)
            tag: base.yaml_constructors[tag] for tag in kept if tag in base.yaml_constructors
        }

    return PlainLoader


def _check_depth(yaml, text: str, loader) -> None:
    """Refuse deep nesting before PyYAML's recursive composer, in C, overflows the stack."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_LIMIT:
            raise ValueError(f"the tree is nested deeper than {DEPTH_LIMIT}")


class _Budget:
    """Counts values; raises when there are more than the text can have written out."""

    def __init__(self, left: int):
        self.left = left

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("aliases multiply the text beyond its own length")


def _restore(node, budget: _Budget, depth: int = 0) -> Any:
    """Turn the mappings that stand for arrays back into arrays."""
    budget.spend()
    if depth > DEPTH_LIMIT:
        raise ValueError(f"the tree is nested deeper than {DEPTH_LIMIT}")
    if isinstance(node, dict):
        if node.get("@class") == "np.ndarray":
            return _restore_array(node, budget)
        return {key: _restore(value, budget, depth + 1) for key, value in node.items()}
    if isinstance(node, list):
        return [_restore(value, budget, depth + 1) for value in node]
    return node


def _restore_array(node: dict, budget: _Budget) -> np.ndarray:
    dtype = np.dtype(str(node["dtype"]))
    if dtype.kind not in "fiub":
        raise ValueError(f"an array has dtype {dtype}; expected numbers")
    stack = [(node["value"], 0)]
    while stack:
        value, depth = stack.pop()
        budget.spend()
        if depth > DEPTH_LIMIT:
            raise ValueError(f"an array is nested deeper than {DEPTH_LIMIT}")
        if isinstance(value, list):
            stack.extend((v, depth + 1) for v in value)
        elif not isinstance(value, int | float):
            raise ValueError(f"an array holds a {type(value).__name__}; expected numbers")
    return np.asarray(node["value"], dtype=dtype)


def _encode_yaml(tree: dict) -> bytes:
    yaml = _yaml()

    def spell_out(array):
        return {
            "@class": "np.ndarray",
            "@is_variable": True,
            "@version": 1,
            "dtype": array.dtype.name,
            "value": array.tolist(),
        }

    base = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class PlainDumper(base):  # type: ignore[misc, valid-type]
        def ignore_aliases(self, data):
            return True

    plain = _map_tree(tree, spell_out)
    text = yaml.dump(plain, Dumper=PlainDumper, sort_keys=False, default_flow_style=None)
    return text.encode("utf-8")
