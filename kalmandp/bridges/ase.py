"""ASE: a calculator for everything that ASE does with one — relaxation, MD, phonons, equations of state.

    from kalmandp.bridges.ase import KalmanDP

    atoms.calc = KalmanDP("run/model.dp")

ASE's conventions: eV, Å, stress σ = (1/V) dE/dε = −W/V in Voigt's order (xx, yy, zz, yz, xz, xy). i-PI drives
the same calculator through ASE's ``SocketClient``.
"""

from __future__ import annotations

import os

import numpy as np

from kalmandp.errors import InputError, MissingPackage
from kalmandp.frames.frame import Frame
from kalmandp.geometry.verlet import VerletList
from kalmandp.potentials.potential import Potential
from kalmandp.registry import UNCERTAINTY, load

try:
    from ase.calculators import calculator as ase_calculator
    from ase.data import chemical_symbols
except ImportError:
    raise MissingPackage("ase", "ase", "the ASE calculator") from None

#: The name by which ASE's `get_calculator_class` knows the calculator once this module is imported.
NAME = "kalmandp"


class KalmanDP(ase_calculator.Calculator):
    """Energy, forces, stress and atomic energies of a potential of any kind.

    Parameters
    ----------
    model : path of a model file of any kind, or a Potential
    skin : Å by which the neighbour list reaches beyond the cut-off, so that it can be reused
    engine : "numba" or "numpy" ("cuda" or "cupy" on a GPU); by default that of the potential
    uncertainty : `UncertainPotential` of this potential, or path of the checkpoint of its training: results
        then have ``forces_std`` (n, 3) eV/Å and ``energy_std`` (eV), at the cost of a matrix measurement
    parameters : of ASE's Calculator (``atoms``, ``label``, ``directory``)

    Attributes
    ----------
    potential : Potential. After a change of its weights call `reset`, or ASE goes on with old results
    verlet : VerletList, which counts how often it was searched

    Raises
    ------
    InputError
        On calculation: for an element that the model does not know, overlapping atoms, more neighbours
        than ``sel``.

    Notes
    -----
    ``energy`` and ``free_energy`` are the same number. There is a stress where the atoms are periodic along
    at least one vector and the cell has a volume; where there is none, asking for it raises ASE's
    `PropertyNotImplementedError`.

    Examples
    --------
    >>> from ase.build import bulk
    >>> rng = np.random.default_rng(1)
    >>> model = Potential.create(["Si"], rcut=4.0, sel=[30], rng=rng, embedding=(4, 8), axis_neuron=2,
    ...                          fitting=(8,))  # or the path of a model file
    >>> atoms = bulk("Si", cubic=True)
    >>> atoms.calc = KalmanDP(model)
    >>> atoms.get_stress().shape
    (6,)
    """

    name = NAME
    # lists and sets of the class, as ASE declares them
    implemented_properties = ["energy", "free_energy", "forces", "stress", "energies"]  # noqa: RUF012
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self, model, *, skin: float = 1.0, engine: str | None = None, uncertainty=None, **parameters
    ):
        if isinstance(model, Potential):
            potential = model if engine is None else model.with_engine(engine)
        elif isinstance(model, (str, os.PathLike)):
            potential = Potential.load(model, engine=engine)
        else:
            raise InputError(f"model is a {type(model).__name__}; expected a path or a Potential")
        self.potential = potential
        self.verlet = VerletList(potential.form.cutoff, skin)
        self.uncertainty = None if uncertainty is None else _known(uncertainty, potential)
        if uncertainty is not None:
            self.implemented_properties = [*self.implemented_properties, "forces_std", "energy_std"]
        super().__init__(**parameters)

    def todict(self, skip_default=True) -> dict:
        """What ASE's databases keep of a calculator."""
        return {"type_map": list(self.potential.type_map), "skin": self.verlet.skin}

    def calculate(self, atoms=None, properties=("energy",), system_changes=ase_calculator.all_changes):
        """Compute all properties: the forces cost little more than the energy, the stress nothing more."""
        super().calculate(atoms, properties, system_changes)
        frame = frame_of(self.atoms, self.potential.type_map)
        environment = self.potential.environment([frame], [self.verlet.pairs(frame)])
        if self.uncertainty is None:
            result, std = self.potential.evaluate(frame, environment), None
        else:
            result, std = self.uncertainty.predict(frame, environment)
        energy, forces, virial, atomic_energies = result
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": forces,
            "energies": atomic_energies,
        }
        if std is not None:
            self.results |= {"forces_std": std.forces, "energy_std": std.energy}
        stress = stress_of(self.atoms, virial)
        if stress is not None:
            self.results["stress"] = stress


def _known(uncertainty, potential: Potential):
    UncertainPotential = load(UNCERTAINTY)

    if isinstance(uncertainty, (str, os.PathLike)):
        return UncertainPotential.from_checkpoint(uncertainty, potential)
    if not isinstance(uncertainty, UncertainPotential):
        raise InputError(
            f"uncertainty is a {type(uncertainty).__name__}; expected a checkpoint, or an UncertainPotential"
        )
    return UncertainPotential(potential, uncertainty.filter, uncertainty.calibration)


def stress_of(atoms, virial) -> np.ndarray | None:
    """σ = −W/V in Voigt's order, where atoms are periodic and the cell has a volume; else None."""
    volume = abs(atoms.cell.volume)
    if not (any(atoms.pbc) and volume > 0.0):
        return None
    # the antisymmetric part of a virial is rounding
    stress = -0.5 * (virial + virial.T) / volume
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def frame_of(atoms, type_map) -> Frame:
    """The atoms without labels, in the types of a model; quicker than `Frame.from_ase`.

    Raises
    ------
    InputError
        For an element that is not in ``type_map``.
    """
    numbers, species_i = np.unique(atoms.numbers, return_inverse=True)
    species = [chemical_symbols[z] for z in numbers]
    unknown = sorted(set(species) - set(type_map))
    if unknown:
        raise InputError(f"Atoms: species {', '.join(unknown)} is not in the type_map {list(type_map)}")
    types = np.array([type_map.index(s) for s in species], dtype=np.int32)[species_i]
    return Frame(
        atoms.positions.copy(), types, type_map, atoms.cell.array.copy(), tuple(atoms.pbc), source="Atoms"
    )  # fmt: skip


if NAME not in ase_calculator.external_calculators:
    ase_calculator.register_calculator_class(NAME, KalmanDP)
