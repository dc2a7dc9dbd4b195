"""Libraries that ask whether a tensor is fake: they would go another way than in a real run.

transformers, for one, looks at the values of a mask unless it is fake, to leave it out. A dry run has these values, or
refuses to tell them.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opcount._torch.fake import FakeTensor, subclasses
from opcount.dryrun.tensors import DryTensor
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class _Meta(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return cls.__subclasscheck__(type(instance), sys._getframe(1))

    def __subclasscheck__(cls, kind: type, asking: FrameType | None = None) -> bool:
        if not issubclass(kind, DryTensor):
            return issubclass(kind, FakeTensor)
        return str((asking or sys._getframe(1)).f_globals.get("__name__")).startswith("torch.")


class _OtherFakeTensor(metaclass=_Meta):
    """Stands as ``torch._subclasses.FakeTensor``, but for PyTorch's own code."""


_PATCHES = Patches({(subclasses, "FakeTensor"): _OtherFakeTensor})


@contextmanager
def unasked_whether_fake() -> Iterator[None]:
    """Let libraries take tensors of the dry run for real ones."""
    with Undo() as undo:
        _PATCHES.use(undo)
        yield
