"""Model files of DeePMD-kit: what it wrote is read, what we write reads back bit for bit."""

from __future__ import annotations

import json
import sys
import warnings

import h5py
import numpy as np
import pytest
from deepmd_models import FOLDER, load_reference, reference_names
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kalmandp.bridges.deepmd.files import disagreements, from_tree, read_deepmd, to_tree, write_deepmd
from kalmandp.errors import InputError, MissingPackage
from kalmandp.potentials.activations import NAMES as ACTIVATIONS
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.initial import initial_weights
from kalmandp.potentials.potential import Potential

#: file that DeePMD-kit wrote → the stored model it holds, and the version that wrote it
WRITTEN_BY_DEEPMD = {
    "from_pytorch.dp": ("first_layer_skips", "3.2.0", "PyTorch"),
    "from_tensorflow.dp": ("two_sided", "3.2.0", "TensorFlow"),
    "from_pytorch.yaml": ("smallest", "3.2.0", "PyTorch"),
    "from_3_0_pytorch.dp": ("two_sided_idt", "3.0.0", "PyTorch"),
}

SUFFIXES = (".dp", ".yaml", ".yml")


def assert_same(one: Potential, other: Potential):
    """Same architecture and the same bits; a file has the two biases as their sum."""
    assert one.form == other.form
    assert_array_equal(one.weights, other.weights)
    for name in ("davg", "dstd"):
        assert_array_equal(one.statistics[name], other.statistics[name], err_msg=name)
    assert_array_equal(one.bias_atom_e + one.out_bias, other.bias_atom_e + other.out_bias)


def random_potential(rng, **choices) -> Potential:
    settings = dict(type_map=["O", "H"], rcut=4.0, rcut_smth=1.0, sel=[7, 9], embedding=[3, 6])
    settings |= dict(axis_neuron=2, fitting=[4, 4], type_one_side=True, fitting_resnet_dt=False)
    a = Architecture(**(settings | choices))
    return Potential(
        a,
        initial_weights(a.layout(), rng),
        davg=rng.normal(size=(a.n_types, 4)),
        dstd=rng.uniform(0.1, 1.0, (a.n_types, 4)),
        bias_atom_e=rng.normal(size=a.n_types),
        out_bias=rng.normal(size=a.n_types),
    )


# --- reading what DeePMD-kit wrote ----------------------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN_BY_DEEPMD)
@pytest.mark.filterwarnings("ignore:.*skip connection")
def test_reads_files_of_deepmd_kit(name):
    model, version, backend = WRITTEN_BY_DEEPMD[name]
    potential = read_deepmd(FOLDER / name)
    tree = load_reference(model).tree
    if backend == "TensorFlow":  # DeePMD-kit 3.2 loses out_bias on the way from .pb to .dp
        tree["model"]["@variables"]["out_bias"][:] = 0.0
    assert_same(potential, from_tree(tree))
    assert potential.info["min_nbor_dist"] == 0.875
    origin = potential.info["origin"]
    assert (origin["software"], origin["version"]) == ("deepmd-kit", version)
    assert origin["backend"] == backend
    assert potential.info["model_def_script"]["type_map"] == list(potential.type_map)


def test_single_precision_is_read_as_double():
    tree = load_reference("two_sided").tree
    part = tree["model"]["descriptor"]
    part["precision"] = "float32"
    variables = part["embeddings"]["networks"][0]["layers"][0]["@variables"]
    variables["w"] = variables["w"].astype(np.float32)
    potential = from_tree(tree)
    read = potential.layout.view(potential.weights, "embedding.0.layer.0.W")
    assert read.dtype == np.float64
    assert_array_equal(read, variables["w"])


# --- writing and reading back ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", reference_names())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_round_trip(tmp_path, name, suffix):
    potential = from_tree(load_reference(name).tree)
    write_deepmd(potential, tmp_path / f"model{suffix}")
    assert_same(read_deepmd(tmp_path / f"model{suffix}"), potential)
    assert [p.name for p in tmp_path.iterdir()] == [f"model{suffix}"]


