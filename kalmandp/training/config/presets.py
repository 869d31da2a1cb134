"""Every choice an optimizer needs, under the name of the code that makes it.

A preset fixes what the user's input leaves open. "paper", "deepmd", "matpl", "matpl-gkf", "n2p2" and
"n2p2-fading" reproduce those codes' arithmetic; "default" is ours, with the noise in physical units. Adam and
SNES have presets of their own.

Batches: B frames are reduced to one measurement before P is touched, the early reduction of FEKF ("Training
one DeePMD model in minutes", PPoPP 2024), so that they cost one update. With h_f and e_f of frame f (its
H and the norm of its error) and R of one frame, `REDUCTIONS` has ::

    "mean"      H = (1/B) Σ h_f     error = (1/B) Σ e_f       R     a batch counts as one frame
    "sum"       H = Σ h_f           error = Σ e_f             R     the same as "mean" with R/B²
    "deepmd"    H = Σ h_f           error = (1/√B) Σ e_f      R     the step of "sum" divided by √B

For B = 1 all three are the same. "deepmd" is the reduction of DeePMD-kit's LKF and of MatPL's, read in their
code: H is summed, the error is √B times its mean. P is updated as by "sum"; the step, against that of "mean",
is 1/√B where P decides it (H P Hᵀ ≫ R), and B√B where the noise does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kalmandp.errors import InputError
from kalmandp.kalman.blocks import BLOCK_SIZE
from kalmandp.training.config.n2p2 import N2P2Settings
from kalmandp.training.config.settings import LearningRateSettings, LossSettings, OptimizerSettings
from kalmandp.training.measurements.candidates import Selection
from kalmandp.training.measurements.weights import Weighting
from kalmandp.training.noise.annealing import Annealing, UnitNoise
from kalmandp.training.noise.variances import BlockNoise, PhysicalNoise

#: Atoms of a group where a group of all atoms is too large: in a matrix measurement, or with candidates.
SMALL_GROUP = 12
#: P₀ of trained weights, divided by that of random ones. With 3e-4, the first 20 updates of NEP and Deep
#: Potential raised the energy errors of silicon and germanium by a factor of up to 1.8, nearly all of it a
#: constant per atom: it is of second order in the steps, and P takes it for known. With 5e-5 they do not;
#: force errors fall more slowly.
TRAINED = 5e-5
#: Of a batch of B frames: exponents (a, b) in H = B^a · mean H and error = B^b · mean error.
REDUCTIONS = {"mean": (0.0, 0.0), "sum": (1.0, 1.0), "deepmd": (1.0, 0.5)}


@dataclass(frozen=True)
class KalmanChoices:
    """How RLEKF runs: P₀ = p0·I, λ₁ = lam, ν = nu, partition, noise, and what is measured on a frame.

    Attributes
    ----------
    partition : "RLEKF", "RLEKF-code", "LEKF", "SEKF", "GEKF"
    block_size : N_b
    noise : rule that gives R
    n_groups, group_size : y force updates per frame with x atoms each; x "all": each atom in one group
    norm : how the error of a vector becomes one number, of `measurement.NORMS`
    replacement : atoms drawn with replacement, as the codes do, or each at most once
    virial_offset : the filter estimates a constant between virial labels and energies beside its weights
        (`training.measurements.virial_offset`); a preset does so only where the volumes of the data tell it
    optional : kinds of ``order`` that are learnt where the data have them, and may be missing
    components : a group is of x single force components, n2p2's, instead of x atoms with all three
    same_atoms : a batch's groups are the same atoms of each of its frames
    measurement : "signed" (one number per update, the paper's sequence), "paired" (each force number
        together with the energy, two at once), "joint" (the signed numbers of a frame in one update)
        or "matrix" (every component a number of its own, one update)
    order : what is measured on a frame, in this order: of "energy", "atomic_energy", "force", "virial"
    coupled : P is cut to its blocks once in a window (`kalman.coupled`) and not at every update
    reduction : of a batch of frames to one measurement, a name of `REDUCTIONS`
    candidates : thresholds of `training.measurements.candidates`, None to take what comes
    annealing : n2p2's R and process noise by epochs (`training.noise.annealing`)
    adapt : γ of `training.noise.variances.AdaptiveNoise`, 0 for a fixed R
    tied : R of all kinds follows the errors of the forces, so that their balance stays
    averaging : s of `training.trainers.averaging`, 0 for the weights of the last update
    gate : bound of `training.measurements.gate`, None for no gate
    type_weight, force_delta, lambda_shear : of `training.measurements.weights`, of a matrix alone
    checkpoint_dtype : in which a checkpoint stores P, see `training.state.checkpoint`
    last_layer : at the end of a run the last layer is solved for exactly (`training.last_layer`), and the
        solution kept if validation frames (else a held-back tenth of the training frames) have no larger
        errors; "auto": where there are frames enough (`training.last_layer.are_enough`)
    virial_at_end : that solve has virials even if the filter does not measure them
    """

    p0: float
    lam: float
    nu: float
    partition: str
    block_size: int
    noise: BlockNoise | PhysicalNoise
    n_groups: int = 4
    group_size: int | str = 6
    norm: str = "l1"
    replacement: bool = False
    measurement: str = "signed"
    order: tuple[str, ...] = ("energy", "force")
    optional: tuple[str, ...] = ()
    virial_offset: bool = False
    components: bool = False
    same_atoms: bool = False
    reduction: str = "mean"
    candidates: Selection | None = None
    annealing: Annealing | None = None
    covariance: str = "tiled"
    covariance_dtype: str = "float64"
    coupled: bool = False
    adapt: float = 0.0
    tied: bool = False
    averaging: float = 0.0
    gate: float | None = None
    checkpoint_dtype: str | None = None
    type_weight: Mapping[str, float] = field(default_factory=dict)
    force_delta: float | None = None
    lambda_shear: float = 1.0
    last_layer: bool | str = False
    virial_at_end: bool = True

    @property
    def weighting(self) -> Weighting:
        """Weights of single numbers."""
        return Weighting(self.type_weight, self.force_delta, self.lambda_shear)

    def of_trained(self) -> KalmanChoices:
        """The same for weights that are trained: P₀ is small, as they are nearly right.

        Where data say little about a combination of weights, its variance stays P₀. With the P₀ of random
        weights an update goes so far along such directions that the model is no longer linear there.
        """
        return replace(self, p0=TRAINED * self.p0)

    @property
    def solved_kinds(self) -> tuple[str, ...]:
        """What the last layer is solved for from, at the end."""
        more = ("virial",) if self.virial_at_end and "virial" not in self.order else ()
        return (*self.order, *more)

    @property
    def trials(self) -> int:
        """Forces tried for each place of a group."""
        return self.candidates.trials if self.candidates is not None and self.candidates.force else 1

    @property
    def updates_per_step(self) -> int:
        """Updates of a step, for a frame with atoms enough for all groups, and all labels."""
        signed = sum(self.n_groups if kind == "force" else 1 for kind in self.order)
        return {"signed": signed, "paired": self.n_groups}.get(self.measurement, 1)

    @property
    def type(self) -> str:
        """The optimizer's type that this is a preset of."""
        return self.partition.removesuffix("-code")


