"""An `OnlineTrainer` in a group of the host's own HDF5 file.

    group             attributes: format, version, kind (of potential), steps;
                      complete (False while it is being written)
    group/json        model, info, optimizer, generator
    group/potential   weights, bias_atom_e, out_bias, and the form's statistics (davg, dstd, …)
    group/filter      arrays and attributes of `RLEKF.state`, and of the averaged weights
    group/gate        the same of `Gate.state`, if there is a gate
"""

from __future__ import annotations

from typing import NamedTuple

import h5py
import numpy as np

from kalmandp.errors import FileError, InputError, KalmanDPError
from kalmandp.potentials.potential import Potential
from kalmandp.training.state import codec
from kalmandp.training.state.codec import array

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
    calibration: dict


def write_group(
    group: h5py.Group, *, potential: Potential, optimizer, rng, state, gate, steps, calibration
) -> None:
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
    trees = {"model": made_of["form"], "info": made_of["info"], "optimizer": optimizer}
    codec.put_json(group, trees | {"generator": rng.bit_generator.state})
    codec.put(group.create_group("potential"), made_of["arrays"])
    codec.put(group.create_group("filter"), state)
    if gate:
        codec.put(group.create_group("gate"), gate)
    if calibration:
        codec.put(group.create_group("calibration"), calibration)
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
            "kind": codec.attribute(group, "kind") if "kind" in group.attrs else "se_e2_a",  # version 1
            "form": codec.get_json(group, "model"),
            "info": codec.get_json(group, "info"),
            "arrays": codec.get(group["potential"], array),
        }
        potential = Potential.from_state(made_of, engine)
        return Saved(
            potential,
            codec.get_json(group, "optimizer"),
            _generator(codec.get_json(group, "generator")),
            codec.get(group["filter"], lambda data: data),
            codec.get(group["gate"], array) if "gate" in group else {},
            int(group.attrs["steps"]),
            codec.get(group["calibration"], array) if "calibration" in group else {},
        )
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, FileError):
            raise
        reason = error if isinstance(error, KalmanDPError) else f"cannot be read ({error})"
        raise FileError(f"{where}: {reason}") from error


def _generator(state: dict) -> np.random.Generator:
    kind = state["bit_generator"]
    if kind not in GENERATORS:
        raise ValueError(f"random generator {kind!r}; expected one of {', '.join(GENERATORS)}")
    rng = np.random.Generator(getattr(np.random, kind)())
    rng.bit_generator.state = state
    return rng
