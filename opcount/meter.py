"""A meter for training loops: FLOPs from a few counted steps, time from the others."""

from __future__ import annotations

from math import inf
from numbers import Real
from typing import TYPE_CHECKING, Any

from torch import distributed

from opcount.clocks import clock_of
from opcount.counter import OpCounter
from opcount.devices import Device
from opcount.errors import CounterStateError, InputError, OpcountError
from opcount.machine import as_tf32, place_of
from opcount.reading import Reading, across_ranks
from opcount.step_samples import Sample, StepSamples
from opcount.utilization import Flops, check_causal, flops_by_dtype

if TYPE_CHECKING:
    from types import TracebackType

    from torch import nn
    from typing_extensions import Self

    from opcount.clocks import Clock
    from opcount.profile import Profile


class Meter:
    """Measures a loop: steps, seconds, tokens per second, FLOP/s, MFU and HFU.

    One step in ``every`` is counted, as by `OpCounter(every=)`, and left out of the clock; the others run as if there
    were no counter, and are timed. Time between the steps is not part of them. On a device that runs behind the host,
    events are recorded beside the steps, and the device is waited for in `read` alone.

    Args:
        model: What is trained; None: FLOPs are counted all the same.
        device: Its peaks: a `Device`, or the name of one; None: the device that the model is on.
        every: The number of steps of which one is counted.
        causal: ``"full"``: causal attention counts as the kernel is asked; ``"half"``: half of it.
        clock: Times the steps; None: the one of the device that the model is on.

    Raises:
        DeviceError: The device is not known; there is no fallback.
        InputError: ``every`` leaves no step to be timed, or there is no such ``causal``.

    Example:
        >>> import torch
        >>> from opcount import Device
        >>> meter = Meter(device=Device(name="mine", peaks={"float32": 50e9}, bandwidth=10e9), every=10)
        >>> for _ in range(3):
        ...     with meter.step(tokens=32):
        ...         _ = torch.ones(32, 8) @ torch.ones(8, 8)
        >>> reading = meter.read()
        >>> reading.steps, reading.timed_steps, reading.flops["float32"].hardware / 2
        (3, 2, 4096.0)
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        device: Device | str | None = None,
        every: int = 100,
        causal: str = "full",
        clock: Clock | None = None,
    ) -> None:
        _check_every(every)
        self._counter = OpCounter(model, every=every)
        self._model = model
        self.device = Device.current(place_of(model)) if device is None else Device.find(device)
        self._causal = check_causal(causal)
        self._clock = clock
        self._running = self._paused = False
        self._next_tokens: float | None = None
        self._samples = StepSamples()
        self._seen: dict[str, Flops] = {}
        self._begin()

    def _begin(self) -> None:
        """Begin the steps of a reading."""
        self._steps = self._timed = 0
        self._tokens: float = 0
        self._timed_tokens: float = 0
        self._sized = True

    def step(self, tokens: float | None = None) -> Self:
        """Return a context manager for one step, of as many batches as the optimizer takes together.

        A step that an exception ends is left out. Where steps differ in size, all should say how many tokens they have.

        Args:
            tokens: Of this step, or samples: those that are computed, padding included.

        Raises:
            CounterStateError: A step is running.
            InputError: The tokens are no number from 0 up.
        """
        self._need(running=False, what="step")
        self._next_tokens = None if tokens is None else _checked(tokens)
        return self

    def add_tokens(self, tokens: float) -> None:
        """Add tokens to those of the running step, where it is known late how many it has.

        Raises:
            CounterStateError: No step is running.
            InputError: The tokens are no number from 0 up.
        """
        self._need(running=True, what="add_tokens")
        self._next_tokens = (self._next_tokens or 0) + _checked(tokens)

    def pause(self) -> None:
        """Stop timing and counting inside a step, until `resume`: for an evaluation between two of its batches."""
        self._need(running=True, what="pause")
        if self._paused:
            return
        self._paused = True
        if self._counter.skips:
            self._timer().stop()
        else:
            self._counter.pause()

    def resume(self) -> None:
        """Time and count again after `pause`."""
        self._need(running=True, what="resume")
        if not self._paused:
            return
        self._paused = False
        if self._counter.skips:
            self._timer().start()
        else:
            self._counter.resume()

    def drop(self) -> None:
        """End the running step as an exception does: it is left out. For loops whose steps are no block."""
        error = CounterStateError("Meter.drop: the step is left out.")
        self.__exit__(type(error), error, None)

    def __enter__(self) -> Self:
        self._need(running=False, what="step")
        self._running = True
        try:
            self._counter.__enter__()
        except BaseException:
            self._running = False
            raise
        try:
            if self._counter.skips:
                self._timer().start()
        except BaseException as error:
            self._running = False
            self._counter.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._need(running=True, what="__exit__")
        tokens, self._next_tokens = self._next_tokens, None
        paused, self._paused = self._paused, False
        self._running = False
        timed = self._counter.skips
        try:
            if timed:
                self._end_timed(paused=paused, complete=kind is None)
            elif paused:
                self._counter.resume()
        finally:
            self._counter.__exit__(kind, error, trace)
        if not timed:
            self._end_counted(tokens, complete=kind is None)
        if kind is None:
            self._add(tokens, timed=timed)

    @property
    def is_ready(self) -> bool:
        """True if `read` has something to say: a step was timed since the last reading."""
        return self._timed > 0 and not self._running

    @property
    def profile(self) -> Profile:
        """The counted steps so far, as a profile.

        Raises:
            CounterStateError: No step was counted yet.
        """
        return self._counter.profile

    def read(self, *, all_ranks: bool = False, group: Any = None) -> Reading:
        """Return a reading of the steps since the last one.

        Args:
            all_ranks: Over all ranks, which have to call it together: the sum of their FLOPs over the sum of peaks.
            group: The process group of these ranks; None: all.

        Raises:
            CounterStateError: No step has ended since, or none that was timed, or one is running.
            InputError: The clock says that no time has passed.
        """
        if not all_ranks or not (distributed.is_available() and distributed.is_initialized()):
            return self._read()
        found: list[Any] = [None] * distributed.get_world_size(group)
        try:
            own: Reading | OpcountError = self._read()
        except OpcountError as error:
            own = error  # told to all ranks, which would wait for this one else
        distributed.all_gather_object(found, own, group)
        for each in found:
            if isinstance(each, OpcountError):
                raise each
        return across_ranks(found)

    def _read(self) -> Reading:
        self._need(running=False, what="read")
        if not self._steps:
            raise CounterStateError("Meter.read: no step has ended since the last reading. Run `with meter.step():`.")
        if not self._timed:
            raise CounterStateError(
                f"Meter.read: all of the {self._steps} steps since the last reading were counted, and steps that are "
                f"counted are not timed. Read after more steps, or pass a larger every."
            )
        seconds = self._timer().take()
        if seconds <= 0:
            raise InputError(
                f"Meter.read: expected the clock to move on, got {seconds!r} s for {self._timed} steps. Read after "
                f"more steps, or pass another clock."
            )
        timed_tokens = self._timed_tokens if self._sized else None
        reading = Reading(
            self._steps,
            self._timed,
            seconds,
            self._samples.estimate(self._timed, timed_tokens),
            (self.device,),
            self._tokens if self._sized else None,
            timed_tokens,
        )
        self._samples.forget_early()
        self._begin()
        return reading

    def _timer(self) -> Clock:
        """Return the clock; it is chosen late, when the model has been moved to its device."""
        if self._clock is None:
            self._clock = clock_of(place_of(self._model))
        return self._clock

    def _end_timed(self, *, paused: bool, complete: bool) -> None:
        clock = self._timer()
        if not paused:
            clock.stop()
        if complete:
            clock.keep()
        else:
            clock.drop()

    def _end_counted(self, tokens: float | None, *, complete: bool) -> None:
        tf32 = as_tf32(place_of(self._model)) if self.device.has_peak("tf32") else ()
        now = flops_by_dtype(self._counter.counted_steps.records, self._causal, tf32)
        before, self._seen = self._seen, now
        if complete:
            self._samples.add(Sample({dtype: now[dtype].minus(before.get(dtype, Flops())) for dtype in now}, tokens))

    def _add(self, tokens: float | None, *, timed: bool) -> None:
        """Add a step to the next reading."""
        self._steps += 1
        self._timed += timed
        if tokens is None:
            self._sized = False
        else:
            self._tokens += tokens
            self._timed_tokens += tokens if timed else 0

    def _need(self, *, running: bool, what: str) -> None:
        if self._running is not running:
            raise CounterStateError(
                f"Meter.{what}: no step is running. Call it inside `with meter.step():`."
                if running
                else f"Meter.{what}: a step is running. Leave it first; batches of one optimizer step are one step."
            )


def _check_every(every: object) -> None:
    if every is None or (every == 1 and not isinstance(every, bool)):
        raise InputError(
            f"Meter: expected every to be a whole number from 2 on, got {every!r}: steps that are counted are not "
            f"timed, and none would be. Pass 100, or 2 for a short loop."
        )


def _checked(tokens: object) -> float:
    if isinstance(tokens, Real) and not isinstance(tokens, bool) and 0 <= float(tokens) < inf:
        return tokens if isinstance(tokens, int) else float(tokens)
    raise InputError(
        f"Meter.step: expected a number of tokens, got {tokens!r} of type {type(tokens).__name__}. Pass one such as "
        f"batch.numel(); a tensor on a device would have to be waited for: call its item()."
    )
