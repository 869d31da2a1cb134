"""Where things are plugged in: potentials, engines, covariances, neighbour searches, model files.

Every entry names a module and what to take from it, "module:name". It is imported when first asked for, so
that only what is used is loaded, and the lower layers of the package need not import the upper ones. The
tests loop over these tables, so that no entry can stay untested.

To add a potential, write its folder (`potentials/protocol.py` says what it holds) and one row of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from kalmandp.errors import InputError


class Kind(NamedTuple):
    """A kind of potential: where its parts are.

    form : its choices, a frozen dataclass (`potentials.protocol.Form`)
    descriptor : its passes (`potentials.protocol.Descriptor`)
    new : ``new(type_map, frames, rng, **choices)``, a form with weights and statistics from data
    section : ``read_section(read, value)``, its part of the section ``model`` of an input
    rows : ``rows(form)``, what `kalmandp info` says of it
    reordered : ``reordered(form, weights, statistics, old)``, the same with type n what ``old[n]`` was
    cuts : whether types can be taken away from a potential
    files : the module of its model files: ``recognises(path)``, ``read(path)``, ``write(potential, path)``,
        ``FORMAT`` (in words), ``DEFAULT`` (their usual name) and ``SUFFIXES``; for the commands of DeePMD-kit
        ``compression(path)`` and ``sections(potential)``, or None
    usage : ``usage(model, types)``, what other programs run a model file: (program, what it needs, text to
        copy) of each, for the path of a model and the names of its types
    fused : device -> its fused engine there
    preset : of the filter, where an input names none
    first : choices of a form that learning on the fly starts with when there are no data yet; without a kind
        named it takes the first kind that has them
    ahead : ``ahead()``, a tiny potential of the kind, for which separate processes compile the kernels of a
        first step on the CPU (`engines.cpu.ahead`)
    form_frames : ``form_frames(choices)``, frames, evenly chosen, that a new form is made from; "" for few
    net_units : ``net_units(form)``, units of energy and of force of its nets per eV and per eV/Å; "" for 1
    neighbours : the module of what numbers of neighbours in data (`geometry.neighbours.NeighbourStatistics`)
        mean to it: ``made_of(seen)``, what it would choose by them (key, words, value), and ``remarks(seen,
        model)``, a `Remark` where they do not suit the section ``model`` of an input (None: no model yet);
        "" for kinds that have nothing to say
    widened : ``widened(form, weights, statistics, frames, choices)``, the same potential made fit for frames
        in which atoms have more neighbours than it takes, or None if it is; "" for kinds that take any number
    """

    form: str
    descriptor: str
    new: str
    section: str
    rows: str
    reordered: str
    cuts: bool
    files: str
    fused: Mapping[str, str]
    preset: str = "matrix"
    first: str = ""
    ahead: str | None = None
    usage: str | None = None
    form_frames: str = ""
    net_units: str = ""
    neighbours: str = ""
    widened: str = ""


#: The kinds of potential, by the name that stands in an input as model/type (or model/descriptor/type).
KINDS: dict[str, Kind] = {
    "se_e2_a": Kind(
        form="kalmandp.potentials.deep_potential.architecture:Architecture",
        descriptor="kalmandp.potentials.deep_potential.descriptor:DeepPotential",
        new="kalmandp.potentials.deep_potential.new:new",
        section="kalmandp.potentials.deep_potential.section:read_section",
        rows="kalmandp.potentials.deep_potential.rows:rows",
        reordered="kalmandp.potentials.deep_potential.reordering:reordered",
        neighbours="kalmandp.potentials.deep_potential.neighbours",
        widened="kalmandp.potentials.deep_potential.widening:widened",
        cuts=False,
        files="kalmandp.bridges.deepmd.files",
        fused={
            "cpu": "kalmandp.engines.cpu.deep_potential.engine:NumbaEngine",
            "cuda": "kalmandp.engines.cuda.deep_potential.engine:CudaEngine",
        },
        preset="default",
        ahead="kalmandp.engines.cpu.deep_potential.ahead:tiny",
        usage="kalmandp.bridges.deepmd.usage:usage",
    ),
    "nep": Kind(
        form="kalmandp.potentials.nep.form:NEPForm",
        descriptor="kalmandp.potentials.nep.descriptor:NEPDescriptor",
        new="kalmandp.potentials.nep.initial:new",
        section="kalmandp.potentials.nep.section:read_section",
        rows="kalmandp.potentials.nep.rows:rows",
        reordered="kalmandp.potentials.nep.reordering:reordered",
        cuts=True,
        files="kalmandp.bridges.gpumd.files",
        fused={"cpu": "kalmandp.engines.cpu.nep.engine:NEPNumbaEngine"},
        ahead="kalmandp.engines.cpu.nep.ahead:tiny",
        first="kalmandp.potentials.nep.initial:FIRST",
        neighbours="kalmandp.potentials.nep.neighbours",
        usage="kalmandp.bridges.gpumd.usage:usage",
    ),
    "hdnnp": Kind(
        form="kalmandp.potentials.hdnnp.form:HDNNPForm",
        descriptor="kalmandp.potentials.hdnnp.descriptor:HDNNPDescriptor",
        new="kalmandp.potentials.hdnnp.new:new",
        section="kalmandp.potentials.hdnnp.section:read_section",
        rows="kalmandp.potentials.hdnnp.rows:rows",
        reordered="kalmandp.potentials.hdnnp.reordering:reordered",
        cuts=False,
        files="kalmandp.bridges.n2p2.files",
        fused={"cpu": "kalmandp.engines.cpu.hdnnp.engine:NumbaEngine"},
        form_frames="kalmandp.potentials.hdnnp.new:form_frames",
        ahead="kalmandp.engines.cpu.hdnnp.ahead:tiny",
        net_units="kalmandp.potentials.hdnnp.units:net_units",
        usage="kalmandp.bridges.n2p2.usage:usage",
    ),
}

#: Inputs of other programs: a module that reads one (``recognises(path)``, ``read(path, optimizer)``), and
#: one that writes that program's files beside ours (``at_checkpoint(run)``, ``at_epoch(run)``,
#: ``at_end(run)``, ``predict``).
INPUTS = {
    "nep.in": ("kalmandp.bridges.gpumd.nep_in", "kalmandp.bridges.gpumd.companion"),
    "input.nn": ("kalmandp.bridges.n2p2.input_file", "kalmandp.bridges.n2p2.companion"),
}

#: What makes an HDF5 file of frames in another format: ``as_hdf5(path)``.
FRAME_FILES = "kalmandp.formats.opening:as_hdf5"

#: The module that reads a model file of any kind: ``read_model(path)``.
MODEL_FILES = "kalmandp.bridges.model_files"

#: Engines by name: the device, and whether it is a kind's fused engine or the reference there.
ENGINES = {
    "numpy": ("cpu", "kalmandp.engines.reference:ReferenceEngine"),
    "numba": ("cpu", None),
    "cupy": ("cuda", "kalmandp.engines.cuda.reference:CupyEngine"),
    "cuda": ("cuda", None),
}

#: Searches for all pairs of a frame within a cut-off.
NEIGHBOUR_SEARCHES = {
    "vesin": "kalmandp.geometry.neighbours:neighbour_pairs",
    "cuda": "kalmandp.engines.cuda.neighbours:neighbour_pairs",
}

#: What keeps the pairs of a Verlet list that are within the cut-off.
PAIR_FILTERS = {
    "numpy": "kalmandp.geometry.verlet:pairs_within",
    "numba": "kalmandp.engines.cpu.pairs:pairs_within",
}

#: What a lower layer calls in a higher one: the report of a run, the whole command line, the check of virials
#: during conversion.
REPORT = "kalmandp.report:write_report"
COMMAND_LINE = "kalmandp.cli"
LOOK_AT_VIRIALS = "kalmandp.doctor.examine:look_at_virials"

#: A potential with the variances of its predictions.
UNCERTAINTY = "kalmandp.training.uncertainty:UncertainPotential"

#: Covariances of the filter.
COVARIANCES = {
    "dense": "kalmandp.kalman.covariance:DenseCovariance",
    "dense coupled": "kalmandp.kalman.coupled:CoupledCovariance",
    "tiled": "kalmandp.engines.cpu.covariance.tiled:TiledCovariance",
    "tiled coupled": "kalmandp.engines.cpu.covariance.tiled:CoupledTiledCovariance",
    "cuda": "kalmandp.engines.cuda.covariance:CudaCovariance",
    "cuda coupled": "kalmandp.engines.cuda.covariance:CoupledCudaCovariance",
}


def load(place: str) -> Any:
    """What ``place``, "module:name" or "module", stands for; the module is imported now."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name) if name else import_module(module)


