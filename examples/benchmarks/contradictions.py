"""How often labels are said to contradict the forces: consistent data, and planted contradictions.

    python examples/benchmarks/contradictions.py [--sets Si Cu …] [--kinds dp nep hdnnp]
        [--plants none …] [--small]

Short trainings on the fourteen sets of ``data/``, as long as an estimate needs to count
(`training.noise.estimates.NoiseEstimates.LEAST` updates). Printed is, for energies and virials, how many
times farther they are off than their σ⁰ says, beside the forces: s_c / max(1, s_F). Above
`training.noise.estimates.BOUND` a run warns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from support.turns import with_threads

import kalmandp
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run
from kalmandp.training.noise.estimates import BOUND, NoiseEstimates

DATA = Path(__file__).resolve().parents[2] / "data"
SETS = {path.stem.removesuffix("_train"): path for path in sorted((DATA / "thirteen").glob("*_train.h5"))}
SETS["si64"] = DATA / "si64_lda_train.h5"
#: Small models: what is estimated are large errors.
MODELS = {
    "dp": {
        "descriptor": {
            "type": "se_e2_a", "sel": "auto:1.5", "rcut": 5.0, "rcut_smth": 0.5, "neuron": [10, 20],
            "axis_neuron": 8, "type_one_side": True,
        },
        "fitting_net": {"neuron": [20, 20]},
    },
    "nep": {
        "type": "nep", "cutoff": [5, 4], "n_max": [4, 4], "basis_size": [6, 6], "l_max": [4, 1], "neuron": 10,
    },
    "hdnnp": {"type": "hdnnp", "cutoff": 5.0},
}  # fmt: skip
OPTIMIZER = {"dp": {}, "nep": {"group_size": 16}, "hdnnp": {"group_size": 16}}
HARTREE, KCAL_MOL = 27.2114, 1 / 23.0605  # eV


def noisy(size: float):
    """Energies with Gaussian noise of so many eV/atom."""
    return lambda frame, rng: replace(frame, energy=frame.energy + size * len(frame) * rng.normal())


#: What is done to a frame's labels.
PLANTS = {
    "none": lambda frame, rng: frame,
    "energies + 30 meV/atom": noisy(0.03),
    "energies + 100 meV/atom": noisy(0.1),
    "energies + 300 meV/atom": noisy(0.3),
    "energies in hartree": lambda frame, rng: replace(frame, energy=frame.energy / HARTREE),
    "energies in kcal/mol": lambda frame, rng: replace(frame, energy=frame.energy / KCAL_MOL),
    "virials with the other sign": lambda frame, rng: replace(frame, virial=-frame.virial),
    "virials in hartree": lambda frame, rng: replace(frame, virial=frame.virial / HARTREE),
}


def ratios(name: str, kind: str, plant: str) -> tuple[dict[str, float], float]:
    """s_c / max(1, s_F) of energies and virials at the end of a short training, and its processor seconds."""
    rng, began = np.random.default_rng(0), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        with kalmandp.Dataset(SETS[name]) as data:
            types, frames = list(data.type_map), [PLANTS[plant](frame, rng) for frame in data]
        kalmandp.Dataset.write(Path(folder) / "train.h5", frames)
        run = Run(
            read_input({
                "model": {**MODELS[kind], "type_map": types},
                "optimizer": {"type": "RLEKF", "with_virial": "present", **OPTIMIZER[kind]},
                "training": {
                    "training_data": {"systems": [str(Path(folder) / "train.h5")]}, "numb_steps": 10**9,
                    "seed": 1, "disp_freq": 10**9, "save_freq": 10**9,
                },
            }),
            folder,
        )  # fmt: skip
        while run.trainer.updates < NoiseEstimates.LEAST:
            run.step()
        state = run.trainer.estimates.state()
    s = {c: state[f"noise/estimated_{c}"] for c in ("energy", "force", "virial")}
    return {c: s[c] / max(1.0, s["force"]) for c in ("energy", "virial")}, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--kinds", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--plants", nargs="+", default=list(PLANTS), choices=list(PLANTS))
    parser.add_argument("--small", action="store_true", help="one set, one model: seconds")
    options = parser.parse_args()
    with_threads(1)
    warnings.simplefilter("ignore")
    if options.small:
        options.sets, options.kinds, options.plants = ["Si"], ["dp"], ["none", "energies + 300 meV/atom"]
    found: dict[str, list[dict[str, float]]] = {}
    for plant in options.plants:
        for kind in options.kinds:
            for name in options.sets:
                ratio, seconds = ratios(name, kind, plant)
                found.setdefault(plant, []).append(ratio)
                print(
                    f"{plant:28}{kind:7}{name:8}{ratio['energy']:8.2f}{ratio['virial']:8.2f}{seconds:7.1f} s",
                    flush=True,
                )  # fmt: skip
    print(f"\n| labels | runs | median and largest s_E | s_W | above {BOUND:g} |\n|---|---|---|---|---|")
    for plant, all_of in found.items():
        E, W = (np.array([ratio[c] for ratio in all_of]) for c in ("energy", "virial"))
        told = np.mean(np.maximum(E, W) > BOUND)
        print(
            f"| {plant} | {len(E)} | {np.median(E):.2f}, {E.max():.2f} "
            f"| {np.median(W):.2f}, {W.max():.2f} | {told:.0%} |"
        )


if __name__ == "__main__":
    main()
