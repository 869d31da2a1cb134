"""Weights of single numbers in training: of frames, types and components, as GPUMD has them.

A number of weight ω has the noise R/ω²: the filter trusts it as if it had been measured ω² times. ::

    energy           ω² = w_f² w_E,f                     `Frame.weight`, `Frame.energy_weight`
    force            ω² = w_f² τ_t² δ/(δ + |F_ref|)      τ of the atom's type, F_ref the vector of the atom
    virial           ω = w_f;   w_f λ_shear for xy, yz, zx
    atomic energy    ω = w_f

As in GPUMD's loss the squared error of an energy is multiplied by energy_weight itself; every other weight
enters squared. R is multiplied by 1/ω² after it was adapted to the errors (`noise.variances.AdaptiveNoise`),
which do not know the weights. A loss has its squared errors times ω² of the frame.

Source: GPUMD's manual, keys weight and energy_weight of extended XYZ; type_weight, force_delta, lambda_shear
of nep.in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from kalmandp.errors import require
from kalmandp.potentials.atomic import Numbers


@dataclass(frozen=True)
class Weighting:
    """Weights of single numbers.

    type_weight : name of a type -> τ of its atoms' forces, 1 where it is not named
    force_delta : δ (eV/Å); None counts all forces alike
    lambda_shear : λ of the virial's xy, yz and zx
    """

    type_weight: Mapping[str, float] = field(default_factory=dict)
    force_delta: float | None = None
    lambda_shear: float = 1.0

    @property
    def idle(self) -> bool:
        """Whether all numbers of a frame count alike."""
        alike = all(weight == 1.0 for weight in self.type_weight.values())
        return alike and self.force_delta is None and self.lambda_shear == 1.0

    def check_types(self, type_map) -> None:
        """Raise an InputError if it names a type that does not exist."""
        unknown = [name for name in self.type_weight if name not in type_map]
        require(not unknown, "type_weight", f"of {', '.join(unknown)}", f"types among {', '.join(type_map)}")


def frame_weights(frames, kind: str) -> np.ndarray | None:
    """ω (f,) of frames for a kind of number; None if all are 1."""
    weight_f = [1.0 if f.weight is None else f.weight for f in frames]
    if kind == "energy":
        own_f = [1.0 if f.energy_weight is None else f.energy_weight for f in frames]
        weight_f = [a * sqrt(b) for a, b in zip(weight_f, own_f, strict=True)]
    return None if all(w == 1.0 for w in weight_f) else np.array(weight_f)


def shared_weight(frames, kind: str) -> tuple[float, np.ndarray | None]:
    """For one number of many frames: Ω² = ⟨ω_f²⟩, and ω_f/Ω (f,), None where all frames count alike."""
    weight_f = frame_weights(frames, kind)
    if weight_f is None:
        return 1.0, None
    square = float((weight_f * weight_f).mean())
    alike = bool((weight_f == weight_f[0]).all())
    return (float(weight_f[0] ** 2), None) if alike else (square, weight_f / np.sqrt(square))


def squares(frames, numbers: Numbers, weighting: Weighting) -> np.ndarray | None:
    """ω² (m,) of single numbers of frames that stand side by side; None if all are 1.

    Parameters
    ----------
    frames : of the sample, all with the potential's type_map
    numbers : as they are measured: energies, forces, energies of atoms, virials
    weighting : of single numbers
    """
    kinds = ("energy", "force", "atomic_energy", "virial")
    given = {kind: frame_weights(frames, kind) for kind in kinds}
    if weighting.idle and all(weight_f is None for weight_f in given.values()):
        return None
    square = {k: np.ones(len(frames)) if w is None else w * w for k, w in given.items()}
    frame_i = np.repeat(np.arange(len(frames)), [len(f) for f in frames])
    i_k = numbers.force_k[:, 0]
    force_k = square["force"][frame_i[i_k]] * _of_atoms(frames, weighting)[i_k]
    f_k, d_k, c_k = numbers.virial_k.T
    virial_k = square["virial"][f_k] * np.where(d_k == c_k, 1.0, weighting.lambda_shear**2)
    energy_k, atomic_k = square["energy"][numbers.energy_f], square["atomic_energy"][frame_i[numbers.atom_i]]
    return np.concatenate([energy_k, force_k, atomic_k, virial_k])


def _of_atoms(frames, weighting: Weighting) -> np.ndarray:
    """τ² δ/(δ + |F_ref|) (i,) of the atoms of frames."""
    parts, delta = [], weighting.force_delta
    for frame in frames:
        tau_t = np.array([weighting.type_weight.get(name, 1.0) for name in frame.type_map])
        square_i = tau_t[frame.types] ** 2
        if delta is not None and frame.forces is not None:
            square_i = square_i * (delta / (delta + np.sqrt((frame.forces**2).sum(axis=1))))
        parts.append(square_i)
    return np.concatenate(parts)
