"""The checks of the exercises: each takes the student's function and raises if it is wrong.

    python examples/exercises/kalman_step.py      one exercise
    python examples/exercises/checks.py           all of them

The judges are those of `kalmandp.testing`: the complex step and the Taylor remainder. What is not a
derivative is compared with another formula for the same thing.
"""

import sys
import traceback
from importlib import import_module
from pathlib import Path

import numpy as np

from kalmandp.geometry.cutoff import switch
from kalmandp.kalman import RLEKF
from kalmandp.testing import check_jacobian, difference


class WrongAnswer(AssertionError):
    """A result that is not what it should be; for derivatives it is kalmandp's `WrongDerivative`."""


def same(name, got, wanted, rtol=1e-9):
    """Raise unless ``got`` is ``wanted`` to ``rtol`` of its largest entry."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    if got.shape != wanted.shape:
        raise WrongAnswer(f"{name} has shape {got.shape}; expected {wanted.shape}")
    if not np.abs(got - wanted).max() <= rtol * np.abs(wanted).max():
        raise WrongAnswer(f"{name} is wrong. {difference(got, wanted)}")


def derivative(name, got, function, at):
    """Raise unless ``got`` is ∂function/∂at, an array shaped like ``at``; ``function`` is complex-safe."""
    if np.shape(got) != np.shape(at):
        raise WrongAnswer(f"{name} has shape {np.shape(got)}; expected {np.shape(at)}")
    of = lambda flat: function(flat.reshape(np.shape(at)))
    name = f"{name}, read row after row" if np.ndim(at) > 1 else name
    check_jacobian(of, np.ravel(got), np.ravel(at), np.random.default_rng(0), name=name)


def values(answer, names):
    """The results of the student's function, one for each of ``names``."""
    if not isinstance(answer, tuple) or len(answer) != len(names):
        got = f"{len(answer)} values" if isinstance(answer, tuple) else f"a {type(answer).__name__}"
        raise WrongAnswer(f"the function returns {got}; expected {len(names)}: {', '.join(names)}")
    return answer


def check_cutoff_derivative(switch_and_derivatives):
    r, limits = np.array([1.0, 2.1, 2.7, 3.3, 3.9, 4.6, 5.8, 7.0]), (2.0, 6.0)
    w, dw, d2w = values(switch_and_derivatives(r, *limits), ("w", "dw", "d2w"))
    same("w", w, switch(r, *limits)[0])
    # each distance stands for itself: the derivative of Σ_n w(r_n) by r_n is w′(r_n)
    derivative("dw/dr", dw, lambda r: switch(r, *limits)[0].sum(), r)
    derivative("d²w/dr²", d2w, lambda r: switch(r, *limits)[1].sum(), r)


def check_layer_backward(layer_backward):
    rng = np.random.default_rng(2)
    x, W, b, y_bar = (rng.normal(size=shape) for shape in ((5, 3), (3, 3), (3,), (5, 3)))
    L = lambda x, W, b: (y_bar * (np.tanh(x @ W + b) + x)).sum()
    x_bar, W_bar, b_bar = values(layer_backward(x, W, b, y_bar), ("x_bar", "W_bar", "b_bar"))
    derivative("W_bar", W_bar, lambda W: L(x, W, b), W)
    derivative("b_bar", b_bar, lambda b: L(x, W, b), b)
    derivative("x_bar", x_bar, lambda x: L(x, W, b), x)


def check_tangent_backward(tangent_backward):
    rng = np.random.default_rng(3)
    x, x_dot, W, b, y_dot_bar = (rng.normal(size=s) for s in ((5, 3), (5, 3), (3, 4), (4,), (5, 4)))
    L = lambda x, x_dot, W, b: (y_dot_bar * (1 - np.tanh(x @ W + b) ** 2) * (x_dot @ W)).sum()
    names = ("x_bar", "x_dot_bar", "W_bar", "b_bar")
    got = dict(zip(names, values(tangent_backward(x, x_dot, W, b, y_dot_bar), names), strict=True))
    derivative("x_dot_bar", got["x_dot_bar"], lambda x_dot: L(x, x_dot, W, b), x_dot)
    derivative("b_bar", got["b_bar"], lambda b: L(x, x_dot, W, b), b)
    derivative("x_bar", got["x_bar"], lambda x: L(x, x_dot, W, b), x)
    derivative("W_bar", got["W_bar"], lambda W: L(x, x_dot, W, b), W)


def check_descriptor_adjoint(descriptor_adjoint):
    rng = np.random.default_rng(4)
    T, D_bar = rng.normal(size=(6, 4)), rng.normal(size=(6, 3))
    derivative("T_bar", descriptor_adjoint(T, D_bar), lambda T: (D_bar * (T @ T[:3].T)).sum(), T)


def _cluster():
    """Positions of four atoms, all pairs both ways, and A of the energy E = Σ_p (A_p·r_p)²."""
    rng = np.random.default_rng(5)
    i_p, j_p = np.array([(i, j) for i in range(4) for j in range(4) if i != j]).T
    return rng.normal(size=(4, 3)), i_p, j_p, rng.normal(size=(12, 3))


