"""The filter on a model of your own: a Behler–Parrinello network in some 50 lines, derivatives by hand.

    python examples/embedding/behler_parrinello.py [--smoke]

Each atom sees its neighbours through radial symmetry functions (Behler, J. Chem. Phys. 134, 074106, G²)::

    g_ik = Σ_j exp(−η (r_ij − R_k)²) f_c(r_ij),      f_c = ½ (cos(π r/r_c) + 1)
    E = Σ_i [ v·tanh(g_i W + b) + e ],               F = −∂E/∂r

Let atoms move along c. Then ġ_i = ∂g_i/∂r · c and c·F = −Ė with Ė = Σ_i Σ_h φ′(a_ih) ȧ_ih v_h, ȧ = ġ W.
That is all the physics a Jacobian needs: E and Ė differentiated with respect to W, b, v, e.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import kalmandp
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.testing import check_jacobian

DATA = Path(__file__).parents[2] / "data"
RCUT, CENTRES, HIDDEN = 6.0, np.linspace(1.8, 5.7, 20), 20
ETA = 0.5 / (CENTRES[1] - CENTRES[0]) ** 2


class Network:
    """E and Ė of a frame, and their derivatives with respect to w = (W, b, v, e)."""

    def __init__(self, frame, mean=0.0, scale=1.0):
        self.n = len(frame)
        self.pairs = p = neighbour_pairs(frame, RCUT)
        self.r_p = r = np.sqrt((p.r_pc**2).sum(1))[:, None]
        near, f_c = np.exp(-ETA * (r - CENTRES) ** 2), 0.5 * (np.cos(np.pi * r / RCUT) + 1)
        slope = -0.5 * np.pi / RCUT * np.sin(np.pi * r / RCUT)
        g_ik = self.sum(near * f_c, p.i_p)
        self.dg_pk = near * (slope - 2 * ETA * (r - CENTRES) * f_c) / scale
        self.g_ik = (g_ik - mean) / scale

    def sum(self, values, index):
        out = np.zeros((self.n, *values.shape[1:]))
        np.add.at(out, index, values)
        return out

    @staticmethod
    def split(w):
        K, h = len(CENTRES), HIDDEN
        return w[: K * h].reshape(K, h), w[K * h : (K + 1) * h], w[(K + 1) * h : -1], w[-1]

    def energy(self, w):
        """E and ∂E/∂w."""
        W, b, v, e = self.split(w)
        phi = np.tanh(self.g_ik @ W + b)
        back = (1 - phi**2) * v  # ∂E/∂a
        H = [(self.g_ik.T @ back).ravel(), back.sum(0), phi.sum(0), [self.n]]
        return (phi @ v).sum() + self.n * e, np.concatenate(H)

    def forces(self, w):
        """F_ic, from the pull along every pair."""
        W, b, v, _ = self.split(w)
        dE_dg = (1 - np.tanh(self.g_ik @ W + b) ** 2) * v @ W.T
        p = self.pairs
        f_pc = (dE_dg[p.i_p] * self.dg_pk).sum(1, keepdims=True) * p.r_pc / self.r_p
        return self.sum(f_pc, p.i_p) - self.sum(f_pc, p.j_p)

    def along(self, w, c_ic):
        """c·F and ∂(c·F)/∂w: the energy's rate of change when the atoms move along c, and its gradient."""
        W, b, v, _ = self.split(w)
        p = self.pairs
        closer_p = ((c_ic[p.j_p] - c_ic[p.i_p]) * p.r_pc).sum(1)[:, None] / self.r_p
        g_dot = self.sum(closer_p * self.dg_pk, p.i_p)
        phi, a_dot = np.tanh(self.g_ik @ W + b), g_dot @ W
        d1 = 1 - phi**2  # φ′; φ″ = −2 φ φ′
        a_bar, a_dot_bar = -2 * phi * d1 * a_dot * v, d1 * v
        dW = self.g_ik.T @ a_bar + g_dot.T @ a_dot_bar
        H = np.concatenate([dW.ravel(), a_bar.sum(0), (d1 * a_dot).sum(0), [0.0]])
        return -(d1 * a_dot @ v).sum(), -H


def learn(f, net, frame, rng):
    """One energy and six signed forces of ten atoms each, in one update."""
    E, H_E = net.energy(f.weights)
    F_error, rows, errors = frame.forces - net.forces(f.weights), [H_E], [frame.energy - E]
    for atoms in rng.permutation(len(frame))[:60].reshape(6, 10):
        c = np.zeros((len(frame), 3))
        c[atoms] = np.sign(F_error[atoms]) / 30
        rows.append(net.along(f.weights, c)[1])
        errors.append((c * F_error).sum())
    f.update(np.stack(rows), np.array(errors), noise=np.array([(0.002 * len(frame)) ** 2] + 6 * [0.1**2]))


def main(n_frames: int, epochs: int) -> None:
    rng = np.random.default_rng(0)
    with kalmandp.Dataset(DATA / "si64_lda_train.h5") as data:
        train = list(data[:: len(data) // n_frames][:n_frames])
    with kalmandp.Dataset(DATA / "si64_lda_test.h5") as data:
        unseen = list(data[::6])
    raw = np.concatenate([Network(f).g_ik for f in train])
    nets = [Network(f, raw.mean(0), raw.std(0)) for f in train]
    tests = [Network(f, raw.mean(0), raw.std(0)) for f in unseen]

    K = len(CENTRES)
    w = np.concatenate(
        [rng.normal(0, K**-0.5, K * HIDDEN), rng.normal(0, 1, HIDDEN), rng.normal(0, 0.05, HIDDEN), [0]]
    )
    w[-1] = np.mean([f.energy / len(f) - n.energy(w)[0] / len(f) for f, n in zip(train, nets, strict=True)])
    c = rng.normal(size=(64, 3))
    check_jacobian(lambda w: nets[0].along(w, c)[0], nets[0].along(w, c)[1], w, rng)
    check_jacobian(lambda w: nets[0].energy(w)[0], nets[0].energy(w)[1], w, rng)
    assert np.isclose(nets[0].along(w, c)[0], (c * nets[0].forces(w)).sum())

    f = kalmandp.RLEKF(w, [len(w)], P0=0.1, lam=0.99, nu=0.99)
    rms = np.sqrt(np.mean([frame.forces**2 for frame in unseen]))
    for epoch in range(epochs + 1):
        off = np.concatenate([n.forces(f.weights) - g.forces for n, g in zip(tests, unseen, strict=True)])
        per_atom = [(n.energy(f.weights)[0] - g.energy) / 64 for n, g in zip(tests, unseen, strict=True)]
        print(
            f"epoch {epoch}: unseen frames, energy RMSE {1e3 * np.sqrt(np.mean(np.square(per_atom))):8.2f} "
            f"meV/atom, force RMSE {1e3 * np.sqrt((off**2).mean()):6.1f} meV/Å (RMS force {1e3 * rms:.0f})"
        )
        for k in rng.permutation(len(train)) if epoch < epochs else ():
            learn(f, nets[k], train[k], rng)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="few frames, one epoch")
    main(*(8, 1) if parser.parse_args().smoke else (91, 4))
