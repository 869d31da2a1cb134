"""What a run left in its folder, read for a report."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kalmandp.errors import FileError, KalmanDPError

#: Keys that a run adds to the input it keeps in its checkpoint.
ADDED = ("seed_used", "folder_used", "preset_used")


class Run(NamedTuple):
    """A finished or stopped run.

    folder, checkpoint, model, curve : paths
    header : `commands.info.Header`;  versions : of the packages it ran with
    tree : the input;  settings : the same, checked, with paths that can be opened
    potential : the model;  seed : the one used
    """

    folder: Path
    checkpoint: Path
    model: Path
    curve: Path
    header: Any
    versions: dict
    tree: dict
    settings: Any
    potential: Any
    seed: int

    @property
    def title(self) -> str:
        return self.folder.resolve().name

    @property
    def subtitle(self) -> str:
        types = ", ".join(self.potential.type_map)
        return f"A potential for {types}, {self.potential.layout.size:,} weights"


def read_run(folder, input=None) -> Run:
    """Read a run's checkpoint and model, and the input that both carry.

    Parameters
    ----------
    folder : of the run
    input : input file whose data take the place of the run's
    """
    import h5py

    from kalmandp.commands.info import read_checkpoint_header
    from kalmandp.potentials.potential import Potential
    from kalmandp.training.config.inputs import read_input
    from kalmandp.training.going_on import as_begun

    folder = Path(folder)
    checkpoint = _checkpoint(folder)
    header = read_checkpoint_header(checkpoint)
    with h5py.File(checkpoint, "r") as file:
        versions = json.loads(file["json/versions"][()].tobytes()) if "json/versions" in file else {}
    tree = {name: value for name, value in header.source.items() if name not in ADDED}
    settings = read_input(tree, header.source.get("folder_used", "."))
    if input is not None:
        given = read_input(input)
        settings = given if given.source.get("model") == tree.get("model") else _other(input, checkpoint)
    settings = as_begun(settings, {"source": header.source})
    t = settings.training
    potential = Potential.load(folder / t.model_file)
    seed = int(header.source.get("seed_used", t.seed or 0))
    return Run(
        folder, checkpoint, folder / t.model_file, folder / t.disp_file, header, versions, tree, settings,
        potential, seed,
    )  # fmt: skip


def _other(input, checkpoint: Path):
    raise FileError(f"{input}: its section model is not that of {checkpoint}; expected the input of this run")


def _checkpoint(folder: Path) -> Path:
    """The newest checkpoint of a folder; not what was saved of a failure."""
    from kalmandp.commands.info import kind_of

    if not folder.is_dir():
        raise FileError(f"{folder}: is not a folder; expected the folder of a run")
    found = []
    for path in folder.glob("*.h5"):
        with contextlib.suppress(FileError):
            if not path.name.endswith(".stopped.h5") and kind_of(str(path)) == "checkpoint":
                found.append(path)
    if not found:
        raise FileError(f"{folder}: holds no checkpoint; expected the folder of a run (`kalmandp train -o`)")
    return max(found, key=lambda path: path.stat().st_mtime)


@contextlib.contextmanager
def data_of(run: Run) -> Iterator[tuple[Any, Any, str]]:
    """Training and validation data, and why there are none: ``(None, None, words)`` if they are gone."""
    from kalmandp.training.data.splitting import datasets

    try:
        training, validation = datasets(run.settings, run.seed)
    except (KalmanDPError, OSError) as error:
        yield None, None, str(error)
        return
    with training, contextlib.nullcontext() if validation is None else validation:
        yield training, validation, ""
