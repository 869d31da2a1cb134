# %% [markdown]
# # 11 · From one symmetry function to water
#
# Behler and Parrinello's networks (HDNNP, the model of n2p2 and RuNNer) see an atom's neighbours through
# symmetry functions: numbers that do not change when atoms of one element are exchanged or all are rotated.
# They have no weights. We draw one of each kind, make a whole set from the data, and train water.
#
# (Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007); Behler, J. Chem. Phys. 134, 074106 (2011).)

# %%
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from style import BLUE, COLOURS, DATA, GREEN, GREY, INK, ORANGE, SMOKE, panels, save

import kalmandp
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.geometry.pairs import gather
from kalmandp.potentials.hdnnp.cutoffs import checked_cutoff, cutoff_function
from kalmandp.potentials.hdnnp.default_set import default_functions
from kalmandp.potentials.hdnnp.descriptor import HDNNPDescriptor

r_c = 6.0  # Å
files = {name: DATA / "thirteen" / f"H2O_{name}.h5" for name in ("train", "test")}
train, test = (kalmandp.Dataset(path, type_map=["H", "O"]) for path in files.values())
frame = train[0]
print(train)

# %% [markdown]
# ## 1. A radial function counts neighbours in a shell
#
# $$G_i = \sum_j R(r_{ij}), \qquad R(r) = e^{-\eta (r - r_s)^2} f_c(r)$$
#
# The sum is over neighbours of one element. $r_s$ is the middle of the shell, $\eta$ makes it thin or thick,
# $f_c$ ends it at $r_c$. In input.nn of n2p2 this is type 2.
#
# ## 2. The cutoff function
#
# n2p2 knows eight that fall smoothly. What counts is how flat they are where they end: the slope is in the
# forces, the curvature in the vibrations. Types 1 (cosine) and 5 have a jump of the curvature at $r_c$; 2
# (tanh³), 4 (exponential) and 6 (polynomial) have none. Type 2 falls from the first Å on, and is 0.44 at
# $r = 0$; type 6 leaves near neighbours as they are.

# %%
kinds = {1: "1 cos", 2: "2 tanh³", 4: "4 exp", 6: "6 polynomial"}
r = np.linspace(0, 6.3, 400)
cutoffs = {kind: cutoff_function(checked_cutoff(kind), r, r_c) for kind in kinds}
h = 1e-4
for kind, name in kinds.items():
    # f″ just inside of r_c, from f′(r_c) = 0
    curvature = -cutoff_function(checked_cutoff(kind), np.array([r_c - h]), r_c)[1][0] / h
    print(f"cutoff {name:13} f_c(0) = {cutoffs[kind][0][0]:.2f}, curvature at r_c {curvature:+.4f} /Å²")

# %% [markdown]
# ## 3. An angular function sees two neighbours
#
# $$G_i = \sum_{j<k} 2^{1-\zeta} (1 + \lambda \cos\theta_{jik})^\zeta\, R(r_{ij})\, R(r_{ik})$$
#
# λ = 1 looks for small angles, λ = −1 for large ones; a large ζ makes the cone narrow. This is type 9; type
# 3 has one more factor, $R(r_{jk})$. Both kinds by hand:


# %%
def R(f, r):
    f_c = np.where(r < f.rc, np.tanh(1 - r / f.rc) ** 3, 0)  # type 2, n2p2's usual one
    return np.exp(-f.eta * (r - f.rs) ** 2) * f_c


def A(f, cos):
    return 2 ** (1 - f.zeta) * (1 + f.lam * cos) ** f.zeta


def G(f, r_pc, names):
    """The symmetry function f of an atom with neighbours of these names at ``r_pc``."""
    r_p = np.sqrt((r_pc * r_pc).sum(-1))
    if f.kind == 2:
        return sum(R(f, r) for r, name in zip(r_p, names, strict=True) if name == f.neighbours[0])
    total = 0.0
    for j, k in combinations(range(len(r_p)), 2):
        if {names[j], names[k]} == set(f.neighbours):
            total += A(f, r_pc[j] @ r_pc[k] / (r_p[j] * r_p[k])) * R(f, r_p[j]) * R(f, r_p[k])
    return total


# %% [markdown]
# ## 4. A whole set, made from the data
#
# To choose some 40 functions by hand is work, and easy to do badly. kalmandp looks at the closest distance
# $d$ of each pair of elements. Radial functions: a third at $r_s = 0$ with several widths, the others in
# shells from $d$ to $r_c$, as wide as they are apart. Angular ones here: λ = ±1 with ζ = 1 and 4, once with a
# wide Gaussian around the atom and once in a shell at $d$.

