"""What people type by habit, and what they mean: a word that is no command, a file in the wrong place.

Nothing is guessed where it could do harm: an input file that stands alone is taken; for all else a message
names the command that was meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from kalmandp.commands.info import is_input, kind_of
from kalmandp.errors import FileError, InputError, KalmanDPError
from kalmandp.registry import INPUTS

#: Words of other programs and what they are called here.
OTHER_WORDS = {
    "fit": "train", "learn": "train", "run": "train", "restart": "train", "finetune": "train",
    "eval": "test", "evaluate": "test", "validate": "test", "predict": "test",
    "check": "doctor", "inspect": "info", "describe": "info", "draw": "plot",
    "examples": "example", "init": "example", "devi": "model-devi", "model_devi": "model-devi",
    "neighbor_stat": "neighbor-stat", "change_bias": "change-bias",
}  # fmt: skip
INPUT_SUFFIXES = (".json", ".yaml", ".yml")


class UsageError(KalmanDPError):
    """A command line that cannot be understood; the exit status is 2."""


def wrong_word(word: str, commands: Iterable[str]) -> tuple[str, str | None]:
    """What to say of a first word that is no command, and the command that is probably meant.

    Parameters
    ----------
    word : what stands in a command's place
    commands : the names of the commands
    """
    if Path(word).is_file():
        return f"{word} is a file; expected a command first: {use_of(word)}", None
    if word == "freeze":
        return "there is nothing to freeze: `kalmandp train` writes the model itself, model.dp", None
    names = list(commands)
    meant = OTHER_WORDS.get(word.lower()) or next(iter(get_close_matches(word.lower(), names)), None)
    if meant in names:
        return f"{word!r} is not a command; did you mean `kalmandp {meant}`?", meant
    return f"{word!r} is not a command; `kalmandp --help` lists them", None


def unknown_options(left: list[str], known: Iterable[str]) -> str:
    """What to say of words of the command line that a command does not take."""
    told, options = [], list(known)
    for word in left:
        name = word.partition("=")[0]
        near = get_close_matches(name, options, n=1, cutoff=0.6) if word.startswith("-") else []
        told.append(f"{word} (did you mean {near[0]}?)" if near else word)
    return f"not understood: {', '.join(told)}"


def use_of(path) -> str:
    """The command for a file by what it holds: words to put into a message."""
    return {
        "input": f"kalmandp train {path}",
        "model": f"kalmandp test -m {path} -s DATA, or kalmandp info {path}",
        "checkpoint": f"kalmandp train INPUT.json --restart {path}, or kalmandp info {path}",
        "data": f"kalmandp info {path}, or kalmandp doctor {path}",
    }[_kind(path)]


def input_file(given: str | None, restart: str | None) -> tuple[str, str | None]:
    """The input file and the checkpoint of ``kalmandp train``.

    Parameters
    ----------
    given : what stands in the input file's place, if anything does
    restart : what follows --restart: "" if nothing does, None without --restart

    Returns
    -------
    input, restart
        ``train --restart input.json`` is ``train input.json --restart``; without an input file it is
        the one in this folder, if there is one only.

    Raises
    ------
    InputError, UsageError
        For a file of another kind in either place, with the command that was meant.
    """
    if restart and _kind(restart) == "input":
        if given is not None:
            meant = f"kalmandp train {restart} --restart {given}"
            hint = f"; did you mean `{meant}`?" if _kind(given) == "checkpoint" else ""
            raise InputError(f"--restart is {restart}, an input file; expected a checkpoint{hint}")
        given, restart = restart, ""
    if given is None:
        given = _only_input(Path())
    kind = _kind(given) if Path(given).is_file() else "input"
    if kind == "input":
        return given, restart
    meant = {
        "model": f"kalmandp train INPUT.json -i {given} goes on from it, {use_of(given)} describes it",
        "checkpoint": f"kalmandp train INPUT.json --restart {given} goes on from it",
        "data": f'the input file names it: {{"training": {{"training_data": {{"systems": "{given}"}}}}}}',
    }[kind]
    article = "data" if kind == "data" else f"a {kind}"
    raise InputError(f"{given} is {article}; expected an input file (JSON or YAML); {meant}")


def _only_input(folder: Path) -> str:
    """The input file of a folder, if there is exactly one."""
    found = sorted(
        path.name for path in folder.iterdir()
        if (path.suffix.lower() in INPUT_SUFFIXES or path.name in INPUTS)
        and path.is_file() and is_input(path)
    )  # fmt: skip
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"expected INPUT.json; this folder has {len(found)}: {', '.join(found)}")
    raise UsageError(
        "expected INPUT.json, and this folder has no input file; `kalmandp example silicon` makes a folder "
        "with one, and with data"
    )


def _kind(path) -> str:
    """ "input", "model", "checkpoint" or "data"; what is missing or cannot be read is judged by its name."""
    suffix = Path(path).suffix.lower()
    if suffix in INPUT_SUFFIXES:
        return "input" if not Path(path).is_file() or is_input(Path(path)) else "model"
    if suffix in (".dp", ".pth", ".pt", ".pb") or Path(path).name.lower() == "nep.txt":
        return "model"
    try:
        return kind_of(str(path))
    except FileError:  # not HDF5, or not there
        return _kind_of_text(Path(path))


def _kind_of_text(path: Path) -> str:
    return "input" if path.is_file() and is_input(path) else "data"
