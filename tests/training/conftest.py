"""Fixtures of the tests of training."""

from water_input import water  # noqa: F401  (a fixture)
