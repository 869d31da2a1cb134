"""The thirteen systems of the RLEKF paper's Table 1, as `make_thirteen.py` samples them.

The paper gives a name, a structure, the number of snapshots and the time between them; cells,
compositions and lattice constants are our choice, written out in ``cell``. Lattice constants are
those of experiment at room temperature. Lengths in Angstrom, times in fs.

S. Hu et al., "RLEKF: An Optimizer for Deep Potential with Ab Initio Accuracy", AAAI 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

#: Rows: vectors of the body-centred supercell, half of the doubled cube, whose shortest period is
#: √3 a: nearer to a sphere than any other cell with as few atoms.
HALF_OF_DOUBLED_CUBE = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))


@dataclass(frozen=True)
class System:
    """One row of Table 1 and how it is sampled here.

    Attributes
    ----------
    name : of the files, ``NAME_train.h5`` and ``NAME_test.h5``
    structure : as the paper has it
    paper_snapshots, paper_time_step : number of snapshots; fs between them, as printed there
    type_map : elements in the order of their types
    cell : in words, what is computed here
    build : generator -> the initial cells, one for each trajectory
    time_step : fs, of the integrator
    equilibration : steps before the first snapshot
    stride : steps from one snapshot to the next
    snapshots : per trajectory
    start : K, of the first velocities; twice the temperature where the atoms start in a minimum of
        the energy, because half of it goes into the potential energy
    """

    name: str
    structure: str
    paper_snapshots: int
    paper_time_step: str
    type_map: tuple[str, ...]
    cell: str
    build: Callable[[np.random.Generator], list[Atoms]]
    time_step: float
    equilibration: int
    stride: int
    snapshots: int
    start: float = 600.0

    @property
    def steps(self) -> int:
        """Steps of one trajectory, the last of which is its last snapshot."""
        return self.equilibration + self.stride * (self.snapshots - 1)

    @property
    def plan(self) -> str:
        """What fixes a trajectory, in words: one made by another plan is not continued."""
        return (
            f"{self.cell}; {self.time_step:g} fs, {self.equilibration} steps, then "
            f"{self.snapshots} snapshots every {self.stride}; started at {self.start:g} K"
        )

    @property
    def train(self) -> int:
        """How many of a trajectory's snapshots, the former 80 %, are for training."""
        return round(0.8 * self.snapshots)


# ---------------------------------------------------------------- cells
def primitive(symbol: str, lattice: str, a: float, repeat=(3, 3, 3), **more):
    """A function that repeats the primitive cell, or the cubic one."""

    def build(_rng):
        from ase.build import bulk

        return [bulk(symbol, lattice, a, **more) * repeat]

    return build


def body_centred(symbol: str, lattice: str, a: float):
    """A function that gives half of the doubled cube: 32 atoms of diamond or rocksalt."""

    def build(_rng):
        from ase.build import bulk, make_supercell

        return [make_supercell(bulk(symbol, lattice, a, cubic=True), HALF_OF_DOUBLED_CUBE)]

    return build


def graphene(_rng) -> list[Atoms]:
    """A flat sheet, 4 x 4 primitive cells, 12 Å of vacuum."""
    from ase.build import graphene as sheet

    atoms = sheet("C2", a=2.46, size=(4, 4, 1), vacuum=6.0)
    atoms.pbc = True
    return [atoms]


def lithium(_rng) -> list[Atoms]:
    """BCC (experiment), FCC and HCP at the same volume per atom, c/a ideal."""
    from ase.build import bulk

    a = 3.51
    volume = a**3 / 2
    fcc = (4 * volume) ** (1 / 3)
    hcp = fcc / np.sqrt(2)
    return [
        bulk("Li", "bcc", a) * (3, 3, 3),
        bulk("Li", "fcc", fcc) * (3, 3, 3),
        bulk("Li", "hcp", hcp, c=hcp * np.sqrt(8 / 3)) * (3, 3, 2),
    ]


