"""One configuration of atoms with its labels: what goes in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kalmandp.errors import InputError

#: Pairs closer than this (Å) are taken for a mistake in the data, not for chemistry.
OVERLAP = 0.1

#: Numbers beyond these, and their units, are taken for a mistake too: nine of a coordinate's sixteen digits
#: are gone, and no atoms have such labels (programs write 1e30 and the like where they have none).
LARGEST = {
    "positions": (1e8, "Å"), "cell": (1e8, "Å"), "energy": (1e12, "eV"), "forces": (1e6, "eV/Å"),
    "virial": (1e12, "eV"), "atomic_energies": (1e12, "eV"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Frame:
    """A configuration with, where known, its energy, forces and virial.

    Attributes
    ----------
    positions : (n, 3) float64, Å
    types : (n,) int32, index of each atom's element in ``type_map``
    type_map : names of the types, e.g. ``("O", "H")``
    cell : (3, 3) float64, Å, lattice vectors as rows; None for an open system. A vector of zeros
        along which the system is not periodic is replaced by a unit vector normal to the others
    pbc : three booleans, periodic along each lattice vector; (False, False, False) without a cell,
        and the other way round: a cell that is periodic along no vector is dropped
    energy : eV, or None
    forces : (n, 3) float64, eV/Å, or None
    virial : (3, 3) float64, eV, W = −dE/dε, or None
    atomic_energies : (n,) float64, eV, or None
    weight, energy_weight : weight of the frame, and of its energy, among others in training; or None
    source : where the frame came from ("water.h5#/O64H128 frame 12"); errors begin with it

    Raises
    ------
    InputError
        For wrong shapes, numbers that are not finite, a cell of zero volume, an unknown type.

    Examples
    --------
    >>> molecule = Frame([[0, 0, 0], [0, 0, 0.74]], [0, 0], ("H",), energy=-31.7)
    >>> len(molecule), molecule.symbols, molecule.pbc
    (2, ['H', 'H'], (False, False, False))
    >>> Frame([[0, 0, 0]], [0, 0], ("H",))
    Traceback (most recent call last):
    kalmandp.errors.InputError: frame: positions has shape (1, 3); expected (2, 3)
    """

    positions: np.ndarray
    types: np.ndarray
    type_map: tuple[str, ...]
    cell: np.ndarray | None = None
    pbc: tuple[bool, bool, bool] = (True, True, True)
    energy: float | None = None
    forces: np.ndarray | None = None
    virial: np.ndarray | None = None
    atomic_energies: np.ndarray | None = None
    source: str = "frame"
    weight: float | None = None
    energy_weight: float | None = None

    def __post_init__(self):
        put = lambda name, value: object.__setattr__(self, name, value)
        put("type_map", checked_type_map(self.source, self.type_map))
        put("types", self._array("types", self.types, np.int32, (None,)))
        n = len(self.types)
        put("positions", self._array("positions", self.positions, np.float64, (n, 3)))
        put("pbc", self._pbc())
        if any(self.pbc):
            cell = self._array("cell", self.cell, np.float64, (3, 3))
            put("cell", complete_cell(cell, self.pbc))
            self._check_cell()
        else:
            put("cell", None)
        if self.energy is not None:
            put("energy", float(self._array("energy", self.energy, np.float64, ())))
        for name in ("weight", "energy_weight"):
            if getattr(self, name) is not None:
                put(name, float(self._array(name, getattr(self, name), np.float64, ())))
                if not getattr(self, name) > 0:
                    raise InputError(
                        f"{self.source}: {name} is {getattr(self, name):g}; expected more than 0"
                    )
        for name, shape in (("forces", (n, 3)), ("virial", (3, 3)), ("atomic_energies", (n,))):
            if getattr(self, name) is not None:
                put(name, self._array(name, getattr(self, name), np.float64, shape))
        if n and (self.types.min() < 0 or self.types.max() >= len(self.type_map)):
            raise InputError(
                f"{self.source}: types run from {self.types.min()} to {self.types.max()}; "
                f"expected 0 to {len(self.type_map) - 1} for type_map {list(self.type_map)}"
            )

    def _pbc(self) -> tuple[bool, ...]:
        pbc = np.asarray(self.pbc)
        if pbc.shape not in ((), (3,)) or pbc.dtype.kind not in "biu":
            raise InputError(f"{self.source}: pbc is {self.pbc!r}; expected three booleans")
        return tuple(bool(b) and self.cell is not None for b in np.broadcast_to(pbc, 3))

    def _array(self, name, value, dtype, shape):
        try:
            got = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.source}: {name} is not an array ({error})") from None
        if got.dtype.kind not in "biuf":
            raise InputError(f"{self.source}: {name} is of type {got.dtype}; expected real numbers")
        wanted = tuple("n_atoms" if s is None else s for s in shape)
        if got.ndim != len(shape) or any(
            s is not None and s != g for s, g in zip(shape, got.shape, strict=True)
        ):
            raise InputError(f"{self.source}: {name} has shape {got.shape}; expected {wanted}")
        if not np.isfinite(got).all():
            where = tuple(np.argwhere(~np.isfinite(got))[0].tolist())
            which = f"{name}{list(where)}" if where else name
            raise InputError(f"{self.source}: {which} is {got[where]}; expected a finite number")
        most, unit = LARGEST.get(name, (np.inf, ""))
        if got.size and (reach := np.abs(got).max()) > most:
            verb = "reach" if name.endswith("s") else "reaches"
            raise InputError(
                f"{self.source}: {name} {verb} {reach:.3g} {unit}; expected at most {most:g} {unit}"
            )
        array = np.asarray(got, dtype=dtype, order="C")
        if dtype is np.int32 and not np.array_equal(array, got):
            raise InputError(f"{self.source}: {name} are not all integers; expected type indices")
        return array

    def _check_cell(self):
        if is_flat(self.cell):
            raise InputError(
                f"{self.source}: the cell has volume {self.volume:.3g} Å³; "
                "expected three independent lattice vectors"
            )

    def __len__(self) -> int:
        return len(self.types)

    @property
    def symbols(self) -> list[str]:
        """Name of each atom's type."""
        return [self.type_map[t] for t in self.types]

    @property
    def volume(self) -> float:
        """Volume of the cell in Å³; 0 for an open system."""
        return 0.0 if self.cell is None else float(abs(np.linalg.det(self.cell)))

    def with_type_map(self, type_map) -> Frame:
        """The same frame with its types renumbered for another ``type_map``.

        Parameters
        ----------
        type_map : names of the types, with all elements of the frame among them

        Raises
        ------
        InputError
            If an element of the frame is not in ``type_map``.
        """
        type_map = tuple(type_map)
        if type_map == self.type_map:
            return self
        unknown = sorted({s for s in self.symbols if s not in type_map})
        if unknown:
            raise InputError(
                f"{self.source}: species {', '.join(unknown)} is not in the type_map {list(type_map)}"
            )
        number = np.array([type_map.index(t) if t in type_map else -1 for t in self.type_map])
        types = number[self.types] if len(self.types) else self.types
        return replace(self, types=types, type_map=type_map)

    @classmethod
    def from_ase(cls, atoms, type_map=None, source="Atoms") -> Frame:
        """Build a frame from an ``ase.Atoms``, with the results its calculator already holds.

        Parameters
        ----------
        atoms : ase.Atoms
        type_map : names of the types; by default the elements in order of appearance
        source : name of the frame in messages

        Only attributes of ``atoms`` are used; ASE itself is not imported here, and nothing is
        calculated. The energy is the one the forces belong to (``free_energy`` where the
        calculator tells it apart from ``energy``). A stress σ is turned into W = −σV. Results that
        belong to other positions, because the atoms have moved since, are not labels and are left
        out. Without a result, ``energy`` and ``virial`` in ``atoms.info`` and ``forces`` in
        ``atoms.arrays`` are read.

        Raises
        ------
        InputError
            For an element that is not in ``type_map``, and for everything that `Frame` refuses.
        """
        symbols = atoms.get_chemical_symbols()
        type_map = tuple(type_map) if type_map is not None else tuple(dict.fromkeys(symbols))
        known = {name: k for k, name in enumerate(type_map)}
        unknown = sorted(set(symbols) - set(known))
        if unknown:
            raise InputError(
                f"{source}: species {', '.join(unknown)} is not in the type_map {list(type_map)}"
            )
        frame = cls(
            positions=atoms.get_positions(),
            types=np.array([known[s] for s in symbols], dtype=np.int32),
            type_map=type_map,
            cell=np.array(atoms.cell),
            pbc=tuple(atoms.pbc),
            source=source,
        )
        return replace(frame, **_ase_labels(atoms, frame))