#: By name: our own, the paper's Algorithm 1 and 2, and the public codes.
PRESETS = {
    "default": KalmanChoices(
        p0=1.0, lam=0.999, nu=0.999, partition="RLEKF", block_size=128, measurement="paired", n_groups=2,
        group_size="all", norm="l2", noise=PhysicalNoise(sigma_e=0.00033, sigma_f=0.01, sigma_w=0.0017),
        coupled=True, adapt=0.5, averaging=0.1, virial_offset=True, last_layer="auto",
    ),
    # what the default was up to version 0.10, with the bits of 0.6
    "v0.6": KalmanChoices(
        p0=1.0, lam=0.999, nu=0.999, partition="RLEKF", block_size=128, measurement="paired", n_groups=2,
        group_size="all", norm="l2", noise=PhysicalNoise(sigma_e=0.001, sigma_f=0.03, sigma_w=0.005),
        coupled=True, adapt=0.5, averaging=0.1, virial_offset=True,
    ),
    # all components of 64 atoms at once, P dense up to 8,192 weights
    "matrix": KalmanChoices(
        p0=0.1, lam=0.9995, nu=0.999, partition="RLEKF", block_size=8192, measurement="matrix", n_groups=1,
        group_size=64, noise=PhysicalNoise(sigma_e=0.0001, sigma_f=0.01, sigma_w=0.005),
        adapt=2.0, tied=True, averaging=0.3, virial_offset=True,
    ),
    "paper": KalmanChoices(
        p0=1.0, lam=0.98, nu=0.9987, partition="RLEKF", block_size=5120, noise=BlockNoise(),
        replacement=True,
    ),
    "deepmd": KalmanChoices(
        p0=1.0, lam=0.98, nu=0.9987, partition="RLEKF-code", block_size=5120,
        noise=BlockNoise(per_atom=True), replacement=True, same_atoms=True, reduction="deepmd",
    ),
    "matpl": KalmanChoices(
        p0=0.01, lam=0.98, nu=0.9987, partition="RLEKF-code", block_size=5120,
        noise=BlockNoise(pref_e=1.0, pref_f=2.0, pref_v=1.0, per_atom=True), replacement=True,
        same_atoms=True, reduction="deepmd",
    ),
    # MatPL's GKF: one block, so R = 1, and P₀ = 1
    "matpl-gkf": KalmanChoices(
        p0=1.0, lam=0.98, nu=0.9987, partition="GEKF", block_size=5120,
        noise=BlockNoise(pref_e=1.0, pref_f=2.0, pref_v=1.0, per_atom=True), replacement=True,
        same_atoms=True, reduction="deepmd",
    ),
    # n2p2's recommended input, P₀ = 1/ε; its 10 forces per energy are for frames of 144 atoms (n2p2 shuffles
    # the updates of a whole epoch). Units: eV and Å, as n2p2 without normalize_data_set
    "n2p2": KalmanChoices(
        p0=100.0, lam=1.0, nu=1.0, partition="GEKF", block_size=5120, noise=UnitNoise(pref_f=10.0),
        n_groups=10, group_size=1, components=True, candidates=Selection(energy=0.0, force=1.0, trials=3),
        annealing=Annealing(),
    ),
    "n2p2-fading": KalmanChoices(
        p0=10.0, lam=0.96, nu=0.9995, partition="GEKF", block_size=5120, noise=UnitNoise(pref_f=10.0),
        n_groups=10, group_size=1, components=True, candidates=Selection(energy=0.0, force=1.0, trials=3),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class AdamChoices:
    """β₁ and β₂ of Adam, defaults of the sections ``loss`` and ``learning_rate``, and s of `averaging`."""

    loss: LossSettings = field(default_factory=LossSettings)
    learning_rate: LearningRateSettings = field(default_factory=LearningRateSettings)
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    averaging: float = 0.0


#: Adam's, by name; MatPL's loss has the same form as DeePMD-kit's.
ADAM_PRESETS = {
    "deepmd": AdamChoices(),
    "matpl": AdamChoices(
        LossSettings(start_pref_e=1.0, limit_pref_e=1.0, start_pref_f=100.0, limit_pref_f=1.0),
        LearningRateSettings(stop_lr=3.51e-8, stop_step=1_000_000),
    ),
}


@dataclass(frozen=True)
class SnesChoices:
    """A generation's size, its first σ, and the weights of the loss (`training.trainers.snes`)."""

    population: int = 50
    sigma0: float = 0.1
    lambda_e: float = 1.0
    lambda_f: float = 1.0
    lambda_v: float = 0.0


#: SNES's, by name; GPUMD's NEP learns from virials as well.
SNES_PRESETS = {"default": SnesChoices(), "gpumd": SnesChoices(lambda_v=0.1)}


#: Force components per energy where nothing says how many, those of n2p2's recommended input.
FORCES_PER_ENERGY = 10.0


def resolve_n2p2(optimizer: OptimizerSettings) -> N2P2Settings:
    """n2p2's settings, with what the input states put in their place.

    Raises
    ------
    InputError
        For values that n2p2 does not know, or that contradict each other.
    """
    stated = dict(optimizer.stated)
    if not {"force_energy_ratio", "short_force_fraction"} & set(stated):
        stated["force_energy_ratio"] = FORCES_PER_ENERGY
    return N2P2Settings.of(stated)


def stated_type(section: Mapping[str, Any]) -> str:
    """The type of a section ``optimizer``: as stated, or its preset's if that is a filter's, or Adam.

    The last is DeePMD-kit's default.
    """
    preset = section.get("preset")
    own = PRESETS[preset].type if isinstance(preset, str) and preset in PRESETS else "Adam"
    return section.get("type", own)


def resolve_snes(optimizer: OptimizerSettings) -> SnesChoices:
    """The preset of SNES, with what the input states put in its place."""
    return replace(SNES_PRESETS[optimizer.preset], **optimizer.stated)


def resolve_adam(optimizer: OptimizerSettings) -> AdamChoices:
    """The preset of Adam, DeePMD-kit's without one, with what the input states put in its place."""
    preset = "deepmd" if optimizer.preset == "default" else optimizer.preset
    return replace(ADAM_PRESETS[preset], **optimizer.stated)


#: Options of a filter that decide a field of `KalmanChoices` together with others.
TOGETHER = (
    "sigma_e", "sigma_f", "sigma_w", "sigma_a", "pref_e", "pref_f", "blocks", "with_virial",
    "with_atomic_energies", "candidates", "reduction", "block_size", "coupled",
)  # fmt: skip


def resolve(optimizer: OptimizerSettings) -> KalmanChoices:
    """The preset's choices, with what the input states put in their place.

    Raises
    ------
    InputError
        For an unknown preset, or settings that contradict each other.
    """
    if optimizer.preset not in PRESETS:
        raise InputError(
            f"optimizer/preset is {optimizer.preset!r}; expected one of {', '.join(PRESETS)}"
        )
    choices = PRESETS[optimizer.preset]
    alone = {name: value for name, value in optimizer.stated.items() if name not in TOGETHER}
    together = {
        "block_size": _block_size(choices.coupled, optimizer),
        "reduction": _reduction(choices, optimizer),
        "candidates": _candidates(choices.candidates, optimizer.get("candidates")),
        "coupled": _coupled(choices.coupled, optimizer),
        "noise": _noise(choices.noise, optimizer),
        "partition": _partition(choices.partition, optimizer),
        "order": _order(choices.order, optimizer),
        "optional": _optional(optimizer.get("with_virial")),
        "virial_at_end": None if optimizer.get("with_virial") is None else bool(optimizer.get("with_virial")),
    }
    resolved = replace(choices, **alone, **{k: v for k, v in together.items() if v is not None})
    chosen = resolved.measurement == "matrix" or resolved.trials > 1
    if resolved.group_size == "all" and chosen and optimizer.get("group_size") is None:
        resolved = replace(resolved, group_size=SMALL_GROUP)
    if resolved.components and resolved.measurement == "matrix":
        raise InputError(
            f'optimizer/measurement is "matrix", but the preset {optimizer.preset!r} measures single force '
            'components; expected "signed", "paired" or "joint"'
        )
    return resolved


def check_weighting(choices: KalmanChoices) -> None:
    """Refuse weights of single numbers where many numbers become one.

    Raises
    ------
    InputError
        It names the first of them that is stated.
    """
    usual = Weighting()
    for name in ("type_weight", "force_delta", "lambda_shear"):
        value = getattr(choices, name)
        if value != getattr(usual, name) and choices.measurement != "matrix":
            raise InputError(
                f'optimizer/{name} is given, but measurement "{choices.measurement}" makes one number of '
                'many components; expected measurement "matrix", in which each has its own weight'
            )


def _reduction(choices: KalmanChoices, optimizer: OptimizerSettings) -> str | None:
    """None for a matrix of all components: it has rows for each frame, and nothing is reduced."""
    if (optimizer.get("measurement") or choices.measurement) != "matrix":
        return optimizer.get("reduction")
    if (stated := optimizer.get("reduction")) not in (None, "mean"):
        raise InputError(
            f'optimizer/reduction is {stated!r}, but with measurement "matrix" every number of a batch is '
            "measured by itself; expected no reduction"
        )
    return "mean"


def _candidates(default: Selection | None, stated: dict | None) -> Selection | None:
    """What is not stated is the preset's, or n2p2's."""
    return default if stated is None else (default or Selection())._replace(**stated)


def _order(default: tuple[str, ...], optimizer: OptimizerSettings) -> tuple[str, ...]:
    """What is measured on a frame; MatPL's order is virial, energy, atomic energies, forces."""
    wanted = {
        "virial": None if (virial := optimizer.get("with_virial")) is None else bool(virial),
        "atomic_energy": optimizer.get("with_atomic_energies"),
        **{kind: True for kind in ("energy", "force")},
    }
    first_to_last = ("energy", "atomic_energy", "force", "virial")
    if optimizer.preset.startswith("matpl"):
        first_to_last = ("virial", "energy", "atomic_energy", "force")
    asked = lambda kind: kind in default if wanted[kind] is None else wanted[kind]
    return tuple(kind for kind in first_to_last if asked(kind))


def _optional(with_virial: bool | str | None) -> tuple[str, ...] | None:
    """Virials that are asked for with true must be there; None leaves it to the preset."""
    return None if with_virial is None else ("virial",) if with_virial == "present" else ()


def _partition(default: str, optimizer: OptimizerSettings) -> str:
    if optimizer.type != "RLEKF":
        return optimizer.type
    own = default if default.startswith("RLEKF") else "RLEKF"
    return {"text": "RLEKF", "code": "RLEKF-code", None: own}[optimizer.get("blocks")]


def _coupled(default: bool, optimizer: OptimizerSettings) -> bool:
    """float32 has too few digits for coupled blocks: an energy update leaves 10⁻⁹ of its own variance."""
    if optimizer.get("coupled") is not None:
        return optimizer.get("coupled")
    return default and optimizer.get("covariance_dtype") != "float32"


def _block_size(default: bool, optimizer: OptimizerSettings) -> int | None:
    """Blocks may be small because they are coupled: without that they are the paper's."""
    if optimizer.get("block_size") is None and default and not _coupled(default, optimizer):
        return BLOCK_SIZE
    return optimizer.get("block_size")


def _noise(rule, optimizer: OptimizerSettings):
    sigmas = {n: optimizer.get(n) for n in ("sigma_e", "sigma_f", "sigma_w", "sigma_a")}
    stated = {n: s for n, s in sigmas.items() if s is not None}
    if isinstance(rule, PhysicalNoise):
        return replace(rule, **stated)
    if stated:
        raise InputError(
            f"optimizer/{next(iter(stated))} is given, but the preset {optimizer.preset!r} has its noise "
            'from prefactors (pref_e, pref_f); expected preset "default" for noise in physical units'
        )
    prefactors = {}
    for name in ("pref_e", "pref_f"):
        pair = optimizer.get(name)
        if pair is not None:
            if pair[0] != pair[1]:
                raise InputError(
                    f"optimizer/{name} runs from {pair[0]} to {pair[1]}; expected one constant "
                    "prefactor (start and limit equal)"
                )
            prefactors[name] = float(pair[0])
    return replace(rule, **prefactors)
