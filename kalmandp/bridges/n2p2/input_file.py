"""n2p2's input.nn, as an input of this package: the model as it stands, the data beside it, another filter.

``kalmandp train input.nn`` in a folder with input.nn and input.data does what ``nnp-scaling`` and
``nnp-train`` do: symmetry functions, networks and their files are n2p2's, weights are trained by our own
filter, which measures all forces of a frame at once. ``--optimizer n2p2`` trains by n2p2's filter and
schedule, one number at a time, as the keywords say. Keywords without effect are named in one notice.

Source: n2p2's documentation, "Configuration keywords".
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

from kalmandp.bridges.n2p2.units import shared_units
from kalmandp.bridges.translated import Translated
from kalmandp.errors import FileError, InputError
from kalmandp.potentials.hdnnp.files import read_input_nn
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.hdnnp.input_nn import function_line
from kalmandp.potentials.hdnnp.keywords import words_of
from kalmandp.potentials.hdnnp.units import bias_of

#: Files beside input.nn, and the folder of the model that a run leaves.
DATA, MODEL = "input.data", "hdnnp"
#: A checkpoint of ours, with the filter that use_old_weights_short goes on with; and optimizers that begin
#: anew, because their schedule is that of one run.
CHECKPOINT, ANEW = "model.ckpt.h5", ("Adam", "SNES")
#: Keywords that are obeyed by any optimizer, or that say how n2p2 works inside.
OBEYED = frozenset(
    """epochs random_seed test_fraction use_short_forces nguyen_widrow_weights_short use_old_weights_short
    normalize_data_set main_error_metric memorize_symfunc_results
    updater_type precondition_weights""".split()
)
#: Keywords of n2p2's filter and schedule; they have the same names in the section ``optimizer``.
INTEGERS = frozenset(
    """kalman_type jacobian_mode update_strategy task_batch_size_energy task_batch_size_force
    rmse_threshold_trials rmse_threshold_trials_energy rmse_threshold_trials_force""".split()
)
NUMBERS = frozenset(
    """kalman_epsilon kalman_q0 kalman_qtau kalman_qmin kalman_eta kalman_etatau kalman_etamax
    kalman_lambda_short kalman_nue_short force_weight short_energy_fraction short_force_fraction
    force_energy_ratio short_energy_error_threshold short_force_error_threshold""".split()
)
#: A mode, or one and then pairs of an epoch and the mode from there on.
SELECTIONS = frozenset("selection_mode selection_mode_energy selection_mode_force".split())
#: After each force update an energy update with the same structure.
REPEATED = "repeated_energy_update"
#: Thresholds by n2p2's other names, from the general to the particular.
THRESHOLDS = {
    "rmse_threshold": ("short_energy_error_threshold", "short_force_error_threshold"),
    "rmse_threshold_energy": ("short_energy_error_threshold",),
    "rmse_threshold_force": ("short_force_error_threshold",),
}
#: Passes over the data and the seed, where the keywords ``epochs`` and ``random_seed`` are missing.
EPOCHS, SEED = 20, 1
#: What numbers must be that any optimizer obeys: whether they are, and in words.
BOUNDS = {
    "epochs": (lambda x: x > 0, "a number > 0"),
    "random_seed": (lambda x: x >= 0, "a whole number ≥ 0"),
    "test_fraction": (lambda x: 0 <= x <= 0.9, "a share of the structures, from 0 to 0.9"),
}


def recognises(path) -> bool:
    """Whether a file is an input.nn: by its name, or because it names elements and symmetry functions."""
    path = Path(path)
    if path.suffix == ".nn" and path.is_file():
        return True
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read(1 << 20).splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    first = {words[0] for words in map(words_of, lines) if words}
    return {"elements", "symfunction_short"} <= first


def read(path, optimizer: str | None = None) -> Translated:
    """Translate an input.nn.

    Parameters
    ----------
    path : of input.nn; input.data is expected beside it
    optimizer : "n2p2", "SNES", "Adam" or a filter; by default our filter

    Raises
    ------
    FileError
        If input.data is missing, or input.nn cannot be used; the line is named.
    InputError
        For a keyword whose value is no number, or keywords that contradict each other or the optimizer.
    """
    path = Path(path)
    folder = path.parent
    if not (folder / DATA).is_file():
        seen = "is a folder" if (folder / DATA).is_dir() else "no such file"
        raise FileError(f"{folder / DATA}: {seen}; expected the structures, in a file beside {path.name}")
    units, said, forces = shared_units(path, folder / DATA)
    found = read_input_nn(path, units)
    stated, as_n2p2 = found.training, optimizer == "n2p2"
    number = lambda name, default, kind=float: _number(path, stated, name, kind, default)
    seed = number("random_seed", SEED, int)
    said = (*said, *_repeated(found.form), *_taken(stated))
    model: dict[str, Any] = {"type": "hdnnp", "input_nn": path.name, "units": units, "random_seed": seed}
    way = stated.get("normalize_data_set", "stats-only")
    if way != "stats-only":
        model["normalize_data_set"] = way
    elif found.atom_energy_t.any() or found.form.mean_energy:  # else the least squares of the data
        model["atom_energies"] = bias_of(found.form, found.atom_energy_t).tolist()
    if "nguyen_widrow_weights_short" in stated or as_n2p2:
        nguyen = "nguyen_widrow_weights_short" in stated
        model["initial_weights"] = "nguyen-widrow" if nguyen else "n2p2"
        model |= {k: number(k, 0.0) for k in ("weights_min", "weights_max") if k in stated}
    training: dict[str, Any] = {
        "training_data": {"systems": [DATA]}, "numb_epoch": number("epochs", EPOCHS), "seed": seed,
        "disp_freq": 100, "model_file": MODEL,
    }  # fmt: skip
    share = number("test_fraction", 0.0)
    if share > 0:
        training["validation_fraction"] = share
    section: dict[str, Any] = {"type": optimizer or "RLEKF"}
    if section["type"] == "SNES":
        section["preset"] = "gpumd"
    if as_n2p2:
        section |= _n2p2(path, stated)
    start, state = _old(folder) if "use_old_weights_short" in stated else ("", "")
    if state and section["type"] in ANEW:
        said = (*said, f"use_old_weights_short: the weights are taken; {section['type']} begins anew")
        state = ""
    if start == str(folder) and way != "stats-only":
        raise InputError(
            f"{path}: use_old_weights_short beside normalize_data_set: old weights belong to the "
            "normalisation that they were trained with; expected its mean_energy, conv_energy and conv_length"
        )
    if "atom_energies" not in model and way == "stats-only" and as_n2p2:
        said = (*said, "no atom_energy is stated: those are taken that fit the data best")
    if "use_short_forces" not in stated and forces and not as_n2p2:
        said = (*said, "use_short_forces is not stated; forces are learnt all the same")
    if section.get(REPEATED):
        where = "nnp-train itself stops where it stands with use_short_forces"
        said = (*said, f"{REPEATED}: done as n2p2 documents it; {where}")
    if "precondition_weights" in stated:
        why = "nnp-train itself stops there; atom_energy and a normalisation do what it is for"
        said = (*said, f"precondition_weights: without effect; {why}")
    obeyed = set(section) if as_n2p2 else set()
    obeyed |= {"weights_min", "weights_max"} & set(model)
    notices = (*said, *_notices(stated, obeyed, as_n2p2))
    tree = {"model": model, "optimizer": section, "training": training}
    return Translated(tree, notices, start, start_state=state)


def _n2p2(path: Path, stated: dict[str, str]) -> dict[str, Any]:
    """The section ``optimizer`` of n2p2's filter: its keywords, with n2p2's own precedence."""
    if (updater := _number(path, stated, "updater_type", int, 1)) != 1:
        raise InputError(
            f"{path}: updater_type is {updater}, gradient descent; expected 1, the Kalman filter, with "
            "--optimizer n2p2 (--optimizer Adam descends)"
        )
    section: dict[str, Any] = {}
    for name, own in THRESHOLDS.items():
        if name in stated:
            section |= dict.fromkeys(own, _number(path, stated, name))
    section |= {name: _number(path, stated, name, int) for name in sorted(INTEGERS & set(stated))}
    section |= {name: _number(path, stated, name) for name in sorted(NUMBERS & set(stated))}
    section |= {name: _whole_numbers(path, stated, name) for name in sorted(SELECTIONS & set(stated))}
    section |= {REPEATED: True} if REPEATED in stated else {}
    of_forces = {"short_force_fraction", "force_energy_ratio"} & set(section)
    if "use_short_forces" not in stated:  # forces are not learnt
        section |= dict.fromkeys(of_forces, 0.0) or {"short_force_fraction": 0.0}
    elif not of_forces:
        raise InputError(
            f"{path}: use_short_forces without short_force_fraction or force_energy_ratio; expected one of "
            "them: how many forces an epoch learns"
        )
    elif len(of_forces) == 2:  # n2p2 prefers the ratio
        del section["short_force_fraction" if section["force_energy_ratio"] > 0 else "force_energy_ratio"]
    return section


def _number(path: Path, stated: dict[str, str], name: str, kind: type = float, default=None) -> Any:
    """The number of a keyword, within `BOUNDS`."""
    if name not in stated:
        return default
    fits, wanted = BOUNDS.get(name, (lambda x: True, "a whole number" if kind is int else "a number"))
    try:
        value = kind(stated[name])
    except ValueError:
        value = float("nan")
    if not (isfinite(value) and fits(value)):
        raise InputError(f"{path}: {name} is {stated[name]!r}; expected {wanted}")
    return value


def _whole_numbers(path: Path, stated: dict[str, str], name: str) -> int | list[int]:
    """The whole numbers of a keyword; one of them by itself."""
    try:
        numbers = [int(word) for word in stated[name].split()]
    except ValueError:
        numbers = []
    if not numbers:
        raise InputError(f"{path}: {name} is {stated[name]!r}; expected whole numbers")
    return numbers[0] if len(numbers) == 1 else numbers


def _old(folder: Path) -> tuple[str, str]:
    """The old weights, beside input.nn as in n2p2 or in our model's folder; and our checkpoint."""
    places = [place for place in (folder, folder / MODEL) if any(place.glob("weights.*.data"))]
    if not places:
        found = sorted(path.name for path in folder.glob("weights.*.out"))
        hint = f" ({found[-1]} is one of an epoch: copy those to go on from)" if found else ""
        raise FileError(f"{folder}: has no weights.*.data; expected them for use_old_weights_short{hint}")
    if not (scaling := places[0] / "scaling.data").exists():
        raise FileError(f"{scaling}: no such file; expected that of the old weights beside them")
    state = folder / CHECKPOINT
    return str(places[0]), str(state) if state.is_file() else ""


