"""Time to a potential: one data set, one network, learnt by RLEKF, by our Adam and by DeePMD-kit's Adam.

    python examples/benchmarks/training.py [--small] [--deepmd-python PYTHON] [--steps 40000]
                                           [--threads T] [--rounds 1] [--plot FILE.png] [--json FILE]

Data and network are those of `examples/silicon`, with its ten epochs for RLEKF. Adam makes ``--steps``
steps of one frame each, with DeePMD-kit's loss, and its learning rate falls from 1e-3 to 1e-8 over all of
them: a step is worth most at the end of its schedule, so give several numbers of steps to see what a longer
one buys. PYTHON is one that has DeePMD-kit with PyTorch; without it those rows are missing. Errors are of all
48 validation frames. Seconds are of training, without the start of the programs; DeePMD-kit's have its
evaluations of the validation frames in them, forty in a run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from support.peer import Peer
from support.turns import machine, with_threads, write_json

import kalmandp
from kalmandp.errors import MissingPackage
from kalmandp.files import replacing
from kalmandp.plots import BLUE, GREY, ORANGE

ROOT = Path(__file__).parents[2]
INPUT = ROOT / "examples" / "silicon" / "input.json"
RLEKF, OURS, DEEPMD = "RLEKF", "Adam, ours", "Adam, DeePMD-kit"
COLOURS = {RLEKF: BLUE, OURS: GREY, DEEPMD: ORANGE}


class Curve(NamedTuple):
    """One training: after so many steps and seconds, RMSE of energy (eV/atom) and force (eV/Å)."""

    who: str
    step: np.ndarray
    seconds: np.ndarray
    energy: np.ndarray
    force: np.ndarray

    def first_below(self, force: float) -> int | None:
        """Number of the first line from which on the force error stays at or below ``force``."""
        above = np.nonzero(~(self.force <= force))[0]
        first = 0 if not len(above) else int(above[-1]) + 1
        return first if first < len(self.force) else None


def question(optimizer: str, lines: int, steps: int | None, small: bool) -> dict:
    """The input of `examples/silicon`, for either program; ``steps`` None leaves the epochs as they are."""
    tree = json.loads(INPUT.read_text(encoding="utf-8"))
    systems = {part: str(ROOT / "data" / f"si64_lda_{part}.h5") for part in ("train", "test")}
    if small:
        tree["model"]["descriptor"] |= {"rcut": 5.0, "neuron": [4, 8], "axis_neuron": 4}
        tree["model"]["fitting_net"]["neuron"] = [8, 8]
    tree["optimizer"] = {"type": optimizer}
    tree["training"] |= {
        "training_data": {"systems": [systems["train"]], "batch_size": 1},
        # read one after another: all 48
        "validation_data": {"systems": [systems["test"]], "batch_size": 8, "numb_btch": 6},
    }
    if steps is not None:
        del tree["training"]["numb_epoch"]
        tree["training"] |= {"numb_steps": steps, "disp_freq": max(1, steps // lines), "save_freq": steps}
    if optimizer == "Adam":
        tree["learning_rate"] = {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-8, "decay_steps": 100}
        tree["loss"] = {
            "type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1,
            "start_pref_v": 0, "limit_pref_v": 0,
        }  # fmt: skip
    return tree


def ours(who: str, tree: dict, folder: Path) -> Curve:
    """Train here; the lines of the learning curve."""
    run = kalmandp.train(kalmandp.read_input(tree), output=folder)
    rows = [(r.step, r.seconds, r.valid_e, r.valid_f) for r in run if r.event in ("display", "end")]
    return Curve(who, *np.array(rows).T)


def deepmd(peer: Peer, tree: dict) -> Curve:
    """Train with DeePMD-kit; its learning curve, with the seconds from its log."""
    lcurve, seconds = peer.train(tree)
    step, _, _, energy, _, force, *_ = lcurve.T
    return Curve(DEEPMD, step, np.array([seconds[int(s)] for s in step]), energy, force)


def table(curves: list[Curve]) -> str:
    """What each ends with, and when Adam's are down to what the filter ends with."""
    filter_ = curves[0]
    goal = 1.2 * filter_.force[-1]
    lines = [
        f"{'':18}{'steps':>7}{'seconds':>9}{'ms/step':>9}{'meV/atom':>10}{'meV/Å':>8}   "
        f"to {1e3 * goal:.0f} meV/Å (1.2 × RLEKF's)"
    ]
    for c in curves:
        k = c.first_below(goal)
        reached = "not reached" if k is None else f"{c.step[k]:.0f} steps, {c.seconds[k]:.0f} s"
        if k is not None and c is not filter_:
            reached += f" = {c.seconds[k] / filter_.seconds[filter_.first_below(goal)]:.1f} ×"
        lines.append(
            f"{c.who:18}{c.step[-1]:7.0f}{c.seconds[-1]:9.1f}{1e3 * c.seconds[-1] / c.step[-1]:9.1f}"
            f"{1e3 * c.energy[-1]:10.2f}{1e3 * c.force[-1]:8.1f}   {reached}"
        )
    return "\n".join(lines)


