"""Print a script that completes commands, options and their values in a shell (bash, zsh or fish). With
bash:  kalmandp completion bash > ~/.local/share/bash-completion/completions/kalmandp"""

from __future__ import annotations

import argparse
from typing import NamedTuple

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell to complete in")


def run(args) -> int:
    from kalmandp.registry import COMMAND_LINE, load

    whole = load(COMMAND_LINE)
    script = {"bash": bash, "zsh": zsh, "fish": fish}[args.shell]
    print(script(whole.COMMANDS, options_of(whole.make_parser())))
    return 0


class Option(NamedTuple):
    """An option of a command, or a positional argument (no names)."""

    names: tuple[str, ...]
    help: str
    choices: tuple[str, ...]
    takes_value: bool


def options_of(parser: argparse.ArgumentParser) -> dict[str, list[Option]]:
    """The options of every command, as the parser has them."""
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {name: [_option(a) for a in p._actions] for name, p in commands.choices.items()}


def _option(action: argparse.Action) -> Option:
    text = (action.help or "").replace("%%", "%")
    choices = tuple(map(str, action.choices or ()))
    return Option(tuple(action.option_strings), text, choices, action.nargs not in (0, "?"))


def bash(commands: dict[str, str], options: dict[str, list[Option]]) -> str:
    """Completes a command as the first word; then options, the values of some options, and files."""
    cases = []
    for name, its in options.items():
        for option in its:
            if option.choices and option.names:
                heads = "|".join(f"{name}:{o}" for o in option.names)
                cases.append(f'        {heads}) words="{" ".join(option.choices)}" ;;')
        places = " ".join(c for option in its if not option.names for c in option.choices)
        names = " ".join(o for option in its for o in option.names)
        cases.append(f'        {name}:*) words="{places}"; [[ $word == -* ]] && words="{names}" ;;')
    return "\n".join([
        "# completion of kalmandp in bash",
        "_kalmandp() {",
        '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words',
        "    if [[ $COMP_CWORD -eq 1 ]]; then",
        f'        COMPREPLY=($(compgen -W "{" ".join(commands)} --help --version" -- "$word"))',
        "        return",
        "    fi",
        '    case "${COMP_WORDS[1]}:$before" in',
        *cases,
        "    esac",
        '    COMPREPLY=($(compgen -W "$words" -- "$word"))',
        "}",
        "complete -o bashdefault -o default -F _kalmandp kalmandp",
    ])  # fmt: skip


def zsh(commands: dict[str, str], options: dict[str, list[Option]]) -> str:
    """For a file _kalmandp in a folder of $fpath, or for `source`."""
    lines = ["#compdef kalmandp", "_kalmandp() {", "  if (( CURRENT == 2 )); then", "    local -a commands=("]
    lines += [f"      {_quoted(f'{name}:{what}')}" for name, what in commands.items()]
    lines += [
        "    )",
        "    _describe command commands",
        "    return",
        "  fi",
        "  shift words; (( CURRENT-- ))",
    ]
    lines += ['  case "$words[1]" in']
    for name, its in options.items():
        specs = [spec for option in its for spec in _zsh_specs(option)]
        lines += [f"    {name}) _arguments -s {' '.join(specs)} ;;"]
    lines += ["  esac", "}", 'if [[ "$funcstack[1]" = _kalmandp ]]; then _kalmandp "$@"']
    return "\n".join([*lines, "else compdef _kalmandp kalmandp; fi"])


def _zsh_specs(option: Option) -> list[str]:
    values = f"({' '.join(option.choices)})" if option.choices else "_files"
    if not option.names:
        return [_quoted(f"*:{values.strip('_')}:{values}")]
    text = option.help.replace("[", "(").replace("]", ")").replace(":", " ")
    value = f":value:{values}" if option.takes_value else ""
    return [_quoted(f"*{o}[{text}]{value}") for o in option.names]


def fish(commands: dict[str, str], options: dict[str, list[Option]]) -> str:
    """For ~/.config/fish/completions/kalmandp.fish."""
    lines = ["# completion of kalmandp in fish"]
    for name, what in commands.items():
        lines.append(f"complete -c kalmandp -n __fish_use_subcommand -f -a {name} -d {_quoted(what)}")
    for name, its in options.items():
        for option in its:
            seen = f"complete -c kalmandp -n '__fish_seen_subcommand_from {name}'"
            values = f" -xa {_quoted(' '.join(option.choices))}" if option.choices else ""
            flags = "".join(f" -{'l' if o.startswith('--') else 's'} {o.lstrip('-')}" for o in option.names)
            if flags:
                values = values or (" -r" if option.takes_value else "")
            if flags or values:
                lines.append(f"{seen}{flags}{values} -d {_quoted(option.help)}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """The text in single quotes; a quote within it is replaced: each of the shells escapes it differently."""
    return "'" + text.replace("'", "’") + "'"
