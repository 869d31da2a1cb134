"""n2p2's input.nn, as an input of this package: the model as it stands, the data beside it, another filter.

``kalmandp train input.nn`` in a folder with input.nn and input.data does what ``nnp-scaling`` and
``nnp-train`` do: symmetry functions, networks and their files are n2p2's, weights are trained by our own
filter, which measures all forces of a frame at once. Keywords of n2p2's filter are named in one notice.

Source: n2p2's documentation, "Configuration keywords".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kalmandp.bridges.n2p2.files import DATA, units_of
from kalmandp.bridges.translated import Translated
from kalmandp.errors import FileError
from kalmandp.potentials.hdnnp.files import read_input_nn
from kalmandp.potentials.hdnnp.units import bias_of

#: Keywords that are obeyed; all others of training belong to n2p2's own filter, or to its screen.
OBEYED = frozenset(
    """epochs random_seed test_fraction use_short_forces nguyen_widrow_weights_short use_old_weights_short
    weights_min weights_max main_error_metric memorize_symfunc_results updater_type""".split()
)
#: Passes over the data where the keyword ``epochs`` is missing.
EPOCHS = 20


def recognises(path) -> bool:
    """Whether a file is an input.nn: it names elements and symmetry functions."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read(1 << 20).splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    first = {words[0] for words in (line.split("#")[0].split() for line in lines) if words}
    return {"elements", "symfunction_short"} <= first


def read(path, optimizer: str | None = None) -> Translated:
    """Translate an input.nn.

    Parameters
    ----------
    path : of input.nn; input.data is expected beside it
    optimizer : "SNES", "Adam" or a filter; by default the filter

    Raises
    ------
    FileError
        If input.data is missing, or input.nn cannot be used; the line is named.
    """
    path = Path(path)
    folder, units = path.parent, units_of(path)
    found = read_input_nn(path, units)
    stated = found.training
    if not (folder / DATA).is_file():
        raise FileError(f"{folder / DATA}: no such file; expected the structures beside {path.name}")
    model: dict[str, Any] = {"type": "hdnnp", "input_nn": path.name, "units": units}
    if found.atom_energy_t.any():  # else the least squares of the data
        model["atom_energies"] = bias_of(found.form, found.atom_energy_t).tolist()
    if "nguyen_widrow_weights_short" in stated:
        model["initial_weights"] = "nguyen-widrow"
    seed = int(stated.get("random_seed", 1))
    training: dict[str, Any] = {
        "training_data": {"systems": [DATA]}, "numb_epoch": float(stated.get("epochs", EPOCHS)), "seed": seed,
        "disp_freq": 100, "model_file": "hdnnp",
    }  # fmt: skip
    share = float(stated.get("test_fraction", 0.0))
    if share > 0:
        training["validation_fraction"] = min(share, 0.9)
    section: dict[str, Any] = {"type": optimizer or "RLEKF"}
    if section["type"] == "SNES":
        section["preset"] = "gpumd"
    start = str(folder) if "use_old_weights_short" in stated else ""
    return Translated({"model": model, "optimizer": section, "training": training}, _notices(stated), start)


def _notices(stated: dict[str, str]) -> tuple[str, ...]:
    idle = sorted(set(stated) - OBEYED)
    if not idle:
        return ()
    return (
        f"without effect here: {', '.join(idle)} (of n2p2's own filter and files: ours measures all forces "
        "of a frame at once)",
    )
