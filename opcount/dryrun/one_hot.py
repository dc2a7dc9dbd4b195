"""``one_hot`` by scatter, as for real tensors: for fake ones PyTorch runs a comparison."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from opcount._torch.dispatch import NN_FUNCTIONS
from opcount._torch.stand_ins import check_classes
from opcount.dryrun.tensors import DryTensor
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_of_torch = functional.one_hot


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    kind = tensor.device.type
    if type(tensor) is not DryTensor or num_classes < 1 or kind not in {"cpu", "cuda"} or not tensor.numel():
        return _of_torch(tensor, num_classes)
    if kind == "cpu":
        check_classes(tensor)
    zeros = torch.zeros((*tensor.shape, num_classes), dtype=torch.int64, device=tensor.device)
    return zeros.scatter_(-1, tensor.unsqueeze(-1), 1)


_PATCHES = Patches({(functional, "one_hot"): _one_hot, (NN_FUNCTIONS, "one_hot"): _one_hot})


@contextmanager
def scattered_one_hot() -> Iterator[None]:
    """Monkeypatch ``torch.nn.functional.one_hot``."""
    with Undo() as undo:
        _PATCHES.use(undo)
        yield
