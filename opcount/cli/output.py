"""Where a report goes: standard output, or a file that is written whole or not at all; and what stands beside it."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from opcount.errors import OpcountError

if TYPE_CHECKING:
    from collections.abc import Iterator


def warn(message: str) -> None:
    """Tell the user something that is no part of the report."""
    print(f"opcount: {message}", file=sys.stderr)


def check(output: Path) -> None:
    """Refuse a file that cannot be written, before there is anything to write.

    Raises:
        OpcountError: It is a folder, or its folder does not exist or is not writable.
    """
    folder = output.resolve().parent
    if output.is_dir():
        why = "Is a directory"
    elif not folder.is_dir():
        why = "No such file or directory"
    elif not os.access(folder, os.W_OK):
        why = "Permission denied"
    else:
        return
    raise _unwritable(output, why)


def write(text: str, output: Path | None) -> None:
    """Write a report.

    Raises:
        OpcountError: The file cannot be written; it is as it was before.
    """
    if output is None:
        sys.stdout.write(text)
        return
    try:
        with _whole(output) as draft:
            draft.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(output, error.strerror) from error


def _unwritable(output: Path, why: str | None) -> OpcountError:
    return OpcountError(f"-o: {str(output)!r} cannot be written: {why}. Name another file.")


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """Give a file beside the output to write to, that takes its place in the end."""
    handle, name = tempfile.mkstemp(dir=output.resolve().parent, prefix=f".{output.name}.")
    os.close(handle)
    try:
        yield Path(name)
        mode = output.stat().st_mode & 0o777 if output.exists() else 0o666 & ~_umask()
        Path(name).chmod(mode)
        Path(name).replace(output)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(file: Path) -> str:
    """Return the text of a stored profile.

    Raises:
        OpcountError: There is no such file, or it is no text.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise OpcountError(
            f"{str(file)!r} cannot be read: {why}. Name a file that `opcount count -o` wrote."
        ) from error
