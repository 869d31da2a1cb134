"""What a run is made of: the settings that `read_input` returns and the training loop takes.

Names are DeePMD-kit's where it has one; a field whose name differs says so. None means "not
stated": the optimizer's preset, or the data, decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from kalmandp.potentials.settings import ModelSettings

#: Optimizers that are partitions of one Kalman filter, and those that are not.
KALMAN_TYPES = ("RLEKF", "LEKF", "SEKF", "GEKF")
OPTIMIZER_TYPES = (*KALMAN_TYPES, "Adam", "SNES")


@dataclass(frozen=True)
class OptimizerSettings:
    """The section ``optimizer``. Every None is filled in from the preset (`training.config.presets`).

    Attributes
    ----------
    type : one of `OPTIMIZER_TYPES`; DeePMD-kit's LKF is RLEKF with preset "deepmd"
    preset : a name of `training.config.presets`: PRESETS, ADAM_PRESETS or SNES_PRESETS, by the type
    block_size : N_b, the largest block of P
    blocks : what becomes of the remainder of a layer larger than N_b: "text" gathers it with the
        layers after it, as the paper says; "code" leaves it alone, as the published codes do
    p0 : P₀ = p0·I
    lam, nu : λ₁ and ν of λ ← νλ + 1 − ν
    sigma_e, sigma_f, sigma_w, sigma_a : measurement noise of energy, force, virial, atomic energy:
        eV/atom, eV/Å, eV/atom, eV
    n_groups, group_size : y and x of Algorithm 2: force updates per frame, atoms in each; x "all" shares all
        atoms out among the y groups
    measurement : "signed" (one number per update, the paper's), "paired" (each force number together
        with the energy), "joint" (the signed numbers of a frame in one update) or "matrix" (every
        component a number of its own, one update)
    norm : "l1" (the paper's signed mean, mean |error|) or "l2" (root mean square), what a group's forces, or
        another vector, become as one number
    with_virial : use virials; None means where the data have them and the preset asks for it
    with_atomic_energies : learn from energies of single atoms, where a calculation has divided E so
    reduction : of a batch of frames to one update, see `presets.REDUCTIONS`
    candidates : thresholds and trials of the selection of update candidates (`measurements.candidates`)
    pref_e, pref_f : (start, limit) prefactors of energy and force
    covariance : "tiled" (half of each block) or "dense"
    covariance_dtype : "float64" or "float32"
    coupled : P keeps what is known of different blocks together for a window (`kalman.coupled`); False
        for Algorithm 1, which forgets it at every update. None: as the preset, with float64 only
    adapt : R follows the errors of late, times this (`noise.variances.AdaptiveNoise`); 0 for a fixed R
    averaging : a run gives away the mean of its weights of late, about this share of its steps
        (`training.trainers.averaging`); 0 for the weights of the last update
    gate : leave out measurements this many times as far off as usual (`training.measurements.gate`)
    checkpoint_dtype : "float32" to store P rounded to that in checkpoints; a restart then no longer goes
        on with the same bits
    adam_beta1, adam_beta2 : Adam's own
    population, sigma0 : SNES's own: members of a generation, σ of the weights in the first one
    lambda_e, lambda_f, lambda_v : SNES's weights of the RMSE of energy, force and virial in its loss
    """

    type: str = "RLEKF"
    preset: str = "default"
    block_size: int | None = None
    blocks: str | None = None
    p0: float | None = None
    lam: float | None = None
    nu: float | None = None
    sigma_e: float | None = None
    sigma_f: float | None = None
    sigma_w: float | None = None
    sigma_a: float | None = None
    n_groups: int | None = None
    group_size: int | str | None = None
    measurement: str | None = None
    norm: str | None = None
    with_virial: bool | None = None
    with_atomic_energies: bool | None = None
    reduction: str | None = None
    candidates: dict | None = None
    pref_e: tuple[float, float] | None = None
    pref_f: tuple[float, float] | None = None
    covariance: str | None = None
    covariance_dtype: str | None = None
    coupled: bool | None = None
    adapt: float | None = None
    averaging: float | None = None
    gate: float | None = None
    checkpoint_dtype: str | None = None
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    population: int | None = None
    sigma0: float | None = None
    lambda_e: float | None = None
    lambda_f: float | None = None
    lambda_v: float | None = None

    @property
    def is_kalman(self) -> bool:
        return self.type in KALMAN_TYPES


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
    model_file : (ours) the trained model
    device : (ours) "cpu" or "cuda"
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
    model_file: str = "model.dp"
    device: str = "cpu"

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
    """

    model: ModelSettings
    optimizer: OptimizerSettings
    loss: LossSettings
    learning_rate: LearningRateSettings
    training: TrainingSettings
    source: dict = field(default_factory=dict, repr=False)
    folder: Path = Path()
    ignored: tuple[str, ...] = ()

    def frames_per_step(self, n_atoms: int) -> int:
        """Frames of a step, of systems with ``n_atoms``: one for a filter, unless the input states more."""
        t = self.training
        alone = self.optimizer.is_kalman and t.batch_size is None
        return 1 if alone else t.frames_per_batch(n_atoms)
