"""Optimizers by name: the sections of an input that a name stands for.

"default", "paper" and the package's other presets are filters, each of its own type: RLEKF, or GEKF for
"n2p2" and "matpl-gkf", whose P is one block. "adam" is Adam with DeePMD-kit's loss and learning rate, which
falls over the run's own number of steps. A number after a hyphen is that many epochs instead of the study's:
"adam-300" is Adam whose schedule is stretched over 300 epochs.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from kalmandp.errors import InputError, require
from kalmandp.training.config.inputs import read_optimizer
from kalmandp.training.config.presets import PRESETS, stated_type
from kalmandp.training.config.settings import KALMAN_TYPES, OPTIMIZER_TYPES

#: Adam's learning rate and loss: DeePMD-kit's defaults, as its water example has them.
ADAM = {
    "optimizer": {"type": "Adam"},
    "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 3.51e-8, "decay_steps": 5000},
    "loss": {
        "type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1,
        "start_pref_v": 0, "limit_pref_v": 0,
    },
}  # fmt: skip
PARTITIONS = ("GEKF", "SEKF", "LEKF", "RLEKF")


class Optimizer(NamedTuple):
    """A name, the sections of the input it stands for, and its own number of epochs (None: the study's)."""

    name: str
    sections: dict[str, Any]
    epochs: float | None = None

    @property
    def is_kalman(self) -> bool:
        return self.sections["optimizer"]["type"] in KALMAN_TYPES

    @property
    def base(self) -> str:
        """The name without its number of epochs."""
        return _split(self.name)[0]


def optimizer(name: str) -> Optimizer:
    """The optimizer of a name: "adam", a preset, "GEKF" …, each with "-EPOCHS"; or "NAME={JSON keys}".

    Raises
    ------
    InputError
        For a name that is none of them, or keys that the section ``optimizer`` does not have.
    """
    label, equals, keys = name.partition("=")
    if equals:
        taken = label in ("adam", *PRESETS) or label.upper() in OPTIMIZER_TYPES
        require(not taken, "the name of an optimizer with keys", repr(label), "one that is not in use")
        return with_keys(label, _json(label, keys))
    base, epochs = _split(name)
    if base == "adam":
        return Optimizer(name, ADAM, epochs)
    if base in PRESETS:
        return Optimizer(name, {"optimizer": {"type": PRESETS[base].type, "preset": base}}, epochs)
    if base.upper() in OPTIMIZER_TYPES:
        return Optimizer(name, {"optimizer": {"type": base.upper()}}, epochs)
    wanted = ", ".join(["adam", *PRESETS, *(p.lower() for p in PARTITIONS)])
    raise InputError(f"--optimizers has {name!r}; expected {wanted}, NAME-EPOCHS, or NAME={{JSON keys}}")


def with_keys(name: str, keys: dict) -> Optimizer:
    """The filter of these keys of the section ``optimizer``, checked; RLEKF if they do not say which."""
    section = {"type": stated_type({"preset": "default", **keys}), **keys}
    read_optimizer(section)
    return Optimizer(name, {"optimizer": section})


def _split(name: str) -> tuple[str, float | None]:
    found = re.fullmatch(r"(.+)-(\d+(?:\.\d+)?)", name)
    return (found.group(1), float(found.group(2))) if found else (name, None)


def _json(name: str, text: str) -> dict:
    try:
        keys = json.loads(text)
    except ValueError as error:
        raise InputError(f"optimizer {name!r}: {text!r} is not JSON ({error})") from None
    if not isinstance(keys, dict):
        raise InputError(f"optimizer {name!r}: {text!r} is not an object {{…}} of the keys of 'optimizer'")
    return keys
