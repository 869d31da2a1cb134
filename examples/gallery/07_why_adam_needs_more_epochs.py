# %% [markdown]
# # 7 · Why Adam needs ten times the epochs
#
# The RLEKF paper reports 11.67 times fewer epochs than Adam for copper. The reason can be seen with two
# weights.
#
# $$h(w; x) = \tanh(w_1 x + w_2), \qquad 1 < x < 2$$
#
# The inputs do not lie around 0 (nor do those of a second layer). More slope with less offset does nearly
# the same in the middle of the data, so the two weights are correlated: the loss is a narrow valley that
# runs across the axes.

# %%
import numpy as np
from style import BLUE, GREEN, GREY, INK, ORANGE, SMOKE, panels, save

import kalmandp
from kalmandp.testing import check_jacobian
from kalmandp.training.trainers.adam import Adam

rng = np.random.default_rng(7)
w_true, w_start, noise = np.array([2.0, -3.0]), np.zeros(2), 0.01
x = rng.uniform(1, 2, 40)


def h(w, x):
    return np.tanh(w[0] * x + w[1])


def jacobian(w, x):
    d = 1 - h(w, x) ** 2
    return np.stack([d * x, d], axis=-1)


check_jacobian(lambda w: h(w, x), jacobian(w_start, x), w_start, rng)
y = h(w_true, x) + noise * rng.normal(size=len(x))
loss = lambda w: np.mean((h(w, x) - y) ** 2)

# %% [markdown]
# ## The same diet for both
#
# One point at a time, in a new random order every epoch. `path` collects $w$ after each update.


# %%
def train(update, epochs, seed=0):
    """``update(H, error) -> w`` is shown every point once per epoch; all w on the way (n, 2)."""
    order, path = np.random.default_rng(seed), [w_start]
    for _ in range(epochs):
        for q in order.permutation(len(x)):
            w = path[-1]
            path.append(update(jacobian(w, x[q]), y[q] - h(w, x[q])))
    return np.array(path)


def adam(rate, epochs):
    """Adam with its rate falling to a hundredth: the loss of one point is error², its gradient −2 error H."""
    optimizer, n = Adam(w_start), epochs * len(x)

    def update(H, error):
        optimizer.update(-2 * error * H, rate * 0.01 ** (optimizer.updates / n))
        return optimizer.weights.copy()

    return update


def kalman(blocks, R=noise**2):
    optimizer = kalmandp.RLEKF(w_start, blocks, P0=1.0, lam=0.98, nu=0.9987)  # the paper's λ₁ and ν

    def update(H, error):
        optimizer.update(H, error, R)
        return optimizer.weights.copy()

    return update


# %% [markdown]
# ## How many epochs?
#
# *Done* is the first epoch that ends with a loss of at most twice the least one, which a few Gauss–Newton
# steps find. Adam gets the best of several lengths of its schedule for each of several learning rates. The
# filter has nothing to tune but the noise $R$: that of the data, or the paper's $R = L$, here 1.

# %%
w_best = w_true
for _ in range(20):
    J = jacobian(w_best, x)
    w_best = w_best + np.linalg.solve(J.T @ J, J.T @ (y - h(w_best, x)))
least = loss(w_best)
low, high = np.linalg.eigvalsh(jacobian(w_best, x).T @ jacobian(w_best, x))
print(f"the valley is {np.sqrt(high / low):.0f} times longer than wide")


def done(path):
    """The first epoch that ends with a low loss; 999 if none does."""
    return next((n for n, w in enumerate(path[:: len(x)]) if loss(w) <= 2 * least), 999)


rates, lengths = ((0.3,), (10,)) if SMOKE else ((0.03, 0.1, 0.3, 1.0), (10, 20, 40, 80))
needed = {
    "Kalman, one block": done(train(kalman([2]), lengths[-1])),
    "Kalman, one block, R = 1": done(train(kalman([2], 1.0), lengths[-1])),
    "Kalman, two blocks": done(train(kalman([1, 1]), lengths[-1])),
}
tries = {rate: min(done(train(adam(rate, n), n)) for n in lengths) for rate in rates}
rate = min(tries, key=tries.get)
for name, epochs in {**needed, **{f"Adam, rate {r}": n for r, n in tries.items()}}.items():
    print(f"{name:26}", f"{epochs} epochs" if epochs < 999 else f"not done after {lengths[-1]}")

# %% [markdown]
# ## What the pictures show
#
# Adam divides the gradient by its size, weight by weight. In a valley across the axes this does not help:
# it falls to the floor quickly, and then creeps. The filter divides by the curvature: $P$ is about the
# inverse of the Hessian. Its off-diagonal entry *is* the direction of the valley. With two blocks of one
# weight each that entry is lost, and the filter is worse than Adam: this is why RLEKF keeps a layer
# together.

# %%
epochs = lengths[-1]
paths = {
    f"Adam, rate {rate}": (train(adam(rate, epochs), epochs), ORANGE),
    "Kalman, two blocks": (train(kalman([1, 1]), epochs), GREEN),
    "Kalman, one block": (train(kalman([2]), epochs), BLUE),
}
figure, (left, right) = panels(1, 2, height=3.1)
w1, w2 = np.meshgrid(np.linspace(-0.6, 2.6, 160), np.linspace(-3.6, 0.6, 160))
surface = np.mean((np.tanh(w1[..., None] * x + w2[..., None]) - y) ** 2, axis=-1)
left.contourf(w1, w2, np.log10(surface), levels=np.arange(-4, 1, 0.5), cmap="Greys", alpha=0.55, extend="min")
for name, (path, colour) in paths.items():
    left.plot(*path[: 3 * len(x) + 1].T, "o-", color=colour, ms=2.2, lw=1, label=name)
    curve = [loss(w) / least for w in path[:: len(x)]]
    right.semilogy(np.arange(len(curve)), curve, color=colour, label=name)
left.plot(*w_best, "*", color="white", mec=INK, ms=13, zorder=5)
left.set(xlabel="$w_1$", ylabel="$w_2$", title="Three epochs on the loss surface")
left.set(xlim=(-0.6, 2.6), ylim=(-3.6, 0.6))
left.grid(False)
left.legend(loc="upper right")
right.axhline(2, color=GREY, ls=":", lw=1)
right.set(xlabel="epochs", ylabel="loss / least loss", xlim=(-1, 60))
right.set_title("Until the loss is twice the least")
save(figure, "07_why_adam_needs_more_epochs")
