"""A rank's place in a world."""

from __future__ import annotations

from dataclasses import dataclass

from opcount.errors import InputError


@dataclass(frozen=True)
class Place:
    """A rank in a world.

    Attributes:
        world: Number of ranks.
        rank: From 0.
        ranks_per_node: Devices of a node.

    Raises:
        InputError: A number is no positive integer, or the rank is outside of the world.

    Example:
        >>> Place(1024, 9, 8).local_rank
        1
    """

    world: int
    rank: int
    ranks_per_node: int = 8

    def __post_init__(self) -> None:
        for name in ("world", "ranks_per_node"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(
                    f"simulate: expected a positive integer as {name}, got {value!r} of type {type(value).__name__}. "
                    f"Pass the number of ranks{' of a node' if name != 'world' else ''}."
                )
        if not isinstance(self.rank, int) or isinstance(self.rank, bool) or not 0 <= self.rank < self.world:
            raise InputError(
                f"simulate: expected a rank from 0 to {self.world - 1} in a world of {self.world}, got {self.rank!r}. "
                f"Pass one of these."
            )

    @property
    def local_world(self) -> int:
        """The ranks of this rank's node."""
        return min(self.ranks_per_node, self.world)

    @property
    def local_rank(self) -> int:
        """The rank within its node."""
        return self.rank % self.local_world

    def variables(self) -> dict[str, str]:
        """Return the variables of the environment by which ``torchrun`` tells a program where it is."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world),
            "GROUP_RANK": str(self.rank // self.local_world),
            "GROUP_WORLD_SIZE": str(-(-self.world // self.local_world)),
            "ROLE_RANK": str(self.rank),
            "ROLE_WORLD_SIZE": str(self.world),
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": "29500",
        }
