"""``opcount completion SHELL``: a completion script, made from the parser itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

from opcount.cli.output import write

if TYPE_CHECKING:
    from collections.abc import Iterator

_BASH = """_opcount() {{
    local words cur=${{COMP_WORDS[COMP_CWORD]}}
    case "${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD - 1]}}" in
{values}
        *) case "$COMP_CWORD ${{COMP_WORDS[1]}} $cur" in
            "1 "*) words="{commands}" ;;
{options}
        esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o bashdefault -o default -F _opcount opcount
"""
_ZSH = """(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit -u }}
_opcount() {{
    local -a words_
    case "$words[2] $words[CURRENT-1]" in
{values}
        *) case "$CURRENT $words[2] $PREFIX" in
            "2 "*) words_=({commands}) ;;
{options}
        esac ;;
    esac
    if (( $#words_ )); then compadd -- $words_; else _files; fi
}}
compdef _opcount opcount
"""


class _Option(NamedTuple):
    """An option of a subcommand, or a positional argument, which has no names."""

    names: list[str]
    help: str
    choices: list[str]
    takes_value: bool


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print the script; ``eval "$(opcount completion bash)"`` loads it."""
    commands = dict(_commands(parser))
    if options.shell == "fish":
        write("".join(f"{line}\n" for line in _fish(commands)), None)
        return 0
    script, quoted = {"bash": (_BASH, 'words="{}"'), "zsh": (_ZSH, "words_=({})")}[options.shell]
    write(script.format(**_cases(commands, quoted)), None)
    return 0


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[_Option]]]:
    """Yield each subcommand's name and its options."""
    subs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))  # noqa: SLF001
    for name, sub in subs.choices.items():
        yield (
            name,
            [
                _Option(
                    sorted(action.option_strings),
                    action.help or "",
                    [str(choice) for choice in action.choices or ()],
                    action.nargs != 0,
                )
                for action in sub._actions  # noqa: SLF001
            ],
        )


def _cases(commands: dict[str, list[_Option]], quoted: str) -> dict[str, str]:
    """Return the words of a shell's ``case``: values after an option, options after a subcommand."""
    values, names = [], []
    for command, options in commands.items():
        for start, words in (
            ("-", [name for option in options for name in option.names]),
            ("", [choice for option in options if not option.names for choice in option.choices]),
        ):
            names.append(f'            *" {command} {start}"*) {quoted.format(" ".join(sorted(words)))} ;;')
        for option in options:
            patterns = "|".join(f'"{command} {name}"' for name in option.names)
            if option.takes_value and patterns:
                values.append(f"        {patterns}) {quoted.format(' '.join(option.choices))} ;;")
    return {"values": "\n".join(values), "options": "\n".join(names), "commands": " ".join(commands)}


def _fish(commands: dict[str, list[_Option]]) -> Iterator[str]:
    yield f"complete -c opcount -n __fish_use_subcommand -f -a '{' '.join(commands)}'"
    for command, options in commands.items():
        base = f"complete -c opcount -n '__fish_seen_subcommand_from {command}'"
        for option in options:
            kinds = "".join(f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names)
            values = f" -f -a '{' '.join(option.choices)}'" if option.choices else ""
            required = " -r" if kinds and option.takes_value else ""
            words = option.help.replace("\\", "\\\\").replace("'", "\\'")
            if kinds or values:
                yield f"{base}{kinds}{required}{values} -d '{words}'"
