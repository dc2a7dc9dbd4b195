"""Files of reports, and stored profiles that are wrong: one sentence, and nothing harmed."""

import os
import stat
import threading
from pathlib import Path

import pytest

from opcount import Profile
from opcount.cost import Cost
from opcount.profile import Module, Record

PROFILE = Profile(
    (Record(("", "caf\xe9\x1b[31m"), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(24, 0, 8)),),
    {"": Module("", "Net", 12, 1)},
)


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "stored.json"
    path.write_text(PROFILE.to_json())
    return path


def test_a_report_goes_through_a_link_and_into_a_pipe(opcount, stored, tmp_path):
    target, link, pipe = tmp_path / "target.txt", tmp_path / "link.txt", tmp_path / "pipe"
    target.write_text("old")
    link.symlink_to("target.txt")
    status, out, err = opcount("show", stored, "-o", link)
    assert (status, err) == (0, "")
    assert out.startswith("total: 24 MAC")
    assert link.is_symlink()
    assert "total: 24 MAC" in target.read_text()
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    assert opcount("show", stored, "-o", pipe) == (0, "", "")
    reader.join()
    assert got == [target.read_text()]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_report_may_replace_the_profile_that_it_shows(opcount, stored):
    assert opcount("show", stored, "--format", "json", "-o", stored)[0] == 0
    assert Profile.from_json(stored.read_text()) == PROFILE


@pytest.mark.parametrize("output", ["/dev/full", "loop"])
def test_what_cannot_be_written_is_a_sentence(opcount, stored, tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    status, out, err = opcount("show", stored, "-o", output)
    assert (status, out) == (2, "")
    reason = "No space left on device" if output == "/dev/full" else "Too many levels of symbolic links"
    assert err == f"opcount: -o: '{output}' cannot be written: {reason}. Name another file.\n"


def test_a_full_disk_behind_standard_output_is_a_sentence(process, stored):
    with Path("/dev/full").open("w") as full:
        done = process("show", stored, capture_output=False, stdout=full, stderr=-1)
    assert done.returncode == 2
    assert done.stderr == (
        "opcount: standard output cannot be written: No space left on device. Name a file with -o.\n"
    )


def test_standard_output_of_another_encoding_gets_escapes(process, stored):
    from tests.cli.conftest import PATH  # noqa: PLC0415
    from tests.shims import child_environment  # noqa: PLC0415

    done = process("show", stored, env=child_environment(PYTHONPATH=PATH, PYTHONIOENCODING="ascii"))
    assert done.returncode == 0, done.stderr
    assert "caf\\xe9\\x1b[31m" in done.stdout


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.replace("24", "NaN"), "got nan of type float"),
        (lambda t: t.replace("24", "-24"), "got -24 of type int"),
        (lambda t: t[: len(t) // 2], "expected the JSON that to_json() writes"),
        (lambda _: "", "expected the JSON that to_json() writes"),
        (lambda _: "[" * 100_000, "nested too deeply"),
        (lambda _: '{"format": "opcount.profile", "records": [[[', "expected the JSON that to_json() writes"),
        (lambda _: "[]", "expected a profile written by to_json()"),
        (lambda t: t.encode("utf-16"), "it is no text"),
        (lambda _: b"\x80\x02}q\x00.", "it is no text"),
        (lambda t: t.replace('"schema": 3', '"schema": 9'), "expected schema 1 to 7, got 9"),
    ],
)
@pytest.mark.parametrize("command", ["show", "diff"])
def test_a_damaged_profile_is_one_sentence_that_names_the_file(opcount, stored, tmp_path, command, damage, message):
    text = damage(PROFILE.to_json())
    bad = tmp_path / "bad.json"
    bad.write_bytes(text if isinstance(text, bytes) else text.encode())
    status, out, err = opcount(command, *([stored, bad] if command == "diff" else [bad]))
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
    assert "bad.json" in err


def test_a_profile_with_a_byte_order_mark_is_read(opcount, stored):
    stored.write_bytes(b"\xef\xbb\xbf" + stored.read_bytes())
    assert opcount("show", stored)[0] == 0


@pytest.mark.parametrize("arguments", [["show"], ["completion", "bash"], ["completion", "fish"]])
def test_a_closed_standard_output_is_a_sentence(process, stored, arguments):
    if arguments == ["show"]:
        arguments = ["show", stored]
    done = process(*arguments, capture_output=False, stderr=-1, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (
        2,
        "opcount: standard output cannot be written: Bad file descriptor. Name a file with -o.\n",
    )


def test_messages_do_not_go_to_standard_output_when_standard_error_is_closed(process, stored, tmp_path):
    arguments = ["show", stored, "--format", "json", "--depth", "1"]
    done = process(*arguments, capture_output=False, stdout=-1, preexec_fn=lambda: os.close(2))
    assert done.returncode == 0
    assert Profile.from_json(done.stdout) == PROFILE
    done = process(*arguments[:-2], "-o", tmp_path / "copy.json", capture_output=False, preexec_fn=lambda: os.close(1))
    assert (done.returncode, Profile.from_json((tmp_path / "copy.json").read_text())) == (0, PROFILE)
