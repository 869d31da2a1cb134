"""The embedding as a table: G at nodes, and between them by local polynomials.

The embedding is a function of one number g = R̃_p0, so instead of a network pass for each of many
thousand pairs the net is run on a few hundred nodes g_n = n h and, with u = g/h,

    G(g) = Σ_n ℓ_n(u) G(g_n),        G′(g) = Σ_n ℓ′_n(u) G(g_n) / h

where ℓ_n are the Lagrange polynomials of the ORDER nodes around g. These weights depend on the frame
alone; the net's weights act through the node values, linearly. Therefore the adjoint is exact: what
ℓ_n Ḡ collects at the nodes goes through `network.backward` as if the nodes were pairs.

The error is that of the interpolation, of order (h/ρ)^ORDER where ρ is the distance of the net's
nearest pole from the real axis; `interpolation_error` measures it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kalmandp.errors import InputError

#: Nodes per polynomial: degree 7.
ORDER = 8
#: Grids begin and end at multiples of this, so that extending one leaves every sum as it was.
ALIGN = 8
#: Default distance h of nodes in units of g, and the smallest that is tried.
STEP = 0.02
SMALLEST_STEP = STEP / 64
#: Largest estimated error of G in a table, relative to the largest |G|.
TOLERANCE = 1e-13
#: Activations without kinks: others have no convergent table.
SMOOTH = ("tanh", "linear", "none", "softplus", "sigmoid", "gelu", "gelu_tf", "silu")


class TableGrid(NamedTuple):
    """Nodes g_n = n·step for start ≤ n < stop, shared by all embedding nets of a model."""

    start: int
    stop: int
    step: float = STEP

    @property
    def nodes(self) -> np.ndarray:
        return np.arange(self.start, self.stop) * self.step

    def finer(self) -> TableGrid:
        """A grid of half the step.

        Raises
        ------
        InputError
            If that is too small: the weights are so large that a table makes no sense.
        """
        if 0.5 * self.step < SMALLEST_STEP:
            raise InputError(
                f"the embedding net is too sharp for a table of step {self.step:g}; "
                "expected smoother weights, or the engine 'numpy'"
            )
        return TableGrid(2 * self.start, 2 * self.stop, 0.5 * self.step)

    def covering(self, low: float, high: float) -> TableGrid:
        """This grid, extended if needed so that each g in [low, high] has ORDER nodes around it."""
        first = int(np.floor(low / self.step)) - ORDER
        last = int(np.ceil(high / self.step)) + ORDER
        start = ALIGN * (min(first, self.start) // ALIGN)
        stop = ALIGN * -(-max(last, self.stop) // ALIGN)
        return TableGrid(start, stop, self.step)


    def touched(self, low: float, high: float) -> tuple[int, int]:
        """Places of the nodes, first and one past the last, that g in [low, high] is computed from."""
        first = int(np.floor(low / self.step)) - ORDER // 2 + 1 - self.start
        last = int(np.floor(high / self.step)) + ORDER // 2 + 1 - self.start
        return first, last


def lagrange_coefficients() -> np.ndarray:
    """c[n, a] with ℓ_n(x) = Σ_a c[n, a] xᵃ for the nodes x = −(ORDER−1)/2 … (ORDER−1)/2."""
    x = np.arange(ORDER) - (ORDER - 1) / 2
    return np.ascontiguousarray(np.linalg.inv(np.vander(x, increasing=True)).T)


def locate(g, step: float):
    """First node and Lagrange weights of each g: node (p,), ℓ (p, ORDER), dℓ/dg (p, ORDER)."""
    c_na = lagrange_coefficients()
    u = np.asarray(g) / step
    node = np.floor(u).astype(np.int64) - (ORDER // 2 - 1)
    x = u - node - (ORDER - 1) / 2
    powers = x[:, None] ** np.arange(ORDER)
    slopes = np.arange(1, ORDER) * powers[:, :-1]
    return node, powers @ c_na.T, slopes @ c_na[:, 1:].T / step


def estimated_error(G_enm) -> float:
    """Error of the polynomials between nodes, relative to the largest |G|, from the nodes alone.

    The remainder half-way is Π(x − x_n)/8! · Δ⁸G = (½·3/2·5/2·7/2)²/8! · Δ⁸G, with Δ⁸ the eighth difference.
    """
    worst = np.abs(np.diff(G_enm, n=ORDER, axis=1)).max(initial=0.0)
    return relative_remainder(float(worst), float(np.abs(G_enm).max(initial=0.0)))


def relative_remainder(worst: float, largest: float) -> float:
    """The estimate from the largest eighth difference and the largest |G|, rounding taken off."""
    rounding = 2**ORDER * np.finfo(float).eps * largest
    remainder = (0.5 * 1.5 * 2.5 * 3.5) ** 2 / 40320
    return remainder * max(worst - rounding, 0.0) / max(largest, 1e-300)


def interpolation_error(evaluate, grid: TableGrid) -> tuple[float, float]:
    """Largest error of G and of G′ half-way between nodes, relative to the largest |G| and |G′|.

    Parameters
    ----------
    evaluate : function g (n, 1) -> G (n, M), G′ (n, M)
    """
    G_nm, _ = evaluate(grid.nodes[:, None])
    g = grid.nodes[ORDER:-ORDER] + 0.5 * grid.step
    node, ell, dell = locate(g, grid.step)
    index = node[:, None] - grid.start + np.arange(ORDER)
    G, dG = evaluate(g[:, None])
    worst = np.abs(np.einsum("pn,pnm->pm", ell, G_nm[index]) - G).max()
    worst_slope = np.abs(np.einsum("pn,pnm->pm", dell, G_nm[index]) - dG).max()
    return float(worst / np.abs(G).max()), float(worst_slope / max(np.abs(dG).max(), 1e-300))
