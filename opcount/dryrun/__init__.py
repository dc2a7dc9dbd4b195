"""Counting without computing: fake tensors take the place of inputs and results.

A dry run costs what PyTorch's fake tensors cost, except that a call whose shapes were seen before is answered
from memory. It needs no memory for results, nor for the weights of a model on the meta device, so that a model of any
size can be counted. Nothing in it writes to a real tensor.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from itertools import chain
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.parameter import is_lazy

from opcount._torch.autograd import autograd_disabled
from opcount._torch.dispatch import dispatch_disabled
from opcount._torch.fake import FOREACH_TYPES, FakeTensor
from opcount._torch.fake_slot import into_slot, out_of_slot
from opcount._torch.function_tables import FunctionTables
from opcount._torch.functorch import is_wrapped, transforms_disabled
from opcount._torch.modules import modules_of
from opcount.dryrun.compiled_kernels import kernels_by_size
from opcount.dryrun.computing import Computing
from opcount.dryrun.constructors import subclasses_of_fakes
from opcount.dryrun.containers import put_back
from opcount.dryrun.cuda import choices_of_cuda, ways_on_cuda
from opcount.dryrun.draws import draws_kept
from opcount.dryrun.ended_mode import EndedMode
from opcount.dryrun.fakes import Fakes
from opcount.dryrun.guard import Guard, was_made
from opcount.dryrun.guard_modules import GUARDED
from opcount.dryrun.hidden_fakes import fakes_hidden
from opcount.dryrun.imports import imports_undisturbed
from opcount.dryrun.lasting import Lasting
from opcount.dryrun.lazy_parameters import lazy_parameters_in_place
from opcount.dryrun.leaves import Leaves
from opcount.dryrun.log_filter import errors_unlogged
from opcount.dryrun.memo import Memo
from opcount.dryrun.namespaces import Namespaces
from opcount.dryrun.one_hot import scattered_one_hot
from opcount.dryrun.optimizers import paired_optimizers
from opcount.dryrun.padding import guard_padding
from opcount.dryrun.refusals import Refusals
from opcount.dryrun.script_profiles import scripts_unprofiled
from opcount.dryrun.skeleton import Disposable, disposable_skeleton, skeleton
from opcount.dryrun.snapshot import Snapshot
from opcount.dryrun.swapped_tensors import own_tensors, put_back_certain
from opcount.dryrun.tensors import DryTensor
from opcount.dryrun.threads import Threads, put_beneath_counters, put_on_top, take_threads_along
from opcount.dryrun.twins import Twins, entries_of
from opcount.dryrun.undifferentiated import Undifferentiated
from opcount.errors import DryRunError
from opcount.identity import identity
from opcount.interceptor import fused_attention_disabled
from opcount.interceptor.stack import modes_below
from opcount.scope.global_hooks import before_module, remove
from opcount.undo import Undo

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from torch import nn

    from opcount.devices import Device

__all__ = ["Disposable", "DryRun", "Lasting", "disposable_skeleton", "dry_run", "lasting_dry_run", "skeleton"]

_TABLES = FunctionTables()


class DryRun(NamedTuple):
    """A dry run under way.

    Attributes:
        memo: Answers its operators.
        follow: Prepares what is first called inside, until the steps that it adds have run; to be called when counters
            have registered their hooks.
    """

    memo: Memo
    follow: Callable[[Undo], None]


@contextmanager
def dry_run(  # noqa: PLR0915  (a list of what is entered)
    model: nn.Module | Disposable | None = None,
    where: Callable[[], str | None] = lambda: None,
    capability: tuple[int, int] | None = None,
) -> Iterator[DryRun]:
    """Compute nothing inside the block: every operator answers with shapes alone.

    A small tensor keeps its value for as long as nothing unknown is written to it: a flag in a buffer, or sizes that
    the program put into a tensor, can be asked for. Afterwards the model is as before: its attributes and what they
    hold, gradients, and the state of optimizers that stepped inside. Tensors that the block returns are fake: they
    have shapes and no values, and refuse to compute.

    Args:
        model: What is put back, unless it is disposable; so are other modules from their first call on. Tensors on the
            ``meta`` device count as being on the CPU.
        where: Tells the path of the running module, for errors.
        capability: Compute capability of the CUDA device whose operators are chosen; None: those of the CPU are.

    Yields:
        What a counter needs of it.

    Raises:
        DryRunError: An operator needs the values of its inputs, such as ``x.item()`` or ``x.nonzero()``, or cannot run
            on fake tensors; on leaving the block, if the program caught that error; or something could not be put
            back.
    """
    fakes, refusals = model.fakes if isinstance(model, Disposable) else Fakes(), Refusals(where)
    computing = Computing(fakes, refusals, dataless=isinstance(model, Disposable))
    namespaces = Namespaces(partial(_is_spoilt, fakes.mode, computing))
    twins, snapshot = Twins(fakes, computing.borrow, computing.values.is_ours), Snapshot(namespaces)
    leaves = Leaves()
    with Undo() as restore:
        restore.add(partial(_end, fakes.mode, refusals, computing))
        restore.add(partial(_TABLES.leave, restore))
        _TABLES.enter(restore)
        restore.add(partial(_restore, snapshot, leaves, namespaces))
        guard = partial(guard_padding, known=computing.known, refusals=refusals)
        enter = _Entering(twins, leaves, snapshot, guard, RLock(), {}, {}, partial(_is_of, fakes.mode))
        if isinstance(model, Disposable):
            enter.disposable(model)
        elif model is not None:
            enter.modules(modules_of(model), hold=True)
        for supported in FOREACH_TYPES:
            restore.enter(_supporting(supported))
        ways = ways_on_cuda(capability)
        threads = Threads(fakes.mode, refusals, ways)
        restore.enter(_inside(fakes.mode))
        memo = Memo(fakes, twins, leaves, refusals, computing, threads, capability)
        restore.add(memo.end)
        restore.enter(_inside(memo))
        restore.add(partial(put_on_top, memo))
        put_beneath_counters(memo)
        take_threads_along(restore)
        restore.enter(fused_attention_disabled())
        restore.enter(subclasses_of_fakes())
        restore.enter(lazy_parameters_in_place())
        restore.enter(scattered_one_hot())
        restore.enter(kernels_by_size(computing.forget))
        restore.enter(draws_kept(computing.draws))
        restore.enter(fakes_hidden())
        operators = Undifferentiated(refusals)
        memo.watch_operator = operators.watch  # type: ignore[attr-defined]
        memo.refuse = refusals.refuse  # type: ignore[attr-defined]
        restore.enter(operators.refusing_backwards(memo))
        restore.enter(errors_unlogged())
        restore.enter(scripts_unprofiled())
        restore.enter(imports_undisturbed())
        restore.enter(choices_of_cuda(ways))
        fakes.mode.guard = Guard(snapshot, leaves, twins, computing, refusals, enter.modules, enter.born, enter.copied)  # type: ignore[attr-defined]
        GUARDED.use(restore)
        try:
            yield DryRun(memo, partial(_follow, threads, enter))
        except Exception as error:
            refusal = refusals.on_leaving(error)
            if refusal is None:
                raise
            raise refusal from error
    refused = refusals.at_the_end()
    try:
        if refused is not None:
            raise refused
    finally:
        del refused  # or it and this frame would keep each other, and what the program has in its frames


def lasting_dry_run(
    model: nn.Module | None,
    where: Callable[[], str | None],
    undo: Undo,
    device: Device | None = None,
) -> tuple[DryRun, Undo]:
    """Enter a dry run that lasts until the last of the counters in it is left.

    Args:
        model: See `dry_run`.
        where: See `dry_run`.
        undo: Those of the counter that begins it.
        device: A CUDA device whose operators are chosen; None: those of the CPU are.

    Returns:
        The dry run, and the steps that end it.
    """
    lasting, capability = Lasting(), None if device is None else device.capability
    undo.add(partial(lasting.leave, undo))
    dry = lasting.undo.enter(dry_run(model, where, capability))
    dry.memo.share = lasting.join  # type: ignore[method-assign]
    return dry, lasting.undo


@contextmanager
def _inside(mode: AbstractContextManager[object]) -> Iterator[None]:
    """Enter a mode of PyTorch's; it is left once, if it is on the stack."""
    with Undo() as undo:
        undo.add(partial(_leave_mode, mode))
        mode.__enter__()
        into_slot(mode)
        yield


