"""Escapes for names and texts from outside: every character is visible, none ends a line or moves the cursor."""

from __future__ import annotations

import re

_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Characters that ``str.isprintable`` accepts although they are invisible."""


def printable(name: str) -> str:
    r"""Return a name with invisible characters and backslashes escaped: two names never look the same.

    Example:
        >>> printable("fc.0"), printable("a\nb"), printable("a\\nb")
        ('fc.0', 'a\\nb', 'a\\\\nb')
    """
    return visible(name.replace("\\", "\\\\"))


def visible(text: str) -> str:
    r"""Return a text with invisible characters escaped: line breaks, terminal codes, changes of text direction.

    Example:
        >>> visible("a\u202eb\x1b[31m \\"), visible("a b")
        ('a\\u202eb\\x1b[31m \\', 'a b')
    """
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(each if each.isprintable() else _escaped(each) for each in text)
    return _BLANK.sub(lambda match: _escaped(match[0]), shown)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
