"""Random models through DeePMD-kit and through kalmandp, both ways; prints the worst differences.

Run by hand, each step with the Python that has the program::

    python agreement_with_deepmd.py make FOLDER --number 140      # kalmandp: models, frames
    python agreement_with_deepmd.py there FOLDER                 # deepmd-kit, any 3.x, repeated for each;
                                                                 # --backends pt, --only 0 20: a part of it
    python agreement_with_deepmd.py table FOLDER                 # kalmandp: evaluates and compares

*To DeePMD-kit*: kalmandp makes a random model and writes it (``.dp``, every fourth ``.yaml``); DeePMD-kit's
own ``convert-backend`` makes ``.pth`` and ``.pb`` of it, and they are evaluated there.
*From DeePMD-kit*: ``get_model`` makes a random model of another random input; it is evaluated there, frozen,
and ``convert-backend`` makes the ``.dp`` that is read here. From ``.pth`` that costs seconds a model: the
first `FROZEN` go the whole way, the others are saved as ``convert-backend`` saves what it has read.

A backend of DeePMD-kit that computes a model differently from the others (`deepmd.files.disagreements`) is
not compared for that model; the table counts these. Two activations have rows of their own, because a
backend rounds them: TensorFlow's ``gelu_tf`` has 0.044715 in single precision, PyTorch's ``softplus`` is a
straight line above 20 (2e-9 off). And ``convert-backend`` from ``.pb`` drops the output bias, so the models
that come from it are made without one.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
from pathlib import Path

import numpy as np
from make_deepmd_reference import distances, evaluate_tensorflow, random_frame

SEED = 20261120
#: Models that go through a frozen file on the way from PyTorch.
FROZEN = 6
SPARE_SLOTS = 4
NAMES = ("H", "C", "N", "O", "Si", "Cu", "Ge")
PHI = ("tanh", "gelu", "gelu_tf", "relu", "relu6", "softplus", "sigmoid", "silu", "linear", "none",
       "silut", "silut:1.5", "custom_silu:2.0")  # fmt: skip
#: Embeddings: no skip, skips at equal and at doubled widths, widths that do neither.
EMBEDDINGS = ((5,), (6, 6, 6), (3, 6, 12), (4, 7, 9), (5, 10, 10), (2, 2, 5), (1, 2, 4))
FITTINGS = ((), (7,), (8, 8, 8), (5, 10), (9, 6, 6), (4, 4, 7))
QUANTITIES = ("energy", "atomic", "forces", "virial")
#: Activations that a backend rounds.
ROUNDED = {"pt": "softplus", "tf": "gelu_tf"}


# --- random models and frames ---------------------------------------------------------------------


def random_script(rng: np.random.Generator, number: int) -> tuple[dict, list[dict]]:
    """The section ``model`` of an input file, and three frames for it."""
    n_types = 1 + number % 4
    # eighths of an ångström: exact in the single precision that TensorFlow's operators use
    rcut, rcut_smth = rng.integers(24, 33) / 8, rng.integers(0, 17) / 8
    tilted = np.diag([4.7, 5.1, 5.6]) + np.tril(rng.uniform(-1.5, 1.5, (3, 3)), -1)
    small = np.diag([2.3, 2.7, 3.0]) + np.tril(rng.uniform(-0.3, 0.3, (3, 3)), -1)
    cells = ((8, tilted), (3, small), (6, None))
    frames = [random_frame(rng, n, n_types, cell) for n, cell in cells]
    most = np.zeros(n_types, int)
    for f in frames:
        near = distances(f["positions"], f["cell"], rcut) < rcut
        of_type = [near[:, f["types"] == t].sum(axis=(1, 2)).max(initial=0) for t in range(n_types)]
        most = np.maximum(most, of_type)
    embedding = EMBEDDINGS[rng.integers(len(EMBEDDINGS))]
    fitting = FITTINGS[rng.integers(len(FITTINGS))]
    pairs = [[a, b] for a in range(n_types) for b in range(a, n_types)]
    excluded = [p for p in pairs if rng.random() < 0.4] if number % 3 == 0 and n_types > 1 else []
    seed = int(rng.integers(1 << 30))
    descriptor = {
        "type": "se_e2_a",
        "rcut": float(rcut),
        "rcut_smth": float(rcut_smth),
        "sel": (most + rng.integers(0, SPARE_SLOTS + 1, n_types)).tolist(),
        "neuron": list(embedding),
        "axis_neuron": int(rng.integers(1, embedding[-1] + 1)),
        "resnet_dt": bool(rng.random() < 0.5),
        "type_one_side": bool(number % 2),
        "exclude_types": excluded,
        "activation_function": PHI[number % len(PHI)],
        "precision": "float64",
        "trainable": bool(rng.random() < 0.7),
        "seed": seed,
    }
    fitting_net = {
        "type": "ener",
        "neuron": list(fitting),
        "resnet_dt": bool(rng.random() < 0.5),
        "activation_function": PHI[(number * 5 + 3) % len(PHI)],
        "precision": "float64",
        "trainable": rng.choice([True, False], len(fitting) + 1).tolist(),
        "seed": seed + 1,
    }
    names = rng.permutation(NAMES)[:n_types].tolist()
    return {"type_map": names, "descriptor": descriptor, "fitting_net": fitting_net}, frames


def random_statistics(rng: np.random.Generator, script: dict) -> dict:
    """davg, dstd and both biases. With excluded types davg is zero: the backends differ otherwise."""
    n = len(script["type_map"])
    centred = 0.0 if script["descriptor"]["exclude_types"] else 0.3
    return {
        "davg": centred * rng.normal(size=(n, 4)),
        "dstd": rng.uniform(0.15, 0.4, (n, 4)),
        "bias_atom_e": rng.normal(size=n),
        "out_bias": 3.0 * rng.normal(size=n),
    }


def make(folder: Path, number: int) -> None:
    """Two sets of inputs with frames; the first is made into kalmandp's models."""
    import kalmandp
    from kalmandp.potentials.deep_potential.initial import initial_weights

    rng = np.random.default_rng(SEED)
    (folder / "ours").mkdir(parents=True, exist_ok=True)
    cases = []
    for k in range(number):
        ours, theirs = random_script(rng, k), random_script(rng, k)
        statistics = [random_statistics(rng, script) for script, _ in (ours, theirs)]
        cases.append({"ours": ours, "theirs": theirs, "statistics": statistics[1]})
        script, d, f = ours[0], ours[0]["descriptor"], ours[0]["fitting_net"]
        a = kalmandp.Architecture(
            script["type_map"], rcut=d["rcut"], rcut_smth=d["rcut_smth"], sel=d["sel"], embedding=d["neuron"],
            axis_neuron=d["axis_neuron"], fitting=f["neuron"], type_one_side=d["type_one_side"],
            embedding_resnet_dt=d["resnet_dt"], fitting_resnet_dt=f["resnet_dt"],
            embedding_activation=d["activation_function"], fitting_activation=f["activation_function"],
            exclude_types=d["exclude_types"],
        )  # fmt: skip
        layout = a.layout()
        w = initial_weights(layout, rng)
        for tensor in layout.tensors:
            if tensor.kind == "idt":  # 0.1 ± 0.001 would hide a mistake
                w[tensor.start : tensor.stop] = rng.normal(0.5, 0.3, tensor.size)
        info = {"model_def_script": script, "min_nbor_dist": 0.85}
        kalmandp.Potential(a, w, info=info, **statistics[0]).save(our_file(folder, k))
    plain = lambda x: x.tolist() if isinstance(x, np.ndarray) else x.item()
    (folder / "cases.json").write_text(json.dumps(cases, default=plain))


