"""Replicas in a simulated world: PyTorch's DDP needs a group whose reductions have results, and numbers."""

from __future__ import annotations

from functools import wraps
from inspect import signature
from typing import Any

import torch
from torch import distributed as dist

from opcount._torch.fake_world import buckets_of, finished

_REBUILDS = 2
"""The forward before which buckets are ordered as gradients came in the first one."""


def replicating(original: Any) -> Any:
    """Have DDP reduce by a group whose reductions have results, which those of a fake one lack."""
    parameters = signature(original)

    @wraps(original)
    def init(*args: Any, **kwargs: Any) -> None:
        asked = parameters.bind(*args, **kwargs)
        asked.arguments.update(device_ids=None, output_device=None)
        group = asked.arguments.get("process_group")
        if asked.arguments.get("device_mesh") is None:
            asked.arguments["process_group"] = Reducing(dist.group.WORLD if group is None else group)
        original(*asked.args, **asked.kwargs)
        module = args[0]
        module.reducer = _Reducer(module)

    return init


def verifying(_original: Any) -> Any:
    """Send what DDP compares with the other ranks, the number and the shapes of parameters, and find them equal."""

    def verify(group: Any, parameters: list[Any], *_args: object, **_kwargs: object) -> None:
        number = torch.empty(1, dtype=torch.int64, device=parameters[0].device)
        group.allgather([[torch.empty_like(number) for _ in range(group.size())]], [number], None)
        shapes = torch.empty(sum(2 * each.dim() for each in parameters), dtype=torch.int64)
        sent = torch.empty_like(shapes, device=parameters[0].device)
        group.broadcast([sent], None)
        torch.empty_like(shapes).copy_(sent)

    return verify


class _Reducer:
    """The reducer of a DDP module, which orders its buckets anew before the second step: it reads numbers for that."""

    def __init__(self, module: Any) -> None:
        self._reducer = module.reducer
        self._module = module
        self._steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reducer, name)

    def _rebuild_buckets(self) -> bool:
        """Send and receive what that takes, once."""
        module = self._module
        self._steps += 1
        if self._steps != _REBUILDS or (module.find_unused_parameters and not module.static_graph):
            return False
        parameters = [each for each in module.parameters() if each.requires_grad]
        for size in (len(parameters) + 1, len(buckets_of(parameters, module.bucket_bytes_cap))):
            order, sent = (torch.empty(size, dtype=torch.int32, device=parameters[0].device) for _ in range(2))
            sent.copy_(order)
            module.process_group.broadcast([sent], None)
            order.copy_(sent)
        return True


class Reducing(dist.ProcessGroup):
    """A group that reduces by another one, and returns what was reduced."""

    def __init__(self, group: Any) -> None:
        super().__init__(group.rank(), group.size())  # type: ignore[call-arg]
        self._group = group

    def allreduce(self, tensors: list[Any], _options: Any = None) -> Any:  # type: ignore[override]
        """Reduce each tensor."""
        for tensor in tensors:
            dist.all_reduce(tensor, group=self._group)
        return finished(tensors)

    def broadcast(self, tensors: list[Any], _options: Any = None) -> Any:  # type: ignore[override]
        """Broadcast each tensor."""
        for tensor in tensors:
            dist.broadcast(tensor, group=self._group, group_src=0)
        return finished(tensors)

    def allgather(self, outputs: list[list[Any]], inputs: list[Any], _options: Any = None) -> Any:  # type: ignore[override]
        """Gather each tensor."""
        for output, tensor in zip(outputs, inputs, strict=True):
            dist.all_gather(output, tensor, group=self._group)
        return finished(outputs)
