"""The keys of an input file, section by section: DeePMD-kit's and our additions.

The section ``model`` belongs to the kind of potential (`registry.Kind.section`).

Each table lists what is read, what is accepted only at DeePMD-kit's default (`fixed`: the option
does not exist here, so stating its default changes nothing), and what changes no result at all
(`ignored`: display, profiling). DeePMD-kit's own normalised ``out.json`` of versions 3.0 to 3.2 is
therefore read unchanged. Anything else is an error that names the key.
"""

from __future__ import annotations

from pathlib import PurePath

from kalmandp.checks import (
    Key,
    Unfit,
    anything,
    boolean,
    choice,
    fixed,
    ignored,
    integer,
    number,
    one_of,
    optional,
    sequence,
    text,
)
from kalmandp.training.config.n2p2 import INTEGERS, SELECTIONS, N2P2Settings
from kalmandp.training.config.presets import ADAM_PRESETS, PRESETS, REDUCTIONS, SNES_PRESETS
from kalmandp.training.measurements.candidates import Selection
from kalmandp.training.measurements.measurement import NORMS


def _pair(value):
    """A prefactor: one number for the whole run, or [start, limit]."""
    positive = number(above=0.0)
    wanted = "a number > 0, or [start, limit]"
    if isinstance(value, list | tuple):
        return sequence(positive, wanted, length=2)(value)
    try:
        return (positive(value),) * 2
    except Unfit:
        raise Unfit(wanted, value) from None


#: Whether virials are learnt: of all frames, of none, or where there are any.
_with_virial = one_of('true, false, or "present"', choice("present"), boolean)


def _candidates(value):
    """{"energy": τ_E, "force": τ_F, "trials": n}, any of them."""
    wanted = '{"energy": a number ≥ 0, "force": a number ≥ 0, "trials": an integer ≥ 1} (any of them)'
    if not isinstance(value, dict) or not set(value) <= set(Selection._fields):
        raise Unfit(wanted, value)
    checks = {"energy": number(at_least=0.0), "force": number(at_least=0.0), "trials": integer(1)}
    try:
        return {name: checks[name](v) for name, v in value.items()}
    except Unfit:
        raise Unfit(wanted, value) from None


def _weights_of_types(value):
    """{"O": 1.0, "H": 2.0}: the weight of a type's forces."""
    wanted = 'an object of names of types and numbers > 0, e.g. {"H": 2.0}'
    positive = number(above=0.0)
    if not isinstance(value, dict):
        raise Unfit(wanted, value)
    try:
        return {name: positive(v) for name, v in value.items()}
    except Unfit:
        raise Unfit(wanted, value) from None


def _batch_size(value):
    """("frames", B), or ("atoms", N) for DeePMD-kit's "auto:N"."""
    wanted = 'an integer ≥ 1, "auto" or "auto:N"'
    if isinstance(value, str) and value.startswith(("max:", "filter:")):
        raise Unfit(f'{wanted}: DeePMD-kit\'s "max:N" and "filter:N" are not supported', value)
    if isinstance(value, list | tuple) and value:
        sizes = {_batch_size(v) for v in value}
        if len(sizes) > 1:
            raise Unfit("one batch size for all systems", value)
        return sizes.pop()
    if isinstance(value, str):
        kind, _, n = value.partition(":")
        if value != "auto" and not (kind == "auto" and n.isascii() and n.isdigit() and 0 < int(n)):
            raise Unfit(wanted, value)
        return "atoms", int(n) if n else 32
    try:
        return "frames", integer(1)(value)
    except Unfit:
        raise Unfit(wanted, value) from None


def _systems(value):
    wanted = "a path, or a list of paths"
    if isinstance(value, str):
        return (one_of(wanted, text)(value),)
    return sequence(text, wanted, at_least=1)(value)


def _file_name(*suffixes: str):
    """A name inside the folder of the run: an input file may come from anywhere."""
    wanted = "a file name inside the run's folder"
    if suffixes:
        wanted += f" that ends in {' or '.join(suffixes)}"

    def check(value):
        path = PurePath(one_of(wanted, text)(value))
        outside = path.is_absolute() or ".." in path.parts or not path.name or "\\" in value
        if outside or (suffixes and path.suffix not in suffixes):
            raise Unfit(wanted, value)
        return str(path)

    return check


_seed = optional(integer(0))
ROOT = (
    Key("model", anything, "model"),
    Key("training", anything, "training"),
    Key("optimizer", anything, "optimizer"),
    Key("loss", anything, "loss"),
    Key("learning_rate", anything, "learning_rate"),
    fixed("validating", None, {}),
)

