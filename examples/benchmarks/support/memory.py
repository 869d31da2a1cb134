"""The memory that this process has in use."""

from __future__ import annotations

import os
from pathlib import Path


def resident_mib() -> float:
    """MiB that this process has in use (RSS); not a number where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
