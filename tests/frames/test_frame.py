"""What a Frame accepts, what it makes of it, and what it says about the rest."""

from __future__ import annotations

import numpy as np
import pytest

from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame, complete_cell, full_stress

WATER = {
    "positions": np.array([[0.0, 0, 0], [0, 0, 1], [0, 1, 0]]),
    "types": [0, 1, 1],
    "type_map": ("O", "H"),
    "cell": np.eye(3) * 10.0,
}


def test_values_are_float64_and_int32():
    frame = Frame(
        **{**WATER, "positions": WATER["positions"].astype(np.float32)},
        energy=np.float32(1.5),
        forces=np.zeros((3, 3), dtype=int),
    )
    assert frame.positions.dtype == frame.forces.dtype == np.float64
    assert frame.types.dtype == np.int32
    assert type(frame.energy) is float
    assert frame.symbols == ["O", "H", "H"]
    assert frame.volume == pytest.approx(1000.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": np.zeros((2, 3))}, r"positions has shape \(2, 3\); expected \(3, 3\)"),
        ({"positions": "abc"}, "positions is of type <U3; expected real numbers"),
        ({"positions": [[1, 2], [3]]}, "positions is not an array"),
        ({"positions": np.full((3, 3), 1j)}, "positions is of type complex128"),
        ({"positions": np.full((3, 3), 1e300)}, r"positions reach 1e\+300 Å"),
        ({"forces": np.diag([0, 0, -1e30])}, r"forces reach 1e\+30 eV/Å; expected at most 1e\+06 eV/Å"),
        ({"energy": 1e30}, r"energy reaches 1e\+30 eV; expected at most 1e\+12 eV"),
        ({"types": [0, 1, 2]}, "types run from 0 to 2; expected 0 to 1"),
        ({"types": [0, 1, -1]}, "types run from -1 to 1"),
        ({"types": [0, 0.5, 1]}, "types are not all integers"),
        ({"types": [[0, 1, 1]]}, r"types has shape \(1, 3\); expected \('n_atoms',\)"),
        ({"type_map": ("H", "H")}, "expected every name once"),
        ({"type_map": "OH"}, "type_map is 'OH'; expected a list of names"),
        ({"energy": np.nan}, "energy is nan; expected a finite number"),
        ({"energy": [1.0, 2.0]}, r"energy has shape \(2,\); expected \(\)"),
        ({"forces": np.zeros((3, 2))}, r"forces has shape \(3, 2\); expected \(3, 3\)"),
        ({"virial": np.zeros(9)}, r"virial has shape \(9,\); expected \(3, 3\)"),
        ({"atomic_energies": np.zeros(2)}, r"atomic_energies has shape \(2,\); expected \(3,\)"),
        ({"cell": np.zeros((3, 3))}, "the cell has volume 0 Å³"),
        ({"cell": [[1, 0, 0], [0, 1, 0], [1, 1, 1e-12]]}, "the cell has volume 1e-12 Å³"),
        ({"cell": np.eye(2)}, r"cell has shape \(2, 2\)"),
        ({"pbc": (True, False)}, r"pbc is \(True, False\); expected three booleans"),
        ({"pbc": "TTF"}, "pbc is 'TTF'"),
    ],
)
def test_refusals_name_what_was_got(change, message):
    with pytest.raises(InputError, match=f"^here: .*{message}"):
        Frame(**{**WATER, **change}, source="here")


def test_not_finite_label_is_named_with_its_place():
    forces = np.zeros((3, 3))
    forces[1, 2] = np.inf
    with pytest.raises(InputError, match=r"frame 7: forces\[1, 2\] is inf"):
        Frame(**WATER, forces=forces, source="x.h5 frame 7")


def test_open_system_has_no_cell():
    for values in ({**WATER, "pbc": False}, {**WATER, "cell": None}):
        frame = Frame(**values)
        assert frame.cell is None
        assert frame.pbc == (False, False, False)
        assert frame.volume == 0.0


