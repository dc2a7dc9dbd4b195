"""A callback for Lightning's ``Trainer`` that logs MFU, HFU, FLOP/s and tokens/s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from opcount.integrations.loop_meter import LoopMeter

try:
    from lightning.pytorch import Callback
except ImportError:  # the package's other name
    from pytorch_lightning import Callback  # type: ignore[assignment,no-redef,unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.devices import Device


class MeterCallback(Callback):
    """Meters training, and logs to the trainer's loggers every ``log_every_n_steps`` steps.

    A step is what the optimizer takes together: with gradient accumulation, several batches. The time between batches,
    and a validation in it, is no part of them. Metrics are of all ranks.

    Args:
        device: Its peaks: a `Device`, or the name of one; None: the CUDA device that the model is on.
        every: The number of steps of which one is counted.
        tokens: Returns the number of tokens, or samples, of a batch; None: tokens per second are not logged.
        causal: ``"full"`` or ``"half"``; see `opcount.Meter`.
        prefix: Stands before the name of each metric.

    Example:
        ``Trainer(callbacks=MeterCallback(tokens=lambda batch: batch["input_ids"].numel()))``
    """

    def __init__(
        self,
        *,
        device: Device | str | None = None,
        every: int = 100,
        tokens: Callable[[Any], float] | None = None,
        causal: str = "full",
        prefix: str = "meter/",
    ) -> None:
        self._loop = LoopMeter(device, every, causal, prefix)
        self._tokens = tokens
        self._taken = self._logged = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin."""
        self._loop.begin(pl_module)
        self._taken = self._logged = trainer.global_step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begin a step, or go on with it."""
        del trainer, pl_module, batch_idx
        self._loop.enter()
        if self._tokens is not None:
            self._loop.add_tokens(self._tokens(batch))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End the step if an optimizer has taken it, and log."""
        del pl_module, outputs, batch, batch_idx
        if trainer.global_step == self._taken:
            self._loop.pause()
            return
        self._taken = trainer.global_step
        self._loop.leave()
        interval = trainer.log_every_n_steps
        if interval and self._taken // interval > self._logged // interval:
            self._log(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave out a step that no optimizer has taken."""
        del trainer, pl_module
        self._loop.drop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave out the step that an exception has ended."""
        del trainer, pl_module, exception
        self._loop.drop()

    def _log(self, trainer: Any) -> None:
        metrics = self._loop.metrics()
        if not metrics:
            return
        self._logged = self._taken
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=self._taken - 1)  # as the metrics of the step itself
