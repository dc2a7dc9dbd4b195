"""Replicas in a simulated world: PyTorch's DDP needs a group whose reductions have results, and numbers."""

from __future__ import annotations

from functools import partial, wraps
from inspect import signature
from typing import Any

import torch
from torch import distributed as dist

from opcount._torch.fake_world import (
    buckets_assigned,
    buckets_given,
    build_reducer,
    finished,
    reduced_by,
    register_ranks,
    remove_hooks,
)


def replicating(original: Any) -> Any:
    """Have DDP reduce by a group whose reductions have results, which those of a fake one lack."""
    parameters = signature(original)

    @wraps(original)
    def init(*args: Any, **kwargs: Any) -> None:
        asked = parameters.bind(*args, **kwargs)
        asked.arguments.update(device_ids=None, output_device=None)
        mesh = asked.arguments.get("device_mesh")
        if mesh is None:
            group = asked.arguments.get("process_group")
            asked.arguments["process_group"] = Reducing(dist.group.WORLD if group is None else group)
        original(*asked.args, **asked.kwargs)
        module = args[0]
        if mesh is not None:
            module.process_group = Reducing(module.process_group)
            build_reducer(module)
        module.reducer = _Reducer(module)

    return init


def verifying(_original: Any) -> Any:
    """Send what DDP compares with the other ranks, the number and the shapes of parameters, and find them equal."""

    def verify(group: Any, parameters: list[Any], *_args: object, **_kwargs: object) -> None:
        group = group if isinstance(group, Reducing) else Reducing(group)
        number = torch.empty(1, dtype=torch.int64, device=parameters[0].device)
        group.allgather([[torch.empty_like(number) for _ in range(group.size())]], [number], None)
        shapes = torch.empty(sum(2 * each.dim() for each in parameters), dtype=torch.int64)
        sent = torch.empty_like(shapes, device=parameters[0].device)
        group.broadcast([sent], None)
        torch.empty_like(shapes).copy_(sent)

    return verify


def noting_hook(original: Any) -> Any:
    """Have a hook of DDP stay when buckets are built again."""

    @wraps(original)
    def register(module: Any, *args: Any, **kwargs: Any) -> Any:
        out = original(module, *args, **kwargs)
        module.reducer.note_hook(lambda: original(module, *args, **kwargs))
        return out

    return register


def checking_hook(original: Any) -> Any:
    """Accept a hook that this build of PyTorch lacks NCCL for, which the simulated machine has."""

    @wraps(original)
    def check(module: Any, hook: Any) -> None:
        try:
            original(module, hook)
        except TypeError as error:
            if "NCCL" not in str(error):
                raise

    return check


class _Reducer:
    """The reducer of a DDP module, which reads numbers to build its buckets again as gradients came: another does.

    As PyTorch's it does that before the forward that follows the first reduction; where parameters may be unused it
    never does.
    """

    def __init__(self, module: Any) -> None:
        self._reducer = module.reducer
        self._module = module
        self._keep_log()
        self._reduces = False
        self._order: list[int] = []
        self._register_hook: Any = None
        self._handles = [] if module.find_unused_parameters else [
            parameter.register_post_accumulate_grad_hook(partial(self._arrived, place))
            for place, parameter in enumerate(reduced_by(module)[0])
        ]  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reducer, name)

    def _keep_log(self) -> None:
        """Hold the log, which keeps its reducer; a dry run holds for long what a module has had."""
        self.log, self._module.logger = self._module.logger, _Log(self)

    def note_hook(self, register: Any) -> None:
        """Remember how the hook that reduces is registered."""
        self._register_hook = register

    def prepare_for_backward(self, *args: Any) -> Any:
        """Expect gradients that are reduced."""
        self._reduces = True
        return self._reducer.prepare_for_backward(*args)

    def _arrived(self, place: int, _parameter: Any) -> None:
        if self._reduces and place not in self._order:
            self._order.append(place)

    def _rebuild_buckets(self) -> bool:
        """Order the buckets as gradients came, once; send and receive what that takes."""
        self._reduces = False
        if not self._order:
            return False
        module, order = self._module, self._order
        for handle in self._handles:
            handle.remove()
        self._handles, self._order = [], []
        parameters, sparse = reduced_by(module)
        buckets, limits = buckets_assigned(module, [parameters[place] for place in order], sparse, order)
        for size in (len(order) + 1, len(buckets)):
            indices, sent = (torch.empty(size, dtype=torch.int32, device=parameters[0].device) for _ in range(2))
            sent.copy_(indices)
            module.process_group.broadcast([sent], None)
            indices.copy_(sent)
        if not module.static_graph:  # which would find out anew what is used
            remove_hooks(self._reducer)
            del self._reducer, self.log  # before there are new buckets, as in PyTorch
            with buckets_given(buckets, limits):
                build_reducer(module)
            self._reducer, module.reducer = module.reducer, self
            self._keep_log()
            if self._register_hook is not None:
                self._register_hook()
        return True


class _Log:
    """The log of the reducer that a DDP module has now."""

    def __init__(self, owner: _Reducer) -> None:
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner.log, name)


class Reducing(dist.ProcessGroup):
    """A group that reduces by another one, and returns what was reduced."""

    def __init__(self, group: Any) -> None:
        super().__init__(group.rank(), group.size())  # type: ignore[call-arg]
        self._group = group
        register_ranks(self, group)

    def getBackendName(self) -> str:  # noqa: N802  (what C++ calls up to 2.5 or so)
        """Return the name of the backend."""
        return self._group.name()  # type: ignore[no-any-return]

    def allreduce(self, tensors: list[Any], _options: Any = None) -> Any:  # type: ignore[override]
        """Reduce each tensor."""
        for tensor in tensors:
            dist.all_reduce(tensor, group=self._group)
        return finished(tensors)

    def broadcast(self, tensors: list[Any], options: Any = None) -> Any:  # type: ignore[override]
        """Broadcast each tensor."""
        root = 0 if options is None else options.rootRank
        for tensor in tensors:
            dist.broadcast(tensor, dist.get_global_rank(self._group, root), group=self._group)
        return finished(tensors)

    def allgather(self, outputs: list[list[Any]], inputs: list[Any], _options: Any = None) -> Any:  # type: ignore[override]
        """Gather each tensor."""
        for output, tensor in zip(outputs, inputs, strict=True):
            dist.all_gather(output, tensor, group=self._group)
        return finished(outputs)
