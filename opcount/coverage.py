"""Coverage of a count: every operator is counted, free or named as uncounted; there is no silent zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from warnings import warn

from opcount.escapes import printable, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FREE = "free"
"""Family of the operators that are declared to compute nothing: views, copies, creation, ..."""

UNCOUNTED = "uncounted"
"""Family of the operators that have no formula, rule or declaration."""


class Share(NamedTuple):
    """The calls of an operator, and the bytes that it wrote."""

    calls: int = 0
    bytes: int = 0

    def plus(self, calls: int, written: int) -> Share:
        """Return the share with one more record in it."""
        return Share(self.calls + calls, self.bytes + written)


class Coverage(NamedTuple):
    """The operators of a profile by how they are explained.

    Attributes:
        counted: Priced by a formula or a rule.
        free: Declared to cost nothing.
        uncounted: Without formula, rule or declaration; the total is a lower bound.
        unattributed: Operator calls charged to the root because their module is unknown, by reason.
        uncalled: ``"never"``, and the modules called instead, if a model was given and only other modules ran.
    """

    counted: Mapping[str, Share]
    free: Mapping[str, Share]
    uncounted: Mapping[str, Share]
    unattributed: Mapping[str, int]
    uncalled: str = ""

    def __repr__(self) -> str:
        """Return how many operators are explained, and how many are not."""
        uncounted = ", ".join(sorted(self.uncounted)) or "none"
        return f"<Coverage: {len(self.counted)} operators counted, {len(self.free)} free, uncounted: {uncounted}>"

    @classmethod
    def of(
        cls, rows: Iterable[tuple[str, str, int, int]], unattributed: Mapping[str, int], uncalled: str = ""
    ) -> Coverage:
        """Sort ``(operator, family, calls, bytes)`` rows."""
        groups: dict[str, dict[str, Share]] = {"": {}, FREE: {}, UNCOUNTED: {}}
        for operator, family, calls, written in rows:
            group = groups.get(family, groups[""])
            group[operator] = group.get(operator, Share()).plus(calls, written)
        return cls(groups[""], groups[FREE], groups[UNCOUNTED], dict(unattributed), uncalled)

    @property
    def complete(self) -> bool:
        """True if every operator is counted or declared free."""
        return not self.uncounted

    @property
    def empty(self) -> bool:
        """True if no operator ran."""
        return not (self.counted or self.free or self.uncounted or self.unattributed)

    @property
    def calls_share(self) -> float:
        """The share of calls that is explained, from 0 to 1."""
        return _explained(self, 0)

    @property
    def bytes_share(self) -> float:
        """The share of bytes written by explained operators, from 0 to 1."""
        return _explained(self, 1)

    @property
    def calls(self) -> float:
        """Deprecated: the old name of `calls_share`."""
        return _renamed("calls", self.calls_share)

    @property
    def bytes(self) -> float:
        """Deprecated: the old name of `bytes_share`."""
        return _renamed("bytes", self.bytes_share)

    def verdict(self) -> str:
        """Return one line: every operator is accounted for, the names of those that are not, or nothing ran.

        Example:
            >>> Coverage.of([("aten.mm.default", "matmul", 2, 8)], {}).verdict()
            'every operator is accounted for'
            >>> Coverage.of([], {}).verdict()
            'nothing ran: no operator was seen'
        """
        lines = [f"the model was never called{self.uncalled.removeprefix('never')}"] if self.uncalled else []
        if self.empty:
            lines.append("nothing ran: no operator was seen")
        elif self.uncounted:
            lines.append(self._uncounted())
        elif not self.uncalled:
            lines.append("every operator is accounted for")
        lines += [
            f"{plural(calls, 'call')} charged to the root: {visible(reason)}"
            for reason, calls in self.unattributed.items()
        ]
        return "; ".join(lines)

    def _uncounted(self) -> str:
        names = ", ".join(
            f"{printable(name)} ({plural(share.calls, 'call')})" for name, share in sorted(self.uncounted.items())
        )
        verb = "has" if len(self.uncounted) == 1 else "have"
        return f"{plural(len(self.uncounted), 'operator')} {verb} no formula, so the total is a lower bound: {names}"


def _explained(coverage: Coverage, column: int) -> float:
    sums = [sum(share[column] for share in group.values()) for group in coverage[:3]]
    return 1 - sums[2] / sum(sums) if sum(sums) else 1.0


def _renamed(old: str, share: float) -> float:
    warn(f"Coverage.{old}: a share, not a count. Use Coverage.{old}_share.", DeprecationWarning, stacklevel=3)
    return share


def plural(count: int, noun: str) -> str:
    """Return ``"1 call"`` or ``"2 calls"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
