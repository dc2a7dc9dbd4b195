"""Profiles of several ranks, merged: sums, maxima and means, what differs between ranks, and whose fault it is."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

from opcount.paths import by_parent, parents_first
from opcount.profile import Profile
from opcount.records import Total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opcount.records import Module, Record

MEMORY = "memory"
"""The metric of the peak of live bytes."""

REPLICATED, SHARDED = "replicated", "sharded"


class Imbalance(NamedTuple):
    """Distance of the ranks in one number.

    Attributes:
        metric: The number.
        rank: The rank that has most.
        most: What it has.
        mean: The mean of all ranks.
        module: The module whose own work exceeds the mean of all ranks by most on that rank; ``""`` is the root.
        excess: By how much.
    """

    metric: str
    rank: int
    most: int
    mean: float
    module: str
    excess: float

    @property
    def ratio(self) -> float:
        """The most over the mean: 1 where all ranks have the same."""
        return self.most / self.mean if self.mean else 1.0


class Ranks:
    """Counts of several ranks of one job.

    Args:
        profiles: The count of each rank, by its number.

    Attributes:
        profiles: The same, in the order of the ranks.

    Example:
        >>> from opcount import Profile
        >>> ranks = Ranks({0: Profile(), 1: Profile()})
        >>> ranks.each("macs"), ranks.imbalance("macs").ratio
        ({0: 0, 1: 0}, 1.0)
    """

    def __init__(self, profiles: Mapping[int, Profile]) -> None:
        self.profiles = {rank: profiles[rank] for rank in sorted(profiles)}

    @cached_property
    def merged(self) -> Profile:
        """The sum of all ranks, with each collective once for its group, and the highest peak of live bytes.

        Of a group the lowest rank tells what a collective moved; a transfer from rank to rank is its send.
        """
        kept = [profile.select(partial(self._tells, rank)) for rank, profile in self.profiles.items()]
        return sum(kept[1:], kept[0]) if kept else Profile()

    def _tells(self, rank: int, record: Record) -> bool:
        """Return whether a record is counted for this rank: of a collective, for one rank of its group."""
        sent = record.collective
        if sent is None:
            return True
        group = self.profiles[rank].groups.get(sent.group, ())
        if sent.kind == "send":
            return True
        if sent.kind == "recv":
            return not self.profiles.keys() >= set(group)
        return rank == min((other for other in group if other in self.profiles), default=rank)

    def each(self, metric: str) -> dict[int, int]:
        """Return a number of each rank: a field of `opcount.records.Total`, or ``"memory"``, the peak of live bytes."""
        if metric == MEMORY:
            return {rank: p.memory.peak if p.memory is not None else 0 for rank, p in self.profiles.items()}
        return {rank: getattr(profile.total, metric) for rank, profile in self.profiles.items()}

    def sum(self, metric: str) -> int:
        """Return the sum of a number over the ranks; of bytes of collectives, each of them counted by every rank."""
        return sum(self.each(metric).values())

    def max(self, metric: str) -> int:
        """Return the highest number of a rank."""
        return max(self.each(metric).values(), default=0)

    def mean(self, metric: str) -> float:
        """Return the mean of a number over the ranks."""
        return self.sum(metric) / len(self.profiles) if self.profiles else 0.0

    def imbalance(self, metric: str) -> Imbalance:
        """Return how far the ranks are apart in a number, and the module that explains most of it."""
        numbers, mean = self.each(metric), self.mean(metric)
        if not numbers:
            return Imbalance(metric, 0, 0, 0.0, "", 0.0)
        rank = max(numbers, key=lambda rank: numbers[rank])
        own = {other: _own(profile, metric) for other, profile in self.profiles.items()}
        means = {path: sum(each.get(path, 0) for each in own.values()) / len(own) for path in own[rank]}
        excess = {path: count - means[path] for path, count in own[rank].items()}
        path = max(excess, key=lambda path: excess[path], default="")
        return Imbalance(metric, rank, numbers[rank], mean, path, excess.get(path, 0.0))

    def work(self) -> dict[str, Total]:
        """Return the work of all ranks, told apart by whether a part of each is done on every rank or all of it.

        ``"sharded"`` is what modules do whose parameters are parts, each on another rank, of tensor or expert parallel
        layouts of DTensor; ``"replicated"`` is what ranks do with whole parameters: norms beside such layers, and
        everything in data parallel training, also by FSDP, which gathers its shards before.
        """
        sums = {SHARDED: Total(), REPLICATED: Total()}
        for profile in self.profiles.values():
            parts = sharded_modules(profile)
            for record in profile.records:
                sums[SHARDED if record.path in parts else REPLICATED] += profile.read(record)
        return sums

    def replicated(self) -> dict[str, int]:
        """Return the elements of parameters that several ranks hold whole, by module, and how many ranks hold them."""
        holders: dict[str, int] = {}
        for profile in self.profiles.values():
            parts = sharded_modules(profile, gathered=False)
            for path, module in profile.modules.items():
                if module.weights and path not in parts:
                    holders[path] = holders.get(path, 0) + 1
        return {path: count for path, count in holders.items() if count > 1}

    def __repr__(self) -> str:
        return f"<Ranks {', '.join(map(str, self.profiles)) or 'none'}>"

    def __str__(self) -> str:
        """Return the numbers of each rank, how far they are apart, and the sum of all."""
        from opcount.distributed.ranks_table import render  # noqa: PLC0415  (it reads ranks)

        return render(self)


def sharded_modules(profile: Profile, *, gathered: bool = True) -> set[str]:
    """Return the paths of modules that compute with parts of parameters.

    Of a module's own parameters most have to be parts: a row-wise layer has its bias whole. A module that has none of
    its own is as those inside it that have some, if these are alike; else, without any, as the module around it.

    Args:
        profile: The count of one rank.
        gathered: Whether parameters that FSDP gathers before they are used are taken for whole.
    """
    gathers = {
        r.collective.group for r in profile.records
        if r.collective is not None and r.collective.kind == "all-gather" and r.operator.startswith("c10d.")
    }  # fmt: skip
    whole = gathers if gathered else set()
    children = by_parent(list(parents_first(profile.modules)))
    sums = {path: (module.params, _parts(module, whole)) for path, module in profile.modules.items()}
    found: dict[str, bool] = {}
    for path in reversed(parents_first(profile.modules)):  # children before parents
        params, parts = sums.get(path, (0, 0))
        inside = [child for child in children.get(path, []) if sums.get(child, (0, 0))[0]]
        own, own_parts = (
            params - sum(sums[child][0] for child in inside),
            parts - sum(sums[child][1] for child in inside),
        )
        if params:
            found[path] = 2 * own_parts > own if own > 0 else all(found[child] for child in inside)
    for path in parents_first(profile.modules):
        found.setdefault(path, found.get(path.rpartition(".")[0], False))
    return {path for path, is_sharded in found.items() if is_sharded}


def _parts(module: Module, whole: set[str]) -> int:
    """Return the elements of parameters that are parts, but along dimensions that are gathered."""
    return max((count for name, count in module.shards if name not in whole and (name or not whole)), default=0)


def _own(profile: Profile, metric: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    if metric == MEMORY:
        for row in profile.memory.records if profile.memory is not None else ():
            sums[row.path] = sums.get(row.path, 0) + row.bytes
        return sums
    for record in profile.records:
        sums[record.path] = sums.get(record.path, 0) + getattr(profile.read(record), metric)
    return sums
