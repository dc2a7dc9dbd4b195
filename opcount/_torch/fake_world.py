"""Private names by which one process is one rank of a world that is not there; importing it takes a second."""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opcount._torch.lookup import find, needed

with needed():
    import torch
    import torch.distributed.tensor
    from torch.distributed import distributed_c10d as c10d
    from torch.nn.parallel import distributed as ddp
    from torch.testing._internal.distributed.fake_pg import FakeStore as FakeStore  # noqa: PLC0414

if TYPE_CHECKING:
    from collections.abc import Iterator

with suppress(ImportError):  # before 2.2
    import torch.distributed.device_mesh

device_mesh: Any = find("distributed.device_mesh")
"""The module that makes meshes; None in 2.1."""

GROUP_MAKER = (c10d, "_new_process_group_helper")
"""The function that makes every process group."""

DEFAULT_TIMEOUT = (c10d, "_get_default_timeout")
"""The function that says how long a backend waits, and warns of NCCL in a build without it."""

HOOK_CHECK = (ddp.DistributedDataParallel, "_check_comm_hook")
"""The method that refuses a hook which needs NCCL in a build without it."""

SHAPE_VERIFIER = (ddp, "_verify_param_shape_across_processes")
"""The function by which DDP compares the shapes of parameters with those of other ranks."""

SHARDING: Any = find("distributed.tensor._sharding_prop.ShardingPropagator")
RESULT_SHAPES = "_propagate_tensor_meta_non_cached"
"""Its method that runs an operator on fake tensors of the whole size; since 2.5."""

_work_of: Any = find("_C._distributed_c10d._create_work_from_future")


def finished(results: list[Any]) -> Any:
    """Return the work of a collective that has ended."""
    future: Any = torch.futures.Future()
    future.set_result(results)
    return _work_of(future)


def checkpoints() -> Iterator[tuple[Any, str]]:
    """Yield the functions that store what all ranks have, or read it, by module and name; some versions lack some."""
    import torch.distributed.checkpoint  # noqa: PLC0415  (which programs need not have)

    saving, reading = ("save", "async_save", "save_state_dict"), ("load", "load_state_dict")
    for module, names in (("saver", saving), ("loader", reading)):
        owner = sys.modules[f"torch.distributed.checkpoint.state_dict_{module}"]
        yield from ((owner, name) for name in names if hasattr(owner, name))


def is_placeholder(work: object) -> bool:
    """Return whether a work stands for one that other collectives are put together with, and must not be asked."""
    kind = getattr(c10d, "_IllegalWork", None)
    return kind is not None and type(work) is kind


def register_ranks(group: Any, like: Any) -> None:
    """Let PyTorch know the ranks of a group that was made by hand."""
    known = c10d._world.pg_group_ranks
    known[group] = known[like]


SHARDED_PARAMETER: Any = find("distributed.fsdp._fully_shard._fsdp_param.FSDPParam")
RESET_SHARD = "reset_sharded_param"
"""Its method that pads the part of this rank once more, unless by address it is the memory that it had."""


def keep_shard(parameter: Any) -> bool:
    """Note that the part of this rank is complete, and return True, if it has the memory that it had."""
    held, owner = getattr(parameter, "_sharded_param_data", None), parameter._module_info
    new = getattr(owner.module, owner.param_name)
    if held is None or not held.numel() or new is not parameter.sharded_param or new._local_tensor.is_meta:
        return False
    if held.untyped_storage()._cdata != new._local_tensor.untyped_storage()._cdata:
        return False
    parameter._sharding_spec = new._spec
    return True


def reduced_by(module: Any) -> tuple[list[Any], list[bool]]:
    """Return the parameters whose gradients a DDP module reduces, and of which gradients are expected to be sparse."""
    found: tuple[list[Any], list[bool]] = module._build_params_for_reducer()
    return found


def build_reducer(module: Any) -> None:
    """Make the reducer of a DDP module again, by its own method."""
    parameters, sparse = reduced_by(module)
    names = module._build_debug_param_to_name_mapping(parameters)
    module._ddp_init_helper(parameters, sparse, names, module.static_graph)


def remove_hooks(reducer: Any) -> None:
    """Have a reducer of DDP reduce no gradients any more."""
    reducer._remove_autograd_hooks()


_assign_buckets: Any = find("distributed._compute_bucket_assignment_by_size")
_ASSIGNMENT = "_compute_bucket_assignment_by_size"


