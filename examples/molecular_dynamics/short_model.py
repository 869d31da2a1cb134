"""The potential that the examples of this folder simulate with: yours, or a rough one trained in seconds."""

from __future__ import annotations

import argparse
from pathlib import Path

import kalmandp

DATA = Path(__file__).parents[2] / "data" / "si64_lda_train.h5"


def arguments(description: str) -> argparse.Namespace:
    """What every script here takes: --model, --output, --smoke."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--model", metavar="MODEL.dp", help="as `kalmandp train examples/silicon/input.json -o run` leaves it"
    )
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path("md"))
    parser.add_argument("--smoke", action="store_true", help="a few steps, to see that all works")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    options.model = Path(options.model) if options.model else train(options.output, options.smoke)
    return options


def train(folder: Path, smoke: bool) -> Path:
    """A small network, a short cut-off, every fifth frame: enough to hold a crystal together."""
    with kalmandp.Dataset(DATA) as data:
        kalmandp.Dataset.write(folder / "short.h5", data[::5])
    settings = {
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
            "training_data": {"systems": [str(folder / "short.h5")]}, "numb_steps": 30 if smoke else 150,
            "seed": 1,
        },
    }  # fmt: skip
    print("no --model given: training a rough one on every fifth frame of", DATA.name)
    for _ in kalmandp.train(kalmandp.read_input(settings), output=folder):
        pass
    return folder / "model.dp"
