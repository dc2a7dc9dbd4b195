"""An interactive page: an icicle chart of modules, tables, changes. One self-contained HTML file."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from opcount.escapes import visible
from opcount.reporter.amounts import amount
from opcount.reporter.page import assemble
from opcount.reporter.page.pack import pack, pack_diff
from opcount.reporter.table import closing_lines
from opcount.reporter.table import render as render_table

if TYPE_CHECKING:
    from opcount.profile import Profile
    from opcount.roofline import Roofline

_HEIGHT = 760


def render(
    profile: Profile, *, baseline: Profile | None = None, title: str = "", roofline: Roofline | None = None
) -> str:
    """Return the profile as a page of HTML.

    Args:
        profile: What to show.
        baseline: An earlier count to compare with; modules are coloured by how they changed.
        title: Of the page; by default the type of the model.
        roofline: The count on the device whose times the page shows first; readers may choose others.

    Raises:
        ConventionError: The profile and its baseline are read under different conventions.
    """
    device = None if roofline is None else roofline.device
    data = pack(profile, device) if baseline is None else pack_diff(baseline, profile, device)
    headline, summary = amount(profile.total, profile.convention), "\n".join(closing_lines(profile, roofline))
    return assemble(visible(title or _title(profile, baseline)), headline, summary, data)


def frame(profile: Profile) -> str:
    """Return the page for a cell of a notebook; where it is not allowed to run, the table remains."""
    page, table = escape(render(profile)), escape(render_table(profile))
    return (
        f'<iframe srcdoc="{page}" sandbox="allow-scripts allow-downloads" title="opcount" loading="lazy" '
        f'style="width: 100%; height: {_HEIGHT}px; border: 0"></iframe>'
        f"<details><summary>As a table</summary><pre>{table}</pre></details>"
    )


def _title(profile: Profile, baseline: Profile | None) -> str:
    root = profile.modules.get("")
    name = root.type if root and root.type else "opcount"
    return name if baseline is None else f"{name}: what changed"
