"""Files in DeePMD-kit's layouts, written here by NumPy and h5py alone, and what is wrong with them."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
from frame_makers import write_system

from kalmandp.errors import FileError, InputError
from kalmandp.frames.dataset import Dataset


def assert_holds(data: Dataset, arrays: dict, start: int = 0) -> None:
    """Frames of ``data`` from ``start`` on have the rows of ``arrays``, exactly."""
    for k, coord in enumerate(arrays["coord"]):
        frame = data[start + k]
        np.testing.assert_array_equal(frame.positions.ravel(), coord)
        np.testing.assert_array_equal(frame.cell.ravel(), arrays["box"][k])
        np.testing.assert_array_equal(frame.forces.ravel(), arrays["force"][k])
        np.testing.assert_array_equal(frame.virial.ravel(), arrays["virial"][k])
        assert frame.energy == arrays["energy"].ravel()[k]


def write_hdf5_system(group, arrays, types=(0, 1, 1), names=(b"O", b"H"), n_sets=1):
    group["type.raw"] = np.array(types)
    group["type_map.raw"] = names if isinstance(names[0], str) else np.array(names)
    for s in range(n_sets):
        for name, values in arrays.items():
            group[f"set.{s:03d}/{name}.npy"] = np.array_split(values, n_sets)[s]


def test_npy_folder_with_several_sets(tmp_path):
    arrays = write_system(tmp_path / "water", sets=(2, 3, 1))
    with Dataset(tmp_path / "water") as data:
        assert len(data) == 6
        assert data.type_map == ("O", "H")
        assert data.labels == ("energy", "forces", "virial")
        assert data.source(5) == f"{tmp_path}/water frame 5"
        assert data[5].symbols == ["O", "H", "H"]
        assert_holds(data, arrays)


def test_more_than_a_thousand_sets_keep_their_order(tmp_path):
    write_system(tmp_path / "water")
    for name in ("set.999", "set.1000"):
        os.makedirs(tmp_path / "water" / name)
        for array, width in (("coord", 9), ("box", 9)):
            values = np.tile(np.eye(3).ravel() * int(name[4:]), (1, width // 9))
            np.save(tmp_path / "water" / name / f"{array}.npy", values)
    with Dataset(tmp_path / "water") as data:
        assert [data[k].cell[0, 0] for k in (2, 3)] == [999.0, 1000.0]
        assert data[2].energy is None
        assert data[0].energy is not None


def test_energy_may_be_a_column(tmp_path):
    arrays = write_system(tmp_path / "a", energy=None)
    np.save(tmp_path / "a" / "set.000" / "energy.npy", arrays["energy"][:, None])
    assert_holds(Dataset(tmp_path / "a"), arrays)


def test_single_precision_integers_and_fortran_order(tmp_path):
    arrays = write_system(tmp_path / "a", coord=None, force=None, energy=None)
    folder = tmp_path / "a" / "set.000"
    np.save(folder / "coord.npy", np.asfortranarray(arrays["coord"]))
    np.save(folder / "force.npy", arrays["force"].astype(">f4").reshape(2, 3, 3))
    np.save(folder / "energy.npy", np.array([3, 4]))
    with Dataset(tmp_path / "a") as data:
        np.testing.assert_array_equal(data[1].positions.ravel(), arrays["coord"][1])
        np.testing.assert_array_equal(data[1].forces.ravel(), arrays["force"][1].astype("f4"))
        assert data[1].energy == 4.0
        assert data[1].forces.dtype == np.float64


def test_folders_are_searched_and_sorted(tmp_path):
    for name in ("b", "a/deep/er", "c"):
        write_system(tmp_path / "all" / name, sets=(1,))
    (tmp_path / "all" / "notes.txt").write_text("not a system")
    os.symlink(tmp_path / "all", tmp_path / "all" / "a" / "loop")
    with Dataset(tmp_path / "all") as data:
        assert [os.path.relpath(s.address, tmp_path / "all") for s in data.systems] == [
            "a/deep/er", "b", "c",
        ]  # fmt: skip


def test_list_of_systems_keeps_its_order_and_joins_the_types(tmp_path):
    write_system(tmp_path / "x", names=("H", "O"), sets=(1,))
    write_system(tmp_path / "y", types=(0, 2), names=("Si", "Ge", "O"), sets=(1,))
    with Dataset([tmp_path / "x", str(tmp_path / "y")]) as data:
        # Ge is named in the file but occurs in no frame
        assert data.type_map == ("H", "O", "Si")
        assert data[1].types.tolist() == [2, 1]
        assert data[1].symbols == ["Si", "O"]
    with Dataset([tmp_path / "x"], type_map=["O", "C", "H"]) as data:
        assert data[0].types.tolist() == [2, 0, 0]
        assert data.type_map == ("O", "C", "H")


def test_hdf5_groups_root_and_addresses(tmp_path):
    arrays = write_system(tmp_path / "npy", sets=(4,))
    with h5py.File(tmp_path / "root.h5", "w") as file:
        write_hdf5_system(file, arrays)
    with h5py.File(tmp_path / "groups.h5", "w") as file:
        write_hdf5_system(file.create_group("b"), arrays, n_sets=3)
        write_hdf5_system(file.create_group("a/nested"), arrays)
        file.create_group("empty")
    assert_holds(Dataset(tmp_path / "root.h5"), arrays)
    with Dataset(tmp_path / "groups.h5") as data:
        assert [s.address for s in data.systems] == [
            f"{tmp_path}/groups.h5#/a/nested", f"{tmp_path}/groups.h5#/b",
        ]  # fmt: skip
        assert_holds(data, arrays)
        assert_holds(data, arrays, start=4)
        assert data.source(7) == f"{tmp_path}/groups.h5#/b frame 3"
    for address in ("b", "/b", "/b/", "/a", "a/nested"):
        assert len(Dataset(f"{tmp_path}/groups.h5#{address}")) == 4
    with pytest.raises(FileError, match="there is no group '/c'"):
        Dataset(f"{tmp_path}/groups.h5#c")


def test_file_name_with_a_hash(tmp_path):
    with h5py.File(tmp_path / "a#b.h5", "w") as file:
        write_hdf5_system(file, write_system(tmp_path / "npy"))
    assert len(Dataset(tmp_path / "a#b.h5")) == 2
    assert len(Dataset(f"{tmp_path}/a#b.h5#/")) == 2


def test_links_that_lead_in_a_circle(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_hdf5_system(file.create_group("b"), write_system(tmp_path / "npy"))
        file["b/again"] = file["/"]
        file["soft"] = h5py.SoftLink("/nowhere")
    assert len(Dataset(tmp_path / "a.h5")) == 2


def test_texts_of_variable_length(tmp_path):
    arrays = write_system(tmp_path / "npy")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_hdf5_system(file, arrays, names=["O", "H"])
        file["set.000/force.npy"].attrs["units"] = "eV/Å"
    assert_holds(Dataset(tmp_path / "a.h5"), arrays)


def test_open_and_partly_periodic_systems(tmp_path):
    write_system(tmp_path / "open", nopbc="")
    write_system(tmp_path / "slab", pbc_raw="1 1 0\n")
    assert Dataset(tmp_path / "open")[0].pbc == (False,) * 3
    assert Dataset(tmp_path / "open")[0].cell is None
    assert Dataset(tmp_path / "slab")[0].pbc == (True, True, False)
    write_system(tmp_path / "boxless", nopbc="", box=None)
    assert Dataset(tmp_path / "boxless")[0].cell is None
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_hdf5_system(file, write_system(tmp_path / "npy"))
        file["nopbc"] = False  # its presence alone counts
    assert Dataset(tmp_path / "a.h5")[0].cell is None


def test_mixed_layout(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "4"
    arrays = write_system(folder, types=(0,) * 4, names=("Si", "O", "H"), sets=(3,), rng=rng)
    real = np.array([[1, 2, 2, -1], [0, 0, 1, 1], [-1, 2, -1, 2]])
    np.save(folder / "set.000" / "real_atom_types.npy", real)
    with Dataset(tmp_path, type_map=["H", "O", "Si"]) as data:
        assert [data.natoms(k) for k in range(3)] == [3, 4, 2]
        assert [data[k].symbols for k in range(3)] == [list("OHH"), ["Si", "Si", "O", "O"], ["H", "H"]]
        assert data.systems[0].formula == "mixed"
        last = data[2]
        np.testing.assert_array_equal(last.positions, arrays["coord"][2].reshape(4, 3)[[1, 3]])
        np.testing.assert_array_equal(last.forces, arrays["force"][2].reshape(4, 3)[[1, 3]])
        assert last.types.tolist() == [0, 0]
    with pytest.raises(InputError, match=r"frame 0: species H is not in the type_map \['O', 'Si'\]"):
        Dataset(tmp_path, type_map=["O", "Si"])[0]
    np.save(folder / "set.000" / "real_atom_types.npy", real + 1)
    with pytest.raises(FileError, match="real_atom_types runs from 0 to 3; expected -1 to 2"):
        Dataset(tmp_path)[0]


def test_atomic_energies_and_what_is_not_read(tmp_path):
    write_system(tmp_path / "a")
    np.save(tmp_path / "a" / "set.000" / "atom_ener.npy", np.arange(6.0).reshape(2, 3))
    np.save(tmp_path / "a" / "set.000" / "fparam.npy", np.zeros((2, 1)))
    with Dataset(tmp_path / "a") as data:
        assert data[1].atomic_energies.tolist() == [3.0, 4.0, 5.0]
        assert data.labels == ("energy", "forces", "virial", "atomic_energies")
        assert data.ignored == ("fparam",)


# --- what is wrong --------------------------------------------------------------------------------


def test_a_missing_type_map_must_be_given(tmp_path):
    write_system(tmp_path / "a", names=None)
    with pytest.raises(InputError, match=r"a: has no type_map.raw; expected it"):
        Dataset(tmp_path / "a")
    assert Dataset(tmp_path / "a", type_map=["H", "O"])[0].symbols == ["H", "O", "O"]
    with pytest.raises(FileError, match=r"type.raw runs from 0 to 1; expected 0 to 0"):
        Dataset(tmp_path / "a", type_map=["H"])


def test_unknown_species_are_named_when_the_data_are_opened(tmp_path):
    write_system(tmp_path / "a")
    with pytest.raises(InputError, match=r"a: species O is not in the type_map \['H'\]"):
        Dataset(tmp_path / "a", type_map=["H"])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"coord": None}, "set.000: coord.npy is missing"),
        ({"box": None}, "set.000: box.npy is missing; expected it, or 'nopbc'"),
        ({"type_raw": "0 1\n1 1\n"}, r"expected \(2, 12\): 2 frames of 4 atoms"),
        ({"type_raw": "0 1 7\n"}, "type.raw runs from 0 to 7; expected 0 to 1"),
        ({"type_raw": "0 -1 1\n"}, "type.raw runs from -1 to 1"),
        ({"type_raw": ""}, "type.raw is empty"),
        ({"type_raw": "O H H"}, "type.raw: cannot be read or is damaged"),
        ({"type_map_raw": "O O"}, "type_map.raw is .* expected every name once"),
        ({"pbc_raw": "1 1"}, r"pbc.raw is \[1, 1\]; expected three numbers 0 or 1"),
    ],
)
def test_incomplete_folders(tmp_path, extra, message):
    write_system(tmp_path / "a", **extra)
    with pytest.raises(FileError, match=message):
        Dataset(tmp_path / "a")


def test_no_sets(tmp_path):
    os.makedirs(tmp_path / "a")
    (tmp_path / "a" / "type.raw").write_text("0")
    (tmp_path / "a" / "type_map.raw").write_text("H")
    with pytest.raises(FileError, match=r"holds no set\.\*"):
        Dataset(tmp_path / "a")


@pytest.mark.parametrize("place", ["npy", "hdf5"])
@pytest.mark.parametrize(
    ("array", "shape", "message"),
    [
        ("force", (2, 8), r"force.npy has shape \(2, 8\); expected \(2, 9\): 2 frames of 3 atoms"),
        ("force", (3, 9), r"force.npy has shape \(3, 9\); expected \(2, 9\)"),
        ("energy", (2, 2), r"energy.npy has shape \(2, 2\); expected \(2, 1\)"),
        ("virial", (2, 6), r"virial.npy has shape \(2, 6\); expected \(2, 9\)"),
        ("box", (1, 9), r"box.npy has shape \(1, 9\); expected \(2, 9\)"),
        ("coord", (18,), r"coord.npy has shape \(18,\); expected \(18, 9\)"),
    ],
)
def test_shapes_that_do_not_fit(tmp_path, place, array, shape, message):
    arrays = write_system(tmp_path / "npy", **{array: None})
    arrays[array] = np.zeros(shape)
    if place == "npy":
        np.save(tmp_path / "npy" / "set.000" / f"{array}.npy", arrays[array])
        path = tmp_path / "npy"
    else:
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            write_hdf5_system(file.create_group("w"), arrays)
        message = "a.h5#/w/set.000/" + message
    with pytest.raises(FileError, match=message):
        Dataset(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_labels_that_are_not_finite(tmp_path, value):
    arrays = write_system(tmp_path / "a", force=None)
    arrays["force"][1, 4] = value
    np.save(tmp_path / "a" / "set.000" / "force.npy", arrays["force"])
    with Dataset(tmp_path / "a") as data:
        data[0]
        with pytest.raises(InputError, match=rf"a frame 1: forces\[1, 1\] is {value}"):
            data[1]


@pytest.mark.parametrize("name", ["length_unit", "energy_unit", "force_unit", "virial_sign"])
def test_other_units_at_the_root(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_hdf5_system(file, write_system(tmp_path / "npy"))
        file.attrs[name] = "Hartree"
    with pytest.raises(InputError, match=f"a.h5: the attribute {name} is 'Hartree'; expected"):
        Dataset(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("array", "units", "fine"),
    [
        ("energy", "eV", True),
        ("energy", "Hartree", False),
        ("force", "eV/Angstrom", True),
        ("force", "ev / Å", True),
        ("force", "Ha/bohr", False),
        ("coord", "Angstroms", True),
        ("coord", "nm", False),
        ("box", "bohr", False),
        ("virial", "kB", False),
    ],
)
def test_units_of_arrays(tmp_path, array, units, fine):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_hdf5_system(file, write_system(tmp_path / "npy"))
        file[f"set.000/{array}.npy"].attrs["units"] = units
    if fine:
        assert len(Dataset(tmp_path / "a.h5")) == 2
    else:
        with pytest.raises(InputError, match=rf"{array}.npy: the attribute units is '{units}'"):
            Dataset(tmp_path / "a.h5")
