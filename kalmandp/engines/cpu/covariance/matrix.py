"""Updates by many numbers at once on the tiles of P, at the speed of a matrix product.

With m rows of H the projection costs 2 N² m operations and reads half of P once, and P − GᵀG costs N² m on
one triangle. Nothing waits among pending columns then: the rows of G go straight into the tiles, after those
that were pending. The kernels are in `matrix_kernels`.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np

from kalmandp.engines.cpu.buffers import Store
from kalmandp.engines.cpu.covariance import matrix_kernels as kernels
from kalmandp.engines.cpu.covariance.rounds import make_rounds
from kalmandp.engines.cpu.covariance.tiling import BLOCK, T0, T1, Tiling
from kalmandp.engines.cpu.products import COLUMNS
from kalmandp.engines.cpu.threads import LINE, Team
from kalmandp.kalman.covariance import Gain

#: Ranges of weights over which H Kᵀ is summed apart, at most, and the least weights of one: constants, as
#: sums depend on them.
RANGES, LEAST = 16, 128


class Tables(NamedTuple):
    """Where the pieces of P lie, as `matrix_kernels` goes through them; T is the size of a tile."""

    T: int
    rows: np.ndarray
    squares: np.ndarray
    pairs: np.ndarray
    segments: np.ndarray
    z_of_tile: np.ndarray
    ranges: np.ndarray


class Halves(NamedTuple):
    """P = scale·(A − UᵀU) with n_k rows of U: the tiles of A and the pending rows, flat."""

    tiles: np.ndarray
    pending: np.ndarray
    n_k: int
    scale: float


class Space(NamedTuple):
    """Work space of `matrix_kernels.project`, flat."""

    X: np.ndarray
    Y: np.ndarray
    Z: np.ndarray
    parts: np.ndarray


def gain_of_pieces(
    team: Team, store: Store, K_qw: np.ndarray, C_qq: np.ndarray, z_q: np.ndarray, weights: np.ndarray,
    new: np.ndarray, pieces: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """G = C⁻¹K into K, and w + Gᵀz into ``new``; |Gᵀz|² and Σ G² of each piece (pieces, 2)."""
    m = len(K_qw)
    n = -(-m // COLUMNS) * COLUMNS
    C = np.eye(n)
    C[:m, :m] = C_qq
    scratch = store.empty((team.size, kernels.PIECE // COLUMNS, n, COLUMNS))
    parts = np.empty((len(pieces), 2))
    team.run(
        kernels.gain, m * K_qw.size, K_qw, C, C.reshape(-1), z_q, weights, new, scratch, scratch.reshape(-1),
        pieces, parts,
    )  # fmt: skip
    return parts


class MatrixUpdates:
    """Tables and work space for updates of a covariance in tiles of T × T.

    Parameters
    ----------
    tiling : where the tiles lie
    T : the size of a tile
    store : gives the work space
    """

    def __init__(self, tiling: Tiling, T: int, store: Store):
        self._store = store
        squares, pairs = make_rounds(tiling.rows, T)
        lengths = tiling.segments[:, T1] - tiling.segments[:, T0]
        z_of_tile = np.repeat(tiling.block_segments[tiling.segments[:, BLOCK]], lengths)
        n_ranges = max(1, min(RANGES, len(tiling.rows) * T // LEAST))
        bounds = np.arange(n_ranges + 1) * len(tiling.rows) // n_ranges
        ranges = np.stack([bounds[:-1], bounds[1:]], axis=1)
        self._tables = Tables(T, tiling.rows, squares, pairs, tiling.segments, z_of_tile, ranges)
        self._spaces: dict[str, np.ndarray] = {}

    def project(
        self, team: Team, tiles: np.ndarray, pending: np.ndarray, n_k: int, scale: float, H_qw: np.ndarray,
        K_qw: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        """K ← P Hᵀ as rows, for P = scale·(A − UᵀU) with n_k rows of U; return H P Hᵀ."""
        t, m, empty = self._tables, len(H_qw), self._store.empty
        n_panels = -(-m // COLUMNS)
        X, Y = (self._space(name, n_panels * len(t.rows) * t.T * COLUMNS) for name in ("in", "out"))
        Z = self._store.zeros((len(t.segments) * n_panels * len(pending) * COLUMNS if n_k else 1,))
        parts = self._store.zeros((len(t.ranges) * (n_panels * COLUMNS) ** 2,))
        steps = np.zeros((-(-n_panels // kernels.PANELS_AT_ONCE), len(t.squares), LINE), dtype=np.int64)
        HPH_qq = empty((m, m))
        team.run(
            kernels.project, 2 * m * tiles.size, steps, t,
            Halves(tiles.reshape(-1), pending.reshape(-1), n_k, scale), H_qw, Space(X, Y, Z, parts), K_qw,
            HPH_qq,
        )  # fmt: skip
        return HPH_qq

    def gain(
        self, team: Team, K_qw: np.ndarray, C_qq: np.ndarray, z_q: np.ndarray, weights: np.ndarray
    ) -> Gain:
        """Return G = C⁻¹K, in the place of K, and the weights that Algorithm 1, l. 12, goes to."""
        starts = np.arange(0, len(weights), kernels.PIECE)
        pieces = np.stack([starts, np.minimum(starts + kernels.PIECE, len(weights))], axis=1)
        new = self._store.empty(weights.shape)
        parts = gain_of_pieces(team, self._store, K_qw, C_qq, z_q, weights, new, pieces)
        step_square, gain_square = parts.sum(axis=0).tolist()
        return Gain(K_qw, new, step_square, gain_square)

    def downdate(
        self, team: Team, tiles: np.ndarray, pending: np.ndarray, n_k: int, scale: float, G_qw: np.ndarray,
        lam: float,
    ) -> None:  # fmt: skip
        """P = scale·(A − UᵀU) with n_k rows of U becomes A ← (P − GᵀG)/λ."""
        k = n_k + len(G_qw)
        t = self._tables
        U = self._space("in", len(t.rows) * t.T * k).reshape(-1, k, COLUMNS)
        # s(A − UᵀU) − GᵀG = s(A − UᵀU − GᵀG/s)
        team.run(
            kernels.downdate, k * tiles.size, t,
            Halves(tiles.reshape(-1), pending.reshape(-1), n_k, scale / lam), G_qw, 1 / sqrt(scale), U,
            U.reshape(-1),
        )  # fmt: skip

    def _space(self, name: str, n: int) -> np.ndarray:
        """The first n numbers of a work space, which is kept: it may be larger than what a `Store` keeps."""
        if len(self._spaces.get(name, ())) < n:
            self._spaces.pop(name, None)
            self._spaces[name] = self._store.empty((n,))
        return self._spaces[name][:n]

    @property
    def nbytes(self) -> int:
        """Bytes of the work space that is kept."""
        return sum(space.nbytes for space in self._spaces.values())
