"""What the second study runs: three models, their optimizers, data sets, sweeps and seeds.

Every optimizer is there with its best public setting and with ours. All runs of a comparison get the same
seconds of one processor (`runs.budget`), the same frames and the same seed.
"""

from __future__ import annotations

from typing import NamedTuple

from runs import Model, Network, Optimizer, Study, System, Unit, find_systems, optimizer
from runs.systems import THIRTEEN

#: Seconds of one processor of a run, and the share of them that a run of a sweep gets.
SECONDS, SWEEP_SHARE = 60.0, 0.5
SEEDS = (1, 2, 3)
#: Data of the second study: silicon by DFT, and three of the thirteen.
SYSTEMS = ("Si64", "Cu", "H2O", "NaCl")
#: The first of these with data is swept.
SWEPT = ("Si64", "Cu")

TITLES = {"dp": "Deep Potential", "nep": "NEP", "hdnnp": "HDNNP", "nep-gpumd": "NEP, GPUMD's form"}
NEP = {
    "type": "nep", "cutoff": [6, 5], "n_max": [7, 7], "basis_size": [11, 11], "l_max": [6, 1], "neuron": 30,
}  # fmt: skip
HDNNP = {"type": "hdnnp", "cutoff": 6.0}

#: Forms by model; the first study's network is the Deep Potential's.
FORMS: dict[str, Network | Model] = {
    "dp": Network(),
    "nep": Model.of("nep", **NEP),
    "hdnnp": Model.of("hdnnp", **HDNNP),
}
#: Only where it is asked for: the NEP of GPUMD's defaults, 8 and 4 Å, fewer functions.
MORE_FORMS: dict[str, Network | Model] = {"nep-gpumd": Model.of("nep-gpumd", type="nep")}
TINY: dict[str, Network | Model] = {
    "dp": Network((4, 8), 2, (8, 8), 4.0),
    "nep": Model.of("nep-tiny", **{**NEP, "cutoff": [4, 4], "n_max": [2, 2], "basis_size": [4, 4],
        "l_max": [2], "neuron": 5}),
    "hdnnp": Model.of("hdnnp-tiny", type="hdnnp", cutoff=4.0, n_radial=3, n_angular=0, neuron=[4]),
}  # fmt: skip

#: GNEP's loss and learning rate (mean squares, λ 1, 2 and 0.1, batches of two, 10⁻³ to 10⁻⁷); it falls
#: exponentially here and by a cosine there.
GNEP = {
    "optimizer": {"type": "Adam"},
    "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-7, "decay_steps": 100},
    "loss": {
        "type": "ener", "start_pref_e": 1, "limit_pref_e": 1, "start_pref_f": 2, "limit_pref_f": 2,
        "start_pref_v": 0.1, "limit_pref_v": 0.1,
    },
    "training_data": {"batch_size": 2},
}  # fmt: skip
OWN = {
    "gekf": {"optimizer": {"type": "GEKF", "preset": "paper"}},
    "fekf": {"optimizer": {"type": "RLEKF", "preset": "deepmd"}, "training_data": {"batch_size": 4}},
    "adam-gnep": GNEP,
    "snes": {"optimizer": {"type": "SNES", "preset": "gpumd"}, "training_data": {"batch_size": 16}},
}
WORDS = {
    "default": "this package's filter without settings; by energies and forces alone, as the others",
    "paper": "RLEKF of the paper: one number at a time, N_b 5,120",
    "gekf": "the paper's sequence with one block, where P fits",
    "fekf": "DeePMD-kit's filter with batches of four frames (FEKF)",
    "n2p2": "n2p2's recommended filter",
    "adam": "Adam with DeePMD-kit's loss and learning rate",
    "adam-gnep": "Adam with GNEP's loss and batches of two",
    "snes": "SNES as GPUMD has it: 50 members, σ 0.1; 16 frames a generation",
}
#: By model; one block of the Deep Potential's weights would take gigabytes.
OPTIMIZERS = {
    "dp": ("default", "paper", "fekf", "adam", "adam-gnep", "snes"),
    "nep": ("default", "paper", "gekf", "fekf", "adam", "adam-gnep", "snes"),
    "hdnnp": ("default", "paper", "gekf", "fekf", "n2p2", "adam", "adam-gnep", "snes"),
}
OPTIMIZERS["nep-gpumd"] = OPTIMIZERS["nep"]
#: One of each family, where more would cost too much.
FAMILIES = ("default", "adam", "snes")


def chosen(name: str) -> Optimizer:
    """The optimizer of a name of `OPTIMIZERS`; "default" is the filter without a preset."""
    if name == "default":
        return Optimizer(name, {"optimizer": {"type": "RLEKF"}})
    return Optimizer(name, OWN[name]) if name in OWN else optimizer(name)


def forms(study: Study) -> dict[str, Network | Model]:
    """The forms by model: of the models asked for, or of the three."""
    known = TINY if study.smoke else FORMS
    return {name: (known | MORE_FORMS)[name] for name in study.models or known}


