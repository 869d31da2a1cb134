"""The second study: three models × their optimizers × four data sets, at equal seconds of one processor.

E. Li, S. Hu, G. Tan, W. Jia, "Impact and Analysis of Optimizers on the Performance of Neural Network Force
Fields", Computer Science 52 (5), 50 (2025). Its questions: which optimizer for which model, what the number
of weights, depth and width do to each, and what the time buys. `plan` has what is run.
"""

from __future__ import annotations

from runs import Study

from . import conditioning, pictures, tables
from .plan import SYSTEMS, systems, units

__all__ = ["SYSTEMS", "measure", "report", "systems", "units"]


def measure(study: Study) -> None:
    """Jacobians of the models that are there: ``conditioning.json``; none if models are asked for."""
    if not study.models:
        conditioning.measure(study)


def report(study: Study) -> None:
    """Write tables/second*.md and figures/second*.png."""
    tables.report(study)
    pictures.report(study)
