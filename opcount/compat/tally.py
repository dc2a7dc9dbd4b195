"""What operators of one run counted for, by the modules that were running."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from opcount.compat.structure import ancestors_of, walk
from opcount.scope.names import Names

if TYPE_CHECKING:
    from torch import nn


class Entry(NamedTuple):
    """What ran in one place.

    Attributes:
        counts: By word.
        unsupported: How often operators ran that nothing explains, by their name in a trace.
    """

    counts: Counter[str]
    unsupported: Counter[str]


class View(NamedTuple):
    """The sums of every module, children included, by full name.

    Attributes:
        counts: By word.
        unsupported: How often operators ran that nothing explains.
        uncalled: The modules that no operator ran under, be it as caller or as owner.
    """

    counts: dict[str, Counter[str]]
    unsupported: dict[str, Counter[str]]
    uncalled: set[str]


class Tally:
    """A growing sum; to be asked when the model has run.

    Args:
        model: Whose modules are asked for, by full name, a shared one once.

    Attributes:
        model: The same.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._entries: dict[tuple[str, ...], Entry] = {}
        self._views: dict[str, View] = {}

    def at(self, stack: tuple[str, ...]) -> Entry:
        """Return the entry of a chain of modules by path; having one, they are known to have been called."""
        if stack not in self._entries:
            self._entries[stack] = Entry(Counter(), Counter())
        return self._entries[stack]

    def view(self, ancestors: str) -> View:
        """Return the sums of every module, by its callers or by its owners."""
        if ancestors not in self._views:
            self._views[ancestors] = self._view(ancestors)
        return self._views[ancestors]

    def _view(self, ancestors: str) -> View:
        by_path: dict[str, Entry] = {}
        seen = {path for stack in self._entries for path in stack}
        for stack, entry in self._entries.items():
            for path in ancestors_of(stack, ancestors):
                total = by_path.setdefault(path, Entry(Counter(), Counter()))
                total.counts.update(entry.counts)
                total.unsupported.update(entry.unsupported)
        seen.update(by_path)
        paths = Names(self.model).paths
        path_of = {name: paths[id(module)] for name, module in walk(self.model)}
        nothing = Entry(Counter(), Counter())
        return View(
            counts={name: Counter(by_path.get(path, nothing).counts) for name, path in path_of.items()},
            unsupported={name: Counter(by_path.get(path, nothing).unsupported) for name, path in path_of.items()},
            uncalled={name for name, path in path_of.items() if path not in seen},
        )
