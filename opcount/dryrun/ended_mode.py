"""Class of a dry run's mode when the run is over: what the program keeps of its tensors computes nothing."""

from __future__ import annotations

from typing import Any

from opcount._torch.fake import FakeTensor
from opcount.dryrun.fake_mode import DryMode
from opcount.dryrun.numbers import SCALAR
from opcount.dryrun.operators import Kind, facts_of
from opcount.dryrun.tensors import DryTensor
from opcount.interceptor.calls import tensors


class EndedMode(DryMode):
    """Fake tensor mode that refuses operators, other than views and questions about shapes.

    The mode of a dry run changes its class, so that a run under way need not ask whether it is over.

    Attributes:
        refusals: Makes the error.
        value_of: Returns the value of a tensor that the program made of numbers.
    """

    refusals: Any
    value_of: Any

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is SCALAR:
            return self.value_of(args[0], "item").item()
        facts = facts_of(func)
        if facts.kind is not Kind.VIEW and (facts.kind is not Kind.FRESH or facts.tensors):
            raise self.refusals.refuse(func)
        out = super().__torch_dispatch__(func, types, args, kwargs or {})
        for view in tensors((out,)):
            if type(view) is FakeTensor:
                view.__class__ = DryTensor
                vars(view)["known"] = getattr(args[0], "known", False)
        return out
