"""Update candidates chosen by their error, n2p2's way: no update for what is known well already.

    |ΔE|/N > τ_E RMSE_E        a frame is learnt                 ΔE = E − Ê, N its atoms
    |ΔF|   > τ_F RMSE_F        a force component is measured; of an atom, the root mean square of its three

What does not exceed its threshold is passed over and the next one is tried; after ``trials`` without success
the largest error of those tried is taken. Each place of a group of atoms is filled in this way. A batch of
frames is one candidate, with the root mean square of its |ΔE|/N.

n2p2 takes the RMSE at the end of the last epoch; here it is a running one of all that was predicted since,
chosen or not (MEMORY of the last 50 predictions or so), which needs no extra pass over the data::

    ρ ← ρ + (1 − β)(mean Δ² − ρ),    RMSE = √ρ                        β = MEMORY, ρ begins as the first mean

Source: n2p2's ``Training.cpp`` (selection mode 2) and ``input.nn.recommended``: τ_E = 0, τ_F = 1, 3 trials.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Selection(NamedTuple):
    """Thresholds in units of the RMSE, 0 to take what comes; how many are tried."""

    energy: float = 0.0
    force: float = 1.0
    trials: int = 3


class Candidates:
    """n2p2's choice of what to learn, by a running RMSE of energies (eV/atom) and forces (eV/Å)."""

    MEMORY = 0.98

    def __init__(self, selection: Selection):
        self.selection = selection
        self._mean_square: dict[str, float] = {}

    def see(self, kind: str, error) -> None:
        """Take all errors of a prediction into the running RMSE of their kind."""
        mean_square = float(np.mean(np.square(error)))
        usual = self._mean_square.setdefault(kind, mean_square)
        self._mean_square[kind] = usual + (1.0 - self.MEMORY) * (mean_square - usual)

    def rmse(self, kind: str) -> float:
        """The running RMSE of a kind that was seen."""
        return float(np.sqrt(self._mean_square[kind]))

    def exceeds(self, kind: str, size) -> np.ndarray:
        """Whether errors are above their kind's threshold, τ·RMSE."""
        return np.asarray(size) > getattr(self.selection, kind) * self.rmse(kind)

    def choose(self, size_tk) -> np.ndarray:
        """For each place k the number t of the force to measure: the first above τ_F·RMSE_F, or the largest.

        Parameters
        ----------
        size_tk : (trials, places) |ΔF| in the order tried; −1 where there is nothing to try
        """
        above_tk = self.exceeds("force", size_tk) & (size_tk >= 0)
        return np.where(above_tk.any(0), above_tk.argmax(0), np.argmax(size_tk, axis=0))

    def state(self) -> dict:
        """Numbers for a checkpoint."""
        return {f"candidates_{kind}": value for kind, value in self._mean_square.items()}

    def restore(self, state: dict) -> None:
        """Go on from what `state` returned; a dict with other entries, too."""
        begins = "candidates_"
        self._mean_square = {k[len(begins) :]: float(v) for k, v in state.items() if k.startswith(begins)}
