"""An `OnlineTrainer` in a group of the host's own HDF5 file.

    group             attributes: format, version, kind (of potential), steps;
                      complete (False while it is being written)
    group/json        model, info, optimizer, generator
    group/potential   weights, bias_atom_e, out_bias, and the form's statistics (davg, dstd, …)
    group/filter      arrays and attributes of `RLEKF.state`, and of the averaged weights
    group/gate        the same of `Gate.state`, if there is a gate
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import h5py
import numpy as np

from kalmandp.errors import FileError, InputError, KalmanDPError
from kalmandp.potentials.potential import Potential

FORMAT = "kalmandp online trainer"
VERSION = 2
GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


class Saved(NamedTuple):
    """What a group holds; arrays of P in ``state`` are data sets of the open file; ``gate`` may be {}."""

    potential: Potential
    optimizer: dict
    rng: np.random.Generator
    state: dict
    gate: dict
    steps: int


def write_group(group: h5py.Group, *, potential: Potential, optimizer, rng, state, gate, steps) -> None:
    """Fill a group; see `OnlineTrainer.save`."""
    ours = group.attrs.get("format") == FORMAT.encode()
    if len(group) and not ours:
        raise InputError(
            f"{group.file.filename}:{group.name}: holds {', '.join(list(group)[:3])}; "
            "expected an empty group, or one written by OnlineTrainer.save"
        )
    group.attrs["format"] = np.bytes_(FORMAT)
    group.attrs["version"] = VERSION
    group.attrs["complete"] = False
    for name in list(group):
        del group[name]
    made_of = potential.state()
    group.attrs["kind"] = np.bytes_(made_of["kind"])
    _put_json(group, "model", made_of["form"])
    _put_json(group, "info", made_of["info"])
    _put_json(group, "optimizer", optimizer)
    _put_json(group, "generator", rng.bit_generator.state)
    arrays = group.create_group("potential")
    for name, array in made_of["arrays"].items():
        _put(arrays, name, array)
    for name, value in state.items():
        _put(group, f"filter/{name}", value)
    for name, value in gate.items():
        _put(group, f"gate/{name}", value)
    group.attrs["steps"] = int(steps)
    group.attrs["complete"] = True


def read_group(group: h5py.Group, engine: str | None) -> Saved:
    """Read a group; see `OnlineTrainer.restore`."""
    where = f"{group.file.filename}:{group.name}"
    if group.attrs.get("format") != FORMAT.encode():
        raise FileError(f"{where}: is not a group written by OnlineTrainer.save")
    if int(group.attrs.get("version", 0)) > VERSION:
        raise FileError(f"{where}: version is {group.attrs['version']}; this program reads up to {VERSION}")
    if not group.attrs.get("complete", False):
        raise FileError(f"{where}: was not written to its end; expected a whole one, saved before")
    try:
        made_of = {
            "kind": group.attrs.get("kind", b"se_e2_a").decode(),  # up to version 1 there was one
            "form": _get_json(group, "model"),
            "info": _get_json(group, "info"),
            "arrays": {name: data[()] for name, data in group["potential"].items()},
        }
        potential = Potential.from_state(made_of, engine)
        return Saved(
            potential,
            _get_json(group, "optimizer"),
            _generator(_get_json(group, "generator")),
            _filter_state(group["filter"]),
            _gate_state(group["gate"]) if "gate" in group else {},
            int(group.attrs["steps"]),
        )
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, FileError):
            raise
        reason = error if isinstance(error, KalmanDPError) else f"cannot be read ({error})"
        raise FileError(f"{where}: {reason}") from error


def _put(group: h5py.Group, name: str, value: Any) -> None:
    """An array becomes a data set with a checksum in each chunk, a number or text an attribute."""
    if isinstance(value, np.ndarray):
        chunked = {"chunks": True, "fletcher32": True} if value.size and value.ndim else {}
        group.create_dataset(name, data=value, **chunked)
    else:
        folder, _, leaf = name.rpartition("/")
        group.require_group(folder).attrs[leaf] = np.bytes_(value) if isinstance(value, str) else value


def _put_json(group: h5py.Group, name: str, value: Any) -> None:
    plain = lambda v: v.tolist() if isinstance(v, (np.ndarray, np.generic)) else str(v)
    _put(group, f"json/{name}", np.frombuffer(json.dumps(value, default=plain).encode(), dtype=np.uint8))


def _get_json(group: h5py.Group, name: str) -> Any:
    return json.loads(group[f"json/{name}"][()].tobytes())


def _generator(state: dict) -> np.random.Generator:
    kind = state["bit_generator"]
    if kind not in GENERATORS:
        raise ValueError(f"random generator {kind!r}; expected one of {', '.join(GENERATORS)}")
    rng = np.random.Generator(getattr(np.random, kind)())
    rng.bit_generator.state = state
    return rng


def _filter_state(group: h5py.Group) -> dict[str, Any]:
    """`RLEKF.state` as it was, but P left in the file: `RLEKF.from_state` reads it piece by piece."""
    P = {**_numbers(group["P"]), **group["P"]}
    rest = {name: data[()] for name, data in group.items() if name != "P"}
    return {**_numbers(group), **rest, **{f"P/{name}": value for name, value in P.items()}}


def _gate_state(group: h5py.Group) -> dict[str, Any]:
    recent = {f"recent/{kind}": data[()] for kind, data in group["recent"].items()}
    return {**_numbers(group), **recent, "left_out": group["left_out"][()]}


def _numbers(group: h5py.Group) -> dict[str, Any]:
    return {name: v.item() if isinstance(v, np.generic) else v for name, v in group.attrs.items()}
