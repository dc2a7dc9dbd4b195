"""Sizing: what a step takes at least on devices with links, and what a plan makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING

from opcount.devices import Device, in_units
from opcount.errors import DeviceError, InputError
from opcount.escapes import visible
from opcount.roofline import duration
from opcount.utilization import flops_by_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opcount.distributed.simulate_ranks import RankKind, World
    from opcount.profile import Profile

_DAY = 86400


@dataclass(frozen=True)
class Floors:
    """Times below which a rank's step cannot be done, in seconds.

    Attributes:
        rank: The rank.
        compute: Its products at the device's peaks.
        memory: The minimum traffic of its operators, each on its own, at the device's bandwidth.
        communication: What its collectives move over its link, by group.
    """

    rank: int
    compute: float
    memory: float
    communication: Mapping[str, float]

    @property
    def bounds(self) -> dict[str, float]:
        """All of them by name, the longest first."""
        every = {"compute": self.compute, "memory": self.memory}
        every |= {f"communication over {group}": seconds for group, seconds in self.communication.items()}
        return dict(sorted(every.items(), key=lambda item: -item[1]))

    @property
    def seconds(self) -> float:
        """The longest: all else hides behind it."""
        return max(self.bounds.values())

    @property
    def one_by_one(self) -> float:
        """The sum of the longer one of compute and memory, and of all communication: nothing hides it."""
        return max(self.compute, self.memory) + sum(self.communication.values())


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """A step of a world on devices.

    Attributes:
        world: Its ranks, by kind.
        device: What each rank has.
        links: Bytes per second over one rank's link, by group.
        tokens_per_step: Tokens that all ranks together process in what was counted.
        tokens: Of the whole training; None: nobody asks for days.
        mfu: The share of the peaks that a plan expects of model FLOPs; None: no plan.

    Raises:
        DeviceError: A group communicates and has no link, or the device has no peak for a dtype.
        InputError: A number is no positive one.
    """

    world: World
    device: Device
    links: Mapping[str, float] = field(default_factory=dict)
    tokens_per_step: float | None = None
    tokens: float | None = None
    mfu: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens_per_step", "tokens", "mfu"):
            value = getattr(self, name)
            if value is not None and not _is_positive(value):
                raise InputError(f"size: expected a positive number as {name}, got {value!r}. Pass one.")
        if self.mfu is not None and self.mfu > 1:
            raise InputError(f"size: expected a share of the peak as mfu, got {self.mfu!r}. Pass one up to 1, as 0.4.")
        if self.tokens is not None and self.tokens_per_step is None:
            raise InputError(
                f"size: expected the tokens of a step beside tokens={self.tokens!r}, got none. Pass tokens_per_step: "
                f"sequences of all ranks that are no copies of each other, times their length."
            )
        for group, link in self.links.items():
            if not _is_positive(link):
                raise InputError(f"size: expected bytes per second for the link of {group}, got {link!r}. Pass 50e9.")

    @cached_property
    def floors(self) -> tuple[Floors, ...]:
        """The floors of each kind of rank."""
        return tuple(map(self._floors, self.world.kinds))

    @property
    def slowest(self) -> Floors:
        """The floors of the rank that needs most: a step waits for it."""
        return max(self.floors, key=lambda each: each.seconds)

    @property
    def planned_seconds(self) -> float | None:
        """The seconds of a step in which all devices together reach the expected MFU."""
        if self.mfu is None:
            return None
        return self.world.mean(lambda profile: self._compute(profile, hardware=False)) / self.mfu

    def _floors(self, kind: RankKind) -> Floors:
        profile = kind.profile
        moved = profile.bytes_read + profile.bytes_written
        return Floors(
            kind.rank,
            self._compute(profile, hardware=True),
            moved / self.device.bandwidth,
            {group: amount / self._link(group) for group, amount in bus_bytes(profile).items() if amount},
        )

    def _compute(self, profile: Profile, *, hardware: bool) -> float:
        flops = flops_by_dtype(profile.rated_records())
        return sum(
            (each.hardware if hardware else each.model) / self.device.peak(dtype) for dtype, each in flops.items()
        )

    def _link(self, group: str) -> float:
        if group in self.links:
            return self.links[group]
        known = ", ".join(self.links) or "none"
        raise DeviceError(
            f"size: expected the bandwidth of a link for {group!r}, over which a rank communicates, got links for "
            f"{known}. Pass --link '{group}=450GB/s' inside a node of H100, '{group}=50GB/s' for a 400 Gbit/s network."
        )

    def lines(self) -> Iterator[str]:
        """Yield the floors of each kind of rank, what bounds the step, and the plan."""
        yield f"device: {visible(str(self.device))}"
        for group, link in self.links.items():
            yield f"link of {visible(group)}: {in_units(link)}B/s (given by the user)"
        for kind, floors in zip(self.world.kinds, self.floors, strict=True):
            each = ", ".join(f"{visible(name)} {duration(seconds)}" for name, seconds in floors.bounds.items())
            yield f"rank {kind.rank} ({kind.count} of {self.world.ranks}): {each}"
        slowest = self.slowest
        bound = next(iter(slowest.bounds))
        yield (
            f"a step takes at least {duration(slowest.seconds)}, bound by {visible(bound)} of rank {slowest.rank}; "
            f"{duration(slowest.one_by_one)} if communication hides behind nothing"
        )
        yield from self._rates("at least that", slowest.seconds)
        planned = self.planned_seconds
        if planned is not None:
            yield f"at an MFU of {self.mfu:.3g} a step takes {duration(planned)}"
            if planned < slowest.seconds:
                yield f"which is less than it takes at least: no plan reaches an MFU of {self.mfu:.3g} here"
            yield from self._rates("planned", planned)

    def _rates(self, name: str, seconds: float) -> Iterator[str]:
        if self.tokens_per_step is None:
            return
        rate = self.tokens_per_step / seconds
        text = f"{name}: {rate:,.0f} tokens/s, {rate / self.world.ranks:,.0f} for each of {self.world.ranks} devices"
        if self.tokens is not None:
            text += f"; {self.tokens / rate / _DAY:,.1f} days for {in_units(self.tokens).rstrip()} tokens"
        yield text

    def __str__(self) -> str:
        """Return the lines."""
        return "\n".join(self.lines())


def bus_bytes(profile: Profile) -> dict[str, int]:
    """Return what a rank's collectives move over its link, by group."""
    sums: dict[str, int] = {}
    for record in profile.records:
        if record.collective is not None:
            group = record.collective.group
            sums[group] = sums.get(group, 0) + record.collective.bus_bytes
    return sums


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and value > 0
