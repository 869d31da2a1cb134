"""Frames on the device: atoms and pairs, uploaded once, kept, and put side by side without the host.

A frame's atoms are uploaded and its neighbours found on the device (`cuda.neighbours`), once for a run. The
host waits there, for how many pairs there are; from then on nothing on the device has to be asked. Labels
follow when they are first wanted, and stay with the frame.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace, to_numpy
from kalmandp.engines.cuda.deep_potential.constants import TABLE
from kalmandp.engines.cuda.launch import THREADS, Device, blocks_for
from kalmandp.engines.cuda.neighbours import Box, Search, search_frame
from kalmandp.errors import require
from kalmandp.frames.frame import Frame
from kalmandp.frames.kept import DEVICE_SHARE, KeptFrames
from kalmandp.geometry.neighbours import check_extent, neighbour_pairs
from kalmandp.potentials.deep_potential.environment import check_sel, pair_kinds

#: Bytes of labels: force and energy of an atom, energy and virial of a frame.
LABELS_OF_ATOM, LABELS_OF_FRAME = 8 * (3 + 1), 8 * (1 + 9)


class DevicePairs(NamedTuple):
    """Atoms and pairs of one frame or several side by side; arrays of the device, int32 and float64.

    types_i, frame_i : (i,);  first_i : (i + 1,) pairs of atom i are first_i[i] … first_i[i+1]−1
    i_p, j_p, r_pc : pairs, sorted by centre;  back_p : the same pair seen from its other end
    atoms_t : for each type, its atoms;  first_f : (f + 1,) atoms of each frame
    sizes : atoms of each frame (host);  closest : the shortest distance, Å (host)
    labels_f : what `labels_on_device` has uploaded of each frame, by name
    """

    types_i: Any
    frame_i: Any
    first_i: Any
    i_p: Any
    j_p: Any
    r_pc: Any
    back_p: Any
    atoms_t: tuple
    first_f: Any
    sizes: tuple[int, ...]
    closest: float
    labels_f: tuple[dict[str, Any], ...]

    @property
    def n_atoms(self) -> int:
        """Atoms of all frames together."""
        return len(self.types_i)

    @property
    def n_frames(self) -> int:
        """How many frames there are."""
        return len(self.sizes)

    @property
    def nbytes(self) -> int:
        """Bytes on the device, with those of the labels whether they are there yet or not."""
        arrays = (a for a in self if isinstance(a, namespace(self.r_pc).ndarray))
        labels = LABELS_OF_ATOM * len(self.types_i) + LABELS_OF_FRAME * len(self.sizes)
        return sum(a.nbytes for a in arrays) + labels


def upload(device: Device, architecture, frame: Frame, pairs=None) -> DevicePairs:
    """A frame's atoms and pairs on the device.

    Parameters
    ----------
    device : of the engine
    architecture : its cut-off, sel and excluded types are applied here
    frame : Frame
    pairs : its `Pairs`, if the host knows them; otherwise they are found on the device

    Raises
    ------
    InputError
        For overlapping atoms, unknown species, more neighbours than ``sel``.
    """
    a, xp = architecture, device.xp
    frame = frame.with_type_map(a.type_map)
    excluded_tt = pair_kinds(a).excluded_v.reshape(a.n_types, a.n_types)
    put = lambda values: xp.asarray(np.asarray(values, dtype=np.int32))
    types_i = put(frame.types)
    if pairs is None:
        search = search_frame(device, frame, a.rcut, types_i, sel_t=a.sel, left_out_tt=excluded_tt)
        if search.wrong:
            check_sel(a, frame, neighbour_pairs(frame, a.rcut))  # the host says what is wrong
        first_i, i_p, j_p, _, r_pc, closest = search.pairs()
    else:
        check_sel(a, frame, pairs)
        keep = ~excluded_tt[frame.types[pairs.i_p], frame.types[pairs.j_p]]
        r_pc = np.ascontiguousarray(pairs.r_pc[keep], dtype=np.float64)
        first_i = put(np.searchsorted(pairs.i_p[keep], np.arange(len(frame) + 1)))
        closest = float(np.sqrt((r_pc * r_pc).sum(-1).min())) if len(r_pc) else np.inf
        i_p, j_p, r_pc = put(pairs.i_p[keep]), put(pairs.j_p[keep]), xp.asarray(r_pc)
    atoms_t = tuple(put(np.nonzero(frame.types == t)[0]) for t in range(a.n_types))
    return _one_frame(device, types_i, first_i, i_p, j_p, r_pc, atoms_t, closest)


def from_positions(device: Device, architecture, positions, types, cell=None, pbc=(True, True, True)):
    """One frame's atoms and pairs, for a host code that has its positions on the device.

    Parameters
    ----------
    device : of the engine; its kernels run in the caller's current stream
    architecture : its cut-off, sel and excluded types are applied here
    positions : (i, 3) float64, Å, and types : (i,) int32, of the device; types are the architecture's
    cell : (3, 3) Å of the host, lattice vectors as rows; None for an open system
    pbc : three booleans, periodic along each vector

    Returns
    -------
    DevicePairs, which an engine's ``build`` takes

    Raises
    ------
    InputError
        As `upload`. The positions are brought to the host to say what is wrong with them.

    Notes
    -----
    The host waits for the extent of the positions, the number of pairs, and that of atoms of each type.
    """
    a, xp = architecture, device.xp
    form = Frame(np.zeros((0, 3)), [], a.type_map, cell=cell, pbc=pbc)  # checks cell and pbc
    check_extent(form, a.rcut)
    types = xp.ascontiguousarray(types, dtype=np.int32)
    box = Box.around(xp, positions, form.cell, form.pbc) if len(types) else None
    require(box is None or np.isfinite(box.farthest), "positions", "not finite", "finite numbers of Å")
    excluded_tt = pair_kinds(a).excluded_v.reshape(a.n_types, a.n_types)
    search = Search(device, box, positions, types, a.rcut, a.n_types, sel_t=a.sel, left_out_tt=excluded_tt)
    if search.wrong:
        frame = Frame(to_numpy(positions), to_numpy(types), a.type_map, cell=cell, pbc=pbc)
        check_sel(a, frame, neighbour_pairs(frame, a.rcut))
    first_i, i_p, j_p, _, r_pc, closest = search.pairs()
    return _one_frame(device, types, first_i, i_p, j_p, r_pc, _by_type(xp, a.n_types, types), closest)


def from_arrays(device: Device, n_types: int, types_i, i_p, j_p, r_pc) -> DevicePairs:
    """One frame's atoms and pairs, for a host code that already has them on the device.

    Parameters
    ----------
    device : of the engine; its kernels run in the caller's current stream
    n_types : types of the potential
    types_i : (i,) int32
    i_p, j_p : (p,) int32 centre and neighbour, sorted by centre; both directions of every pair
    r_pc : (p, 3) float64 r_j − r_i, Å

    Notes
    -----
    Nothing is checked: not that ``sel`` suffices, and pairs of excluded types have to be left out. The host
    waits for the number of atoms of each type, and for the shortest distance.
    """
    xp, n = device.xp, len(types_i)
    types_i, i_p, j_p = (xp.ascontiguousarray(values, dtype=np.int32) for values in (types_i, i_p, j_p))
    r_pc = xp.ascontiguousarray(r_pc, dtype=np.float64)
    first_i = xp.searchsorted(i_p, xp.arange(n + 1, dtype=np.int32)).astype(np.int32)
    closest = float(xp.sqrt((r_pc * r_pc).sum(-1).min())) if len(i_p) else np.inf
    return _one_frame(device, types_i, first_i, i_p, j_p, r_pc, _by_type(xp, n_types, types_i), closest)


def _by_type(xp, n_types: int, types_i) -> tuple:
    """The atoms of each type; the host waits for how many there are."""
    return tuple(xp.nonzero(types_i == t)[0].astype(np.int32) for t in range(n_types))


def _one_frame(device: Device, types_i, first_i, i_p, j_p, r_pc, atoms_t, closest: float) -> DevicePairs:
    xp, n, n_p = device.xp, len(types_i), len(i_p)
    back_p = xp.empty(n_p, np.int32)
    device.functions("environment.cu", **TABLE).match_back(
        blocks_for(n_p), THREADS, first_i, i_p, j_p, r_pc, n_p, back_p
    )
    first_f = xp.asarray(np.array([0, n], dtype=np.int32))
    none = xp.zeros(n, np.int32)
    return DevicePairs(types_i, none, first_i, i_p, j_p, r_pc, back_p, atoms_t, first_f, (n,), closest, ({},))


def joined(xp, n_types: int, parts: list[DevicePairs]) -> DevicePairs:
    """Frames side by side, each part one frame: numbers of atoms and pairs are shifted, on the device.

    The launches are as many for a hundred frames as for two.
    """
    if len(parts) == 1:
        return parts[0]
    int32 = lambda values: xp.asarray(np.asarray(values, dtype=np.int32))
    join = lambda arrays: xp.concatenate(arrays) if arrays else xp.zeros(0, np.int32)
    starts = lambda lengths: np.cumsum([0, *lengths])

    def frame_of(start):
        """Which frame each of the joined things is from, given where frames start."""
        things = xp.arange(int(start[-1]), dtype=np.int32)
        if not len(things):
            return things
        return xp.searchsorted(int32(start[1:]), things, side="right").astype(np.int32)

    of = lambda name: join([getattr(p, name) for p in parts])
    atom, pair = starts([len(p.types_i) for p in parts]), starts([len(p.i_p) for p in parts])
    atom_f, pair_f, frame_i, frame_p = int32(atom), int32(pair), frame_of(atom), frame_of(pair)
    first_i = xp.empty(int(atom[-1]) + 1, np.int32)
    first_i[:-1] = join([p.first_i[:-1] for p in parts]) + pair_f[frame_i]
    first_i[-1:] = pair_f[-1:]
    atoms_t = []
    for t in range(n_types):
        atoms = [p.atoms_t[t] for p in parts]
        atoms_t.append(join(atoms) + atom_f[frame_of(starts(map(len, atoms)))])
    return DevicePairs(
        types_i=of("types_i"),
        frame_i=frame_i,
        first_i=first_i,
        i_p=of("i_p") + atom_f[frame_p],
        j_p=of("j_p") + atom_f[frame_p],
        r_pc=of("r_pc") if parts else xp.zeros((0, 3)),
        back_p=of("back_p") + pair_f[frame_p],
        atoms_t=tuple(atoms_t),
        first_f=atom_f,
        sizes=tuple(len(p.types_i) for p in parts),
        closest=min((p.closest for p in parts), default=np.inf),
        labels_f=tuple(kept for p in parts for kept in p.labels_f),
    )


def labels_on_device(pairs: DevicePairs, name: str, values_f: list[np.ndarray]) -> Any:
    """Labels of frames side by side, joined along their first axis; a frame's are uploaded once and kept.

    Parameters
    ----------
    pairs : of the frames
    name : of the label, under which it is kept
    values_f : the label of each frame, on the host
    """
    xp = namespace(pairs.r_pc)
    for kept, value in zip(pairs.labels_f, values_f, strict=True):
        if name not in kept:
            kept[name] = xp.asarray(value)
    parts = [kept[name] for kept in pairs.labels_f]
    return parts[0] if len(parts) == 1 else xp.concatenate(parts)


def device_frames(dataset, engine, n_bytes: int | None = None) -> KeptFrames:
    """Frames of a data set with their `DevicePairs`, uploaded once and kept on the device.

    Parameters
    ----------
    dataset : frames
    engine : the engine that uploads them
    n_bytes : room for them; by default a quarter of what the device has free
    """
    if n_bytes is None:
        free = engine.device.free_bytes()
        n_bytes = int(DEVICE_SHARE * free) if free else 1 << 30
    type_map = engine.form.type_map
    return KeptFrames(dataset, type_map, engine.upload, lambda _, pairs: pairs.nbytes, n_bytes)
