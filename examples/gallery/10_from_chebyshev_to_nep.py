# %% [markdown]
# # 10 · From Chebyshev polynomials to a NEP
#
# A neuroevolution potential (NEP, the model of GPUMD) is small: Chebyshev polynomials of distances, sums of
# them over neighbours, numbers that a rotation does not change, and one hidden layer. We build each part by
# hand and compare it with kalmandp's. Then the Kalman filter trains it on silicon in less than a minute.
#
# (Fan et al., Phys. Rev. B 104, 104309 (2021); J. Chem. Phys. 157, 114801 (2022).)

# %%
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.polynomial.legendre import Legendre
from style import BLUE, COLOURS, DATA, GREY, INK, ORANGE, SMOKE, panels, save

import kalmandp
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.potentials.nep.environment import chebyshev
from kalmandp.potentials.nep.invariants import Invariants, component, directions, norm, polynomial

r_c, K = 6.0, 7  # Å; polynomials k = 0 … K

# %% [markdown]
# ## 1. Functions of one distance
#
# The cut-off function is $f_c(r) = \frac12(1 + \cos \pi r/r_c)$. With $x = 2(r/r_c - 1)^2 - 1$, which goes
# from 1 at $r = 0$ to −1 at $r_c$,
#
# $$f_k(r) = \tfrac12 (T_k(x) + 1)\, f_c(r), \qquad T_k(\cos \alpha) = \cos k\alpha .$$


# %%
def f(r):
    """f_k(r) for k = 0 … K: (r, k)."""
    f_c = 0.5 * (1 + np.cos(np.pi * r / r_c)) * (r < r_c)
    x = 2 * (r / r_c - 1) ** 2 - 1
    return 0.5 * (np.cos(np.arange(K + 1) * np.arccos(x)[:, None]) + 1) * f_c[:, None]


r = np.linspace(0.05, 6.2, 300)
f_rk = f(np.minimum(r, r_c))
np.testing.assert_allclose(f_rk, chebyshev(r, r_c, K + 1)[0], atol=1e-13)  # to rounding

# %% [markdown]
# ## 2. Radial functions are sums of them
#
# $g_n(r) = \sum_k c_{nk} f_k(r)$. The numbers $c$ are weights: they are trained together with the net. Here
# is a new NEP. Its $c$ are random, its scale of the descriptor is taken from the data.

# %%
train, test = kalmandp.Dataset(DATA / "si64_lda_train.h5"), kalmandp.Dataset(DATA / "si64_lda_test.h5")
choices = {
    "radial_cutoff": r_c, "angular_cutoff": 5.0, "n_max": (5, 5), "basis_size": (K, K), "l_max": (4, 1),
    "neuron": 20,
}  # fmt: skip
rng = np.random.default_rng(1)
start = kalmandp.Potential.create(["Si"], kind="nep", frames=train[::20], rng=rng, **choices)
c_nk = lambda potential: potential.layout.view(potential.weights, "c_radial.0")[:, :, 0]
print(start, "\nc of the radial part:", c_nk(start).shape, " (n, k)")

# %% [markdown]
# ## 3. Directions, and what a rotation does not change
#
# The angular functions have their own $c$ and cut-off. With the unit vector $\hat r$ to a neighbour, the
# moments of an atom and their sums are
#
# $$S_{k,lm} = \sum_j f_k(r_j)\, b_{lm}(\hat r_j), \qquad s_{n,lm} = \sum_k c_{nk} S_{k,lm}.$$
#
# $S$ has no weights: it is computed once for each frame. $b_{lm}$ is a spherical harmonic without its
# constant, in the order l from 1 to L, and in each m = 0, then (real, imaginary) for m from 1 to l.
# The power spectrum is the same after any rotation:
#
# $$q_{nl} = C_{l0} s_{l0}^2 + 2 \sum_{m \ge 1} C_{lm} (s_{re}^2 + s_{im}^2).$$

