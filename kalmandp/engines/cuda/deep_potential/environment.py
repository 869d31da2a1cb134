"""CUDA twin of `deep_potential.environment`, and where the pairs lie in the table of the embedding.

Nothing here waits for the device: the extent of a table follows from the shortest distance, which is known
when a frame is uploaded, and the number of chunks from a bound. The passes' memory is bounded before the
first array of an environment is made (`pass_bytes`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from kalmandp.engines.cuda.deep_potential.constants import TABLE
from kalmandp.engines.cuda.deep_potential.frames import DevicePairs, joined, labels_on_device, upload
from kalmandp.engines.cuda.deep_potential.network import CHUNK as ROWS
from kalmandp.engines.cuda.launch import THREADS, Device, blocks_for, check_memory
from kalmandp.engines.cuda.neighbours import MOST_PAIRS
from kalmandp.engines.cuda.sort import order_of_keys
from kalmandp.errors import require
from kalmandp.frames.frame import Frame
from kalmandp.potentials.deep_potential.environment import pair_kinds, raw_environment, virtual_rows
from kalmandp.potentials.deep_potential.table import ORDER, TableGrid

#: Pairs of a chunk, as in potential.cu.
CHUNK = 64
#: Bytes of a pair in the passes: net, R̃, ∂R̃, place, f, v and the tangent of R̃.
BYTES_PER_PAIR = 4 + 32 + 96 + 8 + 24 + 24 + 32


class Places(NamedTuple):
    """Pairs sorted by the table's node they begin at, bucket = (net, node), and cut into chunks.

    order_p : pairs in that order;  bucket_first, chunk_first : (buckets + 1,)
    n_chunks : at least as many as there are, known without asking the device
    """

    grid: TableGrid
    order_p: Any
    bucket_first: Any
    chunk_first: Any
    n_chunks: int

    @property
    def n_nodes(self) -> int:
        return self.grid.stop - self.grid.start


class CudaEnvironment(NamedTuple):
    """Twin of `Environment` on the device, pairs as rows of a compressed list.

    pairs : atoms and pairs of all frames;  net_p : embedding net of each pair
    Rt_vk, count_iv : padding slots;  net_v : net of each kind of pair (NumPy)
    low, high : bounds of g = R̃_p0
    kept : places by grid, the grid chosen for an array of weights, labels by name
    """

    pairs: DevicePairs
    net_p: Any
    Rt_pk: Any
    dRt_pkc: Any
    Rt_vk: Any
    count_iv: Any
    net_v: np.ndarray
    low: float
    high: float
    kept: dict

    n_atoms = property(lambda self: len(self.pairs.types_i))
    geometry = property(lambda self: self.pairs)

    def labels(self, name: str, values_f: list[np.ndarray]) -> Any:
        """A label of all frames on the device, from that of each on the host."""
        if name not in self.kept:
            self.kept[name] = labels_on_device(self.pairs, name, values_f)
        return self.kept[name]


class EnvironmentMaker:
    """Makes environments on a device, for one form.

    Parameters
    ----------
    form : of the potential
    device : where the arrays are
    """

    def __init__(self, form, device: Device):
        self.form, self.device, self.xp = form, device, device.xp
        self._e = device.functions("environment.cu", **TABLE)
        self._statistics: tuple = (None, None)
        self._found_room_for = 0

    def environment(self, statistics, frames, pairs=None) -> CudaEnvironment:
        """Twin of `DeepPotential.environment`; ``pairs`` may be those that `upload` has returned."""
        frames = [frames] if isinstance(frames, Frame) else list(frames)
        pairs = [None] * len(frames) if pairs is None else pairs
        parts = [
            p if isinstance(p, DevicePairs) else self.upload(f, p) for f, p in zip(frames, pairs, strict=True)
        ]
        pairs = joined(self.xp, self.form.n_types, parts)
        return self.build(statistics["davg"], statistics["dstd"], pairs)

    def upload(self, frame: Frame, pairs=None) -> DevicePairs:
        """A frame's atoms and pairs on the device, checked; its neighbours are found there."""
        return upload(self.device, self.form, frame, pairs)

    def build(self, davg, dstd, pairs: DevicePairs) -> CudaEnvironment:
        """Twin of `environment.build_environment` for pairs that are on the device."""
        a, xp, f = self.form, self.xp, self._e
        kinds = pair_kinds(a)
        mean, spread, virtual, sel_v, net_v = self._constants(davg, dstd)
        n_p, n_atoms, n_v = len(pairs.i_p), len(pairs.types_i), len(kinds.net_v)
        self._check_room(n_atoms, n_p)
        Rt_pk, dRt_pkc = xp.empty((n_p, 4)), xp.empty((n_p, 4, 3))
        f.pair_environment(
            blocks_for(n_p), THREADS, pairs.types_i, pairs.i_p, pairs.r_pc, n_p, a.rcut_smth, a.rcut,
            mean, spread, Rt_pk, dRt_pkc,
        )  # fmt: skip
        count_iv = xp.empty((n_atoms, n_v))
        f.padding_counts(
            blocks_for(n_atoms), THREADS, pairs.types_i, pairs.first_i, pairs.j_p, n_atoms, a.n_types,
            sel_v, count_iv,
        )  # fmt: skip
        net_p = net_v[pairs.types_i[pairs.i_p] * a.n_types + pairs.types_i[pairs.j_p]]
        return CudaEnvironment(
            pairs, net_p, Rt_pk, dRt_pkc, virtual, count_iv, kinds.net_v,
            *_range(a, davg, dstd, pairs.closest), {},
        )  # fmt: skip

    def _check_room(self, n_atoms: int, n_p: int) -> None:
        """Refuse a batch that cannot fit; asked once for each size that is larger than those before."""
        need = pass_bytes(self.form, n_atoms, n_p)
        if need > self._found_room_for:
            what = f"a batch of {n_atoms:,} atoms and {n_p:,} pairs"
            require(
                n_p <= MOST_PAIRS, what, f"{n_p:,} pairs", f"at most {MOST_PAIRS:,}: a smaller batch_size"
            )
            check_memory(self.device, need, what, "A smaller training/training_data/batch_size")
            self._found_room_for = need

    def _constants(self, davg, dstd) -> tuple:
        """davg, dstd, R̃_vk, sel_v and net_v on the device, uploaded when they change."""
        key = (np.asarray(davg, float).tobytes(), np.asarray(dstd, float).tobytes())
        if self._statistics[0] != key:
            a, kinds = self.form, pair_kinds(self.form)
            sel_v = np.asarray(a.sel, dtype=float)[kinds.neighbour_v] * ~kinds.excluded_v
            rows = (np.asarray(davg, float), np.asarray(dstd, float), virtual_rows(a, davg, dstd), sel_v)
            rows += (kinds.net_v.astype(np.int32),)
            self._statistics = (key, tuple(self.xp.asarray(np.ascontiguousarray(row)) for row in rows))
        return self._statistics[1]

    def places(self, env: CudaEnvironment, grid: TableGrid) -> Places:
        """Pairs sorted by node, once for an environment and a grid."""
        if grid not in env.kept:
            xp, n_p, n_nodes = self.xp, len(env.pairs.i_p), grid.stop - grid.start
            n_buckets = self.form.n_embeddings * n_nodes
            bucket_p = xp.empty(n_p, np.int32)
            self._e.buckets(
                blocks_for(n_p), THREADS, env.net_p, env.Rt_pk, n_p, grid.step, grid.start, n_nodes, bucket_p
            )
            order_p, bucket_first = order_of_keys(self.device, bucket_p, n_buckets)
            chunks = (bucket_first[1:] - bucket_first[:-1] + CHUNK - 1) // CHUNK
            chunk_first = xp.zeros(n_buckets + 1, np.int32)
            chunk_first[1:] = xp.cumsum(chunks, dtype=np.int32)
            # ⌈n/c⌉ summed over at most min(n_p, buckets) buckets that are not empty
            most = n_p // CHUNK + min(n_p, n_buckets)
            env.kept[grid] = Places(grid, order_p, bucket_first, chunk_first, most)
        return env.kept[grid]


