"""Choices of n2p2's filter and of its schedule, under the keywords of input.nn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kalmandp.errors import InputError, require

#: kalman_type -> keywords that only this type of filter has.
OF_TYPE = {
    0: ("kalman_eta", "kalman_etatau", "kalman_etamax"),
    1: ("kalman_lambda_short", "kalman_nue_short"),
}
#: n2p2's numbers for fading memory.
FADING = {"kalman_epsilon": 0.1, "kalman_q0": 0.0, "kalman_qtau": 0.0, "kalman_qmin": 0.0}
#: Integers and the values that they may have; None for any from 1 on.
INTEGERS: dict[str, tuple[int, ...] | None] = {
    "kalman_type": (0, 1), "jacobian_mode": (0, 1, 2), "update_strategy": (0, 1),
    "task_batch_size_energy": None, "task_batch_size_force": None, "rmse_threshold_trials": None,
    "rmse_threshold_trials_energy": None, "rmse_threshold_trials_force": None,
}  # fmt: skip
#: How candidates are chosen: a mode, or one and then pairs of an epoch, from 0 on, and the mode from there.
SELECTIONS = ("selection_mode", "selection_mode_energy", "selection_mode_force")
SELECTION_MODES = (0, 1, 2)
#: Keywords of n2p2 that state several of ours, or one under another name.
ALSO = {
    "rmse_threshold": ("short_energy_error_threshold", "short_force_error_threshold"),
    "rmse_threshold_energy": ("short_energy_error_threshold",),
    "rmse_threshold_force": ("short_force_error_threshold",),
}


def selections(stated: int | tuple[int, ...] | None) -> list[tuple[int, int]]:
    """Epoch and the mode from there on, in order; [(−1, −1)] for a schedule that makes no sense."""
    if stated is None:
        return []
    numbers = [stated] if isinstance(stated, int) else list(stated)
    if len(numbers) % 2 == 0 or min(numbers[1::2], default=0) < 0:
        return [(-1, -1)]
    return sorted({0: numbers[0], **dict(zip(numbers[1::2], numbers[2::2], strict=True))}.items())


def value_of(name: str, text: str) -> Any:
    """The value of a keyword of input.nn.

    Raises
    ------
    InputError
        If it is not a number, or not an integer where one is wanted.
    """
    if name == "repeated_energy_update":
        return True
    kind = int if name in INTEGERS or name in SELECTIONS else float
    try:
        numbers = [kind(word) for word in text.split()]
    except ValueError:
        numbers = []
    if not numbers or (len(numbers) > 1 and name not in SELECTIONS):
        raise InputError(f"{name} is {text!r}; expected {'a whole number' if kind is int else 'a number'}")
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


class N2P2Settings(NamedTuple):
    """Keywords of input.nn, under their names.

    The keywords for energies or forces alone, such as selection_mode_force, are None where the common keyword
    holds.
    """

    kalman_type: int = 0
    kalman_epsilon: float = 0.01
    kalman_q0: float = 0.01
    kalman_qtau: float = 2.302
    kalman_qmin: float = 1e-6
    kalman_eta: float = 0.01
    kalman_etatau: float = 2.302
    kalman_etamax: float = 1.0
    kalman_lambda_short: float = 0.96
    kalman_nue_short: float = 0.9995
    force_weight: float = 1.0
    jacobian_mode: int = 1
    update_strategy: int = 0
    selection_mode: int | tuple[int, ...] = 0
    task_batch_size_energy: int = 1
    task_batch_size_force: int = 1
    short_energy_fraction: float = 1.0
    short_force_fraction: float = 0.0
    force_energy_ratio: float = 0.0
    short_energy_error_threshold: float = 0.0
    short_force_error_threshold: float = 1.0
    rmse_threshold_trials: int = 3
    selection_mode_energy: int | tuple[int, ...] | None = None
    selection_mode_force: int | tuple[int, ...] | None = None
    rmse_threshold_trials_energy: int | None = None
    rmse_threshold_trials_force: int | None = None
    repeated_energy_update: bool = False

    @classmethod
    def read(cls, training: Mapping[str, str]) -> N2P2Settings:
        """The settings among the keywords of an input.nn (`hdnnp.files.N2P2Model.training`).

        Raises
        ------
        InputError
            For a value that is no number, or that n2p2 does not know.
        """
        stated: dict[str, Any] = {}
        for name in (*cls._fields, *ALSO):
            if name in training:
                stated[name] = value_of(name, training[name])
        return cls.of(stated)

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> N2P2Settings:
        """The settings of stated numbers, checked.

        Raises
        ------
        InputError
            For a value that n2p2 does not know, or two that contradict each other.
        """
        given: dict[str, Any] = {}
        for name, own in ALSO.items():  # from the general to the particular
            given |= dict.fromkeys(own, stated[name]) if name in stated else {}
        given |= {name: value for name, value in stated.items() if name not in ALSO}
        settings = cls(**({**FADING, **given} if given.get("kalman_type") == 1 else given))
        settings._check()
        return settings

    def _check(self) -> None:
        for name, known in INTEGERS.items():
            value, wanted = getattr(self, name), "an integer ≥ 1" if known is None else f"one of {known}"
            require(value is None or (value >= 1 if known is None else value in known), name, value, wanted)
        of_type = OF_TYPE[1] if self.kalman_type == 1 else ("kalman_eta", "kalman_etamax")
        for name in SELECTIONS:
            modes = selections(getattr(self, name))
            wanted = f"one of {SELECTION_MODES}, or with epochs: 0 5 2 is 0, and 2 from epoch 5 on"
            fits = not modes or (modes[0][0] == 0 and all(mode in SELECTION_MODES for _, mode in modes))
            require(fits, name, getattr(self, name), wanted)
        for name in ("kalman_epsilon", *of_type):
            require(getattr(self, name) > 0, name, getattr(self, name), "a number > 0")
        for name in OF_TYPE[1] if self.kalman_type == 1 else ():
            require(getattr(self, name) <= 1, name, getattr(self, name), "a number > 0 and ≤ 1")
        for name in (
            "kalman_q0", "kalman_qtau", "kalman_qmin", "kalman_etatau", "short_energy_fraction",
            "short_force_fraction", "force_energy_ratio", "short_energy_error_threshold",
            "short_force_error_threshold",
        ):  # fmt: skip
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number ≥ 0")
        for name in ("short_energy_fraction", "short_force_fraction"):
            require(getattr(self, name) <= 1, name, getattr(self, name), "a share, from 0 to 1")
        require(self.force_weight != 0, "force_weight", self.force_weight, "a number that is not 0")
        both = self.force_energy_ratio > 0 and self.short_force_fraction > 0
        wanted = f"none beside short_force_fraction {self.short_force_fraction:g}: both say how many forces"
        require(not both, "force_energy_ratio", self.force_energy_ratio, wanted)

    def updates(self, n_energies: int, n_forces: int) -> tuple[int, int]:
        """Updates by energies and by force components in an epoch of that many of each."""
        energies = int(n_energies * self.short_energy_fraction) // self.task_batch_size_energy
        if self.force_energy_ratio > 0:
            return energies, int(energies * self.force_energy_ratio) if n_forces else 0
        return energies, int(n_forces * self.short_force_fraction) // self.task_batch_size_force

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of "energy" and "force" what is learnt."""
        forces = self.force_energy_ratio or self.short_force_fraction
        used = {"energy": self.short_energy_fraction, "force": forces}
        return tuple(kind for kind, share in used.items() if share)

    def count(self, kind: str) -> int:
        """Numbers of an update."""
        return self.task_batch_size_energy if kind == "energy" else self.task_batch_size_force

    def mode(self, kind: str, epoch: int = 0) -> int:
        """selection_mode of energies, or of forces, in an epoch."""
        own = self.selection_mode_energy if kind == "energy" else self.selection_mode_force
        modes = selections(self.selection_mode if own is None else own)
        return next(mode for first, mode in reversed(modes) if first <= epoch)

    def trials(self, kind: str) -> int:
        """Candidates tried at most for a place."""
        own = self.rmse_threshold_trials_energy if kind == "energy" else self.rmse_threshold_trials_force
        return self.rmse_threshold_trials if own is None else own

    def threshold(self, kind: str) -> float:
        """Share of the RMSE above which a candidate is taken at once."""
        return self.short_energy_error_threshold if kind == "energy" else self.short_force_error_threshold
