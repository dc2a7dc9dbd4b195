"""Pipeline stages in a simulated world, which tell each other the shapes of what they send."""

from __future__ import annotations

import pickle
from functools import wraps
from typing import TYPE_CHECKING, Any
from warnings import warn

import torch

from opcount._torch.dispatch import disabled_modes
from opcount._torch.fake_world import (
    RECEIVE_SHAPES,
    RELEASABLE,
    SEND_SHAPES,
    VOTE,
    knows_shapes,
    pipeline_stage_methods,
    shapes_of_gradients,
)
from opcount.dryrun.tensors import DryTensor
from opcount.errors import DryRunError
from opcount.interceptor.stack import unwatched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from opcount.distributed.simulate_place import Place

SHAPES_FILE = "OPCOUNT_STAGE_SHAPES"
"""Variable of the environment that names a file of shapes that other stages have sent."""

_SENT: dict[int, Any] = {}
"""Shapes that stages of earlier ranks of this process have sent, by the stage that receives them."""

_WORLD: list[int] = []
"""The number of ranks of the world that they are of."""


def stage_patches() -> Mapping[tuple[Any, str], Callable[[Any], Any]]:
    """Return the methods by which stages ask each other, and what stands in."""
    around = {VOTE: _vote, SEND_SHAPES: _send, RECEIVE_SHAPES: _receive, RELEASABLE: _releasable}
    return {at: around[name] for name, at in pipeline_stage_methods().items()}


def forget_shapes(place: Place) -> None:
    """Forget what was sent in another world: one begins with its rank 0."""
    if place.rank == 0 or [place.world] != _WORLD:
        _SENT.clear()
    _WORLD[:] = [place.world]


def save_shapes(file: Path) -> None:
    """Write the shapes that stages have sent in this process, for another one."""
    file.write_bytes(pickle.dumps(_SENT))


def load_shapes(file: Path) -> None:
    """Take what stages have sent in another process."""
    _SENT.update(pickle.loads(file.read_bytes()))  # noqa: S301  (written by `save_shapes`)


def _vote(original: Any) -> Any:
    """Take the other stages to know as much about their shapes as this one."""

    @wraps(original)
    def vote(stage: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(stage, *args, **kwargs)
        with unwatched(), torch.no_grad():
            return result.fill_(int(knows_shapes(stage)))

    return vote


def _send(_original: Any) -> Any:
    def send(stage: Any, shapes: Any, to: int) -> None:
        if to > stage.stage_index:
            _SENT[to] = shapes

    return send


def _receive(_original: Any) -> Any:
    """Return shapes that were sent to this stage, or to one before it; gradients have those of the outputs."""

    def receive(stage: Any, source: int) -> Any:
        own = stage.stage_index
        if source > own:
            return shapes_of_gradients(stage)
        like = max((known for known in _SENT if known <= own), default=None)
        if like is None:
            raise DryRunError(
                f"simulate: stage {own} waits for the shapes that stage {source} sends, and that is not there. "
                f"Simulate rank 0 before, in this process or by `opcount run --ranks representative`, or pass "
                f"input_args= and output_args= to PipelineStage, tensors that need gradients where those do."
            )
        if like != own:
            warn(f"simulate: stage {own} is taken to receive the shapes that stage {like} receives", stacklevel=2)
        return _SENT[like]

    return receive


def _releasable(original: Any) -> Any:
    """Take a dry tensor to be the plain one that it stands for: a stage releases no output of another class."""

    @wraps(original)
    def releasable(stage: Any, output: Any) -> Any:
        if type(output) is not DryTensor:
            return original(stage, output)
        with disabled_modes():
            return original(stage, torch.empty(0))

    return releasable
