"""Every choice the filter needs, under the name of the code that makes it.

A preset fixes what the user's input leaves open. "paper", "deepmd" and "matpl" reproduce those codes'
arithmetic; "default" is ours, with the noise in physical units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kalmandp.errors import InputError
from kalmandp.training.noise import BlockNoise, PhysicalNoise
from kalmandp.training.settings import OptimizerSettings


@dataclass(frozen=True)
class KalmanChoices:
    """How RLEKF runs: P₀ = p0·I, λ₁ = lam, ν = nu, partition, noise, and what is measured on a frame.

    Attributes
    ----------
    partition : "RLEKF", "RLEKF-code", "LEKF", "SEKF", "GEKF"
    block_size : N_b
    noise : rule that gives R
    n_groups, group_size : y force updates per frame with x atoms each
    replacement : atoms drawn with replacement, as the codes do, or each at most once
    measurement : "signed" (one number per update, the paper's sequence), "paired" (each force number
        together with the energy, two at once), "joint" (the signed numbers of a frame in one update)
        or "matrix" (every component a number of its own, one update)
    order : what is measured on a frame, in this order: of "energy", "atomic_energy", "force", "virial"
    batch_sum : DeePMD-kit's batch: H summed over B frames and the error times √B
    coupled : P is cut to its blocks once in a window (`kalman.coupled`) and not at every update
    adapt : γ of `training.noise.AdaptiveNoise`, 0 for a fixed R
    gate : bound of `training.gate`, None for no gate
    checkpoint_dtype : in which a checkpoint stores P, see `training.checkpoint`
    """

    p0: float
    lam: float
    nu: float
    partition: str
    block_size: int
    noise: BlockNoise | PhysicalNoise
    n_groups: int = 4
    group_size: int = 6
    replacement: bool = False
    measurement: str = "signed"
    order: tuple[str, ...] = ("energy", "force")
    batch_sum: bool = False
    covariance: str = "tiled"
    covariance_dtype: str = "float64"
    coupled: bool = False
    adapt: float = 0.0
    gate: float | None = None
    checkpoint_dtype: str | None = None


#: By name: our own, the paper's Algorithm 1 and 2, and the two public codes.
PRESETS = {
    "default": KalmanChoices(
        p0=1.0, lam=0.999, nu=0.999, partition="RLEKF", block_size=5120, measurement="paired",
        noise=PhysicalNoise(sigma_e=0.001, sigma_f=0.03, sigma_w=0.005), coupled=True, adapt=0.3,
    ),
    "paper": KalmanChoices(
        p0=1.0, lam=0.98, nu=0.9987, partition="RLEKF", block_size=5120, noise=BlockNoise(),
        replacement=True,
    ),
    "deepmd": KalmanChoices(
        p0=1.0, lam=0.98, nu=0.9987, partition="RLEKF-code", block_size=5120,
        noise=BlockNoise(per_atom=True), replacement=True, batch_sum=True,
    ),
    "matpl": KalmanChoices(
        p0=0.01, lam=0.98, nu=0.9987, partition="RLEKF-code", block_size=5120,
        noise=BlockNoise(pref_e=1.0, pref_f=2.0, pref_v=1.0, per_atom=True), replacement=True,
    ),
}  # fmt: skip


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
    stated = {
        "p0": optimizer.p0,
        "lam": optimizer.lam,
        "nu": optimizer.nu,
        "block_size": optimizer.block_size,
        "n_groups": optimizer.n_groups,
        "group_size": optimizer.group_size,
        "measurement": optimizer.measurement,
        "covariance": optimizer.covariance,
        "covariance_dtype": optimizer.covariance_dtype,
        "coupled": optimizer.coupled,
        "adapt": optimizer.adapt,
        "gate": optimizer.gate,
        "checkpoint_dtype": optimizer.checkpoint_dtype,
        "noise": _noise(choices.noise, optimizer),
        "partition": _partition(choices.partition, optimizer),
        "order": _order(choices.order, optimizer),
    }
    return replace(choices, **{k: v for k, v in stated.items() if v is not None})


def _order(default: tuple[str, ...], optimizer: OptimizerSettings) -> tuple[str, ...]:
    """What is measured on a frame; MatPL's order is virial, energy, atomic energies, forces."""
    wanted = {
        "virial": optimizer.with_virial,
        "atomic_energy": optimizer.with_atomic_energies,
        **{kind: True for kind in ("energy", "force")},
    }
    first_to_last = ("energy", "atomic_energy", "force", "virial")
    if optimizer.preset == "matpl":
        first_to_last = ("virial", "energy", "atomic_energy", "force")
    asked = lambda kind: kind in default if wanted[kind] is None else wanted[kind]
    return tuple(kind for kind in first_to_last if asked(kind))


def _partition(default: str, optimizer: OptimizerSettings) -> str:
    if optimizer.type != "RLEKF":
        return optimizer.type
    return {"text": "RLEKF", "code": "RLEKF-code", None: default}[optimizer.blocks]


def _noise(rule, optimizer: OptimizerSettings):
    sigmas = {n: getattr(optimizer, n) for n in ("sigma_e", "sigma_f", "sigma_w", "sigma_a")}
    stated = {n: s for n, s in sigmas.items() if s is not None}
    if isinstance(rule, PhysicalNoise):
        return replace(rule, **stated)
    if stated:
        raise InputError(
            f"optimizer/{next(iter(stated))} is given, but the preset {optimizer.preset!r} takes its "
            'noise from the number of blocks; expected preset "default" for noise in physical units'
        )
    prefactors = {}
    for name in ("pref_e", "pref_f"):
        pair = getattr(optimizer, name)
        if pair is not None:
            if pair[0] != pair[1]:
                raise InputError(
                    f"optimizer/{name} runs from {pair[0]} to {pair[1]}; expected one constant "
                    "prefactor (start and limit equal)"
                )
            prefactors[name] = float(pair[0])
    return replace(rule, **prefactors)
