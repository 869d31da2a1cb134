"""The input file: DeePMD-kit's own files are understood, everything else is named in an error."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from water_input import WATER, change, message

from kalmandp.errors import FileError, InputError
from kalmandp.training.config.inputs import read_input

HERE = Path(__file__).parent


# --- what is understood ---------------------------------------------------------------------------


def test_a_deepmd_file_for_adam_is_read_unchanged(tmp_path):
    path = tmp_path / "input.json"
    path.write_text(WATER)
    s = read_input(path)
    assert s.optimizer.type == "Adam" and not s.optimizer.is_kalman
    m = SimpleNamespace(**s.model.choices)
    assert (s.model.kind, s.model.type_map, s.model.cutoff) == ("se_e2_a", ("O", "H"), 6.0)
    assert (m.sel, m.rcut, m.rcut_smth) == ((46, 92), 6.0, 0.5)
    assert (m.embedding, m.axis_neuron, m.fitting) == ((25, 50, 100), 16, (240, 240, 240))
    assert (m.embedding_resnet_dt, m.fitting_resnet_dt, m.type_one_side) == (False, True, False)
    assert s.model.seeds == (1, 2)
    r = s.learning_rate
    assert (r.start_lr, r.stop_lr, r.decay_steps, r.decay_rate) == (0.002, 3.51e-8, 4000, None)
    assert (s.loss.start_pref_e, s.loss.start_pref_f, s.loss.limit_pref_v) == (0.03, 900.0, 0.0)
    t = s.training
    assert (t.n_steps, t.n_epochs, t.seed, t.disp_freq) == (1000000, None, 10, 100)
    assert (t.batch_size, t.frames_per_batch(192), t.frames_per_batch(6)) == (None, 1, 6)
    assert (t.validation_systems, t.validation_batch, t.validation_batch_size) == (("../data/data_3",), 3, 1)
    assert s.ignored == ()
    assert s.source["model"]["descriptor"]["rcut"] == 6.0


def test_absent_keys_have_the_defaults_of_deepmd_kit():
    s = read_input({"model": {"descriptor": {"type": "se_e2_a"}, "fitting_net": {}},
                    "training": {"training_data": {"systems": "data"}, "numb_steps": 5}})  # fmt: skip
    m = SimpleNamespace(**s.model.choices)
    assert (s.model.kind, s.model.type_map, s.model.seeds) == ("se_e2_a", None, (0, 0))
    assert (m.embedding, m.axis_neuron, m.fitting) == ((10, 20, 40), 4, (120, 120, 120))
    assert (m.rcut, m.rcut_smth, m.sel) == (6.0, 0.5, "auto")
    assert (m.embedding_resnet_dt, m.fitting_resnet_dt, m.type_one_side) == (False, True, False)
    assert (s.loss.start_pref_e, s.loss.limit_pref_e) == (0.02, 1.0)
    assert (s.loss.start_pref_f, s.loss.limit_pref_f) == (1000.0, 1.0)
    assert (s.learning_rate.start_lr, s.learning_rate.stop_lr) == (1e-3, 1e-8)
    assert s.training.systems == ("data",)


def test_the_kinds_of_potential_that_can_be_stated_are_named(water):
    """DeePMD-kit calls its own "standard", and knows no other name for it."""
    assert read_input(change(water, "model/type", "standard")).model.kind == "se_e2_a"
    for stated in ("se_e2_a", "deep"):
        said = message(change(water, "model/type", stated))
        assert f'model/type is "{stated}"; expected "standard" or "nep" or "hdnnp"' in said


@pytest.mark.parametrize("version", ["3.0", "3.2"])
def test_deepmd_kits_own_normalised_file_is_read_unchanged(version):
    """``out.json``, in which DeePMD-kit writes out every default; its LKF in old and new syntax."""
    s = read_input(HERE / f"out_{version}.json")
    assert (s.optimizer.type, s.optimizer.preset) == ("RLEKF", "deepmd")
    assert s.optimizer.get("block_size") == {"3.0": 2048, "3.2": 5120}[version]
    assert s.training.batch_size == 1  # "auto", with a Kalman filter
    assert s.ignored == ("loss", "learning_rate")


def test_both_syntaxes_of_lkf_mean_the_same(water):
    keys = {"kf_blocksize": 2048, "kf_start_pref_e": 2.0, "kf_limit_pref_e": 2.0, "kf_start_pref_f": 3.0}
    keys["kf_limit_pref_f"] = 3.0
    new = change(water, "optimizer", {"type": "LKF", **keys})
    old = change(water, "training", {**water["training"], "opt_type": "LKF", **keys})
    a, b = read_input(new).optimizer, read_input(old).optimizer
    assert a == b
    assert (a.type, a.preset, a.get("block_size")) == ("RLEKF", "deepmd", 2048)
    assert (a.get("pref_e"), a.get("pref_f")) == ((2.0, 2.0), (3.0, 3.0))
    both = change(new, "training/opt_type", "LKF")
    assert "training/opt_type" in message(both)


def test_our_own_optimizer_section(water):
    section = {"type": "RLEKF", "preset": "default", "block_size": 1e4, "lambda": 0.99, "nu": 0.9987}
    section |= {"p0": 0.01, "sigma_e": 0.001, "sigma_f": 0.05, "n_groups": 2, "group_size": 12}
    section |= {"measurement": "matrix", "with_virial": True, "covariance_dtype": "float32"}
    o = read_input(change(water, "optimizer", section)).optimizer
    assert [o.get(name) for name in ("block_size", "lam", "nu", "p0")] == [10000, 0.99, 0.9987, 0.01]
    assert [o.get(f"sigma_{kind}") for kind in "efw"] == [0.001, 0.05, None]
    assert [o.get(name) for name in ("n_groups", "group_size", "measurement")] == [2, 12, "matrix"]
    assert o.get("with_virial") is True


def test_what_a_partition_does_not_use_is_listed(water):
    for kind, idle in (("LEKF", ("blocks", "block_size")), ("SEKF", ("blocks",)), ("RLEKF", ())):
        section = {"type": kind, "blocks": "code", "block_size": 2048}
        ignored = read_input(change(water, "optimizer", section)).ignored
        assert ignored == (*(f"optimizer/{name}" for name in idle), "loss", "learning_rate")


def test_systems_beside_the_input_file_are_found_from_anywhere(tmp_path, water):
    (tmp_path / "water.hdf5").touch()
    tree = change(water, "training/training_data/systems", ["water.hdf5#/O64H128", "elsewhere"])
    (tmp_path / "input.json").write_text(json.dumps(tree))
    s = read_input(tmp_path / "input.json")
    assert s.training.systems == (f"{tmp_path / 'water.hdf5'}#/O64H128", "elsewhere")
    assert s.folder == tmp_path


def test_display_keys_are_accepted_and_listed(water):
    tree = change(water, "training/tensorboard", True)
    tree = change(tree, "training/time_training", True)  # its default: nothing to say
    tree = change(tree, "training/stat_file", "./stat")
    tree = change(tree, "model/data_stat_nbatch", 20)
    assert read_input(tree).ignored == (
        "model/data_stat_nbatch",
        "training/stat_file",
        "training/tensorboard",
    )


# --- what is refused ------------------------------------------------------------------------------

REFUSED = [
    ("model/descriptor/attn", 128, "model/descriptor/attn is 128; this key is not supported"),
    ("model/descriptor/rcutt", 6, "did you mean 'rcut'?"),
    ("model/descriptor/rcut", "six", 'is "six"; expected a number > 0 (Å)'),
    ("model/descriptor/rcut", True, "is true; expected a number > 0 (Å)"),
    ("model/descriptor/rcut", -1, "is -1; expected a number > 0 (Å)"),
    ("model/descriptor/rcut", 10**400, "expected a number > 0 (Å)"),
    ("model/descriptor/rcut_smth", 7, "rcut_smth is 7.0; expected a number < rcut = 6 (Å)"),
    ("model/descriptor/neuron", [25, -50], "neuron[1] is -50; expected an integer ≥ 1"),
    ("model/descriptor/neuron", [25, 2.5], "neuron[1] is 2.5; expected an integer ≥ 1"),
    ("model/descriptor/neuron", [], "neuron is []"),
    ("model/descriptor/axis_neuron", 101, "axis_neuron is 101; expected at most 100"),
    ("model/descriptor/sel", [46], "sel is [46]; expected 2 numbers, one per type"),
    ("model/descriptor/sel", "auto:x", 'sel is "auto:x"'),
    ("model/descriptor/sel", "auto:0.5", 'sel is "auto:0.5"'),
    ("model/descriptor/type", "dpa2", 'type is "dpa2"; expected "se_e2_a" or "se_a"'),
    ("model/descriptor/precision", "float32", "all numbers here are float64"),
    ("model/descriptor/activation_function", "tnh", "did you mean 'tanh'?"),
    ("model/descriptor/exclude_types", [[0, 2]], "exclude_types is [[0, 2]]"),
    ("model/descriptor/seed", -1, "seed is -1"),
    ("model/descriptor/trainable", 1, "trainable is 1; expected true"),
    ("model/descriptor", [1], "model/descriptor is [1]; expected an object"),
    ("model/fitting_net/numb_fparam", 1, "numb_fparam is 1; expected 0, the only value supported"),
    ("model/fitting_net/atom_ener", [1.0, None], "[1.0, null]; expected null (atom_ener subtracts"),
    ("model/preset_out_bias", {"energy": [1.0, "x"]}, 'preset_out_bias[1] is "x"'),
    ("model/preset_out_bias", {"dipole": [1.0, 2.0]}, 'expected {"energy": [a number (eV) or null'),
    ("model/preset_out_bias", {"energy": [1.0]}, "energy is [1.0]; expected 2 numbers or null"),
    ("model/fitting_net/rcond", -1, "rcond is -1; expected a number ≥ 0"),
    ("model/descriptor/set_davg_zero", 1, "set_davg_zero is 1; expected true or false"),
    ("model/fitting_net/type", "dipole", 'type is "dipole"; expected "ener"'),
    ("model/type_map", ["O", "O"], "expected names that differ"),
    ("model/model_dict", {}, "model/model_dict is {}; this key is not supported"),
    ("learning_rate/type", "cosine", 'type is "cosine"; expected "exp"'),
    ("learning_rate/stop_lr", 1.0, "stop_lr is 1.0; expected at most start_lr"),
    ("learning_rate/decay_rate", 1.5, "decay_rate is 1.5"),
    ("loss/start_pref_ae", 1, "start_pref_ae is 1; expected 0"),
    ("loss/start_pref_f", -1, "start_pref_f is -1; expected a number ≥ 0"),
    ("loss/use_huber", True, "use_huber is true"),
    ("optimizer/type", "RLEK", "did you mean 'RLEKF'?"),
    ("loss_dict", {"a": {}}, "not supported; DeePMD-kit has it, this package does not. Supported here:"),
    ("model/descriptor/type", "se_e3", "; DeePMD-kit has it, this package does not"),
    ("training/training_data/batch_size", "max:32", '"max:N" and "filter:N" are not supported'),
    ("training/training_data/batch_size", "filter:32", '"max:N" and "filter:N" are not supported'),
    ("training/training_data/auto_prob", "prob_sys_size;0:1:0.9", "blocks of systems"),
    ("optimizer", {"type": "Adam", "kf_blocksize": 3}, "optimizer/kf_blocksize is 3; this key is not"),
    ("optimizer", {"type": "LKF", "sigma_f": 0.1}, "optimizer/sigma_f is 0.1; this key is not"),
    ("optimizer", {"type": "RLEKF", "preset": "paper", "sigma_f": 0.1}, "input: optimizer/sigma_f"),
    ("optimizer", {"type": "RLEKF", "pref_f": 2}, "expected optimizer/sigma_f"),
    ("optimizer", {"type": "RLEKF", "lam": 1.5}, "optimizer/lam is 1.5"),
    ("optimizer", {"type": "RLEKF", "pref_f": [1, 0]}, "pref_f[1] is 0"),
    ("training/systems", ["data"], "training/training_data/systems"),
    ("training/set_prefix", "set", "training/training_data/set_prefix"),
    ("training/training_data/set_prefix", "part", "set_prefix is"),
    ("training/training_data/batch_size", "mixed:3", 'batch_size is "mixed:3"'),
    ("training/training_data/batch_size", [1, 2], "one batch size for all systems"),
    ("training/training_data/systems", [], "systems is []"),
    ("training/training_data/systems", ["a", 3], "systems[1] is 3"),
    ("training/training_data/sys_probs", [0.5, 0.6], "sys_probs is [0.5, 0.6]; expected a list of prob"),
    ("training/training_data/sys_probs", [1.5, -0.5], "sys_probs[0] is 1.5"),
    ("training/training_data/auto_prob", "prob_sys_size;0:2:0.5", '"prob_sys_size" or "prob_uniform"'),
    ("training/numb_epoch", 3, "training has both of numb_steps and numb_epoch"),
    ("training/stop_batch", 3, "are the same key"),
    ("training/save_ckpt", "/etc/ckpt", "a file name inside the run's folder"),
    ("training/disp_file", "../lcurve.out", "a file name inside the run's folder"),
    ("training/model_file", "model.pb", "ends in .dp or .yaml"),
    ("training/disp_file", "model.dp", "expected another name than"),
    ("training/validation_fraction", 0.2, "validation_data and validation_fraction"),
    ("training/mixed_precision", {}, "training/mixed_precision is {}; this key is not supported"),
    ("model/a\nb", 1, r'model/"a\nb" is 1; this key is not supported'),
    ("nvnmd", {}, "nvnmd is {}; this key is not supported"),
]


@pytest.mark.parametrize(("path", "value", "says"), REFUSED, ids=[f"{p}={v}"[:60] for p, v, _ in REFUSED])
def test_what_cannot_be_used_is_named(water, path, value, says):
    assert says in message(change(water, path, value))


@pytest.mark.parametrize("section", ["model", "training"])
def test_a_missing_section_is_named(water, section):
    del water[section]
    assert f"section '{section}' is missing" in message(water)


def test_neither_steps_nor_epochs(water):
    del water["training"]["numb_steps"]
    assert "neither of numb_steps and numb_epoch" in message(water)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{\n  "model": {,}\n}', "line 2, column 13"),
        (b'{"model": 1} x', "line 1, column 14"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": "\xff"}', "line 1 is not UTF-8"),
        (b"[1, 2]", "expected an object"),
        (b"", "line 1, column 1"),
        (b'{"a": ' + 70 * b"[" + 70 * b"]" + b"}", "nested deeper than 64"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "10000 digits"),
    ],
    ids=lambda value: None,
)
def test_text_that_is_not_an_input(tmp_path, text, says):
    path = tmp_path / "input.json"
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"^input\.json: ") as caught:
        read_input(path)
    assert says in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_input(tmp_path / "input.json")
    with pytest.raises(FileError, match="is a folder"):
        read_input(tmp_path)


# --- older versions of DeePMD-kit ------------------------------------------------------------------


def test_an_input_of_version_1_is_converted(water):
    """DeePMD-kit 1 has the keys of the data in training itself."""
    new = {**water, "training": {**water["training"]}}
    new["training"].pop("validation_data", None)
    data = new["training"]["training_data"]
    old = {
        **new,
        "training": {
            **{k: v for k, v in new["training"].items() if k != "training_data"},
            **data,
            "load_ckpt": "model.ckpt",
        },
    }
    a, b = read_input(new), read_input(old)
    assert a.training == b.training and a.model == b.model
    assert not a.notices and "the input is of DeePMD-kit 1: systems" in b.notices[0]


def test_an_input_of_version_0_is_named():
    with pytest.raises(InputError, match="is an input of DeePMD-kit 0, which has 'use_smooth' outside"):
        read_input({"use_smooth": True, "sel_a": [46, 92], "systems": ["data"], "stop_batch": 10})
