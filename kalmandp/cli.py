"""The command line: a thin reader of the library.

Each command is a module of `kalmandp.commands` with ``add_arguments(parser)`` and ``run(args)``;
modules that compute are imported when their command runs, so that ``kalmandp --help`` is immediate.

Exit status: 0 done, 1 an error (one line on stderr, a traceback with KALMANDP_DEBUG=1), 2 a command
line that cannot be understood, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

import kalmandp
from kalmandp.commands.habits import UsageError, unknown_options, wrong_word
from kalmandp.errors import KalmanDPError
from kalmandp.ranks.launched import is_alone, under_mpi

#: command -> what it does, in the order of the help
COMMANDS = {
    "example": "copy an example, input and data, into a folder",
    "train": "train a potential as an input file says",
    "test": "compare a model with labelled frames",
    "convert": "convert frames between file formats",
    "doctor": "look through data sets before training",
    "info": "say what a data set, model or checkpoint holds",
    "plan": "parameters, memory and time of a training run, before it runs",
    "plot": "draw learning curve and parity from the files of a run",
    "report": "write what a run did as one file for a browser",
    "neighbor-stat": "closest pair and most neighbours of each type in a data set",
    "change-bias": "fit a model's energy bias to other data, or set it",
    "model-devi": "how far several models differ, frame by frame",
    "select": "choose frames worth labelling from a pool without labels",
    "show": "what a model file says of its types, descriptor and fitting net",
    "compress": "make a model ready for DeePMD-kit's compression",
    "completion": "print a script that completes command lines in a shell",
}

MISUNDERSTOOD, INTERRUPTED = 2, 130
#: Seconds to wait for the other ranks: an error that all of them meet is told once.
ALIKE = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    if argv is None:
        _share_the_machine()
    args = _read(_arranged(sys.argv[1:] if argv is None else list(argv)))
    args.alone = argv is None  # nothing of a host's runs in this process
    debug = bool(os.environ.get("KALMANDP_DEBUG"))
    if argv is None and under_mpi() and not is_alone():
        return _on_ranks(args)
    try:
        with _plain_warnings():
            status = args.run(args)
            sys.stdout.flush()
        return status
    except KalmanDPError as error:
        if debug:
            raise
        return _fail(str(error), MISUNDERSTOOD if isinstance(error, UsageError) else 1)
    except MemoryError as error:
        if debug:
            raise
        return _fail(f"out of memory ({error}); `kalmandp plan` shows what a run needs")
    except BrokenPipeError:
        # the reader of our output has gone (| head); nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED


def _on_ranks(args: argparse.Namespace) -> int:
    """Run a command on all ranks of MPI. Only rank 0 prints; an error ends all ranks and is told once."""
    from kalmandp.ranks.team import team_of

    try:
        team = team_of()
    except KalmanDPError as error:
        return _fail(str(error))
    assert team is not None  # a launcher started us
    if not getattr(args, "on_ranks", False):
        if team.rank == 0:
            what = f"runs on one rank, and {team.size} were started; expected one, without MPI"
            _fail(f"{args.parser.prog} {what}")
        return 1
    silent = open(os.devnull, "w") if team.rank else None
    try:
        out, err = silent or sys.stdout, silent or sys.stderr
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _plain_warnings():
            status = args.run(args)
            sys.stdout.flush()
        return status
    except (Exception, KeyboardInterrupt) as error:
        message = str(error) if isinstance(error, KalmanDPError) else f"{type(error).__name__}: {error}"
        alike = team.all_failed(ALIKE)
        if not alike or team.rank == 0:
            who = "" if message.startswith("rank ") or alike else f"rank {team.rank}: "
            _fail(f"{who}{message}")
        if not alike:
            team.end_all(1)
        return 1


def _share_the_machine() -> None:
    """Let idle threads sleep soon, unless the user has said otherwise.

    Threads of GNU OpenMP wait for the next kernel by spinning for some milliseconds. Where other programs
    use the same cores, this made training up to five times slower; 10⁴ turns take some ten microseconds.
    The variable is set for the program ``kalmandp`` alone, before a library reads it, and never for a
    host that calls `main`.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "10000"


def _arranged(argv: list[str]) -> list[str]:
    """The words in an order that argparse understands, if the command's module has ``arranged`` for this."""
    if not argv or argv[0] not in COMMANDS:
        return argv
    module = importlib.import_module(f"kalmandp.commands.{argv[0].replace('-', '_')}")
    arrange = getattr(module, "arranged", None)
    return argv if arrange is None else [argv[0], *arrange(argv[1:])]


def _read(words: list[str]) -> argparse.Namespace:
    """Read a command line; one that cannot be understood is reported and ends the program with status 2."""
    parser = make_parser()
    if not words:
        parser.print_help(sys.stderr)
        sys.exit(MISUNDERSTOOD)
    if words[0] == "help":  # kalmandp help train
        words = [*words[1:2], "--help"]
    if not words[0].startswith("-") and words[0] not in COMMANDS:
        told, meant = wrong_word(words[0], COMMANDS)
        _fail(told)
        if {"-h", "--help"} & set(words):
            with contextlib.suppress(SystemExit):
                parser.parse_args([meant, "--help"] if meant else ["--help"])
        sys.exit(MISUNDERSTOOD)
    args, left = parser.parse_known_args(words)
    if left:
        args.parser.error(unknown_options(left, args.parser._option_string_actions))
    return args


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="kalmandp",
        description="Neural-network potentials, trained by an extended Kalman filter.",
    )
    parser.add_argument("--version", action="version", version=f"kalmandp {kalmandp.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, what in COMMANDS.items():
        module = importlib.import_module(f"kalmandp.commands.{name.replace('-', '_')}")
        command = commands.add_parser(name, help=what, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command, alone=False)
        command.set_defaults(on_ranks=getattr(module, "ON_RANKS", False))
    return parser


def _fail(message: str, status: int = 1) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as one line for a person, not with the source line that raised them."""

    def show(message, category, filename, lineno, file=None, line=None):
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
