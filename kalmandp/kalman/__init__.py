"""The Kalman filter. It knows nothing of atoms: anyone with a Jacobian can use it."""

from kalmandp.kalman.blocks import Blocks, Part, covariance_memory, partition
from kalmandp.kalman.covariance import Covariance, DenseCovariance
from kalmandp.kalman.filter import RLEKF, UpdateInfo
from kalmandp.kalman.uncertainty import prediction_variance

__all__ = [
    "RLEKF",
    "Blocks",
    "Covariance",
    "DenseCovariance",
    "Part",
    "UpdateInfo",
    "covariance_memory",
    "partition",
    "prediction_variance",
]
