"""Programs of several ranks."""

from opcount.distributed.gather import gather
from opcount.distributed.ranks import Imbalance, Ranks
from opcount.distributed.simulate import simulate
from opcount.distributed.simulate_ranks import RankKind, World
from opcount.distributed.sizing import Sizing

__all__ = ["Imbalance", "RankKind", "Ranks", "Sizing", "World", "gather", "simulate"]