@pytest.mark.parametrize("missing", [[2], [0], [0, 1], [1, 2]])
def test_vectors_of_zero_are_completed(missing):
    cell = np.array([[4.0, 0.3, 0.1], [-2.0, 3.5, 0.4], [0.3, -0.2, 9.0]])
    cell[missing] = 0.0
    pbc = np.ones(3, dtype=bool)
    pbc[missing] = False
    full = complete_cell(cell, pbc)
    kept = [d for d in range(3) if d not in missing]
    np.testing.assert_array_equal(full[kept], cell[kept])
    # unit vectors, normal to the kept ones and to each other, to rounding
    np.testing.assert_allclose(full[missing] @ full[kept].T, 0.0, atol=1e-14)
    np.testing.assert_allclose(full[missing] @ full[missing].T, np.eye(len(missing)), atol=1e-14)
    assert np.linalg.det(full) > 0
    assert Frame(**{**WATER, "cell": cell, "pbc": pbc}).volume > 0


def test_periodic_vector_of_zero_is_refused():
    with pytest.raises(InputError, match="volume 0"):
        Frame(**{**WATER, "cell": np.diag([5.0, 5.0, 0.0]), "pbc": (True, False, True)})


def test_renumbering():
    frame = Frame(**WATER, energy=-3.0)
    other = frame.with_type_map(["C", "H", "O"])
    assert other.types.tolist() == [2, 1, 1]
    assert other.symbols == frame.symbols
    assert other.energy == -3.0
    with pytest.raises(InputError, match=r"species O is not in the type_map \['H', 'C'\]"):
        frame.with_type_map(["H", "C"])


def test_stress_from_six_and_nine_numbers():
    six = np.arange(1.0, 7.0)
    full = full_stress(six, "x")
    assert full.tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]
    np.testing.assert_array_equal(full_stress(full.ravel(), "x"), full)
    with pytest.raises(InputError, match=r"stress has shape \(5,\)"):
        full_stress(np.zeros(5), "x")


# --- ASE ------------------------------------------------------------------------------------------


def ase_water(**changes):
    ase = pytest.importorskip("ase")
    return ase.Atoms("OHH", positions=WATER["positions"], **{"cell": [9, 9, 9], "pbc": 1, **changes})


def with_results(atoms, **results):
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def test_ase_stress_is_minus_virial_over_volume():
    pytest.importorskip("ase")
    from ase.build import bulk
    from ase.calculators.emt import EMT

    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    stress = atoms.get_stress(voigt=False)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    frame = Frame.from_ase(atoms)
    # the same numbers, multiplied by the volume once
    np.testing.assert_allclose(frame.virial, -stress * atoms.get_volume(), rtol=1e-14)
    np.testing.assert_array_equal(frame.forces, forces)
    assert frame.energy == energy
    # and the sign is that of W = −dE/dε: compare with a strain of 1e-5 (error about 1e-9 of |W|)
    strain = 1e-5
    sides = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell * (1 + sign * strain), scale_atoms=True)
        strained.calc = EMT()
        sides.append(strained.get_potential_energy())
    slope = (sides[0] - sides[1]) / (2 * strain)
    np.testing.assert_allclose(np.trace(frame.virial), -slope, rtol=1e-6)


def test_ase_results_of_other_positions_are_not_labels():
    atoms = with_results(ase_water(), energy=-1.0, forces=np.ones((3, 3)))
    assert Frame.from_ase(atoms).energy == -1.0
    atoms.positions[0, 0] += 0.1
    frame = Frame.from_ase(atoms)
    assert frame.energy is None
    assert frame.forces is None


def test_ase_energy_is_the_one_the_forces_belong_to():
    atoms = with_results(ase_water(), energy=-1.0, free_energy=-1.1)
    assert Frame.from_ase(atoms).energy == -1.1


def test_ase_slab_without_third_vector():
    atoms = with_results(ase_water(cell=[9, 9, 0], pbc=(1, 1, 0)), energy=-1.0)
    frame = Frame.from_ase(atoms)
    assert frame.pbc == (True, True, False)
    assert frame.volume == pytest.approx(81.0)
    atoms = with_results(ase_water(cell=[9, 9, 0], pbc=(1, 1, 0)), energy=-1.0, stress=np.ones(6))
    with pytest.raises(InputError, match="the cell has no volume"):
        Frame.from_ase(atoms)


def test_ase_labels_in_info():
    atoms = ase_water()
    atoms.info.update(energy=-2.0, virial=np.arange(9.0))
    atoms.arrays["forces"] = np.ones((3, 3))
    frame = Frame.from_ase(atoms, type_map=["H", "O"])
    assert frame.energy == -2.0
    assert frame.virial.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert frame.types.tolist() == [1, 0, 0]
    with pytest.raises(InputError, match="species O is not in the type_map"):
        Frame.from_ase(atoms, type_map=["H"])
