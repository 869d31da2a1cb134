# %% [markdown]
# # 9 · Train, then run molecular dynamics
#
# From DFT labels to a trajectory in three cells. The labels are the silicon data that come with the
# repository; the training is RLEKF (paper, Algorithm 2); the molecular dynamics is ASE's.

# %%
import tempfile
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from style import BLUE, DATA, GREY, INK, ORANGE, SMOKE, panels, save

import kalmandp
from kalmandp.bridges.ase import KalmanDP
from kalmandp.geometry.neighbours import neighbour_pairs

# %% [markdown]
# ## Train
#
# The dictionary is DeePMD-kit's `input.json`. `train` is a generator: you own the loop, and may stop it,
# look, or draw. It leaves `model.dp` behind, a file that DeePMD-kit reads, too.

# %%
settings = {
    "model": {
        "type_map": ["Si"],
        "descriptor": {
            "type": "se_e2_a", "rcut": 6.0, "rcut_smth": 1.0, "sel": "auto:1.5", "neuron": [12, 24],
            "axis_neuron": 8, "type_one_side": True,
        },
        "fitting_net": {"neuron": [32, 32], "resnet_dt": False},
    },
    "optimizer": {"type": "RLEKF"},
    "training": {
        "training_data": {"systems": [str(DATA / "si64_lda_train.h5")]},
        "validation_data": {"systems": [str(DATA / "si64_lda_test.h5")]},
        "seed": 1, "disp_freq": 10, "save_freq": 1000, **({"numb_steps": 20} if SMOKE else {"numb_epoch": 4}),
    },
}  # fmt: skip
folder = tempfile.TemporaryDirectory()
curve = []
for record in kalmandp.train(settings, output=folder.name):
    if np.isfinite(record.valid_f):
        curve.append((record.step, 1e3 * record.valid_e, 1e3 * record.valid_f))
step, energy_error, force_error = np.array(curve).T
print(f"{record.seconds:.0f} s of training: {energy_error[-1]:.2f} meV/atom, {force_error[-1]:.0f} meV/Å")

# %% [markdown]
# ## Run
#
# Start from a DFT frame that the filter never saw, at 900 K, and give the atoms velocities of that
# temperature. (This frame lies low in potential energy, so the temperature settles somewhat lower.) Then
# only Newton: no thermostat. The total energy tells whether forces and energy belong together, and whether
# the switch is smooth (lesson 1).

# %%
T, DT, N_STEPS = 900, 1.0, (40 if SMOKE else 3000)


unseen = DATA / "si64_lda_test.h5"
with h5py.File(unseen) as file:
    kelvin, cell = (file[f"set.000/{column}.npy"][:].ravel() for column in ("temperature", "strain"))
reference = kalmandp.Dataset(unseen).subset((kelvin == T) & (cell == cell[kelvin == T][0]))
start = reference[0]
atoms = Atoms(start.symbols, start.positions, cell=start.cell, pbc=True)
atoms.calc = KalmanDP(Path(folder.name) / "model.dp")
# Maxwell–Boltzmann: momenta with variance m kT, without a drift of the whole
p = np.random.default_rng(9).normal(size=(64, 3)) * np.sqrt(atoms.get_masses()[:, None] * units.kB * T)
atoms.set_momenta(p - p.mean(0))

log, snapshots = [], []


def observe():
    log.append((atoms.get_potential_energy(), atoms.get_total_energy(), atoms.get_temperature()))
    if len(log) % 20 == 1:
        snapshots.append(kalmandp.Frame.from_ase(atoms))


dynamics = VelocityVerlet(atoms, timestep=DT * units.fs)
dynamics.attach(observe, interval=1)
dynamics.run(N_STEPS)
potential_energy, total_energy, kelvin = np.array(log).T
drift = np.polyfit(np.arange(len(log)) * DT * 1e-3, total_energy / 64, 1)[0]
spread = 1e3 * total_energy.std() / 64
print(f"{len(log) - 1} steps, {kelvin.mean():.0f} K; total energy: spread {spread:.3f} meV/atom, ", end="")
print(f"drift {1e3 * drift:+.4f} meV/atom per ps")
assert total_energy.std() < 0.1 * potential_energy.std()

# %% [markdown]
# ## Is it silicon?
#
# The pair distribution $g(r)$ of the trajectory, beside that of the DFT frames in the same cell at that
# temperature. The filter has seen neither this cell at this temperature nor any of these frames.


# %%
def pair_distribution(frames, edges):
    counts, ideal = np.zeros(len(edges) - 1), 0.0
    for frame in frames:
        r_pc = neighbour_pairs(frame, edges[-1]).r_pc
        counts += np.histogram(np.sqrt((r_pc * r_pc).sum(-1)), edges)[0]
        # pairs in a shell if all places were alike:  N · (N/V) · 4π/3 (r₂³ − r₁³)
        ideal = ideal + len(frame) ** 2 / frame.volume * 4 / 3 * np.pi * np.diff(edges**3)
    return counts / ideal


edges = np.linspace(1.8, 6.0, 64)
middle = 0.5 * (edges[1:] + edges[:-1])

# %%
figure, (left, centre, right) = panels(1, 3, height=2.5)
left.semilogy(step, force_error, color=BLUE)
left.text(step[-1], 1.1 * force_error[-1], f"{force_error[-1]:.0f}", ha="center", color=BLUE)
left.set(xlabel="frames learnt", ylabel="force RMSE (meV/Å)", title="Train", ylim=(50, 1000))
left.set_yticks([50, 100, 200, 500, 1000], ["50", "100", "200", "500", "1000"])
left.minorticks_off()
ps = np.arange(len(log)) * DT * 1e-3
centre.plot(ps, 1e3 * (potential_energy - potential_energy[0]) / 64, color=GREY, lw=1, label="potential")
centre.plot(ps, 1e3 * (total_energy - total_energy[0]) / 64, color=BLUE, lw=1.4, label="total")
centre.set(xlabel="time (ps)", ylabel="energy − start (meV/atom)", title=f"Run: NVE, {kelvin.mean():.0f} K")
centre.set_ylim(-8, 72)
centre.legend(loc="upper center", ncols=2)
right.plot(middle, pair_distribution(reference, edges), color=ORANGE, lw=1.2, label="DFT, 5 frames")
right.plot(middle, pair_distribution(snapshots, edges), color=INK, lw=1.2, label="this trajectory")
right.set(xlabel="r (Å)", ylabel="g(r)", title="Look: pair distribution")
right.legend(loc="upper right")
save(figure, "09_train_then_run_md")
folder.cleanup()