def find(table: Mapping[str, str], name: str, what: str) -> Any:
    """What is registered in ``table`` under ``name``.

    Raises
    ------
    InputError
        If the name is not registered. There is no silent fall-back to another.
    """
    if name not in table:
        raise InputError(f"{what} is {name!r}; expected one of {', '.join(sorted(table))}")
    return load(table[name])


def register(name: str, kind: Kind) -> None:
    """Add a kind of potential: from now on inputs, files and engines know it.

    Raises
    ------
    InputError
        If another kind has this name.
    """
    if KINDS.get(name, kind) != kind:
        raise InputError(f"the kind of potential {name!r} is registered already; expected another name")
    KINDS[name] = kind


def of_neighbours(kind: str | None = None) -> list[Any]:
    """The modules `Kind.neighbours` of a kind, or, without a name, of all kinds that have one."""
    rows = KINDS.values() if kind is None else (KINDS[kind],)
    return [load(place) for place in dict.fromkeys(row.neighbours for row in rows) if place]


def kind_of(form: Any) -> Kind:
    """The row of a form."""
    return KINDS[form.kind]


def form_class(name: str) -> Any:
    """The form of a kind by its name.

    Raises
    ------
    InputError
        For a name that is not registered.
    """
    if name not in KINDS:
        raise InputError(f"the kind of potential is {name!r}; expected one of {', '.join(sorted(KINDS))}")
    return load(KINDS[name].form)


