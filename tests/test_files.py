"""Files: whole or not at all, links followed, devices and pipes written straight, nothing left behind."""

import errno
import fcntl
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
import tty
from pathlib import Path

import pytest

from opcount import files
from tests.shims import child_environment

ROOT = str(Path(__file__).parents[1])


def python(code, cwd, *arguments, **kwargs):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=cwd, env=child_environment(PYTHONPATH=ROOT), capture_output=True, text=True, check=False, **kwargs,
    )  # fmt: skip


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "target").write_text("old")
    (tmp_path / "second").symlink_to("inner/target")
    (inner / "first").symlink_to(tmp_path / "second")
    files.write(inner / "first", "new")
    assert (inner / "target").read_text() == "new"
    assert (inner / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert not (inner / "target").is_symlink()


def test_the_target_of_a_dangling_link_is_made(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "link").symlink_to("inner/target")
    files.check(tmp_path / "link")
    files.write(tmp_path / "link", "new")
    assert (tmp_path / "inner" / "target").read_text() == "new"
    assert (tmp_path / "link").is_symlink()


def test_a_link_into_a_folder_that_does_not_exist_and_a_loop_of_links_are_refused(tmp_path):
    (tmp_path / "nowhere").symlink_to("no/such/folder")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for name, number in (("nowhere", errno.ENOENT), ("a", errno.ELOOP)):
        for attempt in (files.check, lambda path: files.write(path, "new")):
            with pytest.raises(OSError) as caught:  # noqa: PT011  (the number is what tells)
                attempt(tmp_path / name)
            assert caught.value.errno == number
        assert (tmp_path / name).is_symlink()
    assert names(tmp_path) == ["a", "b", "nowhere"]


def test_of_a_hard_link_one_name_is_written(tmp_path):
    (tmp_path / "one").write_text("old")
    os.link(tmp_path / "one", tmp_path / "other")
    files.write(tmp_path / "one", "new")
    assert ((tmp_path / "one").read_text(), (tmp_path / "other").read_text()) == ("new", "old")


def test_a_pipe_stays_a_pipe_and_its_reader_gets_the_text(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    files.check(pipe)
    files.write(pipe, "text")
    reader.join()
    assert got == ["text"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["pipe"]


def test_a_device_and_a_link_to_one_are_written_to(tmp_path):
    master, slave = pty.openpty()
    tty.setraw(slave)
    device = Path(os.ttyname(slave))
    (tmp_path / "link").symlink_to(device)
    for path in (device, tmp_path / "link"):
        files.check(path)
        files.write(path, "text")
        assert os.read(master, 10) == b"text"
    assert stat.S_ISCHR(device.stat().st_mode)
    assert (tmp_path / "link").is_symlink()
    os.close(master)
    os.close(slave)


def test_a_socket_is_refused_and_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(OSError, match="No such device"):
            files.write(Path("s"), "text")
    assert stat.S_ISSOCK(Path("s").stat().st_mode)


def test_a_full_device_is_an_error_that_names_the_path():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        files.write(Path("/dev/full"), "text")


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd", "/proc/thread-self/fd"])
def test_an_open_file_is_added_to_where_it_stands(tmp_path, folder):
    with (tmp_path / "log").open("w") as log:
        log.write("before ")
        log.flush()
        path = Path(folder) / str(log.fileno())
        files.check(path)
        files.write(path, "text")
        log.seek(0, os.SEEK_END)
        log.write(" after")
    assert (tmp_path / "log").read_text() == "before text after"


def test_standard_output_keeps_what_was_printed_before_and_what_stood_in_its_file(tmp_path):
    (tmp_path / "log").write_text("old\n")
    code = (
        "from pathlib import Path; from opcount import files\n"
        "print('first'); files.write(Path('/dev/stdout'), 'x\\n'); print('last')"
    )
    with (tmp_path / "log").open("a") as log:
        subprocess.run([sys.executable, "-c", code], stdout=log, env=child_environment(PYTHONPATH=ROOT), check=True)
    assert (tmp_path / "log").read_text() == "old\nfirst\nx\nlast\n"


def test_a_process_substitution_gets_the_text(tmp_path):
    code = "import sys; from pathlib import Path; from opcount import files; files.write(Path(sys.argv[1]), 'text')"
    command = f'{sys.executable} -c "{code}" >(cat >got); wait $!'
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=child_environment(PYTHONPATH=ROOT), check=True)  # noqa: S607
    deadline = time.monotonic() + 20
    while (tmp_path / "got").read_text() != "text" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "got").read_text() == "text"


def test_a_file_keeps_its_permissions_and_a_new_one_has_the_usual_ones(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    for mode in (0o640, 0o600, 0o755):
        path.chmod(mode)
        files.write(path, "new")
        assert stat.S_IMODE(path.stat().st_mode) == mode
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "fresh", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o640  # 0o666 without 0o027


def test_a_file_keeps_its_owner_where_that_can_be_set(tmp_path, monkeypatch):
    path, given = tmp_path / "file", []
    path.write_text("old")
    monkeypatch.setattr(os, "chown", lambda _, user, group: given.append((user, group)))
    files.write(path, "new")
    assert given == [(path.stat().st_uid, path.stat().st_gid)]

    def refuse(_, user, group):
        given.append((user, group))
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    files.write(path, "newer")
    assert given[1:] == [(path.stat().st_uid, path.stat().st_gid), (-1, path.stat().st_gid)]
    assert path.read_text() == "newer"


def test_a_folder_a_missing_folder_and_a_file_in_place_of_one_are_refused(tmp_path):
    (tmp_path / "file").write_text("old")
    for path, number in (
        (tmp_path, errno.EISDIR),
        (tmp_path / "no" / "file", errno.ENOENT),
        (tmp_path / "file" / "file", errno.ENOTDIR),
        (tmp_path / ("n" * 300), errno.ENAMETOOLONG),
    ):
        for attempt in (files.check, lambda path: files.write(path, "new")):
            with pytest.raises(OSError) as caught:  # noqa: PT011  (the number is what tells)
                attempt(path)
            assert caught.value.errno == number
            assert caught.value.filename == str(path) or number == errno.ENOENT
    assert names(tmp_path) == ["file"]


def test_a_file_that_must_not_be_written_is_refused_although_it_could_be_replaced(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda target, _: Path(target) != path)  # root may write all
    for attempt in (files.check, lambda path: files.write(path, "new")):
        with pytest.raises(PermissionError):
            attempt(path)
    assert path.read_text() == "old"


def test_a_mount_point_is_written_in_its_place(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("an older text")
    before = path.stat().st_ino

    def busy(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    files.write(path, "new")
    assert (path.read_text(), path.stat().st_ino) == ("new", before)
    assert names(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "file").write_text("old")
    done = python(
        """
        import resource
        from pathlib import Path
        from opcount import files
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            files.write(Path("file"), "x" * 5000)
        except OSError as error:
            print(error)
        """,
        tmp_path,
    )
    assert done.stdout == "[Errno 27] File too large: 'file'\n", done.stderr
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left"), MemoryError])
def test_a_write_that_ends_early_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    (tmp_path / "file").write_text("old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        files.write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


KILLED = """
import os, signal
from pathlib import Path
from opcount import files
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write(Path("file"), "new")
"""


def test_the_draft_of_a_killed_writer_is_removed_by_the_next_one(tmp_path):
    (tmp_path / "file").write_text("old")
    assert python(KILLED, tmp_path).returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    assert (tmp_path / "file").read_text() == "old"
    files.write(tmp_path / "other", "new")
    assert names(tmp_path) == ["file", "other"]


def test_the_draft_of_a_living_writer_and_files_of_others_stay(tmp_path):
    draft = tmp_path / ".opcount-0123456789abcdef.tmp"
    others = [".opcount-0123456789abcdef.txt", ".opcount-notes.tmp", "x.tmp"]
    for name in others:
        (tmp_path / name).touch()
    with draft.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        files.write(tmp_path / "file", "new")
        assert draft.exists()
    files.write(tmp_path / "file", "new")
    assert names(tmp_path) == sorted(["file", *others])


def test_a_link_that_is_named_like_a_draft_harms_nothing(tmp_path):
    (tmp_path / "precious").write_text("old")
    (tmp_path / ".opcount-0123456789abcdef.tmp").symlink_to("precious")
    files.write(tmp_path / "file", "new")
    assert (tmp_path / "precious").read_text() == "old"


def test_where_files_cannot_be_locked_only_old_drafts_are_removed(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    young, old = (tmp_path / f".opcount-{digit * 16}.tmp" for digit in "12")
    young.touch()
    old.touch()
    os.utime(old, (0, 0))
    files.write(tmp_path / "file", "new")
    assert names(tmp_path) == [young.name, "file"]


def test_a_draft_that_was_taken_for_abandoned_is_made_once_more(tmp_path, monkeypatch):
    lock, taken = fcntl.flock, []

    def sweep_first(descriptor, how):
        if not taken:
            taken.append(next(tmp_path.iterdir()))
            taken[0].unlink()  # what another writer does between making and locking
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    files.write(tmp_path / "file", "new")
    assert len(taken) == 1
    assert names(tmp_path) == ["file"]


def test_writers_at_the_same_time_leave_one_whole_text(tmp_path):
    code = """
    import sys
    from pathlib import Path
    from opcount import files
    for _ in range(60):
        files.write(Path("file"), sys.argv[1] * 5000)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environment = child_environment(PYTHONPATH=ROOT)
    writers = [
        subprocess.Popen([*command, letter], cwd=tmp_path, env=environment, stderr=subprocess.PIPE) for letter in "abcd"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if (tmp_path / "file").exists():
            seen.add((tmp_path / "file").read_text())
    assert [writer.communicate()[1] for writer in writers] == [b""] * 4
    assert seen <= {letter * 5000 for letter in "abcd"}
    assert names(tmp_path) == ["file"]


def test_text_that_no_encoding_has_is_written_as_escapes(tmp_path):
    files.write(tmp_path / "file", "caf\xe9 \ud800")
    assert (tmp_path / "file").read_bytes() == b"caf\xc3\xa9 \\ud800"
