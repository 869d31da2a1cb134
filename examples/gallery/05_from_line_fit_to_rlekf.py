# %% [markdown]
# # 5 · From a line fit to RLEKF, in five steps
#
# A Kalman filter sounds like rockets. It is least squares, done one point at a time. We start with a
# straight line and end at Algorithm 1 of the RLEKF paper. Each step equals the one before where it must.

# %%
import numpy as np
from style import BLUE, GREEN, GREY, INK, ORANGE, SMOKE, panels, save

import kalmandp

rng = np.random.default_rng(5)
w_true, R = np.array([0.8, -0.3]), 0.2**2  # slope and intercept; variance of the noise
x = rng.uniform(-1, 1, 40)
H = np.stack([x, np.ones_like(x)], axis=1)  # h(w) = H w = w₀ x + w₁
y = H @ w_true + np.sqrt(R) * rng.normal(size=40)

# %% [markdown]
# ## Step 1: least squares, all points at once
#
# Before any data we believe $w \sim N(0, P_0)$. After them, minimise
# $w^T P_0^{-1} w + \sum_q (y_q - H_q w)^2/R$. The minimum solves a linear equation.

# %%
P0 = 4.0 * np.eye(2)
P_batch = np.linalg.inv(np.linalg.inv(P0) + H.T @ H / R)
w_batch = P_batch @ H.T @ y / R

# %% [markdown]
# ## Step 2: the Kalman filter, one point at a time
#
# A new point adds $H^T H/R$, a matrix of rank one, to $P^{-1}$. Its effect on $P$ itself is known (Sherman
# and Morrison), so nothing is ever inverted but a number, $S$.


# %%
def kalman_step(w, P, H_q, error, R, lam=1.0):
    """RLEKF paper, Algorithm 1, for one block; with λ = 1 the plain Kalman filter."""
    K = P @ H_q
    S = lam * R + H_q @ K  # l. 8:   the variance we expect of the error
    return w + K * error / S, (P - np.outer(K, K) / S) / lam  # l. 12, l. 11


history = [(np.zeros(2), P0)]
for H_q, y_q in zip(H, y, strict=True):
    w, P = history[-1]
    history.append(kalman_step(w, P, H_q, y_q - H_q @ w, R))
w, P = history[-1]
np.testing.assert_allclose(w, w_batch, rtol=1e-11)  # the same, to rounding
np.testing.assert_allclose(P, P_batch, rtol=1e-11)
print("least squares:", w_batch, "\nKalman filter:", w)

# %% [markdown]
# ## Step 3: recursive least squares that forgets
#
# Early errors were made with bad weights. The forgetting factor $\lambda < 1$ lets them fade:
# $P^{-1} \leftarrow \lambda P^{-1} + H^T H/R$. A point that is $k$ updates old counts $\lambda^k$.

# %%
lam, n = 0.9, len(y)
w, P = np.zeros(2), P0
for H_q, y_q in zip(H, y, strict=True):
    w, P = kalman_step(w, P, H_q, y_q - H_q @ w, R, lam)

weight_q = lam ** (n - 1 - np.arange(n))
P_fading = np.linalg.inv(lam**n * np.linalg.inv(P0) + (weight_q[:, None] * H).T @ H / R)
np.testing.assert_allclose(P, P_fading, rtol=1e-10)
np.testing.assert_allclose(w, P_fading @ (weight_q[:, None] * H).T @ y / R, rtol=1e-10)

# %% [markdown]
# ## Step 4: the extended Kalman filter
#
# Now $h(w)$ is curved: $h(w; x) = \sum_k a_k \tanh(b_k x + c_k)$, a network of 12 weights. Only two things
# change: the error is $y - h(w)$, and $H = \partial h/\partial w$ is taken anew at the present $w$ (paper,
# eqs 2 to 4).


# %%
def network(w, x):
    a, b, c = w.reshape(3, 4)
    t = np.tanh(np.outer(np.atleast_1d(x), b) + c)
    d = a * (1 - t * t)
    return t @ a, np.concatenate([t, d * np.atleast_1d(x)[:, None], d], axis=1)


