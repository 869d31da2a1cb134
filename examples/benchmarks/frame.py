"""Time of every stage of an RLEKF frame: against the machine's own limit, plain NumPy, and DeePMD-kit.

    python examples/benchmarks/frame.py [--small] [--rounds 7] [--threads T] [--deepmd-python PYTHON]
                                        [--parts updates stages frames inference] [--atoms 192 6144]
                                        [--json FILE] [--plot FILE]

Water, 192 atoms with 16,444 pairs within 6 Å, the RLEKF paper's network (N = 53,102), blocks of P of at most
5120. All candidates take turns; the figures are medians over the rounds. The limit of an update is one read
of half of P as plain sums; that of a pass of the net its matrix products by BLAS; that of a whole frame the
sum of its parts' limits. A frame includes its environment; its neighbours are found once and kept.

With ``--deepmd-python``, a Python that has DeePMD-kit, its LKF and Adam steps (PyTorch) and its inference
(TensorFlow, plain and compressed) take turns with ours: on the same frame, with the same network, precision
and threads, in processes of their own that keep the memory they have freed.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

import numba
import numpy as np
from support import limits, peer, stages, water
from support.bars import DEEPMD, LIMIT, NUMPY, OURS, Row, plot, table
from support.stages import ADAM, PASSES, SIGNED, Clocks
from support.turns import machine, medians, take_turns, with_threads, write_json

from kalmandp import RLEKF, Frame, Potential
from kalmandp.kalman import Part, partition
from kalmandp.kalman.coupled import WINDOW

PARTS = ("updates", "stages", "frames", "inference")
CYCLE = WINDOW  # columns that the tiled covariance gathers before it folds them in
READ, HALF, NET = "full read of P (gemv)", "read of half of P (sums), {}", "products of one pass of the net"
PLAIN = "inference, {:,} atoms, plain model"
Measured = dict[tuple[str, str], float]


def of_updates(p: Potential, block_size: int, rng: np.random.Generator) -> Clocks:
    """Updates of the filter, tiled and plain, and reads of P."""
    blocks = partition([Part(t.name, t.size, t.layer) for t in p.layout.tensors], "RLEKF", block_size)
    start = np.zeros(blocks.n_weights)
    tiled = lambda dtype: RLEKF(start, blocks, covariance="tiled", dtype=dtype)
    dense = RLEKF(start, blocks, covariance="dense")
    clocks: Clocks = {(READ, LIMIT): limits.read_by_gemv(dense.covariance._P, rng)}
    for dtype in ("float64", "float32"):
        one = tiled(dtype)
        clocks[HALF.format(dtype), LIMIT] = limits.read_halves(one)
        clocks |= stages.updates(one, (1, 2, 5), OURS, rng, CYCLE)
    return clocks | stages.updates(dense, (1,), NUMPY, rng, 1)


def of_stages(p: Potential, frame: Frame, rng: np.random.Generator) -> Clocks:
    """The passes of the potential, fused and plain, and the net's matrix products."""
    widths = (p.form.descriptor_size, *p.form.fitting, 1)
    clocks: Clocks = {(NET, LIMIT): limits.products(len(frame), widths, rng)}
    return clocks | stages.stages(p, frame, OURS) | stages.stages(p.with_engine("numpy"), frame, NUMPY)


def of_frames(p: Potential, frame: Frame, block_size: int, deepmd: peer.Peer | None) -> Clocks:
    """Whole RLEKF frames and Adam steps, ours and DeePMD-kit's."""
    clocks = stages.frames(p, frame, block_size)
    clocks[ADAM, OURS] = stages.adam(p, frame)
    if deepmd:
        lkf = {"type": "LKF", "kf_blocksize": block_size}
        for stage, optimizer in ((SIGNED, lkf), (ADAM, {"type": "Adam"})):
            clocks[stage, DEEPMD] = deepmd.trainer(optimizer, frame, p).seconds
    return clocks


def of_inference(p: Potential, sizes: list[Frame], deepmd: peer.Peer | None) -> Clocks:
    """Energy, forces and virial, ours and DeePMD-kit's."""
    clocks: Clocks = {}
    for one in sizes:
        clocks |= stages.inference(p, one)
    names = {"plain": PLAIN, "compressed": stages.INFERENCE}
    for model, path in (deepmd.models(p) if deepmd else {}).items():
        for one in sizes:
            process = deepmd.calculator(path, one)
            process.seconds(1)
            # no race between different results
            np.testing.assert_allclose(process.last["force"], p.evaluate(one).forces[0, 0], atol=1e-8)
            clocks[names[model].format(len(one)), DEEPMD] = process.seconds
    return clocks


