"""``opcount run``: a program runs as Python runs it."""

import subprocess
import sys

import pytest

from opcount import Profile

COUNTED = "import torch\ntorch.ones(2, 3) @ torch.ones(3, 4)\n"
MACS = 2 * 3 * 4


@pytest.fixture
def both(process, tmp_path):
    """Return a function that runs a program under opcount and without; what it prints and exits with must agree."""

    def run(program, *arguments, module=False, **options):
        flag = ["-m"] if module else []
        ours = process("run", "-o", "whole.json", *flag, program, *arguments, **options)
        settings = {"capture_output": True, "text": True, "cwd": tmp_path, **options}
        theirs = subprocess.run([sys.executable, *flag, program, *arguments], check=False, **settings)
        assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
        its_own, total, _ = ours.stderr.partition("total: ")
        assert (its_own, total) == (theirs.stderr, "total: ")
        return ours, Profile.from_json((tmp_path / "whole.json").read_text())

    return run


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit()", 0),
        ("sys.exit(3)", 3),
        ("sys.exit(True)", 1),
        ("sys.exit(-1)", 255),
        ("sys.exit('bye')", 1),
        ("sys.exit([1, 2])", 1),
        ("raise ValueError('oh')", 1),
        ("def f(): 1 / 0\nf()", 1),
        ("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('oh') from e", 1),
        ("import nonexistent", 1),
        ("sys.excepthook = lambda kind, error, trace: print('hooked', kind, error)\nraise ValueError('oh')", 1),
        ("import atexit; atexit.register(print, 'the end')", 0),
        ("import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print(sys.argv))).start()", 0),
    ],
)
def test_how_a_program_ends(both, write, end, status):
    write(f"import sys\n{end}\n", "program.py")
    assert both("program.py")[0].returncode == status


FACTS = (
    "import os, sys\n"
    "print(__name__, __file__, __doc__, __spec__, __package__, __builtins__, sys.argv)\n"
    "print(sys.path[0], sys.modules['__main__'].__dict__ is globals())\n"
    "import neighbour\n"
)


def test_a_program_is_main_and_finds_its_neighbours(both, write, tmp_path):
    (tmp_path / "folder").mkdir()
    write("", "folder/neighbour.py")
    write(f"'''Words.'''\n{FACTS}{COUNTED}", "folder/program.py")
    _, profile = both("folder/program.py", "--depth", "3", "-o", "x")
    assert profile.macs == MACS


def test_a_module_runs_as_for_python_m(both, write, tmp_path):
    (tmp_path / "package").mkdir()
    write("", "package/__init__.py")
    write(
        "import sys\nfrom . import part\nprint(__name__, __package__, __spec__.name, sys.argv)", "package/__main__.py"
    )
    write(f"import sys\nprint(__name__, sys.argv[1:])\n{COUNTED}", "package/part.py")
    _, profile = both("package", "-x", module=True)
    assert profile.macs == MACS
    done, _ = both("package.part", "-x", module=True)
    assert done.stdout == "__main__ ['-x']\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.py"], "expected a Python program, got 'nothing.py', which is no file"),
        (["."], "which is no file"),
        (["-m", "no.such.module"], "expected a module that Python can run, got 'no.such.module'"),
        (["--format", "arch", "program.py"], "arch needs one model"),
        (["-o", "no/such/folder.json", "program.py"], "cannot be written"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_runs(process, write, arguments, message):
    write("print('ran')", "program.py")
    done = process("run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_program_that_does_not_parse(process, write):
    write("def f(:\n", "program.py")
    done = process("run", "program.py")
    assert done.returncode == 1
    assert 'program.py", line 1\n    def f(:' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_reads_standard_input(both, write):
    write(f"{COUNTED}print(input().upper())", "program.py")
    done, _ = both("program.py", input="hello\n")
    assert done.stdout == "HELLO\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_program_may_have_processes_of_its_own(both, write, method):
    write(
        f"import torch, multiprocessing as mp\n"
        f"def work(n): return float((torch.ones(n, n) @ torch.ones(n, n)).sum())\n"
        f"if __name__ == '__main__':\n"
        f"    with mp.get_context({method!r}).Pool(2) as pool: print(pool.map(work, [1, 2]))\n"
        f"    work(2)\n",
        "program.py",
    )
    done, profile = both("program.py")
    assert done.stdout == "[1.0, 8.0]\n"
    assert profile.macs == 8  # its own: what its children compute is not counted


def test_a_program_may_pickle_what_it_defines(both, write):
    write(f"import pickle\nclass A: pass\n{COUNTED}print(type(pickle.loads(pickle.dumps(A()))) is A)", "program.py")
    assert both("program.py")[0].stdout == "True\n"


MODELS = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.idle = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(2, 2)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x))

tied, head, never = Tied(), nn.Linear(4, 3), nn.Linear(100, 100)
x = torch.ones(2, 4)
for _ in range(2):
    head(tied(x)).sum().backward()
tied.a(x)  # a part of a model that is known
"""


def test_the_parameters_are_those_of_the_models_that_ran(both, write):
    write(MODELS, "program.py")
    _, profile = both("program.py")
    assert profile.params == (4 * 4 + 4 + 4) + (2 * 2 + 2) + (4 * 3 + 3)


def test_a_part_that_ran_before_its_model_is_not_counted_twice(both, write):
    write(MODELS.replace("x = torch.ones(2, 4)", "x = torch.ones(2, 4)\ntied.a(x), tied.b(x)"), "program.py")
    _, profile = both("program.py")
    assert profile.params == (4 * 4 + 4 + 4) + (2 * 2 + 2) + (4 * 3 + 3)