#: DeePMD-kit's prefactors of its LKF, since 3.2 in ``optimizer``, up to 3.1 in ``training``.
_KF = (
    Key("kf_start_pref_e", number(above=0.0), "start_pref_e"),
    Key("kf_limit_pref_e", number(above=0.0), "limit_pref_e"),
    Key("kf_start_pref_f", number(above=0.0), "start_pref_f"),
    Key("kf_limit_pref_f", number(above=0.0), "limit_pref_f"),
)

AVERAGING = Key("averaging", number(at_least=0.0, at_most=1.0), "averaging")

LKF = (Key("type", anything, None), Key("kf_blocksize", integer(1), "block_size"), *_KF)

KALMAN = (
    Key("type", anything, None),
    Key("preset", choice(*PRESETS), "preset"),
    Key("block_size", integer(1), "block_size", ("kf_blocksize",)),
    Key("blocks", choice("text", "code"), "blocks"),
    Key("p0", number(above=0.0), "p0"),
    Key("lam", number(above=0.0, at_most=1.0), "lam", ("lambda",)),
    Key("nu", number(above=0.0, at_most=1.0), "nu"),
    Key("sigma_e", number(above=0.0, unit="eV/atom"), "sigma_e"),
    Key("sigma_f", number(above=0.0, unit="eV/Å"), "sigma_f"),
    Key("sigma_w", number(above=0.0, unit="eV/atom"), "sigma_w"),
    Key("sigma_a", number(above=0.0, unit="eV"), "sigma_a"),
    Key("n_groups", integer(1), "n_groups"),
    Key("group_size", one_of('an integer ≥ 1, or "all"', choice("all"), integer(1)), "group_size"),
    Key("measurement", choice("signed", "joint", "paired", "matrix"), "measurement"),
    Key("norm", choice(*NORMS), "norm"),
    Key("reduction", choice(*REDUCTIONS), "reduction"),
    Key("candidates", optional(_candidates), "candidates"),
    Key("with_virial", optional(_with_virial), "with_virial"),
    Key("virial_offset", boolean, "virial_offset"),
    Key("with_atomic_energies", optional(boolean), "with_atomic_energies"),
    Key("pref_e", _pair, "pref_e"),
    Key("pref_f", _pair, "pref_f"),
    Key("covariance", choice("tiled", "dense"), "covariance"),
    Key("covariance_dtype", choice("float64", "float32"), "covariance_dtype"),
    Key("coupled", boolean, "coupled"),
    Key("adapt", optional(number(at_least=0.0)), "adapt"),
    Key("tied", boolean, "tied"),
    AVERAGING,
    Key("gate", optional(number(above=1.0)), "gate"),
    Key("checkpoint_dtype", choice("float64", "float32"), "checkpoint_dtype"),
    Key("type_weight", optional(_weights_of_types), "type_weight"),
    Key("force_delta", optional(number(above=0.0, unit="eV/Å")), "force_delta"),
    Key("lambda_shear", number(above=0.0), "lambda_shear"),
    Key("last_layer", one_of('true, false or "auto"', choice("auto"), boolean), "last_layer"),
    *_KF,
)

_beta = number(at_least=0.0, at_most=1.0)

ADAM = (
    Key("type", anything, None),
    Key("preset", choice(*ADAM_PRESETS), "preset"),
    Key("adam_beta1", _beta, "adam_beta1"),
    Key("adam_beta2", _beta, "adam_beta2"),
    AVERAGING,
    fixed("weight_decay", 0.0),
)

_prefactor = number(at_least=0.0)

SNES = (
    Key("type", anything, None),
    Key("preset", choice(*SNES_PRESETS), "preset"),
    Key("population", integer(2), "population"),
    Key("sigma0", number(above=0.0), "sigma0"),
    Key("lambda_e", _prefactor, "lambda_e"),
    Key("lambda_f", _prefactor, "lambda_f"),
    Key("lambda_v", _prefactor, "lambda_v"),
)

#: n2p2's keywords; which numbers they may have is checked by `N2P2Settings.of`.
_modes = one_of(
    "a mode, or a list of one and then epoch, mode, …", integer(0),
    sequence(integer(0), "numbers", at_least=1),
)
N2P2 = (
    Key("type", anything, None),
    *(
        Key(name, integer(0) if name in INTEGERS else number(), name)
        for name in N2P2Settings._fields
        if name not in (*SELECTIONS, "repeated_energy_update")
    ),
    *(Key(name, _modes, name) for name in SELECTIONS),
    Key("repeated_energy_update", boolean, "repeated_energy_update"),
)

LOSS = (
    Key("type", choice("ener"), None),
    *(
        Key(f"{when}_pref_{which}", _prefactor, f"{when}_pref_{which}")
        for which in "efv"
        for when in ("start", "limit")
    ),
    *(fixed(f"{when}_pref_{which}", 0) for which in ("h", "ae", "pf", "gf") for when in ("start", "limit")),
    fixed("relative_f", None),
    fixed("enable_atom_ener_coeff", False),
    fixed("use_default_pf", False),
    fixed("numb_generalized_coord", 0),
    fixed("use_huber", False),
    fixed("loss_func", "mse"),
    fixed("f_use_norm", False),
    fixed("intensive_ener_virial", False),
    ignored("huber_delta", 0.01),
)

