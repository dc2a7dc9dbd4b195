"""Counting without computing: fake tensors take the place of weights, inputs and results.

A dry run costs what PyTorch's fake tensors cost, except that a call whose shapes were seen before is answered
from memory. It needs no memory for weights, so that a model of any size can be counted.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from opcount.dryrun.fakes import Fakes
from opcount.dryrun.memo import Memo
from opcount.dryrun.optimizers import paired_optimizers
from opcount.dryrun.quiet import errors_raised_only
from opcount.dryrun.skeleton import skeleton
from opcount.dryrun.twins import Twins
from opcount.interceptor import attention_in_the_open

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

__all__ = ["Memo", "dry_run", "skeleton"]


@contextmanager
def dry_run(model: nn.Module | None = None, where: Callable[[], str] = str) -> Iterator[Memo]:
    """Compute nothing inside the block: every operator answers with shapes alone.

    The model's parameters and buffers are replaced by fake ones and are themselves again afterwards, untouched;
    so are its gradients, and the state of optimizers that step inside. Tensors that the block returns are fake:
    they have shapes and no values.

    Args:
        model: Whose parameters are replaced; tensors on the ``meta`` device count as being on the CPU.
        where: Tells the path of the running module, for errors.

    Yields:
        What answers the operators; it knows whether one was refused.

    Raises:
        DryRunError: An operator needs the values of its inputs, such as ``x.item()`` or ``x.nonzero()``.
    """
    fakes = Fakes()
    with ExitStack() as restore:
        twins = Twins(fakes)
        if model is not None:
            restore.enter_context(twins.replacing(model))
        restore.enter_context(paired_optimizers(twins))
        restore.enter_context(fakes.mode)
        memo = Memo(fakes, twins, where)
        restore.enter_context(memo)
        restore.enter_context(attention_in_the_open())
        restore.enter_context(errors_raised_only())
        yield memo
