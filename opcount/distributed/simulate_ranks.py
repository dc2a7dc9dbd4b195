"""Kinds of ranks of a simulated world: those that do the same work are counted once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from opcount.errors import ProfileFormatError
from opcount.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_FORMAT = "opcount.world"
_BETWEEN_STAGES = {"send", "recv"}
"""Kinds of communication that tell stages from another."""


@dataclass(frozen=True)
class RankKind:
    """Ranks that do the same work.

    Attributes:
        rank: The one that was counted.
        count: How many there are.
        profile: Of one of them.
    """

    rank: int
    count: int
    profile: Profile


@dataclass(frozen=True)
class World:
    """All ranks of a world, by kind.

    Attributes:
        kinds: Those that were counted, and how many they stand for.
    """

    kinds: tuple[RankKind, ...]

    @property
    def ranks(self) -> int:
        """The number of ranks."""
        return sum(kind.count for kind in self.kinds)

    def total(self, of: Callable[[Profile], int]) -> int:
        """Return a number of all ranks together.

        Args:
            of: Returns that of one rank, such as its ``macs``.
        """
        return sum(kind.count * of(kind.profile) for kind in self.kinds)

    def mean(self, of: Callable[[Profile], float]) -> float:
        """Return the mean of a number over all ranks."""
        return sum(kind.count * of(kind.profile) for kind in self.kinds) / self.ranks

    def to_json(self) -> str:
        """Return the kinds and their profiles as JSON."""
        kinds = [
            {"rank": kind.rank, "count": kind.count, "profile": json.loads(kind.profile.to_json())}
            for kind in self.kinds
        ]
        return json.dumps({"format": _FORMAT, "schema": 1, "kinds": kinds}) + "\n"


def representatives(profile: Profile, world: int) -> Iterator[tuple[int, int]]:
    """Yield a rank of each kind, and how many ranks it stands for.

    Ranks differ in their work by the pipeline stage that they are in: along each group in which messages are sent there
    is a first, a last and a middle one, the one halfway. All other groups have ranks that do the same.

    Args:
        profile: Of rank 0.
        world: Number of ranks.

    Example:
        >>> list(representatives(Profile(), 8))
        [(0, 8)]
    """
    lines = [profile.groups[name] for name in _staged(profile) if name in profile.groups]
    share = world
    for ranks in lines:
        share //= len(ranks)
    for places in product(*map(_first_middle_last, lines)):
        count = share
        for _, stages in places:
            count *= stages
        yield sum(rank for rank, _ in places), count


def _staged(profile: Profile) -> list[str]:
    """Return the groups in which messages are sent from one rank to another."""
    found = {each.group: None for record in profile.records if (each := record.collective) is not None
             and each.kind in _BETWEEN_STAGES and each.ranks > 1}  # fmt: skip
    return list(found)


def _first_middle_last(ranks: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return a rank of the first, the middle and the last stage, and how many stages each stands for."""
    if len(ranks) <= 2:
        return [(rank, 1) for rank in ranks]
    return [(ranks[0], 1), (ranks[len(ranks) // 2], len(ranks) - 2), (ranks[-1], 1)]


def read_world(file: Path) -> World:
    """Return the ranks of a file: those of a world, or one rank that stands for itself.

    Raises:
        ProfileFormatError: It is neither.
    """
    text = file.read_text(encoding="utf-8")
    try:
        known: Any = json.loads(text)
    except ValueError as error:
        raise ProfileFormatError(f"size: expected JSON in {str(file)!r}, got {error}. Count again.") from error
    if not isinstance(known, dict) or known.get("format") != _FORMAT:
        return World((RankKind(0, 1, Profile.from_json(text)),))
    try:
        kinds = tuple(
            RankKind(int(kind["rank"]), int(kind["count"]), Profile.from_json(json.dumps(kind["profile"])))
            for kind in known["kinds"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProfileFormatError(
            f"size: expected kinds of ranks in {str(file)!r}, got {error!r}. Count again."
        ) from error
    return World(kinds)
