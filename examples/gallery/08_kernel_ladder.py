# %% [markdown]
# # 8 · A kernel ladder: one Kalman update, from naive to fast
#
# RLEKF spends its time on $P$ (RLEKF paper, Algorithm 1, lines 8 to 11):
#
# $$K = PH, \qquad a = 1/(L\lambda + H^T K), \qquad P \leftarrow (P - a K K^T)/\lambda$$
#
# Two operations per number read: no processor is kept busy by that. What counts is how often $P$ goes
# through the memory. Each rung below moves less of it than the one before, and must give the same $P$.

# %%
import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # one core for all

import time

import numpy as np
from numba import njit, set_num_threads
from style import BLUE, GREY, INK, ORANGE, SMOKE, panels, save

from kalmandp.engines.cpu.covariance.tiled import TiledCovariance
from kalmandp.kalman import Blocks

set_num_threads(1)
LAM, R = 0.99, 1.0

# %% [markdown]
# ## Rung 1: the textbook
#
# As printed. NumPy makes a matrix for $KK^T$, one for $aKK^T$, one for the difference and one for the
# quotient.


# %%
class Textbook:
    def __init__(self, n):
        self.P = np.eye(n)

    def update(self, H):
        K = self.P @ H
        a = 1 / (R * LAM + H @ K)
        self.P = (self.P - a * np.outer(K, K)) / LAM

    def dense(self):
        return self.P


# %% [markdown]
# ## Rung 2: in one pass
#
# With $g = \sqrt{a}\,K$ each entry is read, changed and written once. No other matrix is needed.


# %%
@njit(fastmath=True)
def downdate(P, g, lam, half):
    for i in range(len(g)):
        for j in range(i + 1 if half else len(g)):
            P[i, j] = (P[i, j] - g[i] * g[j]) / lam


class OnePass(Textbook):
    def update(self, H):
        K = self.P @ H
        downdate(self.P, K / np.sqrt(R * LAM + H @ K), LAM, False)


# %% [markdown]
# ## Rung 3: half of it
#
# $P$ is symmetric. Keep the lower half, and use each entry twice while it is at hand: as it stands and
# transposed.


# %%
@njit(fastmath=True)
def symmetric_product(A, x):
    y = np.zeros_like(x)
    for i in range(len(x)):
        row_sum = 0.0
        for j in range(i):
            row_sum += A[i, j] * x[j]
            y[j] += A[i, j] * x[i]
        y[i] += row_sum + A[i, i] * x[i]
    return y


class Half(Textbook):
    def update(self, H):
        K = symmetric_product(self.P, H)
        downdate(self.P, K / np.sqrt(R * LAM + H @ K), LAM, True)

    def dense(self):
        return np.tril(self.P) + np.tril(self.P, -1).T


# %% [markdown]
# ## Rung 4: write later
#
# Keep $P = s(A - U^T U)$. An update appends the row $g/\sqrt{s}$ to $U$ and divides $s$ by $\lambda$:
# nothing of $A$ is written. After 64 updates all rows are folded in at once, and each entry of $A$ moves
# once for 64 updates.


# %%
@njit(fastmath=True)
def fold(A, U, s):
    for i in range(len(A)):
        for k in range(len(U)):
            for j in range(i + 1):
                A[i, j] -= U[k, i] * U[k, j]
        for j in range(i + 1):
            A[i, j] *= s


class Deferred(Half):
    def __init__(self, n):
        self.P, self.U, self.count, self.s = np.eye(n), np.zeros((64, n)), 0, 1.0

    def update(self, H):
        U = self.U[: self.count]
        K = self.s * (symmetric_product(self.P, H) - (U @ H) @ U)
        self.U[self.count] = K / np.sqrt((R * LAM + H @ K) * self.s)
        self.count, self.s = self.count + 1, self.s / LAM
        if self.count == 64:
            fold(self.P, self.U, self.s)
            self.count, self.s = 0, 1.0

    def dense(self):
        U = self.U[: self.count]
        return self.s * (super().dense() - U.T @ U)


# %% [markdown]
# ## Rung 5: tiles
#
# kalmandp's own kernel, `engines/cpu/covariance/tiled.py`. It cuts the half into tiles of 32 × 32, so that
# what is read and what is summed stay in the nearest cache, reads two rows of a tile at once, and folds
# tile by tile. It can share the tiles among threads, too; here it has one.


# %%
class Tiles:
    def __init__(self, n):
        self.P = TiledCovariance(Blocks((n,)))

    def update(self, H):
        K, HPH = self.P.project(H[None])
        self.P.downdate(K / np.sqrt(R * LAM + HPH), LAM)

    def dense(self):
        return self.P.dense(0)


# %% [markdown]
# ## Each rung against the one before, then the clock
#
# The check is small and goes through a fold: 80 updates. A round of the clock is 64 updates, one whole
# cycle, where there is something to fold, and four where there is not. The best of three rounds counts.

# %%
names = ("1  textbook", "2  one pass", "3  half", "4  write later", "5  tiles")
ladder = dict(zip(names, (Textbook, OnePass, Half, Deferred, Tiles), strict=True))
before = None
for rung in ladder.values():
    kalman = rung(100)
    for H in np.random.default_rng(8).normal(size=(80, 100)):
        kalman.update(H)
    P = kalman.dense()
    if before is not None:  # the same sums in another order
        np.testing.assert_allclose(P, before, rtol=0, atol=1e-12 * np.abs(P).max())
    before = P


def seconds(function, updates):
    def one_round():
        start = time.perf_counter()
        for _ in range(updates):
            function()
        return (time.perf_counter() - start) / updates

    return min(one_round() for _ in range(3))


n = 512 if SMOKE else 4096
H, P = np.random.default_rng(9).normal(size=n) / np.sqrt(n), np.eye(n)
read = seconds(lambda: P @ H, 8)
print(f"n = {n}, P has {P.nbytes / 1e6:.0f} MB as a square; one read of it by BLAS takes {1e3 * read:.2f} ms")
times = {}
for name, rung in ladder.items():
    kalman = rung(n)
    times[name] = seconds(lambda k=kalman: k.update(H), 64 if rung in (Deferred, Tiles) else 4)
    print(f"{name:16} {1e3 * times[name]:8.2f} ms {times[name] / read:6.2f} reads of P")

# %%
figure, ax = panels(1, 1, height=2.3)
ms = [1e3 * t for t in times.values()]
bars = ax.barh(list(times), ms, color=[GREY, GREY, "#56B4E9", "#56B4E9", BLUE], height=0.62)
for y, t in enumerate(ms):
    label = f"{t:.1f} ms = {t / read / 1e3:.1f} reads of P"
    ax.text(max(t, 1e3 * read) + 0.8, y, label, va="center", fontsize=8.5)
ax.axvline(1e3 * read, color=ORANGE, lw=1.2)
ax.text(1e3 * read, -0.75, " one read of P", color=ORANGE, va="center", fontsize=8.5)
ax.set(xlabel=f"time of one update (ms), block of {n}, one core", ylim=(4.6, -1.1), xlim=(0, 1.3 * max(ms)))
ax.tick_params(axis="y", length=0, labelcolor=INK)
ax.grid(False, axis="y")
save(figure, "08_kernel_ladder")
