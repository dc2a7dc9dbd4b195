"""Origin of an autograd graph, for a thread that only runs it backward: whether it was created under observation.

A node knows its sequence number, not the thread that created it, and each thread numbers its nodes from 0 on. So a
number that the running thread has not reached yet is another thread's; one that it has reached may be either's.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from opcount._torch.autograd import sequence_number, sequence_number_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opcount.scope.timeline import Timeline


LEAF = 1 << 63
"""The least sequence number of AccumulateGrad nodes: such a number belongs to a leaf, and is no creation order."""


class Maker(Enum):
    """The creator of a graph: the running thread unobserved, an observed thread, either of them, or another thread."""

    ITSELF = 0
    OBSERVED = 1
    EITHER = 2
    ANOTHER = 3


def nodes_of(roots: Any) -> Iterator[Any]:
    """Yield the nodes of an autograd graph, roots first, each once."""
    pending = [root.node if hasattr(root, "node") else root.grad_fn for root in roots]
    seen: set[Any] = set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        pending.extend(below for below, _ in node.next_functions)


def leaves_of(roots: Any) -> Iterator[Any]:
    """Yield the leaves of an autograd graph."""
    return (node.variable for node in nodes_of(roots) if hasattr(node, "variable"))


def maker_of(roots: Any, own: Timeline | None, others: Iterable[Timeline]) -> Maker:
    """Return who made a graph that the running thread is about to run backward.

    Args:
        roots: Where backward begins.
        own: The running thread's timeline, if it was ever observed.
        others: Those of the other threads.
    """
    reached = sequence_number()
    timelines = list(others)
    maker, is_last, in_others = Maker.ITSELF, False, True
    for node in nodes_of(roots):
        number = sequence_number_of(node)
        if number >= LEAF:
            continue
        seen_elsewhere = any(timeline.knows(number) for timeline in timelines)
        if number >= reached:
            if seen_elsewhere:
                return Maker.OBSERVED
            maker = Maker.ANOTHER
        elif own is not None and own.knows(number):
            return Maker.OBSERVED
        is_last |= number == reached - 1
        in_others &= seen_elsewhere
    if maker is Maker.ITSELF and in_others and not is_last:
        return Maker.EITHER  # a thread mostly runs backward what it made last
    return maker
