"""``opcount completion SHELL``: a completion script, made from the parser itself."""

from __future__ import annotations

import argparse
import sys

_BASH = """_opcount() {{
    local words
    case "${{COMP_WORDS[1]}}" in
{cases}
        *) words="{commands}" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}") $(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -F _opcount opcount
"""


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print the script; ``eval "$(opcount completion bash)"`` loads it."""
    commands = _commands(parser)
    sys.stdout.write({"bash": _bash, "zsh": _zsh, "fish": _fish}[options.shell](commands))
    return 0


def _commands(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """Return the options of each subcommand."""
    subs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))  # noqa: SLF001
    return {
        name: sorted(option for action in sub._actions for option in action.option_strings)  # noqa: SLF001
        for name, sub in subs.choices.items()
    }


def _bash(commands: dict[str, list[str]]) -> str:
    cases = "\n".join(f'        {name}) words="{" ".join(options)}" ;;' for name, options in commands.items())
    return _BASH.format(cases=cases, commands=" ".join(commands))


def _zsh(commands: dict[str, list[str]]) -> str:
    return f"autoload -U +X bashcompinit && bashcompinit\n{_bash(commands)}"


def _fish(commands: dict[str, list[str]]) -> str:
    lines = [f"complete -c opcount -n __fish_use_subcommand -a '{' '.join(commands)}'"]
    for name, options in commands.items():
        for option in options:
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            lines.append(f"complete -c opcount -n '__fish_seen_subcommand_from {name}' {kind}")
    return "\n".join(lines) + "\n"
