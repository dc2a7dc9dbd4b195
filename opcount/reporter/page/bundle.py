"""Several JavaScript modules as one script. They stay modules where they are written, one idea each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_IMPORT = re.compile(r'^import \{ (.+?) \} from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:const|function\*?) (\w+))", re.MULTILINE)
_FOREIGN = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)


def bundle(entry: str, read: Callable[[str], str]) -> str:
    """Return a script that does what a module and those that it imports do, each in a scope of its own.

    Args:
        entry: The module's file.
        read: Returns the text of a file.

    Raises:
        ValueError: An import or an export is of another form than ``import { a, b } from "./c.js";``,
            ``export const`` or ``export function``, or modules import one another in a circle.
    """
    written: dict[str, str] = {}
    _add(entry, read, written, ())
    return "".join(written.values())


def _add(file: str, read: Callable[[str], str], written: dict[str, str], importers: tuple[str, ...]) -> None:
    if file in importers:
        raise ValueError(f"bundle: expected no circle of imports, got {' -> '.join([*importers, file])}.")
    if file in written:
        return
    source = read(file)
    for _, module in _IMPORT.findall(source):
        _add(f"{module}.js", read, written, (*importers, file))
    written[file] = _wrap(file, source)


def _wrap(file: str, source: str) -> str:
    exports = ", ".join(_EXPORT.findall(source))
    body = _EXPORT.sub("", _IMPORT.sub(r"const { \1 } = $\2;", source))
    foreign = _FOREIGN.search(body)
    if foreign:
        raise ValueError(f"bundle: expected named imports and exports, got {foreign[0]!r} in {file}. Write it so.")
    return f"const ${file.removesuffix('.js')} = (() => {{\n{body}\nreturn {{ {exports} }};\n}})();\n"
