"""Process groups whose other ranks are not there: PyTorch's fake ones, whatever backend a program names."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist

from opcount._torch.dispatch import disabled_modes
from opcount._torch.fake_world import (
    GROUP_MAKER,
    RESULT_SHAPES,
    SHAPE_VERIFIER,
    SHARDING,
    FakeStore,
    c10d,
    ddp,
    forget_meshes,
    random_state,
    set_random_state,
)
from opcount.distributed.simulate_ddp import replicating, verifying
from opcount.distributed.simulate_stages import stage_patches
from opcount.errors import DryRunError, InputError
from opcount.interceptor.patches import Patches
from opcount.interceptor.stack import unwatched
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opcount.distributed.simulate_place import Place

    Make = Callable[[Any], Any]

_FAKE = "fake"


@contextmanager
def groups_faked(place: Place) -> Iterator[None]:
    """Make every process group a fake one; on leaving, there is none."""
    around: dict[tuple[Any, str], Make] = {
        (c10d, "init_process_group"): partial(_init_process_group, place),
        GROUP_MAKER: _group_maker,
        (c10d, "barrier"): _barrier,
        (c10d, "monitored_barrier"): _answering(None),
        (c10d, "all_reduce"): _all_reduce,
        (c10d, "all_gather_object"): _all_gather_object,
        (c10d, "gather_object"): _gather_object,
        (c10d, "broadcast_object_list"): _broadcast_object_list,
        (c10d, "scatter_object_list"): _scatter_object_list,
        (c10d, "send_object_list"): _answering(None),
        (c10d, "recv_object_list"): _receive_objects,
        (c10d, "isend"): _held,
        (c10d, "irecv"): _held,
        SHAPE_VERIFIER: verifying,
        (ddp.DistributedDataParallel, "__init__"): replicating,
    }
    if SHARDING is not None and hasattr(SHARDING, RESULT_SHAPES):
        around[SHARDING, RESULT_SHAPES] = _without_modes
    around.update(stage_patches())
    with Undo() as undo:
        undo.add(partial(set_random_state, random_state()))
        Patches({}, around).use(undo)
        undo.add(_destroy_groups)
        forget_meshes()
        yield


def _destroy_groups() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
    forget_meshes()


def _answering(answer: object) -> Make:
    """Return what makes a function that does nothing."""
    return lambda _original: lambda *_args, **_kwargs: answer


def _init_process_group(place: Place, original: Any) -> Any:
    parameters = signature(dist.init_process_group)  # of what it wraps

    @wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        asked = parameters.bind(*args, **kwargs).arguments
        for name, value in (("world_size", place.world), ("rank", place.rank)):
            given = asked.get(name, -1)
            if given not in (-1, None, value):
                raise InputError(
                    f"simulate: expected a program that takes its {name} from the environment, or {value}, got "
                    f"init_process_group({name}={given!r}). Simulate that, or have the program read the environment."
                )
        return original(backend=_FAKE, store=FakeStore(), rank=place.rank, world_size=place.world)

    return init


def _group_maker(original: Any) -> Any:
    parameters = signature(original)

    @wraps(original)
    def make(*args: Any, **kwargs: Any) -> Any:
        bound = parameters.bind(*args, **kwargs)
        bound.arguments.update(backend=dist.Backend(_FAKE), backend_options=None)
        bound.arguments.pop("device_id", None)
        return original(*bound.args, **bound.kwargs)

    return make


def _barrier(original: Any) -> Any:
    def barrier(group: Any = None, async_op: bool = False, device_ids: object = None) -> Any:  # noqa: ARG001, FBT001, FBT002
        return original(group, async_op)

    return barrier


def _all_reduce(original: Any) -> Any:
    """Add up a known number as if each rank had the same; under a mode for functions PyTorch calls itself once more."""
    depth = 0

    @wraps(original)
    def reduce(tensor: Any, op: Any = dist.ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Any:  # noqa: FBT001, FBT002
        nonlocal depth
        depth += 1
        try:
            work = original(tensor, op, group, async_op)
        finally:
            depth -= 1
        if not depth and op == dist.ReduceOp.SUM and getattr(tensor, "known", True):
            with unwatched(), torch.no_grad():
                tensor.mul_(dist.get_world_size(group))
        return work

    return reduce


def _all_gather_object(_original: Any) -> Any:
    """Say what this rank says for each."""

    def gather(object_list: list[Any], obj: Any, group: Any = None) -> None:  # noqa: ARG001
        object_list[:] = [obj] * len(object_list)

    return gather


def _gather_object(_original: Any) -> Any:
    def gather(obj: Any, object_gather_list: list[Any] | None = None, *_args: Any, **_kwargs: Any) -> None:
        if object_gather_list is not None:
            object_gather_list[:] = [obj] * len(object_gather_list)

    return gather


def _broadcast_object_list(_original: Any) -> Any:
    def broadcast(object_list: list[Any], src: int | None = 0, group: Any = None, *_args: Any, **kwargs: Any) -> None:
        source = src if src is not None else _global_rank(group, kwargs.get("group_src", 0))
        if source != dist.get_rank() and any(each is None for each in object_list):
            raise _not_there(f"the objects that rank {source} broadcasts")

    return broadcast


def _scatter_object_list(_original: Any) -> Any:
    def scatter(out: list[Any], objects: list[Any] | None = None, *_args: Any, **kwargs: Any) -> None:
        if objects is None:
            raise _not_there(f"the objects that rank {kwargs.get('src', 0)} scatters")
        out[0] = objects[dist.get_rank(kwargs.get("group"))]

    return scatter


def _receive_objects(_original: Any) -> Any:
    def receive(_object_list: Any, src: int | None = None, *_args: Any, **_kwargs: Any) -> Any:
        raise _not_there("objects" if src is None else f"the objects that rank {src} sends")

    return receive


def _global_rank(group: Any, rank: int) -> int:
    return rank if group is None else dist.get_global_rank(group, rank)


def _not_there(what: str) -> DryRunError:
    return DryRunError(
        f"simulate: rank {dist.get_rank()} waits for {what}, and no other rank is there. Have each rank know it by "
        f"itself."
    )


class _Held:
    """A message under way, which keeps its tensor alive as the messages of a real group do."""

    def __init__(self, work: Any, tensor: Any) -> None:
        self._work = work
        self._tensor = tensor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)


def _held(original: Any) -> Any:
    @wraps(original)
    def start(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        work = original(tensor, *args, **kwargs)
        return None if work is None else _Held(work, tensor)

    return start


def _without_modes(original: Any) -> Any:
    """Learn the shape of a result on fake tensors of its own, unseen: nothing of that size runs on this rank."""

    @wraps(original)
    def propagate(*args: Any, **kwargs: Any) -> Any:
        with disabled_modes():
            return original(*args, **kwargs)

    return propagate