# %%
L, r_a = 4, 5.0
C_m = np.zeros((L, (L + 1) ** 2 - 1))  # row l: the factor of each s²
for l in range(1, L + 1):
    C_m[l - 1, component(l, 0)] = norm(l, 0)
    for m in range(1, l + 1):
        C_m[l - 1, [component(l, m), component(l, m, imaginary=True)]] = 2 * norm(l, m)


def power_spectrum(r_pc, c_nk):
    """q (n, l) of an atom whose neighbours stand at ``r_pc``."""
    r_p = np.sqrt((r_pc * r_pc).sum(-1))
    b_pm = directions(L, r_pc / r_p[:, None])[0]
    S_km = chebyshev(r_p, r_a, K + 1)[0].T @ b_pm
    return (c_nk @ S_km) ** 2 @ C_m.T


frame = test[20]
pairs = neighbour_pairs(frame, r_a)
neighbours = pairs.r_pc[pairs.i_p == 0]
c_angular = start.layout.view(start.weights, "c_angular.0")[:, :, 0]
q_nl = power_spectrum(neighbours, c_angular)
Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # some rotation, or a reflection
np.testing.assert_allclose(power_spectrum(neighbours @ Q, c_angular), q_nl, rtol=1e-10)

# %% [markdown]
# The addition theorem of the spherical harmonics says what these numbers are: sums over all pairs of
# neighbours, of both radial functions and a Legendre polynomial of the angle between them,
#
# $$q_{nl} = \frac{2l+1}{4\pi} \sum_{j,k} g_n(r_j)\, g_n(r_k)\, P_l(\cos\theta_{jk}).$$
#
# The double sum over neighbours has become a single one, in $S$.

# %%
r_p = np.sqrt((neighbours * neighbours).sum(-1))
g_pn = chebyshev(r_p, r_a, K + 1)[0] @ c_angular.T
cos_pp = (neighbours / r_p[:, None]) @ (neighbours / r_p[:, None]).T
by_angles = np.stack(
    [(2 * l + 1) / (4 * np.pi) * np.einsum("jn,kn,jk->n", g_pn, g_pn, Legendre.basis(l)(cos_pp))
     for l in range(1, L + 1)], axis=1,
)  # fmt: skip
np.testing.assert_allclose(by_angles, q_nl, rtol=1e-9)
print("the 3-body numbers of atom 0 for n = 0, l = 1 … 4:", np.round(q_nl[0], 5))

# For the picture: two neighbours at 2.35 Å, and the angle between them.
theta = np.linspace(0, np.pi, 91)
at = lambda a: 2.35 * np.array([[1, 0, 0], [np.cos(a), np.sin(a), 0]])
q_theta = np.array([power_spectrum(at(a), c_angular)[0] for a in theta])
g_two = (chebyshev(np.array([2.35]), r_a, K + 1)[0] @ c_angular.T)[0, 0]

# %% [markdown]
# Four-body numbers couple three $s$ by Wigner's 3j symbols. This model uses one, $q_{222}$ ("l_max 4 1"). So
# the descriptor has 6 radial numbers, and for each of 6 angular functions 4 + 1: 36 in all.
#
# ## 4. One hidden layer
#
# $$E_i = \sum_\mu w_\mu \tanh(\sum_d W_{d\mu} \hat q_d + b_\mu) + b,
# \quad \hat q_d = q_d \cdot scale_d .$$
#
# (GPUMD subtracts its biases; the file nep.txt takes care of it.) All of it, by hand, for one atom:

# %%
invariants = Invariants((4, 1, 0, 0, 0, 0, 0))
print("invariants:", *invariants.names, "   Z_20 =", *polynomial(2, 0)[0], "(of 1, z, z²)")


def energy_of_an_atom(potential, r_pc):
    view = lambda name: potential.layout.view(potential.weights, name)[:, :, 0]
    r_p = np.sqrt((r_pc * r_pc).sum(-1))
    near = r_p < r_a
    q_n = view("c_radial.0") @ chebyshev(r_p, r_c, K + 1)[0].sum(0)
    S_km = chebyshev(r_p[near], r_a, K + 1)[0].T @ directions(L, r_pc[near] / r_p[near, None])[0]
    Q_nl = invariants.values(view("c_angular.0") @ S_km)
    q = np.concatenate([q_n, Q_nl.T.ravel()]) * potential.statistics["q_scaler"]
    hidden, last = potential.layout.fitting(potential.weights, 0)
    return float((np.tanh(q @ hidden.W + hidden.b) @ last.W + last.b)[0] + potential.bias_atom_e[0])


