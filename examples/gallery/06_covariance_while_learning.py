# %% [markdown]
# # 6 · What the covariance looks like while a model learns
#
# The RLEKF paper draws $P$ as a cartoon (Fig. 2). Here is a real one: the filter's own $P$ while a small
# potential learns silicon, for the four ways to cut it into blocks:
#
# - GEKF: one block, every correlation is kept;
# - SEKF: equal pieces, whatever the layers;
# - LEKF: one block per layer;
# - RLEKF: large layers are split, small neighbours are gathered, no block above $N_b$.

# %%
import tempfile
from itertools import accumulate

import matplotlib
import numpy as np
from style import DATA, INK, SMOKE, panels, save

from kalmandp import partition, read_input
from kalmandp.training.loop import Run

N_B = 200  # largest block of RLEKF and SEKF
frames_shown = (2, 4, 6) if SMOKE else (5, 20, 182)

# %% [markdown]
# ## Train, and look inside
#
# `Run` is the training loop with the lid off: `step()` takes one frame, `trainer.filter` is the `RLEKF`.


# %%
def settings(kind):
    descriptor = {"rcut": 5.0, "rcut_smth": 2.0, "sel": "auto", "neuron": [4, 8], "axis_neuron": 4}
    return read_input({
        "model": {
            "type_map": ["Si"],
            "descriptor": {"type": "se_e2_a", "type_one_side": True, **descriptor},
            "fitting_net": {"neuron": [12, 12], "resnet_dt": False},
        },
        "optimizer": {
            "type": kind, "coupled": False, **({} if kind in ("GEKF", "LEKF") else {"block_size": N_B})
        },
        "training": {
            "training_data": {"systems": [str(DATA / "si64_lda_train.h5")]},
            "validation_data": {"systems": [str(DATA / "si64_lda_test.h5")]},
            "numb_epoch": 1, "seed": 1, "disp_freq": 1000, "save_freq": 1000,
        },
    })  # fmt: skip


def correlation(kalman):
    """ρ_ij = P_ij / √(P_ii P_jj) of all weights; 0 between blocks."""
    rho = np.zeros((kalman.blocks.n_weights,) * 2)
    for l, w in enumerate(kalman.blocks):
        P = kalman.covariance.dense(l)
        sigma = np.sqrt(np.diagonal(P))
        rho[w, w] = P / np.outer(sigma, sigma)
    return rho


def learn(kind, shown):
    """Correlations and force RMSE (eV/Å) on unseen frames after each number of frames in ``shown``."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(settings(kind), folder)
        pictures = []
        for step in range(1, max(shown) + 1):
            run.step()
            if step in shown:
                pictures.append((correlation(run.trainer.filter), run.validate().force_rmse))
    return pictures, run.potential.layout, run.trainer.filter.blocks


gekf, layout, _ = learn("GEKF", frames_shown)
others = {kind: learn(kind, frames_shown[-1:]) for kind in ("SEKF", "LEKF", "RLEKF")}

# %% [markdown]
# ## How much of the correlation lies inside the blocks?
#
# The full $P$ of GEKF is the judge: of all $\sum_{i \neq j} \rho_{ij}^2$, how much would each cut keep?

# %%
rho = gekf[-1][0]
off_diagonal = rho**2 - np.eye(len(rho))
parts = [(t.name, t.size, t.layer) for t in layout.tensors]
kept = {}
for kind in ("SEKF", "LEKF", "RLEKF"):
    blocks = partition(parts, kind, N_B)
    kept[kind] = sum(off_diagonal[w, w].sum() for w in blocks) / off_diagonal.sum()
    entries = sum(n * n for n in blocks.sizes) / len(rho) ** 2
    print(f"{kind:6} blocks {list(blocks.sizes)}: {kept[kind]:.0%} of Σρ² in {entries:.0%} of the entries")

# %% [markdown]
# ## The picture
#
# At the start $P = I$: a thin diagonal. Each measurement ties together the weights it cannot tell apart,
# and stripes grow: within a layer, but also between layers. White outside the blocks is what RLEKF forgets.
# (The errors in the titles are one draw: after one pass with so small a net they scatter. Look at the
# pattern.)

# %%
figure, axes = panels(2, 3, width=7.6, height=2.6)
shades = {"cmap": matplotlib.colormaps["Blues"].resampled(7), "vmin": 0, "vmax": 0.7}


def draw(ax, rho, title):
    # the largest |ρ| of each 3 × 3 cell, so that thin lines survive
    n = len(rho) // 3 * 3
    coarse = np.abs(rho[:n, :n]).reshape(n // 3, 3, n // 3, 3).max((1, 3))
    image = ax.imshow(coarse, extent=(0, n, n, 0), **shades)
    ax.set_title(title, fontsize=8.5)
    ax.grid(False)
    ax.set(xticks=[], yticks=[], xlim=(0, n), ylim=(n, 0))
    ax.spines[:].set(visible=True, linewidth=0.6)
    return image


for ax, (rho_shown, error), n in zip(axes[0], gekf, frames_shown, strict=True):
    draw(ax, rho_shown, f"GEKF, {n} frames\n{1e3 * error:.0f} meV/Å")
for ax, (kind, (pictures, _, blocks)) in zip(axes[1], others.items(), strict=True):
    error = f"{1e3 * pictures[0][1]:.0f} meV/Å"
    image = draw(ax, pictures[0][0], f"{kind}, {n} frames\n{error}, blocks hold {kept[kind]:.0%}")
    for w in blocks:
        size = w.stop - w.start
        ax.add_patch(matplotlib.patches.Rectangle((w.start, w.start), size, size, fill=False, ec=INK, lw=0.8))

sizes = {}
for _, size, layer in parts:
    sizes[layer] = sizes.get(layer, 0) + size
names = [layer.replace("embedding.0.layer.", "emb ").replace("fitting.0.layer.", "fit ") for layer in sizes]
stops = list(accumulate(sizes.values()))
middles = [stop - size / 2 for stop, size in zip(stops, sizes.values(), strict=True)]
for ax in axes[:, 0]:
    ax.set_yticks(middles[2:-1], names[2:-1], rotation=90, va="center", fontsize=8)
    ax.tick_params(length=0)
figure.colorbar(image, ax=axes, shrink=0.5, label="|correlation| of two weights", aspect=30)
save(figure, "06_covariance_while_learning")
