"""Completion, asked for in the shells themselves, where they are installed."""

import shutil
import subprocess

import pytest

from opcount.cli.formats import FORMATS
from opcount.reporter.diff_table import METRICS

BASH = """
COMP_WORDS=({words} '{last}'); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _opcount
if [ ${{#COMPREPLY[@]}} -eq 0 ]; then compgen -f -- '{last}'; else printf '%s\\n' "${{COMPREPLY[@]}}"; fi
"""
"""Readline's part: files are offered where the function has nothing to say (``-o default``)."""

ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
send() {{ zpty -w shell "$1" }}
send 'PROMPT= ; stty -echo; cd {folder}; source {script}'
send 'compadd() {{ local -a all; builtin compadd -O all "$@"; print -l -- $all >> answers; builtin compadd "$@" }}'
send $'opcount-complete() {{ zle complete-word; print >> answers done; zle kill-whole-line }}'
send 'zle -C complete-word .complete-word _main_complete; zle -N opcount-complete; bindkey "^I" opcount-complete'
sleep 0.3
zpty -w -n shell '{words} {last}'$'\\t'
for i in {{1..100}}; do [[ -f answers ]] && grep -qx done answers && break; sleep 0.1; done
zpty -d shell
grep -vx done answers
"""
"""A shell in a terminal of its own, where what is typed ends with a tabulator; what it would offer goes to a file."""


@pytest.fixture(params=["bash", "zsh", "fish"])
def offered(request, opcount, tmp_path, monkeypatch):
    """Return a function that types words and a tabulator, and returns what the shell offers."""
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"no {request.param}")
    for name in ("profile.json", "net.py"):
        (tmp_path / name).touch()
    script = tmp_path / "script"
    script.write_text(opcount("completion", request.param)[1])
    monkeypatch.setenv("HOME", str(tmp_path))

    def ask(words, last=""):
        (tmp_path / "answers").unlink(missing_ok=True)
        if request.param == "fish":
            program = f"source ./script; complete -C '{words} {last}'"
            command = [shell, "--no-config", "-c", program]
        elif request.param == "bash":
            command = [shell, "--norc", "-c", f"source ./script\n{BASH.format(words=words, last=last)}"]
        else:
            program = ZSH.format(words=words, last=last, script=script, folder=tmp_path)
            command = [shell, "-f", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
        assert done.stderr == ""
        return {line.partition("\t")[0].strip() for line in done.stdout.splitlines()} - {"", "script", "answers"}

    return ask


def test_commands(offered):
    assert offered("opcount", "co") == {"completion", "count"}


def test_options_of_a_command(offered):
    assert offered("opcount count net.py", "--d") == {"--decode", "--depth", "--device", "--dry-run", "--dtype"}
    assert offered("opcount diff a.json b.json", "--f") == {"--fail", "--format"}


def test_values_of_an_option(offered):
    assert offered("opcount count net.py --format") == set(FORMATS)
    assert offered("opcount diff a.json b.json --metric", "a") == {m for m in METRICS if m.startswith("a")}
    assert offered("opcount completion", "z") == {"zsh"}


def test_files(offered):
    assert offered("opcount show", "pro") == {"profile.json"}
    assert offered("opcount run", "ne") == {"net.py"}
    assert offered("opcount count net.py -o", "pro") == {"profile.json"}


def test_options_far_down_a_long_line(offered):
    assert offered("opcount count net.py --shape " + "1 " * 20, "--batch") == {"--batch-size"}
