"""A number for each object, by which tables are keyed in place of ``id``.

To call ``id`` raises an event of `sys.audit`. Where a program has installed a hook for these, as importing filelock
does, which transformers and timm import, Python runs it each time: ten times longer than the call itself, and thousands
of times in a dry run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

identity: Callable[[object], int] = object.__hash__
"""Return a number that no other living object has, whatever its class says of hashes."""
