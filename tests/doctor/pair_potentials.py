"""Simple potentials as calculators of ASE: metals, ionic crystals, springs and silicon.

Finnis-Sinclair metals, ionic crystals (Born-Mayer with a damped, shifted Coulomb term after Wolf), springs,
and Stillinger-Weber silicon. Energies, forces and stresses are exact: sets made by them are right.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list


class Pairs(Calculator):
    """E = Σ_pairs φ(r) − Σ_i √ρ_i, ρ_i = Σ_j ψ(r_ij); ``terms(r, a, b)`` gives φ, φ′, ψ, ψ′ for the types."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, cutoff: float, terms: Callable):
        super().__init__()
        self.cutoff, self.terms = cutoff, terms

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        i, j, r, d = neighbor_list("ijdD", atoms, self.cutoff)
        z = atoms.numbers
        phi, dphi, psi, dpsi = self.terms(r, z[i], z[j])
        rho = np.bincount(i, psi, len(atoms)) + 1e-12
        energy = 0.5 * phi.sum() - np.sqrt(rho).sum()
        slope = 0.5 * dphi - 0.5 / np.sqrt(rho[i]) * dpsi  # ∂E/∂r of a directed pair
        self.finish(energy, [(slope[:, None] * d / r[:, None], d, i, j)])

    def finish(self, energy: float, terms) -> None:
        """Energy; ∂E/∂d_p of each pair with its vector and its two atoms."""
        forces, virial = np.zeros((len(self.atoms), 3)), np.zeros((3, 3))
        for f, d, i, j in terms:
            for c in range(3):
                forces[:, c] += np.bincount(i, f[:, c], len(forces)) - np.bincount(j, f[:, c], len(forces))
            virial += d.T @ f
        self.results = {"energy": float(energy), "free_energy": float(energy), "forces": forces}
        if self.atoms.cell.rank == 3:
            stress = 0.5 * (virial + virial.T) / self.atoms.get_volume()
            self.results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def _smooth(r, cutoff):
    """(1 − r/c)² and its slope."""
    u = 1.0 - r / cutoff
    return u * u, -2.0 * u / cutoff


def finnis_sinclair(spacing: float, depth: float = 1.0, cutoff_ratio: float = 1.6) -> Pairs:
    """A metal whose neighbours are ``spacing`` Å apart."""
    cutoff = cutoff_ratio * spacing

    def terms(r, a, b):
        s, ds = _smooth(r, cutoff)
        rep = depth * np.exp(-6.0 * (r / spacing - 1.0))
        hop = (0.8 * depth) ** 2 * np.exp(-3.0 * (r / spacing - 1.0))
        return (
            rep * s, rep * (ds - 6.0 / spacing * s), hop * s, hop * (ds - 3.0 / spacing * s),
        )  # fmt: skip

    return Pairs(cutoff, terms)


def ionic(spacing: float, charges: dict[int, float], cutoff: float = 7.0, alpha: float = 0.3) -> Pairs:
    """Born-Mayer repulsion that balances damped, shifted charges at ``spacing``."""
    from math import erfc

    k = 14.399645
    table = np.array([charges.get(z, 0.0) for z in range(120)])
    shifted = lambda r: k * (np.vectorize(erfc)(alpha * r) / r)
    slope = lambda r: (
        -k
        * (
            np.vectorize(erfc)(alpha * r) / r**2
            + 2 * alpha / np.sqrt(np.pi) * np.exp(-((alpha * r) ** 2)) / r
        )
    )
    q2 = max(abs(q) for q in charges.values()) ** 2

    def terms(r, a, b):
        qq = table[a] * table[b]
        width = 0.12 * spacing
        born = 0.35 * k * q2 / spacing * np.exp(-(r - spacing) / width) * width / spacing * 3.0
        phi = qq * (shifted(r) - shifted(cutoff) - slope(cutoff) * (r - cutoff)) + born
        dphi = qq * (slope(r) - slope(cutoff)) - born / width
        s, ds = _smooth(r, cutoff)
        return phi * s, dphi * s + phi * ds, np.zeros_like(r), np.zeros_like(r)

    return Pairs(cutoff, terms)


def springs(spacing: float, k: float = 4.0) -> Pairs:
    """Harmonic springs between atoms within 1.3 spacings; they fade out smoothly."""
    cutoff = 1.5 * spacing

    def terms(r, a, b):
        s, ds = _smooth(r, cutoff)
        s, ds = s / 0.111, ds / 0.111
        x = r - spacing
        return 0.5 * k * (x * x - 0.3) * s, k * x * s + 0.5 * k * (x * x - 0.3) * ds, 0 * r, 0 * r

    return Pairs(cutoff, terms)


class StillingerWeber(Pairs):
    """Silicon after Stillinger and Weber, Phys. Rev. B 31, 5262 (1985); ``scale`` stretches it (Ge)."""

    def __init__(self, scale: float = 1.0):
        Calculator.__init__(self)
        self.eps, self.sigma = 2.1683, 2.0951 * scale

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        Calculator.calculate(self, atoms, properties, system_changes)
        A, B, a, lam, gam = 7.049556277, 0.6022245584, 1.8, 21.0, 1.2
        i, j, r, d = neighbor_list("ijdD", atoms, a * self.sigma - 1e-9)
        x = r / self.sigma
        e = np.exp(1.0 / (x - a))
        phi = A * (B * x**-4 - 1.0) * e
        dphi = (-4 * A * B * x**-5 * e - phi / (x - a) ** 2) / self.sigma
        unit = d / r[:, None]
        terms = [(0.5 * self.eps * dphi[:, None] * unit, d, i, j)]
        energy = 0.5 * self.eps * phi.sum()
        g = np.exp(gam / (x - a))
        dg = -gam / (x - a) ** 2 / self.sigma * g
        start = np.searchsorted(i, np.arange(len(atoms) + 1))
        p, q = [], []
        for lo, hi in pairwise(start):
            u, v = np.triu_indices(hi - lo, 1)
            p.append(lo + u)
            q.append(lo + v)
        p, q = np.concatenate(p), np.concatenate(q)
        cos = (unit[p] * unit[q]).sum(1)
        h = self.eps * lam * (cos + 1 / 3) ** 2
        energy += (h * g[p] * g[q]).sum()
        dcos = self.eps * lam * 2 * (cos + 1 / 3) * g[p] * g[q]
        for one, other, gp, dgp in ((p, q, g[q], dg[p]), (q, p, g[p], dg[q])):
            radial = (h * gp * dgp)[:, None] * unit[one]
            angular = (dcos / r[one])[:, None] * (unit[other] - cos[:, None] * unit[one])
            terms.append((radial + angular, d[one], i[one], j[one]))
        self.finish(energy, terms)
