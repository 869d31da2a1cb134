"""Molecular dynamics in ASE: energy conservation, a thermostat, and the radial distribution function.

    python examples/molecular_dynamics/ase_md.py --model run/model.dp -o md

Leaves ``ase_md.png``: on the left the total energy of an NVE run beside its two parts, on the right g(r) of
NVT runs at two temperatures.
"""

# %%
from __future__ import annotations

import matplotlib
import numpy as np
from ase import units
from ase.build import bulk
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from short_model import arguments

from kalmandp.bridges.ase import KalmanDP
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.plots import BLUE, HEIGHT, INK, ORANGE, PANEL

options = arguments(__doc__.splitlines()[0])
STEPS = 20 if options.smoke else 2000
rng = np.random.default_rng(1)

# %% A crystal of 64 atoms, and momenta of Maxwell and Boltzmann
atoms = bulk("Si", cubic=True, a=5.40) * (2, 2, 2)
atoms.calc = KalmanDP(options.model)


def heat(temperature: float) -> None:
    momenta = rng.normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses()[:, None] * units.kB * temperature)
    atoms.set_momenta(momenta - momenta.mean(axis=0))


# %% NVE: the total energy stays, kinetic and potential energy are exchanged
heat(600)
recorded = []
dynamics = VelocityVerlet(atoms, 1.0 * units.fs)
dynamics.attach(
    lambda: recorded.append((atoms.get_potential_energy(), atoms.get_kinetic_energy())), interval=2
)
dynamics.run(STEPS)
potential, kinetic = np.array(recorded).T / len(atoms)
total = potential + kinetic
time = 2e-3 * np.arange(len(total))
drift = np.polyfit(time, total, 1)[0]
verlet = atoms.calc.verlet
print(f"NVE, {STEPS} steps of 1 fs: the total energy drifts by {1e3 * drift:.4f} meV/atom/ps and")
print(f"fluctuates by {1e3 * total.std():.4f} meV/atom")
print(f"the neighbours were searched {verlet.searches} times in {verlet.calls} steps")


# %% NVT: g(r) from the pair vectors
def radial_distribution(frames: list[Frame], edges: np.ndarray) -> np.ndarray:
    """g(r) = (pairs in the shell) / (N · density · volume of the shell)."""
    count = np.zeros(len(edges) - 1)
    for frame in frames:
        r_pc = neighbour_pairs(frame, edges[-1]).r_pc
        count += np.histogram(np.sqrt((r_pc * r_pc).sum(axis=1)), edges)[0]
    shell = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    n = len(frames[0])
    return count / len(frames) / (n * n / frames[0].volume * shell)


edges = np.linspace(1.5, 7.0, 221)
distributions = {}
for temperature in (300, 900):
    heat(2 * temperature)
    frames: list[Frame] = []
    dynamics = Langevin(
        atoms, 2.0 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, fixcm=False, rng=rng
    )
    dynamics.run(STEPS // 4)  # synchronize
    dynamics.attach(lambda frames=frames: frames.append(Frame.from_ase(atoms)), interval=10)
    dynamics.run(STEPS)
    distributions[temperature] = radial_distribution(frames, edges)
    mean = edges[:-1][distributions[temperature].argmax()]
    print(f"NVT, {temperature} K: first peak of g(r) at {mean:.2f} Å")

# %% The figure
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

figure, (left, right) = plt.subplots(1, 2, figsize=(2 * PANEL, HEIGHT), layout="constrained")
curves = ((potential, "potential", BLUE), (kinetic, "kinetic", ORANGE), (total, "total", INK))
for values, name, colour in curves:
    left.plot(time, 1e3 * (values - values[0]), color=colour, lw=1, label=name)
left.set(xlabel="time / ps", ylabel="change of energy / meV per atom")
for (temperature, g), colour in zip(distributions.items(), (BLUE, ORANGE), strict=True):
    right.plot(0.5 * (edges[1:] + edges[:-1]), g, color=colour, lw=1, label=f"{temperature} K")
right.set(xlabel="r / Å", ylabel="g(r)")
for panel in (left, right):
    panel.locator_params(nbins=5)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
figure.savefig(options.output / "ase_md.png", dpi=200)
print("drawn:", options.output / "ase_md.png")
