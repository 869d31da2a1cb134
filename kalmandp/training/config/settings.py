"""What a run is made of: the settings that `read_input` returns and the training loop takes.

Names are DeePMD-kit's where it has one; a field whose name differs says so. None means "not
stated": the optimizer's preset, or the data, decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kalmandp.potentials.settings import ModelSettings

#: Optimizers that are partitions of one Kalman filter; n2p2's own filter and schedule; all.
KALMAN_TYPES = ("RLEKF", "LEKF", "SEKF", "GEKF")
N2P2 = "n2p2"
OPTIMIZER_TYPES = (*KALMAN_TYPES, N2P2, "Adam", "SNES")


class OptimizerSettings:
    """The section ``optimizer``: its type, its preset, and what it states beside them.

    What an option means, and its value where it is not stated, stands once: in the optimizer's class of
    `training.config.presets` (`KalmanChoices`, `AdamChoices`, `SnesChoices`), of which presets are instances,
    or in `training.config.n2p2`.
    What can be stated, and in which range, stands in `training.config.keys`.

    Parameters
    ----------
    type : one of `OPTIMIZER_TYPES`; DeePMD-kit's LKF is RLEKF with preset "deepmd"
    preset : a name of `training.config.presets`: PRESETS, ADAM_PRESETS or SNES_PRESETS, by the type
    stated : the other keys and their values; None is the same as not stated
    """

    def __init__(self, type: str = "RLEKF", preset: str = "default", **stated: Any):
        self.type, self.preset = type, preset
        self.stated = {name: value for name, value in stated.items() if value is not None}

    @property
    def is_kalman(self) -> bool:
        """Whether it is a partition of the Kalman filter."""
        return self.type in KALMAN_TYPES

    def with_preset(self, preset: str) -> OptimizerSettings:
        """The same, of another preset."""
        return OptimizerSettings(self.type, preset, **self.stated)

    def get(self, name: str) -> Any:
        """What is stated of an option, None if nothing is."""
        return self.stated.get(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OptimizerSettings) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        stated = "".join(f", {name}={value!r}" for name, value in self.stated.items())
        return f"OptimizerSettings(type={self.type!r}, preset={self.preset!r}{stated})"


@dataclass(frozen=True)
class LossSettings:
    """The section ``loss`` (Adam's): prefactors at the start of the run and at its limit."""

    start_pref_e: float = 0.02
    limit_pref_e: float = 1.0
    start_pref_f: float = 1000.0
    limit_pref_f: float = 1.0
    start_pref_v: float = 0.0
    limit_pref_v: float = 0.0


@dataclass(frozen=True)
class LearningRateSettings:
    """The section ``learning_rate`` (Adam's): α(t) = start_lr · decay_rate^⌊t / decay_steps⌋.

    Without ``decay_rate`` it is chosen so that α reaches ``stop_lr`` at the last step, or at ``stop_step``,
    after which it stays (MatPL's 1,000,000, whatever the length of the run).
    """

    type: str = "exp"
    start_lr: float = 1e-3
    stop_lr: float = 1e-8
    decay_steps: int = 5000
    decay_rate: float | None = None
    stop_step: int | None = None


@dataclass(frozen=True)
class TrainingSettings:
    """The section ``training``.

    Attributes
    ----------
    systems, validation_systems : paths or "file.hdf5#/group"; see `Settings.folder`
    batch_size : frames per step; None to choose by atoms, see `frames_per_batch`
    batch_atoms : N of DeePMD-kit's "auto:N"
    validation_batch_size : frames per validation batch; None as above
    validation_batch : ``validation_data/numb_btch``, batches per validation
    auto_prob : "prob_sys_size": an epoch has every frame once; "prob_uniform": all systems alike
    sys_probs : probability of each system; None for ``auto_prob``
    n_steps, n_epochs : ``numb_steps`` (batches) or ``numb_epoch``; exactly one is not None
    seed : of the data's order and of the weights; None for one that is drawn and recorded
    disp_file, disp_freq : the learning curve, and steps between its lines
    save_freq, save_ckpt : steps between checkpoints, and their name
    validation_fraction : (ours) without validation_data: this last part of a seeded shuffle
    model_file : (ours) the trained model; "" in an input for the usual name of its kind
    device : (ours) "cpu" or "cuda"
    committee : (ours) models that are trained together (`training.members`)
    """

    systems: tuple[str, ...]
    validation_systems: tuple[str, ...] = ()
    batch_size: int | None = None
    batch_atoms: int = 32
    validation_batch_size: int | None = None
    validation_batch: int = 1
    auto_prob: str = "prob_sys_size"
    sys_probs: tuple[float, ...] | None = None
    n_steps: int | None = None
    n_epochs: float | None = None
    seed: int | None = None
    disp_file: str = "lcurve.out"
    disp_freq: int = 1000
    save_freq: int = 1000
    save_ckpt: str = "model.ckpt"
    validation_fraction: float | None = None
    model_file: str = ""
    device: str = "cpu"
    committee: int = 1

    def frames_per_batch(self, n_atoms: int) -> int:
        """Frames in a batch of systems with ``n_atoms``: given, or enough for ``batch_atoms``."""
        if self.batch_size is not None:
            return self.batch_size
        return max(1, math.ceil(self.batch_atoms / max(1, n_atoms)))

    @property
    def by_system(self) -> bool:
        """Whether systems are drawn by probability: a batch then is of one of them."""
        return self.sys_probs is not None or self.auto_prob != "prob_sys_size"


@dataclass(frozen=True)
class Settings:
    """A whole input file, checked.

    Attributes
    ----------
    model, optimizer, loss, learning_rate, training : the sections
    source : the input as it was read, for the checkpoint and the model file
    folder : folder of the input file; the systems have been resolved against it where they exist
        there, and are left relative to the current folder otherwise, as DeePMD-kit has them
    ignored : paths of keys that change nothing here (display, profiling), for a notice
    companion : of an input of another program, the module that writes that program's files beside ours
        (``at_checkpoint(run)``, ``at_epoch(run)``, ``at_end(run)``); "" for our own
    notices : sentences on what such an input states that has no meaning here
    start : a model to go on from, "" for none
    start_state : a checkpoint whose run goes on if ``start`` is the model that it had written, or ""
    task : "train", or "predict": the frames are predicted by the model ``start``
    """

    model: ModelSettings
    optimizer: OptimizerSettings
    loss: LossSettings
    learning_rate: LearningRateSettings
    training: TrainingSettings
    source: dict = field(default_factory=dict, repr=False)
    folder: Path = Path()
    ignored: tuple[str, ...] = ()
    companion: str = ""
    notices: tuple[str, ...] = ()
    start: str = ""
    start_state: str = ""
    task: str = "train"

    @property
    def checkpoint_name(self) -> str:
        """Name of the checkpoint in the run's folder: save_ckpt, as an HDF5 file."""
        name = self.training.save_ckpt
        return name if Path(name).suffix in (".h5", ".hdf5") else f"{name}.h5"

    def frames_per_step(self, n_atoms: int) -> int:
        """Frames of a step, of systems with ``n_atoms``: one for a filter, unless the input states more."""
        t = self.training
        alone = (self.optimizer.is_kalman or self.optimizer.type == N2P2) and t.batch_size is None
        return 1 if alone else t.frames_per_batch(n_atoms)
