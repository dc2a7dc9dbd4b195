"""The other commands, and the command line as a process."""

import signal
import subprocess
import sys
import time

import pytest

from opcount import Profile
from tests.cli.conftest import PATH
from tests.cli.test_count import NET
from tests.shims import child_environment


@pytest.fixture
def profiles(opcount, write, tmp_path):
    for name, width in (("a", 8), ("b", 12)):
        assert (
            opcount("count", f"{write(NET)}:Net", "--kwargs", f"width={width}", "-o", tmp_path / f"{name}.json")[0] == 0
        )
    return tmp_path / "a.json", tmp_path / "b.json"


def test_show_prints_what_was_stored(opcount, profiles):
    status, out, _ = opcount("show", profiles[0], "--format", "tree", "--convention", "torch")
    assert status == 0
    assert "`-- head (Linear): 16 MAC, 32 FLOP under torch" in out


def test_show_refuses_an_arch_and_says_what_to_use(opcount, profiles):
    status, _, err = opcount("show", profiles[0], "--format", "arch")
    assert status == 2
    assert "arch needs the model" in err


def test_diff_shows_what_changed_and_fails_beyond_the_limit(opcount, profiles):
    status, out, _ = opcount("diff", *profiles)
    assert status == 0
    assert "macs: 144 -> 216 (+50.0 %)" in out
    assert opcount("diff", *profiles, "--fail", "macs:50%")[0] == 0
    status, _, err = opcount("diff", *profiles, "--fail", "macs:49.9%")
    assert (status, err) == (1, "opcount: macs grew by +50.0 %, and --fail allows 49.9 %\n")


def test_diff_writes_the_comment_of_a_pull_request(opcount, profiles, tmp_path):
    assert opcount("diff", *profiles, "--format", "markdown", "-o", tmp_path / "diff.md")[0] == 0
    assert "| `body.0` | 128 | 192 | +64 | +50.0 % |" in (tmp_path / "diff.md").read_text()


@pytest.mark.parametrize(("command", "words"), [(["show"], "Net</h1>"), (["diff"], "Net: what changed</h1>")])
def test_the_name_of_the_output_file_asks_for_a_page(opcount, profiles, tmp_path, command, words):
    files = profiles if command == ["diff"] else profiles[:1]
    assert opcount(*command, *files, "-o", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert words in page
    assert opcount(*command, *files, "--format", "html")[1] == page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected the JSON that to_json() writes"),
        ("[]", "expected a profile written by to_json()"),
        ('{"format": "opcount.profile", "schema": 99}', "expected schema 1 to 7, got 99"),
        ('{"format": "opcount.profile", "schema": 1}', "the profile is damaged"),
    ],
)
def test_a_stored_profile_that_is_corrupt_or_newer(opcount, write, text, message):
    status, out, err = opcount("show", write(text, "bad.json"))
    assert (status, out) == (2, "")
    assert message in err


def test_a_stored_profile_that_is_not_there(opcount):
    status, _, err = opcount("show", "nothing.json")
    assert status == 2
    assert "'nothing.json' cannot be read: No such file or directory" in err


def test_operators_lists_formulas(opcount):
    status, out, _ = opcount("operators", "aten.mm")
    assert status == 0
    assert "out[..., m, n] = sum(a[..., m, k] * b[..., k, n] for k)" in out
    assert opcount("operators", "aten.nothing*")[0] == 2


PROGRAM = """
import sys, torch
print("hello", sys.argv[1:])
torch.ones(2, 3) @ torch.ones(3, 4)
{end}
"""


def test_run_counts_a_program_and_leaves_its_output_alone(process, write, tmp_path):
    done = process("run", "-o", "whole.json", write(PROGRAM.format(end=""), "program.py"), "--flag", "1")
    assert (done.returncode, done.stdout) == (0, "hello ['--flag', '1']\n")
    assert Profile.from_json((tmp_path / "whole.json").read_text()).macs == 2 * 3 * 4


@pytest.mark.parametrize(
    ("end", "status", "words"),
    [("sys.exit(3)", 3, ""), ("sys.exit('bye')", 1, "bye"), ("raise ValueError('oh')", 1, "ValueError: oh")],
)
def test_run_passes_the_exit_code_on_and_reports_all_the_same(process, write, end, status, words):
    done = process("run", write(PROGRAM.format(end=end), "program.py"))
    assert done.returncode == status
    assert words in done.stderr
    assert "total: 24 MAC" in done.stderr


def test_help_does_not_wait_for_torch(tmp_path):
    run = "from opcount.cli import run\ntry: run()\nexcept SystemExit: pass\n"
    code = f"import sys\nsys.argv = ['opcount', '--help']\n{run}"
    check = code + "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "opcount count timm/vit_base_patch16_224" in done.stdout


def test_a_reader_that_leaves_ends_it_quietly(profiles):
    command = f"{sys.executable} -m opcount operators | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)  # noqa: S607
    assert done.stdout.startswith("operator")
    assert done.stderr == ""


def test_an_interrupt_ends_it_quietly(write, tmp_path):
    slow = write("import time, pathlib\npathlib.Path('started').touch()\ntime.sleep(60)\n", "slow.py")
    child = subprocess.Popen(
        [sys.executable, "-m", "opcount", "run", "-o", "out.json", str(slow)],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=child_environment(PYTHONPATH=PATH),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err == "opcount: interrupted\n"
    assert not (tmp_path / "out.json").exists()
