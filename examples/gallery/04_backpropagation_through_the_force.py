# %% [markdown]
# # 4 · Backpropagation through the force
#
# RLEKF needs $\partial F/\partial w$: how each force changes when a weight changes (RLEKF paper, Algorithm
# 1, line 7, for a force). A force is a derivative already, $F = -\partial E/\partial r$, so this is a
# second derivative. The paper leaves it to a framework. Here it is by hand, in one idea:
#
# **A force is the tangent of an energy.** And of a tangent we can take the backward pass.

# %%
import time
from itertools import pairwise

import numpy as np
from style import BLUE, DATA, GREY, ORANGE, SMOKE, panels, save

import kalmandp
from kalmandp.geometry.pairs import force_direction
from kalmandp.potentials import atomic, network
from kalmandp.testing import check_jacobian

rng = np.random.default_rng(4)

# %% [markdown]
# ## One dimension first
#
# A particle on a line, $E(x; w)$ a small net, $F = -dE/dx$. Let the particle move with $\dot x = -1$. Then
# the energy changes at the rate $\dot E = E'(x)\,\dot x = F$: the tangent pass *is* the force.

# %%
widths = (1, 8, 8, 1)
W = [rng.normal(size=(n, m)) * 0.8 for n, m in pairwise(widths)]
b = [rng.normal(size=m) for m in widths[1:]]
kinds = ("tanh", "tanh", "linear")
net = [network.Layer(W[n], b[n], None, "none", kinds[n]) for n in range(3)]

x = np.linspace(-2, 2, 201)[:, None]
E, caches = network.forward(net, x)
F, caches = network.tangent(net, caches, -np.ones_like(x))

# %% [markdown]
# ## The backward pass of a tangent
#
# Per layer, forward computed two things: $\varphi(a)$ and $\dot\varphi = \varphi'(a)\,\dot a$. Let
# $\bar\varphi$, $\bar{\dot\varphi}$ be their adjoints. A small change of $a$ and $\dot a$ gives
#
# $$dL = \bar\varphi\,\varphi'\,da + \bar{\dot\varphi}\,(\varphi''\,\dot a\,da + \varphi'\,d\dot a)$$
#
# so $\bar a = \bar\varphi\,\varphi' + \bar{\dot\varphi}\,\varphi''\,\dot a$ and
# $\bar{\dot a} = \bar{\dot\varphi}\,\varphi'$. Since $a = xW + b$ and $\dot a = \dot x W$ share $W$, both
# contribute: $\bar W = x^T\bar a + \dot x^T\bar{\dot a}$. That is all of `network.tangent_backward`, and
# the only place in the package where $\varphi''$ occurs.
#
# For $L = F(x_0)$ the adjoint of $\dot E$ at $x_0$ is 1, and everything else is 0.

# %%
at = 130  # x₀ = 0.6
zero = np.zeros_like(x)
one_hot = np.zeros_like(x)
one_hot[at] = 1.0
dF_dw = [network.Layer(np.zeros_like(l.W), np.zeros_like(l.b), None, l.skip, l.activation) for l in net]
network.tangent_backward(net, caches, zero, one_hot, dF_dw)

# %% [markdown]
# Use it: move the weights along $\partial F(x_0)/\partial w$ so that the force at $x_0$ rises by 0.5. This
# is what one Kalman update does, with $P = I$ and no noise.

# %%
size = sum((g.W**2).sum() + (g.b**2).sum() for g in dF_dw)
step = 0.5 / size
moved = [l._replace(W=l.W + step * g.W, b=l.b + step * g.b) for l, g in zip(net, dF_dw, strict=True)]
E_moved, caches_moved = network.forward(moved, x)
F_moved, _ = network.tangent(moved, caches_moved, -np.ones_like(x))
print(f"F(x₀) = {F[at, 0]:.3f}, asked for {F[at, 0] + 0.5:.3f}, now {F_moved[at, 0]:.3f}")

# %% [markdown]
# ## The same for 64 atoms of silicon
#
# Choose a direction $c$ over all force components. Let atom $i$ move with velocity $-c_i$. Then every pair
# vector $r_p = r_j - r_i$ moves with $v_p = c_i - c_j$, and
#
# $$c \cdot F = \sum_i c_i \cdot F_i = \dot E$$

