"""Settings for the whole suite."""

from __future__ import annotations

import os

# GNU OpenMP lets idle threads spin; on a busy machine the suite then takes many times as long
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