pairs = neighbour_pairs(frame, r_c)
by_hand = energy_of_an_atom(start, pairs.r_pc[pairs.i_p == 0])
np.testing.assert_allclose(by_hand, start.evaluate(frame).atomic_energies[0], rtol=1e-12)

# %% [markdown]
# ## 5. Training: all forces of a frame are one measurement
#
# A frame of 64 atoms has 1 energy, 192 force components and 6 components of the virial: 199 numbers. The
# filter takes them all in one update. With $H$ (weights × 199) their derivatives, by hand, and $R$ the
# variance that is allowed to each number,
#
# $$S = H^T P H + R, \quad w \leftarrow w + P H S^{-1} (y - h), \quad
# P \leftarrow (P - P H S^{-1} H^T P)/\lambda .$$
#
# This is `kalmandp train` with `"type": "nep"`. The clock counts seconds of the processor.

# %%
settings = {
    "model": {"type": "nep", "type_map": ["Si"], "cutoff": [r_c, r_a], "n_max": [5, 5], "basis_size": [K, K],
              "l_max": [4, 1], "neuron": 20},
    "optimizer": {"type": "RLEKF"},
    "training": {
        "training_data": {"systems": [str(DATA / "si64_lda_train.h5")]},
        "validation_data": {"systems": [str(DATA / "si64_lda_test.h5")]},
        "seed": 1, "disp_freq": 7, "save_freq": 10000, **({"numb_steps": 14} if SMOKE else {"numb_epoch": 3}),
    },
}  # fmt: skip
folder = tempfile.TemporaryDirectory()
curve, begin = [], None
for record in kalmandp.train(settings, output=folder.name):
    begin = begin or time.process_time()  # after the first frame: the kernels are compiled
    if np.isfinite(record.valid_f):
        errors = 1e3 * record.valid_e, 1e3 * record.valid_f
        curve.append((time.process_time() - begin, *errors))
seconds, energy_error, force_error = np.array(curve).T
print(f"{record.step} updates in {seconds[-1]:.0f} s: {energy_error[-1]:.2f} meV/atom, ", end="")
print(f"{force_error[-1]:.0f} meV/Å on frames that were not learnt")

# %% [markdown]
# ## 6. nep.txt, and where it runs
#
# The model is a file of GPUMD. It is text: a header with the choices, then one number in a line.

# %%
path = Path(folder.name) / "trained.txt"
trained = kalmandp.Potential.load(next(Path(folder.name).glob("nep.txt")))
trained.save(path)
print("\n".join(path.read_text().splitlines()[:7]))
again = kalmandp.Potential.load(path).evaluate(frame)
np.testing.assert_allclose(again.forces, trained.evaluate(frame).forces, atol=1e-12)

# %% [markdown]
# - **GPUMD**: a line `potential nep.txt` in `run.in`.
# - **ASE**, with calorine: `from calorine.calculators import CPUNEP; atoms.calc = CPUNEP("nep.txt")`.
# - **ASE**, with this package: `from kalmandp.bridges.ase import KalmanDP; atoms.calc = KalmanDP("nep.txt")`.
#
# ## Energies and forces belong together
#
# Move one atom. The force is the negative slope of the energy, also between frames.

# %%
a, x = int(np.argmax(abs(frame.forces[:, 0]))), np.linspace(-0.35, 0.35, 41)


def moved(x):
    positions = frame.positions.copy()
    positions[a, 0] += x
    return kalmandp.Frame(positions, frame.types, frame.type_map, cell=frame.cell)


