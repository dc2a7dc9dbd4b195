"""One process that is one rank of a world which is not there: nothing is computed, and nothing is sent."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import distributed as dist

from opcount._torch.distributed import ENDS_COLLECTIVES
from opcount.counter import OpCounter
from opcount.distributed.simulate_cuda import OneDevice, cuda_answered
from opcount.distributed.simulate_groups import groups_faked
from opcount.distributed.simulate_place import Place
from opcount.distributed.simulate_stages import SHAPES_FILE, forget_shapes, load_shapes
from opcount.errors import CounterStateError
from opcount.interceptor.stack import dry_runs
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from opcount.convention import Convention
    from opcount.devices import Device


@contextmanager
def simulate(  # noqa: PLR0913  (settings of a counter, and a place)
    model: nn.Module | None = None,
    *,
    world: int,
    rank: int = 0,
    ranks_per_node: int = 8,
    memory: bool = True,
    convention: str | Convention = "fvcore",
    strict: bool = False,
    device: Device | str | None = None,
) -> Iterator[OpCounter]:
    """Run a block as one rank of many, in a dry run, and count it.

    What the block does itself, ``init_process_group``, ``init_device_mesh``, ``fully_shard``, pipeline stages, runs on
    PyTorch's fake process group: each group has its size and its ranks, and no collective waits for another rank. What
    a rank would receive is not known, as no value is in a dry run. Where the block names CUDA or NCCL it gets fake
    tensors on the CPU and the fake group; tensors on the ``meta`` device need no memory. The environment tells rank and
    world as ``torchrun`` does. Everything is put back when the block ends.

    Args:
        model: See `OpCounter`.
        world: Number of ranks.
        rank: The rank to be, from 0.
        ranks_per_node: Devices of a node, for ``LOCAL_RANK`` and ``torch.cuda.device_count()``.
        memory: Track live bytes.
        convention: See `OpCounter`.
        strict: See `OpCounter`.
        device: The CUDA device of a rank, ``"H100-SXM5"``: live bytes are predicted for it; see `OpCounter`.

    Yields:
        The counter.

    Raises:
        InputError: There is no such rank.
        CounterStateError: There is a process group, or a dry run, already; or PyTorch is older than 2.3.
        DryRunError: The block needs a value, or what another rank sends.
    """
    place = Place(world, rank, ranks_per_node)
    if not ENDS_COLLECTIVES:
        raise CounterStateError(
            "simulate: expected PyTorch 2.3 or newer, got an older one, whose collectives need other ranks. Install a "
            "newer PyTorch."
        )
    if dist.is_initialized():
        raise CounterStateError(
            f"simulate: expected no process group, got one of {dist.get_world_size()} ranks. Call "
            f"torch.distributed.destroy_process_group() before the block; inside, the block makes its own."
        )
    if dry_runs():
        raise CounterStateError("simulate: expected to begin a dry run, got one that runs. Leave its block first.")
    counter = OpCounter(model, dry_run=True, memory=memory, convention=convention, strict=strict, device=device)
    with Undo() as undo:
        undo.enter(_environment(place))
        forget_shapes(place)
        if SHAPES_FILE in os.environ:
            load_shapes(Path(os.environ[SHAPES_FILE]))
        undo.enter(groups_faked(place))
        undo.enter(cuda_answered(place))
        with counter:
            dry_runs()[0].keep_meta()
            with OneDevice():
                yield counter


@contextmanager
def _environment(place: Place) -> Iterator[None]:
    """Set what ``torchrun`` sets, and put everything of the process back that a process group changes."""
    with Undo() as undo:
        names = place.variables()
        undo.add(partial(_put_back, {name: os.environ.get(name) for name in names}))
        undo.add(partial(setattr, sys, "excepthook", sys.excepthook))
        os.environ.update(names)
        yield


def _put_back(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
