"""Planted mistakes: what goes wrong in such functions, each caught by its check (the tests prove it).

A teacher may use them the other way round: show the code, and ask what is wrong.
"""

import numpy as np
import solutions

#: (exercise, what is wrong, the function)
MISTAKES = []


def mistake(exercise, what):
    def plant(function):
        MISTAKES.append((exercise, what, function))
        return function

    return plant


@mistake("cutoff_derivative", "the inner derivative du/dr is forgotten")
def _(r, rcut_smth, rcut):
    w, dw, d2w = solutions.switch_and_derivatives(r, rcut_smth, rcut)
    return w, dw * (rcut - rcut_smth), d2w * (rcut - rcut_smth) ** 2


@mistake("cutoff_derivative", "the inner derivative enters the second derivative once, not twice")
def _(r, rcut_smth, rcut):
    w, dw, d2w = solutions.switch_and_derivatives(r, rcut_smth, rcut)
    return w, dw, d2w * (rcut - rcut_smth)


@mistake("cutoff_derivative", "u is not clipped")
def _(r, rcut_smth, rcut):
    u, scale = (r - rcut_smth) / (rcut - rcut_smth), rcut - rcut_smth
    w = u**3 * (-6 * u**2 + 15 * u - 10) + 1
    return w, u**2 * (-30 * u**2 + 60 * u - 30) / scale, u * (-120 * u**2 + 180 * u - 60) / scale**2


@mistake("layer_backward", "the skip connection is forgotten in x̄")
def _(x, W, b, y_bar):
    x_bar, W_bar, b_bar = solutions.layer_backward(x, W, b, y_bar)
    return x_bar - y_bar, W_bar, b_bar


@mistake("layer_backward", "W is not transposed (it is square, so the shapes do not tell)")
def _(x, W, b, y_bar):
    a_bar = y_bar * (1 - np.tanh(x @ W + b) ** 2)
    return a_bar @ W + y_bar, x.T @ a_bar, a_bar.sum(0)


@mistake("layer_backward", "W̄ is the transpose of what it should be")
def _(x, W, b, y_bar):
    x_bar, W_bar, b_bar = solutions.layer_backward(x, W, b, y_bar)
    return x_bar, W_bar.T, b_bar


@mistake("layer_backward", "φ for φ′")
def _(x, W, b, y_bar):
    a_bar = y_bar * np.tanh(x @ W + b)
    return a_bar @ W.T + y_bar, x.T @ a_bar, a_bar.sum(0)


@mistake("layer_backward", "b̄ is the mean over the rows, not the sum")
def _(x, W, b, y_bar):
    x_bar, W_bar, b_bar = solutions.layer_backward(x, W, b, y_bar)
    return x_bar, W_bar, b_bar / len(x)


def _tangent(x, x_dot, W, b, y_dot_bar, d2=lambda phi, d1: -2 * phi * d1, through_tangent=True):
    phi = np.tanh(x @ W + b)
    d1 = 1 - phi * phi
    a_bar, a_dot_bar = y_dot_bar * d2(phi, d1) * (x_dot @ W), y_dot_bar * d1
    W_bar = x.T @ a_bar + through_tangent * (x_dot.T @ a_dot_bar)
    return a_bar @ W.T, a_dot_bar @ W.T, W_bar, a_bar.sum(0)


@mistake("tangent_backward", "φ′ for φ″")
def _(*arguments):
    return _tangent(*arguments, d2=lambda phi, d1: d1)


@mistake("tangent_backward", "the sign of φ″")
def _(*arguments):
    return _tangent(*arguments, d2=lambda phi, d1: 2 * phi * d1)


@mistake("tangent_backward", "the factor 2 of φ″ is missing")
def _(*arguments):
    return _tangent(*arguments, d2=lambda phi, d1: -phi * d1)


@mistake("tangent_backward", "W̄ forgets that ȧ = ẋW contains W, too")
def _(*arguments):
    return _tangent(*arguments, through_tangent=False)


@mistake("descriptor_adjoint", "T occurs twice in D; the second time is forgotten")
def _(T, D_bar):
    return D_bar @ T[: D_bar.shape[1]]


@mistake("descriptor_adjoint", "both terms for the rows s < M‹ only, as if D were T‹T‹ᵀ")
def _(T, D_bar):
    axis = D_bar.shape[1]
    T_bar = np.zeros_like(T)
    T_bar[:axis] = (D_bar[:axis] + D_bar[:axis].T) @ T[:axis]
    return T_bar


@mistake("pair_forces", "the neighbour's reaction is forgotten")
def _(f_pc, r_pc, i_p, j_p, n_atoms):
    _, W = solutions.pair_forces(f_pc, r_pc, i_p, j_p, n_atoms)
    F = np.zeros((n_atoms, 3))
    np.add.at(F, i_p, f_pc)
    return F, W


@mistake("pair_forces", "the force is the gradient, not minus the gradient")
def _(*arguments):
    F, W = solutions.pair_forces(*arguments)
    return -F, W


