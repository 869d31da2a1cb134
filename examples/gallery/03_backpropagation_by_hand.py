# %% [markdown]
# # 3 · Backpropagation by hand, through one layer
#
# There is no autograd framework in kalmandp. Every derivative is a formula in `potentials/network.py`, and
# each formula comes from one layer:
#
# $$y = \varphi(a) + x, \qquad a = xW + b$$
#
# (RLEKF paper, "Problem Setup", steps 2 and 4, with $\varphi = \tanh$.) Rows of $x$ are independent inputs.

# %%
import numpy as np
from style import BLUE, COLOURS, GREEN, GREY, ORANGE, panels, save

from kalmandp.potentials import network
from kalmandp.potentials.activations import activation
from kalmandp.testing import check_jacobian, complex_step_error

rng = np.random.default_rng(1)
x, W, b = rng.normal(size=(5, 4)), rng.normal(size=(4, 4)), rng.normal(size=4)
tanh = activation("tanh")  # a -> φ, φ′, φ″

# %% [markdown]
# ## Forward
#
# For the tanh $\varphi' = 1 - \varphi^2$ and $\varphi'' = -2\varphi\varphi'$: once $\varphi$ is known, the
# derivatives cost a product. Forward keeps what the later passes need.

# %%
a = x @ W + b
phi, d1, d2 = tanh(a)
y = phi + x

layers = [network.Layer(W, b, None, "same", "tanh")]
y_house, caches = network.forward(layers, x)
np.testing.assert_array_equal(y, y_house)

# %% [markdown]
# ## Tangent: how $y$ moves when $x$ moves
#
# Let $x$ depend on a time and write $\dot x$ for its rate. The chain rule, read from left to right:
#
# $$\dot a = \dot x W, \qquad \dot y = \varphi'(a)\,\dot a + \dot x$$

# %%
x_dot = rng.normal(size=x.shape)
a_dot = x_dot @ W
y_dot = d1 * a_dot + x_dot

y_dot_house, _ = network.tangent(layers, caches, x_dot)
np.testing.assert_array_equal(y_dot, y_dot_house)

# %% [markdown]
# ## Backward: how a number $L$ moves when anything moves
#
# Let $L$ be one number computed from $y$, and write $\bar y = \partial L/\partial y$ for its *adjoint*. A
# small change gives $dL = \sum \bar y\, dy$. Put $dy = \varphi'(a)\,da + dx$ in and collect:
#
# $$\bar a = \bar y\,\varphi'(a)$$
#
# Put $da = dx\,W + x\,dW + db$ in and collect what stands beside $dW$, $db$, $dx$:
#
# $$\bar W = x^T \bar a, \qquad \bar b = \textstyle\sum_{rows} \bar a, \qquad \bar x = \bar a W^T + \bar y$$
#
# Shapes are a good memory: $\bar W$ has the shape of $W$, and only one product of $x$ and $\bar a$ has it.

# %%
y_bar = rng.normal(size=y.shape)
a_bar = y_bar * d1
W_bar, b_bar = x.T @ a_bar, a_bar.sum(0)
x_bar = a_bar @ W.T + y_bar

into = [network.Layer(np.zeros_like(W), np.zeros_like(b), None, "same", "tanh")]
x_bar_house = network.backward(layers, caches, y_bar, into)
for ours, house in ((W_bar, into[0].W), (b_bar, into[0].b), (x_bar, x_bar_house)):
    np.testing.assert_array_equal(ours, house)

# %% [markdown]
# Tangent and backward are the same linear map, read in two directions:
# $\sum \bar y\,\dot y = \sum \bar x\,\dot x$.

# %%
print(f"Σ ȳẏ = {(y_bar * y_dot).sum():.15f}\nΣ x̄ẋ = {(x_bar * x_dot).sum():.15f}")
np.testing.assert_allclose((y_bar * y_dot).sum(), (x_bar * x_dot).sum(), rtol=1e-13)

# %% [markdown]
# ## Is it right? Two judges
#
# *Finite differences* divide a difference by a step $\varepsilon$. A large step is not a derivative, a
# small one loses its digits in the subtraction. *Complex step* takes
# $\mathrm{Im}\,L(W + i\varepsilon D)/\varepsilon$: no subtraction, so the step may be $10^{-30}$ and the
# derivative is exact to the last digit.


# %%
def L(w):
    """Σ ȳ y as a function of the flattened W."""
    return (y_bar * (tanh(x @ w.reshape(W.shape) + b)[0] + x)).sum()


w, d = W.ravel(), rng.normal(size=W.size)
exact = W_bar.ravel() @ d
steps = 10.0 ** -np.arange(0, 17, 0.5)
errors = {
    "forward difference": [(L(w + e * d) - L(w)) / e for e in steps],
    "central difference": [(L(w + e * d) - L(w - e * d)) / (2 * e) for e in steps],
    "complex step": [L(w + 1j * e * d).imag / e for e in steps],
}
errors = {name: np.abs(np.array(value) / exact - 1) for name, value in errors.items()}
for name, error in errors.items():
    print(f"{name:20} best relative error {error.min():.0e}")

# %% [markdown]
# `kalmandp.testing` packs both judges up; our own tests use it, and so can yours. A planted mistake is
# caught:

# %%
check_jacobian(L, W_bar.ravel(), w, rng, name="∂L/∂W")
forgotten = x.T @ y_bar  # the factor φ′ is missing
assert complex_step_error(L, forgotten.ravel(), w, d) > 0.1

# %%
figure, (left, right) = panels(1, 2)
t = np.linspace(-3.5, 3.5, 300)
names = ("φ = tanh a", "φ′ = 1 − φ²", "φ″ = −2φφ′")
for value, name, colour in zip(tanh(t), names, (BLUE, ORANGE, GREEN), strict=True):
    left.plot(t, value, color=colour, label=name)
left.set(xlabel="a", title="What a layer keeps for its derivatives")
left.legend(loc="lower right", bbox_to_anchor=(1.03, 0))
for (name, error), colour in zip(errors.items(), (GREY, COLOURS[1], COLOURS[0]), strict=True):
    right.loglog(steps, np.maximum(error, 1e-17), "o-", ms=3, lw=1, color=colour, label=name)
right.set(xlabel="step ε", ylabel="relative error of ∂L/∂W · D", title="Two judges", ylim=(3e-18, 3))
right.invert_xaxis()
right.legend(loc="center", bbox_to_anchor=(0.76, 0.4))
save(figure, "03_backpropagation_by_hand")
