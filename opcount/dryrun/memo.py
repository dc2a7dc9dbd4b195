"""Memoize what operators return for fake tensors.

Fake tensors spend most of their time on the shapes of results. Unless an operator aliases, mutates or depends on
values, these depend on the shapes, strides and dtypes of its arguments alone, and are cached. An operator whose
arguments are all small and known is computed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from opcount._torch.dispatch import METHODS, HigherOrderOperator, below_autograd, dispatch_disabled
from opcount._torch.fake import FakeTensor
from opcount.dryrun.control_flow import run_higher_order
from opcount.dryrun.expected_results import as_factorized, as_finite
from opcount.dryrun.fake_mode import outside
from opcount.dryrun.fakes import PLAIN, can_be_faked, is_odd, is_sparse
from opcount.dryrun.operators import Kind, facts_of
from opcount.dryrun.result_shapes import Shape, result_shapes, shares_memory
from opcount.dryrun.shapes import corrected
from opcount.dryrun.sparse_kernels import check_product
from opcount.dryrun.tensors import DryTensor, run_operators, stands_for_data, without_classes
from opcount.dryrun.unknown import UNKNOWN
from opcount.dryrun.values import LIMIT
from opcount.identity import identity
from opcount.interceptor.calls import tensors
from opcount.interceptor.stack import TransparentMode
from opcount.interceptor.symbolic import has_symbolic_sizes

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from opcount.dryrun.computing import Computing
    from opcount.dryrun.fakes import Fakes
    from opcount.dryrun.leaves import Leaves
    from opcount.dryrun.operators import Facts
    from opcount.dryrun.refusals import Refusals
    from opcount.dryrun.threads import Threads
    from opcount.dryrun.twins import Twins
    from opcount.undo import Undo

_SCALARS = {int, float, bool, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None)}
_DEVICE = torch.ops.prim.device.default

_FRESH, _VIEW, _IN_PLACE, _LIFTED, _OTHER = Kind
"""Members of `Kind` as globals: an attribute of an enum takes as long as a part of a cache key."""

_FACTS: tuple[dict[int, Facts], dict[int, Facts]] = {}, {}
"""Facts by the ``id`` of an operator, which they keep alive, as on the CPU and as on CUDA: its own hash is slow."""

_ANSWERS: tuple[dict[Hashable, Any], dict[Hashable, Any]] = {}, {}
"""Cached shapes of results, as on the CPU and as on CUDA, valid for every dry run of the process."""

_CAPACITY = 1 << 17

_requires_grad: Any = METHODS.requires_grad.__get__
"""Getter of PyTorch's own attribute, which a dry run monkeypatches."""

_ANY = Tensor()
"""Placeholder for arguments of an uncacheable call."""


class _UncacheableError(Exception):
    """An argument cannot be part of a cache key."""


