"""Say what a file holds: a data set (HDF5, a deepmd/npy folder, or what `kalmandp convert` reads), a model,
or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

#: Systems of a data set that are listed.
LISTED = 20
#: A file of more bytes is taken for no input file, without reading it.
LARGEST_INPUT = 1 << 20


def add_arguments(parser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file or folder")


def run(args) -> int:
    from kalmandp.errors import FileError, InputError

    describe = {"model": _model, "checkpoint": _checkpoint, "data": _data}
    try:
        kind = kind_of(args.file)
    except FileError:
        if is_input(Path(args.file)):
            what = f"is an input file; `kalmandp plan {args.file}` says what its run takes"
            raise InputError(f"{args.file}: {what}") from None
        if not _is_of_another_program(args.file):
            raise
        kind = "data"
    print(describe[kind](args.file))
    return 0


def kind_of(path: str) -> str:
    """ "model", "checkpoint" or "data", from the suffix and what an HDF5 file has at its root."""
    from kalmandp.errors import FileError
    from kalmandp.registry import KINDS, load
    from kalmandp.training.state.checkpoint import is_checkpoint

    file, mark, _ = path.partition("#")
    if any(load(kind.files).recognises(path) for kind in KINDS.values() if not _is_hdf5(path)):
        return "model"
    if mark or Path(path).is_dir():
        return "data"
    if Path(path).suffix.lower() in (".yaml", ".yml"):
        return "model"
    if not Path(file).is_file():
        raise FileError(f"{path}: no such file or folder")
    import h5py

    try:
        with h5py.File(path, "r") as opened:
            if is_checkpoint(opened):
                return "checkpoint"
            return "model" if "json" in opened.attrs else "data"
    except Exception as error:  # HDF5 raises errors of any class for damage
        raise FileError(
            f"{path}: is not an HDF5 file that can be read ({_first_line(error)}); expected a data "
            "set, a model or a checkpoint (`kalmandp convert` makes a data set of other formats)"
        ) from error


def is_input(path: Path) -> bool:
    """Whether a text has the sections of an input file, or is damaged JSON (its reader names the place)."""
    import json

    from kalmandp.registry import INPUTS, load

    try:
        if path.stat().st_size > LARGEST_INPUT:
            return False
        if any(load(module).recognises(path) for module, _ in INPUTS.values()):
            return True
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    if path.suffix.lower() in (".yaml", ".yml"):
        heads = {line.partition(":")[0].strip() for line in text.splitlines() if line[:1].isalpha()}
        return {"model", "training"} <= heads
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return path.suffix.lower() == ".json"
    return isinstance(tree, dict) and {"model", "training"} <= set(tree)


def _is_of_another_program(path: str) -> bool:
    """Whether it holds frames in a format that is recognised: extended XYZ, an OUTCAR, an input.data, …"""
    from kalmandp.errors import KalmanDPError
    from kalmandp.formats.sources import guess_format

    try:
        return Path(path).is_file() and guess_format(path) not in ("ase", "deepmd")
    except KalmanDPError:
        return False


def _is_hdf5(path: str) -> bool:
    import h5py

    return Path(path).is_file() and h5py.is_hdf5(path)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


# --- data -----------------------------------------------------------------------------------------


def _data(path: str) -> str:
    from kalmandp.commands.wording import plural, table
    from kalmandp.frames.dataset import Dataset

    with Dataset(path) as data:
        systems = data.systems
        atoms = sorted({s.n_atoms for s in systems})
        sizes = f"{atoms[0]}" if len(atoms) == 1 else f"{atoms[0]} to {atoms[-1]}"
        rows = [
            ("data set", path),
            ("frames", f"{len(data):,} in {plural(len(systems), 'system')}"),
            ("atoms per frame", sizes),
            ("types", ", ".join(data.type_map)),
            ("labels", ", ".join(data.labels) or "none"),
        ]
        if data.ignored:
            rows.append(("not read", ", ".join(data.ignored)))
        for attributes in data.attributes.values():
            rows += [(name, _shorten(value)) for name, value in attributes.items()]
        lines = [table(rows), ""]
        for s in systems[:LISTED]:
            lines.append(f"  {s.formula:<16} {s.n_frames:>8,} frames  {', '.join(s.labels)}")
        if len(systems) > LISTED:
            lines.append(f"  … and {len(systems) - LISTED} more")
    return "\n".join(lines)


def _shorten(value, length: int = 300) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= length else text[: length - 1] + "…"


# --- model ----------------------------------------------------------------------------------------


def _model(path: str) -> str:
    from kalmandp.commands.wording import table
    from kalmandp.potentials.potential import Potential

    potential = Potential.load(path)
    return table([("file", path), *model_rows(potential.form)]
                 + _provenance(potential))  # fmt: skip


def model_rows(form) -> list[tuple[str, str]]:
    """What a potential is made of, in the words of its kind."""
    from kalmandp.registry import kind_of, load

    return [*load(kind_of(form).rows)(form), ("weights", f"{form.layout().size:,}")]


def _provenance(potential) -> list[tuple[str, str]]:
    bias = potential.bias_atom_e + potential.out_bias
    rows = [
        ("energy bias (eV)", ", ".join(f"{t} {b:.4f}" for t, b in zip(potential.type_map, bias)))  # noqa: B905
    ]
    info = dict(potential.info)
    info.pop("model_def_script", None)
    if "min_nbor_dist" in info:
        rows.append(("closest pair", f"{float(info.pop('min_nbor_dist')):.3f} Å in the data"))
    rows += [
        (f"{name}, {key}" if isinstance(value, dict) else name, _shorten(text))
        for name, value in info.items()
        for key, text in (value.items() if isinstance(value, dict) else [("", value)])
    ]
    return rows


# --- checkpoint -----------------------------------------------------------------------------------


class Header(NamedTuple):
    """A checkpoint without its large arrays."""

    source: dict
    kind: str
    model: dict
    step: int
    seconds: float
    epoch: int
    history: list


def read_checkpoint_header(path) -> Header:
    """Read what a checkpoint says about its run, but neither weights nor P.

    Raises
    ------
    FileError
        If the file is missing, damaged, or not a checkpoint.
    """
    import h5py

    from kalmandp.errors import FileError
    from kalmandp.training.state import codec
    from kalmandp.training.state.checkpoint import check_format, stored_kind

    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "no such file"
        raise FileError(f"{path}: {what}; expected a checkpoint")
    try:
        with h5py.File(path, "r") as file:
            check_format(path, file)
            return Header(
                source=dict(codec.get_json(file, "input")),
                kind=stored_kind(file),
                model=dict(codec.get_json(file, "model")),
                step=int(codec.attribute(file["progress"], "step")),
                seconds=float(codec.attribute(file["progress"], "seconds")),
                epoch=int(codec.attribute(file["feed"], "epoch")),
                history=codec.array(file["history/rows"])[-1:].astype(float).tolist(),
            )
    except FileError:
        raise
    except Exception as error:  # HDF5 and JSON raise errors of any class for damage
        raise FileError(f"{path}: cannot be read as a checkpoint ({_first_line(error)})") from error


def stored_disagreement(path):
    """What a checkpoint says of its virial labels and its energies; None where they agree well enough."""
    import h5py

    from kalmandp.training.measurements.virial_offset import WORTH_A_LINE, disagreement
    from kalmandp.training.state import codec
    from kalmandp.training.state.checkpoint import check_format, reading

    with reading(path), h5py.File(path, "r") as file:
        check_format(path, file)
        stored = file["optimizer"].get("virial_offset")
        if stored is None:
            return None
        atoms_t = codec.array(stored["atoms"]).astype(float)
        o_t = codec.array(file["optimizer/weights"])[-len(atoms_t) :].astype(float)
        found = disagreement(o_t, atoms_t, float(codec.attribute(stored, "volume")))
    return None if found is None or not abs(found.energy) > WORTH_A_LINE else found


def _checkpoint(path: str) -> str:
    from kalmandp.frames.hdf5.storage import reading

    with reading(path):  # a header can be complete and still make no sense
        return _checkpoint_table(path)


def _checkpoint_table(path: str) -> str:
    from kalmandp.commands.wording import duration, size, table
    from kalmandp.registry import form_class
    from kalmandp.training.config.presets import stated_type
    from kalmandp.training.report.history import COLUMNS

    header = read_checkpoint_header(path)
    stated = header.source.get("optimizer", {})
    preset = f", preset {stated['preset']}" if "preset" in stated else ""
    rows = [
        ("checkpoint", f"{path}, {size(Path(path).stat().st_size)}"),
        ("optimizer", f"{stated_type(stated)}{preset}"),
        ("step", f"{header.step:,}, in epoch {header.epoch + 1}"),
        ("time trained", duration(header.seconds)),
        ("seed", str(header.source.get("seed_used"))),
    ]
    for row in header.history:
        last = dict(zip(COLUMNS, row, strict=False))
        for name, key, unit in (("energy", "e", "meV/atom"), ("force", "f", "meV/Å")):
            value = last.get(f"valid_{key}", float("nan"))
            if value == value:
                rows.append((f"{name} RMSE", f"{1e3 * value:.3g} {unit} on validation frames"))
    if (found := stored_disagreement(path)) is not None:
        rows.append(("virials", str(found)))
    systems = header.source.get("training", {}).get("training_data", {}).get("systems")
    rows.append(("trained on", _shorten(systems)))
    return table(rows + model_rows(form_class(header.kind)(**header.model)))
