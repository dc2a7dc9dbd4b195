"""Make fake tensors without the checks of their constructor, in a tenth of its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.dispatch import dispatch_disabled
from opcount._torch.fake import FakeTensor, refuse_data_pointer, warn_of_data_pointer
from opcount._torch.tensors import is_zero_tensor, make_subclass
from opcount.dryrun.ended_mode import EndedMode
from opcount.dryrun.fake_mode import DryMode
from opcount.dryrun.tensors import DryTensor, DryZeros, stands_for_data
from opcount.identity import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


CPU = torch.device("cpu")
_META = torch.device("meta")

PLAIN = {Tensor, torch.nn.Parameter, getattr(torch.nn, "Buffer", Tensor)}


_REFUSE_DATA: Callable[[Tensor], object] = refuse_data_pointer
_WARN_OF_DATA: Callable[[Tensor], object] = warn_of_data_pointer
"""Make access to the tensor's data pointer warn or raise, as PyTorch is configured."""

_ATTRIBUTES: dict[torch.device, dict[str, Any]] = {}
"""Attributes of a new fake tensor by device, the same under every mode."""


class Fakes:
    """Factory for the fake tensors of one dry run.

    Args:
        kind: Class of the tensors.
    """

    def __init__(self, kind: type[FakeTensor] = DryTensor) -> None:
        self._kind = kind
        self.mode = DryMode(allow_non_fake_inputs=True)
        self._keeps_meta = False
        refused = not getattr(self.mode, "_allow_unsafe_data_ptr_access", True)
        self._guard_data = _REFUSE_DATA if refused else _WARN_OF_DATA
        self._states: dict[torch.device, dict[str, Any]] = {
            device: {**attributes, "fake_mode": self.mode} for device, attributes in _ATTRIBUTES.items()
        }

    def make(
        self,
        size: Sequence[int],
        stride: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
        offset: int = 0,
        storage: torch.UntypedStorage | None = None,
    ) -> Any:
        """Return a new fake tensor, a view of ``storage`` if that is given; call it with dispatch modes off."""
        elem = torch.empty_strided(size, stride, dtype=dtype, device=_META)
        if storage is not None:
            elem.set_(storage, offset, size, stride)
        state = self._states.get(device)
        if state is None:
            fake = self._kind(self.mode, elem, device)
            self._states[device] = dict(vars(fake))
            _ATTRIBUTES[device] = {**vars(fake), "fake_mode": None}
            return fake
        fake = make_subclass(self._kind, elem, require_grad=False, dispatch_device=True, device_for_backend_keys=device)
        fake.__dict__ = own = state.copy()
        if self._kind is DryTensor and not dtype.is_complex:
            own["made_as"] = identity(fake), (size, stride, dtype, device, offset)
        self._guard_data(fake)
        return fake

    def like(self, tensor: Tensor) -> Tensor:
        """Return a fake tensor for a real one; one on the meta device becomes one on the CPU."""
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.is_conj():
            odd: Tensor = self.dry(self.mode.from_tensor(tensor))
            return odd
        device = CPU if tensor.is_meta and not isinstance(tensor, FakeTensor) else tensor.device
        with dispatch_disabled():
            fake: Tensor = self.make(tensor.shape, tensor.stride(), tensor.dtype, device)
            fake.requires_grad = tensor.requires_grad  # a transform of torch.func refuses requires_grad_()
        if type(tensor) is not Tensor and isinstance(tensor, torch.nn.Parameter):
            vars(fake)["_is_param"] = True
        return fake

    def keep_meta(self) -> None:
        """Leave what the program makes on the meta device there, where it needs no memory, not on the CPU."""
        self._keeps_meta = True

    def place(self, device: torch.device) -> torch.device:
        """Return the device of a fake tensor that stands for one on a device."""
        return CPU if device.type == "meta" and not self._keeps_meta else device

    def adopt(self, fake: DryTensor) -> DryTensor:
        """Take a tensor of a dry run that is over for one of this."""
        if fake.fake_mode is not self.mode and isinstance(fake.fake_mode, EndedMode):
            fake.fake_mode, fake.known, fake.made_as = self.mode, False, None
        return fake

    def unobserved(self, value: Any) -> Any:
        """Convert results to dry tensors, and drop PyTorch's weak references to them, which keep modules from casts."""
        self.mode.fake_tensor_converter.meta_converter.tensor_memo.clear()
        return self.dry(value)

    def dry(self, value: Any) -> Any:
        """Convert the fake tensors of this mode among results to dry tensors."""
        if type(value) is FakeTensor:
            if value.fake_mode is self.mode:
                value.__class__ = DryZeros if is_zero_tensor(value) else DryTensor
                if type(value) is DryZeros:  # PyTorch's own cache does not tell them from others
                    self.mode.cache_enabled = False
        elif isinstance(value, (list, tuple)):
            for item in value:
                self.dry(item)
        return value


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is strided, holds real numbers and has a class of PyTorch."""
    if type(tensor) not in PLAIN and not isinstance(tensor, FakeTensor):
        return False
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        return False
    return tensor.dtype.is_floating_point or not (tensor.is_conj() or tensor.is_neg())


def can_be_faked(tensor: Tensor) -> bool:
    """Return whether a fake tensor can replace a real one in an operator."""
    if not stands_for_data(type(tensor)) or tensor.layout is not torch.strided or tensor.is_nested:
        return False
    return not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())


def is_odd(tensor: Tensor) -> bool:
    """Return whether a tensor is real and cannot be faked."""
    return type(tensor) is not DryTensor and not can_be_faked(tensor)


def is_sparse(tensor: Tensor) -> bool:
    """Return whether a tensor is real and not strided, other than for oneDNN."""
    return (
        type(tensor) is not DryTensor
        and tensor.layout is not torch.strided
        and stands_for_data(type(tensor))
        and not tensor.is_mkldnn
    )