def check_pair_forces(pair_forces):
    x, i_p, j_p, A_pc = _cluster()
    E = lambda r_pc: ((A_pc * r_pc).sum(-1) ** 2).sum()
    r_pc = x[j_p] - x[i_p]
    f_pc = 2 * (A_pc * r_pc).sum(-1)[:, None] * A_pc
    F, W = values(pair_forces(f_pc, r_pc, i_p, j_p, len(x)), ("F", "W"))
    derivative("F = −∂E/∂r_i", F, lambda x: -E(x[j_p] - x[i_p]), x)
    derivative("W = −∂E/∂ε", W, lambda strain: -E(r_pc + r_pc @ strain.T), np.zeros((3, 3)))


def check_force_direction(directions):
    x, i_p, j_p, f_pc = _cluster()
    rng = np.random.default_rng(6)
    c, C, r_pc = rng.normal(size=(4, 3)), rng.normal(size=(3, 3)), x[j_p] - x[i_p]
    v_force, v_virial = values(directions(c, C, r_pc, i_p, j_p), ("v_force", "v_virial"))

    def c_dot_F(f_pc):
        F = np.zeros((4, 3), f_pc.dtype)
        np.add.at(F, i_p, f_pc)
        np.add.at(F, j_p, -f_pc)
        return (c * F).sum()

    derivative("v of the force", v_force, c_dot_F, f_pc)
    derivative("v of the virial", v_virial, lambda f_pc: -(C * (f_pc.T @ r_pc)).sum(), f_pc)


def check_signed_mean(signed_mean):
    rng = np.random.default_rng(7)
    label, prediction, J = rng.normal(size=9), rng.normal(size=9), rng.normal(size=(9, 5))
    error, H = values(signed_mean(label, prediction, J), ("error", "H"))
    same("error", error, np.mean(np.abs(label - prediction)))
    # mean |Y − Ŷ| falls as mean(s Ŷ) rises, while no sign changes
    falls = lambda w: -np.mean(np.sign(label - prediction) * (label - (prediction + J @ w)))
    derivative("H", H, falls, np.zeros(5))


def check_kalman_step(kalman_step):
    rng = np.random.default_rng(8)
    A, w, H, error, R, lam = rng.normal(size=(5, 5)), rng.normal(size=5), rng.normal(size=5), 0.7, 0.3, 0.9
    P = A @ A.T + np.eye(5)
    inputs = w.copy(), P.copy(), H.copy()
    w_new, P_new = values(kalman_step(w, P, H, error, R, lam), ("w", "P"))
    for name, now, before in zip(("w", "P", "H"), (w, P, H), inputs, strict=True):
        same(f"the {name} that came in, which must not change,", now, before)
    # the information form:  P⁻¹ ← λ P⁻¹ + HᵀH/R,   w ← w + P Hᵀ error/R  with the new P
    P_wanted = np.linalg.inv(lam * np.linalg.inv(P) + np.outer(H, H) / R)
    same("P", P_new, P_wanted)
    same("w", w_new, w + P_wanted @ H * error / R)


def check_block_step(block_step):
    rng = np.random.default_rng(9)
    sizes, lam, nu, R, error = (2, 3, 1), 0.95, 0.9, 0.5, -0.4
    w, H = rng.normal(size=6), rng.normal(size=6)
    kalman = RLEKF(w, sizes, lam=lam, nu=nu)
    blocks = list(kalman.blocks)
    P = [A @ A.T + np.eye(len(A)) for A in (rng.normal(size=(n, n)) for n in sizes)]
    for l, P_l in enumerate(P):
        kalman.covariance.assign(l, P_l)
    w_new, P_new, lam_new = values(
        block_step(w.copy(), [P_l.copy() for P_l in P], blocks, H, error, R, lam, nu), ("w", "P", "lam")
    )
    kalman.update(H, error, R)
    same("w", w_new, kalman.weights)
    for l in range(3):
        same(f"P[{l}]", P_new[l], kalman.covariance.dense(l))
    same("λ", lam_new, kalman.lam)


#: exercise -> (name of the function in its file, check)
EXERCISES = {
    "cutoff_derivative": ("switch_and_derivatives", check_cutoff_derivative),
    "layer_backward": ("layer_backward", check_layer_backward),
    "tangent_backward": ("tangent_backward", check_tangent_backward),
    "descriptor_adjoint": ("descriptor_adjoint", check_descriptor_adjoint),
    "pair_forces": ("pair_forces", check_pair_forces),
    "force_direction": ("directions", check_force_direction),
    "signed_mean": ("signed_mean", check_signed_mean),
    "kalman_step": ("kalman_step", check_kalman_step),
    "block_step": ("block_step", check_block_step),
}


def verdict(exercise, module):
    """One line on the student's function in ``module``, and whether it is right."""
    name, check = EXERCISES[exercise]
    try:
        check(getattr(module, name))
    except NotImplementedError:
        return f"{exercise:20} to do", False
    except AssertionError as error:
        return f"{exercise:20} not yet: {error}", False
    except Exception as error:  # a student's own: where it happened is what they need
        traceback.print_exc()
        return f"{exercise:20} stops with {type(error).__name__}: {error}", False
    return f"{exercise:20} right", True


def main(path):
    """Check the exercise whose file was started; exit status 0 if it is right."""
    line, right = verdict(Path(path).stem, sys.modules["__main__"])
    print(line)
    sys.exit(not right)


if __name__ == "__main__":
    verdicts = [verdict(exercise, import_module(exercise)) for exercise in EXERCISES]
    print("\n".join(line for line, _ in verdicts))
    sys.exit(not all(right for _, right in verdicts))