# %%
functions = default_functions(["H", "O"], train[::8], cutoff=r_c)
for name, rows in zip(("H", "O"), functions, strict=True):
    print(f"{name}: {sum(f.kind == 2 for f in rows)} radial and {sum(f.kind == 9 for f in rows)} angular")

potential = kalmandp.Potential.create(
    ["H", "O"], kind="hdnnp", frames=train[::8], rng=np.random.default_rng(1), cutoff=r_c, hidden=(10, 10)
)
print(potential)

# %% [markdown]
# The net of an element sees $q = (G - \langle G \rangle)/\sigma_G$: mean and σ over the data, written to
# scaling.data. Functions of far shells are small; the division by σ makes up for it. One radial and one
# angular function of an oxygen atom, by hand and by kalmandp:

# %%
environment = HDNNPDescriptor(potential.form).environment(
    potential.statistics, gather(frame, ("H", "O"), r_c)
)
pairs = neighbour_pairs(frame, r_c)
oxygen = int(np.flatnonzero(np.array(frame.symbols) == "O")[0])
mine = pairs.i_p == oxygen
names = [frame.symbols[j] for j in pairs.j_p[mine]]
rows = potential.form.functions[1]
for d in (next(d for d, f in enumerate(rows) if f.kind == kind and f.rs > 0) for kind in (2, 9)):
    mean, sigma = (potential.statistics[name][1, d] for name in ("mean", "sigma"))
    q = (G(rows[d], pairs.r_pc[mine], names) - mean) / sigma
    np.testing.assert_allclose(environment.q_id[oxygen, d], q, rtol=1e-9, atol=1e-9)
    print(f"{rows[d].kind}, {'-'.join(rows[d].neighbours)}, r_s = {rows[d].rs:.2f} Å: q = {q:+.4f}")

# %% [markdown]
# ## 5. Train
#
# Two nets, one for hydrogen and one for oxygen, 10 and 10 neurons. The filter takes the energy and all
# 144 force components of a frame in one update. n2p2's own filter takes one number at a time. The
# symmetry functions and their derivatives are computed once for each frame and kept.

# %%
settings = {
    "model": {"type": "hdnnp", "type_map": ["H", "O"], "cutoff": r_c, "neuron": [10, 10]},
    "optimizer": {"type": "RLEKF"},
    "training": {
        "training_data": {"systems": [str(files["train"])]},
        "validation_data": {"systems": [str(files["test"])]},
        "seed": 1, "disp_freq": 8, "save_freq": 10000, **({"numb_steps": 8} if SMOKE else {"numb_epoch": 6}),
    },
}  # fmt: skip
folder = tempfile.TemporaryDirectory()
curve, begin = [], None
for record in kalmandp.train(settings, output=folder.name):
    begin = begin or time.process_time()  # after the first frame: the kernels are compiled
    if np.isfinite(record.valid_f):
        curve.append((time.process_time() - begin, 1e3 * record.valid_e, 1e3 * record.valid_f))
seconds, energy_error, force_error = np.array(curve).T
print(f"{record.step} updates in {seconds[-1]:.0f} s: {energy_error[-1]:.2f} meV/atom, ", end="")
print(f"{force_error[-1]:.0f} meV/Å on frames that were not learnt")

# %% [markdown]
# These labels are of a tight-binding method (GFN1-xTB), and the frames are 0.1 ps of one small box at 300 K:
# enough to see a filter learn, not a model of water.
#
# ## 6. n2p2's folder
#
# A model is saved as n2p2 has it: input.nn, scaling.data and one file of weights for each element.
# `nnp-predict` and LAMMPS (`pair_style hdnnp`) read it; `Potential.load` reads it back.

# %%
place = Path(folder.name) / "water"
trained = kalmandp.Potential.load(Path(folder.name) / "hdnnp")
trained.save(place)
print(*sorted(path.name for path in place.iterdir()))
lines = (place / "input.nn").read_text().splitlines()
print(*[line for line in lines if line.startswith("symfunction_short")][:3], sep="\n")
again = kalmandp.Potential.load(place).evaluate(frame)
np.testing.assert_allclose(again.forces, trained.evaluate(frame).forces, atol=1e-10)

# %%
figure, axes = panels(2, 3, height=2.45)
(one, two, three), (four, five, six) = axes
f = next(f for f in functions[1] if f.kind == 2 and f.neighbours == ("H",) and f.rs > 1.2)
one.plot(r, np.exp(-f.eta * (r - f.rs) ** 2), color=GREY, ls=(0, (4, 2)), lw=1.2, label="Gaussian")
one.plot(r, cutoffs[2][0], color=GREY, lw=1.2, label="$f_c$")
one.plot(r, R(f, r), color=BLUE, label="R, their product")
one.set(xlabel="r (Å)", title="1  One radial function", ylim=(0, 1.7), xlim=(0, 6.3), yticks=[0, 0.5, 1])
one.legend(loc="upper right")
for (kind, name), colour in zip(kinds.items(), COLOURS, strict=True):
    two.plot(r, cutoffs[kind][0], color=colour, label=name)
