"""Virial labels that disagree with energies by a constant: a nuisance that the filter estimates.

The labels' stress may vanish at another volume than their energy's minimum does: in an incomplete basis the
stress is that of fixed basis functions, and the energy is not (Pulay stress). Then no model can agree with
both; their difference is nearly one constant per atom of a type, on the diagonal. So the filter measures ::

    W_f(label) = W_f(w) + 1 Σ_t n_ft o_t + η            n_ft atoms of type t in frame f

with o_t (eV) as further weights, which stand behind those of the model, in the last block of P. h is linear
in o. Their prior is wide: energies and forces decide what the model's virial is on average, and virials teach
all else. P holds the covariance of o and w (all of it if there is one block): as long as o is uncertain,
virials move the constant part of the model's virial little. A nuisance with a block of its own would lose
this covariance at every update, and o and w would both correct the same error. The model that is saved does
not contain o.

Energies determine the pressure of a model only where volumes vary. At one volume a free o would absorb what
virials should teach the model (silicon of 64 atoms at one volume: virials off by 0.62 eV/atom on the diagonal
with o, 0.009 without): a run has o only if `volumes_tell`.

An offset that is not constant is an error of the labels, which `kalmandp doctor` reports; it is not fitted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.constants import GIGAPASCAL
from kalmandp.training.measurements.measurement import Measurement, Prediction, Sample

#: σ of o_t beforehand, eV: the largest that we have seen, so that it is nearly free.
PRIOR = 0.2
#: Standard deviation of ln V over frames of one system, and frames in it, from which energies tell pressures:
#: an offset of 0.05 eV/atom is 1 meV/atom then.
SPREAD, FRAMES = 0.02, 5
#: Frames of a system whose volumes are looked at, and systems.
LOOKED_AT, SYSTEMS = 64, 64
#: An offset (eV/atom) above which it is reported.
WORTH_A_LINE = 0.005


class Disagreement(NamedTuple):
    """For an average atom, virial label minus what energies imply: eV, and GPa (NaN without cells)."""

    energy: float
    pressure: float

    def __str__(self) -> str:
        GPa = "" if np.isnan(self.pressure) else f"{abs(self.pressure):.2g} GPa "
        size = f"{self.energy:+.3g} eV/atom on the diagonal"
        return f"virial labels and energies disagree by {GPa}({size}); the model follows the energies"


class VirialOffset:
    """What the filter's further weights o_t mean, and which atoms they were measured on.

    Parameters
    ----------
    n_types : how many there are
    """

    def __init__(self, n_types: int):
        self.n_types = n_types
        #: Atoms of each type, and Å³, in all measurements of virials so far; NaN Å³ without a cell.
        self._atoms_t, self._volume = np.zeros(n_types), 0.0

    @property
    def prior(self) -> np.ndarray:
        """Variances of o_t before anything is measured, (n_types,) eV²."""
        return np.full(self.n_types, PRIOR**2)

    def counts(self, sample: Sample) -> np.ndarray:
        """n_ft."""
        return np.array([np.bincount(f.types, minlength=self.n_types) for f in sample.frames], dtype=float)

    def expected(self, now: Prediction, sample: Sample, o_t: Any) -> Prediction:
        """The same prediction with the virials that labels are expected to have, W + 1 Σ_t n_ft o_t."""
        if now.W_fcc is None:
            return now
        xp = namespace(now.W_fcc)
        off_f = xp.asarray(self.counts(sample)) @ xp.asarray(o_t)
        return now._replace(W_fcc=now.W_fcc + off_f[:, None, None] * xp.eye(3))

    def extended(self, m: Measurement, sample: Sample) -> Measurement:
        """The measurement with ∂h/∂o behind ∂h/∂w: of a number Σ_f C_f:W_f it is Σ_f tr C_f n_ft."""
        xp = namespace(m.H_qw)
        if m.trace_qf is None:
            H_qt = xp.zeros((len(m.H_qw), self.n_types))
        else:
            H_qt = xp.asarray(m.trace_qf) @ xp.asarray(self.counts(sample))
        return m._replace(H_qw=xp.concatenate([m.H_qw, H_qt], axis=1), trace_qf=None)

    def see(self, sample: Sample) -> None:
        """Note that virials of these frames are measured."""
        self._atoms_t += self.counts(sample).sum(axis=0)
        for frame in sample.frames:
            self._volume += np.nan if frame.cell is None else frame.volume

    def disagreement(self, o_t: Any) -> Disagreement | None:
        """Of the mean composition of what was measured; None before anything was."""
        return disagreement(to_numpy(o_t), self._atoms_t, self._volume)

    def state(self) -> dict:
        """For a checkpoint; o_t itself is among the filter's weights, and repeated here."""
        return {"virial_offset/atoms": self._atoms_t, "virial_offset/volume": self._volume}

    def restore(self, state: dict) -> None:
        """Go on from what `state` returned."""
        self._atoms_t = np.array(state["virial_offset/atoms"], dtype=float)
        self._volume = float(state["virial_offset/volume"])


def volumes_tell(data) -> bool:
    """Whether the energies of the frames of a `Dataset` that have virials determine a pressure.

    That is: in one system at least the volume varies enough (`SPREAD`).
    """
    with_virial = np.setdiff1d(np.arange(len(data)), data.lacking("virial"))
    for numbers in list(data.by_system().values())[:SYSTEMS]:
        known = np.intersect1d(numbers, with_virial)
        some = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), LOOKED_AT)).astype(int))]
        frames = [data[int(k)] for k in some]
        log_V = [np.log(frame.volume) for frame in frames if frame.cell is not None]
        if len(log_V) >= FRAMES and np.std(log_V) >= SPREAD:
            return True
    return False


def disagreement(o_t, atoms_t, volume: float) -> Disagreement | None:
    """What o_t, the atoms of each type and the Å³ that they were measured on say of an average atom."""
    n = float(np.sum(atoms_t))
    if not n:
        return None
    eV = float(np.dot(o_t, atoms_t))
    return Disagreement(eV / n, eV / volume / GIGAPASCAL if volume else float("nan"))


def fitted(total_f, counts_ft) -> np.ndarray:
    """o_t (eV) of least squares for mean diagonal virial errors of frames, tr ΔW_f/3 (eV), each per atom."""
    n_f = np.sum(counts_ft, axis=1)
    return np.linalg.lstsq(counts_ft / n_f[:, None], np.asarray(total_f) / n_f, rcond=1e-6)[0]