def our_file(folder: Path, k: int) -> Path:
    return folder / "ours" / f"{k}{'.yaml' if k % 4 == 3 else '.dp'}"


def read_cases(folder: Path) -> list[dict]:
    cases = json.loads((folder / "cases.json").read_text())
    for case in cases:
        for whose in ("ours", "theirs"):
            for frame in case[whose][1]:
                arrays = {k: np.array(frame[k]) for k in ("positions", "types")}
                cell = None if frame["cell"] is None else np.array(frame["cell"])
                frame.update(arrays, cell=cell)
    return cases


# --- DeePMD-kit's side ----------------------------------------------------------------------------


def there(folder: Path, backends: list[str], first: int, last: int) -> None:
    """Evaluate kalmandp's files, make and evaluate DeePMD-kit's, with the version that is installed."""
    import deepmd
    from deepmd.entrypoints.convert_backend import convert_backend

    version = deepmd.__version__
    cases, results = read_cases(folder), {}
    for backend in backends:
        suffix = {"pt": ".pth", "tf": ".pb"}[backend]
        place = folder / f"{version}_{backend}"
        place.mkdir(exist_ok=True)
        for k, case in list(enumerate(cases))[first:last]:
            # theirs first: what this version does not know fails here
            try:
                zero = {"out_bias": [0.0] * len(case["statistics"]["out_bias"])} if backend == "tf" else {}
                data = their_model(case["theirs"][0], {**case["statistics"], **zero})
                results[f"{backend} from {k}"] = evaluate(backend, data, case["theirs"][1])
                if k < FROZEN or backend == "tf":
                    frozen = place / f"theirs_{k}{suffix}"
                    freeze(backend, data, frozen)
                    convert_backend(INPUT=str(frozen), OUTPUT=str(place / f"{k}.dp"))
                    frozen.unlink()
                else:
                    save(place / f"{k}.dp", data)
            except Exception as error:
                print(f"{version} {backend} from {k}: {describe(error)}")
            try:
                frozen = place / f"{k}{suffix}"
                convert_backend(INPUT=str(our_file(folder, k)), OUTPUT=str(frozen))
                results[f"{backend} to {k}"] = evaluate_frozen(frozen, case["ours"][1])
                frozen.unlink()
            except Exception as error:
                print(f"{version} {backend} to {k}: {describe(error)}")
    arrays = {f"{key} {f} {q}": r[q] for key, rs in results.items() for f, r in enumerate(rs) for q in r}
    np.savez(folder / f"there_{version}_{'+'.join(backends)}_{first}-{last}.npz", **arrays)


def describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[-160:]}"


def their_model(script: dict, statistics: dict) -> dict:
    """A random model of DeePMD-kit's own making, with statistics and biases put in."""
    from deepmd.pt.model.model import get_model

    tree = get_model(copy.deepcopy(script)).serialize()
    n, slots = len(script["type_map"]), (1, sum(script["descriptor"]["sel"]), 1)
    rows = lambda name: np.tile(np.array(statistics[name])[:, None], slots)
    tree["descriptor"]["@variables"] = {"davg": rows("davg"), "dstd": rows("dstd")}
    tree["fitting"]["@variables"]["bias_atom_e"] = np.array(statistics["bias_atom_e"]).reshape(n, 1)
    tree["@variables"]["out_bias"] = np.array(statistics["out_bias"]).reshape(1, n, 1)
    return {"model": tree, "model_def_script": script, "backend": "PyTorch", "@variables": {}}


def save(path: Path, data: dict) -> None:
    from deepmd.dpmodel.utils.serialization import save_dp_model

    save_dp_model(str(path), copy.deepcopy(data))


def freeze(backend: str, data: dict, path: Path) -> None:
    """A model as this backend keeps it, ``.pth`` or ``.pb``."""
    from importlib import import_module

    serialization = import_module(f"deepmd.{backend}.utils.serialization")
    serialization.deserialize_to_file(str(path), copy.deepcopy(data))


def evaluate(backend: str, data: dict, frames: list[dict]) -> list[dict]:
    """Energies, forces and virials by a model tree."""
    if backend == "tf":
        return named(evaluate_tensorflow(data["model"], data["model_def_script"], frames))
    import torch
    from deepmd.pt.model.model.model import BaseModel

    model = BaseModel.deserialize(copy.deepcopy(data["model"]))
    return named([evaluate_torch(model, torch, frame) for frame in frames])


def evaluate_torch(model, torch, frame: dict) -> dict:
    cell = None if frame["cell"] is None else torch.tensor(frame["cell"].reshape(1, 9))
    out = model(torch.tensor(frame["positions"][None]), torch.tensor(frame["types"][None]), cell)
    array = lambda key: out[key][0].detach().numpy()
    return {
        "energy": array("energy")[0],
        "atomic_energies": array("atom_energy").ravel(),
        "forces": array("force"),
        "virial": array("virial").reshape(3, 3),
    }


