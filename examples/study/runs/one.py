"""One run from its beginning, or from where it was interrupted, to its result."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kalmandp import Dataset, Potential, evaluate, read_input
from kalmandp.files import make_folder, one_run_in
from kalmandp.geometry.kept import with_pairs
from kalmandp.training.loop import Run
from kalmandp.training.report.metrics import Metrics, compare, summarize
from kalmandp.training.state.checkpoint import versions

from .budget import Clock, with_length
from .results import CURVE, DETAILS, RESULT, UNIT, plain, read_json, write_details, write_json
from .unit import NEVER, Init, Unit

#: Epochs at which the test frames are looked at: dense at first, then each this much later.
EPOCHS = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9, 10)
GROWTH = 1.07
#: … and numbers of frames at which they are looked at too.
FRAMES = (5, 12, 25, 50, 100, 200, 400, 800, 1600, 3200)
#: Seconds between checkpoints: P takes some to write.
SAVE_EVERY = 600.0
#: A picture of P is kept for networks of at most so many weights, this many cells across.
SMALL_NETWORK, CELLS = 8000, 256

Tell = Callable[[dict], None]


def schedule(per_epoch: int, n_steps: int) -> set[int]:
    """Steps after which the test frames are looked at; the last one is among them.

    Examples
    --------
    >>> sorted(schedule(80, 240))
    [5, 10, 12, 20, 25, 30, 40, 50, 60, 80, 100, 120, 160, 200, 240]
    """
    epochs, last = list(EPOCHS), n_steps / per_epoch
    while epochs[-1] < last:
        epochs.append(max(epochs[-1] + 1, math.ceil(GROWTH * epochs[-1])))
    due = {max(1, round(epoch * per_epoch)) for epoch in epochs} | set(FRAMES) | {n_steps}
    return {step for step in due if step <= n_steps}


def carry_out(unit: Unit, folder: Path, tell: Tell, stop: Callable[[], bool]) -> bool:
    """Train a unit in its folder; True if it is finished, False if it was stopped (and saved).

    A checkpoint of the same unit is gone on from; one of other settings or data is thrown away.
    """
    make_folder(folder)
    with one_run_in(folder):
        identity = plain(unit.identity())
        if read_json(folder / UNIT) != identity:
            clear(folder)
            write_json(folder / UNIT, identity)
        run = open_run(with_length(unit, folder), folder)
        test = _Kept(Dataset(unit.test, run.potential.type_map), run.potential)
        clock = Clock(unit, folder)
        if not _train(run, test, clock, tell, stop):
            _save(run, clock)
            return False
        _finish(unit, identity, run, test, clock.per_step, folder)
    return True


def open_run(unit: Unit, folder: Path) -> Run:
    """The package's run for a unit: new, or as its checkpoint left it."""
    settings = read_input(unit.input())
    saved = folder / f"{settings.training.save_ckpt}.h5"
    if saved.is_file():
        return Run(settings, folder, restart=saved)
    if unit.init is None:
        return Run(settings, folder)
    start = folder / "start.dp"
    _started(unit, settings).save(start)
    return Run(settings, folder, init_model=start)


def _started(unit: Unit, settings) -> Potential:
    """The potential with the study's own initial weights."""
    data, m = Dataset(unit.train), settings.model
    rng = np.random.default_rng([unit.seed, 5])
    potential = Potential.create(
        data.type_map, kind=m.kind, frames=data, rng=rng, **{**m.choices, "initial": "deepmd"}
    )
    potential.weights = redrawn(potential, unit.init, rng)
    return potential


def redrawn(potential: Potential, init: Init, rng: np.random.Generator) -> np.ndarray:
    """Weights (N,) with those of one kind drawn anew, w ~ N(μ, σ²); matrices times 1/√(n_in + n_out)."""
    w = np.array(potential.weights)
    for tensor in potential.layout.tensors:
        if tensor.kind == init.what:
            scale = 1.0 / np.sqrt(sum(tensor.shape)) if init.what == "W" else 1.0
            w[tensor.start : tensor.stop] = scale * rng.normal(init.mean, init.deviation, tensor.size)
    return w


class _Kept:
    """Test frames and their neighbours, found once."""

    def __init__(self, data: Dataset, potential: Potential):
        kept = with_pairs(data, potential.form.cutoff, potential.type_map)
        items = [kept[k] for k in range(len(data))]
        self.frames, self.pairs = [frame for frame, _ in items], [pairs for _, pairs in items]


