"""Everything a run needs to go on with the same bits, in one HDF5 file.

    /                 attributes: format, version, input (JSON), model (JSON), generator (JSON)
    /potential        weights, davg, dstd, bias_atom_e, out_bias
    /optimizer        arrays and attributes of the optimizer's state
    /feed             order of the frames; attributes epoch, position
    /history          lines of the learning curve (columns: `history.COLUMNS`)
    /progress         attributes step, seconds

Written beside and renamed: the last good checkpoint survives whatever happens.
"""

from __future__ import annotations

import json

import h5py
import numpy as np

from kalmandp.errors import FileError
from kalmandp.files import check_global_heaps, writing_hdf5
from kalmandp.potential.architecture import Architecture
from kalmandp.potential.potential import Potential

FORMAT = "kalmandp checkpoint"
VERSION = 1


def save_checkpoint(path, *, potential: Potential, source: dict, rng, states: dict, step, seconds):
    """Write a checkpoint.

    Parameters
    ----------
    path : file to write or replace
    potential : the model as it is now
    source : the input of the run
    rng : the generator of the run
    states : {"optimizer": …, "feed": …, "history": …}, dicts of arrays, numbers and strings
    step, seconds : progress so far
    """
    with writing_hdf5(path) as writer:
        file = writer.file
        file.attrs["format"] = np.bytes_(FORMAT)
        file.attrs["version"] = VERSION
        _put_json(file, "input", source)
        _put_json(file, "model", potential.architecture.to_dict())
        _put_json(file, "info", potential.info)
        _put_json(file, "generator", rng.bit_generator.state)
        group = file.create_group("potential")
        for name in ("weights", "davg", "dstd", "bias_atom_e", "out_bias"):
            _create(group, name, getattr(potential, name))
        for name, state in states.items():
            _put(file.create_group(name), state)
            writer.check()
        progress = file.create_group("progress")
        progress.attrs["step"], progress.attrs["seconds"] = int(step), float(seconds)


def load_checkpoint(path) -> dict:
    """Read a checkpoint: {"potential", "source", "generator", "optimizer", "feed", "history", …}.

    Raises
    ------
    FileError
        If the file is missing, damaged, or not a checkpoint.
    """
    try:
        check_global_heaps(path)
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT.encode():
                raise FileError(f"{path}: is not a checkpoint of this program")
            if int(file.attrs["version"]) > VERSION:
                raise FileError(
                    f"{path}: checkpoint version is {int(file.attrs['version'])}; "
                    f"this program reads up to {VERSION}"
                )
            architecture = Architecture(**_get_json(file, "model"))
            arrays = {name: np.array(data) for name, data in file["potential"].items()}
            weights = arrays.pop("weights")
            return {
                "potential": Potential(
                    architecture, weights, info=_get_json(file, "info"), **arrays
                ),
                "source": _get_json(file, "input"),
                "generator": _get_json(file, "generator"),
                "step": int(file["progress"].attrs["step"]),
                "seconds": float(file["progress"].attrs["seconds"]),
                **{name: _get(file[name]) for name in ("optimizer", "feed", "history")},
            }
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except FileError:
        raise
    except Exception as error:  # what a damaged file can raise in HDF5, JSON and NumPy is open-ended
        raise FileError(f"{path}: cannot be read as a checkpoint ({error})") from error


def _put_json(file, name: str, value) -> None:
    # bytes in a data set: attributes are limited to 64 KiB, texts of variable length carry no checksum
    text = json.dumps(value, default=_plain).encode()
    _create(file.require_group("json"), name, np.frombuffer(text, dtype=np.uint8))


def _get_json(file, name: str):
    return json.loads(file[f"json/{name}"][()].tobytes())


def _plain(value):
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _put(group, state: dict) -> None:
    """Arrays become data sets, numbers and strings attributes; "a/b" goes into group a."""
    for name, value in state.items():
        folder, _, leaf = name.rpartition("/")
        place = group.require_group(folder) if folder else group
        if isinstance(value, np.ndarray):
            _create(place, leaf, value)
        else:
            place.attrs[leaf] = np.bytes_(value) if isinstance(value, str) else value


def _create(place, name: str, value: np.ndarray) -> None:
    """A data set with a checksum in each chunk, so that damage is found when it is read."""
    chunked = {"chunks": True, "fletcher32": True} if value.size and value.ndim else {}
    place.create_dataset(name, data=value, **chunked)


def _get(group, prefix: str = "") -> dict:
    plain = lambda v: v.decode() if isinstance(v, bytes) else v.item() if isinstance(v, np.generic) else v
    state = {prefix + name: plain(value) for name, value in group.attrs.items()}
    for name, value in group.items():
        if isinstance(value, h5py.Group):
            state.update(_get(value, f"{prefix}{name}/"))
        else:
            state[prefix + name] = value[()]
    return state
