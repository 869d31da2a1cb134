"""Where a run computes: on the processor, or with everything it needs on a GPU.

The one place in the training that knows of devices. A run asks its device for an engine, a trainer and the
frames, and is otherwise the same on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kalmandp.arrays import namespace
from kalmandp.errors import InputError
from kalmandp.kalman.blocks import Blocks
from kalmandp.kalman.filter import RLEKF, UpdateInfo
from kalmandp.potentials.potential import Potential
from kalmandp.registry import load
from kalmandp.training.placement import memory

if TYPE_CHECKING:
    from kalmandp.engines.cuda.launch import Device
    from kalmandp.ranks.team import Team

DEVICES = ("cpu", "cuda")


class Cpu:
    """The processor: fused Numba engines, P in the host's memory."""

    device: Any = "cpu"
    #: Ranks that share P; None for one that has all of it.
    team: Team | None = None
    #: How H travels between them (`measurements.shared.Gathers`).
    exchange: Any = None

    def frames(self, data, potential: Potential):
        """The data's frames with their pairs, kept once they were needed."""
        return potential.engine.frames(data)

    def frames_memory(self, potential: Potential, frames) -> int:
        """Bytes that these frames take where the run keeps them; 0 where it does not matter."""
        return 0

    def filter(self, potential: Potential, blocks: Blocks, choices, nuisance_P0=None) -> RLEKF:
        """The filter that begins with the potential's weights, and behind them zeros of these variances."""
        weights, P0 = beginning(potential.weights, potential.layout.prior(choices.p0), nuisance_P0)
        return RLEKF(
            weights, blocks, P0=P0, lam=choices.lam, nu=choices.nu,
            covariance=choices.covariance + (" coupled" if choices.coupled else ""),
            dtype=choices.covariance_dtype,
        )  # fmt: skip

    def restored(self, state: dict) -> RLEKF:
        """The filter of a checkpoint; one that was written on a GPU is brought here."""
        from kalmandp.engines.cuda.filter import for_the_host

        there = for_the_host(state)
        if there is state:
            return RLEKF.from_state(state)
        return RLEKF.from_state(there, covariance=there["covariance"].replace("dense", "tiled"))

    def take_in(
        self, kalman: RLEKF, potential: Potential, H, error, noise, accept=None
    ) -> UpdateInfo | None:  # fmt: skip
        """One update, and the potential's new weights; None if asynchronous: `synchronize` returns it."""
        info = kalman.update(H, error, noise, accept)
        potential.weights = kalman.weights[: potential.layout.size]
        return info

    def synchronize(self, kalman: RLEKF) -> list[tuple[Any, UpdateInfo]]:
        """Wait for asynchronous updates: error_q and what was done, for each of them."""
        return []

    def memory(self, blocks: Blocks, choices) -> int:
        """Bytes of P."""
        return memory.host_memory(blocks, choices)

    def free_bytes(self) -> int:
        """Bytes of memory that are free for new arrays; 0 if that is not known."""
        return memory.available_memory()


