"""Inputs of DeePMD-kit before its version 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kalmandp.errors import InputError

#: Keys of training/training_data that DeePMD-kit 1 has in training.
OF_DATA = ("systems", "batch_size", "set_prefix", "auto_prob", "auto_prob_style", "sys_probs")
#: Keys at the root of an input of DeePMD-kit 0, which had no sections.
VERSION_0 = ("use_smooth", "sel_a", "sel_r", "filter_neuron", "fitting_neuron")


def of_version_2(name: str, tree: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """An input of DeePMD-kit 1 as one of version 2, as `dp` converts it: data have a section of their own.

    Returns
    -------
    The tree, and sentences on what was changed; the tree as it is if it is not of version 1

    Raises
    ------
    InputError
        For an input of version 0, and one that mixes the two forms.
    """
    if "model" not in tree and (old := [key for key in VERSION_0 if key in tree]):
        raise InputError(
            f"{name}: is an input of DeePMD-kit 0, which has {old[0]!r} outside of any section; expected one "
            "of version 1, 2 or 3, with sections model and training (`dp train` of DeePMD-kit 2 converts it)"
        )
    section = tree.get("training")
    if not isinstance(section, Mapping):
        return tree, ()
    moved = [key for key in OF_DATA if key in section]
    if not moved:
        return tree, ()
    if "training_data" in section:
        raise InputError(
            f"{name}: training/{moved[0]} is where DeePMD-kit 1 has it, and there is training_data too; "
            f"expected it in training/training_data/{moved[0]}"
        )
    # the checkpoint to go on from is an option of the command, --restart
    training = {key: value for key, value in section.items() if key not in (*moved, "load_ckpt")}
    training["training_data"] = {key: section[key] for key in moved}
    notice = f"the input is of DeePMD-kit 1: {', '.join(moved)} of training taken as training_data"
    return {**tree, "training": training}, (notice,)