def limit_of(stage: str, times: Measured, n_atoms: int) -> float | None:
    """What a stage would take at the machine's own limit, s: reads of half of P, and passes of the net."""
    dtype = "float32" if "float32" in stage else "float64"
    net = lambda *names: sum(PASSES[name] for name in names)
    energies, pair_gradient, by_weights, along = PASSES
    if stage.startswith("update"):
        reads, passes = 1.0, 0.0
    elif "signed" in stage:
        reads, passes = 5, net(energies, by_weights) + 4 * net(energies, pair_gradient, along)
    elif stage.startswith(stages.DEFAULT):
        reads, passes = 2, 2 * net(energies, pair_gradient, by_weights, along)
    elif "paired" in stage:
        reads, passes = 4, 4 * net(energies, pair_gradient, by_weights, along)
    elif "joint" in stage:
        reads, passes = 1, net(energies, pair_gradient, by_weights) + 4 * net(along)
    elif stage == ADAM:
        reads, passes = 0, net(energies, pair_gradient, along)
    elif stage.startswith("inference"):
        atoms = int(stage.split()[1].replace(",", ""))
        reads, passes = 0, atoms / n_atoms * net(energies, pair_gradient)
    elif stage in PASSES:
        reads, passes = 0, PASSES[stage]
    else:
        return None
    limit = 0.0
    for name, count in ((HALF.format(dtype), reads), (NET, passes)):
        if count:
            limit += count * times.get((name, LIMIT), float("nan"))
    return None if np.isnan(limit) else limit


def rows_of(times: Measured, n_atoms: int) -> list[Row]:
    """One row per stage of ours, with the others' times where they have one."""
    rows = []
    for stage in [stage for stage, who in times if who == OURS]:
        seconds = {OURS: times[stage, OURS], LIMIT: limit_of(stage, times, n_atoms)}
        seconds[NUMPY] = times.get((stage, NUMPY))
        seconds[DEEPMD] = times.get((stage.removesuffix(stages.KEPT), DEEPMD))
        rows.append(Row(stage, {who: s for who, s in seconds.items() if s is not None}))
    return rows


def figures(times: Measured, sizes: list[Frame]) -> dict[str, float]:
    """The ratios that say how fast it is."""
    ratios = {}
    if (READ, LIMIT) in times:
        for dtype in ("float64", "float32"):
            ratios[f"update, {dtype} / {READ}"] = times[f"update, m = 1, {dtype}", OURS] / times[READ, LIMIT]
    if (ADAM, DEEPMD) in times:
        ratios[f"DeePMD-kit's LKF / {SIGNED}"] = times[SIGNED, DEEPMD] / times[SIGNED, OURS]
        for stage in (stage for stage, who in times if stage.startswith(("frame", ADAM)) and who == OURS):
            ratios[f"{stage} / DeePMD-kit's Adam step"] = times[stage, OURS] / times[ADAM, DEEPMD]
    for one in sizes:
        stage = stages.INFERENCE.format(len(one))
        for name, key in (("compressed", (stage, DEEPMD)), ("plain", (PLAIN.format(len(one)), DEEPMD))):
            for kept in ("", stages.KEPT):
                if key in times:
                    ratios[f"DeePMD-kit, {name} / {stage}{kept}"] = times[key] / times[stage + kept, OURS]
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="24 atoms, blocks of 512: seconds, not minutes")
    parser.add_argument("--threads", type=int, metavar="T", help="for us, BLAS and DeePMD-kit alike")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure [all]")
    parser.add_argument("--atoms", type=int, nargs="+", choices=(192, 6144), default=[192, 6144],
                        help="sizes for inference")  # fmt: skip
    parser.add_argument("--deepmd-python", metavar="PYTHON", help="a Python that has DeePMD-kit")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--plot", metavar="FILE", help="bars, as .png, .svg or .pdf")
    options = parser.parse_args()
    with_threads(options.threads)

    block_size = 512 if options.small else 5120
    frame = water.labelled(water.water(24 if options.small else 192))
    sizes = [water.water(n) for n in ([24] if options.small else options.atoms)]
    p = water.potential(frame)
    rng = np.random.default_rng(3)
    with contextlib.ExitStack() as stack:
        deepmd = None
        if options.deepmd_python:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            deepmd = stack.enter_context(peer.Peer(options.deepmd_python, numba.get_num_threads(), folder))
        make = {
            "updates": lambda: of_updates(p, block_size, rng),
            "stages": lambda: of_stages(p, frame, rng),
            "frames": lambda: of_frames(p, frame, block_size, deepmd),
            "inference": lambda: of_inference(p, sizes, deepmd),
        }
        clocks: Clocks = {}
        for part in options.parts:
            clocks |= make[part]()
        taken = take_turns(clocks, options.rounds)
    times = medians(taken)
    rows, ratios = rows_of(times, len(frame)), figures(times, sizes)

    title = f"{len(frame)} atoms of water, N = {p.layout.size:,}, {numba.get_num_threads()} threads"
    print(f"{title}; milliseconds, medians of {options.rounds}, and each over ours\n{table(rows)}\n")
    for (stage, who), seconds in times.items():
        if stage not in [row.stage for row in rows]:
            print(f"{who + ': ' + stage:52}{1e3 * seconds:10.3f}")
    print("\n" + "\n".join(f"{name:76}{ratio:8.3f}" for name, ratio in ratios.items()))
    if options.json:
        seconds = {f"{who}: {stage}": values for (stage, who), values in taken.items()}
        about = {"machine": machine(), "threads": numba.get_num_threads(), "atoms": len(frame)}
        about |= {"N": p.layout.size, "block_size": block_size}
        write_json(options.json, {**about, "ratios": ratios, "seconds": seconds})
    if options.plot:
        plot(rows, options.plot, title)


if __name__ == "__main__":
    main()
