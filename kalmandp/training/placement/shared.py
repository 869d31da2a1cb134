"""The processors or GPUs of several ranks: P is shared out over them, weights, noise and λ are on every one.

On processors its tiles are shared, on GPUs its blocks.
"""

from __future__ import annotations

from kalmandp.errors import InputError
from kalmandp.kalman.blocks import Blocks
from kalmandp.kalman.filter import RLEKF
from kalmandp.potentials.potential import Potential
from kalmandp.ranks.team import Team
from kalmandp.training.placement import memory
from kalmandp.training.placement.device import Cpu, Gpu, beginning


class SharedCpu(Cpu):
    """The processors of the ranks of ``team``; all of them make the same calls."""

    team: Team

    def __init__(self, team: Team):
        self.team = self.exchange = team

    def filter(self, potential: Potential, blocks: Blocks, choices, nuisance_P0=None) -> RLEKF:
        if choices.covariance == "dense":
            raise InputError(
                "optimizer/covariance is 'dense', which one rank holds; expected 'tiled' with several ranks"
            )
        weights, P0 = beginning(potential.weights, potential.layout.prior(choices.p0), nuisance_P0)
        return RLEKF(
            weights, blocks, P0=P0, lam=choices.lam, nu=choices.nu,
            covariance=self._shared(choices.coupled), dtype=choices.covariance_dtype,
            stored_as="tiled coupled" if choices.coupled else "tiled",
        )  # fmt: skip

    def restored(self, state: dict) -> RLEKF:
        """The filter of a checkpoint in tiles, written by any number of ranks; each reads its own part."""
        kind = str(state["covariance"])
        if not kind.startswith("tiled"):
            raise InputError(f"the checkpoint's P is {kind!r}; expected 'tiled', which ranks can share")
        return RLEKF.from_state(state, covariance=self._shared("coupled" in kind))

    def _shared(self, coupled: bool):
        from kalmandp.engines.cpu.covariance.shared import shared_class

        return shared_class(self.team, coupled)

    def memory(self, blocks: Blocks, choices) -> int:
        """Bytes of P on one rank, about."""
        return round(memory.host_memory(blocks, choices) * min(1.0, 1.0 / self.team.size + 0.05))


class SharedGpu(Gpu):
    """The GPU of a rank of ``team``: each has some of the blocks of P; the frames of a batch are shared."""

    team: Team

    def __init__(self, device, team: Team):
        from kalmandp.engines.cuda.exchange import exchange_of

        super().__init__(device)
        self.team, self.exchange = team, exchange_of(team, device)

    def _new_filter(self, weights, blocks: Blocks, choices, P0):
        from kalmandp.engines.cuda.shared import SharedCudaRLEKF

        return SharedCudaRLEKF(
            weights, blocks, P0=P0, lam=choices.lam, nu=choices.nu, dtype=choices.covariance_dtype,
            coupled=choices.coupled, device=self.device, exchange=self.exchange,
        )  # fmt: skip

    def restored(self, state: dict):
        from kalmandp.engines.cuda.shared import SharedCudaRLEKF

        return SharedCudaRLEKF.from_state(state, device=self.device, exchange=self.exchange)

    def _covariance_memory(self, blocks: Blocks, choices, m: int) -> int:
        from kalmandp.engines.cuda.shared import SharedCudaCovariance

        return SharedCudaCovariance.needs(blocks, choices.covariance_dtype, m, self.team.size)