def _leave_mode(mode: AbstractContextManager[object]) -> None:
    if any(other is mode for other in modes_below()):
        out_of_slot(mode)
        mode.__exit__(None, None, None)


@contextmanager
def _supporting(types: list[Any]) -> Iterator[None]:
    """Have PyTorch handle many dry tensors at a time."""
    height = types.count(DryTensor)
    try:
        types.append(DryTensor)
        yield
    finally:
        while types.count(DryTensor) > height:
            types.remove(DryTensor)


class _Entering(NamedTuple):
    """Prepares modules for a dry run, on one thread at a time."""

    twins: Twins
    leaves: Leaves
    snapshot: Snapshot
    guard: Callable[[Iterable[nn.Module]], None]
    lock: RLock
    born: dict[int, weakref.ref[nn.Module]]
    copied: dict[int, weakref.ref[nn.Module]]
    is_ours: Callable[[Any], bool]

    def modules(self, modules: Iterable[nn.Module], *, hold: bool = False) -> None:
        """Enter modules that were not, after a look at all of them.

        Args:
            modules: Any.
            hold: Remember them also when the program drops them.
        """
        with self.lock:
            remembered = self.snapshot.remembered
            new = [module for module in modules if identity(module) not in remembered]
            if not new:
                return
            entries = entries_of(new)
            self.twins.check(entries)
            with dispatch_disabled(), autograd_disabled(), transforms_disabled():
                tensors = [entry[3] for entry in entries if not isinstance(entry[3], DryTensor)]
                self.snapshot.note_attributes(list(map(vars, tensors)))
                held = self.snapshot.modules(new, hold=hold)
                if not hold:
                    for module in new:
                        self._look_at_tensors(module)
                replaced = self.twins.enter(entries, self.leaves)
                if hold:
                    self.snapshot.note_replaced(replaced)
                for module, values in zip(new, held, strict=True):
                    if values:
                        self.twins.enter_attributes(module, values)
                self.guard(new)

    def disposable(self, skeleton: Disposable) -> None:
        """Enter a skeleton, whose tensors are of this dry run already."""
        modules = modules_of(skeleton.model)
        if not skeleton.is_plain:
            self.modules(modules, hold=True)
            return
        with dispatch_disabled(), autograd_disabled():
            self.snapshot.pass_over(modules, skeleton.shared)
            for fake, value in skeleton.values:
                self.twins.keep(fake, value)
            self.guard(modules)

    def _look_at_tensors(self, module: nn.Module) -> None:
        """Know a module from before in which the program has put tensors of the dry run already."""
        made = was_made(self.born, module) or was_made(self.copied, module)
        if not made and any(self.is_ours(value) for _, value in own_tensors(module)):
            self.snapshot.leave(module, partial(put_back_certain, self.is_ours))


