"""Programs of several ranks."""

from opcount.distributed.simulate import simulate
from opcount.distributed.simulate_ranks import RankKind, World
from opcount.distributed.sizing import Sizing

__all__ = ["RankKind", "Sizing", "World", "simulate"]
