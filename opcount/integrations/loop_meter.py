"""A meter that the callbacks of a training loop drive, event by event."""

from __future__ import annotations

from typing import TYPE_CHECKING
from warnings import warn

from opcount.errors import DeviceError
from opcount.meter import Meter

if TYPE_CHECKING:
    from torch import nn

    from opcount.devices import Device


class LoopMeter:
    """Drives a meter; a loop may begin any number of times, and a step may be left open by an exception.

    Args:
        device: Its peaks: a `Device`, or the name of one; None: the device that the model is on.
        every: The number of steps of which one is counted.
        causal: ``"full"`` or ``"half"``; see `opcount.Meter`.
        prefix: Stands before the name of each metric.
    """

    def __init__(self, device: Device | str | None, every: int, causal: str, prefix: str) -> None:
        self._settings = {"device": device, "every": every, "causal": causal}
        self._prefix = prefix
        self._meter: Meter | None = None
        self._open = self._warned = False

    def begin(self, model: nn.Module) -> None:
        """Begin a loop."""
        self.drop()
        self._meter = Meter(model, **self._settings)  # type: ignore[arg-type]  # of mixed types

    def enter(self) -> None:
        """Begin a step, or go on with one that is paused."""
        if self._meter is None:
            return
        if self._open:
            self._meter.resume()
        else:
            self._meter.step().__enter__()
            self._open = True

    def pause(self) -> None:
        """Leave out what follows, until the step goes on."""
        if self._meter is not None and self._open:
            self._meter.pause()

    def add_tokens(self, tokens: float) -> None:
        """Add tokens to those of the running step."""
        if self._meter is not None and self._open:
            self._meter.add_tokens(tokens)

    def leave(self) -> None:
        """End the step."""
        if self._meter is not None and self._open:
            self._open = False
            self._meter.__exit__(None, None, None)

    def drop(self) -> None:
        """Leave the step out, if one is open."""
        if self._meter is not None and self._open:
            self._open = False
            self._meter.drop()

    def metrics(self) -> dict[str, float]:
        """Return what a logger takes, of all ranks; empty if no step was timed since the last time."""
        if self._meter is None or not self._meter.is_ready:
            return {}
        reading = self._meter.read(all_ranks=True)
        try:
            metrics = reading.metrics()
        except DeviceError as error:
            if not self._warned:
                self._warned = True
                warn(f"MeterCallback: no MFU: {error}", stacklevel=2)
            metrics = reading.rates()
        return {f"{self._prefix}{name}": value for name, value in metrics.items()}
