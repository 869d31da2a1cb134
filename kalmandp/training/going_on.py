"""Going on where a run stood: ``--restart``, and a new run with the model that an earlier one had written.

The first has the same bits as a run that was not interrupted. So has the second, if the model, the data and
the optimizer are those of the earlier run: its steps are counted anew, and all else goes on.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from kalmandp.errors import InputError, require
from kalmandp.potentials.potential import Potential
from kalmandp.training.config.settings import Settings
from kalmandp.training.report.diagnostics import Diagnostics
from kalmandp.training.report.history import History
from kalmandp.training.starting import differences

#: The preset of what does not name its own: the default of the Deep Potential up to version 0.10.
UNNAMED = "v0.6"


def as_begun(settings: Settings, saved: dict | None) -> Settings:
    """The settings of a restart: a preset that the input leaves open is the one that the run began with."""
    o = settings.optimizer
    if saved is None or not o.is_kalman or o.preset != "default":
        return settings
    return replace(settings, optimizer=o.with_preset(saved["source"].get("preset_used", UNNAMED)))


def restore(run: Any, saved: dict) -> None:
    """Put a run where its checkpoint left it.

    Parameters
    ----------
    run : a `training.loop.Run` of the checkpoint's potential
    saved : from `state.checkpoint.open_checkpoint`

    Raises
    ------
    InputError
        If the input's model, data or optimizer are not those of the checkpoint.
    """
    then, now = (source.get("model") or {} for source in (saved["source"], run.settings.source))
    differing = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if not differing and "started from" not in run.potential.info:  # in a file that the section names
        differing = differences(run.potential, run.settings)
    if differing:
        raise InputError(
            f"the input's section model differs from the checkpoint's ({', '.join(differing)}); expected the "
            "same model for a restart (to start anew from these weights use --init-model)"
        )
    n_frames = _frames_of(saved["feed"])
    if n_frames != run.feed.n_frames:
        raise InputError(
            f"the training data hold {run.feed.n_frames} frames; expected {n_frames}, as in the "
            "checkpoint (to start anew from its weights use --init-model)"
        )
    _optimizer(run, saved)
    if run.members is not None:
        run.members.restore(saved.get("committee", {}))
    _order(run, saved)
    run.history = History(saved["history"]["rows"])
    run.diagnostics = Diagnostics(saved.get("diagnostics"))
    run.step_number, run.seconds = saved["step"], saved["seconds"]


def is_left_by(potential: Potential, earlier: dict, path) -> bool:
    """Whether a model is the one that an earlier run had written, so that its optimizer can go on.

    If it is not, a warning says in what they differ.

    A run that averages, or solves for a last layer, writes other weights than its optimizer has.

    Parameters
    ----------
    potential : the model, as it was read
    earlier : checkpoint of that run (`state.checkpoint.open_checkpoint`)
    path : of the checkpoint
    """
    left = earlier["potential"]
    written = earlier.get("result", {}).get("weights", left.weights)
    energy = lambda p: p.bias_atom_e + p.out_bias
    if potential.form != left.form:
        others = ["form"]
    else:
        statistics = all(np.array_equal(potential.statistics[k], v) for k, v in left.statistics.items())
        # a model whose file states no energies had them from its data
        energies = not energy(potential).any() or np.allclose(energy(potential), energy(left), rtol=1e-9)
        same = {
            "weights": np.array_equal(potential.weights, written), "statistics": statistics,
            "energies of atoms": energies,
        }  # fmt: skip
        others = [name for name, is_same in same.items() if not is_same]
    if others:
        what = f"its run left a model with other {' and '.join(others)} than the one that is taken now"
        warnings.warn(f"{path}: {what}; the optimizer begins anew", UserWarning, stacklevel=2)
    return not others


def take_up(run: Any, earlier: dict) -> bool:
    """Let a new run go on with the optimizer of an earlier one, and with its order of the data.

    Parameters
    ----------
    run : of the earlier run's potential (`is_left_by`)
    earlier : checkpoint of that run

    Returns
    -------
    bool
        Whether its optimizer goes on. What does not is said in a warning.
    """
    path = run.settings.start_state
    try:
        _optimizer(run, earlier)
    except InputError as error:
        warnings.warn(f"{path}: the weights are taken, the optimizer begins anew: {error}", stacklevel=2)
        return False
    try:
        then, seed = _frames_of(earlier["feed"]), earlier["source"].get("seed_used", run.seed)
        require(run.feed.n_frames == then, "number of training frames", run.feed.n_frames, then)
        require(run.seed == seed, "seed", run.seed, seed)
        _order(run, earlier)
    except InputError as error:
        anew = "the optimizer goes on, the order of the data begins anew"
        warnings.warn(f"{path}: {anew}: {error}", stacklevel=2)
    return True


def _optimizer(run: Any, saved: dict) -> None:
    run.trainer.restore(saved["optimizer"])
    if run.trainer.gate is not None:
        run.trainer.gate.restore(saved.get("gate", {}))


def _order(run: Any, saved: dict) -> None:
    run.feed.restore(saved["feed"])
    run.rng.bit_generator.state = saved["generator"]


def _frames_of(feed: dict) -> int:
    """How many training frames there were, by the state of a feed."""
    return len(feed["order"]) if "order" in feed else int(feed["n_frames"])
