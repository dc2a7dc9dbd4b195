"""Results of collectives in a simulated world: as if each rank had what this one has, as far as that is known.

Values of other ranks are not there. Small tensors whose values a dry run knows, such as counts of tokens, have results
that are known as well; what only another rank can know is forgotten, so that who reads it is told.
"""

from __future__ import annotations

from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist

from opcount._torch.fake_world import c10d, finished, is_placeholder
from opcount.distributed.simulate_objects import global_root, not_there
from opcount.interceptor.stack import dry_runs, unwatched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opcount.distributed.simulate_backends import Backends

    Asked = Mapping[str, Any]
    Leave = Callable[[Asked], list[Any]]
    Make = Callable[[Any], Any]

_LARGE = 1 << 16
"""Elements from which on no values are known."""


class _Held:
    """A message under way, which keeps its tensor alive as the messages of a real group do."""

    def __init__(self, work: Any, tensor: Any) -> None:
        self._work = work
        self._tensor = tensor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)


class CollectiveResults:
    """Patches of the functions of ``torch.distributed`` that communicate.

    Args:
        backends: Of the process groups.
    """

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._depth = 0

    def patches(self) -> dict[tuple[Any, str], Make]:
        """Return the functions, and what makes each a function that also leaves its results."""
        leaving: dict[str, Leave] = {
            "all_reduce": _all_reduce, "reduce": _reduce, "broadcast": lambda asked: [asked["tensor"]],
            "all_gather": _all_gather, "all_gather_single": _all_gather_single,
            "all_gather_into_tensor": _all_gather_single, "reduce_scatter": _reduce_scatter,
            "reduce_scatter_single": self._reduce_scatter_single, "reduce_scatter_tensor": self._reduce_scatter_single,
            "all_to_all": _all_to_all, "all_to_all_single": _all_to_all_single,
            "gather": _gather, "scatter": _scatter, "recv": _receive, "irecv": _receive,
            "isend": _send,
        }  # fmt: skip
        return {
            (c10d, name): self._around(signature(getattr(c10d, name)), leave)
            for name, leave in leaving.items()
            if hasattr(c10d, name)
        }

    def _around(self, parameters: Any, leave: Leave) -> Make:
        """Under a mode for functions PyTorch calls itself once more: that call leaves nothing."""

        def make(original: Any) -> Any:
            @wraps(original)
            def communicate(*args: Any, **kwargs: Any) -> Any:
                asked = parameters.bind(*args, **kwargs)
                asked.apply_defaults()
                if leave is _receive:
                    _check_source(asked.arguments)
                self._depth += 1
                try:
                    work = original(*args, **kwargs)
                finally:
                    self._depth -= 1
                if self._depth or is_placeholder(work):
                    return work
                outputs = leave(asked.arguments)
                if not isinstance(work, dist.Work):
                    return work
                return _Held(work, outputs) if leave in _MESSAGES else finished(outputs)

            return communicate

        return make

    def _reduce_scatter_single(self, asked: Asked) -> list[Any]:
        output, source, group = asked["output"], asked["input"], asked["group"]
        n, rank = dist.get_world_size(group), dist.get_rank(group)
        if rank < 0:
            return [output]
        if self._backends.are_gloo(group):
            _by_gloo(output, source, n, rank)
        if output.numel() <= _LARGE:
            chunk = source.reshape(n, -1)[rank] if source.dim() else source
            _leave(output, chunk.reshape(output.shape), asked["op"], n)
        return [output]


def _by_gloo(output: Any, source: Any, n: int, rank: int) -> None:
    """Copy as gloo does, which reduces a copy of all, and takes this rank's part of it."""
    with torch.no_grad():
        with unwatched():
            whole = torch.empty_like(source)
        output.copy_(whole.chunk(n)[rank].reshape(output.shape))