def _taken(stated: dict[str, str]) -> tuple[str, ...]:
    """One sentence for what is not stated, and taken."""
    usual = {"epochs": EPOCHS, "random_seed": SEED}
    missing = [f"{name} {value}" for name, value in usual.items() if name not in stated]
    return (f"not stated, and taken: {', '.join(missing)}",) if missing else ()


def _repeated(form: HDNNPForm) -> tuple[str, ...]:
    """One sentence for symmetry functions that stand twice."""
    of = zip(form.type_map, form.functions, strict=True)
    lines = [function_line(name, f) for name, rows in of for f in rows]
    twice = sorted({line for line in lines if lines.count(line) > 1})
    what = "stands more than once, as inputs of the net that are the same"
    return (f"{twice[0]!r}{' (and others)' if len(twice) > 1 else ''} {what}",) if twice else ()


def _notices(stated: dict[str, str], obeyed: set[str], as_n2p2: bool) -> tuple[str, ...]:
    """One sentence for what has no meaning here.

    Parameters
    ----------
    stated : keywords of the input
    obeyed : keywords that this run uses, beside `OBEYED`
    as_n2p2 : whether the optimizer is n2p2's filter
    """
    also = set(THRESHOLDS) if as_n2p2 else set()
    idle = sorted(set(stated) - OBEYED - obeyed - also)
    if "normalize_data_set" in stated and stated["normalize_data_set"] == "stats-only":
        idle.append("normalize_data_set stats-only")
    if not idle:
        return ()
    why = " (of n2p2's own filter and files: ours measures all forces of a frame at once; --optimizer n2p2)"
    return (f"without effect here: {', '.join(idle)}{'' if as_n2p2 else why}",)
