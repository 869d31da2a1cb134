"""`read_input`: DeePMD-kit's input file, read unchanged, with ``"optimizer": {"type": "RLEKF"}``.

The file goes three ways: bytes → a JSON tree (`read_json`), each section → checked fields
(`training.config.keys`), the fields → `Settings` with the checks that concern several keys at once.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kalmandp.checks import SectionReader, choice, show
from kalmandp.errors import FileError, InputError
from kalmandp.frames.hdf5.storage import path_text
from kalmandp.potentials.settings import ModelSettings
from kalmandp.registry import INPUTS, KINDS, load
from kalmandp.training.config import keys
from kalmandp.training.config.old_inputs import of_version_2
from kalmandp.training.config.presets import AdamChoices, resolve, resolve_adam, stated_type
from kalmandp.training.config.settings import (
    KALMAN_TYPES,
    N2P2,
    OPTIMIZER_TYPES,
    LearningRateSettings,
    OptimizerSettings,
    Settings,
    TrainingSettings,
)
from kalmandp.training.config.together import check_n2p2, check_n2p2_data, check_weights
from kalmandp.training.config.yaml_input import is_yaml, parse_yaml
from kalmandp.training.noise.variances import BlockNoise

#: The kind of potential that DeePMD-kit's model/type "standard" is here.
DEEPMD = "se_e2_a"
#: No input file is longer or nested deeper.
SIZE_LIMIT = 16 << 20
DEPTH_LIMIT = 64


def read_input(source, folder=None, optimizer: str | None = None) -> Settings:
    """Read and check an input file.

    Parameters
    ----------
    source : path of a JSON (or .yaml, .yml) file, or its content as a dictionary; or the input of another
        program (`registry.INPUTS`), recognised by what it holds
    folder : folder against which the paths of systems are resolved first; by default the file's
    optimizer : for the input of another program, the type of optimizer in place of the filter

    Returns
    -------
    Settings
        Absent keys have DeePMD-kit's defaults; a file without an optimizer means Adam, as it does
        there. Keys that change nothing here are listed in ``ignored``.

    Raises
    ------
    FileError
        If the file is missing or cannot be read.
    InputError
        For text that is not JSON (with line and column), a key that is not supported, a value of
        the wrong type or range: each named by its path, e.g. ``model/descriptor/rcut``.

    Examples
    --------
    >>> settings = read_input("examples/silicon/input.json")
    >>> settings.model.choices["rcut"], settings.optimizer.type, settings.training.n_epochs
    (8.0, 'RLEKF', 10.0)
    """
    if isinstance(source, Mapping):
        name, tree = "input", dict(source)
        folder = Path() if folder is None else Path(folder)
    else:
        path = Path(path_text(source))
        folder = path.parent if folder is None else Path(folder)
        for module, companion in INPUTS.values():
            if load(module).recognises(path):
                return _translated(path, folder, load(module).read(path, optimizer), companion)
        name, tree = path.name, read_json(path)
    if optimizer is not None:
        raise InputError(f"{name}: states its optimizer itself; expected no other, {optimizer!r} is given")
    _check_tree(name, tree)
    tree, notices = of_version_2(name, tree)
    settings = _settings(SectionReader(name, folder), tree, folder)
    return replace(settings, notices=(*settings.notices, *notices))


def _translated(path: Path, folder: Path, found, companion: str) -> Settings:
    """The settings of another program's input, translated into a tree of ours."""
    settings = _settings(SectionReader(path.name, folder), found.tree, folder)
    return replace(
        settings, companion=companion, notices=found.notices, start=found.start, task=found.task,
        start_state=found.start_state,
    )  # fmt: skip