# %%
frame = kalmandp.Dataset(DATA / "si64_lda_train.h5")[100]
potential = kalmandp.Potential.create(
    ["Si"], rcut=5.0, frames=[frame], embedding=(5, 10), axis_neuron=4, fitting=(8, 8), rng=rng,
    rcut_smth=2.0, fitting_resnet_dt=False, engine="numpy",
)  # fmt: skip
c_ic = rng.normal(size=(64, 3))

env = potential.environment(frame)
_, forward = atomic.energies(potential.parameters, env)
f_pc = atomic.pair_gradient(potential.parameters, env, forward)  # ∂E/∂r_p
v_pc = force_direction(env.geometry, c_ic)  # v_p = c_i − c_j
np.testing.assert_allclose((f_pc * v_pc).sum(), (c_ic * potential.evaluate(frame).forces).sum(), rtol=1e-9)

# %% [markdown]
# `weight_gradient` carries this tangent up ($\dot{\tilde R} \to \dot G \to \dot T \to \dot D \to \dot E$)
# and the adjoints back down. The table in the docstring of `potentials/atomic.py` has
# every line. `force_jacobian` is the same by its public name. A judge that knows nothing of all
# this, the complex step, agrees.


# %%
def c_dot_F(w):
    parameters = potential.parameters._replace(weights=w)
    _, forward = atomic.energies(parameters, env)
    return (atomic.pair_gradient(parameters, env, forward) * v_pc).sum()


J = potential.force_jacobian(frame, c_ic)
check_jacobian(c_dot_F, J, potential.weights, rng, directions=1 if SMOKE else 3, name="∂(c·F)/∂w")

n_judged = 10 if SMOKE else len(J)
judged = rng.permutation(len(J))[:n_judged]
moves = 1e-30j * np.eye(len(J))[judged]
complex_step = [c_dot_F(potential.weights + move).imag / 1e-30 for move in moves]
print(f"{n_judged} of {len(J)} weights judged: largest error {np.abs(J[judged] - complex_step).max():.0e}")

# %% [markdown]
# ## What it costs
#
# One backward pass gives the derivative by all weights at once. Differences need a pass for every weight.


# %%
def by_hand():
    _, forward = atomic.energies(potential.parameters, env)
    return atomic.weight_gradient(potential.parameters, env, forward, np.zeros(64), v_pc)


def seconds(function, repeats=1 if SMOKE else 20):
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


t_F, t_J = seconds(lambda: c_dot_F(potential.weights)), seconds(by_hand)
print(f"forces {1e3 * t_F:.1f} ms; ∂(c·F)/∂w {1e3 * t_J:.1f} ms; differences {2e3 * len(J) * t_F:.0f} ms")

# %%
figure, (left, middle, right) = panels(1, 3, height=2.6)
left.plot(x, F, color=GREY, label="F")
left.plot(x, F_moved, color=BLUE, label="F after the step")
arrow = {"arrowstyle": "->", "color": ORANGE}
left.annotate("", (x[at, 0], F_moved[at, 0]), (x[at, 0], F[at, 0]), arrowprops=arrow)
left.set(xlabel="x", ylabel="force", title="A step along ∂F(x₀)/∂w")
left.legend(loc="upper right", bbox_to_anchor=(1.04, 1))
left.text(x[at, 0], F[at, 0] - 0.5, "x₀", color=ORANGE, ha="center")
middle.plot(complex_step, J[judged], "o", ms=3, color=BLUE, alpha=0.6, mec="none")
span = [J.min(), J.max()]
middle.plot(span, span, color="0.2", lw=0.7, zorder=0)
middle.set(xlabel="complex step (eV/Å)", ylabel="by hand (eV/Å)", title="∂(c·F)/∂w, Si₆₄")
cost = {"forces": t_F, "∂(c·F)/∂w\nby hand": t_J, "by central\ndifferences": 2 * len(J) * t_F}
bars = right.bar(list(cost), [1e3 * t for t in cost.values()], color=[GREY, BLUE, ORANGE], width=0.6)
right.bar_label(bars, fmt="{:,.0f} ms")
right.set(yscale="log", ylabel="time (ms)", title=f"What {len(J)} derivatives cost", ylim=(1, 1e4))
right.tick_params(axis="x", labelsize=8, length=0)
right.grid(False, axis="x")
save(figure, "04_backpropagation_through_the_force")
