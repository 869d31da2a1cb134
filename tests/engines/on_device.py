"""On which device the tests run what is written for CUDA: an emulated one, or the real one."""

from __future__ import annotations

import os

import pytest
from cuda_emulator import COMPILER, NEEDS_COMPILER, EmulatedDevice

from kalmandp.engines.cuda.launch import CupyDevice
from kalmandp.errors import KalmanDPError

#: Engines and covariances that live on a device.
ON_DEVICE = ("cupy", "cuda")


def emulated(**options) -> EmulatedDevice:
    """An emulated device; the test is skipped if there is no compiler to make its kernels."""
    if COMPILER is None:
        pytest.skip(NEEDS_COMPILER)
    return EmulatedDevice(**options)


def options(name: str) -> dict:
    """The device, for engines that need one."""
    return {"device": emulated()} if name in ON_DEVICE else {}


def real() -> CupyDevice:
    """The GPU; without one the test is skipped, or fails if KALMANDP_REQUIRE_GPU=1 says there must be one."""
    try:
        return CupyDevice()
    except KalmanDPError as error:
        if os.environ.get("KALMANDP_REQUIRE_GPU") == "1":
            pytest.fail(f"KALMANDP_REQUIRE_GPU=1, but: {error}")
        pytest.skip(str(error))