LAM, NU, NOISE = 0.98, 0.9987, 1e-3  # λ₁ and ν as in the paper: λ ← νλ + 1 − ν (l. 14)
target = lambda x: np.sin(2 * x) + 0.2 * x
grid = np.linspace(-2, 2, 100)
rmse = lambda w: np.sqrt(np.mean((network(w, grid)[0] - target(grid)) ** 2))
n_points, n_starts = (60, 2) if SMOKE else (300, 11)
starts, x_train = 0.5 * rng.normal(size=(n_starts, 12)), rng.uniform(-2, 2, n_points)


def learn(w, update):
    """Show the points one by one to ``update(H, error) -> weights``; w, and the errors on the way."""
    errors = []
    for x_q in x_train:
        h, H = network(w, x_q)
        w = update(H[0], target(x_q) - h[0])
        errors.append(rmse(w))
    return w, errors


def ekf(w):
    state = [w, np.eye(12), LAM]

    def update(H_q, error):
        w, P, lam = state
        state[:] = [*kalman_step(w, P, H_q, error, NOISE, lam), NU * lam + 1 - NU]
        return state[0]

    return update


w_ekf, _ = learn(starts[0], ekf(starts[0]))

# %% [markdown]
# ## Step 5: RLEKF
#
# With a million weights $P$ has $10^{12}$ entries. RLEKF keeps square blocks on its diagonal. Each block
# has its own $K_l = P_l H_l$, but all share one $S = \lambda R + \sum_l H_l^T P_l H_l$ (Algorithm 1, line
# 8). With one block it *is* the EKF. The paper's choice of the noise is $R = L$, the number of blocks.


# %%
def rlekf(w, blocks):
    kalman = kalmandp.RLEKF(w, blocks, P0=1.0, lam=LAM, nu=NU)

    def update(H_q, error):
        kalman.update(H_q, error, NOISE)
        return kalman.weights.copy()

    return update


w_one, _ = learn(starts[0], rlekf(starts[0], [12]))
np.testing.assert_allclose(w_one, w_ekf, rtol=1e-6)  # the same, to the rounding of many nonlinear steps

# %% [markdown]
# What is lost with the correlations between blocks, for several random starts:

# %%
partitions = {"12 blocks": [1] * 12, "3 blocks: a, b, c": [4, 4, 4], "1 block: the EKF": [12]}
curves = {name: [learn(w, rlekf(w, blocks))[1] for w in starts] for name, blocks in partitions.items()}
for name, errors in curves.items():
    print(f"{name:18} median RMSE {np.median(errors, axis=0)[-1]:.3f}")

# %%
figure, (left, middle, right) = panels(1, 3, height=2.6)
t = np.linspace(-1, 1, 50)
rows = np.stack([t, np.ones_like(t)], axis=1)
circle = np.stack([np.cos(np.linspace(0, 2 * np.pi, 100)), np.sin(np.linspace(0, 2 * np.pi, 100))])
for points, colour in ((1, GREY), (5, ORANGE), (40, BLUE)):
    w, P = history[points]
    sigma = np.sqrt(np.einsum("qw,wv,qv->q", rows, P, rows))  # H P Hᵀ: how sure the line is
    left.fill_between(t, rows @ w - sigma, rows @ w + sigma, color=colour, alpha=0.3, lw=0)
    left.plot(t, rows @ w, color=colour, label=f"{points} point{'s'[: points > 1]}")
    middle.plot(*(w[:, None] + np.linalg.cholesky(P) @ circle), color=colour)
left.plot(x, y, ".", color=INK, ms=3)
left.set(xlabel="x", ylabel="y", title="Line, ± √(HPHᵀ)", ylim=(-2, 2))
left.legend(loc="lower right")
middle.plot(*w_true, "+", color=INK, ms=9, mew=1.5)
middle.set(xlabel="slope", ylabel="intercept", title="P as an ellipse")
for (name, errors), colour in zip(curves.items(), (GREY, GREEN, BLUE), strict=True):
    low, median, high = np.quantile(errors, [0.25, 0.5, 0.75], axis=0)
    right.fill_between(1 + np.arange(n_points), low, high, color=colour, alpha=0.25, lw=0)
    right.semilogy(1 + np.arange(n_points), median, color=colour, label=name)
right.set(xlabel="points seen", ylabel="RMSE", title="A network of 12 weights", ylim=(5e-3, 3))
right.legend(loc="lower left", bbox_to_anchor=(-0.02, -0.03))
save(figure, "05_from_line_fit_to_rlekf")
