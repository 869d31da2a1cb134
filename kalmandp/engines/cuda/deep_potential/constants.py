"""Numbers of the embedding's table as CUDA constants, from where the reference has them."""

from __future__ import annotations

from kalmandp.engines.cuda.launch import braces
from kalmandp.potentials.deep_potential.table import ORDER, lagrange_coefficients
from kalmandp.potentials.deep_potential.table_step import binomials

#: Constants of environment.cu and potential.cu, for `Device.functions`.
TABLE = {
    "ORDER": ORDER,
    "LAGRANGE_ROWS": "{" + ", ".join(map(braces, lagrange_coefficients())) + "}",
    "DIFFERENCE_ROW": braces(binomials(ORDER)),
}
