"""The table of ranks: the numbers of each, how far they are apart, and what all of them come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from opcount.escapes import printable
from opcount.reporter.columns import plain
from opcount.reporter.numbers import si
from opcount.reporter.table import closing_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opcount.profile import Profile
    from opcount.records import Total


class AnyRanks(Protocol):
    """Interface of `opcount.distributed.ranks.Ranks`, which prints itself by this file."""

    profiles: dict[int, Profile]

    @property
    def merged(self) -> Profile:
        """The sum of all ranks."""

    def each(self, metric: str) -> Mapping[int, int]:
        """Return a number of each rank."""

    def mean(self, metric: str) -> float:
        """Return the mean of a number."""

    def imbalance(self, metric: str) -> Any:
        """Return how far the ranks are apart."""

    def work(self) -> Mapping[str, Total]:
        """Return the work of all ranks, told apart."""


_COLUMNS = {"macs": "MAC", "traffic": "B", "buffer_bytes": "B", "bus_bytes": "B", "memory": "B"}
_HEADERS = {"macs": "MACs", "traffic": "traffic", "buffer_bytes": "payload", "bus_bytes": "bus", "memory": "live peak"}
_FEW = 16
"""The most ranks that have a row each; of more, the extremes have one."""


def render(ranks: AnyRanks) -> str:
    """Return the ranks as text, then the totals of all together."""
    return "\n".join([*rank_lines(ranks), "", *closing_lines(ranks.merged)])


def rank_lines(ranks: AnyRanks) -> Iterator[str]:
    """Yield the table of ranks, and a line for each number in which they are apart."""
    metrics = [metric for metric in _COLUMNS if any(ranks.each(metric).values())]
    numbers = {metric: ranks.each(metric) for metric in metrics}
    shown = list(ranks.profiles)
    if len(shown) > _FEW:
        ends = {pick(each, key=each.__getitem__) for each in numbers.values() for pick in (min, max)}
        shown = sorted(ends)
    rows = [[str(rank), *(si(numbers[metric][rank], _COLUMNS[metric]) for metric in metrics)] for rank in shown]
    rows.append(["mean", *(si(round(ranks.mean(metric)), _COLUMNS[metric]) for metric in metrics)])
    yield from plain(["rank", *(_HEADERS[metric] for metric in metrics)], rows, words=1)
    yield ""
    yield f"ranks: {len(ranks.profiles)}"
    for metric in metrics:
        apart = ranks.imbalance(metric)
        if apart.most != apart.mean:
            module = printable(apart.module) or "(no module)"
            yield (
                f"{_HEADERS[metric]} apart: rank {apart.rank} has {apart.ratio:.3g} times the mean, "
                f"most of it by {module} (+{si(round(apart.excess), _COLUMNS[metric])})"
            )
    work = ranks.work()
    if work["sharded"].macs:
        yield ", ".join(f"{name} work: {si(total.macs, 'MAC')}" for name, total in work.items())
