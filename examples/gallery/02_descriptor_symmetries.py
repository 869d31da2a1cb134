# %% [markdown]
# # 2 · The descriptor and its symmetries, seen
#
# An energy knows nothing of the origin of coordinates, of the orientation of the crystal, or of the order
# in which like atoms are listed. Deep Potential builds this in: the network sees the environment only
# through
#
# $$D_i = \frac{1}{(\sum \mathrm{sel})^2}\; G_i^T\, \tilde R_i\, \tilde R_i^T\, G_i^{<}$$
#
# (RLEKF paper, "Problem Setup", step 3). Here we look at $\tilde R$ and at $D$ while we move the atoms.

# %%
from dataclasses import replace

import numpy as np
from style import DATA, panels, save

import kalmandp
from kalmandp.potentials.atomic import energies

frame = kalmandp.Dataset(DATA / "si64_lda_train.h5")[100]
potential = kalmandp.Potential.create(
    ["Si"], rcut=5.0, rcut_smth=2.0, sel=[40], frames=[frame], embedding=(8, 16), axis_neuron=8,
    fitting=(10,), rng=np.random.default_rng(2), engine="numpy",
)  # fmt: skip

# %% [markdown]
# ## What atom 0 sees
#
# `environment` finds the pairs and computes one row of $\tilde R$ for each,
# $w(r)\,(1/r,\ x/r^2,\ y/r^2,\ z/r^2)$, normalised. `energies` goes on to
# $T = G^T \tilde R/\sum\mathrm{sel}$ and $D = T\,(T^{<})^T$ and keeps them.


# %%
def look(frame, atom=0):
    """R̃ of one atom's neighbours (p, 4), its D (M, M‹), and all atomic energies (eV)."""
    env = potential.environment(frame)
    E_i, cache = energies(potential.parameters, env)
    return env.Rt_pk[env.geometry.i_p == atom], cache.q_id[atom].reshape(16, 8), E_i


# %% [markdown]
# ## Four motions that change no physics
#
# *Translation*: every $r_i$ moves by the same vector. $\tilde R$ is made of differences, so it does not
# move.
#
# *Rotation*: positions and cell are multiplied by an orthogonal $Q$. The angular part of $\tilde R$ turns:
# $\tilde R \to \tilde R\,\mathrm{diag}(1, Q^T)$. In $\tilde R \tilde R^T$ the matrix meets its transpose.
#
# *Reflection*: the same with $\det Q = -1$. $D$ cannot tell left from right, and an energy should not.
#
# *Permutation*: the atoms are listed in another order. The rows of $\tilde R$ change places. $D$ sums over
# the rows, and a sum has no order.


# %%
def rotation(axis, angle):
    """Rodrigues' formula: Q = I + sin θ K + (1 − cos θ) K²."""
    x, y, z = np.asarray(axis) / np.sqrt(np.dot(axis, axis))
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def turned(frame, Q):
    return replace(frame, positions=frame.positions @ Q.T, cell=frame.cell @ Q.T)


pushed = frame.positions.copy()
pushed[0] += [0.3, 0.0, 0.0]
# atom 0 stays first, so that we look at the same one
order = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(len(frame) - 1)])
moved = {
    "as it is": frame,
    "translated": replace(frame, positions=frame.positions + [0.3, -1.1, 0.7]),
    "rotated": turned(frame, rotation([1, 2, 3], 1.0)),
    "reflected": turned(frame, np.diag([-1.0, 1, 1])),
    "permuted": replace(frame, positions=frame.positions[order]),
    "pushed: control": replace(frame, positions=pushed),
}

# %% [markdown]
# The last one is a control: atom 0 is pushed by 0.3 Å along x. That *is* physics, and $D$ must notice.

# %%
seen = {name: look(f) for name, f in moved.items()}
Rt, D, E_i = seen["as it is"]
print(f"{'':16}{'max |ΔR̃|':>12}{'max |ΔD| / max |D|':>22}{'ΔE (eV)':>12}")
for name, (Rt_moved, D_moved, E_moved) in seen.items():
    in_R = f"{np.abs(Rt_moved - Rt).max():12.1e}" if Rt_moved.shape == Rt.shape else f"{'other rows':>12}"
    in_D, in_E = np.abs(D_moved - D).max() / np.abs(D).max(), E_moved.sum() - E_i.sum()
    print(f"{name:16}{in_R}{in_D:22.1e}{in_E:12.1e}")
    invariant = name != "pushed: control"
    assert (in_D < 1e-12) == invariant, "rounding alone leaves about 1e-15"

# %% [markdown]
# ## Where the invariance sits
#
# $D = G^T(\tilde R\tilde R^T)G^<$: the matrix in the middle holds $\tilde R_p \cdot \tilde R_q$, scalar
# products between neighbours: lengths and angles, and nothing else.

# %%
turned_Rt = seen["rotated"][0]
np.testing.assert_allclose(turned_Rt @ turned_Rt.T, Rt @ Rt.T, rtol=0, atol=1e-13 * np.abs(Rt).max() ** 2)

# %%
figure, axes = panels(2, len(seen), height=1.9)
shades = {"cmap": "RdBu_r", "aspect": "auto"}
for (name, (Rt_moved, D_moved, _)), (above, below) in zip(seen.items(), axes.T, strict=True):
    above.imshow(Rt_moved, vmin=-6, vmax=6, **shades)
    below.imshow(D_moved, vmin=-np.abs(D).max(), vmax=np.abs(D).max(), **shades)
    change = np.abs(D_moved - D).max() / np.abs(D).max()
    above.set_title(name, loc="center", fontsize=8.5)
    digits, power = f"{change:.0e}".split("e")
    size = rf"$|\Delta D|/|D| = {digits}\cdot 10^{{{int(power)}}}$"
    below.set_xlabel(size if change else r"$\Delta D = 0$")
    above.set_xlabel("1     x     y     z", labelpad=2)
    for ax in (above, below):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
axes[0, 0].set_ylabel(r"$\tilde R$: neighbours × 4")
axes[1, 0].set_ylabel("$D$: $M$ × $M^<$")
save(figure, "02_descriptor_symmetries")
