"""Oracles for derivatives: for our own tests, for a student's homework, for your model.

Two independent ways to ask whether a Jacobian is right, both without a framework:

Taylor        ‖h(w + ε d) − h(w) − ε J d‖ falls as ε² if J is the derivative of h, and as ε if not
complex step  Im h(w + iε d)/ε = J d to machine precision, for h written with complex-safe functions
"""

from __future__ import annotations

import numpy as np

from kalmandp.errors import KalmanDPError

#: Step sizes of the Taylor remainder, relative to ‖w‖/‖d‖.
TAYLOR_STEPS = (1e-3, 3e-4, 1e-4)
#: Step of the complex step: small enough that its square is lost.
COMPLEX_STEP = 1e-30
#: Step of a central difference, for messages only; with more weights than EXPLAINED there are no details.
DIFFERENCE_STEP = 1e-6
EXPLAINED = 2000


class WrongDerivative(KalmanDPError, AssertionError):
    """A Jacobian that is not the derivative of its function."""


def taylor_slope(function, jacobian, w, direction, steps=TAYLOR_STEPS) -> float:
    """Slope of log(remainder) against log(step): 2 for a right Jacobian, 1 for a wrong one.

    Parameters
    ----------
    function : w -> array or number
    jacobian : J, of shape (*function(w).shape, N)
    w : (N,) point;  direction : (N,) d
    steps : decreasing step sizes, relative

    Returns
    -------
    slope; 2.0 if the remainder is below rounding (a linear function)
    """
    w, d = np.asarray(w, float), np.asarray(direction, float)
    scale = max(float(np.linalg.norm(w)), 1.0) / float(np.linalg.norm(d))
    here = np.asarray(function(w))
    first = np.asarray(jacobian) @ d
    remainders = []
    for step in steps:
        e = step * scale
        remainders.append(np.abs(np.asarray(function(w + e * d)) - here - e * first).max())
    floor = 1e3 * np.finfo(float).eps * max(np.abs(here).max(), np.finfo(float).tiny)
    if remainders[0] <= floor:
        return 2.0
    return float(np.polyfit(np.log(steps), np.log(np.maximum(remainders, 1e-300)), 1)[0])


def complex_step_error(function, jacobian, w, direction) -> float:
    """‖Im h(w + iεd)/ε − J d‖ relative to ‖J‖‖d‖/√N or the derivative, whichever is larger.

    About 1e-16 for a right Jacobian.
    """
    w, d = np.asarray(w, float), np.asarray(direction, float)
    J = np.asarray(jacobian)
    exact = np.asarray(function(w + 1j * COMPLEX_STEP * d)).imag / COMPLEX_STEP
    scale = np.linalg.norm(J) * np.linalg.norm(d) / np.sqrt(len(w))
    size = max(scale, float(np.abs(exact).max()), np.finfo(float).tiny)
    return float(np.abs(exact - J @ d).max() / size)


def check_jacobian(
    function, jacobian, w, rng, *, directions=3, complex_safe=True, rtol=1e-10, name="the Jacobian"
):
    """Raise `WrongDerivative` unless ``jacobian`` is the derivative of ``function`` at ``w``.

    The message says how it is wrong where that can be told: a shape, a constant factor (−1, 2, ½),
    or the entry that is farthest off.

    Parameters
    ----------
    function : w -> array or number
    jacobian : J at w, of shape (*function(w).shape, N)
    w : (N,)
    rng : numpy Generator that draws the directions
    directions : how many to try
    complex_safe : whether ``function`` takes a complex w (no abs, norm, max or comparison of it)
    rtol : largest error that the complex step may find
    name : what the message calls the Jacobian

    Raises
    ------
    WrongDerivative
        Also for a Jacobian of another shape, or with a number that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> check_jacobian(lambda w: np.sin(w).sum(), np.cos([1.0, 2.0]), [1.0, 2.0],
    ...                np.random.default_rng(0))
    >>> check_jacobian(lambda w: np.sin(w).sum(), -np.cos([1.0, 2.0]), [1.0, 2.0],
    ...                np.random.default_rng(0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    kalmandp.testing.WrongDerivative: the Jacobian: ... It is −1 times what is expected
    """
    w, J = np.asarray(w, float), np.asarray(jacobian)
    wanted = (*np.shape(function(w)), len(w))
    if J.shape != wanted:
        raise WrongDerivative(f"{name} has shape {J.shape}; expected {wanted}, an entry for each weight")
    if not np.isfinite(J).all():
        at = np.argwhere(~np.isfinite(J))[0].tolist()
        raise WrongDerivative(f"{name} has a number that is not finite at {at}; expected finite numbers")
    slopes = []
    for _ in range(directions):
        d = rng.normal(size=len(w))
        if complex_safe:
            error = complex_step_error(function, J, w, d)
            if not error <= rtol:
                raise WrongDerivative(
                    f"{name}: the complex step finds a relative error of {error:.1e}; expected ≤ "
                    f"{rtol:.0e}. {_what_is_wrong(function, J, w, complex_safe)}"
                )
        slopes.append(taylor_slope(function, J, w, d))
    # the median: along one direction the curvature may vanish by chance, and the slope with it
    if not np.median(slopes) > 1.8:
        raise WrongDerivative(
            f"{name}: the Taylor remainder has slope {np.median(slopes):.2f}; expected 2. "
            f"{_what_is_wrong(function, J, w, complex_safe)}"
        )


def _what_is_wrong(function, J, w, complex_safe) -> str:
    """A sentence on how J differs from the derivative, found column by column."""
    if len(w) > EXPLAINED:
        return "It is not the derivative of the function"
    columns = []
    for e_w in np.eye(len(w)):
        if complex_safe:
            columns.append(np.asarray(function(w + 1j * COMPLEX_STEP * e_w)).imag / COMPLEX_STEP)
        else:
            h = DIFFERENCE_STEP * max(float(np.abs(w).max()), 1.0)
            columns.append((np.asarray(function(w + h * e_w)) - function(w - h * e_w)) / (2 * h))
    exact = np.stack(columns, axis=-1)
    if complex_safe and not exact.any():
        return (
            "The function does not change along the imaginary axis: unless it is constant, it drops the "
            "imaginary part of w (float(), abs(), an array made for real numbers). Make it complex-safe, "
            "or pass complex_safe=False"
        )
    return difference(J, exact)


def difference(got, wanted) -> str:
    """How ``got`` differs from ``wanted``, in a sentence: by a constant factor, or most at which entry.

    Examples
    --------
    >>> difference([1.0, -2.0], [2.0, -4.0])
    'It is 0.5 times what is expected'
    >>> difference([1.0, 2.0], [1.0, 3.0])
    'Farthest off is entry [1]: it is 2; expected 3'
    """
    got, wanted = np.atleast_1d(got), np.atleast_1d(wanted)
    square = float((wanted * wanted).sum())
    factor = float((got * wanted).sum()) / square if square else 0.0
    if factor and np.abs(got - factor * wanted).max() <= 1e-5 * np.abs(got).max():
        return f"It is {factor:.4g} times what is expected".replace("-", "−")
    at = np.unravel_index(np.argmax(np.abs(got - wanted)), got.shape)
    where = ", ".join(str(int(n)) for n in at)
    return f"Farthest off is entry [{where}]: it is {got[at]:.6g}; expected {wanted[at]:.6g}"
