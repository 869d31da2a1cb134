"""Train a potential as an input file says (DeePMD-kit's input.json). Leaves the model, a checkpoint,
the learning curve lcurve.out and, unless told otherwise, two figures and the predictions for the
validation frames. Ctrl-C finishes the update, saves, and says how to go on."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

#: Steps of a run with --smoke.
SMOKE_STEPS = 2
#: Frames left out that are listed on the screen.
LISTED = 20


def add_arguments(parser) -> None:
    parser.add_argument("input", metavar="INPUT.json", help="the input file")
    parser.add_argument(
        "-o", "--output", metavar="DIR", default=".", help="folder for what the run leaves [.]"
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--restart", metavar="CKPT", nargs="?", const="",
        help="go on from a checkpoint, by default the one in DIR (then after INPUT.json)",
    )  # fmt: skip
    start.add_argument(
        "-i", "--init-model", metavar="MODEL",
        help="go on from a model (.dp, .yaml): its form, weights, statistics and energy bias",
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
    from kalmandp.files import one_run_in
    from kalmandp.training.config.inputs import read_input

    settings = read_input(args.input)
    output = Path(args.output)
    with one_run_in(output):
        return _run(args, settings, output)


def _run(args, settings, output: Path) -> int:
    from kalmandp.commands.progress import Progress
    from kalmandp.training.loop import train

    checkpoint = checkpoint_path(settings, output)
    restart = None
    if args.restart is not None:
        restart = Path(args.restart) if args.restart else checkpoint
    settings = _with_seed(settings, restart)
    if args.smoke:
        settings = _smoke(settings)
    if not args.quiet:
        _notices(settings)
        _notice_of_prior(settings, args.init_model or args.finetune)
    _make_folders(settings, output)
    last = None
    with (
        _old_files_kept(settings, output, fresh=restart is None) as started,
        contextlib.closing(Progress(quiet=args.quiet)) as progress,
        _stop() as stop,
        _compiling(args, settings) as compiled,
    ):
        start = {"restart": restart, "init_model": args.init_model, "finetune": args.finetune}
        options = {"stop": stop, "exclusive": False, "device": args.device, "ready": compiled}
        for last in train(settings, output=output, **start, **options):
            started()
            progress(last)
    if last is not None and last.event == "stopped":
        _say_how_to_go_on(args, last, checkpoint)
        return 130
    _finish(settings, output, checkpoint, skip_plots=args.skip_plots)
    return 0


def checkpoint_path(settings, output: Path) -> Path:
    """Where `training.loop` puts the checkpoint of a run."""
    path = output / settings.training.save_ckpt
    return path if path.suffix in (".h5", ".hdf5") else path.with_name(path.name + ".h5")


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
    if settings.ignored:
        print(f"note: without effect here: {', '.join(settings.ignored)}", file=sys.stderr)
    if "optimizer" not in settings.source and settings.optimizer.type == "Adam":
        print(
            "note: the input names no optimizer: Adam, as in DeePMD-kit; "
            '"optimizer": {"type": "RLEKF"} trains with the Kalman filter',
            file=sys.stderr,
        )


def _notice_of_prior(settings, model) -> None:
    """P₀ says how far the weights may be from the truth: far for random ones, not for a trained model's."""
    o = settings.optimizer
    if model and o.is_kalman and o.p0 is None:
        print(
            f"note: the prior is that of random weights; with optimizer/p0 0.01 what {model} knows is kept "
            "better, above all its energies",
            file=sys.stderr,
        )


@contextlib.contextmanager
def _compiling(args, settings) -> Iterator:
    """Have the kernels of a first step compiled while the data are read; yields what waits for them."""
    o, device = settings.optimizer, args.device or settings.training.device
    if device != "cpu" or settings.model.kind != "se_e2_a":
        yield None
        return
    from kalmandp.engines.cpu.ahead import Compilation

    tiled = o.is_kalman and o.covariance in (None, "tiled")
    compilation = Compilation((o.covariance_dtype or "float64") if tiled else None)

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

    Yields a function to call when the new run has started; if it never does, they get their names
    back.
    """
    t = settings.training
    names = [checkpoint_path(settings, output), output / t.model_file, output / t.disp_file]
    moved = []
    for path in names if fresh else ():
        if path.is_file():
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

    try:
        yield begin
    finally:
        if not started:
            for path, old in moved:
                old.rename(path)


# --- during ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _stop() -> Iterator:
    """A function that tells whether to stop: after the first Ctrl-C, or SIGTERM from a queue.

    Before the first step there is nothing to save, and a second Ctrl-C means at once: then the
    signal does what it always does.
    """
    running = wanted = False

    def stop() -> bool:
        nonlocal running
        running = True
        return wanted

    def on_signal(number, frame):
        nonlocal wanted
        if wanted or not running:
            raise KeyboardInterrupt
        wanted = True
        print("\nsaving after this step …", file=sys.stderr)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_how_to_go_on(args, last, checkpoint: Path) -> None:
    command = ["kalmandp", "train", args.input, "-o", args.output, "--restart"]
    print(f"stopped after step {last.step} of {last.n_steps}; saved in {checkpoint}")
    print(f"go on with:  {shlex.join(command)}")


# --- after ----------------------------------------------------------------------------------------


def _finish(settings, output: Path, checkpoint: Path, skip_plots: bool) -> None:
    """Errors on frames that were not trained on, figures, and where everything lies."""

    from kalmandp.potentials.potential import Potential
    from kalmandp.training.loop import datasets
    from kalmandp.training.report.metrics import compare, summarize
    from kalmandp.training.report.summary import error_table, write_details

    t = settings.training
    model = output / t.model_file
    left = [("model", model), ("checkpoint", checkpoint), ("learning curve", output / t.disp_file)]
    comparison = None
    training_data, validation = datasets(settings, t.seed)
    if validation is not None:
        with contextlib.closing(training_data), contextlib.closing(validation):
            comparison = compare(Potential.load(model), validation)
        print(f"\nErrors on {len(validation):,} validation frames, not trained on:\n")
        print(error_table(summarize(comparison)))
        prefix = output / "validation"
        write_details(comparison, prefix, ", ".join(t.validation_systems) or "validation")
        left.append(("predictions", Path(f"{prefix}.*.out")))
    else:
        print(
            '\nThere are no validation frames ("validation_fraction": 0.1 in training sets a tenth aside); '
            "`kalmandp test` compares the model with others."
        )
    _say_what_was_left_out(settings, output, checkpoint, left)
    if not skip_plots:
        left += _figures(comparison, output, output / t.disp_file)
    print()
    width = max(len(name) for name, _ in left)
    for name, path in left:
        print(f"{name:<{width}}  {path}")


def _say_what_was_left_out(settings, output: Path, checkpoint: Path, left: list) -> None:
    """The frames that the gate found to be far off: their labels deserve a look."""
    from kalmandp.training.loop import datasets
    from kalmandp.training.measurements.gate import LEFT_OUT_FILE, LeftOut
    from kalmandp.training.state.checkpoint import open_checkpoint

    if settings.optimizer.gate is None:
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
