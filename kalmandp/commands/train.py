"""Train a potential as an input file says (DeePMD-kit's input.json, GPUMD's nep.in, n2p2's input.nn). Leaves
the model, a checkpoint, the learning curve lcurve.out and, unless told otherwise, two figures and the
predictions for the validation frames. Ctrl-C finishes the update, saves, and says how to go on."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

#: Started by mpiexec it works on all ranks together.
ON_RANKS = True
#: Steps of a run with --smoke.
SMOKE_STEPS = 2
#: Training frames that are read to see which validation frames are among them, at most.
COMPARED = 10_000
#: Frames left out that are listed on the screen.
LISTED = 20


def add_arguments(parser) -> None:
    parser.add_argument(
        "input", metavar="INPUT.json", nargs="?", help="the input file; may be left out in a folder with one"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", default=".", help="folder for what the run leaves [.]"
    )
    parser.add_argument(
        "--optimizer", metavar="TYPE",
        help="for a nep.in or input.nn: RLEKF (the default), Adam or SNES; for an input.nn also n2p2",
    )  # fmt: skip
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--restart", metavar="CKPT", nargs="?", const="",
        help="go on from a checkpoint, by default the one in DIR",
    )  # fmt: skip
    start.add_argument(
        "-i", "--init-model", metavar="MODEL",
        help="go on from a model: its form, weights, statistics and energy bias; a sel that is too small for "
        "the new data grows",
    )  # fmt: skip
    start.add_argument(
        "-t", "--finetune", metavar="MODEL",
        help="the same, with the energy bias fitted to the new data first",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="where to compute, in place of the input's training/device"
    )
    parser.add_argument("--skip-plots", action="store_true", help="draw no figures")
    parser.add_argument("--quiet", action="store_true", help="no progress, no notices")
    parser.add_argument(
        "--smoke", action="store_true", help=f"only {SMOKE_STEPS} steps, to see that all works"
    )


def run(args) -> int:
    from kalmandp.commands.habits import input_file
    from kalmandp.errors import FileError
    from kalmandp.files import one_run_in
    from kalmandp.ranks.team import Alone, team_of
    from kalmandp.training.config.inputs import read_input

    args.input, args.restart = input_file(args.input, args.restart)
    settings = read_input(args.input, optimizer=args.optimizer)
    output = Path(args.output)
    checkpoint = output / settings.checkpoint_name
    if args.restart == "" and not checkpoint.exists():
        what = "expected the checkpoint of the run that goes on, in the folder that -o names"
        raise FileError(f"{checkpoint}: no such file; {what}")
    team = team_of() or Alone()
    with one_run_in(output) if team.rank == 0 else contextlib.nullcontext():
        if settings.task == "predict":
            return _predict(settings, output)
        return _run(args, settings, output, team)


def _predict(settings, output: Path) -> int:
    """Only predict, as an input of another program may ask for."""
    from kalmandp.frames.dataset import Dataset
    from kalmandp.potentials.potential import Potential
    from kalmandp.registry import load

    with Dataset(settings.training.systems) as data:
        load(settings.companion).predict(Potential.load(settings.start), data, output)
        print(f"{len(data):,} frames predicted; the files are in {output}")
    return 0


def _run(args, settings, output: Path, team) -> int:
    from kalmandp.commands.progress import Progress
    from kalmandp.commands.stopping import stopping
    from kalmandp.ranks.team import require_alike
    from kalmandp.training.loop import train

    checkpoint = output / settings.checkpoint_name
    restart = None
    if args.restart is not None:
        restart = Path(args.restart) if args.restart else checkpoint
    asked = {name: value for name, value in vars(args).items() if isinstance(value, str | bool | None)}
    require_alike(team, {"the input": settings.source, "the command": asked})
    settings = team.of_first(None if team.rank else _with_seed(settings, restart))
    if args.smoke:
        settings = _smoke(settings)
    if not args.quiet:
        _notices(settings)
    _make_folders(settings, output)
    last = None
    with (
        _old_files_kept(settings, output, fresh=restart is None and team.rank == 0) as (started, now),
        contextlib.closing(Progress(quiet=args.quiet)) as progress,
        stopping() as stop,
        _compiling(args, settings) as compiled,
    ):
        team.all(None)  # the names are those of rank 0 from here on
        settings = replace(settings, start=now(settings.start), start_state=now(settings.start_state))
        start = {"restart": restart, "init_model": args.init_model, "finetune": args.finetune}
        options = {"stop": stop, "exclusive": False, "device": args.device, "ready": compiled}
        for last in train(settings, output=output, **start, **options):
            started()
            progress(last)
    if last is not None and last.event == "stopped":
        _say_how_to_go_on(args, last, checkpoint)
        return 130
    if team.rank == 0:
        _finish(settings, output, checkpoint, skip_plots=args.skip_plots)
    return 0


# --- before ---------------------------------------------------------------------------------------


def _with_seed(settings, restart: Path | None):
    """A run without a seed gets one now: the split of the data must be known after the run, too."""
    import numpy as np

    from kalmandp.commands.info import read_checkpoint_header
    from kalmandp.errors import FileError, require

    seed = settings.training.seed
    if restart is not None:
        seed = read_checkpoint_header(restart).source.get("seed_used", seed)
        require(seed is None or isinstance(seed, int), f"{restart}: seed_used", seed, "an integer", FileError)
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    return replace(settings, training=replace(settings.training, seed=int(seed)))


def _smoke(settings):
    training = replace(
        settings.training, n_steps=SMOKE_STEPS, n_epochs=None, disp_freq=1, save_freq=SMOKE_STEPS
    )
    return replace(settings, training=training)


def _notices(settings) -> None:
    for notice in settings.notices:
        print(f"note: {notice}", file=sys.stderr)
    if settings.ignored:
        print(f"note: without effect here: {', '.join(settings.ignored)}", file=sys.stderr)
    if "optimizer" not in settings.source and settings.optimizer.type == "Adam":
        print(
            "note: the input names no optimizer: Adam, as in DeePMD-kit; "
            '"optimizer": {"type": "RLEKF"} trains with the Kalman filter',
            file=sys.stderr,
        )


@contextlib.contextmanager
def _compiling(args, settings) -> Iterator:
    """Have the kernels of a first step compiled while the data are read; yields what waits for them."""
    from kalmandp.registry import KINDS

    o, device = settings.optimizer, args.device or settings.training.device
    if device != "cpu" or KINDS[settings.model.kind].ahead is None:
        yield None
        return
    from kalmandp.engines.cpu.ahead import Compilation
    from kalmandp.engines.cpu.private import leave_out_scipy

    if args.alone:
        leave_out_scipy()
    tiled = o.is_kalman and o.get("covariance") in (None, "tiled")
    dtype = o.get("covariance_dtype") or "float64"
    compilation = Compilation(settings.model.kind, dtype if tiled else None)

    def wait() -> None:
        if compilation.running and not args.quiet:
            print("compiling for this machine; once, unless kalmandp changes …", file=sys.stderr, flush=True)
        compilation.wait()

    try:
        yield wait
    finally:
        compilation.stop()


def _make_folders(settings, output: Path) -> None:
    """The folders of all files, so that none fails after hours of training."""
    from kalmandp.errors import FileError

    t = settings.training
    for name in (t.save_ckpt, t.model_file, t.disp_file):
        folder = (output / name).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"{folder}: cannot be made a folder ({error.strerror})") from None


@contextlib.contextmanager
def _old_files_kept(settings, output: Path, fresh: bool) -> Iterator:
    """Files of an earlier run are renamed (model.dp → model.dp.old1), not overwritten.

    Yields a function to call when the new run has started (if it never does, they get their names back), and
    one that gives the present name of a file of the earlier run.
    """
    from kalmandp.training.members import model_path

    t = settings.training
    names = [output / settings.checkpoint_name, output / t.model_file, output / t.disp_file]
    names += [model_path(output / t.model_file, k) for k in range(2, t.committee + 1)]
    moved = []
    for path in names if fresh else ():
        if path.exists():
            number = 1
            while (old := path.with_name(f"{path.name}.old{number}")).exists():
                number += 1
            path.rename(old)
            moved.append((path, old))
    started = False

    def begin() -> None:
        nonlocal started
        if not started:
            for path, old in moved:
                print(f"note: {path} of an earlier run is now {old.name}", file=sys.stderr)
        started = True

    def now(name: str) -> str:
        places = {old.resolve(): str(new) for old, new in moved}
        return places.get(Path(name).resolve(), name) if name else name

    try:
        yield begin, now
    finally:
        if not started:
            for path, old in moved:
                old.rename(path)


# --- during ---------------------------------------------------------------------------------------


def _say_how_to_go_on(args, last, checkpoint: Path) -> None:
    own = [] if args.optimizer is None else ["--optimizer", args.optimizer]
    command = ["kalmandp", "train", args.input, *own, "-o", args.output, "--restart"]
    print(f"stopped after step {last.step} of {last.n_steps}; saved in {checkpoint}")
    print(f"go on with:  {shlex.join(command)}")


# --- after ----------------------------------------------------------------------------------------


def _finish(settings, output: Path, checkpoint: Path, skip_plots: bool) -> None:
    """Errors on the validation frames, figures, and where everything lies."""
    from kalmandp.commands.info import stored_disagreement
    from kalmandp.potentials.potential import Potential
    from kalmandp.training.data.splitting import datasets
    from kalmandp.training.last_layer import LAST_LAYER
    from kalmandp.training.report.metrics import compare, summarize
    from kalmandp.training.report.summary import error_table, write_details

    t = settings.training
    model = output / t.model_file
    potential = Potential.load(model)
    left = [("model", model), ("checkpoint", checkpoint), ("learning curve", output / t.disp_file)]
    comparison = None
    training_data, validation = datasets(settings, t.seed)
    if training_data.ignored:
        print(
            f"note: arrays of the data that are not read: {', '.join(training_data.ignored)}", file=sys.stderr
        )
    if validation is not None:
        with contextlib.closing(training_data), contextlib.closing(validation):
            comparison = compare(potential, validation)
            known = _known_from_training(training_data, validation)
        print(f"\nErrors on {_which(len(validation), known)}:\n")
        print(error_table(summarize(comparison)))
        prefix = output / "validation"
        write_details(comparison, prefix, ", ".join(t.validation_systems) or "validation")
        left.append(("predictions", Path(f"{prefix}.*.out")))
    else:
        print(
            '\nThere are no validation frames ("validation_fraction": 0.1 in training sets a tenth aside); '
            "`kalmandp test` compares the model with others."
        )
    if (disagreement := stored_disagreement(checkpoint)) is not None:
        print(f"\nnote: {disagreement}.")
    if (solved := potential.info.get(LAST_LAYER)) is not None:
        print(f"\nnote: the last layer was {solved} at the end.")
    _say_what_was_left_out(settings, output, checkpoint, left)
    if not skip_plots:
        left += _figures(comparison, output, output / t.disp_file)
    print()
    width = max(len(name) for name, _ in left)
    for name, path in left:
        print(f"{name:<{width}}  {path}")


def _which(n: int, known: int) -> str:
    """The validation frames in words; ``known`` of the ``n`` are among the training frames."""
    from kalmandp.commands.wording import plural

    frames = plural(n, "validation frame")
    if not known:
        return f"{frames}, not trained on"
    if known == n:
        return f"{frames}, {'which was' if n == 1 else 'all of which were'} trained on too"
    return f"{frames}, {known:,} of which {'was' if known == 1 else 'were'} trained on too"


def _known_from_training(training_data, validation) -> int:
    """How many validation frames are training frames: the same place in a file, or the same atoms there."""
    places = {training_data.source(k) for k in range(len(training_data))}
    left = [k for k in range(len(validation)) if validation.source(k) not in places]
    if len(training_data) > COMPARED:  # to read them all would take longer than it is worth
        return len(validation) - len(left)
    key = lambda f: hash(
        (tuple(f.symbols), f.positions.tobytes(), None if f.cell is None else f.cell.tobytes())
    )
    sizes = {validation.natoms(k) for k in left}
    trained = {key(training_data[k]) for k in range(len(training_data)) if training_data.natoms(k) in sizes}
    return len(validation) - sum(key(validation[k]) not in trained for k in left)


def _say_what_was_left_out(settings, output: Path, checkpoint: Path, left: list) -> None:
    """The frames that the gate found to be far off: their labels deserve a look."""
    from kalmandp.training.data.splitting import datasets
    from kalmandp.training.measurements.gate import LEFT_OUT_FILE, LeftOut
    from kalmandp.training.state.checkpoint import open_checkpoint

    if settings.optimizer.get("gate") is None:
        return
    with open_checkpoint(checkpoint) as saved:
        found = LeftOut(saved["gate"]["left_out"])
    data, _ = datasets(settings, settings.training.seed)
    with contextlib.closing(data):
        lines = found.summary(data.source)
    print(f"\nLeft out by the gate: {len(lines)} of {len(data):,} frames" + (":" if lines else "."))
    for line in lines[:LISTED]:
        print(f"  {line}")
    if len(lines) > LISTED:
        print(f"  … and {len(lines) - LISTED} more")
    left.append(("left out", output / LEFT_OUT_FILE))


def _figures(comparison, output: Path, curve: Path) -> list[tuple[str, Path]]:
    """Draw what can be drawn; without matplotlib a run has succeeded all the same."""
    from kalmandp import plots
    from kalmandp.errors import InputError, MissingPackage

    drawn = []
    try:
        drawn.append(("", plots.learning_curve(curve, output / "learning_curve.png")))
        if comparison is not None:
            drawn.append(("", plots.parity(comparison, output / "parity.png")))
    except (MissingPackage, InputError) as error:
        print(f"note: {error}", file=sys.stderr)
    return [("figure", path) for _, path in drawn]