def systems(study: Study) -> list[System]:
    """The systems asked for; without any, `SYSTEMS` and the user's own."""
    if "systems" in study.stated or study.smoke:
        return study.systems
    others = [s for s in study.systems if s.name not in THIRTEEN]
    return [*find_systems(SYSTEMS)[0], *others]


def swept(study: Study) -> System:
    """The system of sweeps and seeds."""
    there = systems(study)
    return next((s for name in SWEPT for s in there if s.name == name), there[0])


def own(study: Study) -> list[System]:
    """The user's own systems."""
    return [s for s in systems(study) if s.name not in (*THIRTEEN, *SYSTEMS)]


def names(study: Study, model: str) -> tuple[str, ...]:
    """Optimizers of a model: those asked for, or all of `OPTIMIZERS`."""
    if "optimizers" in study.stated:
        return tuple(name for name in study.optimizers if name in OPTIMIZERS[model])
    return FAMILIES if study.smoke else OPTIMIZERS[model]


def unit(study: Study, system, model: str, name: str, seed: int = 1, form=None, share: float = 1.0) -> Unit:
    """A run of the second study; ``form`` in place of the model's own, ``share`` of its seconds."""
    seconds = share * (study.seconds or SECONDS)
    return study.unit(
        system, chosen(name), seed, network=forms(study)[model] if form is None else form, seconds=seconds
    )


class Point(NamedTuple):
    """A point of a sweep: what is moved, its value in words, the model, the form and the optimizer."""

    question: str
    value: str
    model: str
    form: Network | Model
    name: str


#: Of a NEP neurons; of an HDNNP widths of two layers; of a Deep Potential embedding, M‹ and fitting.
WIDTHS: dict[str, dict[str, Network | Model]] = {
    "dp": {
        "8-16, 4, 16²": Network((8, 16), 4, (16, 16)),
        "12³, 8, 25³": Network((12, 12, 12), 8, (25, 25, 25)),
        "25³, 16, 50³": Network(),
        "25³, 16, 100³": Network((25, 25, 25), 16, (100, 100, 100)),
    },
    "nep": {str(n): Model.of(f"nep-{n}", **{**NEP, "neuron": n}) for n in (8, 30, 100, 300)},
    "hdnnp": {f"{n}²": Model.of(f"hdnnp-{n}x{n}", **HDNNP, neuron=[n, n]) for n in (8, 20, 60, 150)},
}
#: Layers of one width; a NEP has one layer by its definition.
DEPTHS: dict[str, dict[str, Network | Model]] = {
    "dp": {f"50^{n}": Network(fitting=(50,) * n) for n in (1, 2, 3, 5)},
    "hdnnp": {f"20^{n}": Model.of(f"hdnnp-20^{n}", **HDNNP, neuron=[20] * n) for n in (1, 2, 3, 5)},
}
BLOCKS = (128, 512, 2048, 8192)


def sweep(study: Study) -> list[Point]:
    """Width at equal depth, depth at equal width, with one optimizer of each family.

    None if optimizers or models were asked for by name: the comparison alone is wanted then.
    """
    if study.smoke or study.models or "optimizers" in study.stated:
        return []
    return [
        Point(question, value, model, form, name)
        for question, grid in (("width", WIDTHS), ("depth", DEPTHS))
        for model, of in grid.items() for value, form in of.items() for name in FAMILIES
    ]  # fmt: skip


def swept_unit(study: Study, point: Point) -> Unit:
    system = swept(study)
    return unit(study, system, point.model, point.name, form=point.form, share=SWEEP_SHARE)


def block_units(study: Study) -> dict[tuple[str, int], Unit]:
    """Runs of the filter "matrix" by model and N_b."""
    if not sweep(study):
        return {}
    out = {}
    for model in FORMS:
        for size in BLOCKS:
            keys = {"type": "RLEKF", "preset": "matrix", "block_size": size}
            o = Optimizer(f"matrix-nb{size}", {"optimizer": keys})
            seconds = SWEEP_SHARE * (study.seconds or SECONDS)
            out[model, size] = study.unit(swept(study), o, network=FORMS[model], seconds=seconds)
    return out


def compared(study: Study) -> list[Unit]:
    """The comparison itself, system by system."""
    return [unit(study, s, m, n) for s in systems(study) for m in forms(study) for n in names(study, m)]


def repeated(study: Study) -> list[Unit]:
    """Other seeds, which are other initial weights and another order of the frames, on one system."""
    if not sweep(study):
        return []
    system = swept(study)
    return [unit(study, system, m, n, seed) for m in FORMS for n in FAMILIES for seed in SEEDS]


def units(study: Study) -> list[Unit]:
    """Every run, the comparison first."""
    points = [swept_unit(study, point) for point in sweep(study)]
    return [*compared(study), *repeated(study), *points, *block_units(study).values()]
