"""A run's checkpoint: one rank writes it, all give their part of P; after an error only if all can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kalmandp.errors import FileError
from kalmandp.ranks.rows import written_by_first
from kalmandp.training.report.history import COLUMNS
from kalmandp.training.state.checkpoint import check_reserve, save_checkpoint

#: Seconds in which all ranks must meet the same error, for the state before it to be saved.
TOGETHER = 2.0


def save(run: Any, path: Path, feed: dict[str, Any], result: Callable[[], Any] | None = None) -> None:
    """Write a checkpoint of a run. All ranks call it; rank 0 writes, and never holds the whole P.

    Parameters
    ----------
    run : a `training.loop.Run`, as it is now
    path : file to write or replace
    feed : state of the run's feed
    result : makes the potential that is written as the run's model beside it, if one is

    Raises
    ------
    FileError
        On all ranks alike, if it cannot be written; what was at ``path`` is unchanged.
    """
    optimizer = run.trainer.state()
    written_by_first(run.team, optimizer, lambda: _write(run, path, feed, optimizer, result))


def rescue(run: Any, feed: dict[str, Any]) -> str:
    """After an update that failed: save the filter as it was before; returns words for the user.

    The last checkpoint is not touched. Of several ranks all must come here, within `TOGETHER`: where only
    some have met the error, the others wait for them in another call, and no checkpoint can be written.

    Parameters
    ----------
    run : whose update failed
    feed : state of its feed before that, with which the data go on with the batch that failed
    """
    if not run.trainer.updates:
        return "there was no update before it"
    if not run.team.all_agree(TOGETHER):
        return "other ranks did not meet it, so that nothing was saved; the last checkpoint stands"
    path = run.checkpoint_path.with_suffix(".stopped.h5")
    try:
        save(run, path, feed)
    except FileError as error:
        return f"the filter as before this update could not be saved ({error})"
    return f"saved as before this update in {path}, from where --restart goes on with this frame"


def _write(run: Any, path: Path, feed: dict[str, Any], optimizer: dict[str, Any], result) -> None:
    check_reserve(path)
    gate, written = run.trainer.gate, run.potential if result is None else result()
    save_checkpoint(
        path,
        potential=run.potential,
        source={
            **run.settings.source, "seed_used": run.seed, "folder_used": run.folder,
            "preset_used": run.settings.optimizer.preset,
        },
        rng=run.rng,
        states={
            "optimizer": optimizer,
            "feed": feed,
            "history": {"rows": run.history.array, "columns": " ".join(COLUMNS)},
            "diagnostics": run.diagnostics.state(),
            **({} if gate is None else {"gate": gate.state()}),
            **({"result": {"weights": np.array(written.weights)}} if written is not run.potential else {}),
            **({} if run.members is None else {"committee": run.members.state()}),
        },
        step=run.step_number,
        seconds=run.seconds,
        covariance_dtype=run.settings.optimizer.get("checkpoint_dtype"),
    )