results = trained.evaluate([moved(step) for step in x])
E_x, F_x = np.array([(result.energy, result.forces[a, 0]) for result in results]).T
h = 1e-4
slope = (trained.evaluate(moved(h)).energy - trained.evaluate(moved(-h)).energy) / (2 * h)
np.testing.assert_allclose(-slope, trained.evaluate(frame).forces[a, 0], rtol=1e-5, atol=1e-6)  # h²

# %%
figure, axes = panels(2, 3, height=2.45)
(one, two, three), (four, five, six) = axes
shades = [BLUE, "#4D9BC9", "#7FB8D9", "#E09A6A", ORANGE]
for k, colour in enumerate(shades):
    one.plot(r, f_rk[:, k], color=colour, lw=1.4, label=f"$f_{k}$")
one.set(xlabel="r (Å)", title="1  Chebyshev functions", xlim=(0, 6.2))
one.legend(loc="upper right", ncols=2, columnspacing=1.0)
seen = r > 2.1  # the closest atoms of the data
for n, colour in zip(range(3), COLOURS, strict=False):
    two.plot(r[seen], f_rk[seen] @ c_nk(start)[n], color=colour, lw=1, ls=(0, (4, 2)))
    two.plot(r[seen], f_rk[seen] @ c_nk(trained)[n], color=colour, label=f"$g_{n}$")
two.plot([], [], color=GREY, lw=1, ls=(0, (4, 2)), label="start")
two.set(xlabel="r (Å)", title="2  Their sums, trained")
two.margins(y=0.1)
two.legend(loc="upper right", ncols=2, columnspacing=1.0)
for l, colour in zip(range(1, L + 1), COLOURS, strict=True):
    three.plot(np.degrees(theta), q_theta[:, l - 1] / g_two**2, color=colour, label=f"l = {l}")
    P_l = Legendre.basis(l)(np.cos(theta[::10]))
    three.plot(np.degrees(theta[::10]), (2 * l + 1) / (4 * np.pi) * (2 + 2 * P_l), ".", color=INK, ms=4)
three.set(xlabel="angle of two neighbours (°)", title="3  $q_l/g^2$; dots: with $P_l$")
three.set(xticks=[0, 60, 120, 180], ylim=(-0.1, 4.4))
three.legend(loc="upper center", ncols=2, columnspacing=1.0)
four.plot(x, E_x - E_x[20], color=BLUE)
for k in (4, 12, 20, 28, 36):
    t = np.array([-0.06, 0.06])
    four.plot(x[k] + t, E_x[k] - E_x[20] - F_x[k] * t, color=ORANGE, lw=2.2)
four.set(xlabel="shift of one atom (Å)", ylabel="energy − start (eV)", title="4  Force = − slope")
for errors, unit, colour in ((force_error, "meV/Å", BLUE), (energy_error, "meV/atom", ORANGE)):
    five.loglog(seconds, errors, color=colour)
    five.text(seconds[-1], 0.8 * errors[-1], f"{errors[-1]:.2g} {unit}", ha="right", va="top", color=colour)
five.set(xlabel="seconds of the processor", title="5  RMSE, frames not learnt", ylim=(0.3, 500))
five.set_yticks([1, 10, 100], ["1", "10", "100"])
ticks = [t for t in (0.3, 1, 3, 10, 30) if seconds[0] <= t <= seconds[-1]]
five.set_xticks(ticks, [f"{t:g}" for t in ticks])
five.minorticks_off()
shown = test[::4]
pairs_ = [(f.forces.ravel(), r.forces.ravel()) for f, r in zip(shown, trained.evaluate(shown), strict=True)]
label, predicted = np.concatenate(pairs_, axis=1)
edge = 1.05 * abs(label).max()
six.plot([-edge, edge], [-edge, edge], color=GREY, lw=0.8)
six.plot(label, predicted, ".", color=BLUE, ms=2, mew=0, alpha=0.6)
six.set(xlabel="force of DFT (eV/Å)", ylabel="force of NEP (eV/Å)", title="6  Compare", aspect="equal")
save(figure, "10_from_chebyshev_to_nep")
train.close()
test.close()
folder.cleanup()
