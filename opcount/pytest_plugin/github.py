"""Output for GitHub Actions, where its variables are set: annotations, links to lines, the summary of a job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from opcount.escapes import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opcount.pytest_plugin.history import Increase
    from opcount.pytest_plugin.stored_counts import StoredCount


def error_commands(found: Iterable[StoredCount], increases: Iterable[Increase], root: Path) -> Iterator[str]:
    """Yield a workflow command for each failure, which GitHub shows beside the line; none elsewhere."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    by_key = {measured.key: measured for measured in found}
    for measured in by_key.values():
        for failure in measured.failures:
            yield _error(measured, f"{measured.key}: {failure.text}", root)
    for increase in increases:
        yield _error(by_key[increase.key], increase.text, root)


def _error(measured: StoredCount, text: str, root: Path) -> str:
    file = _escaped(_in_repository(root / measured.file)).replace(":", "%3A").replace(",", "%2C")
    return f"::error file={file},line={measured.line}::{_escaped(visible(text))}"


def _escaped(text: str) -> str:
    """Return a text as workflow commands take it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _in_repository(path: Path) -> str:
    """Return a path relative to the checkout, as GitHub names files."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    path = path.resolve()
    if workspace and path.is_relative_to(Path(workspace).resolve()):
        path = path.relative_to(Path(workspace).resolve())
    elif path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return path.as_posix()


def link(root: Path) -> Callable[[StoredCount], str]:
    """Return what shows where a test is, in Markdown: its file and line, on GitHub as a link."""
    environment = os.environ
    server, repository, commit = (environment.get(f"GITHUB_{n}") for n in ("SERVER_URL", "REPOSITORY", "SHA"))

    def show(measured: StoredCount) -> str:
        place = f"{measured.file}:{measured.line}"
        if not (server and repository and commit):
            return place
        file = _in_repository(root / measured.file)
        return f"[{place}]({server}/{repository}/blob/{commit}/{quote(file)}#L{measured.line})"

    return show


def append_to_step_summary(text: str) -> str:
    """Add a text to the summary of the job, if there is one; return what is wrong with its file, or nothing."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return ""
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError as error:
        return (
            f"GITHUB_STEP_SUMMARY={path}: expected a file that can be written, got {type(error).__name__}: "
            f"{error.strerror}. Unset it, or look at its permissions."
        )
    return ""