def descriptor_of(form: Any) -> Any:
    """The descriptor of a form."""
    return load(kind_of(form).descriptor)(form)


def default_engine(form: Any, device: str = "cpu") -> str:
    """The kind's fused engine of a device wherever it takes this form, else the reference there.

    Raises
    ------
    InputError
        For another device than "cpu" and "cuda".
    """
    devices = sorted({place for place, _ in ENGINES.values()})
    if device not in devices:
        raise InputError(f"device is {device!r}; expected one of {', '.join(devices)}")
    of_device = {name: reference for name, (place, reference) in ENGINES.items() if place == device}
    reference = next(name for name, stated in of_device.items() if stated is not None)
    fused = next(name for name, stated in of_device.items() if stated is None)
    place = kind_of(form).fused.get(device)
    return reference if place is None or load(place).unfit(form) else fused


def make_engine(name: str, form: Any, layout: Any, **options: Any) -> Any:
    """The engine of that name for a potential; ``options`` are the engine's own.

    Raises
    ------
    InputError
        For a name that is not registered, or an engine that this kind, or this form, does not have.
    """
    if name not in ENGINES:
        raise InputError(f"engine is {name!r}; expected one of {', '.join(sorted(ENGINES))}")
    device, reference = ENGINES[name]
    place = reference or kind_of(form).fused.get(device)
    if place is None:
        others = ", ".join(n for n, (_, stated) in ENGINES.items() if stated is not None)
        raise InputError(f"engine is {name!r}, which potentials {form.kind} do not have; expected {others}")
    return load(place)(form, layout, **options)


def choose_engine(engine: str | None, device: Any, form: Any, layout: Any) -> Any:
    """Make the engine of that name, or the default one of a device.

    ``device`` is "cpu", "cuda" (the current CUDA device), or what `cuda.launch.Device` describes.
    """
    if isinstance(device, str):
        return make_engine(engine or default_engine(form, device), form, layout)
    return make_engine(engine or default_engine(form, "cuda"), form, layout, device=device)