def read_optimizer(section: Mapping[str, Any], kind: str = DEEPMD) -> OptimizerSettings:
    """Check the section ``optimizer`` of an input file by itself, for a code that has no such file.

    Parameters
    ----------
    section : its keys and values; without ``type`` it is RLEKF, or what ``preset`` is a preset of
    kind : of potential, which decides the preset where none is named

    Raises
    ------
    InputError
        As `read_input`; for Adam too, which needs a learning rate and a loss.
    """
    read = SectionReader("settings")
    _check_tree(read.source, dict(section))
    own = {} if "preset" in section else {"type": "RLEKF"}
    optimizer = _optimizer(read, {**own, **section}, {})
    if not optimizer.is_kalman:
        raise read.error("optimizer/type", optimizer.type, f"one of {', '.join(KALMAN_TYPES)}")
    if (optimizer.get("candidates") or {}).get("energy"):
        wanted = "no threshold of energies: the caller chooses the frames"
        raise read.error("optimizer/candidates", optimizer.get("candidates"), wanted)
    if optimizer.get("last_layer"):
        wanted = "false: it is solved for at the end of a run, and frames that come one by one have no end"
        raise read.error("optimizer/last_layer", optimizer.get("last_layer"), wanted)
    return optimizer.with_preset(KINDS[kind].preset) if optimizer.preset == "default" else optimizer


def _settings(read: SectionReader, tree: dict, folder: Path) -> Settings:
    root = read.section("", tree, keys.ROOT)
    for name in ("model", "training"):
        if name not in root:
            raise InputError(f"{read.source}: the section {name!r} is missing")
    training = read.mapping("training", root["training"])
    old = {name: training.pop(name) for name in keys.OLD_OPTIMIZER if name in training}
    optimizer = _optimizer(read, root.get("optimizer"), old)
    preset = AdamChoices()
    if optimizer.type == "Adam":
        preset = resolve_adam(optimizer)
    else:  # a filter has neither; DeePMD-kit's LKF files state both all the same
        read.ignored += [name for name in ("loss", "learning_rate") if root.get(name)]
    model = _model(read, root["model"])
    if optimizer.is_kalman and optimizer.preset == "default":
        optimizer = optimizer.with_preset(KINDS[model.kind].preset)
    if optimizer.is_kalman:
        check_weights(read, optimizer)
    return Settings(
        model=model,
        optimizer=optimizer,
        loss=replace(preset.loss, **read.section("loss", root.get("loss", {}), keys.LOSS)),
        learning_rate=_learning_rate(read, root.get("learning_rate", {}), preset.learning_rate),
        training=_named(read, _training(read, training, optimizer, folder), model),
        source=copy.deepcopy(tree),
        folder=folder,
        ignored=tuple(read.ignored),
    )


# --- sections -------------------------------------------------------------------------------------


def _model(read: SectionReader, value) -> ModelSettings:
    """The section of the kind that it names: model/type, or DeePMD-kit's model/descriptor/type."""
    section = read.mapping("model", value)
    stated = section.get("type", "standard")
    name = DEEPMD if stated == "standard" else stated
    read.value("model/type", stated, choice(*("standard" if kind == DEEPMD else kind for kind in KINDS)))
    return load(KINDS[name].section)(read, section)


def _optimizer(read: SectionReader, new, old: dict) -> OptimizerSettings:
    """The optimizer, from its own section (DeePMD-kit 3.2) or from keys of ``training`` (≤ 3.1)."""
    if new is not None and old:
        raise InputError(
            f"{read.source}: the optimizer is stated in 'optimizer' and in "
            f"training/{next(iter(old))}; expected one of the two"
        )
    if old:
        path, section = "training", {"type": old.pop("opt_type", "Adam"), **old}
        type_path = "training/opt_type"
    else:
        path, section = "optimizer", read.mapping("optimizer", {} if new is None else new)
        type_path = "optimizer/type"
    kind = read.value(type_path, stated_type(section), choice(*OPTIMIZER_TYPES, "LKF"))
    table = {"LKF": keys.LKF, "Adam": keys.ADAM, "SNES": keys.SNES, N2P2: keys.N2P2}.get(kind, keys.KALMAN)
    fields = read.section(path, section, table)
    _gather_prefactors(read, path, fields)
    if kind == "LKF":
        fields["preset"] = "deepmd"
    optimizer = OptimizerSettings(type="RLEKF" if kind == "LKF" else kind, **fields)
    if optimizer.is_kalman:
        _check_kalman(read, optimizer)
    elif optimizer.type == N2P2:
        check_n2p2(read, optimizer)
    return optimizer