LEARNING_RATE = (
    Key("type", choice("exp"), "type"),
    Key("start_lr", number(above=0.0), "start_lr"),
    Key("stop_lr", optional(number(above=0.0)), "stop_lr"),
    Key("stop_lr_ratio", optional(number(above=0.0, at_most=1.0)), "stop_lr_ratio"),
    Key("decay_steps", integer(1), "decay_steps"),
    Key("decay_rate", optional(number(above=0.0, at_most=1.0)), "decay_rate"),
    fixed("smooth", False),
    fixed("warmup_steps", 0),
    fixed("warmup_ratio", None),
    ignored("warmup_start_factor", 0.0),
    ignored("scale_by_worker", "linear"),
)

#: The optimizer as DeePMD-kit ≤ 3.1 has it, among the keys of ``training``.
OLD_OPTIMIZER = ("opt_type", "kf_blocksize", *(key.name for key in _KF))

TRAINING = (
    Key("training_data", anything, "training_data"),
    Key("validation_data", anything, "validation_data"),
    Key("numb_steps", integer(1), "n_steps", ("stop_batch", "num_step", "num_steps", "numb_step")),
    Key("numb_epoch", number(above=0.0), "n_epochs", ("num_epochs", "num_epoch", "numb_epochs")),
    Key("seed", _seed, "seed"),
    Key("disp_file", _file_name(), "disp_file"),
    Key("disp_freq", integer(1), "disp_freq"),
    Key("save_freq", integer(1), "save_freq"),
    Key("save_ckpt", _file_name(), "save_ckpt"),
    Key("validation_fraction", number(above=0.0, at_most=0.9), "validation_fraction"),
    Key("model_file", _file_name(), "model_file"),
    Key("device", choice("cpu", "cuda"), "device"),
    Key("committee", integer(1), "committee"),
    fixed("save_dir", None),
    fixed("enable_ema", False),
    fixed("change_bias_after_training", False),
    fixed("gradient_max_norm", 0, None),
    fixed("warmup_steps", 0),
    fixed("acc_freq", 1),
    fixed("zero_stage", 0),
    ignored("ema_decay", 0.999),
    ignored("ema_ckpt_keep"),
    ignored("ckpt_keep_ratio"),
    ignored("max_ckpt_keep", 5),
    ignored("stat_file"),
    ignored("stat_file_mode", "update"),
    ignored("disp_training", True),
    ignored("disp_avg", False),
    ignored("time_training", True),
    ignored("profiling", False),
    ignored("profiling_file", "timeline.json"),
    ignored("enable_profiler", False),
    ignored("tensorboard", False),
    ignored("tensorboard_log_dir", "log"),
    ignored("tensorboard_freq", 1),
    ignored("numb_test"),
    ignored("neighbor_graph_method", "auto"),
    ignored("enable_compile", False),
    ignored("enable_tf32", False),
)

_DATA = (
    Key("systems", _systems, "systems"),
    Key("batch_size", _batch_size, "batch_size"),
    fixed("set_prefix", "set"),
    fixed("rglob_patterns", None),
)


def _sys_probs(value):
    """Probabilities of the systems; they add up to 1, as DeePMD-kit demands."""
    wanted = "a list of probabilities that add up to 1, one per system"
    probabilities = sequence(number(at_least=0.0, at_most=1.0), wanted, at_least=1)(value)
    if abs(sum(probabilities) - 1.0) > 1e-6:
        raise Unfit(wanted, value)
    return probabilities


_BLOCKS = 'blocks of systems, such as "prob_sys_size;0:2:0.5", are not supported'
#: By size every frame comes once an epoch; DeePMD-kit's blocks ("prob_sys_size;0:2:0.5") are not supported.
_SAMPLING = (
    Key("auto_prob", choice("prob_sys_size", "prob_uniform", why=_BLOCKS), "auto_prob", ("auto_prob_style",)),
    Key("sys_probs", optional(_sys_probs), "sys_probs", ("sys_weights",)),
)

TRAINING_DATA = (*_DATA, *_SAMPLING, fixed("min_pair_dist", 0.0))

VALIDATION_DATA = (
    *_DATA,
    Key("numb_btch", integer(1), "numb_btch", ("numb_batch",)),
    ignored("auto_prob", "prob_sys_size"),
    ignored("auto_prob_style", "prob_sys_size"),
    ignored("sys_probs"),
    ignored("sys_weights"),
    ignored("numb_test"),
)