def buckets_assigned(
    module: Any, parameters: list[Any], sparse: list[bool], order: list[int]
) -> tuple[list[list[int]], list[int]]:
    """Return the parameters of each bucket that a DDP module reduces at once, and the largest sizes of the buckets.

    Args:
        module: Wraps the model.
        parameters: In the order in which their gradients came.
        sparse: Whether the gradient of each parameter of the module is expected to be sparse.
        order: The places of these parameters in the module.
    """
    config: Any = getattr(module, "_bucket_config", None)  # since 2.11
    cap = module.bucket_bytes_cap
    limits = list(getattr(config, "per_bucket_bytes_caps", None) or ())
    if not limits:
        first = getattr(config, "first_bucket_bytes_cap", None)
        if first is None:
            first = find("distributed._DEFAULT_FIRST_BUCKET_BYTES") if module.bucket_bytes_cap_default else cap
        limits = [first, cap]
    found: tuple[list[list[int]], list[int]] = _assign_buckets(parameters, limits, sparse, order)
    return found


@contextmanager
def buckets_given(buckets: list[list[int]], limits: list[int]) -> Iterator[None]:
    """Have DDP make these buckets in the block."""
    module: Any = torch.distributed
    before = getattr(module, _ASSIGNMENT)
    answer = buckets[::-1], limits[::-1]  # which DDP reverses
    setattr(module, _ASSIGNMENT, lambda *_args, **_kwargs: answer)
    try:
        yield
    finally:
        setattr(module, _ASSIGNMENT, before)


_CACHES = (
    "distributed.tensor.DTensor._op_dispatcher.sharding_propagator.propagate_op_sharding.cache.cache_clear",
    "distributed.tensor._redistribute._gen_transform_infos.cache_clear",
    "_C._clear_DTensor_sharding_propagator_cache",  # since 2.10
)


def forget_meshes() -> None:
    """Empty what DTensor remembers of meshes: an equal mesh of other groups would be answered with the old ones."""
    for name in _CACHES:
        clear = find(name)
        if clear is not None:
            clear()


_RANDOM: Any = find("distributed.tensor._random")


def random_state() -> Any:
    """Return what keeps random numbers of sharded tensors the same on all ranks."""
    return getattr(_RANDOM, "_rng_tracker", None)


def set_random_state(tracker: Any) -> None:
    """Put back what `random_state` has returned."""
    if _RANDOM is not None:
        _RANDOM._rng_tracker = tracker


SEND_SHAPES, RECEIVE_SHAPES = "_send_meta", "_recv_meta"
"""Methods by which pipeline stages tell each other shapes; since 2.13."""
VOTE = "_warmup_backward_result"
"""The method by which stages learn whether all know their shapes; from 2.15 on the schedule reduces that."""
RELEASABLE = "_output_slot_is_releasable"
"""The method that says of an output whether its stage keeps it only until it is sent; since 2.15."""


def pipeline_stage_methods() -> dict[str, tuple[Any, str]]:
    """Return where the methods above are, by their names: none where stages receive no shapes by themselves."""
    try:
        import torch.distributed.pipelining  # noqa: PLC0415
    except ModuleNotFoundError:  # before 2.4
        return {}
    kind: Any = sys.modules["torch.distributed.pipelining.stage"].PipelineStage
    if not hasattr(kind, SEND_SHAPES):
        return {}
    owners = ((next((owner for owner in kind.__mro__ if name in vars(owner)), None), name) for name in _METHODS)
    return {name: (owner, name) for owner, name in owners if owner is not None}


_METHODS = VOTE, SEND_SHAPES, RECEIVE_SHAPES, RELEASABLE


def knows_shapes(stage: Any) -> bool:
    """Return whether a pipeline stage was told all its shapes."""
    mode = sys.modules["torch.distributed.pipelining.stage"].InferenceMode
    return not mode.needs_dynamic(stage._user_meta, stage.has_backward)


def shapes_of_gradients(stage: Any) -> Any:
    """Return what the next stage tells of the gradients of a stage's outputs: they have the outputs' shapes."""
    message = sys.modules["torch.distributed.pipelining.stage"]._StageBackwardMeta
    outputs = stage._stage_meta.outputs
    return message(tuple(replace(each, requires_grad=False) if each.requires_grad else None for each in outputs))
