"""Compiled kernels that fill memory which their caller has made.

mmcv hands the output of a deformable convolution to its kernels, which want the addresses of tensors; fake tensors have
none. The cost of these kernels depends on shapes alone, so a dry run leaves the memory as it is, with nothing known of
its values. A kernel whose cost depends on values, as that of RoI alignment does, is refused.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any

from opcount.dryrun.tensors import DryTensor
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from torch import Tensor

    Forget = Callable[[Tensor], None]

_EXTENSION = "mmcv._ext"
_FILLED = {
    "deform_conv_forward": (3,),
    "deform_conv_backward_input": (3, 4),
    "deform_conv_backward_parameters": (3,),
    "modulated_deform_conv_forward": (6,),
    "modulated_deform_conv_backward": (7, 8, 9, 10, 11),
}
"""Kernels by name, and the places of the arguments that they fill."""

_OFFSETS = {"deform_conv_forward": 2, "modulated_deform_conv_forward": 4}
"""Place of the offsets, which a kernel refuses if they are not one for each place of the output."""

_FORGETTING: list[Forget] = []
"""Functions of the dry runs under way, by which they forget the values of tensors."""


def _sized(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs a kernel unless its arguments are fake, and would suit it."""

    @wraps(kernel)
    def run(*args: Any, **kwargs: Any) -> Any:
        filled = [args[place] for place in _FILLED[name] if place < len(args)]
        suits = len(filled) == len(_FILLED[name]) and all(isinstance(each, DryTensor) for each in filled)
        if not suits or (name in _OFFSETS and args[_OFFSETS[name]].shape[2:] != filled[0].shape[2:]):
            return kernel(*args, **kwargs)
        for forget in _FORGETTING:
            for each in filled:
                forget(each)
        return None

    return run


@cache
def _patches(extension: ModuleType) -> Patches:
    here = [name for name in _FILLED if name in vars(extension)]
    return Patches({(extension, name): _sized(name, vars(extension)[name]) for name in here})


@contextmanager
def kernels_by_size(forget: Forget) -> Iterator[None]:
    """Monkeypatch the kernels, where they are loaded.

    Args:
        forget: Forgets the value of a tensor.
    """
    extension = sys.modules.get(_EXTENSION)
    with Undo() as undo:
        if extension is not None:
            undo.add(partial(_stop, forget))
            _FORGETTING.append(forget)
            _patches(extension).use(undo)
        yield


def _stop(forget: Forget) -> None:
    if forget in _FORGETTING:
        _FORGETTING.remove(forget)