@mistake("pair_forces", "a factor ½, as if each pair were in the list once")
def _(*arguments):
    F, W = solutions.pair_forces(*arguments)
    return 0.5 * F, 0.5 * W


@mistake("pair_forces", "F[i_p] += …: of repeated indices only the last counts")
def _(f_pc, r_pc, i_p, j_p, n_atoms):
    _, W = solutions.pair_forces(f_pc, r_pc, i_p, j_p, n_atoms)
    F = np.zeros((n_atoms, 3))
    F[i_p] += f_pc
    F[j_p] -= f_pc
    return F, W


@mistake("pair_forces", "the virial's indices are exchanged")
def _(*arguments):
    F, W = solutions.pair_forces(*arguments)
    return F, W.T


@mistake("force_direction", "the direction of the pair: c_j − c_i")
def _(c, C, r_pc, i_p, j_p):
    v_force, v_virial = solutions.directions(c, C, r_pc, i_p, j_p)
    return -v_force, v_virial


@mistake("force_direction", "the neighbour is taken to stand still")
def _(c, C, r_pc, i_p, j_p):
    return c[i_p], -r_pc @ C.T


@mistake("force_direction", "C is transposed")
def _(c, C, r_pc, i_p, j_p):
    return c[i_p] - c[j_p], -r_pc @ C


@mistake("signed_mean", "the error as line 6 is printed, after the prediction was flipped")
def _(label, prediction, J):
    sign = np.where(label >= prediction, 1.0, -1.0)
    return np.abs(label - sign * prediction).mean(), sign @ J / len(label)


@mistake("signed_mean", "H without the signs")
def _(label, prediction, J):
    return np.abs(label - prediction).mean(), J.mean(0)


@mistake("signed_mean", "the sign the wrong way round: each update would raise the error")
def _(*arguments):
    error, H = solutions.signed_mean(*arguments)
    return error, -H


@mistake("signed_mean", "H is a sum, the error a mean")
def _(label, prediction, J):
    error, H = solutions.signed_mean(label, prediction, J)
    return error, len(label) * H


def _kalman(w, P, H, error, noise, lam, S=None, sign=1.0):
    K = P @ H
    S = lam * noise + H @ K if S is None else S
    return w + sign * K * error / S, (P - np.outer(K, K) / S) / lam


@mistake("kalman_step", "λ in the wrong place: S = R + λ H P Hᵀ")
def _(w, P, H, error, noise, lam):
    return _kalman(w, P, H, error, noise, lam, S=noise + lam * H @ P @ H)


@mistake("kalman_step", "λ is left out of S")
def _(w, P, H, error, noise, lam):
    return _kalman(w, P, H, error, noise, lam, S=noise + H @ P @ H)


@mistake("kalman_step", "P is not divided by λ")
def _(w, P, H, error, noise, lam):
    w, P = _kalman(w, P, H, error, noise, lam)
    return w, lam * P


@mistake("kalman_step", "K is computed from the P that was updated already")
def _(w, P, H, error, noise, lam):
    S = lam * noise + H @ P @ H
    _, P_new = _kalman(w, P, H, error, noise, lam)
    return w + P_new @ H * error / S, P_new


@mistake("kalman_step", "the sign of the step")
def _(w, P, H, error, noise, lam):
    return _kalman(w, P, H, error, noise, lam, sign=-1.0)


@mistake("kalman_step", "P grows: + K Kᵀ / S")
def _(w, P, H, error, noise, lam):
    K = P @ H
    S = lam * noise + H @ K
    return w + K * error / S, (P + np.outer(K, K) / S) / lam


@mistake("kalman_step", "K·K is a number, K Kᵀ a matrix")
def _(w, P, H, error, noise, lam):
    K = P @ H
    S = lam * noise + H @ K
    return w + K * error / S, (P - K @ K / S) / lam


@mistake("kalman_step", "the arrays that came in are changed")
def _(w, P, H, error, noise, lam):
    w_new, P_new = _kalman(w, P, H, error, noise, lam)
    w[:], P[:] = w_new, P_new
    return w, P


@mistake("block_step", "each block with an S of its own")
def _(w, P, blocks, H, error, noise, lam, nu):
    steps = [_kalman(w[l], P_l, H[l], error, noise, lam) for P_l, l in zip(P, blocks, strict=True)]
    return np.concatenate([step[0] for step in steps]), [step[1] for step in steps], nu * lam + 1 - nu


@mistake("block_step", "the noise is added once for each block")
def _(w, P, blocks, H, error, noise, lam, nu):
    return solutions.block_step(w, P, blocks, H, error, len(blocks) * noise, lam, nu)


@mistake("block_step", "λ ← ν λ, which falls to 0")
def _(w, P, blocks, H, error, noise, lam, nu):
    w, P, _ = solutions.block_step(w, P, blocks, H, error, noise, lam, nu)
    return w, P, nu * lam


@mistake("block_step", "the new λ divides P")
def _(w, P, blocks, H, error, noise, lam, nu):
    w, P, lam_new = solutions.block_step(w, P, blocks, H, error, noise, lam, nu)
    return w, [P_l * lam / lam_new for P_l in P], lam_new
