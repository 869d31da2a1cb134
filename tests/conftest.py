"""Settings for the whole suite."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# GNU OpenMP lets idle threads spin; on a busy machine the suite then takes many times as long
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

for folder in ("potentials", "training"):
    sys.path.insert(0, str(Path(__file__).parent / folder))
