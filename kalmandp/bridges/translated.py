"""An input of another program, as the same input of ours."""

from __future__ import annotations

from typing import NamedTuple


class Translated(NamedTuple):
    """What `training.config.inputs.read_input` makes settings of.

    tree : the input as a file of ours would state it
    notices : sentences on what has no meaning here
    start : path of a model to go on from, "" for none
    start_state : path of the checkpoint that was written beside that model, to go on from, "" for none
    task : "train" or "predict"
    """

    tree: dict
    notices: tuple[str, ...]
    start: str = ""
    task: str = "train"
    start_state: str = ""
