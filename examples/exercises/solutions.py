"""The right answers. The tests use them to prove that every check can be passed; look here last."""

import numpy as np


def switch_and_derivatives(r, rcut_smth, rcut):
    u = (r - rcut_smth) / (rcut - rcut_smth)
    between = (u.real > 0) & (u.real < 1)
    u = np.where(between, u, u.real >= 1)
    w = u**3 * (-6 * u**2 + 15 * u - 10) + 1
    dw = u**2 * (-30 * u**2 + 60 * u - 30) / (rcut - rcut_smth)
    d2w = u * (-120 * u**2 + 180 * u - 60) / (rcut - rcut_smth) ** 2
    return w, dw, d2w


def layer_backward(x, W, b, y_bar):
    phi = np.tanh(x @ W + b)
    a_bar = y_bar * (1 - phi * phi)
    return a_bar @ W.T + y_bar, x.T @ a_bar, a_bar.sum(0)


def tangent_backward(x, x_dot, W, b, y_dot_bar):
    phi = np.tanh(x @ W + b)
    d1 = 1 - phi * phi
    d2 = -2 * phi * d1
    a_dot = x_dot @ W
    a_bar, a_dot_bar = y_dot_bar * d2 * a_dot, y_dot_bar * d1
    return a_bar @ W.T, a_dot_bar @ W.T, x.T @ a_bar + x_dot.T @ a_dot_bar, a_bar.sum(0)


def descriptor_adjoint(T, D_bar):
    axis = D_bar.shape[1]
    T_bar = D_bar @ T[:axis]
    T_bar[:axis] += D_bar.T @ T
    return T_bar


def pair_forces(f_pc, r_pc, i_p, j_p, n_atoms):
    F = np.zeros((n_atoms, 3), f_pc.dtype)
    np.add.at(F, i_p, f_pc)
    np.add.at(F, j_p, -f_pc)
    return F, -f_pc.T @ r_pc


def directions(c, C, r_pc, i_p, j_p):
    return c[i_p] - c[j_p], -r_pc @ C.T


def signed_mean(label, prediction, J):
    sign = np.where(label >= prediction, 1.0, -1.0)
    return np.abs(label - prediction).mean(), sign @ J / len(label)


def kalman_step(w, P, H, error, noise, lam):
    K = P @ H
    S = lam * noise + H @ K
    return w + K * error / S, (P - np.outer(K, K) / S) / lam


def block_step(w, P, blocks, H, error, noise, lam, nu):
    K = [P_l @ H[l] for P_l, l in zip(P, blocks, strict=True)]
    S = lam * noise + sum(H[l] @ K_l for K_l, l in zip(K, blocks, strict=True))
    w = w + np.concatenate(K) * error / S
    P = [(P_l - np.outer(K_l, K_l) / S) / lam for P_l, K_l in zip(P, K, strict=True)]
    return w, P, nu * lam + 1 - nu
