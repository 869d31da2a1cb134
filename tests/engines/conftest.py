"""Lets the tests of this folder import the modules beside them, and the checks of the filter."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parents[1] / "kalman"):
    sys.path.insert(0, str(folder))