@st.composite
def choices(draw):
    widths = st.lists(st.integers(1, 5), min_size=1, max_size=3)
    n_types = draw(st.integers(1, 3))
    embedding = draw(widths)
    phi = st.sampled_from([*ACTIVATIONS, "silut:1.5", "custom_silu:-0.25"])
    pairs = st.lists(st.tuples(*[st.integers(0, n_types - 1)] * 2), max_size=2)
    return dict(
        type_map=[f"X{t}" for t in range(n_types)],
        rcut=draw(st.floats(2.0, 9.0)),
        rcut_smth=draw(st.floats(0.0, 1.9)),
        sel=[draw(st.integers(0, 6)) + 1 for _ in range(n_types)],
        embedding=embedding,
        axis_neuron=draw(st.integers(1, embedding[-1])),
        fitting=draw(st.lists(st.integers(1, 5), max_size=3)),
        type_one_side=draw(st.booleans()),
        embedding_resnet_dt=draw(st.booleans()),
        fitting_resnet_dt=draw(st.booleans()),
        embedding_activation=draw(phi),
        fitting_activation=draw(phi),
        exclude_types=draw(pairs),
    )


@settings(max_examples=40, deadline=None)
@given(chosen=choices(), seed=st.integers(0, 2**32 - 1))
def test_any_potential_survives_the_tree(chosen, seed):
    potential = random_potential(np.random.default_rng(seed), **chosen)
    assert_same(from_tree(to_tree(potential)), potential)


def test_planted_error_a_swapped_matrix_is_seen():
    """A square matrix written untransposed would read back as another model."""
    potential = random_potential(np.random.default_rng(0), embedding=[4, 4])
    tree = to_tree(potential)
    variables = tree["model"]["descriptor"]["embeddings"]["networks"][0]["layers"][1]["@variables"]
    variables["w"] = variables["w"].T
    with pytest.raises(AssertionError):
        assert_same(from_tree(tree), potential)


def test_notes_travel_with_the_file(tmp_path):
    potential = random_potential(np.random.default_rng(1))
    potential.info |= {"min_nbor_dist": 0.9, "training": {"epochs": np.int64(3), "rmse": [0.1, 0.2]}}
    script = {"descriptor": {"seed": 7, "sel": [1]}, "fitting_net": {"seed": 8}, "data_stat_nbatch": 5}
    potential.info["model_def_script"] = script
    write_deepmd(potential, tmp_path / "model.dp")
    info = read_deepmd(tmp_path / "model.dp").info
    assert info["min_nbor_dist"] == 0.9
    assert info["training"] == {"epochs": 3, "rmse": [0.1, 0.2]}
    written = info["model_def_script"]
    assert (written["descriptor"]["seed"], written["data_stat_nbatch"]) == (7, 5)
    assert written["descriptor"]["sel"] == [7, 9]  # what the model fixes is put right


def test_notes_that_json_cannot_hold(tmp_path):
    potential = random_potential(np.random.default_rng(1))
    potential.info["frame"] = object()
    with pytest.raises(InputError, match=r"info cannot be written .*holds a object"):
        write_deepmd(potential, tmp_path / "model.dp")
    assert not list(tmp_path.iterdir())


# --- the form DeePMD-kit expects ------------------------------------------------------------------

CLASSES_3_0 = {  # newest version of each class that DeePMD-kit 3.0.0 reads
    "Model": 2,
    "Descriptor": 2,
    "Fitting": 2,
    "NetworkCollection": 1,
    "EmbeddingNetwork": 2,
    "FittingNetwork": 1,
    "Layer": 1,
}


def dictionaries(node):
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from dictionaries(value)


def test_file_is_what_every_deepmd_kit_3_reads(tmp_path):
    potential = random_potential(np.random.default_rng(2), type_one_side=False)
    write_deepmd(potential, tmp_path / "model.dp")
    with h5py.File(tmp_path / "model.dp", "r") as file:
        tree = json.loads(file.attrs["json"])
        named = []
        for node in dictionaries(tree):
            named += [v for v in node.get("@variables", {}).values() if v is not None]
        assert sorted(named) == sorted(f"/{name}" for name in file)
        assert {file[name].dtype.name for name in file} == {"float64"}
        out_std = tree["model"]["@variables"]["out_std"]
        assert_array_equal(file[out_std], np.ones((1, 2, 1)))  # TensorFlow multiplies by it
        # one bias: TensorFlow up to 3.1 refuses two, and `dp change-bias` replaces out_bias alone
        assert not file[tree["model"]["fitting"]["@variables"]["bias_atom_e"]][()].any()
        total = potential.bias_atom_e + potential.out_bias
        assert_array_equal(file[tree["model"]["@variables"]["out_bias"]][0, :, 0], total)
    versions = {(d["@class"], d["@version"]) for d in dictionaries(tree) if "@class" in d}
    assert {name for name, _ in versions} == set(CLASSES_3_0)
    assert all(version <= CLASSES_3_0[name] for name, version in versions)
    model = tree["model"]
    assert model["descriptor"]["type_map"] == model["fitting"]["type_map"] == ["O", "H"]
    assert len(model["descriptor"]["embeddings"]["networks"]) == 4
    assert set(tree["model_def_script"]) >= {"type_map", "descriptor", "fitting_net"}


