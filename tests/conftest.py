"""Settings for the whole suite."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in ("potential", "training"):
    sys.path.insert(0, str(Path(__file__).parent / folder))
