"""One operator that does the work of several steps, of several modules."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from opcount.scope import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch import Tensor

    from opcount.scope import Frame

Recorded = list[tuple[str, dict[Any, Row]]]
"""Rows by ``(plan, phase, dtype)``, for each submodule by its name; ``""`` for the module itself."""


class StepRecorder(Protocol):
    """Makes the meta tensors that steps are computed on, and knows which submodule runs them."""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run what a submodule computes, and charge the submodule, by its class's formula if there is one."""

    def like(self, tensor: Tensor | None) -> Any:
        """Return a meta tensor of a tensor's shape and strides; None for none."""

    def empty(self, shape: Sequence[int] | None, dtype: torch.dtype) -> Any:
        """Return a meta tensor; None for no shape."""


class Autocast(NamedTuple):
    """Effect of autocast on the operands of products.

    Attributes:
        dtype: They get.
        gradients: Whether weights that need gradients still do, by which PyTorch chooses the product.
    """

    dtype: torch.dtype
    gradients: bool


class OperatorSteps(NamedTuple):
    """Steps that an operator stands for.

    Attributes:
        signature: Equal for calls that are charged the same.
        device: Of its tensors.
        run: Computes it step by step, on meta tensors that a `StepRecorder` makes.
        called: Classes of the submodules that would have been called, by name; none: all is the running module's.
        moved: What ``aten.add`` has returned right before, if a step returns the same.
        autocast: What autocast makes of the operands of its products.
    """

    signature: object
    device: str
    run: Callable[[Any], object]
    called: Mapping[str, type] = MappingProxyType({})
    moved: Tensor | None = None
    autocast: Autocast | None = None

    def charge(self, recorded: Recorded, frame: Frame, phase: str) -> None:
        """Add what was recorded of the steps to the frame of the running module and to its submodules'."""
        if self.moved is not None:
            take_back("aten.add.Tensor", self.moved, frame, phase)
        for name, rows in recorded:
            place = frame.submodule(name) if name and self.called else frame
            for (plan, _, dtype), row in rows.items():
                place.rows.setdefault((plan, phase, dtype), Row(row.shapes)).add(row)
        self.note_calls(frame)

    def note_calls(self, frame: Frame) -> None:
        """Count the calls of the submodules."""
        for name in self.called:
            frame.submodule(name).calls += 1


def take_back(operator: str, out: Tensor, frame: Frame, phase: str) -> None:
    """Uncharge one call of an elementwise operator."""
    for key, row in frame.rows.items():
        if key[0].operator == operator and key[1] == phase and row.arith >= out.numel():
            row.bytes_read -= row.bytes_read // row.calls
            row.bytes_written -= row.bytes_written // row.calls
            row.arith -= out.numel()
            row.calls -= 1
            if not row.calls:
                del frame.rows[key]
            return
