"""Published mean absolute errors on the test frames of Ni, Mo and Ge, meV/atom and meV/Å.

Y. Zuo et al., "Performance and Cost Assessment of Machine Learning Interatomic Potentials", J. Phys. Chem. A
124, 731 (2020), and its data (mlearn); SNAP and qSNAP from its coefficient files on the test frames.
"""

from __future__ import annotations

MAE: dict[str, dict[str, tuple[float, float]]] = {
    "Ni": {"GAP": (0.42, 20), "MTP": (0.48, 10), "SNAP": (0.775, 37.7), "qSNAP": (0.784, 30.8),
           "HDNNP": (1.52, 30)},
    "Mo": {"GAP": (2.24, 90), "MTP": (2.83, 90), "SNAP": (5.49, 207), "qSNAP": (2.77, 184),
           "HDNNP": (3.65, 125)},
    "Ge": {"GAP": (2.06, 50), "MTP": (1.79, 50), "SNAP": (6.59, 188), "qSNAP": (6.45, 133),
           "HDNNP": (4.89, 85)},
}  # fmt: skip
