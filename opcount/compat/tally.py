"""Sums of one run of a model, by the modules that were running."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from opcount.identity import identity
from opcount.paths import ancestors_of
from opcount.scope.module_names import ModuleNames
from opcount.structure import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn


class Entry(NamedTuple):
    """The sums of one chain of modules.

    Attributes:
        counts: By word.
        unsupported: How often operators ran that have no handle and no price, by their name in a trace.
        uncounted: How often operators ran that nothing explains, by the name that a profile gives them.
    """

    counts: dict[str, int]
    unsupported: dict[str, int]
    uncounted: dict[str, int]


class Layout:
    """The modules that are reported.

    Args:
        model: The model that contains them.

    Attributes:
        modules: By full name, a shared one once.
        paths: The path of every module in stacks, by full name: wrappers do not show in it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = dict(walk(model))
        paths = ModuleNames(model).paths
        self.paths = {name: paths[identity(module)] for name, module in self.modules.items()}


class Tally:
    """Running sums; read them after the model has run and the layout is set."""

    layout: Layout

    def __init__(self) -> None:
        self._entries: dict[tuple[str, ...], Entry] = {}
        self._sums: dict[str, dict[str, Counter[str]]] = {}

    def at(self, stack: tuple[str, ...]) -> Entry:
        """Return the entry of a chain of modules by path; having one, they are known to have been called."""
        entry = self._entries.get(stack)
        if entry is None:
            entry = self._entries[stack] = Entry({}, {}, {})
        return entry

    def counts(self, ancestors: str) -> dict[str, Counter[str]]:
        """Return the numbers by word of every module, children included, by its callers or by its owners."""
        if ancestors not in self._sums:
            self._sums[ancestors] = self._sum(lambda entry: entry.counts, ancestors)
        return self._sums[ancestors]

    def unsupported(self, ancestors: str) -> dict[str, Counter[str]]:
        """Return how often operators ran that have no handle and no price, of every module, children included."""
        return self._sum(lambda entry: entry.unsupported, ancestors)

    def uncounted(self) -> Counter[str]:
        """Return how often operators ran that nothing explains."""
        total: Counter[str] = Counter()
        for entry in self._entries.values():
            total.update(entry.uncounted)
        return total

    def uncalled(self, ancestors: str) -> set[str]:
        """Return the modules that no operator ran under, be it as caller or as owner."""
        seen = {path for stack in self._entries for path in (*stack, *ancestors_of(stack, ancestors))}
        return {name for name, path in self.layout.paths.items() if path not in seen}

    def _sum(self, column: Callable[[Entry], Mapping[str, int]], ancestors: str) -> dict[str, Counter[str]]:
        by_path: dict[str, Counter[str]] = {}
        for stack, entry in self._entries.items():
            numbers = column(entry)
            if numbers:
                for path in ancestors_of(stack, ancestors):
                    total = by_path.setdefault(path, Counter())
                    for name, number in numbers.items():
                        total[name] += number
        return {name: Counter(by_path.get(path)) for name, path in self.layout.paths.items()}