class Gpu:
    """A CUDA device: frames, environment, weights and P stay there from the first step to the last."""

    team: Team | None = None
    exchange: Any = None

    def __init__(self, device: Device):
        self.device = device
        self._view: tuple[Any, Any] = (None, None)

    def _model_weights(self, potential: Potential, kalman):
        """The filter's weights without nuisances: the same array each time."""
        if len(kalman.weights) == potential.layout.size:
            return kalman.weights
        if self._view[0] is not kalman.weights:
            self._view = kalman.weights, kalman.weights[: potential.layout.size]
        return self._view[1]

    def frames(self, data, potential: Potential):
        return potential.engine.frames(data)

    def frames_memory(self, potential: Potential, frames) -> int:
        """Bytes of the atoms and pairs of these frames on the device."""
        return potential.engine.memory_of(frames)

    def filter(self, potential: Potential, blocks: Blocks, choices, nuisance_P0=None):
        if choices.covariance == "dense":
            raise InputError(
                "optimizer/covariance is 'dense', which is the reference on the processor; with device "
                "'cuda' leave it out"
            )
        P0 = potential.layout.prior(choices.p0)
        weights, P0 = beginning(potential.parameters.weights, P0, nuisance_P0)
        kalman = self._new_filter(weights, blocks, choices, P0)
        potential.share_weights(self._model_weights(potential, kalman))
        return kalman

    def _new_filter(self, weights, blocks: Blocks, choices, P0):
        from kalmandp.engines.cuda.filter import CudaRLEKF

        return CudaRLEKF(
            weights, blocks, P0=P0, lam=choices.lam, nu=choices.nu,
            dtype=choices.covariance_dtype, coupled=choices.coupled, device=self.device,
        )  # fmt: skip

    def restored(self, state: dict):
        from kalmandp.engines.cuda.filter import CudaRLEKF

        return CudaRLEKF.from_state(state, device=self.device)

    def take_in(
        self, kalman, potential: Potential, H, error, noise, accept=None
    ) -> UpdateInfo | None:  # fmt: skip
        # the potential shares the filter's weights: there is nothing to copy, and nothing to wait for
        potential.share_weights(self._model_weights(potential, kalman))
        error_q = self.device.xp.asarray(error)
        if accept is not None:  # a gate has to see S before it lets the update pass
            return kalman.update(H, error_q, noise, accept)
        kalman.enqueue(H, error_q, noise)
        return None

    def synchronize(self, kalman) -> list[tuple[Any, UpdateInfo]]:
        return kalman.synchronize()

    def memory(self, blocks: Blocks, choices) -> int:
        """Bytes of P and its work space, and of H and K of an update."""
        m = _numbers(choices)
        return self._covariance_memory(blocks, choices, m) + 16 * m * blocks.n_weights

    def _covariance_memory(self, blocks: Blocks, choices, m: int) -> int:
        from kalmandp.engines.cuda.covariance import CudaCovariance

        return CudaCovariance.needs(blocks, choices.covariance_dtype, m)

    def free_bytes(self) -> int:
        return self.device.free_bytes()


def beginning(weights, P0, nuisance_P0) -> tuple[Any, Any]:
    """Weights and variances that a filter begins with; nuisances stand last, and begin with 0."""
    if nuisance_P0 is None:
        return weights, P0
    xp = namespace(weights)
    P0_w = np.concatenate([np.broadcast_to(P0, weights.shape), nuisance_P0])
    return xp.concatenate([weights, xp.zeros(len(nuisance_P0))]), xp.asarray(P0_w)


def _numbers(choices) -> int:
    """The most numbers m of one update on a frame, as `trainers.kalman.KalmanTrainer` measures it."""
    groups = choices.n_groups
    if choices.measurement != "matrix":
        return {"signed": 1, "paired": 2}.get(choices.measurement, groups + len(choices.order) - 1)
    atoms = groups * choices.group_size
    each = {"energy": 1, "atomic_energy": atoms, "force": 3 * atoms, "virial": 6}
    return sum(each[kind] for kind in choices.order)


def device_of(potential: Potential, team: Team | None = None) -> Cpu | Gpu:
    """Where the engine of a potential computes; P is shared by the ranks of ``team``, if there is one."""
    if team is None:
        return Cpu() if potential.engine.device == Cpu.device else Gpu(potential.engine.device)
    return open_device(potential.engine.device, team)


def open_device(device: str | Device, team: Team | None = None) -> Cpu | Gpu:
    """The device of that name, "cpu" or "cuda", or an opened `cuda.launch.Device`.

    Raises
    ------
    MissingPackage, InputError
        If a GPU is asked for and cannot be used. There is no silent fall-back.
    """
    if not isinstance(device, str):
        if team is not None:
            return load("kalmandp.training.placement.shared:SharedGpu")(device, team)
        return Gpu(device)
    if device not in DEVICES:
        raise InputError(f"device is {device!r}; expected one of {', '.join(DEVICES)}")
    if device == "cpu":
        if team is None:
            return Cpu()
        return load("kalmandp.training.placement.shared:SharedCpu")(team)
    from kalmandp.engines.cuda.launch import CupyDevice

    if team is None:
        return Gpu(CupyDevice())
    return load("kalmandp.training.placement.shared:SharedGpu")(CupyDevice(team.local_rank), team)
