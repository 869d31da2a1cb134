"""GPUMD's nep.in, as an input of this package: the keywords that say the same, and what the others mean.

``kalmandp train nep.in`` in a folder with nep.in, train.xyz and, if there is one, test.xyz does what GPUMD's
``nep`` does, with the Kalman filter: model and data are the same, the optimizer is another.

- lambda_e, lambda_f, lambda_v weigh energies, forces and virials. A filter weighs a number by the noise that
  is expected of it: σ is divided by λ (in units of GPUMD's defaults 1, 1, 0.1).
- type_weight, force_delta and lambda_shear weigh single numbers, as the keys weight and energy_weight of
  train.xyz weigh frames: R is divided by their squares (`training.measurements.weights`).
- population, generation, lambda_1, … belong to GPUMD's evolution strategy. ``--optimizer SNES`` takes them;
  otherwise they are named in one notice.

Source: GPUMD's manual, "The nep.in input file".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kalmandp.bridges.translated import Translated
from kalmandp.errors import FileError, InputError

#: Files beside nep.in that GPUMD reads.
TRAIN, TEST, MODEL = "train.xyz", "test.xyz", "nep.txt"
#: GPUMD's default weights of the loss.
LAMBDA = {"lambda_e": 1.0, "lambda_f": 1.0, "lambda_v": 0.1}
#: σ of the filter where a weight is at its default: eV/atom, eV/Å, eV/atom.
SIGMA = {"lambda_e": ("sigma_e", 1e-4), "lambda_f": ("sigma_f", 1e-2), "lambda_v": ("sigma_w", 5e-3)}
#: What every frame of an extended XYZ has once, in any case, with blanks or none.
LATTICE = re.compile(r"\blattice\s*=", re.IGNORECASE)
#: GPUMD's default number of frames to a generation.
BATCH = 1000
#: Updates that a run is long enough for, and the fewest and most passes over the frames.
UPDATES, PASSES = 1500, (6, 40)
#: Keywords of other kinds of model, and what they ask for.
OTHER_KINDS = {
    "charge_mode": "a model with charges", "vdw": "a model with dispersion", "atomic_v": "atomic virials",
    "lambda_q": "charges", "lambda_z": "Born effective charges",
}  # fmt: skip


def _numbers(least: int, most: int | None = None, kind: Callable = float) -> Callable:
    """A check: so many numbers."""

    def check(words: list[str]):
        if not least <= len(words) <= (least if most is None else most):
            raise ValueError(f"{least} to {most} numbers" if most is not None else f"{least} numbers")
        try:
            return [kind(word) for word in words]
        except ValueError:
            raise ValueError("whole numbers" if kind is int else "numbers") from None

    return check


def _types(words: list[str]) -> list[str]:
    if not words or not words[0].isdigit() or int(words[0]) != len(words) - 1:
        raise ValueError("the number of types, then as many names")
    return words[1:]


#: Keywords and the check of their values.
KEYWORDS: dict[str, Callable] = {
    "version": _numbers(1, kind=int), "type": _types, "model_type": _numbers(1, kind=int),
    "prediction": _numbers(1, kind=int), "cutoff": _numbers(2, 200), "n_max": _numbers(2, kind=int),
    "basis_size": _numbers(2, kind=int), "l_max": _numbers(1, 7, int), "neuron": _numbers(1, 2, int),
    "lambda_1": _numbers(1), "lambda_2": _numbers(1), "lambda_e": _numbers(1), "lambda_f": _numbers(1),
    "lambda_v": _numbers(1), "lambda_shear": _numbers(1), "force_delta": _numbers(1),
    "type_weight": _numbers(1, 100), "batch": _numbers(1, 2, int), "population": _numbers(1, kind=int),
    "generation": _numbers(1, kind=int), "save_potential": _numbers(1, 3, int),
    "output_interval": _numbers(1, kind=int), "output_descriptor": _numbers(1, kind=int),
    "initial_para": _numbers(1), "sigma0": _numbers(1), "zbl": _numbers(1, 2),
    "use_typewise_cutoff_zbl": _numbers(0, 1), "use_typewise_cutoff": _numbers(0, 2),
    "fine_tune": lambda words: words, "import_q_scaler": _numbers(1, kind=int),
    **{name: lambda words: words for name in OTHER_KINDS},
}  # fmt: skip

#: Keywords of GPUMD's evolution strategy that `--optimizer SNES` takes, and their keys here.
SNES = {
    "population": "population", "sigma0": "sigma0", "lambda_e": "lambda_e", "lambda_f": "lambda_f",
    "lambda_v": "lambda_v",
}  # fmt: skip
#: Keywords that change nothing for any optimizer here.
IDLE = ("lambda_1", "lambda_2", "save_potential", "output_descriptor", "initial_para")
#: Keywords that the filter alone obeys.
OF_FILTER = ("type_weight", "force_delta", "lambda_shear")


def recognises(path) -> bool:
    """Whether a file is a nep.in: most lines begin with a keyword of GPUMD's, one of them with ``type``."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(1 << 16)
    except (OSError, UnicodeDecodeError):
        return False
    words = [line.split("#")[0].split() for line in text.splitlines()]
    first = [line[0].lower() for line in words if line]
    return "type" in first and 2 * sum(word in KEYWORDS for word in first) >= len(first)


