"""Corrected shape functions, for operators whose kernels return something else.

PyTorch's own ones may refuse what the kernel accepts, accept what it refuses, return more tensors than it does, or
return other strides, on which it depends how a linear layer is computed.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import dispatch_disabled, state_before_modes
from opcount._torch.distributed import work_done
from opcount._torch.stand_ins import autocast_dtype, is_autocast_enabled
from opcount._torch.tensors import suggest_memory_format
from opcount.dryrun.cuda_recurrent import reserve_of
from opcount.dryrun.cuda_shapes import CORRECTED_ON_CUDA
from opcount.dryrun.dtypes import check_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_ALIGNMENT = 16
"""Alignment in bytes of the rows of a grouped product."""


def grouped_mm(
    a: Tensor,
    b: Tensor,
    offs: Tensor | None = None,
    _bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return an empty result, with a matrix for each group if both operands have as many dimensions."""
    size = [a.shape[-2], b.shape[-1]]
    groups = offs.shape[0] if offs is not None else a.shape[0]
    if a.dim() == b.dim():
        size = [groups, *size]
    dtype = out_dtype or a.dtype
    unit = _ALIGNMENT // dtype.itemsize
    row = -(-size[-1] // unit) * unit
    stride = [size[-2] * row, row, 1][-len(size) :]
    return torch.empty_strided(size, stride, dtype=dtype, device=a.device)


def norm(parameters: slice, func: Any, x: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """Return the shape function's result; on the CPU, statistics have the dtype of the parameters."""
    out, *rest = func(x, *args)
    found = next((parameter for parameter in args[parameters] if parameter is not None), x)
    if found.dtype != x.dtype and x.device.type == "cpu":
        rest = [torch.empty(t.shape, dtype=found.dtype, device=t.device) for t in rest]
    return out, *rest


def batch_norm(func: Any, x: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """Return the shape function's result in the kernel's memory format: contiguous or channels last."""
    out, *rest = norm(slice(4), func, x, *args)
    layout = suggest_memory_format(x)
    return torch.empty(out.shape, dtype=out.dtype, device=out.device, memory_format=layout), *rest


def view(func: Any, x: Tensor, size: list[int]) -> Tensor:
    """Return the shape function's result with the kernel's strides for dimensions of one element."""
    if any(type(n) is not int for n in (*x.shape, *x.stride(), *size)):
        return func(x, size)  # type: ignore[no-any-return]
    with dispatch_disabled():
        like = _without_memory(x).view(size)
    return torch.as_strided(x, like.shape, like.stride(), x.storage_offset())


def beside_a_number(func: Any, x: Any, number: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the shape function's result with the kernel's strides for dimensions of one element.

    Kernels take the number for a tensor of another shape, which keeps strides that operands of one shape would not.
    """
    out = func(x, number, *args, **kwargs)
    if not isinstance(x, torch.Tensor) or isinstance(number, torch.Tensor):
        return out
    if any(type(n) is not int for n in (*x.shape, *x.stride())):
        return out
    with dispatch_disabled():
        strides = torch.add(_without_memory(x), torch.empty((), device="meta")).stride()
    return out if strides == out.stride() else torch.empty_strided(x.shape, strides, dtype=out.dtype, device=out.device)


def _without_memory(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def where(func: Any, condition: Tensor, *args: Any) -> Tensor:
    """Return the shape function's result, also for a mask of bytes."""
    mask = torch.empty_like(condition, dtype=torch.bool) if condition.dtype is torch.uint8 else condition
    return func(mask, *args)  # type: ignore[no-any-return]


def recurrent_gradients(func: Any, *args: Any) -> tuple[Tensor, ...]:
    """Return the shape function's result with a gradient for each bias: given one twice, autograd copies it."""
    x, w_input, w_hidden, bias, _, *rest = func(*args)
    return x, w_input, w_hidden, bias, torch.empty_like(bias), *rest


def asked_for(func: Any, *args: Any) -> tuple[Tensor | None, ...]:
    """Return the gradients that the mask, the last argument, asks for."""
    return tuple(out if asked else None for out, asked in zip(func(*args), args[-1], strict=True))


def along(func: Any, x: Tensor, *args: Any, dim: int | None = None, **kwargs: Any) -> Any:
    """Return the shape function's result, after a check of ``dim``."""
    where = next((value for value in args if type(value) is int), -1) if dim is None else dim
    last = max(x.dim(), 1) - 1
    if not -last - 1 <= where <= last:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-last - 1}, {last}], but got {where})")
    return func(x, *args, **kwargs) if dim is None else func(x, *args, dim=dim, **kwargs)


def of_one_dtype(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the shape function's result, after a check that both operands have one dtype."""
    first, second = (value for value in args[-2:] if isinstance(value, torch.Tensor))
    if first.dtype != second.dtype:
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {first.dtype} != {second.dtype}")
    return func(*args, **kwargs)


def of_bags(func: Any, grad: Tensor, indices: Tensor, *args: Any) -> Tensor:
    """Return the shape function's result, or a sparse gradient that stores a row for each index."""
    rows, sparse, padding = args[4], args[7], args[9] if len(args) > 9 else -1
    if not sparse or padding >= 0:
        return func(grad, indices, *args)  # type: ignore[no-any-return]
    values = grad.new_empty(indices.numel(), grad.shape[-1])
    return torch.sparse_coo_tensor(indices.reshape(1, -1), values, (rows, grad.shape[-1]))


def recurrent(func: Any, x: Tensor, weights: list[Tensor], *args: Any) -> tuple[Tensor, ...]:
    """Return the shape function's result, and the memory of all weights that the kernel makes where it is not given."""
    *results, reserve, _ = func(x, weights, *args)
    memory = args[1]
    if args[-4]:  # in training
        reserve = reserve.new_empty(reserve_of(x, *args))
    return (*results, reserve, x.new_empty(sum(w.numel() for w in weights)) if memory is None else memory)


def recurrent_backward(_func: Any, x: Tensor, weights: list[Tensor], *args: Any) -> tuple[Any, ...]:
    """Return the gradients of input, states and weights that the mask, the last argument, asks for."""
    _stride, _buffer, h, c, *_, mask = args
    data = [
        None if each is None or not asked else torch.empty_like(each)
        for each, asked in zip((x, h, c), mask, strict=False)
    ]
    return (*data, [torch.empty_like(weight) for weight in weights] if mask[3] else [])


def copied(func: Any, x: Tensor, **options: Any) -> Any:
    """Return the shape function's result with the strides of the kernel, for which no memory format preserves them."""
    memory_format = options.pop("memory_format", None)
    return func(x, **options, memory_format=torch.preserve_format if memory_format is None else memory_format)


def in_the_dtype_of_autocast(func: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Return the shape function's result in the dtype in which autocast has the kernel compute the product it calls."""
    out: Tensor = func(*args, **kwargs)
    with state_before_modes():  # which do not see it
        casts = out.dtype is torch.float32 and is_autocast_enabled(out.device.type)
    return out.to(autocast_dtype(out.device.type)) if casts else out


def gathered_into(_func: Any, _shards: list[Tensor], out: Tensor, _sizes: list[int], numel: int, rank: int) -> Any:
    """Return the part of the memory for a gather that is this rank's, a view, and that memory itself."""
    return out.narrow(0, numel * rank, numel), out


def written_by_collective(_func: Any, target: Any, *_args: object) -> Any:
    """Return what a collective writes, and its work; 2.9 has no shape function for it, 2.12 has."""
    return target, work_done()


_CORRECTED: dict[str, Callable[..., Any]] = {
    "fsdp.all_gather_copy_in.default": gathered_into,
    "_c10d_functional.wait_tensor.default": lambda _func, tensor: tensor,
    **{
        f"c10d.{name}.default": lambda *_args: work_done()
        for name in (
            "allreduce_coalesced_",
            "allgather_coalesced_",
            "allgather_into_tensor_coalesced_",
            "reduce_scatter_tensor_coalesced_",
            "reduce_",
            "gather_",
            "alltoall_base_",
            "barrier",
            "send",
            "recv_",
            "recv_any_source_",
        )
    },
    **{
        f"c10d.{name}.default": written_by_collective
        for name in (
            "broadcast_",
            "allreduce_",
            "allgather_",
            "_allgather_base_",
            "reduce_scatter_",
            "_reduce_scatter_base_",
            "scatter_",
            "alltoall_",
        )
    },
    "c10d.monitored_barrier_.default": lambda *_args: None,
    "aten.rrelu_with_noise.default": lambda _func, x, *_args, **_kwargs: torch.empty_like(x),  # 2.1 forgets defaults
    "aten._to_copy.default": copied,
    "aten._sparse_addmm.default": in_the_dtype_of_autocast,
    "aten.mkldnn_rnn_layer_backward.default": recurrent_gradients,
    "aten.native_batch_norm.default": batch_norm,
    "aten.native_batch_norm_backward.default": asked_for,
    "aten.native_layer_norm.default": partial(norm, slice(1, 3)),
    "aten.native_group_norm.default": partial(norm, slice(2)),
    "aten._embedding_bag_backward.default": of_bags,
    "aten._cudnn_rnn.default": recurrent,
    "aten._cudnn_rnn_backward.default": recurrent_backward,
    "aten.view.default": view,
    **{f"aten.{name}.Tensor": beside_a_number for name in ("add", "sub", "mul", "div")},
    **{f"aten.{name}.Scalar": beside_a_number for name in ("rsub", "eq", "ne", "lt", "le", "gt", "ge")},
    "aten.where.self": where,
    "aten._softmax.default": along,
    "aten.sort.default": along,
    "aten.sort.stable": along,
    **{f"aten.{name}.default": of_one_dtype for name in ("mm", "bmm", "addmm", "baddbmm")},
}


@cache
def product_with_coo(func: Any, a: Tensor, b: Tensor) -> Tensor:
    """Return an empty result with the strides of the kernel, which multiplies the transposed matrices."""
    rows, columns = func(a, b).shape
    return torch.empty_strided((rows, columns), (1, rows), dtype=a.dtype, device=a.device)


def corrected(func: Any, originals: tuple[Any, ...], *, on_cuda: bool = False) -> Callable[..., Any]:
    """Return a shape function that agrees with the kernel: the operator itself for all but a few.

    Args:
        func: Operator.
        originals: Its arguments, before fake ones replaced sparse ones.
        on_cuda: Whether the kernel is that of CUDA, for tensors on the CPU.
    """
    if func is torch.ops.aten.mm.default and originals[1].layout is torch.sparse_coo:
        return partial(product_with_coo, func)
    if str(func) == "aten._grouped_mm.default":
        return grouped_mm
    correction, check = _CORRECTED.get(str(func)), check_of(func)
    if on_cuda:
        correction = CORRECTED_ON_CUDA.get(str(func), correction)
    shape = func if correction is None else partial(correction, func)
    return shape if check is None else partial(_checked, check, shape)


def _checked(check: Callable[[tuple[Any, ...]], None], shape: Any, *args: Any, **kwargs: Any) -> Any:
    check(args)
    return shape(*args, **kwargs)
