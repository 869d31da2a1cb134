"""An input as DeePMD-kit's water example has it, and what a changed one is answered."""

from __future__ import annotations

import copy
import json

import pytest

from kalmandp.errors import InputError
from kalmandp.training.config.inputs import read_input

#: The shape of DeePMD-kit's water example, comments and repeated comments included.
WATER = """{
  "_comment": "model parameters",
  "model": {
    "type_map": ["O", "H"],
    "descriptor": {"type": "se_e2_a", "sel": [46, 92], "rcut_smth": 0.50, "rcut": 6.00,
      "neuron": [25, 50, 100], "resnet_dt": false, "axis_neuron": 16, "seed": 1,
      "_comment": "that's all"},
    "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": true, "seed": 2, "_comment": "that's all"},
    "_comment": "that's all", "_comment": "twice"
  },
  "learning_rate": {"type": "exp", "decay_steps": 4000, "start_lr": 0.002, "stop_lr": 3.51e-8},
  "loss": {"type": "ener", "start_pref_e": 0.03, "limit_pref_e": 1, "start_pref_f": 900,
    "limit_pref_f": 1, "start_pref_v": 0, "limit_pref_v": 0},
  "training": {
    "training_data": {"systems": ["../data/data_0/", "../data/data_1/"], "batch_size": "auto"},
    "validation_data": {"systems": ["../data/data_3"], "batch_size": 1, "numb_btch": 3},
    "numb_steps": 1000000, "seed": 10, "disp_file": "lcurve.out", "disp_freq": 100, "save_freq": 1000
  }
}"""


@pytest.fixture
def water() -> dict:
    return json.loads(WATER)


def change(tree: dict, path: str, value) -> dict:
    """A copy of ``tree`` with the key at ``path`` set."""
    tree = copy.deepcopy(tree)
    *sections, key = path.split("/")
    at = tree
    for section in sections:
        at = at.setdefault(section, {})
    at[key] = value
    return tree


def message(tree) -> str:
    with pytest.raises(InputError) as caught:
        read_input(tree)
    assert "\n" not in str(caught.value)
    return str(caught.value)
