"""Preservation of a model's state during a run: buffers, train or eval mode, random number generators."""

from __future__ import annotations

import random
import sys
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from opcount._torch.modules import buffers_of, transient_buffers_of
from opcount._torch.tensors import sparse_indices, sparse_values
from opcount.structure import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

_ABSENT = object()
"""Sentinel: the module has no mode (a frozen script)."""

_BY_ROW = {torch.sparse_csr, torch.sparse_bsr}
_BY_COLUMN = {torch.sparse_csc, torch.sparse_bsc}


@contextmanager
def preserved(model: nn.Module, *tensors: object) -> Iterator[None]:
    """Undo, on leaving, what a forward of the model changes; also after an exception.

    Buffers get back their contents and their identity, those that were made inside are removed; the random number
    generators of Python, NumPy, the CPU and the devices of the model and ``tensors`` their states; modules their mode.
    """
    modules = [_ModuleState(module) for _, module in walk(model)]
    with ExitStack() as undo:  # each is put back, whatever happens to the others
        for module in modules:
            undo.callback(module.restore)
        undo.enter_context(preserved_random_state(model, *tensors))
        yield


@contextmanager
def preserved_random_state(model: nn.Module, *tensors: object) -> Iterator[None]:
    """Put back, on leaving, the states of the generators that a model on these devices may draw from."""
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_before = numpy.random.get_state() if numpy is not None else None
    try:
        with torch.random.fork_rng(_cuda_devices(model, tensors)):
            yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(numpy_before)


class _ModuleState:
    """Buffers and mode of one module, its children left out."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._training = getattr(module, "training", _ABSENT)
        self._buffers = dict(nn.Module.named_buffers(module, recurse=False, remove_duplicate=False))
        self._contents = {name: _copy(buffer) for name, buffer in self._buffers.items()}
        self._tables = [(table, table.copy()) for table in _tables(module)]

    def restore(self) -> None:
        """Restore the module; unchanged buffers are not written to."""
        if self._training is not getattr(self._module, "training", _ABSENT):
            self._module.training = self._training  # type: ignore[assignment]
        for table, before in self._tables:
            if table != before if isinstance(table, set) else not _same_entries(table, before):
                table.clear()
                table.update(before)
        for name, content in self._contents.items():
            _write_back(self._buffers[name], content)


def _tables(module: nn.Module) -> list[Any]:
    """Return where a module keeps its buffers, and which of them ``state_dict`` leaves out; a script shows neither."""
    if isinstance(module, torch.jit.ScriptModule):
        return []
    return [buffers_of(module), transient_buffers_of(module)]


def _same_entries(table: dict[str, Any], before: dict[str, Any]) -> bool:
    return list(table) == list(before) and all(table[name] is before[name] for name in before)


def _copy(buffer: torch.Tensor) -> torch.Tensor | None:
    """Return the buffer's contents; None for one that a lazy module has not made yet, or that has none."""
    if buffer.is_meta or is_lazy(buffer):
        return None
    return buffer.detach().clone()


def _write_back(buffer: torch.Tensor, content: torch.Tensor | None) -> None:
    """Write only what changed: writing the same into a buffer would break an earlier graph that saved it."""
    if content is None or _same(buffer, content):
        return
    with torch.inference_mode(buffer.is_inference()), torch.no_grad():
        if not buffer.is_nested and (buffer.shape != content.shape or buffer.dtype != content.dtype):
            buffer.set_(content)  # type: ignore[call-overload]
        else:
            buffer.copy_(content)


def _same(buffer: torch.Tensor, content: torch.Tensor) -> bool:
    if buffer.layout != content.layout or buffer.dtype != content.dtype:
        return False
    if buffer.layout == torch.strided and not buffer.is_nested:
        return buffer.shape == content.shape and torch.equal(buffer, content)
    parts, before = _parts(buffer.detach()), _parts(content)
    return len(parts) == len(before) and all(map(_same, parts, before))


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the strided tensors that hold a tensor of another layout."""
    if tensor.layout == torch.sparse_coo:
        return [sparse_indices(tensor), sparse_values(tensor)]
    if tensor.layout in _BY_ROW:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in _BY_COLUMN:
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor.to_dense()] if tensor.is_mkldnn else list(tensor.unbind())


def _cuda_devices(model: nn.Module, tensors: tuple[object, ...]) -> list[int]:
    found = chain(model.parameters(), model.buffers(), (t for t in tensors if isinstance(t, torch.Tensor)))
    devices = {tensor.device for tensor in found}
    return sorted({device.index or 0 for device in devices if device.type == "cuda"})
