"""A potential quick to fit and good enough to tell a sign: pairs and products of densities.

Linear in its coefficients c::

    E = Σ_pairs Σ_k c_k b_k(r)  +  Σ_i Σ_kl c_kl ρ_ik ρ_il,        ρ_ik = Σ_j b_k(r_ij)

with coefficients of their own for each pair of types and each type of centre. It is fitted to the
forces alone; the virial it then predicts, W = −Σ_p ∂E/∂r_p ⊗ r_p, has a sign and a unit that no
virial label had a part in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kalmandp.doctor.pair_basis import CUTOFF, densities, distances, radial, radial_derivative
from kalmandp.doctor.survey import Survey
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import neighbour_pairs

#: Functions per type of neighbour in the products, for 1, 2, 3 types; none for more.
N_PRODUCTS = {1: 4, 2: 3, 3: 2}
#: Atoms whose forces are fitted, and forces (numbers) at most.
ATOMS = 3000
#: Ridge, relative to the mean square of a column; the one that predicts left-out frames best is taken.
RIDGES = (1e-8, 1e-6, 1e-4, 1e-2)


class Columns(NamedTuple):
    """A frame seen by the surrogate, per coefficient: E_k (K,), F_ick (n, 3, K), W_cdk (3, 3, K)."""

    E_k: np.ndarray
    F_ick: np.ndarray
    W_cdk: np.ndarray


class Fit(NamedTuple):
    """coefficients (K,); residual: RMS error over RMS force on frames left out; members: frames used."""

    coefficients: np.ndarray
    residual: float
    members: np.ndarray
    columns: list[Columns]


def columns(frame: Frame, n_types: int) -> Columns:
    """Energy, forces and virial of each term of the surrogate."""
    pairs = neighbour_pairs(frame, CUTOFF)
    r_p = distances(pairs)
    b_kp, db_kp = radial(r_p), radial_derivative(r_p)
    centre_p, other_p = frame.types[pairs.i_p], frame.types[pairs.j_p]
    dE = [  # ∂E/∂r_p of each term, for directed pairs: half of each pair
        0.5 * db_kp * (((centre_p == a) & (other_p == b)) | ((centre_p == b) & (other_p == a)))
        for a in range(n_types) for b in range(a, n_types)
    ]  # fmt: skip
    E = [
        0.5 * (b_kp * (((centre_p == a) & (other_p == b)) | ((centre_p == b) & (other_p == a)))).sum(1)
        for a in range(n_types) for b in range(a, n_types)
    ]  # fmt: skip
    K = N_PRODUCTS.get(n_types, 0)
    if K:
        rho_ix = densities(b_kp[:K], pairs, frame.types, n_types).reshape(len(frame), -1)
        drho_tkp = np.zeros((n_types, K, len(r_p)))
        drho_tkp[other_p, :, np.arange(len(r_p))] = db_kp[:K].T
        drho_xp = drho_tkp.reshape(n_types * K, -1)
        x, y = np.triu_indices(n_types * K)
        rho_xp = rho_ix[pairs.i_p].T
        product = drho_xp[x] * rho_xp[y] + drho_xp[y] * rho_xp[x]
        dE += [product * (centre_p == t) for t in range(n_types)]
        E += [(rho_ix[:, x] * rho_ix[:, y])[frame.types == t].sum(0) for t in range(n_types)]
    dE_kp = np.concatenate(dE)
    unit_pc = pairs.r_pc / r_p[:, None]
    F_cki = np.stack([_forces(dE_kp * unit_pc[:, c], pairs, len(frame)) for c in range(3)])
    # W = −Σ_p dE/dr · r̂ ⊗ r
    dyad_pcd = unit_pc[:, :, None] * pairs.r_pc[:, None, :]
    W_kcd = -(dE_kp @ dyad_pcd.reshape(len(r_p), 9)).reshape(-1, 3, 3)
    return Columns(np.concatenate(E), F_cki.transpose(2, 0, 1), W_kcd.transpose(1, 2, 0))


def _forces(f_kp: np.ndarray, pairs, n: int) -> np.ndarray:
    """Σ_{p: centre i} f − Σ_{p: neighbour i} f along the last axis, (K, n)."""
    total = np.zeros((len(f_kp), n))
    for index, sign in ((pairs.i_p, 1.0), (pairs.j_p, -1.0)):
        order = np.argsort(index, kind="stable")
        atoms, starts = np.unique(index[order], return_index=True)
        if len(atoms):
            total[:, atoms] += sign * np.add.reduceat(f_kp[:, order], starts, axis=1)
    return total


def fit_forces(s: Survey, rng: np.random.Generator) -> Fit | None:
    """Fit the surrogate to forces of frames drawn by ``rng``; None if there are too few."""
    having = [f for f, frame in enumerate(s.frames) if frame.forces is not None and len(frame) > 1]
    order = rng.permutation(having).astype(int)
    enough = np.searchsorted(np.cumsum(s.n_atoms_f[order]), ATOMS) + 1
    members = order[: max(int(enough), 5)]
    if len(members) < 5:
        return None
    seen = [columns(s.frames[f], len(s.types)) for f in members]
    solved = solve(seen, [s.frames[f].forces for f in members])
    return None if solved is None else Fit(*solved, members, seen)


def solve(seen: list[Columns], forces: list[np.ndarray]) -> tuple[np.ndarray, float] | None:
    """Coefficients from all but every fifth of the frames, and the residual on these last ones.

    Parameters
    ----------
    seen, forces : of each frame, its columns and its (n, 3) forces
    """
    A = [c.F_ick.reshape(-1, c.F_ick.shape[-1]) for c in seen]
    y = [np.asarray(F_ic).ravel() for F_ic in forces]
    n_kept = len(seen) - max(1, len(seen) // 5)
    A_fit, y_fit = np.concatenate(A[:n_kept]), np.concatenate(y[:n_kept])
    A_out, y_out = np.concatenate(A[n_kept:]), np.concatenate(y[n_kept:])
    scale = np.sqrt((A_fit * A_fit).mean(0)) + 1e-12
    A_fit, A_out = A_fit / scale, A_out / scale
    G, v = A_fit.T @ A_fit / len(A_fit), A_fit.T @ y_fit / len(A_fit)
    fits = [np.linalg.solve(G + ridge * np.eye(len(G)), v) for ridge in RIDGES]
    errors = [float(np.sqrt(((A_out @ c - y_out) ** 2).mean())) for c in fits]
    best = int(np.argmin(errors))
    rms = float(np.sqrt((y_out**2).mean()))
    if not rms > 0 or not np.isfinite(errors[best]):
        return None
    return fits[best] / scale, errors[best] / rms
