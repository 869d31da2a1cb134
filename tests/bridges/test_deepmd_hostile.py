"""Damaged and hostile model files: an error that names the file, in bounded memory and time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
from deepmd_models import FOLDER, load_reference

from kalmandp.bridges.deepmd.files import from_tree, read_deepmd, write_deepmd
from kalmandp.errors import FileError, InputError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

FILES = ("from_pytorch.dp", "from_tensorflow.dp", "from_pytorch.yaml")


def assert_refused(path, error=(FileError, InputError)):
    with pytest.raises(error) as caught:
        read_deepmd(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name", FILES)
def test_truncated(tmp_path, name):
    data = (FOLDER / name).read_bytes()
    # in YAML the model is followed by keys that may be missing: version, time, …
    needed = len(data) if name.endswith(".dp") else data.index(b"\nmodel_def_script")
    path = tmp_path / name
    for length in np.linspace(0, needed - 10, 60).astype(int):
        path.write_bytes(data[:length])
        assert_refused(path)


@pytest.mark.parametrize("name", FILES)
def test_random_bytes_inside(tmp_path, name):
    """A damaged file is refused, or read if nothing that counts was hit; never another error.

    Tens of thousands were tried by hand; this many stay in the suite.
    """
    data = (FOLDER / name).read_bytes()
    path, rng = tmp_path / name, np.random.default_rng(7)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        start, length = rng.integers(len(data)), rng.integers(1, 64)
        piece = rng.bytes(int(length)) if rng.random() < 0.7 else bytes(int(length))
        damaged[start : start + length] = piece
        path.write_bytes(damaged)
        try:
            read_deepmd(path)
        except (FileError, InputError) as error:
            assert str(error).startswith(str(path))
            refused += 1
    assert refused > 50  # the damage is real


@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
@pytest.mark.parametrize("size", [0, 1, 8, 4096])
def test_noise(tmp_path, suffix, size):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(np.random.default_rng(size).bytes(size))
    assert_refused(path, FileError)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + path.read_bytes())
    assert_refused(path, FileError)


def test_missing_and_folder(tmp_path):
    assert_refused(tmp_path / "nowhere.dp", FileError)
    (tmp_path / "folder.dp").mkdir()
    assert_refused(tmp_path / "folder.dp", FileError)


# --- HDF5 that is well formed and wrong -----------------------------------------------------------


@pytest.fixture
def model(tmp_path):
    """A copy of a real file, and a function to change it with h5py."""
    path = tmp_path / "model.dp"
    shutil.copy(FOLDER / "from_pytorch.dp", path)

    @contextlib.contextmanager
    def changed():
        with h5py.File(path, "r+") as file:
            yield file

    return path, changed


@pytest.mark.parametrize(
    "data_set",
    [
        dict(shape=(1 << 20, 1 << 20), dtype="f8"),
        dict(shape=(1 << 40,), chunks=(1 << 16,), dtype="f8", compression=9),
        dict(shape=(1 << 62,), chunks=(1 << 16,), dtype="f8"),
        dict(data="a text"),
        dict(data=np.zeros((3, 3))),
        dict(data=np.zeros((1, 2), int)),
        dict(data=np.zeros((1, 2), np.float16)),
        dict(data=np.zeros((1, 2), complex)),
        dict(data=np.full((1, 2), np.nan)),
        dict(data=h5py.Empty("f8")),
        dict(shape=(1, 2), dtype="f8", external=[("elsewhere", 0, 16)]),
    ],
    ids=lambda d: "-".join(f"{k}" for k in d),
)
def test_wrong_data_set(model, data_set):
    path, changed = model
    with changed() as file:
        del file["variable_0002"]
        file.create_dataset("variable_0002", **data_set)
    assert_refused(path)


@pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "/x"), h5py.SoftLink("/variable_0003"), None])
def test_links_out_of_the_file(model, link):
    path, changed = model
    with changed() as file:
        del file["variable_0002"]
        if link is not None:
            file["variable_0002"] = link
    assert_refused(path, FileError)


def test_virtual_data_set(model):
    path, changed = model
    layout = h5py.VirtualLayout((1, 2), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (1, 2))
    with changed() as file:
        del file["variable_0002"]
        file.create_virtual_dataset("variable_0002", layout)
    assert_refused(path, FileError)


def test_attribute_missing_or_of_another_kind(model):
    path, changed = model
    for value in (None, 3, np.zeros(4), "no tree", "{}", '{"model": '):
        with changed() as file:
            del file.attrs["json"]
            if value is not None:
                file.attrs["json"] = value
        assert_refused(path, FileError)
        shutil.copy(FOLDER / "from_pytorch.dp", path)


def edit_tree(changed, edit):
    with changed() as file:
        tree = json.loads(file.attrs["json"])
        edit(tree)
        del file.attrs["json"]
        file.attrs["json"] = json.dumps(tree)


def test_rewritten_attribute_counts(model):
    """h5py leaves the old text in the file; the one the attribute names must be taken."""
    path, changed = model
    edit_tree(changed, lambda tree: tree["model_def_script"].update(seed=4711))
    assert read_deepmd(path).info["model_def_script"]["seed"] == 4711


def test_attribute_of_fixed_length(model):
    path, changed = model
    with changed() as file:
        text = file.attrs["json"].replace('"seed":', '"seed": ').encode()
        del file.attrs["json"]
        file.attrs.create("json", text, dtype=f"S{len(text)}")
    assert read_deepmd(path).type_map == ("O", "H")


def test_compressed_arrays_are_read(model):
    path, changed = model
    expected = read_deepmd(path).weights
    with changed() as file:
        value = file["variable_0002"][()]
        del file["variable_0002"]
        file.create_dataset("variable_0002", data=value, compression=9, chunks=(1, 1))
    np.testing.assert_array_equal(read_deepmd(path).weights, expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("neuron", [10**9, 10**9]),
        ("neuron", [10**30]),
        ("neuron", []),
        ("neuron", "many"),
        ("rcut", float("nan")),
        ("rcut", 10**400),
        ("rcut", True),
        ("rcut_smth", 100.0),
        ("sel", [10**30, 1]),
        ("sel", [1.5, 2]),
        ("axis_neuron", 1000),
        ("type_one_side", "yes"),
        ("exclude_types", [[0, 10**30]]),
        ("exclude_types", [[0]]),
        ("activation_function", "silut:-1e9"),
        ("activation_function", None),
        ("embeddings", None),
        ("@variables", []),
        ("@class", "Model"),
    ],
)
def test_wrong_values_in_the_tree(model, key, value):
    path, changed = model
    edit_tree(changed, lambda tree: tree["model"]["descriptor"].update({key: value}))
    assert_refused(path)


def test_a_million_types(model):
    """Nothing is laid out for the nets a tree claims before they are counted."""
    path, changed = model

    def edit(tree):
        names = [str(n) for n in range(20_000)]
        for node in (tree["model"], tree["model"]["descriptor"], tree["model"]["fitting"]):
            node["type_map"] = names
        tree["model"]["descriptor"] |= {"sel": [1] * 20_000, "type_one_side": False}

    edit_tree(changed, edit)
    assert_refused(path, FileError)


def test_deeply_nested_text(model):
    path, changed = model
    with changed() as file:
        del file.attrs["json"]
        file.attrs["json"] = '{"model": ' + "[" * 100_000 + "]" * 100_000 + "}"
    assert_refused(path, FileError)


# --- YAML -----------------------------------------------------------------------------------------

_GROW = "".join(f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi"))  # noqa: B905
HOSTILE_YAML = {
    "code": "model: !!python/object/apply:os.system ['true']",
    "object": "model: !!python/object:os.PathLike {}",
    "deep": "model: " + "[" * 100_000,
    "deep_mapping": "model: " + "{a: " * 3000 + "1" + "}" * 3000,
    "growing": "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + _GROW + "model: *i",
    "growing_array": "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    + _GROW
    + "model: {'@class': np.ndarray, dtype: float64, value: *i}",
    "round": "&a {model: *a}",
    "round_array": "model: {'@class': np.ndarray, dtype: float64, value: &a [*a]}",
    "list": "[1, 2]",
    "empty": "",
    "timestamp": "model: 2001-01-01",
    "wrong_dtype": "model: {'@class': np.ndarray, dtype: O, value: 1}",
    "huge_dtype": "model: {'@class': np.ndarray, dtype: '(9999,9999)f8', value: 1}",
    "ragged": "model: {'@class': np.ndarray, dtype: float64, value: [[1], [1, 2]]}",
    "big_number": "model: " + "9" * 10_000,
    "beyond_floats": "model: {'@class': np.ndarray, dtype: float64, value: [1" + "0" * 400 + "]}",
    "list_as_key": "? [1, 2]\n: 3",
}


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_hostile_yaml(tmp_path, name):
    path = tmp_path / "model.yaml"
    path.write_text(HOSTILE_YAML[name])
    assert_refused(path, FileError)


def test_yaml_beyond_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("kalmandp.bridges.deepmd.codec.YAML_LIMIT", 1000)
    path = shutil.copy(FOLDER / "from_pytorch.yaml", tmp_path)
    with pytest.raises(FileError, match=r"expected at most 1000 of YAML.*\.dp"):
        read_deepmd(path)


# --- writing --------------------------------------------------------------------------------------


def test_what_was_there_stays_if_writing_fails(tmp_path):
    potential = from_tree(load_reference("two_sided").tree)
    with pytest.raises(FileError, match=r"nowhere.model\.dp: there is no folder"):
        write_deepmd(potential, tmp_path / "nowhere" / "model.dp")
    (tmp_path / "folder.dp").mkdir()
    with pytest.raises(FileError, match=r"folder\.dp: is not a regular file"):
        write_deepmd(potential, tmp_path / "folder.dp")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.dp"]


@pytest.mark.skipif(os.name != "posix", reason="limits a file's size, which POSIX systems can")
def test_full_disk(tmp_path):
    """A limit of 10 kB on files stands for a full disk: old file intact, nothing left beside it."""
    path = tmp_path / "model.dp"
    path.write_bytes(b"the old file")
    code = f"""
        import resource, sys, warnings
        sys.path.insert(0, {str(FOLDER)!r})
        from deepmd_models import load_reference
        from kalmandp.bridges.deepmd.files import from_tree, write_deepmd
        from kalmandp.errors import FileError
        potential = from_tree(load_reference("two_sided").tree)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            write_deepmd(potential, {str(path)!r})
        except FileError as error:
            print(error)
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=env
    )
    assert "model.dp: cannot be written (File too large)" in run.stdout, run.stderr
    assert path.read_bytes() == b"the old file"
    assert [p.name for p in tmp_path.iterdir()] == ["model.dp"]
