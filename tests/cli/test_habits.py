"""Command lines as people type them by habit: understood where that is safe, told where it is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from systems import frames, settings

import kalmandp
from kalmandp.cli import COMMANDS, main, make_parser
from kalmandp.commands.completion import SHELLS, options_of
from kalmandp.commands.info import read_checkpoint_header


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    """A folder with data, an input file and what a short run has left beside them."""
    folder = tmp_path_factory.mktemp("ran")
    kalmandp.Dataset.write(folder / "morse.h5", frames(6))
    (folder / "input.json").write_text(json.dumps(settings("morse.h5", training={"numb_steps": 3})))
    assert main(["train", str(folder / "input.json"), "-o", str(folder), "--quiet", "--skip-plots"]) == 0
    return folder


@pytest.fixture
def here(ran, tmp_path, monkeypatch) -> Path:
    """A copy of it that is the current folder."""
    shutil.copytree(ran, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def told(arguments: list[str], capsys) -> tuple[int, str]:
    """Exit status and stderr."""
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    return status, capsys.readouterr().err


TOLD = {
    "input.json": (2, "expected a command first: kalmandp train input.json"),
    "model.dp": (2, "kalmandp test -m model.dp -s DATA"),
    "morse.h5": (2, "kalmandp info morse.h5, or kalmandp doctor morse.h5"),
    "trian input.json": (2, "did you mean `kalmandp train`?"),
    "predict": (2, "did you mean `kalmandp test`?"),
    "neighbor_stat": (2, "did you mean `kalmandp neighbor-stat`?"),
    "freeze": (2, "`kalmandp train` writes the model itself"),
    "xyzzy": (2, "'xyzzy' is not a command; `kalmandp --help` lists them"),
    "train input.json --ouput run": (2, "--ouput (did you mean --output?)"),
    "train input.json more.json": (2, "usage: kalmandp train"),
    "train model.dp": (1, "model.dp is a model; expected an input file (JSON or YAML); kalmandp train INPUT"),
    "train morse.h5": (1, "morse.h5 is data; expected an input file"),
    "train model.ckpt.h5": (1, "kalmandp train INPUT.json --restart model.ckpt.h5 goes on from it"),
    "train model.ckpt.h5 --restart input.json": (1, "`kalmandp train input.json --restart model.ckpt.h5`"),
    "train input.json -o other --restart": (1, "other/model.ckpt.h5: no such file; expected the checkpoint"),
    "info input.json": (1, "input.json: is an input file; `kalmandp plan input.json` says what its"),
    "train input.json --restart input.json": (1, "--restart is input.json, an input file; expected a"),
}  # fmt: skip


@pytest.mark.parametrize("typed", TOLD)
def test_what_was_meant_is_told(here, capsys, typed):
    before = {p.name: p.read_bytes() for p in here.iterdir()}
    status, err = told(typed.split(), capsys)
    assert status == TOLD[typed][0] and TOLD[typed][1] in err
    assert {p.name: p.read_bytes() for p in here.iterdir()} == before, "nothing may be touched"


RESTARTS = ("--restart input.json", "--restart", "input.json --restart", "--restart model.ckpt.h5")


@pytest.mark.parametrize("typed", RESTARTS)
def test_a_restart_is_understood_in_any_order(here, typed):
    tree = settings("morse.h5", training={"numb_steps": 5})
    (here / "input.json").write_text(json.dumps(tree))
    assert main(["train", *typed.split(), "--quiet", "--skip-plots"]) == 0
    assert read_checkpoint_header("model.ckpt.h5").step == 5


def test_the_only_input_of_a_folder_is_taken(here, capsys):
    (here / "model.json").write_text('{"model": {}}')  # not an input file
    assert main(["train", "-o", "again", "--quiet", "--skip-plots"]) == 0
    assert (here / "again" / "model.dp").is_file()
    shutil.copy("input.json", "other.json")
    assert told(["train"], capsys) == (
        2, "error: expected INPUT.json; this folder has 2: input.json, other.json\n",
    )  # fmt: skip
    for name in ("input.json", "other.json"):
        Path(name).unlink()
    status, err = told(["train"], capsys)
    assert status == 2 and "this folder has no input file" in err


def test_help_after_a_wrong_word_helps(capsys):
    for typed, usage in (
        (["trian", "--help"], "usage: kalmandp train"),
        (["xyzzy", "-h"], "usage: kalmandp ["),
    ):
        with pytest.raises(SystemExit) as end:
            main(typed)
        out, err = capsys.readouterr()
        assert end.value.code == 2 and out.startswith(usage) and typed[0] in err
    with pytest.raises(SystemExit) as end:
        main(["help", "doctor"])
    assert end.value.code == 0 and capsys.readouterr().out.startswith("usage: kalmandp doctor")


def test_nothing_typed_shows_the_commands(capsys):
    status, err = told([], capsys)
    assert status == 2 and all(name in err for name in COMMANDS)


# --- completion -----------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path, capsys):
    """The path of the script for a shell."""

    def write(shell: str) -> Path:
        assert main(["completion", shell]) == 0
        path = tmp_path / f"kalmandp.{shell}"
        path.write_text(capsys.readouterr().out, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_can_be_read_and_know_every_option(script, shell):
    text = script(shell).read_text(encoding="utf-8")
    for command, options in options_of(make_parser()).items():
        assert command in text
        for name in (name for option in options for name in option.names):
            assert name.lstrip("-") in text
    if shutil.which(shell):
        done = subprocess.run([shell, "-n", script(shell)], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("kalmandp tr", "train"),
        ("kalmandp train --out", "--output"),
        ("kalmandp train --device ", "cpu cuda"),
        ("kalmandp completion z", "zsh"),
    ],
)
def test_bash_completes(script, words, wanted):
    typed = words.split(" ")
    line = " ".join(f"'{word}'" for word in typed)
    program = (
        f"source {script('bash')}; COMP_WORDS=({line}); COMP_CWORD={len(typed) - 1}; _kalmandp; "
        'echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (wanted, "")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(script):
    program = f"source {script('fish')}; complete -C 'kalmandp train --out'"
    done = subprocess.run(["fish", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("--output"), done.stderr


def test_python_m_is_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "kalmandp", "-h"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("usage: kalmandp [")
