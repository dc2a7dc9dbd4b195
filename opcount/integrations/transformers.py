"""A callback for the ``Trainer`` of transformers that logs MFU, HFU, FLOP/s and tokens/s."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainerCallback

from opcount.integrations.loop_meter import LoopMeter

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.devices import Device


class MeterCallback(TrainerCallback):
    """Meters training, and logs by ``Trainer.log`` whenever the trainer logs the loss.

    A step is what the optimizer takes together: with gradient accumulation, several batches. An evaluation between
    steps is no part of them. Tokens per second are logged where the arguments say ``include_num_input_tokens_seen``.
    Metrics are of all ranks.

    Args:
        device: Its peaks: a `Device`, or the name of one; None: the CUDA device that the model is on.
        every: The number of steps of which one is counted.
        causal: ``"full"`` or ``"half"``; see `opcount.Meter`.
        prefix: Stands before the name of each metric.

    Example:
        ``Trainer(model, args, train_dataset=data, callbacks=[MeterCallback(device="H100-SXM5")])``
    """

    def __init__(
        self, *, device: Device | str | None = None, every: int = 100, causal: str = "full", prefix: str = "meter_"
    ) -> None:
        self._loop = LoopMeter(device, every, causal, prefix)
        self._trainer: Any = None
        self._before: Any = None
        self._seen = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin."""
        del args, control
        self._end()
        self._loop.begin(kwargs["model"])
        self._seen = state.num_input_tokens_seen
        self._trainer = _calling_trainer()
        if self._trainer is not None:
            self._before = vars(self._trainer).get("training_step")
            self._trainer.training_step = _Guarded(self._trainer.training_step, self._end)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin a step."""
        del args, state, control, kwargs
        self._loop.enter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End a step, and log if the trainer is about to."""
        del kwargs
        if args.include_num_input_tokens_seen not in {False, "no"}:
            self._loop.add_tokens((state.num_input_tokens_seen - self._seen) / args.world_size)  # it is of all ranks
            self._seen = state.num_input_tokens_seen
        self._loop.leave()
        if control.should_log and self._trainer is not None:
            metrics = self._loop.metrics()
            if metrics:
                self._trainer.log(metrics)
                control.should_log = True  # to log resets it, and the loss comes after this event

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave out a step that no optimizer has taken."""
        del args, state, control, kwargs
        self._end()

    def _end(self) -> None:
        """Leave no step open, and leave the trainer as it was."""
        self._loop.drop()
        trainer, self._trainer = self._trainer, None
        if trainer is not None:
            vars(trainer).pop("training_step", None)
            if self._before is not None:
                trainer.training_step = self._before


class _Guarded:
    """A trainer's ``training_step``; no event tells of an exception in it."""

    def __init__(self, run: Any, end: Callable[[], None]) -> None:
        self._run = run
        self._end = end

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._run(*args, **kwargs)
        except BaseException:
            self._end()
            raise


def _calling_trainer() -> Any:
    """Return the trainer whose event this is: it tells callbacks all but itself, and it alone can log."""
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, Trainer):
            return owner
        frame = frame.f_back
    return None
