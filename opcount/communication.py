"""Communication of a count: what its collectives, sends and receives moved, by group, kind, module and phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from opcount.paths import parents, parents_first
from opcount.records import Collective, phases_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping
    from typing import TypeVar

    from opcount.records import Record

    K = TypeVar("K", bound=Hashable)


ROW_COLUMNS = ("collective", "group", "ranks", "issued", "buffer_bytes", "bus_bytes")
"""The columns of `opcount.profile.Profile.to_rows` of a count that communicates."""


class Volume(NamedTuple):
    """Calls and bytes of some collectives.

    Attributes:
        calls: How many there were.
        buffer_bytes: Bytes of their payloads.
        bus_bytes: Bytes over the link of one rank, as rings move them.
    """

    calls: int = 0
    buffer_bytes: int = 0
    bus_bytes: int = 0

    def __add__(self, other: object) -> Volume:
        if not isinstance(other, Volume):
            return NotImplemented
        return Volume(*(a + b for a, b in zip(self, other, strict=True)))


class Communication:
    """Collectives, sends and receives of a count, of one rank unless it is a sum of several.

    Args:
        records: Of a profile; those that communicate nothing are left out.
        groups: The global ranks of each group, by name, as far as they are known.

    Attributes:
        records: The rows that communicate.
        groups: The global ranks of each group, by name.

    Example:
        >>> from opcount import Profile
        >>> Profile().communication.total
        Volume(calls=0, buffer_bytes=0, bus_bytes=0)
    """

    def __init__(self, records: Iterable[Record] = (), groups: Mapping[str, tuple[int, ...]] | None = None) -> None:
        self.records = tuple(record for record in records if record.collective is not None)
        self.groups = dict(groups or {})

    def __bool__(self) -> bool:
        """Return whether anything was communicated."""
        return bool(self.records)

    @property
    def total(self) -> Volume:
        """The sum of all."""
        return sum(map(volume_of, self.records), Volume())

    def by_group(self) -> dict[str, Volume]:
        """Return what each group moved: by the dimension of the device mesh, else as the group is called."""
        return self._sums(lambda _, sent: sent.group)

    def by_kind(self) -> dict[str, Volume]:
        """Return what each kind of collective moved: ``"all-reduce"``, ``"send"``, ..."""
        return self._sums(lambda _, sent: sent.kind)

    def by_group_and_kind(self) -> dict[tuple[str, int, str], Volume]:
        """Return what each kind of collective moved in each group, by the group's name, its ranks and the kind."""
        return self._sums(lambda _, sent: (sent.group, sent.ranks, sent.kind))

    def by_phase(self) -> dict[str, Volume]:
        """Return what was moved in each phase."""
        phases = self._sums(lambda record, _: record.phase)
        return {phase: phases[phase] for phase in phases_in_order(phases)}

    def by_module(self) -> dict[str, Volume]:
        """Return what was moved for each module, children included: of FSDP for the owner of the parameters."""
        return _with_children(self._sums(lambda record, _: record.path))

    def by_issuer(self) -> dict[str, Volume]:
        """Return what each module ran, children included: of FSDP also what was gathered ahead for other modules."""
        return _with_children(self._sums(lambda record, sent: record.path if sent.issued is None else sent.issued))

    def _sums(self, key: Callable[[Record, Collective], K]) -> dict[K, Volume]:
        sums: dict[K, Volume] = {}
        for record in self.records:
            if record.collective is not None:
                name = key(record, record.collective)
                sums[name] = sums.get(name, Volume()) + volume_of(record)
        return sums


def volume_of(record: Record) -> Volume:
    """Return what the collectives of a record moved."""
    sent = record.collective
    return Volume() if sent is None else Volume(record.calls, sent.buffer_bytes, sent.bus_bytes)


def cells_of(record: Record) -> dict[str, str | int]:
    """Return the cells of a record in `ROW_COLUMNS`."""
    sent = record.collective or Collective("", "", 0, "")
    issued = record.path if sent.issued is None else sent.issued
    cells = sent.kind, sent.group, sent.ranks, issued, sent.buffer_bytes, sent.bus_bytes
    return dict(zip(ROW_COLUMNS, cells, strict=True))


def _with_children(own: Mapping[str, Volume]) -> dict[str, Volume]:
    sums: dict[str, Volume] = {}
    for path, volume in own.items():
        for parent in parents(path):
            sums[parent] = sums.get(parent, Volume()) + volume
    return {path: sums[path] for path in parents_first(sums)} if sums else {}
