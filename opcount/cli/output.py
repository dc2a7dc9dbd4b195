"""Writing a report to standard output or to a file, messages to standard error, and reading a stored profile."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

from opcount import files
from opcount.errors import OpcountError, ProfileFormatError
from opcount.escapes import visible
from opcount.profile import Profile

if TYPE_CHECKING:
    from pathlib import Path


def warn(message: str) -> None:
    """Print a message that is no part of the report."""
    if sys.stderr is not None:  # closed by the shell; print would take standard output instead
        print("\n".join(map(visible, f"opcount: {message}".split("\n"))), file=sys.stderr)


def check(output: Path) -> None:
    """Refuse a file that cannot be written, before there is anything to write.

    Raises:
        OpcountError: It is a folder, or its folder does not exist, or permission is missing.
    """
    try:
        files.check(output)
    except OSError as error:
        raise _unwritable(output, error) from error


def is_regular(output: Path) -> bool:
    """Return whether a path is that of a file, which may not exist yet: no device, no pipe, no file that is open."""
    return not files.is_open(output) and (not output.exists() or output.is_file())


def write(text: str, output: Path | None) -> None:
    """Write a report.

    Raises:
        OpcountError: It cannot be written; a regular file is as it was before.
    """
    try:
        if output is None:
            _print(text)
        else:
            files.write(output, text)
    except BrokenPipeError:
        raise  # the reader has seen enough
    except OSError as error:
        raise _unwritable(output, error) from error


def read(file: Path) -> Profile:
    """Return a stored profile.

    Raises:
        OpcountError: There is no such file, or it is no text, or no profile.
    """
    try:
        return Profile.from_json(file.read_text(encoding="utf-8"))
    except ProfileFormatError as error:
        raise ProfileFormatError(f"{str(file)!r} cannot be read: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise OpcountError(
            f"{str(file)!r} cannot be read: {why}. Name a file that `opcount count -o` wrote."
        ) from error


def _print(text: str) -> None:
    """Write to standard output, what its encoding does not have as escapes."""
    if sys.stdout is None:  # closed by the shell
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries once more when it exits
        raise


def _unwritable(output: Path | None, error: OSError) -> OpcountError:
    if output is None:
        return OpcountError(f"standard output cannot be written: {error.strerror}. Name a file with -o.")
    return OpcountError(f"-o: {str(output)!r} cannot be written: {error.strerror}. Name another file.")