def _range(architecture, davg, dstd, closest: float) -> tuple[float, float]:
    """Bounds of g = (s(r) − davg)/dstd over r ≥ closest: s falls from s(closest) to 0."""
    mean_t, spread_t = np.asarray(davg, float)[:, 0], np.asarray(dstd, float)[:, 0]
    r = min(closest, architecture.rcut)
    highest = raw_environment(np.array([[r, 0.0, 0.0]]), architecture.rcut_smth, architecture.rcut)[0][0, 0]
    return float((-mean_t / spread_t).min()), float(((highest - mean_t) / spread_t).max())


def pass_bytes(architecture, n_atoms: int, n_p: int) -> int:
    """Bytes that the passes over atoms and pairs take at most, the atoms and pairs themselves left out.

    Of an atom: D and its adjoint with their tangents, T likewise, and each layer's input, φ, φ′, φ″ and
    adjoints. Of a chunk of pairs: what it sends to the ORDER nodes of its bucket; of a chunk of atoms: its
    part of a layer's gradient. The nodes of the table, a few megabytes, are not counted.
    """
    a, M = architecture, architecture.embedding[-1]
    of_atom = 5 * a.descriptor_size + 16 * M + 12 * (sum(a.fitting) + 1) + a.n_types**2
    widths = a.descriptor_size, *a.fitting, 1
    largest = max((n_in + 2) * n_out for n_in, n_out in pairwise(widths))
    chunks = 8 * ORDER * M * (n_p // CHUNK) + 8 * largest * (n_atoms // ROWS + a.n_types)
    return BYTES_PER_PAIR * n_p + 8 * n_atoms * of_atom + chunks
