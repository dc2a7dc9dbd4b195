"""Tables of PyTorch's functions, which it makes when they are first asked for, and keeps.

One that is made while functions are patched holds the patches in place of the functions, for good.
"""

from __future__ import annotations

import sys
from threading import RLock
from typing import TYPE_CHECKING, Any

from torch import overrides

from opcount._torch.lookup import need, needed

with needed():
    from torch.utils._device import _device_constructors

if TYPE_CHECKING:
    from collections.abc import Iterator

_OVERRIDES = (
    overrides.get_ignored_functions,
    overrides.get_testing_overrides,
    *(need(f"overrides.{name}") for name in ("get_default_nowrap_functions", "_get_overridable_functions")),
    need("overrides._get_tensor_methods"),
)
_OF_DYNAMO = "torch._dynamo.trace_rules", ("get_torch_obj_rule_map", "get_tensor_method")


class FunctionTables:
    """Keeps patches out of the tables, as long as there are users."""

    def __init__(self) -> None:
        self._users: set[object] = set()
        self._made: list[Any] = []
        """The tables that were there before the first user."""
        self._lock = RLock()  # reentrant: the collector may end another block while it is held

    def enter(self, user: object) -> None:
        with self._lock:
            if not self._users:
                _device_constructors()  # asked for in the block, too, where functions are found by what they patch
                self._made = [table for table in _tables() if table.cache_info().currsize]
            self._users.add(user)

    def leave(self, user: object) -> None:
        """Have PyTorch make the tables again that it has made since the first user came."""
        with self._lock:
            self._users.discard(user)
            for table in _tables():
                if not any(table is made for made in self._made):
                    table.cache_clear()


def _tables() -> Iterator[Any]:
    module, names = _OF_DYNAMO
    of_dynamo = (getattr(sys.modules.get(module), name, None) for name in names)
    yield from (table for table in (_device_constructors, *_OVERRIDES, *of_dynamo) if hasattr(table, "cache_clear"))
