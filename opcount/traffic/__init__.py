"""Minimum traffic: the bytes that an operator has to read and to write when each operand is touched once."""

from opcount.traffic import (  # noqa: F401  (importing a family registers it)
    attention,
    collective,
    conv,
    embedding,
    grouped,
    indexing,
    norm,
    optim,
    rnn,
)
from opcount.traffic.joint import joint_of
from opcount.traffic.registry import Traffic
from opcount.traffic.rule import of_any_call, traffic_of
from opcount.traffic.written_out import Joint

__all__ = ["Joint", "Traffic", "joint_of", "of_any_call", "traffic_of"]
