"""Private names by which one process is one rank of a world that is not there; importing it takes a second."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from opcount._torch.lookup import find, needed

with needed():
    import torch
    import torch.distributed.tensor
    from torch.distributed import distributed_c10d as c10d
    from torch.nn.parallel import distributed as ddp
    from torch.testing._internal.distributed.fake_pg import FakeStore as FakeStore  # noqa: PLC0414

GROUP_MAKER = (c10d, "_new_process_group_helper")
"""The function that makes every process group."""

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


_assign_buckets: Any = find("distributed._compute_bucket_assignment_by_size")


def buckets_of(parameters: list[Any], size: int) -> list[list[int]]:
    """Return the parameters of each bucket that DDP reduces at once."""
    first = getattr(torch.distributed, "_DEFAULT_FIRST_BUCKET_BYTES", size)
    found: list[list[int]] = _assign_buckets(parameters, [first, size])[0]
    return found


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


VOTE, SEND_SHAPES, RECEIVE_SHAPES = "_warmup_backward_result", "_send_meta", "_recv_meta"
"""Methods by which pipeline stages tell each other whether all know their shapes, and shapes; since 2.13."""


def pipeline_stage() -> Any:
    """Return the class of pipeline stages, or None where it receives no shapes by itself."""
    import torch.distributed.pipelining  # noqa: PLC0415  (older versions lack it)

    stage = sys.modules["torch.distributed.pipelining.stage"]
    kind: Any = stage.PipelineStage
    return kind if hasattr(kind, VOTE) else None


def knows_shapes(stage: Any) -> bool:
    """Return whether a pipeline stage was told all its shapes."""
    mode = sys.modules["torch.distributed.pipelining.stage"].InferenceMode
    return not mode.needs_dynamic(stage._user_meta, stage.has_backward)


def shapes_of_gradients(stage: Any) -> Any:
    """Return what the next stage tells of the gradients of a stage's outputs: they have the outputs' shapes."""
    message = sys.modules["torch.distributed.pipelining.stage"]._StageBackwardMeta
    outputs = stage._stage_meta.outputs
    return message(tuple(replace(each, requires_grad=False) if each.requires_grad else None for each in outputs))