class Memo(TransparentMode):
    """Dispatch mode that returns memoized results.

    Args:
        fakes: Makes results.
        twins: Replaces real tensors.
        leaves: Remembers real tensors whose gradients a backward would set.
        refusals: Refuses operators that need values.
        computing: Computes on known values.
        threads: Knows on which threads the mode is active.
        capability: Of the CUDA device whose operators are chosen; None: those of the CPU are.
    """

    is_dry_run = True

    def __init__(
        self,
        fakes: Fakes,
        twins: Twins,
        leaves: Leaves,
        refusals: Refusals,
        computing: Computing,
        threads: Threads,
        capability: tuple[int, int] | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fakes = fakes
        self._make, self.keep_meta, self.forget = fakes.make, fakes.keep_meta, computing.forget
        self._twins, self._leaves = twins, leaves
        self._plain_leaves = leaves.plain
        self._refusals, self._computing = refusals, computing
        self._ranges, self._threads = computing.ranges, threads
        self.capability = capability
        self._facts, self._answers = _FACTS[capability is not None], _ANSWERS[capability is not None]
        fakes.mode.number_of = self._computing.numbers.of  # type: ignore[attr-defined]
        fakes.mode.value_of = self._computing.value_of  # type: ignore[attr-defined]
        fakes.mode.refusals = self._refusals  # type: ignore[attr-defined]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if types and run_operators(tuple(types)):
            return NotImplemented  # it is for the subclass to say what it runs
        if not self.is_dry_run:
            with outside(self._fakes.mode):
                return func(*args, **(kwargs or {}))
        out = self.recall(func, args, kwargs)
        return self._ask(func, args, kwargs or {}) if out is UNKNOWN else out

    def join(self, undo: Undo) -> None:
        """Activate the mode on this thread until the steps have run."""
        self._threads.join(self, undo)

    def share(self, user: Undo) -> None:
        """Answer another counter, for as long as the dry run lasts; one that a counter began lasts for all in it."""

    def end(self) -> None:
        """Run operators as they are, for threads that still have the mode on their stack."""
        self.is_dry_run = False

    def recall(  # noqa: C901, PLR0911, PLR0912  (in parts, each would cost a call)
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> Any:
        """Return the result of an operator, or `UNKNOWN` if PyTorch has to be asked."""
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        facts = self._facts.get(identity(func)) or self._learn(func)
        kind = facts.kind
        if facts.allocates and not (facts.switches and facts.is_off(args, kwargs)):
            find = self._computing.draw if facts.random else self._computing.memory
            out = find(facts, args, kwargs or {})
            if out is not UNKNOWN:
                if kind is not _FRESH:
                    self._leaves.forget_shapes(args)
                return out
        if kind is _OTHER:
            return UNKNOWN
        if kind is _LIFTED:
            return self._lift(args[0])
        if kind is _VIEW and type(args[0]) is not DryTensor:
            return self._view_of_real(func, args, kwargs or {})
        known: list[Tensor] = []
        unknown: list[Tensor] = []
        try:
            key: tuple[Hashable, ...] = (identity(func), self._key(args, kind, known, unknown))
            if kwargs:
                key = (*key, *kwargs, self._key(kwargs.values(), kind, known, unknown))
            answer = self._answers.get(key)
        except _UncacheableError:
            unknown.append(_ANY)
            answer = None
        if not unknown and facts.computes and kind is not _VIEW and (known or facts.made or facts.takes_tensors):
            out = self._computing.run(facts, known, args, kwargs or {}, answer)
            if out is not UNKNOWN:
                return out
        if unknown and facts.asks_finite:
            out = as_finite(self._computing.wrap, func, args)
            if out is not UNKNOWN:
                return out
        if facts.compares and self._ranges:
            out = self._ranges.compared(func, args)
            if out is not UNKNOWN:
                return out
        if answer is None:
            return UNKNOWN
        if facts.random:
            self._computing.draws.omit(facts, args, kwargs or {})
        if kind is _IN_PLACE:
            target = args[0]
            if type(target) is not DryTensor:
                self._leaves.note_written(target)
            if known or self._ranges or target.numel() <= LIMIT or type(target) is not DryTensor:
                self._computing.overwrite(facts, args, kwargs or {})
            return target
        if facts.writes and not facts.is_off(args, kwargs):
            self._computing.overwrite(facts, args, kwargs or {})
        if kind is _VIEW:
            return self._view(args[0], answer, known)
        with dispatch_disabled():
            if type(answer) is Shape:
                out = self._make(*answer)
                if facts.ranged is not None:
                    self._ranges.note(facts.ranged, args, kwargs or {}, out)
                return out
            out = type(answer)([self._make(*a) if type(a) is Shape else a for a in answer])
        return out if facts.info is None else as_factorized(self._computing.wrap, facts.info, out)

    def _view(self, tensor: Tensor, answer: Any, known: list[Tensor]) -> Any:
        """Return views of a fake tensor: inference tensors only if it is one."""
        if torch.is_inference_mode_enabled() and not tensor.is_inference():
            with torch.inference_mode(mode=False):
                return self._view(tensor, answer, known)
        with dispatch_disabled():
            kind: Any = type(answer)
            make, storage = self._make, tensor.untyped_storage()
            views = make(*answer, storage) if kind is Shape else kind([make(*a, storage) for a in answer])  # type: ignore[call-arg]
        for view in tensors((views,)) if known else ():
            view.known = True  # type: ignore[attr-defined]
        return views

    def _view_of_real(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return a view of a real tensor, to which nothing writes in a dry run."""
        tensor: Tensor = args[0]
        if not isinstance(tensor, Tensor) or tensor.is_meta or not stands_for_data(type(tensor)):
            return UNKNOWN
        if tensor.requires_grad:
            self._leaves.note(tensor)
        with dispatch_disabled():
            if torch.is_inference_mode_enabled() and not tensor.is_inference():
                with torch.inference_mode(mode=False), below_autograd():
                    return func(*args, **kwargs)
            return func(*args, **kwargs)

    def _ask(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._facts[identity(func)].kind not in (_FRESH, _VIEW):
            self._leaves.forget_shapes((*args, *kwargs.values()))
        with without_classes(tensors((*args, *kwargs.values()))) as any_found:
            out = self.recall(func, args, kwargs) if any_found else UNKNOWN
            return self._ask_plain(func, args, kwargs) if out is UNKNOWN else out

    def _ask_plain(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(func, HigherOrderOperator):
            out = run_higher_order(func, self, self._fakes.mode, args, kwargs)
            if out is not UNKNOWN:
                return out
        facts, on_cuda = self._facts[identity(func)], self.capability is not None
        self._fakes.dry((args, *kwargs.values()))
        self._note_leaves((*args, *kwargs.values()))
        if facts.kind is _IN_PLACE and type(args[0]) in PLAIN:
            self._leaves.note_written(args[0])
        out = self._computing.ask(facts, args, kwargs)
        if out is not UNKNOWN:
            return out
        key = self._key_of(facts, args, kwargs)
        originals = args
        real: dict[int, Tensor] = {}
        args, kwargs = self._computing.with_known_indices(facts, args, kwargs)
        if facts.takes_dense:
            check_product(func, args, kwargs, self._refusals)
        args = self._to_fake(args, real, facts)
        kwargs = {k: self._to_fake(v, real, facts) for k, v in kwargs.items()}
        try:
            out = self._fakes.unobserved(corrected(func, originals, on_cuda=on_cuda)(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  (it is raised again)
            odd = any(map(is_odd, tensors((originals, *kwargs.values()))))
            explained = self._refusals.explain(func, error, odd=odd)
            try:
                if explained is error:
                    raise
                raise explained from error
            finally:
                del explained  # or it and this frame would keep each other, and what the program has in its frames
        if key is not None:
            self._remember(facts, key, out, args)
        computed = self._computing.ask_again(facts, originals, kwargs, result_shapes(out))
        if computed is not UNKNOWN:
            return computed
        self._mark_views(args, out)
        self._computing.overwrite(facts, originals, kwargs)
        self._ranges.note(facts.ranged, originals, kwargs, out)
        return self._given_back(facts, out, real)

    def _given_back(self, facts: Facts, out: Any, real: dict[int, Tensor]) -> Any:
        """Return the results with real tensors in place of their twins."""
        if facts.info is not None and not facts.writes:
            return as_factorized(self._computing.wrap, facts.info, out)
        return real.get(identity(out), out) if real else out

    def _remember(self, facts: Facts, key: Hashable, out: Any, args: tuple[Any, ...]) -> None:
        kind = facts.kind
        answer = True if kind is _IN_PLACE and out is args[0] else result_shapes(out)
        if answer is not None and kind is not _IN_PLACE and shares_memory(out, args) != (kind is _VIEW):
            answer = None
            if kind is _FRESH:  # whatever its schema says: _unsafe_view is a view
                self._learn(facts.func, _VIEW)
            elif facts_of(facts.func).kind is not _VIEW:
                self._learn(facts.func, _OTHER)
        if answer is not None:
            if len(self._answers) >= _CAPACITY:
                self._answers.clear()
            self._answers[key] = answer

    def _learn(self, func: Any, kind: Kind | None = None) -> Facts:
        """Cache the facts about an operator."""
        facts = facts_of(func, on_cuda=self.capability is not None)
        known = self._facts[identity(func)] = facts if kind is None else replace(facts, kind=kind)
        return known

    @staticmethod
    def _mark_views(args: tuple[Any, ...], out: Any) -> None:
        """Mark views of known tensors as known."""
        if args and type(args[0]) is DryTensor and args[0].known and shares_memory(out, args):
            for view in tensors((out,)):
                if type(view) is DryTensor:
                    view.known = True

    def _lift(self, tensor: Tensor) -> Any:
        """Return a fake tensor with the value of one that ``torch.tensor`` has made."""
        if type(tensor) is not Tensor or not can_be_faked(tensor) or tensor.is_meta:
            return UNKNOWN
        return self._computing.wrap(tensor, tensor.device)

    def _to_fake(self, value: Any, real: dict[int, Tensor], facts: Facts) -> Any:  # noqa: PLR0911  (one a kind)
        """Replace real tensors by their twins, real memory by empty memory, and the meta device by the CPU.

        In a product, a dense tensor of the same size replaces a sparse one, since the result is dense.
        """
        if isinstance(value, Tensor):
            if type(value) is DryTensor:
                return self._fakes.adopt(value)
            if isinstance(value, FakeTensor) and value.fake_mode is not self._fakes.mode:
                if has_symbolic_sizes((value,)):
                    raise self._refusals.refuse(facts.func, "is given a tensor with symbolic sizes")
            elif not can_be_faked(value):
                return self._computing.dense(value) if facts.takes_dense and is_sparse(value) else value
            has_twin = identity(value) in self._plain_leaves or value.is_meta
            twin = self._twins.of(value) if has_twin else self._fakes.like(value)
            real[identity(twin)] = value
            return twin
        if isinstance(value, torch.device):
            return self._fakes.place(value)
        if isinstance(value, torch.UntypedStorage):
            return torch.UntypedStorage(value.nbytes(), device="meta") if value.device.type != "meta" else value
        if isinstance(value, (list, tuple)):
            return type(value)([self._to_fake(v, real, facts) for v in value])
        return value

    def _note_leaves(self, values: Iterable[Any]) -> None:
        for tensor in tensors(values):
            if type(tensor) is not DryTensor and tensor.requires_grad:
                self._leaves.note(tensor)

    def _key_of(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        """Return the cache key of a call, as `recall` builds it, or None if the call is uncacheable."""
        if facts.kind is _OTHER or facts.kind is _LIFTED:
            return None
        try:
            key: tuple[Hashable, ...] = (identity(facts.func), self._key(args, facts.kind, [], []))
            return (*key, *kwargs, self._key(kwargs.values(), facts.kind, [], [])) if kwargs else key
        except _UncacheableError:
            return None

    def _key(  # noqa: C901, PLR0912  (in parts, each would cost a call)
        self, values: Iterable[Any], of: Kind, known: list[Tensor], unknown: list[Tensor]
    ) -> Hashable:
        parts: list[Hashable] = []
        for value in values:
            kind = type(value)
            if kind is DryTensor:
                if value.known:
                    known.append(value)
                elif not unknown:
                    unknown.append(value)
                made = value.made_as
                if made is not None and made[0] == identity(value) and (of is _VIEW or not made[1][4]):
                    parts.append(made[1])
                    continue
                dtype = value.dtype
                if value.layout is not torch.strided or dtype.is_complex:
                    raise _UncacheableError
                offset = value.storage_offset() if of is _VIEW else 0
                parts.append((value.shape, value.stride(), dtype, value.fake_device, offset))
            elif kind in _SCALARS:
                parts.append((kind, value))
            elif kind is not Parameter and kind is not Tensor and isinstance(value, (list, tuple)):
                kinds = tuple(map(type, value))
                parts.append(
                    (kinds, tuple(value)) if _SCALARS.issuperset(kinds) else self._key(value, of, known, unknown)
                )
            elif kind is Parameter or isinstance(value, Tensor):
                known.append(value)
                plain = self._plain_leaves.get(identity(value))
                if plain is not None:
                    parts.append(plain)
                    continue
                dtype = value.dtype
                if dtype.is_complex:
                    raise _UncacheableError
                if identity(value) not in self._plain_leaves:
                    if value.layout is not torch.strided or value.is_nested or isinstance(value, FakeTensor):
                        raise _UncacheableError
                    if _requires_grad(value):
                        self._leaves.note(value)
                parts.append((value.shape, value.stride(), dtype, value.device))
            else:
                raise _UncacheableError
        return tuple(parts)
