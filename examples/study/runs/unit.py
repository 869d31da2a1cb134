"""One unit of work: a training run, all that decides its outcome, and a readable name for its folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kalmandp import read_input
from kalmandp.training.config.presets import resolve
from kalmandp.training.config.settings import KALMAN_TYPES

#: Steps that never come: lines of the curve and checkpoints are made when the study wants them.
NEVER = 1_000_000_000


@dataclass(frozen=True)
class Network:
    """Form of the potential; the defaults are the paper's: [25, 25, 25], M‹ = 16, [50, 50, 50], 6 Å.

    ``initial_weights`` is the key of the input's descriptor.
    """

    embedding: tuple[int, ...] = (25, 25, 25)
    axis_neuron: int = 16
    fitting: tuple[int, ...] = (50, 50, 50)
    rcut: float = 6.0
    resnet_dt: bool = False
    initial_weights: str = "spread"

    @property
    def name(self) -> str:
        """ "e25x25x25-m16-f50x50x50", with what else is not as usual: "-r8" Å, "-deepmd" weights, "-dt"."""
        widths = ["x".join(map(str, net)) for net in (self.embedding, self.fitting)]
        tail = f"-r{self.rcut:g}" if self.rcut != 6.0 else ""
        tail += f"-{self.initial_weights}" if self.initial_weights != "spread" else ""
        return f"e{widths[0]}-m{self.axis_neuron}-f{widths[1]}{tail}{'-dt' if self.resnet_dt else ''}"

    def section(self) -> dict[str, Any]:
        """The section ``model`` of an input."""
        descriptor = {
            "type": "se_e2_a", "sel": "auto", "rcut": self.rcut, "rcut_smth": 0.5,
            "neuron": list(self.embedding), "axis_neuron": self.axis_neuron, "type_one_side": True,
            "resnet_dt": self.resnet_dt, "initial_weights": self.initial_weights,
        }  # fmt: skip
        return {
            "descriptor": descriptor,
            "fitting_net": {"neuron": list(self.fitting), "resnet_dt": self.resnet_dt},
        }


PAPER_NETWORK = Network()


@dataclass(frozen=True)
class Model:
    """Form of a potential of any kind: a name for folders, and the section ``model`` as JSON text.

    `Network` is the Deep Potential's, whose fields the first study moves one by one.
    """

    name: str
    text: str

    @classmethod
    def of(cls, name: str, **keys) -> Model:
        """The model with these keys of the section."""
        return cls(name, json.dumps(keys, sort_keys=True))

    def section(self) -> dict[str, Any]:
        """The section ``model`` of an input."""
        return json.loads(self.text)


@dataclass(frozen=True)
class Init:
    """Initial weights by the study: ``what`` ~ N(mean, deviation²); "W" in units of 1/√(n_in + n_out)."""

    what: str
    mean: float
    deviation: float

    @property
    def name(self) -> str:
        return f"{self.what}-N{self.mean:g}-{self.deviation:g}"


@dataclass(frozen=True)
class Unit:
    """A training run.

    Attributes
    ----------
    system, train, test : name and files of the data
    optimizer : its name;  sections : the input's sections it stands for
    network : form of the potential
    epochs, frames, seconds : length of the run, in passes over the data, in frames, or in seconds of one
        processor (`budget`); two of them are None
    seed : of the weights and of the data's order;  init : other initial weights than the package's
    """

    system: str
    train: str
    test: str
    optimizer: str
    sections: dict = field(hash=False)
    network: Network | Model = PAPER_NETWORK
    epochs: float | None = 30.0
    frames: int | None = None
    seed: int = 1
    init: Init | None = None
    seconds: float | None = None

    @property
    def key(self) -> str:
        """Folder of the run: "Cu/default_30epochs_seed1"."""
        base = self.optimizer.removesuffix(f"-{self.epochs:g}") if self.epochs is not None else self.optimizer
        lengths = (("epochs", self.epochs), ("frames", self.frames), ("s", self.seconds))
        length = next(f"{value:g}{unit}" for unit, value in lengths if value is not None)
        parts = [base, *([] if self.network == PAPER_NETWORK else [self.network.name]), length]
        tail = f"_{self.init.name}" if self.init else ""
        return f"{self.system}/{_plain('_'.join(parts))}_seed{self.seed}{tail}"

    @property
    def is_kalman(self) -> bool:
        return self.sections["optimizer"]["type"] in KALMAN_TYPES

    def input(self) -> dict[str, Any]:
        """The input of the package for this run."""
        length = {"numb_epoch": self.epochs} if self.epochs is not None else {"numb_steps": self.frames or 1}
        sections = {name: keys for name, keys in self.sections.items() if name != "training_data"}
        return {
            "model": self.network.section(),
            **sections,
            "training": {
                "training_data": {
                    "systems": [self.train], "batch_size": 1, **self.sections.get("training_data", {})
                },
                **length, "seed": self.seed, "disp_freq": NEVER, "save_freq": NEVER,
            },
        }  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """What must be the same for a result to be this run's: settings as resolved, and the data's bytes."""
        settings = read_input(self.input())
        o = settings.optimizer
        preset = {} if o.preset == "default" else {"preset": o.preset}
        own = {"kind": type(o).__name__, "type": o.type, **preset, **o.stated}
        choices = stated(resolve(o)) if o.is_kalman else own
        data = {"train": digest(self.train), "test": digest(self.test)}
        return {**stated(self), **data, "optimizer": self.key.partition("/")[2], "choices": choices}


def unit_from(tree: dict) -> Unit:
    """The unit of ``asdict(unit)``, as it comes back from JSON."""
    network, init = tree["network"], tree["init"]
    if "text" in network:
        form: Network | Model = Model(**network)
    else:
        nets = {name: tuple(network[name]) for name in ("embedding", "fitting")}
        form = Network(**{**network, **nets})
    return Unit(**{**tree, "network": form, "init": Init(**init) if init else None})


def _plain(name: str) -> str:
    """A name for a folder: what is no letter, digit or one of "-._" becomes a hyphen."""
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in name)


def stated(choices) -> dict[str, Any]:
    """The kind and the fields of a dataclass that are not at their defaults.

    So a field that is added to it later, at its default, leaves what was made before as it is.
    """
    found = {"kind": type(choices).__name__}
    for f in fields(choices):
        value = getattr(choices, f.name)
        if f.default is MISSING or value != f.default:
            found[f.name] = stated(value) if is_dataclass(value) else value
    return found


def digest(path) -> str:
    """The first digits of a file's SHA-256."""
    path = Path(path)
    now = path.stat()
    return _digest(path, now.st_size, now.st_mtime_ns)


@lru_cache
def _digest(path: Path, size: int, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
