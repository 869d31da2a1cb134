"""A small trained model of each kind, made once."""

from __future__ import annotations

import pytest
from small_models import Trained

from kalmandp.registry import KINDS


@pytest.fixture(scope="session", params=list(KINDS))
def trained(request, tmp_path_factory):
    return Trained(request.param, tmp_path_factory.mktemp(request.param))