def alloy(rng: np.random.Generator) -> list[Atoms]:
    """Mg7 Al18 Cu7 on the sites of 2 x 2 x 2 cubic FCC cells, drawn without replacement.

    Its lattice constant is that of the mean atomic volume (Zen): 23.24 Å³ of Mg, 16.61 of Al,
    11.81 of Cu.
    """
    from ase.build import bulk

    numbers = np.repeat([12, 13, 29], [7, 18, 7])
    a = (4 * np.repeat([23.24, 16.61, 11.81], [7, 18, 7]).mean()) ** (1 / 3)
    atoms = bulk("Al", "fcc", a, cubic=True) * (2, 2, 2)
    atoms.numbers = rng.permutation(numbers)
    return [atoms]


def water(rng: np.random.Generator) -> list[Atoms]:
    """16 molecules at 0.997 g/cm³, mixed at 300 K by Metropolis moves of rigid TIP3P molecules.

    Minimum images, no Ewald sum: this only makes a liquid to start from; no label depends on it.
    W. L. Jorgensen et al., J. Chem. Phys. 79, 926 (1983).
    """
    from ase import Atoms
    from scipy.spatial.transform import Rotation

    n = 16
    side = (n * 18.015 / (0.997 * 0.602214076)) ** (1 / 3)
    half = np.deg2rad(104.52) / 2
    hydrogen = 0.9572 * np.array([np.sin(half), 0, np.cos(half)])
    one_ac = np.array([np.zeros(3), hydrogen, hydrogen * (-1, 1, 1)])
    charge_a = np.array([-0.834, 0.417, 0.417])

    def energy(one_ac, others_mac):  # eV, of one molecule with the others
        d_mabc = others_mac[:, :, None, :] - one_ac
        d_mabc -= side * np.rint(d_mabc / side)
        r_mab = np.sqrt((d_mabc**2).sum(-1))
        s6_m = (3.1506 / r_mab[:, 0, 0]) ** 6
        coulomb = 14.399645 * (charge_a[:, None] * charge_a / r_mab).sum()
        return coulomb + 4 * 0.0065972 * (s6_m**2 - s6_m).sum()

    grid = np.array([(x, y, z) for x in range(3) for y in range(3) for z in range(2)])[:n]
    pos_mac = np.stack([Rotation.random(rng=rng).apply(one_ac) for _ in range(n)])
    pos_mac += (grid * side / (3, 3, 2))[:, None, :]
    for _ in range(2000 * n):
        m = rng.integers(n)
        turn = Rotation.from_rotvec(rng.normal(scale=0.25, size=3))
        centre = pos_mac[m, 0] + rng.normal(scale=0.15, size=3)
        moved = turn.apply(pos_mac[m] - pos_mac[m, 0]) + centre
        others = np.delete(pos_mac, m, axis=0)
        rise = energy(moved, others) - energy(pos_mac[m], others)
        if rng.random() < np.exp(-max(rise, 0.0) / (8.617333262e-5 * 300)):
            pos_mac[m] = moved
    return [Atoms("OHH" * n, pos_mac.reshape(-1, 3), cell=[side] * 3, pbc=True)]


def sulphur(_rng) -> list[Atoms]:
    """The primitive cell of alpha-S8, four rings.

    S. J. Rettig, J. Trotter, Acta Cryst. C 43, 2260 (1987).
    """
    from ase.spacegroup import crystal

    sites = [
        (0.14415, 0.04732, 0.04860),
        (0.29277, 0.22690, 0.25406),
        (0.21598, 0.28022, 0.32618),
        (0.21405, 0.15761, 0.37947),
    ]
    cell = [10.4646, 12.8660, 24.4860, 90, 90, 90]
    found = crystal("SSSS", sites, spacegroup=70, setting=2, cellpar=cell, primitive_cell=True)
    return [found]


def carbon_on_copper(_rng) -> list[Atoms]:
    """Cu(111), three layers of 3 x 3, three C atoms 1.0 Å above hollow sites, 12 Å of vacuum."""
    from ase.build import add_adsorbate, fcc111

    atoms = fcc111("Cu", (3, 3, 3), a=3.615, vacuum=6.0)
    for offset in ((0, 0), (1, 1), (2, 2)):
        add_adsorbate(atoms, "C", height=1.0, position="fcc", offset=offset)
    atoms.pbc = True
    return [atoms]


