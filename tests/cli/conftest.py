"""Run the command line: in this process, which is quick, or as a process of its own."""

import subprocess
import sys

import pytest

from opcount.cli import main
from tests.conftest import PATH
from tests.shims import child_environment, install


@pytest.fixture(autouse=True)
def libraries():
    install()


@pytest.fixture(autouse=True)
def main_module(monkeypatch):
    """Put back ``__main__``, which a program that is run stays: processes that later tests start would run it again."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def opcount(capsys):
    """Return a function that runs a command line and returns status, standard output and standard error."""

    def run(*arguments):
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def process(forks, tmp_path):
    """Return a function that runs ``python -m opcount`` as a process; as one that is forked, without options."""

    def run(*arguments, cwd=tmp_path, input="", **options):  # noqa: A002  (as subprocess calls it)
        if not options:
            environment = child_environment(PYTHONPATH=PATH)
            return forks.run([*map(str, arguments)], env=environment, cwd=cwd, text_input=input)
        command = [sys.executable, "-m", "opcount", *map(str, arguments)]
        settings = {
            "capture_output": True,
            "text": True,
            "env": child_environment(PYTHONPATH=PATH),
            "cwd": cwd,
            "timeout": 300,
        }
        return subprocess.run(command, check=False, **{**settings, **options})

    return run


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file and returns its path."""

    def to(text, name="net.py"):
        file = tmp_path / name
        file.write_text(text)
        return file

    return to
