"""The state of learning on the fly in its folder.

    state.h5      the learner as of the last label; written after each
    dynamics.h5   the learner and the simulation as of the last `OnTheFly.save`

    /trainer      `OnlineTrainer.save`
    /calculator   attributes: learned (labels in the model), steps, next, gap, alone, seconds;
                  records: `records.Records.array`
    /dynamics     positions, momenta, cell; results/…; more/…
    /json         species; generator, more (numbers)

Both are written beside and renamed. Labels are not in them: they are in files of their own (`labels`) before
they are learned.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from kalmandp.errors import FileError, InputError, require
from kalmandp.files import naming
from kalmandp.files.hdf5_writing import writing_hdf5
from kalmandp.on_the_fly.labels import FILE as LABELS_FILE
from kalmandp.on_the_fly.learner import Learner
from kalmandp.training.online import OnlineTrainer
from kalmandp.training.state import codec

STATE, DYNAMICS = "state.h5", "dynamics.h5"
FORMAT = "kalmandp on the fly"


def save(calculator: Any, file: str, dynamics: dict | None = None) -> None:
    """Write the state of an `OnTheFly` into its folder."""
    c, path = calculator, calculator.folder / file
    require(c.learner is not None, "the potential", None, "one: `save` comes after the first step")
    with naming(path), writing_hdf5(path) as writer:
        root = writer.file
        root.attrs["format"] = np.bytes_(FORMAT)
        c.learner.online.save(root.create_group("trainer"))
        codec.put(root.create_group("calculator"), {
            "learned": len(c.learner.frames), "steps": c.steps, "next": c._next, "gap": c._gap,
            "alone": int(c._alone), "seconds": c._seconds, "records": c.records.array,
        })  # fmt: skip
        trees = {"species": list(c.species)}
        if dynamics is not None:
            trees |= {"generator": dynamics["generator"], "more": dynamics["more"]}
            codec.put(root.create_group("dynamics"), dynamics["arrays"])
        codec.put_json(root, trees)
        writer.check()


def restore(calculator: Any, file: str) -> dict | None:
    """Put an `OnTheFly` into the state that `save` has written; what it saved of the simulation, if any."""
    c, path = calculator, calculator.folder / file
    try:
        with h5py.File(path, "r") as root:
            if root.attrs.get("format") != FORMAT.encode():
                raise FileError(f"{path}: is not a state of OnTheFly")
            online = OnlineTrainer.restore(root["trainer"], threads=c.threads)
            of = codec.get(root["calculator"], codec.array)
            species = codec.get_json(root, "species")
            dynamics = None
            if "dynamics" in root:
                dynamics = {
                    "arrays": codec.get(root["dynamics"], codec.array),
                    "generator": codec.get_json(root, "generator"), "more": codec.get_json(root, "more"),
                }  # fmt: skip
    except FileError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise FileError(f"{path}: cannot be read as a state of OnTheFly ({error})") from error
    if len(c.labels) < of["learned"]:
        raise FileError(
            f"{c.folder / LABELS_FILE}: has {len(c.labels)} labels; expected the {of['learned']} that the "
            "model has learned"
        )
    if c.species is not None:
        new = sorted(set(c.species) - set(species))
        require(not new, "species", ", ".join(c.species), f"those of {path}, {', '.join(species)}")
    c.species = tuple(species)
    c.learner = Learner(online, c.seed)
    c.learner.frames = list(c.labels[: of["learned"]])
    c.steps, c._next, c._gap, c._alone = of["steps"], of["next"], of["gap"], bool(of["alone"])
    c._seconds = of["seconds"]
    c.records.restore(of["records"])
    return dynamics


def dynamics_of(atoms: Any, rng: Any, more: dict, calculator: Any) -> dict:
    """What `save` keeps of a simulation."""
    arrays = {
        "positions": atoms.get_positions(), "momenta": atoms.get_momenta(), "cell": np.array(atoms.cell)
    }  # fmt: skip
    current = not calculator.check_state(atoms)
    require(current, "the atoms", "not those computed last", "atoms whose forces this calculator has")
    arrays |= {f"results/{name}": np.asarray(value) for name, value in calculator.results.items()}
    numbers = {}
    for name, value in more.items():
        if isinstance(value, np.ndarray):
            arrays[f"more/{name}"] = value
        elif isinstance(value, (bool, int, float, str, np.generic)):
            numbers[name] = value
        else:
            raise InputError(f"{name} is a {type(value).__name__}; expected a number, a text or an array")
    return {"arrays": arrays, "generator": _generator_state(rng), "more": numbers}


def put_back(calculator: Any, dynamics: dict, atoms: Any, rng: Any) -> dict:
    """Give atoms and generator what `dynamics_of` has taken; what else there was."""
    arrays = dynamics["arrays"]
    shape = arrays["positions"].shape
    require(len(atoms) == len(arrays["positions"]), "the number of atoms", len(atoms), shape[0])
    atoms.set_cell(arrays["cell"])
    atoms.set_positions(arrays["positions"], apply_constraint=False)
    atoms.set_momenta(arrays["momenta"], apply_constraint=False)
    _set_generator(rng, dynamics["generator"])
    found = {n.partition("/")[2]: v for n, v in arrays.items() if n.startswith("results/")}
    calculator.results = {n: float(v) if v.ndim == 0 else v for n, v in found.items()}
    calculator.atoms = atoms.copy()
    more = {n.partition("/")[2]: v for n, v in arrays.items() if n.startswith("more/")}
    return dynamics["more"] | more


def _generator_state(rng: Any):
    if rng is None:
        return None
    if isinstance(rng, np.random.RandomState):
        state: Any = rng.get_state()
        return {"random_state": [state[0], state[1].tolist(), *state[2:]]}
    require(isinstance(rng, np.random.Generator), "rng", type(rng).__name__, "RandomState or Generator")
    return rng.bit_generator.state


def _set_generator(rng: Any, state: Any) -> None:
    if state is None or rng is None:
        require((state is None) == (rng is None), "rng", rng, "one, as `save` was given, or none")
        return
    if isinstance(rng, np.random.RandomState):
        require("random_state" in state, "rng", "a RandomState", state.get("bit_generator"))
        name, keys, *rest = state["random_state"]
        rng.set_state((name, np.array(keys, dtype=np.uint32), *rest))
        return
    rng.bit_generator.state = state