def _leave(output: Any, value: Any, op: Any = None, n: int = 1) -> None:
    """Write to a small tensor what it gets if each of ``n`` ranks gives this value."""
    if output.numel() > _LARGE or output.is_meta or not (_is_known(output) or _is_known(value)):
        return
    with unwatched(), torch.no_grad():
        if op == dist.ReduceOp.SUM:
            value = value * n
        elif op == dist.ReduceOp.PRODUCT:
            value = value**n
        output.copy_(value)


def _forget(output: Any) -> None:
    if output.numel() <= _LARGE and not output.is_meta and _is_known(output):
        for dry_run in dry_runs():
            dry_run.forget(output)


def _is_known(tensor: Any) -> bool:
    return bool(getattr(tensor, "known", True))


def _all_reduce(asked: Asked) -> list[Any]:
    tensor = asked["tensor"]
    if asked["op"] in (dist.ReduceOp.SUM, dist.ReduceOp.PRODUCT):
        _leave(tensor, tensor, asked["op"], dist.get_world_size(asked["group"]))
    return [tensor]


def _reduce(asked: Asked) -> list[Any]:
    return _all_reduce(asked) if global_root(asked, "dst") == dist.get_rank() else [asked["tensor"]]


def _all_gather(asked: Asked) -> list[Any]:
    for output in asked["tensor_list"]:
        _leave(output, asked["tensor"])
    return [asked["tensor_list"]]


def _all_gather_single(asked: Asked) -> list[Any]:
    output, source = asked["output_tensor"], asked["input_tensor"]
    _leave_parts(output, [source] * dist.get_world_size(asked["group"]))
    return [output]


def _leave_parts(output: Any, parts: list[Any]) -> None:
    """Write the parts of a small tensor, as a whole: it is known then."""
    if output.numel() <= _LARGE and parts and any(map(_is_known, (output, *parts))):
        with unwatched(), torch.no_grad():
            whole = torch.cat([part.reshape(-1) for part in parts]).reshape(output.shape)
        _leave(output, whole)


def _reduce_scatter(asked: Asked) -> list[Any]:
    group = asked["group"]
    mine = asked["input_list"][dist.get_rank(group)]
    _leave(asked["output"], mine, asked["op"], dist.get_world_size(group))
    return [asked["output"]]


def _all_to_all(asked: Asked) -> list[Any]:
    """Receive from each rank what this one has for itself, where that has the size."""
    outputs, mine = asked["output_tensor_list"], asked["input_tensor_list"][dist.get_rank(asked["group"])]
    for output in outputs:
        if output.shape == mine.shape:
            _leave(output, mine)
        else:
            _forget(output)
    return [outputs]


def _all_to_all_single(asked: Asked) -> list[Any]:
    """Receive from each rank what this one has for itself, where that fills the result."""
    output, source, group = asked["output"], asked["input"], asked["group"]
    if 0 < output.numel() <= _LARGE:
        n = dist.get_world_size(group)
        sizes = asked["input_split_sizes"] or [source.shape[0] // n] * n
        start = sum(sizes[: dist.get_rank(group)])
        mine = source[start : start + sizes[dist.get_rank(group)]]
        if mine.numel() * n == output.numel():
            _leave_parts(output, [mine] * n)
        else:
            _forget(output)
    return [output]


def _gather(asked: Asked) -> list[Any]:
    for output in asked["gather_list"] or ():
        _leave(output, asked["tensor"])
    return [asked["gather_list"] or []]


def _scatter(asked: Asked) -> list[Any]:
    parts = asked["scatter_list"]
    if parts:
        _leave(asked["tensor"], parts[dist.get_rank(asked["group"])])
    else:
        _forget(asked["tensor"])
    return [asked["tensor"]]


def _check_source(asked: Asked) -> None:
    if asked["src"] is None and asked.get("group_src") is None:
        raise not_there("a message of any rank")


def _receive(asked: Asked) -> list[Any]:
    _forget(asked["tensor"])
    return [asked["tensor"]]


def _send(asked: Asked) -> list[Any]:
    return [asked["tensor"]]


_MESSAGES = {_receive, _send}
