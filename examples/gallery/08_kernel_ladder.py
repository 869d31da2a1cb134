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

import numba
import numpy as np
from style import BLUE, GREY, INK, ORANGE, SMOKE, panels, save

from kalmandp.engines.cpu_covariance import TiledCovariance
from kalmandp.kalman import Blocks

numba.set_num_threads(1)
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
@numba.njit(fastmath=True)
def downdate(P, g, lam):
    for i in range(len(g)):
        for j in range(len(g)):
            P[i, j] = (P[i, j] - g[i] * g[j]) / lam


class OnePass(Textbook):
    def update(self, H):
        K = self.P @ H
        downdate(self.P, K / np.sqrt(R * LAM + H @ K), LAM)


# %% [markdown]
# ## Rung 3: half of it
#
# $P$ is symmetric. Keep the lower half, and use each entry twice while it is at hand: as it stands and
# transposed.


# %%
@numba.njit(fastmath=True)
def symmetric_product(A, x):
    y = np.zeros_like(x)
    for i in range(len(x)):
        row_sum = 0.0
        for j in range(i):
            row_sum += A[i, j] * x[j]
            y[j] += A[i, j] * x[i]
        y[i] += row_sum + A[i, i] * x[i]
    return y


@numba.njit(fastmath=True)
def downdate_half(A, g, lam):
    for i in range(len(g)):
        for j in range(i + 1):
            A[i, j] = (A[i, j] - g[i] * g[j]) / lam


class Half(Textbook):
    def update(self, H):
        K = symmetric_product(self.P, H)
        downdate_half(self.P, K / np.sqrt(R * LAM + H @ K), LAM)

    def dense(self):
        return np.tril(self.P) + np.tril(self.P, -1).T


# %% [markdown]
# ## Rung 4: write later
#
# Keep $P = s(A - U^T U)$. An update appends the row $g/\sqrt{s}$ to $U$ and divides $s$ by $\lambda$:
# nothing of $A$ is written. After 32 updates all rows are folded in at once, and each entry of $A$ moves
# once for 32 updates.


# %%
@numba.njit(fastmath=True)
def fold(A, U, s):
    for i in range(len(A)):
        for k in range(len(U)):
            u = U[k, i]
            for j in range(i + 1):
                A[i, j] -= u * U[k, j]
        for j in range(i + 1):
            A[i, j] *= s


class Deferred(Half):
    def __init__(self, n):
        super().__init__(n)
        self.U, self.count, self.s = np.zeros((32, n)), 0, 1.0

    def update(self, H):
        U = self.U[: self.count]
        K = self.s * (symmetric_product(self.P, H) - (U @ H) @ U)
        self.U[self.count] = K / np.sqrt((R * LAM + H @ K) * self.s)
        self.count, self.s = self.count + 1, self.s / LAM
        if self.count == 32:
            fold(self.P, self.U, self.s)
            self.count, self.s = 0, 1.0

    def dense(self):
        A = super().dense()
        return self.s * (A - self.U[: self.count].T @ self.U[: self.count])


# %% [markdown]
# ## Rung 5: tiles
#
# kalmandp's own kernel, `engines/cpu_covariance.py`. It cuts the half into tiles of 32 × 32, so that what
# is read and what is summed stay in the nearest cache, reads two rows of a tile at once, and folds tile by
# tile. It can share the tiles among threads, too; here it has one.


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
# The check is small and goes through a fold: 40 updates. A round of the clock is 32 updates, one whole
# cycle, where there is something to fold, and four where there is not. The best of three rounds counts.

# %%
names = ("1  textbook", "2  one pass", "3  half", "4  write later", "5  tiles")
ladder = dict(zip(names, (Textbook, OnePass, Half, Deferred, Tiles), strict=True))


def after(rung, n, updates):
    filter_, rng = rung(n), np.random.default_rng(8)
    for H in rng.normal(size=(updates, n)):
        filter_.update(H)
    return filter_.dense()


before = after(Textbook, 100, 40)
for rung in ladder.values():
    P = after(rung, 100, 40)
    np.testing.assert_allclose(P, before, rtol=0, atol=1e-12 * np.abs(P).max())  # other order of sums
    before = P


def seconds(function, updates, rounds=2 if SMOKE else 3):
    def one_round():
        start = time.perf_counter()
        for _ in range(updates):
            function()
        return (time.perf_counter() - start) / updates

    return min(one_round() for _ in range(rounds))


n = 512 if SMOKE else 4096
H = np.random.default_rng(9).normal(size=n) / np.sqrt(n)
times = {}
for name, rung in ladder.items():
    filter_ = rung(n)
    times[name] = seconds(lambda f=filter_: f.update(H), 32 if rung in (Deferred, Tiles) else 4)
P = np.eye(n)
read = seconds(lambda: P @ H, 8)
print(f"n = {n}, P has {P.nbytes / 1e6:.0f} MB as a square; one read of it by BLAS takes {1e3 * read:.2f} ms")
for name, t in times.items():
    print(f"{name:16} {1e3 * t:8.2f} ms {t / read:6.2f} reads of P")

# %%
figure, ax = panels(1, 1, height=2.5)
shades = [GREY] * 2 + ["#56B4E9"] * 2 + [BLUE]
bars = ax.barh(list(times), [1e3 * t for t in times.values()], color=shades, height=0.62)
labels = [f"{1e3 * t:.1f} ms = {t / read:.1f} reads of P" for t in times.values()]
ax.bar_label(bars, labels, padding=4, fontsize=8.5)
ax.axvline(1e3 * read, color=ORANGE, lw=1.2)
ax.text(1e3 * read, -0.75, " one read of P", color=ORANGE, va="center", fontsize=8.5)
ax.invert_yaxis()
ax.margins(x=0.3)
ax.set(xlabel=f"time of one update (ms), block of {n}, one core", ylim=(4.6, -1.1))
ax.tick_params(axis="y", length=0, labelcolor=INK)
ax.grid(False, axis="y")
save(figure, "08_kernel_ladder")