def checked_type_map(source: str, names) -> tuple[str, ...]:
    """Names of types as a tuple; one text, such as "Si", would be taken for its letters."""
    if isinstance(names, str):
        raise InputError(f"{source}: type_map is {names!r}; expected a list of names")
    names = tuple(str(name) for name in names)
    if len(set(names)) != len(names):
        raise InputError(f"{source}: type_map is {list(names)}; expected every name once")
    return names


def is_flat(cell_cd: np.ndarray):
    """Whether lattice vectors, (…, 3, 3), are not independent.

    |det| over the product of the lengths is 1 for a right-angled cell, 0 for a flat one.
    """
    volume = np.abs(np.linalg.det(cell_cd))
    lengths = np.sqrt((cell_cd * cell_cd).sum(axis=-1))
    return (volume <= 1e-9 * lengths.prod(axis=-1)) | (volume == 0.0)


def complete_cell(cell: np.ndarray, pbc) -> np.ndarray:
    """``cell`` with vectors of zeros that are not periodic made unit vectors normal to the others.

    A slab needs no third lattice vector, but an invertible matrix does. The length of 1 Å is of no
    consequence: nothing is repeated along it.
    """
    missing = [d for d in range(3) if not pbc[d] and not cell[d].any()]
    if not missing:
        return cell
    kept = [d for d in range(3) if d not in missing]
    # the right singular vectors beyond the rank of the kept rows span what is normal to them
    normal = np.linalg.svd(cell[kept])[2][len(kept) :]
    completed = cell.copy()
    completed[missing] = normal
    if np.linalg.det(completed) < 0:
        completed[missing[0]] *= -1.0
    return completed


