"""Say what a training run will take, before anything runs: parameters, blocks and memory of P,
updates and, measured on a frame, the time of an epoch and of the whole run."""

from __future__ import annotations

import json


def add_arguments(parser) -> None:
    parser.add_argument("input", metavar="INPUT.json", help="the input file")
    parser.add_argument(
        "--optimizer",
        metavar="TYPE",
        help="for the input of another program, e.g. input.nn: as train --optimizer",
    )
    parser.add_argument("--no-timing", action="store_true", help="measure nothing")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="in place of the input's training/device")
    parser.add_argument("--ranks", type=int, default=1, metavar="R", help="of MPI: what a step on them takes")
    parser.add_argument(
        "--bandwidth", type=float, default=25.0, metavar="GB/s", help="between ranks, with --ranks [25]"
    )
    parser.add_argument(
        "--latency", type=float, default=2.0, metavar="µs", help="of a message, with --ranks [2]"
    )
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(args) -> int:
    from kalmandp.errors import require
    from kalmandp.training.config.inputs import read_input
    from kalmandp.training.placement.plan import make_plan
    from kalmandp.training.placement.ranks_model import Network

    for name in ("ranks", "bandwidth", "latency"):
        value = getattr(args, name)
        require(value > 0, f"--{name}", value, "a positive number")
    settings = read_input(args.input, optimizer=args.optimizer)
    network = Network(1e9 * args.bandwidth, 1e-6 * args.latency)
    plan = make_plan(
        settings, timing=not args.no_timing, device=args.device, ranks=args.ranks, network=network
    )
    if args.json:
        ranks = None if plan.on_ranks is None else plan.on_ranks._asdict()
        print(json.dumps({**plan._asdict(), "on_ranks": ranks, "fits": plan.fits}, indent=2))
    else:
        print(_text(plan))
    return 0


def _text(plan) -> str:
    from kalmandp.commands.wording import duration, plural, size, table

    rows = [
        ("data", f"{plural(plan.n_frames, 'frame')}, {plan.atoms_per_frame:.0f} atoms on average"),
        *((name, f"{value}{_estimated(plan, name)}") for name, value in plan.model),
        ("weights", f"{plan.n_weights:,}"),
        ("optimizer", plan.optimizer),
    ]
    if plan.block_sizes:
        largest = max(plan.block_sizes)
        rows.append(("blocks of P", f"{len(plan.block_sizes)}, the largest {largest:,}"))
        free = f"; free now: {size(plan.memory_free)}" if plan.memory_free else ""
        rows.append(("memory of P", f"{size(plan.memory)}{free}"))
    elif plan.memory:
        rows.append(("memory of a generation", size(plan.memory)))
    if plan.frames_memory:
        rows.append(("frames on the GPU", f"{size(plan.frames_memory)}, {_kept(plan)}"))
    rows += [
        ("steps", f"{plan.n_steps:,}, {plan.steps_per_epoch:,} an epoch"),
        ("updates per step", str(plan.updates_per_step)),
        ("updates per epoch", f"{plan.updates_per_step * plan.steps_per_epoch:,}"),
    ]
    if plan.seconds_per_step is not None:
        step = plan.seconds_per_step
        rows += [
            ("time per step", f"{duration(step)} (measured)"),
            ("time per epoch", duration(step * plan.steps_per_epoch)),
            ("time of the run", duration(step * plan.n_steps)),
        ]
    if plan.on_ranks is not None:
        rows += _rows_of_ranks(plan, plan.on_ranks)
    text = table(rows)
    if not plan.fits:
        what, helps = "A generation", "population helps."
        if plan.block_sizes:
            what, helps = "P", "block_size helps."
        text += (
            f"\n\n{what} does not fit: it takes {size(plan.memory)} of the {size(plan.memory_free)} that are "
            f"free, and the rest of a run needs its share. A smaller optimizer/{helps}"
        )
    return text


def _rows_of_ranks(plan, ranks) -> list[tuple[str, str]]:
    """Of several ranks: what the one with most to do keeps, receives and waits for."""
    from kalmandp.commands.wording import duration, plural, size

    rows = [
        ("ranks", f"{ranks.n_ranks:,}; below, of the one that has most"),
        ("memory of P", f"{size(ranks.memory)}, of H and K {size(ranks.rows_memory)}"),
        ("received in a step", f"{size(ranks.received)}, {plural(ranks.messages, 'message')}"),
    ]
    if ranks.seconds is not None:
        share = ranks.travelling / ranks.seconds
        rows += [
            ("time per step", f"{duration(ranks.seconds)} (expected; {share:.0%} of it the network's)"),
            ("time per epoch", duration(ranks.seconds * plan.steps_per_epoch)),
            ("time of the run", duration(ranks.seconds * plan.n_steps)),
        ]
    return rows


def _estimated(plan, name: str) -> str:
    """Where a model's row is an estimate from a part of the frames."""
    return f" (from {plan.looked_at} frames)" if plan.looked_at and name.startswith("neighbours") else ""


def _kept(plan) -> str:
    """How many of the frames stay on the GPU beside P."""
    from kalmandp.frames.kept import DEVICE_SHARE

    room = DEVICE_SHARE * max(plan.memory_free - plan.memory, 0)
    if not plan.memory_free or plan.frames_memory <= room:
        return "all of them stay there"
    return f"{room / plan.frames_memory:.0%} of them stay there, the others are uploaded when they come"
