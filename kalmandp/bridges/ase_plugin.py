"""What ASE finds under the entry point ``ase.plugins`` (experimental in ASE 3.29).

ASE imports this module when it lists its plugins, so it is kept light: the calculator itself is imported
when it is asked for. Another ASE, without plugins of this kind, finds an empty set.
"""

from __future__ import annotations

from typing import Any

__ase_plugins__: set[Any] = set()

try:
    from ase._4.plugins.plugin import CalculatorPlugin
except ImportError:
    pass
else:
    __ase_plugins__.add(CalculatorPlugin(name="kalmandp", implementation="kalmandp.bridges.ase.KalmanDP"))