# ---------------------------------------------------------------- Table 1, in its order
SYSTEMS: tuple[System, ...] = (
    System("Cu", "FCC", 1646, "1", ("Cu",),
           "27 atoms, 3 x 3 x 3 primitive FCC cells, a = 3.615 Å",
           primitive("Cu", "fcc", 3.615), 5.0, 30, 1, 90),
    System("Si", "DC", 3000, "2.5-3.5", ("Si",),
           "32 atoms of diamond, cell vectors a(-1, 1, 1) and permutations, a = 5.431 Å",
           body_centred("Si", "diamond", 5.431), 4.0, 30, 1, 80),
    System("C", "Graphene", 4000, "2-3.5", ("C",),
           "32 atoms, 4 x 4 primitive cells, a = 2.46 Å, 12 Å of vacuum",
           graphene, 1.0, 150, 3, 120),
    System("Ag", "FCC", 2015, "2.5-3", ("Ag",),
           "27 atoms, 3 x 3 x 3 primitive FCC cells, a = 4.085 Å",
           primitive("Ag", "fcc", 4.085), 5.0, 25, 1, 80),
    System("Mg", "HCP", 4000, "0.5-2", ("Mg",),
           "36 atoms, 3 x 3 x 2 primitive HCP cells, a = 3.209 Å, c = 5.211 Å",
           primitive("Mg", "hcp", 3.209, (3, 3, 2), c=5.211), 4.0, 25, 1, 80),
    System("NaCl", "FCC", 3193, "2-3.5", ("Na", "Cl"),
           "32 atoms of rocksalt, cell vectors a(-1, 1, 1) and permutations, a = 5.640 Å",
           body_centred("NaCl", "rocksalt", 5.640), 4.0, 30, 1, 100),
    System("Li", "BCC,FCC,HCP", 2494, "0.5", ("Li",),
           "three trajectories of 25 snapshots: BCC (27 atoms, a = 3.51 Å), FCC (27) and HCP (36) "
           "at the same volume per atom",
           lithium, 4.0, 25, 1, 25),
    System("Al", "FCC", 4000, "2-3.5", ("Al",),
           "32 atoms, 2 x 2 x 2 cubic FCC cells, a = 4.050 Å (that of 3 x 3 x 3 primitive cells is "
           "unstable with this method at the Gamma point)",
           primitive("Al", "fcc", 4.050, (2, 2, 2), cubic=True), 4.0, 18, 1, 40),
    System("MgAlCu", "Alloy", 2530, "3", ("Mg", "Al", "Cu"),
           "32 atoms, Mg7 Al18 Cu7 at random on 2 x 2 x 2 cubic FCC cells, a = 4.08 Å by "
           "mean atomic volume",
           alloy, 4.0, 30, 1, 45, start=300.0),
    System("H2O", "Liquid", 4000, "0.5", ("O", "H"),
           "16 molecules at 0.997 g/cm³, started from TIP3P water",
           water, 0.5, 120, 3, 80, start=300.0),
    System("S", "S8", 7000, "3-5", ("S",),
           "32 atoms, the primitive cell of alpha-S8 with four rings (Fddd, "
           "a, b, c = 10.4646, 12.8660, 24.4860 Å)",
           sulphur, 3.0, 30, 1, 70),
    System("CuO", "FCC", 1000, "3", ("Cu", "O"),
           "32 atoms of rocksalt, cell vectors a(-1, 1, 1) and permutations, a = 4.24 Å",
           body_centred("CuO", "rocksalt", 4.24), 3.0, 30, 1, 60),
    System("CuC", "SA", 2000, "3-3.2", ("Cu", "C"),
           "Cu(111), three layers of 3 x 3 (27 Cu) with three C atoms, 12 Å of vacuum",
           carbon_on_copper, 2.0, 50, 1, 80, start=300.0),
)  # fmt: skip

BY_NAME: dict[str, System] = {system.name: system for system in SYSTEMS}
