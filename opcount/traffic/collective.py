"""Collectives of ``c10d``, whose schemas do not say what they write, and the copies from and to their buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount._torch.distributed import process_group as group_of
from opcount.registry import OperatorNames
from opcount.traffic.registry import traffic
from opcount.traffic.touched import touched_by

if TYPE_CHECKING:
    from torch import Tensor

c10d, fsdp = OperatorNames("c10d"), OperatorNames("fsdp")


@traffic(c10d.allreduce_, c10d.allreduce_coalesced_)
def all_reduce(tensors: list[Tensor]) -> tuple[int, int]:
    """The tensors are read and written."""
    size = touched_by(tensors)
    return size, size


@traffic(c10d.reduce_)
def reduce(tensors: list[Tensor], process_group: Any, root_rank: int) -> tuple[int, int]:
    """The tensors are read; the root writes them."""
    size = touched_by(tensors)
    return size, size if _is_root(process_group, root_rank) else 0


@traffic(c10d.broadcast_)
def broadcast(tensors: list[Tensor], process_group: Any, root_rank: int) -> tuple[int, int]:
    """The root reads the tensors, the others write them."""
    size = touched_by(tensors)
    return (size, 0) if _is_root(process_group, root_rank) else (0, size)


@traffic(c10d.allgather_, c10d.reduce_scatter_, c10d.alltoall_, c10d.gather_, c10d.scatter_)
def from_lists(output_tensors: Any, input_tensors: Any) -> tuple[int, int]:
    """The inputs are read, the outputs written; ranks that are no root have none of one side."""
    return touched_by(input_tensors), touched_by(output_tensors)


@traffic(c10d.allgather_coalesced_)
def from_list(output_lists: list[list[Tensor]], input_list: list[Tensor]) -> tuple[int, int]:
    """The inputs are read, the outputs written."""
    return touched_by(input_list), touched_by(output_lists)


@traffic(c10d._allgather_base_, c10d._reduce_scatter_base_)
def from_tensor(output_tensor: Tensor, input_tensor: Tensor) -> tuple[int, int]:
    """The input is read, the output written."""
    return touched_by((input_tensor,)), touched_by((output_tensor,))


@traffic(c10d.allgather_into_tensor_coalesced_, c10d.reduce_scatter_tensor_coalesced_)
def from_tensors(outputs: list[Tensor], inputs: list[Tensor]) -> tuple[int, int]:
    """The inputs are read, the outputs written."""
    return touched_by(inputs), touched_by(outputs)


@traffic(c10d.alltoall_base_)
def all_to_all(output: Tensor, input: Tensor) -> tuple[int, int]:
    """The input is read, the output written."""
    return touched_by((input,)), touched_by((output,))


@traffic(c10d.send)
def send(tensors: list[Tensor]) -> tuple[int, int]:
    """The tensors are read."""
    return touched_by(tensors), 0


@traffic(c10d.recv_, c10d.recv_any_source_)
def receive(tensors: list[Tensor]) -> tuple[int, int]:
    """The tensors are written."""
    return 0, touched_by(tensors)


@traffic(c10d.barrier, c10d.monitored_barrier_)
def barrier() -> tuple[int, int]:
    """Nothing that counts."""
    return 0, 0


@traffic(fsdp.all_gather_copy_in)
def copy_in(out: Any, all_gather_inputs: list[Tensor]) -> tuple[int, int]:
    """The shards are read, and written to this rank's part of the buffer."""
    return touched_by(all_gather_inputs), touched_by((out[0],))


def _is_root(process_group: Any, root_rank: int) -> bool:
    return bool(group_of(process_group).rank() == root_rank)
