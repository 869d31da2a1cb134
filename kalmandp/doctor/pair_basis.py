"""Numbers of a frame that do not depend on the order, the place or the rotation of its atoms.

Radial functions of the distance, b_k(r) = f(r) sin(kπr/r_c)/r, f(r) = (1 − u)²(1 + 2u), u = r/r_c, summed
over neighbours give each atom densities, and over pairs give the frame a fingerprint. The same
functions span the surrogate potential of `surrogate`.
"""

from __future__ import annotations

import numpy as np

from kalmandp.geometry.neighbours import Pairs

#: Å. Two shells of a metal and of a covalent crystal, the hydrogen bonds of water.
CUTOFF = 4.5
#: Functions in pair terms and fingerprints.
N_RADIAL = 10


def distances(pairs: Pairs) -> np.ndarray:
    return np.sqrt((pairs.r_pc * pairs.r_pc).sum(1))


def radial(r_p: np.ndarray) -> np.ndarray:
    """b_k(r_p), shape (N_RADIAL, p)."""
    u_p = r_p / CUTOFF
    f_p = (1 - u_p) ** 2 * (1 + 2 * u_p)
    return _sines(u_p)[1:] * (f_p / r_p)


def radial_derivative(r_p: np.ndarray) -> np.ndarray:
    """b_k′(r_p), shape (N_RADIAL, p)."""
    u_p = r_p / CUTOFF
    f_p = (1 - u_p) ** 2 * (1 + 2 * u_p)
    df_p = -6 * u_p * (1 - u_p) / CUTOFF
    k = np.arange(1, N_RADIAL + 1)[:, None] * np.pi / CUTOFF
    s_kp = _sines(u_p)[1:]
    c_kp = np.cos(k * r_p)
    return (k * c_kp * f_p + s_kp * (df_p - f_p / r_p)) / r_p


def _sines(u_p: np.ndarray) -> np.ndarray:
    """sin kπu for k = 0 … N_RADIAL, by sin (k+1)x = 2 cos x · sin kx − sin (k−1)x."""
    s_kp = np.zeros((N_RADIAL + 1, len(u_p)))
    s_kp[1] = np.sin(np.pi * u_p)
    twice_cos_p = 2 * np.cos(np.pi * u_p)
    for k in range(1, N_RADIAL):
        s_kp[k + 1] = twice_cos_p * s_kp[k] - s_kp[k - 1]
    return s_kp


def densities(b_kp: np.ndarray, pairs: Pairs, types_i: np.ndarray, n_types: int) -> np.ndarray:
    """ρ_itk = Σ_{j of type t} b_k(r_ij), shape (n_atoms, n_types, K)."""
    n, K = len(types_i), len(b_kp)
    slot = pairs.i_p.astype(np.int64) * n_types + types_i[pairs.j_p]
    rho = np.zeros((n * n_types, K))
    if len(slot):
        # pairs are sorted by centre and the neighbour's type: each slot is one stretch
        starts = np.flatnonzero(np.r_[True, slot[1:] != slot[:-1]])
        rho[slot[starts]] = np.add.reduceat(b_kp, starts, axis=1).T
    return rho.reshape(n, n_types, K)


def pair_sums(rho_itk: np.ndarray, types_i: np.ndarray) -> np.ndarray:
    """Σ over pairs of types a ≤ b of b_k(r), shape (n_pairs_of_types · K,)."""
    n_types = rho_itk.shape[1]
    centre = np.arange(n_types)[:, None] == types_i
    sums_ab = np.einsum("ai,ibk->abk", centre.astype(float), rho_itk)
    a, b = np.triu_indices(n_types)
    return (np.where((a == b)[:, None], 0.5, 1.0) * sums_ab[a, b]).ravel()
