"""The page of the HTML report: its sources stand beside this file, and become one file that needs no other."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from opcount.reporter.page.bundle import bundle

_STYLES = ("theme.css", "layout.css", "icicle.css", "tables.css", "roofline.css", "curve.css", "print.css")
_SCRIPT = "main.js"


def assemble(title: str, headline: str, summary: str, data: dict[str, Any]) -> str:
    """Return the page as ASCII text, so that no encoding can spoil it.

    Args:
        title: Of the page.
        headline: The total in words.
        summary: Text for readers without scripts.
        data: What the scripts draw.
    """
    style, script = "".join(map(_source, _STYLES)), _script()
    parts = {
        "policy": _policy(style, script),
        "title": _escaped(title),
        "headline": _escaped(headline),
        "subtitle": _escaped(data.pop("subtitle")),
        "style": style,
        "summary": _escaped(summary),
        "data": _embedded(data),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _source("page.html"))


def _policy(style: str, script: str) -> str:
    """Allow this style and this script, and nothing else: above all, no request to anywhere."""
    return (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; base-uri 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _escaped(text: str) -> str:
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _embedded(data: dict[str, Any]) -> str:
    """Return JSON in which nothing ends a script element or begins a comment."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@cache
def _script() -> str:
    return bundle(_SCRIPT, _source)


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="ascii")