#: keys DeePMD-kit 3.2 puts into a tree beyond those of 3.0; readers take their absence as "unused"
SINCE_3_0 = {
    *("dim_case_embd", "default_fparam", "trainable", "case_embd"),
    *("protection", "use_exp_switch"),
}


@pytest.mark.parametrize("name", ["two_sided", "one_sided_idt", "smallest"])
def test_tree_has_the_keys_of_deepmd_kits_own(name):
    """Key by key the tree DeePMD-kit serialises, but for those newer than 3.0."""

    def compare(theirs, ours, where):
        missing = set(theirs) - set(ours) - SINCE_3_0
        assert not missing, f"{where} lacks {missing}"
        for key, value in theirs.items():
            if isinstance(value, dict) and key in ours:
                compare(value, ours[key], f"{where}.{key}")
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                for n, (v, o) in enumerate(zip(value, ours[key], strict=True)):
                    compare(v, o, f"{where}.{key}[{n}]")
            elif isinstance(value, np.ndarray):
                assert value.shape == ours[key].shape, f"{where}.{key}"
            elif key in ours and key not in ("@version", "seed"):
                assert ours[key] == value, f"{where}.{key}"

    tree = load_reference(name).tree
    compare(tree["model"], to_tree(from_tree(tree))["model"], "model")


# --- where DeePMD-kit's backends disagree ---------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "backend"),
    [
        (dict(exclude_types=[(0, 1)]), "PyTorch"),
        (dict(fitting=[4, 8]), "TensorFlow"),
        (dict(fitting=[12, 4]), "TensorFlow"),  # as wide as the descriptor, 6 · 2
        (dict(embedding_activation="custom_silu:1"), "TensorFlow"),
    ],
)
def test_disagreements_are_named(tmp_path, choice, backend):
    potential = random_potential(np.random.default_rng(3), **choice)
    assert [b for b, _ in disagreements(potential)] == [backend]
    with pytest.warns(UserWarning, match=rf"model.dp: .*{backend}"):
        write_deepmd(potential, tmp_path / "model.dp")