def evaluate_frozen(path: Path, frames: list[dict]) -> list[dict]:
    from deepmd.infer import DeepPot

    potential, results = DeepPot(str(path)), []
    for frame in frames:
        cell = None if frame["cell"] is None else frame["cell"].reshape(1, 9)
        e, f, w, e_i, _ = potential.eval(frame["positions"].reshape(1, -1), cell, frame["types"], atomic=True)
        results.append({"energy": e[0, 0], "atomic_energies": e_i.ravel(), "forces": f[0],
                        "virial": w[0].reshape(3, 3)})  # fmt: skip
    return named(results)


def named(results: list[dict]) -> list[dict]:
    return [
        dict(zip(QUANTITIES, (r["energy"], r["atomic_energies"], r["forces"], r["virial"]), strict=True))
        for r in results
    ]


# --- kalmandp's side ------------------------------------------------------------------------------


def table(folder: Path) -> None:
    """Evaluate every file here and print the worst differences, row by row."""
    print(f"{'DeePMD-kit':54}{'models':>7}" + "".join(f"{q:>10}" for q in QUANTITIES))
    cases, stored = read_cases(folder), {}
    for path in sorted(folder.glob("there_*.npz")):
        with np.load(path) as part:
            version = path.stem.split("_")[1]
            stored.setdefault(version, {}).update(part)
    for version, arrays in stored.items():
        for backend in sorted({key.split()[0] for key in arrays}):
            for way in ("to", "from"):
                found, left = compare(folder, cases, arrays, version, backend, way)
                arrow = {"to": "our file, evaluated there", "from": "its file, evaluated here"}[way]
                for kind, worst in found.items():
                    row = "".join(f"{max(w[q] for w in worst):10.1e}" for q in QUANTITIES)
                    print(f"{version + ' ' + backend:12}{arrow:27}{kind:15}{len(worst):7d}{row}")
                print(f"{'':39}{'not compared':15}{left:7d}")
    print("largest |difference| / largest component of that quantity in its frame, worst of all frames;")
    print("an input with an activation that a version does not know is not in its rows")


def compare(folder, cases, stored, version, backend, way):
    """Worst differences of each model, by kind ("" or a rounded activation); models not compared."""
    import warnings

    import kalmandp
    from kalmandp.bridges.deepmd.files import disagreements

    odd_one = {"pt": "PyTorch", "tf": "TensorFlow"}[backend]
    found, left = {}, 0
    for k, case in enumerate(cases):
        if f"{backend} {way} {k} 0 energy" not in stored:
            left += any(key.startswith(f"{backend} ") and key.split()[2] == str(k) for key in stored)
            continue
        path = our_file(folder, k) if way == "to" else folder / f"{version}_{backend}" / f"{k}.dp"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            potential = kalmandp.Potential.load(path)
        if odd_one in [odd for odd, _ in disagreements(potential)]:
            left += 1
            continue
        a, rounded = potential.form, ROUNDED[backend]
        kind = rounded if rounded in (a.embedding_activation, a.fitting_activation) else ""
        worst = dict.fromkeys(QUANTITIES, 0.0)
        for f, frame in enumerate(case["ours" if way == "to" else "theirs"][1]):
            r = potential.evaluate(kalmandp.Frame(**frame, type_map=potential.type_map))
            ours = dict(zip(QUANTITIES, (r.energy, r.atomic_energies, r.forces, r.virial), strict=True))
            for q in QUANTITIES:
                theirs = stored[f"{backend} {way} {k} {f} {q}"]
                largest = np.abs(theirs).max()
                if largest > 1e-6:  # a force that vanishes by symmetry has no relative error
                    worst[q] = max(worst[q], float(np.abs(ours[q] - theirs).max() / largest))
        found.setdefault(kind, []).append(worst)
    return dict(sorted(found.items())), left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("make", "there", "table"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--number", type=int, default=140)
    parser.add_argument("--backends", nargs="+", default=["pt", "tf"], choices=("pt", "tf"))
    parser.add_argument("--only", nargs=2, type=int, default=(0, 10**6), metavar=("FIRST", "LAST"))
    args = parser.parse_args()
    logging.disable(logging.INFO)
    if args.step == "make":
        make(args.folder, args.number)
    elif args.step == "there":
        there(args.folder, args.backends, *args.only)
    else:
        table(args.folder)


if __name__ == "__main__":
    main()
