"""Refine a model that DeePMD-kit trained with Adam: two passes of RLEKF, and what they change.

    python examples/refine/refine.py [-o FOLDER] [--smoke]

``adam.dp`` is ``examples/deepmd_input/input.json`` trained by DeePMD-kit 3.2 (``dp --pt train input.json``,
4000 steps, ``dp convert-backend model.ckpt.pt adam.dp``). The same from the command line::

    kalmandp train examples/refine/input.json --init-model examples/refine/adam.dp -o run

The prior is narrow, ``"p0": 0.01``: these weights are known, and a wide one would first forget the energies.
R is fixed, ``"adapt": 0``: the errors are small from the first step on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import kalmandp
from kalmandp.plots.errors import error_histogram
from kalmandp.training.report.metrics import compare, summarize
from kalmandp.training.report.summary import error_table

HERE = Path(__file__).parent
TEST = HERE.parents[1] / "data" / "si64_lda_test.h5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("refined"))
    parser.add_argument("--smoke", action="store_true", help="three steps, four frames, to see that it works")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    settings = json.loads((HERE / "input.json").read_text())
    if args.smoke:
        del settings["training"]["numb_epoch"]
        settings["training"] |= {"numb_steps": 3, "disp_freq": 1}
    settings = kalmandp.read_input(settings, folder=HERE)
    for record in kalmandp.train(settings, output=args.output, init_model=HERE / "adam.dp"):
        if "display" in record.event:
            energy, force = 1e3 * record.valid_e, 1e3 * record.valid_f
            print(f"step {record.step:4d}: {energy:6.2f} meV/atom {force:7.1f} meV/Å")

    models = {"Adam": HERE / "adam.dp", "refined by RLEKF": args.output / "model.dp"}
    compared = {}
    with kalmandp.Dataset(TEST) as frames:
        for name, path in models.items():
            compared[name] = compare(kalmandp.Potential.load(path), frames[:4] if args.smoke else frames)
            print(f"\n{name}, {len(compared[name].energy)} frames that neither has seen:\n")
            print(error_table(summarize(compared[name])))
    print(error_histogram(compared, args.output / "errors.png"))


if __name__ == "__main__":
    main()