def test_no_warning_where_all_agree(tmp_path):
    potential = random_potential(np.random.default_rng(3), type_one_side=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_deepmd(potential, tmp_path / "model.dp")
        read_deepmd(tmp_path / "model.dp")


# --- features that are not supported --------------------------------------------------------------

DESCRIPTOR, FITTING, MODEL = ("model", "descriptor"), ("model", "fitting"), ("model",)

UNSUPPORTED = [
    (DESCRIPTOR, "type", "dpa1", r"descriptor\.type is 'dpa1'"),
    (DESCRIPTOR, "type", "hybrid", r"descriptor\.type is 'hybrid'"),
    (DESCRIPTOR, "type", "se_e2_r", r"descriptor\.type is 'se_e2_r'"),
    (DESCRIPTOR, "spin", {"use_spin": [True, False]}, "does not support spin"),
    (DESCRIPTOR, "env_protection", 0.01, "protection added to distances"),
    (DESCRIPTOR, "compress", {"@variables": {"compress_data": []}}, "compressed"),
    (DESCRIPTOR, "@version", 4, r"descriptor\.@version is 4; expected 1 to 3"),
    (DESCRIPTOR, "precision", "bfloat16", r"descriptor\.precision is 'bfloat16'"),
    (DESCRIPTOR, "activation_function", "swish", "activation function is 'swish'"),
    (DESCRIPTOR, "an_option_of_the_future", [1], "an_option_of_the_future"),
    ((*DESCRIPTOR, "env_mat"), "use_exp_switch", True, "exponential switch"),
    (FITTING, "type", "dipole", r"fitting\.type is 'dipole'"),
    (FITTING, "numb_fparam", 2, r"numb_fparam is 2; .*frame parameters"),
    (FITTING, "numb_aparam", 1, r"numb_aparam is 1; .*atomic parameters"),
    (FITTING, "default_fparam", [0.5], "frame parameters"),
    (FITTING, "dim_case_embd", 3, "case embedding"),
    (FITTING, "mixed_types", True, "one net for all types"),
    (FITTING, "exclude_types", [0], "atoms without energy"),
    (FITTING, "atom_ener", [None, -3.0], "energies of atoms in vacuum"),
    (FITTING, "tot_ener_zero", True, "total energy of zero"),
    (FITTING, "layer_name", ["a", "b", None], "layers shared"),
    (FITTING, "use_aparam_as_mask", True, "mask"),
    (FITTING, "@version", 5, r"fitting\.@version is 5"),
    ((*FITTING, "@variables"), "fparam_avg", np.ones(2), "fparam_avg"),
    (MODEL, "type", "zbl", r"model\.type is 'zbl'; .*does not support a pair table .*ZBL"),
    (MODEL, "type", "linear_ener", r"model\.type is 'linear_ener'; .*a sum of models"),
    (MODEL, "type", "spin_ener", r"model\.type is 'spin_ener'; .*does not support spin"),
    (MODEL, "type", "pairtab", r"model\.type is 'pairtab'; .*pair potential"),
    (MODEL, "type", ["zbl"], r"model\.type is \['zbl'\]"),
    (MODEL, "atom_exclude_types", [1], "atom_exclude_types"),
    (MODEL, "pair_exclude_types", [[0, 1]], "pair_exclude_types"),
    (MODEL, "model_dict", {"a": {}}, "one task"),
    (MODEL, "type_map", None, r"model\.type_map is None"),
]


@pytest.mark.parametrize(("place", "key", "value", "message"), UNSUPPORTED)
def test_unsupported_feature_is_named(place, key, value, message):
    tree = load_reference("two_sided").tree
    node = tree
    for step in place:
        node = node[step]
    node[key] = value
    with pytest.raises(InputError, match=message) as caught:
        from_tree(tree, source="foreign.dp")
    assert str(caught.value).startswith("foreign.dp: ")


def test_statistics_that_differ_from_slot_to_slot():
    tree = load_reference("two_sided").tree
    tree["model"]["descriptor"]["@variables"]["davg"][1, 3, 0] += 0.1
    with pytest.raises(InputError, match=r"@variables\.davg differs from slot to slot"):
        from_tree(tree)


def test_idt_where_the_net_has_none():
    tree = load_reference("two_sided").tree
    layer = tree["model"]["fitting"]["nets"]["networks"][1]["layers"][1]
    layer["@variables"]["idt"] = np.ones(6)
    where = r"fitting\.nets\.networks\[1\]\.layers\[1\]\.@variables\.idt"
    with pytest.raises(InputError, match=where):
        from_tree(tree)


def test_layer_that_skips_differently():
    tree = load_reference("two_sided").tree
    tree["model"]["fitting"]["nets"]["networks"][0]["layers"][1]["resnet"] = False
    with pytest.raises(InputError, match=r"layers\[1\]\.resnet is False; expected True"):
        from_tree(tree)


def test_yaml_without_pyyaml(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)  # as if it were not installed
    with pytest.raises(MissingPackage, match=r"kalmandp\[yaml\]"):
        read_deepmd(FOLDER / "from_pytorch.yaml")
    with pytest.raises(MissingPackage, match=r"kalmandp\[yaml\]"):
        write_deepmd(random_potential(np.random.default_rng(0)), tmp_path / "model.yaml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.pth", "model.pb", "model", "model.json"])
def test_other_suffixes(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"suffix is .*; expected one of \.dp, \.yaml, \.yml"):
        read_deepmd(tmp_path / name)
    if name.endswith((".pth", ".pb")):
        with pytest.raises(InputError, match=f"dp convert-backend {name} model.dp"):
            read_deepmd(tmp_path / name)
    with pytest.raises(InputError, match="suffix"):
        write_deepmd(random_potential(np.random.default_rng(0)), tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"x"


def test_our_own_key_of_the_descriptor_stays_out_of_the_model_file():
    """DeePMD-kit's backends build models from ``model_def_script`` and refuse keys that they do not know."""
    p = Potential.create(
        ("A",), rcut=3.0, sel=[4], rng=np.random.default_rng(6), embedding=(4, 5), axis_neuron=2, fitting=(4,)
    )
    stated = {"descriptor": {"type": "se_e2_a", "initial_weights": "spread", "seed": 7}}
    p.info["model_def_script"] = stated
    descriptor = to_tree(p)["model_def_script"]["descriptor"]
    assert descriptor["seed"] == 7 and "initial_weights" not in descriptor
    assert stated["descriptor"]["initial_weights"] == "spread"
