"""Whether a launcher of MPI started this program; nothing is imported to know it."""

from __future__ import annotations

import os

#: What launchers set for the programs that they start: MPICH and its derivatives, Open MPI, PMIx.
LAUNCHERS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
#: Where they say how many they started; Slurm's for those that say nothing themselves.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def under_mpi() -> bool:
    """Whether a launcher of MPI has started this program."""
    return any(name in os.environ for name in LAUNCHERS)


def is_alone() -> bool:
    """Whether that launcher started one process only, as ``srun -n 1`` does: nothing needs MPI then."""
    return any(os.environ.get(name) == "1" for name in SIZES)