def read(path, optimizer: str | None = None) -> Translated:
    """Translate a nep.in.

    Parameters
    ----------
    path : of nep.in; train.xyz and test.xyz are expected beside it
    optimizer : "SNES", "Adam" or a filter; by default the filter

    Raises
    ------
    FileError
        If train.xyz, or a file that nep.in names, is missing.
    InputError
        For a keyword that is not known, or a value that does not fit; the line is named.
    """
    path = Path(path)
    stated = _stated(path)
    folder = path.parent
    train = folder / TRAIN
    if not train.is_file():
        raise FileError(f"{train}: no such file; expected the training frames beside {path.name}")
    one = lambda name, default: stated.get(name, [default])[0]
    if one("model_type", 0) != 0:
        raise InputError(f"{path}: model_type is {one('model_type', 0)}; expected 0, a potential")
    others = [OTHER_KINDS[name] for name in OTHER_KINDS if name in stated and stated[name] != ["0"]]
    if others:
        raise InputError(f"{path}: asks for {', '.join(others)}; expected a potential of energies and forces")
    if len(stated.get("neuron", [30])) > 1:
        raise InputError(f"{path}: neuron names two layers; expected one")
    if "type" not in stated:
        raise InputError(f"{path}: the keyword 'type' is missing; expected it with the names of the types")
    model: dict[str, Any] = {"type": "nep", "type_map": stated["type"]}
    for name in ("cutoff", "n_max", "basis_size", "l_max"):
        if name in stated:
            model[name] = stated[name]
    for name in ("version", "neuron"):
        if name in stated:
            model[name] = one(name, None)
    if "zbl" in stated:
        model["zbl"] = stated["zbl"][-1]
    if "use_typewise_cutoff_zbl" in stated:
        model["use_typewise_cutoff_zbl"] = (stated["use_typewise_cutoff_zbl"] or [True])[0]
    section = _optimizer(stated, optimizer or "RLEKF")
    test, frames = folder / TEST, _frames(train)
    training: dict[str, Any] = {
        "training_data": {"systems": [TRAIN]}, "numb_epoch": _passes(frames), "disp_freq": 100,
        "model_file": MODEL, "seed": 1,
    }  # fmt: skip
    if section["type"] == "SNES":
        del training["numb_epoch"]
        training["numb_steps"] = one("generation", 100_000)
        training["disp_freq"] = one("output_interval", 100)
        training["training_data"]["batch_size"] = max(1, min(one("batch", BATCH), frames))
    if test.is_file():
        training["validation_data"] = {"systems": [TEST]}
    task = "predict" if one("prediction", 0) else "train"
    start = ""
    if task == "predict":
        start = str(folder / MODEL)
    elif "fine_tune" in stated:
        start = str(folder / _one_file(path, stated["fine_tune"]))
    tree = {"model": model, "optimizer": section, "training": training}
    return Translated(tree, _notices(stated, section["type"]), start, task)


def _stated(path: Path) -> dict[str, list]:
    """The keywords of a nep.in with their values."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: is not a text; expected GPUMD's nep.in") from None
    stated: dict[str, list] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        name, values = words[0].lower(), words[1:]
        where = f"{path} line {number}: {name}"
        if name not in KEYWORDS:
            raise InputError(f"{where} is not a keyword; expected one of {', '.join(sorted(KEYWORDS))}")
        if name in stated:
            raise InputError(f"{where} is there twice; expected it once")
        try:
            stated[name] = KEYWORDS[name](values)
        except ValueError as wanted:
            raise InputError(f"{where} is {' '.join(values)!r}; expected {wanted}") from None
    return stated


def _optimizer(stated: dict, name: str) -> dict[str, Any]:
    """The section ``optimizer``."""
    if name == "SNES":
        own = {ours: stated[theirs][0] for theirs, ours in SNES.items() if theirs in stated}
        return {"type": "SNES", "preset": "gpumd", **own}
    if name == "Adam":
        return {"type": "Adam"}
    if name == "n2p2":
        raise InputError('nep.in: optimizer is "n2p2", for an input.nn; expected our filter, Adam or SNES')
    section: dict[str, Any] = {"type": name, "with_virial": "present"}
    for weight, (sigma, usual) in SIGMA.items():
        if weight in stated:
            relative = stated[weight][0] / LAMBDA[weight]
            if relative <= 0:
                if weight == "lambda_v":
                    section["with_virial"] = False
                continue
            section[sigma] = usual / relative
    if "type_weight" in stated:
        weights = stated["type_weight"]
        if len(weights) != len(stated["type"]):
            wanted = f"one for each of {', '.join(stated['type'])}"
            raise InputError(f"nep.in: type_weight has {len(weights)} numbers; expected {wanted}")
        section["type_weight"] = dict(zip(stated["type"], weights, strict=True))
    for keyword in ("force_delta", "lambda_shear"):
        if keyword in stated and (keyword, stated[keyword]) != ("force_delta", [0.0]):  # GPUMD's 0: no δ
            section[keyword] = stated[keyword][0]
    return section


def _notices(stated: dict, optimizer: str) -> tuple[str, ...]:
    """One sentence for what has no meaning here."""
    evolution = optimizer == "SNES"
    own = (*IDLE, *(OF_FILTER if optimizer in ("SNES", "Adam") else ()))
    own = (*own, *(() if evolution else ("population", "generation", "sigma0", "batch")))
    idle = [name for name in own if name in stated]
    if not idle:
        return ()
    why = "" if optimizer == "SNES" else " (of GPUMD's evolution strategy: --optimizer SNES)"
    return (f"without effect here: {', '.join(idle)}{why}",)


def _frames(train: Path) -> int:
    """How many frames there are."""
    with open(train, encoding="utf-8", errors="replace") as file:
        return max(1, sum(LATTICE.search(line) is not None for line in file))


def _passes(frames: int) -> float:
    """Passes over the frames: enough for `UPDATES` updates."""
    return float(min(max(UPDATES // frames, PASSES[0]), PASSES[1]))


def _one_file(path: Path, words: list[str]) -> str:
    if not words:
        raise InputError(f"{path}: fine_tune names no file; expected nep.txt of the model to begin with")
    return words[0]
