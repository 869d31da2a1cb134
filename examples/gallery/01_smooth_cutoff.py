# %% [markdown]
# # 1 · The smooth cut-off
#
# An atom sees its neighbours up to a radius $r_c$. While atoms move, neighbours come and go. What happens
# to the energy at that moment decides whether molecular dynamics is possible at all.
#
# Deep Potential fades a neighbour out between $r_s$ and $r_c$ with a switch $w(r)$ (Deep Potential:
# $s(r) = w(r)/r$; RLEKF paper, "Problem Setup", step 1).

# %%
import numpy as np
from style import BLUE, GREEN, GREY, ORANGE, SMOKE, panels, save

from kalmandp.geometry.cutoff import SWITCH_COEFFICIENTS, switch
from kalmandp.testing import check_jacobian

r_s, r_c = 4.5, 7.0  # Å

# %% [markdown]
# ## Where the polynomial comes from
#
# Let $u = (r - r_s)/(r_c - r_s)$. We ask six things of $w(u) = \sum_n a_n u^n$: at $u = 0$ it is 1 with no
# slope and no curvature, at $u = 1$ it is 0 with no slope and no curvature. Six conditions, six
# coefficients.

# %%
n = np.arange(6)
value = lambda u: u**n
slope = lambda u: n * u ** np.maximum(n - 1, 0)
curvature = lambda u: n * (n - 1) * u ** np.maximum(n - 2, 0)

conditions = np.array([f(u) for u in (0.0, 1.0) for f in (value, slope, curvature)])
a = np.linalg.solve(conditions, [1, 0, 0, 0, 0, 0])
print("a_0 … a_5 =", *np.round(a, 9) + 0.0)

# w(u) = u³(−6u² + 15u − 10) + 1: what kalmandp uses
np.testing.assert_allclose(a[[5, 4, 3]], SWITCH_COEFFICIENTS, rtol=1e-12)

# %% [markdown]
# ## Two derivatives
#
# The slope $w'$ goes into forces. The curvature $w''$ goes into the Hessian, and into how well an
# integrator keeps the energy. `switch` returns $w$ and $w'$; a judge confirms the second one.

# %%
r = np.linspace(3.5, 8.0, 400)
w, dw = switch(r, r_s, r_c)
check_jacobian(lambda r: switch(r, r_s, r_c)[0], np.diag(dw), r, np.random.default_rng(0), name="dw/dr")

# d²w/dr² = Σ n(n−1) a_n uⁿ⁻² / (r_c − r_s)²  between r_s and r_c
u = np.clip((r - r_s) / (r_c - r_s), 0, 1)
d2w = np.array([curvature(x) @ a for x in u]) / (r_c - r_s) ** 2

# %% [markdown]
# ## Three ways to end a potential
#
# Liquid argon in a plane: $E = \sum_{i<j} f(r_{ij})\,\varphi(r_{ij})$ with the Lennard-Jones $\varphi$. A
# *cut* has a jump in the energy. A *ramp* has none, but its force jumps. The *switch* has neither.

# %%
EPSILON, SIGMA, MASS = 0.0103, 3.4, 39.95  # eV, Å, u
ACCELERATION = 9.648533e-3  # (eV/Å)/u in Å/fs²


def cut(r):
    return (r < r_c) * 1.0, 0.0 * r


def ramp(r):
    inside = (r > r_s) & (r < r_c)
    return np.clip((r_c - r) / (r_c - r_s), 0, 1), inside / (r_s - r_c)


def smooth(r):
    return switch(r, r_s, r_c)


def energy_and_forces(x, box, ending):
    i, j = np.triu_indices(len(x), 1)
    d = x[j] - x[i]
    d -= box * np.round(d / box)
    r = np.sqrt((d * d).sum(-1))
    # φ = 4ε[(σ/r)¹² − (σ/r)⁶],  φ′ = −24ε/r [2(σ/r)¹² − (σ/r)⁶]
    s6 = (SIGMA / r) ** 6
    phi, dphi = 4 * EPSILON * (s6 * s6 - s6), -24 * EPSILON / r * (2 * s6 * s6 - s6)
    f, df = ending(r)
    # F_i = Σ_j (fφ)′ r_ij/r, and the opposite on j
    F_pc = ((f * dphi + df * phi) / r)[:, None] * d
    forces = np.zeros_like(x)
    np.add.at(forces, i, F_pc)
    np.add.at(forces, j, -F_pc)
    return (f * phi).sum(), forces


# %% [markdown]
# Newton's equations, by velocity Verlet. The same start for all three. The total energy should not change.

# %%
def total_energy(ending, steps, dt=4.0, side=6, kelvin=60.0):
    rng = np.random.default_rng(3)
    box = 3.9 * side
    x = 3.9 * np.argwhere(np.ones((side, side))) + rng.normal(0, 0.1, (side * side, 2))
    v = rng.normal(0, np.sqrt(8.617e-5 * kelvin / MASS * ACCELERATION), x.shape)
    E, F = energy_and_forces(x, box, ending)
    total = []
    for _ in range(steps):
        v += 0.5 * dt * ACCELERATION / MASS * F
        x += dt * v
        E, F = energy_and_forces(x, box, ending)
        v += 0.5 * dt * ACCELERATION / MASS * F
        total.append(E + 0.5 * MASS / ACCELERATION * (v * v).sum())
    return np.array(total)


steps = 150 if SMOKE else 5000
endings = {"cut": (cut, GREY), "ramp": (ramp, ORANGE), "switch": (smooth, BLUE)}
total = {name: total_energy(ending, steps) for name, (ending, _) in endings.items()}
for name, E in total.items():
    print(f"{name:7} spread of the total energy: {1e3 * np.std(E):.3f} meV")
assert np.std(total["switch"]) < np.std(total["cut"])

# %%
figure, (left, middle, right) = panels(1, 3, height=2.5)
curves = (w, "w", BLUE, 5.15, 1.0), (dw, "w′ (1/Å)", ORANGE, 6.2, -0.72), (d2w, "w″ (1/Å²)", GREEN, 6.7, 0.88)
for y, name, colour, *place in curves:
    left.plot(r, y, color=colour)
    left.text(*place, name, color=colour)
left.set(xlabel="r (Å)", title="The switch", xticks=[r_s, r_c])
left.set_xticklabels([f"$r_s$ = {r_s}", f"$r_c$ = {r_c}"])
time = 4e-3 * np.arange(1, steps + 1)
for ax, names in ((middle, ("cut", "switch")), (right, ("ramp", "switch"))):
    for name in names:
        ax.plot(time, 1e3 * (total[name] - total[name][0]), color=endings[name][1], label=name, lw=1)
    ax.set(xlabel="time (ps)", ylabel="total energy − start (meV)")
    ax.legend(ncols=2, loc="lower left" if ax is middle else "upper left")
middle.set_title("36 argon atoms: cut")
right.set(title="ramp, enlarged", ylim=(-0.1, 0.36))
save(figure, "01_smooth_cutoff")
