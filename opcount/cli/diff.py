"""``opcount diff A.json B.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cli.formats import DIFF_FORMATS, chosen, goes_to_file, terminal_settings
from opcount.cli.output import read, warn, write
from opcount.errors import InputError
from opcount.reporter import diff_table as reporter
from opcount.reporter import html, terminal_text

if TYPE_CHECKING:
    import argparse

    from opcount.diff import Diff
    from opcount.profile import Profile
    from opcount.selectors import Tolerance


def run(options: argparse.Namespace) -> int:
    """Print what changed; return 1 if it is more than allowed."""
    name = chosen(options)
    if name not in DIFF_FORMATS:
        raise InputError(
            f"-o: expected a comparison as {', '.join(DIFF_FORMATS)}, got {str(options.output)!r}, whose name says "
            f"{name}. Name a file that ends in .txt, .md or .html."
        )
    before, after = map(read, (options.before, options.after))
    if options.convention:
        before, after = (profile.with_convention(options.convention) for profile in (before, after))
    diff = before.diff(after)
    if diff.differences:
        names = " and ".join(name for name, *_ in diff.differences)
        warn(f"the counts differ in more than the model: {names}. Count both alike to compare models.")
    write(f"{_render(diff, before, after, name, options).rstrip()}\n", options.output)
    if goes_to_file(options):
        write("".join(f"{line}\n" for line in reporter.closing(diff, options.metric)), None)
    failures = [text for tolerance in options.fail if (text := _exceeded(diff, tolerance))]
    for failure in failures:
        warn(failure)
    return 1 if failures else 0


def _render(diff: Diff, before: Profile, after: Profile, name: str, options: argparse.Namespace) -> str:
    if name == "html":
        return html.render(after, baseline=before, roofline=None if options.on is None else after.on(options.on))
    if options.on is not None:
        warn(f"--on has no effect with --format {name} (only with html).")
    if name == "markdown":
        render = reporter.render_markdown
    else:
        render = terminal_text.render_diff if terminal_settings(options) else reporter.render
    return render(diff, options.metric, fold=not options.unfold)


def _exceeded(diff: Diff, tolerance: Tolerance) -> str:
    (metric,) = tolerance.metrics
    old, new = diff.total.values(metric)
    if tolerance.allows(old, new):
        return ""
    return f"{metric} grew by {reporter.relative(old, new)}, and --fail allows {tolerance}"
