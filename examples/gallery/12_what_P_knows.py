# %% [markdown]
# # 12 · What P knows
#
# The filter keeps $P$, the covariance of the weights, to learn well. But $P$ also says how sure a prediction
# is: $\operatorname{var} h = H P H^T$ with $H = \partial h/\partial w$. We look at what it knows, at what can
# be done with it before anything is labelled, and at what it does not know.

# %%
import numpy as np
from style import BLUE, DATA, GREEN, GREY, INK, ORANGE, SMOKE, panels, save

import kalmandp
from kalmandp.kalman import prediction_variance
from kalmandp.kalman.calibration import fit
from kalmandp.training.uncertainty import variances

rng = np.random.default_rng(12)

# %% [markdown]
# ## A curve of nine weights
#
# $h(w; x) = \sum_k w_k \phi_k(x)$ is linear in $w$, so that the filter is exact. It sees points at the left,
# and three at the right. Where it has seen nothing $\sigma$ is what we believed before any data.

# %%
centres, noise = np.linspace(-2, 2, 9), 0.05**2
phi = lambda x: np.exp(-2.0 * (np.atleast_1d(x)[:, None] - centres) ** 2)  # H, one row for each x
truth = lambda x: np.sin(2 * x) + 0.2 * x
x_seen = np.concatenate([rng.uniform(-2, -0.3, 20), [1.5, 1.6, 1.7]])
grid = np.linspace(-2, 2, 161)

kalman = kalmandp.RLEKF(np.zeros(9), [9], P0=1.0, lam=1.0, nu=1.0)
for x in x_seen:
    error = truth(x) + np.sqrt(noise) * rng.normal() - phi(x)[0] @ kalman.weights
    kalman.update(phi(x), [error], noise)
before, curve = np.sqrt(prediction_variance(kalman, phi(grid))), phi(grid) @ kalman.weights

# the same as from all curves that the data allow: weights drawn from N(w, P)
drawn = rng.multivariate_normal(kalman.weights, kalman.covariance.dense(0), 2000)
np.testing.assert_allclose((drawn @ phi(grid).T).std(axis=0), before, rtol=0.15)

# %% [markdown]
# ## P learns without a label
#
# $P \leftarrow P - P H^T (H P H^T + R)^{-1} H P$ has no $y$ in it. So the place that is worth a measurement
# is known before it is made, and so is what will be left to learn afterwards: `kalmandp select` chooses
# frames of a pool in this way, one after another.

# %%
place = grid[np.argmax(before)]
kalman.update(phi(place), [0.0], noise)  # an error of zero: the weights stay
after = np.sqrt(prediction_variance(kalman, phi(grid)))
np.testing.assert_allclose(phi(grid) @ kalman.weights, curve, atol=1e-12)
assert after[np.argmax(before)] < 2 * np.sqrt(noise) and (after <= before + 1e-12).all()
print(f"to be measured: x = {place:.2f}, σ {before.max():.2f}; largest σ afterwards {after.max():.2f}")

# %% [markdown]
# ## What P does not know
#
# A potential that cannot be exact leaves errors which no label removes: from atoms beyond its cut-off, for
# instance. $P$ shrinks with each frame (and takes a frame that comes a second time for a new one), those
# errors do not. So $\operatorname{var} e = f^2 H P H^T + r^2$, with $f$ and $r$ from errors on frames that
# the filter has not learned (`kalman.calibration`).

# %%
data = kalmandp.Dataset(DATA / "si64_lda_train.h5")
order = rng.permutation(len(data)).tolist()
n, m = (6, 4) if SMOKE else (40, 20)
learned, held, judged = ([data[k] for k in order[a:b]] for a, b in ((0, n), (n, n + m), (n + m, n + 2 * m)))
form = {"radial_cutoff": 5.0, "angular_cutoff": 4.0, "n_max": (3, 3), "basis_size": (5, 5), "l_max": (4,)}
potential = kalmandp.Potential.create(("Si",), kind="nep", frames=learned, rng=rng, neuron=8, **form)
online = kalmandp.OnlineTrainer(potential, rng=rng, preset="matrix")


def looked_at(frames):
    """Squared errors of the forces, and H P Hᵀ, (eV/Å)²."""
    found = [(frame, *variances(potential, online.filter, frame)) for frame in frames]
    error_q = np.concatenate([(result.forces - frame.forces).ravel() for frame, result, _ in found])
    return error_q**2, np.concatenate([v.forces.ravel() for *_, v in found])


seen, errors, sigmas = np.unique(np.geomspace(1, 3 * n, 10).astype(int)), [], []
for k, frame in enumerate(3 * learned, start=1):
    online.learn(frame)
    if k in seen:
        square_q, variance_q = looked_at(held[:4])
        errors.append(np.sqrt(square_q.mean()))
        sigmas.append(np.sqrt(variance_q.mean()))

f2, r2 = fit(*looked_at(held))
square_q, variance_q = looked_at(judged)
within = [np.mean(square_q < k**2 * (f2 * variance_q + r2)) for k in (1, 2)]
alone = np.mean(square_q < variance_q)
print(f"meV/Å: √(H P Hᵀ) {1e3 * sigmas[-1]:.0f}, errors {1e3 * errors[-1]:.0f}, r {1e3 * r2**0.5:.0f}")
print(f"within one σ: {alone:.0%} by P alone, {within[0]:.0%} with f and r; within two {within[1]:.0%}")
if not SMOKE:
    assert 0.60 < within[0] < 0.76 and 0.92 < within[1] < 0.98
    assert alone < within[0]

# %%
figure, (left, middle, right) = panels(1, 3, height=2.6)
left.fill_between(grid, curve - 2 * before, curve + 2 * before, color=BLUE, alpha=0.2, lw=0)
left.plot(grid, curve, color=BLUE, label="w, with 2 σ")
left.plot(grid, truth(grid), color=INK, lw=0.8, ls="--", label="truth")
left.plot(x_seen, truth(x_seen), ".", color=ORANGE, ms=4)
left.set(title="Sure where it has seen", xlabel="x", ylim=(-3, 3))
left.legend(fontsize=7.5)
middle.plot(grid, before, color=BLUE, label="before")
middle.plot(grid, after, color=GREEN, label="after an update without a label")
middle.axvline(place, color=GREY, lw=0.8)
middle.set(title="P learns without a label", xlabel="x", ylabel="σ", ylim=(0, 1.5 * before.max()))
middle.legend(fontsize=7.5)
right.loglog(seen, 1e3 * np.array(errors), color=INK, label="RMS error")
right.loglog(seen, 1e3 * np.array(sigmas), color=BLUE, label="√(H P Hᵀ)")
right.axhline(1e3 * np.sqrt(r2), color=ORANGE, lw=0.8, label="r")
right.set(title="What no label removes", xlabel="frames of silicon shown", ylabel="force, meV/Å")
right.legend(fontsize=7.5)
save(figure, "12_what_P_knows")
