"""Whether a launcher of MPI started this program; nothing is imported to know it."""

from __future__ import annotations

import os

#: What launchers set for the programs that they start: MPICH and its kin, Open MPI, PMIx.
LAUNCHERS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")


def under_mpi() -> bool:
    """Whether a launcher of MPI has started this program."""
    return any(name in os.environ for name in LAUNCHERS)