def _check_kalman(read: SectionReader, o: OptimizerSettings) -> None:
    """Check that the stated options fit each other; note those without effect for this type of filter."""
    try:
        choices = resolve(o)
    except InputError as error:
        raise InputError(f"{read.source}: {error}") from None
    for name in ("pref_e", "pref_f"):
        if o.get(name) is not None and not isinstance(choices.noise, BlockNoise):
            raise InputError(
                f"{read.source}: optimizer/{name} is given, but the preset {o.preset!r} has its noise in "
                f"physical units; expected optimizer/sigma_{name[-1]}"
            )
    idle = {"RLEKF": (), "SEKF": ("blocks",)}.get(o.type, ("blocks", "block_size"))
    read.ignored += [f"optimizer/{name}" for name in idle if o.get(name) is not None]


def _gather_prefactors(read: SectionReader, path: str, fields: dict[str, Any]) -> None:
    """kf_start_pref_e and kf_limit_pref_e (1 where absent) → pref_e = (start, limit)."""
    for which in "ef":
        start = fields.pop(f"start_pref_{which}", None)
        limit = fields.pop(f"limit_pref_{which}", None)
        if start is None and limit is None:
            continue
        if f"pref_{which}" in fields:
            raise InputError(
                f"{read.source}: {path}/pref_{which} and {path}/kf_start_pref_{which} are the same "
                "key; expected one of them"
            )
        fields[f"pref_{which}"] = (1.0 if start is None else start, 1.0 if limit is None else limit)


def _learning_rate(read: SectionReader, value, preset: LearningRateSettings) -> LearningRateSettings:
    fields = read.section("learning_rate", value, keys.LEARNING_RATE)
    ratio = fields.pop("stop_lr_ratio", None)
    if fields.get("stop_lr") is None:
        fields.pop("stop_lr", None)
    elif ratio is not None:
        raise InputError(
            f"{read.source}: learning_rate states stop_lr and stop_lr_ratio; expected one of them"
        )
    rate = replace(preset, **fields)
    if ratio is not None:
        rate = replace(rate, stop_lr=ratio * rate.start_lr)
    if rate.stop_lr > rate.start_lr:
        raise read.error("learning_rate/stop_lr", rate.stop_lr, f"at most start_lr = {rate.start_lr:g}")
    return rate


def _training(read: SectionReader, section: dict, optimizer, folder: Path) -> TrainingSettings:
    fields = read.section("training", section, keys.TRAINING)
    data = fields.pop("training_data", None)
    if data is None:
        raise InputError(f"{read.source}: training/training_data is missing")
    fields |= _data(read, "training/training_data", data, keys.TRAINING_DATA, optimizer, folder)
    validation = fields.pop("validation_data", None)
    if validation is not None:
        path = "training/validation_data"
        v = _data(read, path, validation, keys.VALIDATION_DATA, optimizer, folder)
        fields["validation_systems"] = v["systems"]
        fields["validation_batch_size"] = v.get("batch_size")
        if "numb_btch" in v:
            fields["validation_batch"] = v["numb_btch"]
    training = TrainingSettings(**fields)
    _check_training(read, training)
    return training


def _named(read: SectionReader, t: TrainingSettings, model: ModelSettings) -> TrainingSettings:
    """The name of the model file: as stated, or the usual one of its kind."""
    files = load(KINDS[model.kind].files)
    if not t.model_file:
        t = replace(t, model_file=files.DEFAULT)
    elif Path(t.model_file).suffix not in files.SUFFIXES:
        ends = " or ".join(suffix or "no suffix" for suffix in files.SUFFIXES)
        wanted = f"a name that ends in {ends}, for {files.FORMAT}"
        raise read.error("training/model_file", t.model_file, wanted)
    _check_files(read, t)
    return t


def _data(read: SectionReader, path, value, table, optimizer, folder: Path) -> dict[str, Any]:
    fields = read.section(path, value, table)
    if "systems" not in fields:
        raise InputError(f"{read.source}: {path}/systems is missing; expected paths of data")
    fields["systems"] = tuple(_resolve(folder, system) for system in fields["systems"])
    kind, size = fields.pop("batch_size", ("atoms", 32))
    if optimizer.type == N2P2:
        check_n2p2_data(read, path, value)
    if kind == "frames":
        fields["batch_size"] = size
    elif optimizer.is_kalman or optimizer.type == N2P2:
        # the paper's batch of one: a Kalman update takes each frame as it comes
        fields["batch_size"] = 1
    else:
        fields["batch_atoms"] = size
    return fields