def _is_of(mode: object, value: Any) -> bool:
    """Return whether something is a fake tensor of a dry run."""
    return isinstance(value, DryTensor) and value.fake_mode is mode


def _is_spoilt(mode: object, computing: Computing, tensor: Any) -> bool:
    """Return whether a later real run would find no values in a tensor, or not its own."""
    if isinstance(tensor, FakeTensor):
        return tensor.fake_mode is mode
    return not (is_wrapped(tensor) or is_lazy(tensor) or tensor.is_meta) and computing.lacks_values(tensor)


def _follow(threads: Threads, enter: _Entering, undo: Undo) -> None:
    """Prepare modules and optimizers, on the threads of the dry run, when they are first called.

    A thread may be in the dry run because of the hook of a counter, which is to be called before.
    """
    remembered = enter.snapshot.remembered

    def first_call(module: nn.Module, _args: object) -> None:
        if identity(module) not in remembered and threads.is_here():
            enter.modules(modules_of(module))

    undo.add(partial(remove, first_call))
    before_module(first_call)
    undo.enter(paired_optimizers(enter.twins, enter.snapshot, threads.is_here))


def _end(mode: Any, refusals: Refusals, computing: Computing) -> None:
    """Have what the program keeps compute nothing.

    Let what was remembered go at once: a fake tensor that is kept refers to it, as it does to itself.
    """
    mode.guard = None
    refusals.end()
    mode.__class__ = EndedMode
    computing.values.spoil()


def _restore(snapshot: Snapshot, leaves: Leaves, namespaces: Namespaces) -> None:
    """Put everything back, whatever happens to the others."""
    torch.clear_autocast_cache()
    errors = put_back(chain(snapshot.restoring(), leaves.restoring()))
    errors += put_back(namespaces.restoring())
    if errors:
        raise DryRunError(
            f"dry run: expected to put everything back, got {errors[0]!r} of type {type(errors[0]).__name__} and "
            f"{len(errors) - 1} more. Make the model anew before a real run."
        ) from errors[0]
