"""Process groups whose other ranks are not there: PyTorch's fake ones, whatever backend a program names."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

from torch import distributed as dist

from opcount._torch.dispatch import disabled_modes
from opcount._torch.fake_world import (
    DEFAULT_TIMEOUT,
    GROUP_MAKER,
    HOOK_CHECK,
    RESET_SHARD,
    RESULT_SHAPES,
    SHAPE_VERIFIER,
    SHARDED_PARAMETER,
    SHARDING,
    FakeStore,
    c10d,
    ddp,
    forget_meshes,
    keep_shard,
    random_state,
    set_random_state,
)
from opcount.distributed.simulate_backends import Backends
from opcount.distributed.simulate_ddp import checking_hook, noting_hook, replicating, verifying
from opcount.distributed.simulate_objects import object_patches
from opcount.distributed.simulate_results import CollectiveResults
from opcount.distributed.simulate_stages import stage_patches
from opcount.errors import InputError
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opcount.distributed.simulate_place import Place

    Make = Callable[[Any], Any]

_FAKE = "fake"


@contextmanager
def groups_faked(place: Place) -> Iterator[None]:
    """Make every process group a fake one; on leaving, there is none."""
    backends = Backends()
    around: dict[tuple[Any, str], Make] = {
        **CollectiveResults(backends).patches(),
        **object_patches(),
        (c10d, "init_process_group"): partial(_init_process_group, place, backends),
        GROUP_MAKER: partial(_group_maker, backends),
        (c10d, "get_backend"): partial(_get_backend, backends),
        HOOK_CHECK: checking_hook,
        (c10d, "barrier"): _barrier,
        (c10d, "monitored_barrier"): _answering(None),
        SHAPE_VERIFIER: verifying,
        (ddp.DistributedDataParallel, "__init__"): replicating,
        (ddp.DistributedDataParallel, "register_comm_hook"): noting_hook,
        (ddp.DistributedDataParallel, "_register_builtin_comm_hook"): noting_hook,
    }
    if hasattr(*DEFAULT_TIMEOUT):
        around[DEFAULT_TIMEOUT] = _default_timeout
    if hasattr(c10d, "split_group"):
        around[c10d, "split_group"] = _split_group
    if SHARDED_PARAMETER is not None:
        around[SHARDED_PARAMETER, RESET_SHARD] = _reset_shard
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


def _init_process_group(place: Place, backends: Backends, original: Any) -> Any:
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
        backends.default = asked.get("backend")
        return original(backend=_FAKE, store=FakeStore(), rank=place.rank, world_size=place.world)

    return init


def _group_maker(backends: Backends, original: Any) -> Any:
    parameters = signature(original)

    @wraps(original)
    def make(*args: Any, **kwargs: Any) -> Any:
        bound = parameters.bind(*args, **kwargs)
        asked = str(bound.arguments["backend"])
        if asked not in {_FAKE, "undefined"}:
            backends.note(str(bound.arguments["group_name"]), asked)
        bound.arguments.update(backend=dist.Backend(_FAKE), backend_options=None)
        bound.arguments.pop("device_id", None)
        return original(*bound.args, **bound.kwargs)

    return make


def _get_backend(backends: Backends, original: Any) -> Any:
    """Say what the program asked for: some of PyTorch's functions run other collectives for gloo than for NCCL."""

    @wraps(original)
    def get_backend(group: Any = None) -> Any:
        original(group)  # which refuses a group that is not there
        return dist.Backend(str(backends.asked(group) or dist.Backend.UNDEFINED))

    return get_backend


def _default_timeout(original: Any) -> Any:
    """Wait as for a backend that every build has: the one that is named need not be in this one."""
    return wraps(original)(lambda _backend: original(dist.Backend(_FAKE)))


def _barrier(original: Any) -> Any:
    def barrier(group: Any = None, async_op: bool = False, device_ids: object = None) -> Any:  # noqa: ARG001, FBT001, FBT002
        return original(group, async_op)

    return barrier


def _split_group(_original: Any) -> Any:
    """Make this rank's part of a group; PyTorch asks for a device, and for NCCL."""

    def split(parent_pg: Any = None, split_ranks: Any = None, *_args: Any, **kwargs: Any) -> Any:
        members = dist.get_process_group_ranks(parent_pg)
        for part in split_ranks or ():
            ranks = sorted(members[rank] for rank in part)
            if dist.get_rank() in ranks:
                return dist.new_group(ranks, group_desc=kwargs.get("group_desc"))
        return None

    return split


def _reset_shard(original: Any) -> Any:
    """Leave a shard that is padded already, which PyTorch knows by the address of its memory."""
    if "same_local_tensor" not in original.__code__.co_varnames:
        return original

    @wraps(original)
    def reset(parameter: Any) -> None:
        if not keep_shard(parameter):
            original(parameter)

    return reset


def _without_modes(original: Any) -> Any:
    """Learn the shape of a result on fake tensors of its own, unseen: nothing of that size runs on this rank."""

    @wraps(original)
    def propagate(*args: Any, **kwargs: Any) -> Any:
        with disabled_modes():
            return original(*args, **kwargs)

    return propagate
