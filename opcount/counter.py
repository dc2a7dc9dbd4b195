"""The context manager that counts a region of code."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from threading import current_thread
from typing import TYPE_CHECKING, Any
from warnings import warn

from torch import nn

from opcount.convention import Convention, find_convention
from opcount.coverage import UNCOUNTED
from opcount.delegate import ProfileViews
from opcount.errors import CounterStateError, UncountedOperatorError, UncountedOperatorWarning
from opcount.freeze import amount_of, profile_of, total_of
from opcount.interceptor import Planner, Recall, ThreadInterceptors, observe
from opcount.interceptor.stack import dry_runs
from opcount.memory import MemoryWatch, check_shared, predicted_device, required
from opcount.overrides import registry_with
from opcount.provenance import describe
from opcount.sampling import Sampling
from opcount.scope import Scopes
from opcount.steps import Amount
from opcount.undo import Undo, noted, when_dropped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from opcount.devices import Device
    from opcount.live_memory import LiveMemory
    from opcount.profile import Profile
    from opcount.records import Total
    from opcount.registry import Pricing

_SETTINGS = ("_model", "_convention", "_strict", "_dry_run", "_formulas", "_warns", "_tracks_memory", "_device")
"""Attributes that a copy of a counter keeps."""


class OpCounter(ProfileViews):
    """Counts what runs inside its block: by operator, module, phase and dtype.

    Nothing about the program changes: same outputs and gradients, no attribute on any module, one forward is one
    forward. Entering the counter again adds to the count; `reset` empties it. It can be read inside the block and
    after it.

    It counts what its own thread runs between entering and leaving, and the model's modules on other threads. So a
    block that awaits or yields counts also what runs meanwhile on that thread: do neither inside it.

    A copy, by `copy` or `pickle`, has the same settings and the same numbers; it does not count until it is entered,
    and is independent of the original. To pass on numbers alone, copy `profile`.

    Args:
        model: Gives modules their paths; its parameters are counted. None: modules are named by their class.
        convention: How MACs and other arithmetic are read as FLOPs: ``"fvcore"``, ``"macs"``, ``"torch"``,
            ``"full"``, or a `Convention`.
        strict: Raise instead of warning when an operator ran that nothing explains.
        dry_run: Compute nothing: fake tensors stand for weights, inputs and results inside the block, so that a
            model of any size, on the ``meta`` device too, can be counted; see `opcount.dryrun`.
        formulas: For this count alone: ``{operator: formula}``; None as a formula declares the operator free.
        every: For long loops: each block is a step. The first step is counted, then one pseudo-randomly chosen step of
            each ``every``; the others run as if there were no counter. All numbers are those of the counted steps;
            `extrapolated` estimates those of all steps.
        memory: Track live bytes; ``"log"``: and their order, for `Profile.fits`; ``"allocator"``: and those in kernels.
        device: A CUDA device that need not be there, ``"H100-SXM5"``: a dry run predicts the live bytes on it.

    Raises:
        ValueError: ``every`` is no positive integer or combined with ``dry_run``; ``memory`` is something else; or
            ``device`` lacks ``dry_run`` or ``memory``.
        DeviceError: The device is not known, or is no CUDA device.
        ConventionError: There is no such convention.
        FormulaError: A key of ``formulas`` is no operator.
        UncountedOperatorError: When the block ends, with ``strict``.
        DryRunError: An operator of a dry run needs values; raised again when the block ends if it was caught inside.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(10, 10), torch.nn.ReLU())
        >>> with OpCounter(model) as c:
        ...     _ = model(torch.ones(1, 10))
        >>> c.macs, c.params, c.by_module()["0"].macs
        (100, 110, 100)
    """

    def __init__(  # noqa: PLR0913  (each by its name)
        self,
        model: nn.Module | None = None,
        *,
        convention: str | Convention = "fvcore",
        strict: bool = False,
        dry_run: bool = False,
        formulas: Mapping[Any, Pricing | None] | None = None,
        every: int | None = None,
        memory: bool | str = False,
        device: Device | str | None = None,
    ) -> None:
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(
                f"OpCounter: expected an nn.Module or None, got {model!r} of type {type(model).__name__}. "
                f"Count a function as `with OpCounter(): function()`."
            )
        if dry_run and every is not None:
            raise ValueError(
                f"OpCounter: expected dry_run or every, got dry_run={dry_run!r} and every={every!r}: steps that are "
                f"not counted would compute, the others not. Count one step dry, or leave dry_run out."
            )
        self._device = predicted_device(device, dry_run=dry_run, memory=memory)
        self._convention = find_convention(convention)
        self._strict, self._warns, self._tracks_memory = strict, True, memory
        self._model, self._dry_run = model, dry_run
        self._formulas = None if formulas is None else dict(formulas)
        self._sampling = None if every is None else Sampling(every)
        self._begin()
        self._scopes = self._name_modules()

    def _begin(self) -> None:
        """Initialize the state that counting changes, and the planner."""
        registry = registry_with(self._formulas)
        self._recall = Recall() if self._dry_run else None
        self._planner = Planner(registry) if self._recall is None else Planner(registry, self._recall)
        self._memory = MemoryWatch(self._tracks_memory)
        self._interceptors = ThreadInterceptors(self._planner, self._recall, self._memory.till)
        self._undo = Undo()
        self._skipped = False
        self._ran = False
        self._earlier: Profile | None = None
        self._provenance: dict[str, str] = {}
        self._reported: set[str] = set()

    @cached_property
    def _scopes(self) -> Scopes:
        """The scopes. A copy creates them on first use: its model is incomplete while it is being copied."""
        return self._name_modules()

    def _name_modules(self) -> Scopes:
        interceptors, priced = self._interceptors, self._planner.priced_modules()
        return Scopes(self._model, interceptors.adopt, priced, interceptors.charge_module, interceptors.charge_script)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy: the settings, and the profile so far."""
        return {
            "settings": {name: getattr(self, name) for name in _SETTINGS},
            "sampling": deepcopy(self._sampling),
            "earlier": self._measured() if self._ran else None,
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state["settings"])
        self._sampling = state["sampling"]
        self._begin()
        self._earlier = state["earlier"]
        self._ran = self._earlier is not None

    def __enter__(self) -> Self:
        if self._undo:
            raise CounterStateError(
                "OpCounter: this counter is counting already. Use a second OpCounter for a nested region, or pause()."
            )
        self._thread = current_thread()
        undo = self._undo = Undo()
        self._guard = when_dropped(self, partial(_abandon, weakref.ref(self)))
        try:
            self._open(undo)
        except BaseException:
            undo.run()
            raise
        return self

    def _open(self, undo: Undo) -> None:
        """Start counting, or start a step that is skipped."""
        if self._sampling is not None:
            if self._sampling.unfinished:
                self._sampling.end_measured(self._amount(), complete=False)
            self._skipped = self._sampling.pauses
            if self._skipped:
                self._scopes.hold_thread(undo)
                return
            self._sampling.unfinished = True
        self._provenance = describe(self._model, self._provenance, dry_run=self._dry_run)
        follow = None if self._recall is None else self._begin_dry_run(self._recall, undo)
        observe(self._scopes, self._interceptors.enlist, undo)
        self._memory.begin(self._scopes, undo, dry=self._dry_run, device=self._device)
        if follow is not None:
            follow()
        self._ran = True

    def _begin_dry_run(self, recall: Recall, undo: Undo) -> Callable[[], None] | None:
        """Begin a dry run, or share the one that this thread is in; return what is to be called after the hooks."""
        for memo in dry_runs()[:1]:
            check_shared(memo.capability, self._device)
            memo.share(undo)
            recall.begin(memo, undo)
            return None
        from opcount.dryrun import lasting_dry_run  # noqa: PLC0415  (fake tensors take a second to import)

        dry, steps = lasting_dry_run(self._model, self._scopes.running_path, undo, self._device)
        recall.begin(dry.memo, undo)
        return partial(dry.follow, steps)

    @noted
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._undo:
            raise CounterStateError("OpCounter: this counter is not counting. Enter it with `with` first.")
        if self._thread is not current_thread():
            raise CounterStateError(
                f"OpCounter: entered on thread {self._thread.name!r}, left on {current_thread().name!r}, and so still "
                f"counting. Enter and leave a counter on one thread; it counts the model's modules on the others, too."
            )
        try:
            if not self._skipped:
                self._scopes.names.refresh()
        finally:
            self._undo.run(error)
        self._guard = None
        if self._sampling is not None:
            self._end_step(self._sampling, complete=error is None)
        if error is None and self._warns and not self._skipped:
            self._report_uncounted()

    def _end_step(self, sampling: Sampling, *, complete: bool) -> None:
        if self._skipped:
            sampling.end_skipped(complete=complete)
            return
        sampling.end_measured(self._amount(), complete=complete)
        if sampling.pauses:
            self._scopes.threads.forget_graphs()

    def _abandon(self) -> None:
        """Stop counting without a call of `__exit__`, unless the thread that entered is another one and alive."""
        if self._undo and (self._thread is current_thread() or not self._thread.is_alive()):
            self._undo.run()

    def __del__(self) -> None:
        if getattr(self, "_undo", None):
            self._abandon()
            warn("OpCounter: dropped while it was counting. Use it in a `with` block.", ResourceWarning, stacklevel=2)

    def pause(self) -> None:
        """Stop counting, inside the block, until `resume`."""
        self._need_entered("pause")
        self._interceptors.pause()

    def resume(self) -> None:
        """Count again after `pause`."""
        self._need_entered("resume")
        self._interceptors.resume()

    def reset(self) -> None:
        """Set all counts to zero, inside the block or after it; with ``every``, only between two steps."""
        if self._sampling is not None:
            if self._undo:
                raise CounterStateError(
                    "OpCounter.reset: a step is running, and the rest of it would be taken for a whole one. "
                    "Call it between two blocks."
                )
            self._sampling.clear()
        self._scopes.clear()
        self._memory.clear()
        self._reported.clear()
        self._earlier = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Name the phase of the forward operators in a region, such as ``"prefill"``.

        Backward, recomputation and optimizer steps inside keep their own phases.
        """
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"OpCounter.phase: expected a name, got {name!r} of type {type(name).__name__}. Pass a string."
            )
        before = self._scopes.threads.set_phase(name)
        try:
            yield
        finally:
            self._scopes.threads.set_phase(before)

    @property
    def profile(self) -> Profile:
        """The count so far, frozen.

        Raises:
            CounterStateError: Nothing ran under the counter yet.
        """
        self._need_run()
        profile = self._measured()
        return profile if self._sampling is None else replace(profile, steps=self._sampling.steps())

    @property
    def skips(self) -> bool:
        """True if the block that runs, or ran last, is a step that is not counted, because of ``every``."""
        return self._skipped

    @property
    def counted_steps(self) -> Amount:
        """The counted steps so far, because of ``every``, as of the end of the last one: for who asks after each."""
        return Amount() if self._sampling is None else self._sampling.seen

    @property
    def total(self) -> Total:
        """The sum of all that was counted so far."""
        self._need_run()
        return total_of(self._scopes, self._convention) if self._earlier is None else self._measured().total

    def __str__(self) -> str:
        """Return the table of what was counted so far."""
        return str(self.profile) if self._ran else "OpCounter: nothing was counted yet"

    def __repr__(self) -> str:
        """Return what was counted so far in a few words."""
        name = f" of {type(self._model).__name__}" if self._model is not None else ""
        return repr(self.profile).replace("Profile", "OpCounter", 1) if self._ran else f"<OpCounter{name}: nothing yet>"

    def _repr_html_(self) -> str | None:
        """Return the page that explores the count, for notebooks; None before anything was counted."""
        from opcount.reporter.html import frame  # noqa: PLC0415  (a notebook alone needs it)

        return frame(self.profile) if self._ran else None

    @property
    def params(self) -> int:
        """Elements of the model's parameters, a tied one once; 0 without a model."""
        return self._scopes.names.count_parameters()

    @property
    def memory(self) -> LiveMemory:
        """Live bytes: the peak, what it is made of, and how they ran; an error without ``memory=True``."""
        return required(self.profile.memory)

    def _measured(self) -> Profile:
        live, groups = self._memory.memory(), self._planner.groups.ranks
        profile = profile_of(self._scopes, self._convention, self._provenance, live, groups)
        return profile if self._earlier is None else self._earlier + profile

    def _amount(self) -> Amount:
        amount = amount_of(self._scopes)
        return amount if self._earlier is None else self._earlier.amount().plus(amount)

    def _need_run(self) -> None:
        if not self._ran:
            raise CounterStateError(
                "OpCounter: nothing was counted yet. Run the code inside `with OpCounter(model) as c:` first."
            )

    def _need_entered(self, what: str) -> None:
        if not self._undo:
            raise CounterStateError(f"OpCounter.{what}: this counter is not counting. Call it inside the `with` block.")

    def _report_uncounted(self) -> None:
        if not any(
            plan.family == UNCOUNTED for frame in self._scopes.threads.frames() for plan, _, _ in list(frame.rows)
        ):
            return
        coverage = self._measured().coverage
        if not (new := set(coverage.uncounted) - self._reported):
            return
        self._reported |= new
        text = f"{coverage.verdict()}. Register one with @opcount.formula"
        if self._strict:
            raise UncountedOperatorError(f"{text}.")
        warn(f"{text}, or pass strict=True to fail instead.", UncountedOperatorWarning, stacklevel=3)


def _abandon(counter: weakref.ref[OpCounter]) -> None:
    alive = counter()
    if alive is not None:
        alive._abandon()  # noqa: SLF001  (bound to the counter itself, it would keep it alive)
