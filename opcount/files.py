"""Atomic writes of files, and writes to devices, pipes and open files.

A regular file is replaced by a temporary file beside it, the draft, which is renamed in the end: a concurrent reader
sees the old text or the new one. A draft is locked while its writer lives, so that the next writer can remove the
drafts of killed processes.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None  # type: ignore[assignment]

_DRAFT = re.compile(r"\.opcount-[0-9a-f]{16}\.tmp")
_ABANDONED = 24 * 3600
"""Age in seconds from which a draft is taken for abandoned where files cannot be locked."""
_TRIES = 100


def check(path: Path) -> None:
    """Check that a path can be written to, before there is anything to write.

    Raises:
        OSError: It is a folder, or its folder does not exist, or permission is missing.
    """
    if _descriptor(path) is not None:
        return
    status = _status(path)
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise _error(errno.EISDIR, path)
    if status is not None and not os.access(path, os.W_OK):
        raise _error(errno.EACCES, path)
    if status is None or stat.S_ISREG(status.st_mode):
        folder = _resolved(path).parent
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise _error(errno.ENOTDIR, path)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise _error(errno.EACCES, path)


def is_open(path: Path) -> bool:
    """Return whether a path stands for an open file of this process, as ``/dev/stdout`` does."""
    return _descriptor(path) is not None


def write(path: Path, text: str) -> None:
    """Write text as UTF-8.

    A regular file is written whole or not at all, and keeps its permissions and owner; a link stays, and its target is
    written (of a hard link, this name only). Devices, pipes and open files such as ``/dev/fd/3`` are written to as they
    are.

    Raises:
        OSError: It cannot be written; a regular file is as it was before.
    """
    data = text.encode("utf-8", "backslashreplace")
    try:
        descriptor = _descriptor(path)
        if descriptor is not None:
            _write_open(descriptor, data)
            return
        status = _status(path)
        target = _resolved(path)
        if status is None or (stat.S_ISREG(status.st_mode) and not _is_virtual(target)):
            _replace(target, status, data)
        else:
            _overwrite(path, data)
    except OSError as error:
        if error.errno is None:
            raise
        raise _error(error.errno, path) from error  # which names the draft


def _status(path: Path) -> os.stat_result | None:
    """Return the status of the file at a path; None if there is none."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike `Path.resolve`, it leaves loops of links to whoever opens the file


def _descriptor(path: Path) -> int | None:
    """Return the number of this process's open file that a path stands for, as ``/dev/stdout`` does."""
    own = re.compile(rf"/dev/fd|/proc/{os.getpid()}(/task/\d+)?/fd")
    for _ in range(_TRIES):
        folder = _resolved(path.parent)
        if own.fullmatch(str(folder)) and path.name.isdecimal():
            return int(path.name)
        path = folder / path.name
        if not path.is_symlink():
            return None
        path = folder / path.readlink()
    return None


def _is_virtual(target: Path) -> bool:
    """Return whether the kernel provides a regular file, so that no draft can be created beside it."""
    return str(target).startswith(("/proc/", "/sys/"))


def _write_open(descriptor: int, data: bytes) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # what was printed earlier comes first
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)


def _overwrite(path: Path, data: bytes) -> None:
    """Write to a file that cannot be replaced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOCTTY", 0))
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _replace(target: Path, status: os.stat_result | None, data: bytes) -> None:
    if status is not None and not os.access(target, os.W_OK):
        raise _error(errno.EACCES, target)
    _sweep(target.parent)
    draft, descriptor = _make_draft(target.parent, 0o666 if status is None else 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)  # a network file system reports a full disk no earlier
            if status is not None:
                _keep_owner(draft, status)
            if fcntl is None:
                file.close()
            draft.replace(target)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink()
        if isinstance(error, OSError) and error.errno == errno.EBUSY:
            _overwrite(target, data)  # a file that is a mount point, as containers have, keeps its place
            return
        raise


def _keep_owner(draft: Path, status: os.stat_result) -> None:
    if hasattr(os, "chown"):
        for owner in (status.st_uid, -1):  # who may not give files away may still set the group
            with suppress(PermissionError):
                os.chown(draft, owner, status.st_gid)
                break
    draft.chmod(status.st_mode & 0o777)


def _make_draft(folder: Path, mode: int) -> tuple[Path, int]:
    """Return the path and the descriptor of a new file, locked where that is possible."""
    for _ in range(_TRIES):
        draft = folder / f".opcount-{token_hex(8)}.tmp"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        try:
            if _lock(descriptor) is not False and os.fstat(descriptor).st_nlink:
                return draft, descriptor
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                draft.unlink()
            raise
        os.close(descriptor)  # another writer has taken it for abandoned
    raise _error(errno.EAGAIN, folder)


def _sweep(folder: Path) -> None:
    """Remove the drafts of writers that were killed."""
    try:
        with os.scandir(folder) as entries:
            drafts = [folder / entry.name for entry in entries if _DRAFT.fullmatch(entry.name)]
    except OSError:
        return  # a folder that may be written to but not listed
    for draft in drafts:
        with suppress(OSError):
            _remove_abandoned(draft)


def _remove_abandoned(draft: Path) -> None:
    descriptor = os.open(draft, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        locked = _lock(descriptor)
        if locked or (locked is None and time.time() - status.st_mtime > _ABANDONED):
            draft.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Return whether an open file was locked; None if files cannot be locked here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