def _ase_labels(atoms, frame: Frame) -> dict:
    """Energy, forces, virial and atomic energies that ``atoms`` carries, for its ``frame``."""
    calc = atoms.calc
    stale = calc is not None and hasattr(calc, "check_state") and bool(calc.check_state(atoms))
    results = {} if calc is None or stale else dict(getattr(calc, "results", {}))
    virial, stress = results.get("virial", atoms.info.get("virial")), results.get("stress")
    if virial is None and stress is not None and any(frame.pbc):
        volume = stress_volume(np.array(atoms.cell), frame.source)
        virial = -volume * full_stress(stress, frame.source)
    if virial is not None and np.size(virial) == 9:
        virial = np.reshape(virial, (3, 3))
    return {
        "energy": results.get("free_energy", results.get("energy", atoms.info.get("energy"))),
        "forces": results.get("forces", atoms.arrays.get("forces")),
        "virial": virial,
        "atomic_energies": results.get("energies"),
    }


def full_stress(stress, source: str) -> np.ndarray:
    """A stress as (3, 3), from nine numbers or six in Voigt's order (xx, yy, zz, yz, xz, xy).

    Raises
    ------
    InputError
        For another number of them.
    """
    stress = np.asarray(stress)
    if stress.size == 6:
        xx, yy, zz, yz, xz, xy = stress.ravel()
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if stress.size == 9:
        return stress.reshape(3, 3)
    raise InputError(f"{source}: stress has shape {stress.shape}; expected (6,) or (3, 3)")


def stress_volume(cell, source: str) -> float:
    """Volume that a stress refers to; a slab whose third vector is zero has none."""
    volume = abs(float(np.linalg.det(cell)))
    if volume == 0.0:
        raise InputError(
            f"{source}: there is a stress but the cell has no volume; expected three lattice "
            "vectors, or the virial instead of the stress"
        )
    return volume
