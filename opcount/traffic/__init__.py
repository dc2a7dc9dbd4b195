"""Minimum traffic: the bytes that an operator has to read and to write when each operand is touched once."""

from opcount.traffic import rnn  # noqa: F401  (importing a family registers it)
from opcount.traffic.registry import Traffic
from opcount.traffic.rule import moves_nothing, of_any_call, traffic_of

__all__ = ["Traffic", "moves_nothing", "of_any_call", "traffic_of"]
