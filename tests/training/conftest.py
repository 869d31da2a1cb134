"""Fixtures of the tests of training."""

import pytest
from systems import frames
from water_input import water  # noqa: F401  (a fixture)

import kalmandp


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Path of twelve frames of the Morse solid."""
    path = tmp_path_factory.mktemp("data") / "morse.h5"
    kalmandp.Dataset.write(path, frames(12))
    return path
