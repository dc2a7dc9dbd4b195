"""Programs of several ranks."""

from opcount.distributed.simulate import simulate as simulate

__all__ = ["simulate"]
