"""Let optimizers step inside a dry run, on the twins of their parameters, and restore their state."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from opcount.identity import identity
from opcount.scope.global_hooks import before_step, remove
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.optim import Optimizer

    from opcount.dryrun.snapshot import Snapshot
    from opcount.dryrun.twins import Twins


@contextmanager
def paired_optimizers(twins: Twins, snapshot: Snapshot, is_here: Callable[[], bool]) -> Iterator[None]:
    """Let optimizers step on the twins of parameters that have one, and restore groups and state on leaving.

    Args:
        twins: Twins of parameters.
        snapshot: Restores what it remembers.
        is_here: Returns whether this thread is in the dry run.
    """
    seen: dict[int, Optimizer] = {}

    def enter(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not is_here():
            return None
        if identity(optimizer) not in seen:
            seen[identity(optimizer)] = optimizer
            snapshot.note([optimizer, optimizer.state, [group["params"] for group in optimizer.param_groups]])
            _pair(optimizer, twins)
        return _pair_again(optimizer, twins, *args, **kwargs)

    with Undo() as undo:
        undo.add(partial(remove, enter))
        before_step(enter)
        yield


def _pair(optimizer: Optimizer, twins: Twins) -> None:
    """Replace parameters by their twins."""
    for group in optimizer.param_groups:
        for index, parameter in enumerate(group["params"]):
            twin = twins.in_place_of(parameter)
            if twin is not parameter:
                group["params"][index] = twin
                if parameter in optimizer.state:
                    optimizer.state[twin] = _on_twins(optimizer.state.pop(parameter), twins)


def _pair_again(
    optimizer: Optimizer, twins: Twins, /, first: object, closure: Any = None, *args: Any, **kwargs: Any
) -> Any:
    """Wrap a step's closure to pair parameters again after its forward, which may run modules not seen before."""
    if closure is None:
        return None

    def paired() -> Any:
        loss = closure()
        _pair(optimizer, twins)
        return loss

    return (first, paired, *args), kwargs


def _on_twins(state: dict[str, Any], twins: Twins) -> dict[str, Any]:
    return {name: twins.of(value) if isinstance(value, Tensor) else value for name, value in state.items()}
