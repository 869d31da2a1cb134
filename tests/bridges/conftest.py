"""A small potential to simulate with."""

from __future__ import annotations

from pathlib import Path

import pytest
from n2p2_support import place  # noqa: F401  (a fixture)

SILICON = Path(__file__).parents[2] / "data" / "si64_lda_train.h5"


@pytest.fixture(scope="session")
def silicon(tmp_path_factory):
    """Path of a small model of silicon, trained for seconds: rough, but a crystal holds together in it."""
    from kalmandp import Dataset, read_input, train

    folder = tmp_path_factory.mktemp("silicon")
    with Dataset(SILICON) as data:
        Dataset.write(folder / "train.h5", data[::5])
    tree = {
        "model": {
            "type_map": ["Si"],
            "descriptor": {
                "type": "se_e2_a", "sel": [80], "rcut": 5.0, "rcut_smth": 1.0,
                "neuron": [6, 12], "axis_neuron": 4, "type_one_side": True,
            },
            "fitting_net": {"neuron": [16, 16], "resnet_dt": False},
        },
        "optimizer": {"type": "RLEKF"},
        "training": {
            "training_data": {"systems": [str(folder / "train.h5")]}, "numb_steps": 50, "seed": 1,
            "disp_freq": 1000, "save_freq": 1000,
        },
    }  # fmt: skip
    for _ in train(read_input(tree), output=folder):
        pass
    return folder / "model.dp"
