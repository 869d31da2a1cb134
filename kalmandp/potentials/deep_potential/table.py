"""The embedding as a table: G at nodes, and between them by local polynomials.

The embedding is a function of one number g = R̃_p0, so instead of a network pass for each of many
thousand pairs the net is run on a few hundred nodes g_n = n h and, with u = g/h,

    G(g) = Σ_n ℓ_n(u) G(g_n),        G′(g) = Σ_n ℓ′_n(u) G(g_n) / h

where ℓ_n are the Lagrange polynomials of the ``order`` nodes around g. These weights depend on the frame
alone; the net's weights act through the node values, linearly. Therefore the adjoint is exact: what
ℓ_n Ḡ collects at the nodes goes through `network.backward` as if the nodes were pairs.

The error is that of the interpolation, of order (h/ρ)^order where ρ is the distance of the net's
nearest pole from the real axis; `interpolation_error` measures it.

The GPU's kernels work with 8 nodes per polynomial, the CPU's with 16, two of its vectors: a pair then costs
more, but a table of the same error has a quarter of the nodes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kalmandp.errors import InputError

#: Nodes per polynomial, an even number, on the GPU and on the CPU: degree 7 and 15.
ORDER = 8
CPU_ORDER = 16
#: Grids begin and end at multiples of this, so that extending one leaves every sum as it was.
ALIGN = 8
#: Default distance h of nodes in units of g on the GPU and on the CPU, and the smallest that is tried.
STEP = 0.02
CPU_STEP = 0.04
SMALLEST_STEP = STEP / 1024
#: Largest estimated error of G in a table, relative to the largest |G|, on the GPU and on the CPU. Forces are
#: then off by up to a hundred times as much, ∂F/∂w by up to some thousand times (relative to their largest).
TOLERANCE = 1e-13
CPU_TOLERANCE = 1e-14
#: Activations without kinks: others have no convergent table.
SMOOTH = ("tanh", "linear", "none", "softplus", "sigmoid", "gelu", "gelu_tf", "silu")


class TableGrid(NamedTuple):
    """Nodes g_n = n·step for start ≤ n < stop, shared by all embedding nets of a model."""

    start: int
    stop: int
    step: float = STEP
    order: int = ORDER

    @property
    def nodes(self) -> np.ndarray:
        return np.arange(self.start, self.stop) * self.step

    def is_smallest(self, times: int) -> bool:
        """Whether a grid whose step was halved so many times cannot be `refined` again."""
        return self.step / 2 ** (times + 1) < SMALLEST_STEP

    def refined(self, times: int) -> TableGrid:
        """A grid whose step was halved so many times: it has all nodes of this one, and more between them.

        Raises
        ------
        InputError
            If that is too small: the weights are so large that a table makes no sense.
        """
        step, parts = self.step / 2**times, 2**times
        if times and step < SMALLEST_STEP:
            raise InputError(
                f"the embedding net is too sharp for a table of step {2 * step:g}; "
                "expected smoother weights, or the engine 'numpy'"
            )
        return TableGrid(parts * self.start, parts * self.stop, step, self.order)

    def covering(self, low: float, high: float) -> TableGrid:
        """This grid, extended if needed so that each g in [low, high] has its nodes, and one more."""
        beyond = max(ALIGN, self.order // 2 + 2)
        first, last = int(np.floor(low / self.step)) - beyond, int(np.ceil(high / self.step)) + beyond
        start = ALIGN * (min(first, self.start) // ALIGN)
        stop = ALIGN * -(-max(last, self.stop) // ALIGN)
        return self._replace(start=start, stop=stop)

    def touched(self, low: float, high: float) -> tuple[int, int]:
        """Places of the nodes, first and one past the last, that g in [low, high] is computed from."""
        first = int(np.floor(low / self.step)) - self.order // 2 + 1 - self.start
        last = int(np.floor(high / self.step)) + self.order // 2 + 1 - self.start
        return first, last


@lru_cache(maxsize=2)
def lagrange_coefficients(order: int = ORDER) -> np.ndarray:
    """c[n, a] with ℓ_n(x) = Σ_a c[n, a] xᵃ for the nodes x = −(order−1)/2 … (order−1)/2, rounded once."""
    z = [2 * n - order + 1 for n in range(order)]  # 2x, whole numbers as all that follows
    c_na = np.empty((order, order))
    for n in range(order):
        c, below = [1], 1  # ℓ_n = Π_{m≠n} (2x − z_m)/(z_n − z_m), a factor at a time
        for m in range(order):
            if m != n:
                c = [2 * a - z[m] * b for a, b in zip([0, *c], [*c, 0], strict=True)]
                below *= z[n] - z[m]
        c_na[n] = [a / below for a in c]
    return c_na


def locate(g, step: float, order: int = ORDER):
    """First node and Lagrange weights of each g: node (p,), ℓ (p, order), dℓ/dg (p, order)."""
    c_na = lagrange_coefficients(order)
    u = np.asarray(g) / step
    node = np.floor(u).astype(np.int64) - (order // 2 - 1)
    x = u - node - (order - 1) / 2
    powers = x[:, None] ** np.arange(order)
    slopes = np.arange(1, order) * powers[:, :-1]
    return node, powers @ c_na.T, slopes @ c_na[:, 1:].T / step


def interpolation_error(evaluate, grid: TableGrid) -> tuple[float, float]:
    """Largest error of G and of G′ half-way between nodes, relative to the largest |G| and |G′|.

    Parameters
    ----------
    evaluate : function g (n, 1) -> G (n, M), G′ (n, M)
    """
    G_nm, _ = evaluate(grid.nodes[:, None])
    g = grid.nodes[grid.order : -grid.order] + 0.5 * grid.step
    node, ell, dell = locate(g, grid.step, grid.order)
    index = node[:, None] - grid.start + np.arange(grid.order)
    G, dG = evaluate(g[:, None])
    worst = np.abs(np.einsum("pn,pnm->pm", ell, G_nm[index]) - G).max()
    worst_slope = np.abs(np.einsum("pn,pnm->pm", dell, G_nm[index]) - dG).max()
    return float(worst / np.abs(G).max()), float(worst_slope / max(np.abs(dG).max(), 1e-300))
