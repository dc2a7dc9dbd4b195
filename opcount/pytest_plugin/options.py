"""The plugin's command-line options, and their errors before the first test runs."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from opcount.budget.baseline import STORED
from opcount.errors import InputError
from opcount.selectors import Tolerance

if TYPE_CHECKING:
    from collections.abc import Callable


class Settings(NamedTuple):
    """The values of the command line's options."""

    summary: bool
    top: int | None
    json: Path | None
    markdown: Path | None
    update: bool
    on_increase: Tolerance | None
    compare: Path | None
    compare_fail: tuple[Tolerance, ...]


def add_options(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("flops", "FLOP budgets (opcount)")
    add: Callable[..., None] = group.addoption
    add("--flops", action="store_true", help="Print what each counted test computes.")
    add("--flops-top", type=_positive, metavar="N", help="Print the N counted tests that compute most.")
    add("--flops-json", metavar="PATH", help="Write the counts of all counted tests, for --flops-compare.")
    add("--flops-markdown", metavar="PATH", help="Write a table of all counted tests, for a pull request.")
    add("--flops-update", action="store_true", help="Write the baselines of flop_regression, and accept increases.")
    add(
        "--flops-fail-on-increase",
        nargs="?",
        const="0",
        type=_increase,
        metavar="BY",
        help="Fail if a test computes more than in its last run, by 1%%, 1000 or macs:1%%. Write an --option=VALUE.",
    )
    add("--flops-compare", metavar="FILE", help="Compare with what --flops-json wrote.")
    add(
        "--flops-compare-fail",
        action="append",
        default=[],
        type=_tolerance,
        metavar="METRIC:BY",
        help="With --flops-compare: fail if a test computes more by this: macs:1%%, macs:1000 or 'flops:5 MFLOP'.",
    )


def read_settings(config: pytest.Config) -> Settings:
    """Return what the command line asks for.

    Raises:
        pytest.UsageError: It cannot be done.
    """
    get = config.getoption
    compare_fail = tuple(get("--flops-compare-fail"))
    if compare_fail and not get("--flops-compare"):
        raise pytest.UsageError(
            f"--flops-compare-fail={compare_fail[0].text}: expected --flops-compare=FILE with it, "
            f"got none. Add the file to compare with."
        )
    if get("--flops-fail-on-increase") is not None and not hasattr(config, "cache"):
        raise pytest.UsageError(
            "--flops-fail-on-increase: expected pytest's cache, got -p no:cacheprovider. "
            "Use --flops-compare=FILE instead."
        )
    return Settings(
        summary=get("--flops") or get("--flops-top") is not None,
        top=get("--flops-top"),
        json=_output(get("--flops-json"), "--flops-json"),
        markdown=_output(get("--flops-markdown"), "--flops-markdown"),
        update=get("--flops-update"),
        on_increase=get("--flops-fail-on-increase"),
        compare=Path(get("--flops-compare")) if get("--flops-compare") else None,
        compare_fail=compare_fail,
    )


def _output(given: str | None, option: str) -> Path | None:
    if given is None:
        return None
    path = Path(given).absolute()
    if path.is_dir() or not path.parent.is_dir():
        raise pytest.UsageError(f"{option}: expected a file in a folder that exists, got {given!r}. Make the folder.")
    return path


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"expected a number of tests above 0, got {text!r}.")
    return int(text)


def _increase(text: str) -> Tolerance:
    try:
        return Tolerance.parse(text, STORED, ("macs", "flops"))
    except InputError as error:
        raise ArgumentTypeError(
            f"{error} Write --flops-fail-on-increase=BY, or put the option last to leave the tolerance out."
        ) from error


def _tolerance(text: str) -> Tolerance:
    try:
        return Tolerance.parse(text, STORED)
    except InputError as error:
        raise ArgumentTypeError(str(error)) from error