def _resolve(folder: Path, system: str) -> str:
    """The system beside the input file if it is there; unchanged otherwise."""
    path, mark, group = system.partition("#")
    try:
        beside = bool(path) and (folder / path).exists()
    except (OSError, ValueError):  # a name no file system can have
        beside = False
    return f"{folder / path}{mark}{group}" if beside else system


def _check_training(read: SectionReader, t: TrainingSettings) -> None:
    if (t.n_steps is None) == (t.n_epochs is None):
        found = "neither" if t.n_steps is None else "both"
        raise InputError(
            f"{read.source}: training has {found} of numb_steps and numb_epoch; expected one of them"
        )
    if t.validation_fraction is not None and t.validation_systems:
        raise InputError(
            f"{read.source}: training states validation_data and validation_fraction; expected one of them"
        )


def _check_files(read: SectionReader, t: TrainingSettings) -> None:
    """The files of a run have different names."""
    files = {"disp_file": t.disp_file, "save_ckpt": t.save_ckpt, "model_file": t.model_file}
    for name, file in files.items():
        twins = [other for other, path in files.items() if path == file and other != name]
        if twins:
            raise read.error(f"training/{name}", file, f"another name than training/{twins[0]}")


# --- JSON -----------------------------------------------------------------------------------------


def read_json(path: Path) -> dict:
    """The content of a JSON (or YAML) file that is one object.

    Raises
    ------
    FileError
        If it is missing, a folder, unreadable, or too long.
    InputError
        If it is not JSON (or YAML); line and column are named.
    """
    data = _read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path.name}: line {line} is not UTF-8 text (byte {error.start}); expected JSON"
        ) from None
    if is_yaml(path):
        tree = parse_yaml(text, path.name)
        if not isinstance(tree, dict):
            raise InputError(f"{path.name}: is {show(tree)}; expected a mapping with model, training, …")
        return tree
    try:
        tree = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path.name}: line {error.lineno}, column {error.colno}: {error.msg}; expected JSON"
        ) from None
    except RecursionError:
        raise InputError(f"{path.name}: is nested too deep; expected JSON input") from None
    except (InputError, ValueError) as error:
        raise InputError(f"{path.name}: {error}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path.name}: is {show(tree)}; expected an object {{ … }}")
    return tree


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise FileError(f"{path}: is a folder; expected an input file in JSON")
        if not path.is_file():
            raise FileError(f"{path}: no such file; expected an input file in JSON")
        if path.stat().st_size > SIZE_LIMIT:
            raise FileError(f"{path}: is longer than {SIZE_LIMIT >> 20} MiB; expected an input file")
        return path.read_bytes()
    except FileError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{path}: cannot be read ({reason})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no key stands twice; DeePMD-kit's own files repeat comments."""
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result and not key.startswith("_"):
            raise InputError(f"the key {key!r} stands twice in one object; expected it once")
        result[key] = value
    return result


def _integer(digits: str) -> int:
    if len(digits) > 40:
        raise InputError(f"an integer has {len(digits)} digits; expected numbers of 64 bits")
    return int(digits)


def _no_constant(name: str):
    raise InputError(f"{name} is not a JSON number; expected finite numbers")


def _check_tree(name: str, tree: Any) -> None:
    """A tree of plain values, not too deep: what JSON can hold, wherever the tree came from."""
    stack = [(tree, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > DEPTH_LIMIT:
            raise InputError(f"{name}: is nested deeper than {DEPTH_LIMIT}; expected an input file")
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise InputError(f"{name}: a key is {key!r:.60}; expected texts")
            stack.extend((v, depth + 1) for v in value.values())
        elif isinstance(value, list | tuple):
            stack.extend((v, depth + 1) for v in value)
        elif value is not None and not isinstance(value, bool | int | float | str):
            raise InputError(f"{name}: holds a {type(value).__name__}; expected JSON values")


__all__ = ["read_input", "read_json", "read_optimizer"]