def plot(curves: list[Curve], path, threads: int) -> None:
    """Force errors against seconds, both on logarithmic scales."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib", "plot", "a plot") from None
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    ax = figure.add_subplot()
    for who in COLOURS:
        for k, c in enumerate(c for c in curves if c.who == who):
            ax.plot(c.seconds, 1e3 * c.force, color=COLOURS[who], lw=1.4, label=None if k else who)
            ax.plot(c.seconds[-1], 1e3 * c.force[-1], "o", ms=4, color=COLOURS[who])
    ax.set(xscale="log", yscale="log", xlabel=f"seconds of training, threads: {threads}")
    ax.set_ylabel("force RMSE on unseen frames, meV/Å")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks([60, 80, 100, 200, 400, 800], labels=["60", "80", "100", "200", "400", "800"])
    ax.minorticks_off()
    ax.set_title("64 atoms of silicon, the same network", fontsize=10)
    ax.grid(True, which="both", alpha=0.2)
    ax.legend(frameon=False)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=160, format=Path(path).suffix[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a few steps of a small network")
    parser.add_argument("--deepmd-python", metavar="PYTHON", help="one that has DeePMD-kit with PyTorch")
    parser.add_argument("--steps", type=int, nargs="+", default=[40_000], help="of Adam (40000)")
    parser.add_argument("--threads", type=int, metavar="T", help="for us and DeePMD-kit alike")
    parser.add_argument("--rounds", type=int, default=1, help="trainings of each, one after the other (1)")
    parser.add_argument("--plot", metavar="FILE", help="a picture of the curves")
    parser.add_argument("--json", metavar="FILE", help="the curves")
    asked = parser.parse_args()
    with_threads(asked.threads)
    threads = numba.get_num_threads()
    steps = [20] if asked.small else asked.steps
    curves = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k in range(asked.rounds):
            filter_ = question("RLEKF", 4, 8 if asked.small else None, asked.small)
            curves.append(ours(RLEKF, filter_, folder / f"rlekf{k}"))
            for n in steps:
                adam = question("Adam", 40, n, asked.small)
                curves.append(ours(OURS, adam, folder / f"adam{k}-{n}"))
                if asked.deepmd_python:
                    with Peer(asked.deepmd_python, threads, folder / f"deepmd{k}-{n}") as peer:
                        curves.append(deepmd(peer, adam))
                print(table(curves), flush=True)
    if asked.plot:
        plot(curves, asked.plot, threads)
    if asked.json:
        plain = [
            {"who": c.who} | {k: v.tolist() for k, v in c._asdict().items() if k != "who"} for c in curves
        ]
        write_json(asked.json, {"machine": machine(), "threads": threads, "curves": plain})


if __name__ == "__main__":
    main()