def _train(run: Run, test: _Kept, clock: Clock, tell: Tell, stop) -> bool:
    """The steps that are left, with the curve in the run's history; whether all are made."""
    due = schedule(run.feed.steps_per_epoch, NEVER if clock.ends else run.n_steps)
    over = clock.is_over(run.step_number)
    saved = time.monotonic()
    while not over and (clock.ends or run.step_number < run.n_steps):
        if stop():
            return False
        with clock.step():
            run.step()
        over = clock.is_over(run.step_number)
        if over or run.step_number in due:
            errors = evaluate(run.result(), test.frames, test.pairs)
            run.history.add(run.record("display", valid=errors))
            tell({"energy": errors.energy_rmse, "force": errors.force_rmse})
        steps = max(run.n_steps, run.step_number)
        tell({"step": run.step_number, "steps": steps, "seconds": run.seconds})
        if time.monotonic() - saved > SAVE_EVERY:
            _save(run, clock)
            saved = time.monotonic()
    return True


def _save(run: Run, clock: Clock) -> None:
    run.checkpoint()
    clock.keep()


def _finish(unit: Unit, identity, run: Run, test: _Kept, cpu: float | None, folder: Path) -> None:
    """Final errors, details and the model; the result last, then the checkpoint is no longer needed."""
    run.finish()
    frames = [run.frames[k] for k in range(len(run.data))]
    result = run.result()
    train = evaluate(result, [f for f, _ in frames], [p for _, p in frames])
    comparison = compare(result, test.frames, test.pairs)
    final = _finals(train, summarize(comparison))
    write_details(folder / DETAILS, _details(run, comparison))
    result.save(folder / run.settings.training.model_file)
    names = ("step", "epoch", "updates", "seconds", "valid_e", "valid_f", "valid_v")
    history = {name: run.history[column].tolist() for name, column in zip(CURVE, names, strict=True)}
    blocks = run.trainer.filter.blocks.sizes if hasattr(run.trainer, "filter") else ()
    facts = {
        "n_weights": run.potential.layout.size, "blocks": list(blocks), "n_train": len(run.data),
        "n_test": len(test.frames), "n_atoms": len(test.frames[0]), "steps": run.step_number,
        "updates": run.trainer.updates, "seconds": run.seconds, "cpu_per_step": cpu,
        "state_bytes": int(sum(np.asarray(value).nbytes for value in run.trainer.state().values())),
        "threads": int(os.environ.get("NUMBA_NUM_THREADS", 0)),
        "rms_force": train.rms_force, "versions": versions(),
    }  # fmt: skip
    write_json(folder / RESULT, {"unit": identity, "curve": history, "final": final, "facts": facts})
    clear(folder, keep=(UNIT, RESULT, DETAILS, run.settings.training.model_file))


def _finals(train: Metrics, test: Metrics) -> dict[str, float]:
    """RMSE by "energy_train" …, mean absolute errors by "energy_mae_train" …"""
    return {
        f"{kind}{name}_{part}": getattr(errors, f"{kind}_{measure}")
        for part, errors in (("train", train), ("test", test))
        for kind in ("energy", "force", "virial")
        for name, measure in (("", "rmse"), ("_mae", "mae"))
    }


def _details(run: Run, comparison) -> dict[str, np.ndarray]:
    forces = [f.reshape(-1, 2) for f in comparison.forces if f is not None]
    known = [k for k, e in enumerate(comparison.energy) if e is not None]
    out = {
        "energy": np.array([comparison.energy[k] / comparison.n_atoms[k] for k in known]).reshape(-1, 2),
        "force": np.concatenate(forces).astype("float32") if forces else np.zeros((0, 2), "float32"),
    }
    if hasattr(run.trainer, "filter"):
        for column in ("update", "step_norm", "gain_norm", "lam"):
            out[column] = run.diagnostics[column]
        if run.potential.layout.size <= SMALL_NETWORK:
            out["covariance"] = coarse(run.trainer.filter.covariance, run.trainer.filter.blocks)
    return out


def coarse(covariance, blocks) -> np.ndarray:
    """|P| as a picture (cells, cells): the largest |P_ww'| in each cell; 0 outside of the blocks."""
    n = blocks.n_weights
    cells = min(CELLS, n)
    picture = np.zeros((cells, cells), "float32")
    at = lambda part: np.arange(part.start, part.stop) * cells // n
    for l, part in enumerate(blocks.slices):
        cell = at(part)
        starts = np.flatnonzero(np.r_[True, np.diff(cell) > 0])
        P = np.abs(np.asarray(covariance.dense(l)))
        small = np.maximum.reduceat(np.maximum.reduceat(P, starts, axis=0), starts, axis=1)
        place = np.ix_(cell[starts], cell[starts])
        picture[place] = np.maximum(picture[place], small)
    return picture


def clear(folder: Path, keep: tuple[str, ...] = ()) -> None:
    """Remove what a run left in its folder, but for the files to keep and the lock."""
    for path in folder.iterdir():
        if path.name in keep or path.name.startswith(".kalmandp"):
            continue
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