two.set(xlabel="r (Å)", title="2  Cutoff functions", ylim=(0, 1.7), xlim=(0, 6.3), yticks=[0, 0.5, 1])
two.legend(loc="upper right", ncols=2, columnspacing=1.0)

# two neighbours: hydrogen at 0.97 Å on the x axis, the second anywhere in the plane
f = next(f for f in functions[1] if f.kind == 9 and f.neighbours == ("H", "H") and f.lam < 0 and f.rs > 0)
x, y = np.meshgrid(np.linspace(-3.2, 3.2, 161), np.linspace(-2.6, 2.6, 131))
distance = np.hypot(x, y)
value = A(f, x / np.maximum(distance, 1e-9)) * R(f, distance) * R(f, 0.97)
shades = LinearSegmentedColormap.from_list("blue", ["#FFFFFF", "#9CC4DE", BLUE, "#003A5C"])
three.contourf(x, y, value / value.max(), levels=np.linspace(0, 1, 11), cmap=shades)
three.grid(False)
for place_, name in (((0, 0), "O"), ((0.97, 0), "H")):
    three.plot(*place_, "o", ms=11, mfc="white", mec=INK)
    three.text(*place_, name, ha="center", va="center", fontsize=8)
three.set(xlabel="x of a second H (Å)", ylabel="y (Å)", title="3  Angular function, λ = −1")

four.set(xlabel="r (Å)", title="4  The set, O with H", ylim=(0, 1.1), xlim=(0, 6.3), yticks=[0, 0.5, 1])
seen = []
for k in range(0, len(train), 8):
    p = neighbour_pairs(train[k], r_c)
    kind_i = train[k].types
    seen.append(np.sqrt((p.r_pc**2).sum(-1))[(kind_i[p.i_p] == 1) & (kind_i[p.j_p] == 0)])
counts, edges = np.histogram(np.concatenate(seen), bins=np.linspace(0, 6, 61))
density = counts / np.diff(edges**3)
density *= 0.5 / density[edges[:-1] > 4].mean()
four.stairs(density, edges, fill=True, color="#DDDDDD", label="pairs in the data")
for f in (f for f in functions[1] if f.kind == 2 and f.neighbours == ("H",)):
    four.plot(r, R(f, r), color=ORANGE if f.rs == 0 else BLUE, lw=1.3)
four.plot([], [], color=ORANGE, label="$r_s$ = 0")
four.plot([], [], color=BLUE, label="shells")
four.legend(loc="upper right")

for errors, unit, colour in ((force_error, "meV/Å", BLUE), (energy_error, "meV/atom", ORANGE)):
    five.loglog(seconds, errors, color=colour)
    five.text(seconds[-1], 1.5 * errors[-1], f"{errors[-1]:.2g} {unit}", ha="right", color=colour)
five.set(xlabel="seconds of the processor", title="5  RMSE, frames not learnt")
ticks = [t for t in (0.3, 1, 3, 10, 30) if seconds[0] <= t <= seconds[-1]]
five.set_xticks(ticks, [f"{t:g}" for t in ticks])
powers = [t for t in (0.1, 1, 10, 100, 1000) if energy_error.min() / 2 < t < 2 * force_error.max()]
five.set_yticks(powers, [f"{t:g}" for t in powers])
five.minorticks_off()
label, predicted, kind = [], [], []
for f, result in zip(test, trained.evaluate(test), strict=True):
    label.append(f.forces)
    predicted.append(result.forces)
    kind.append(f.types)
label, predicted, kind = map(np.concatenate, (label, predicted, kind))
edge = 1.05 * abs(label).max()
six.plot([-edge, edge], [-edge, edge], color=GREY, lw=0.8)
for t, colour in ((1, ORANGE), (0, GREEN)):
    reference, got = label[kind == t].ravel(), predicted[kind == t].ravel()
    six.plot(reference, got, ".", color=colour, ms=2.5, mew=0, alpha=0.6)
    rmse = 1e3 * np.sqrt(np.mean((got - reference) ** 2))
    six.plot([], [], "o", color=colour, ms=4, label=f"{'HO'[t]}, {rmse:.0f} meV/Å")
six.set(xlabel="force of xTB (eV/Å)", ylabel="force of HDNNP (eV/Å)", title="6  Compare", aspect="equal")
six.legend(loc="upper left", handlelength=0.6)
save(figure, "11_symmetry_functions_to_water")
train.close()
test.close()
folder.cleanup()
