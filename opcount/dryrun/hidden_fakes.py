"""Hide from libraries that the tensors of a dry run are fake: some take another path for fake tensors.

transformers, for example, drops a mask that hides nothing, and does not look at the values of a fake one. A dry run
knows these values, or refuses the question.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from opcount._torch.fake import FOREACH_CHECKS, FakeTensor, subclasses
from opcount.dryrun.tensors import DryTensor
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType


class _Meta(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return cls.__subclasscheck__(type(instance), sys._getframe(1))

    def __subclasscheck__(cls, kind: type, asking: FrameType | None = None) -> bool:
        if not issubclass(kind, DryTensor):
            return issubclass(kind, FakeTensor)
        return str((asking or sys._getframe(1)).f_globals.get("__name__")).startswith("torch.")


class _OtherFakeTensor(metaclass=_Meta):
    """Replacement for ``torch._subclasses.FakeTensor``; only PyTorch's own code finds that dry tensors are fake."""


def _supports_many(check: Callable[..., bool], tensors: Sequence[Any], device: Any) -> bool:
    return check([None if isinstance(tensor, DryTensor) else tensor for tensor in tensors], device)


_PATCHES = Patches(
    {
        (subclasses, "FakeTensor"): _OtherFakeTensor,
        **{at: partial(_supports_many, check) for at, check in FOREACH_CHECKS.items()},
    }
)


@contextmanager
def fakes_hidden() -> Iterator[None]:
    """Answer libraries' ``isinstance(tensor, FakeTensor)`` with False."""
    with Undo() as undo:
        _PATCHES.use(undo)
        yield
