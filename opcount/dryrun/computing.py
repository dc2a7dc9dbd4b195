"""Compute on small known tensors, such as flags, counters, sizes and masks, and draw random numbers that decide.

Small layers are computed, too, of inputs that are known: what they return may decide what runs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.autograd import autograd_disabled, graph_task
from opcount._torch.dispatch import dispatch_disabled, schema_of
from opcount._torch.fake import FakeTensor
from opcount.dryrun.draws import DISCRETE_DRAWS, Draws
from opcount.dryrun.fakes import CPU, can_be_faked, is_odd
from opcount.dryrun.numbers import QUESTIONS, Numbers
from opcount.dryrun.operators import Kind, may_be_computed, returns_data, stands_for_input
from opcount.dryrun.patterns import LAYOUTS, Patterns
from opcount.dryrun.ranges import Ranges
from opcount.dryrun.real_memory import draws_seed, needs_real_memory
from opcount.dryrun.refusals import made_by_a_library
from opcount.dryrun.result_shapes import Shape, have_few_elements
from opcount.dryrun.sized_by_values import SIZED_BY_VALUES
from opcount.dryrun.tensors import DryTensor
from opcount.dryrun.unknown import UNKNOWN
from opcount.dryrun.values import FEW, INTEGERS, LIMIT, Values
from opcount.interceptor.calls import tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opcount.dryrun.fakes import Fakes
    from opcount.dryrun.operators import Facts
    from opcount.dryrun.refusals import Refusals

_COPY = torch.ops.aten.copy_.default
_SELECT = torch.ops.aten.masked_select.default
_MASKABLE = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index", "aten::_unsafe_index_put"}
_MASKS = {torch.bool, torch.uint8}


class _NotKnownError(Exception):
    """An argument has no known value."""


class Computing:
    """Run operators on known values.

    Args:
        fakes: Makes fake tensors.
        refusals: Refuses what needs an unknown value.
        dataless: Whether the model is a copy without its data; its small tensors alone have values.

    Attributes:
        values: Known values.
        draws: Random numbers.
        numbers: Results of ``tensor.item()`` without a value.
        ranges: Ranges of unknown values.
    """

    def __init__(self, fakes: Fakes, refusals: Refusals, *, dataless: bool) -> None:
        self._dataless = dataless
        self._fakes = fakes
        self._refusals = refusals
        self.values = Values(fakes.mode)
        self.draws = Draws()
        self.numbers = Numbers(self.known, self.forget, refusals)
        self.ranges = Ranges(self.wrap)
        self._patterns = Patterns(fakes, self.values, refusals)

    def value_of(self, tensor: DryTensor, asked: str) -> Tensor:
        """Return the value of a tensor, or refuse the method that needs it."""
        with dispatch_disabled(), autograd_disabled():
            value = self.values.of(tensor)
        if value is None:
            raise self._refusals.refuse(f"Tensor.{asked}")
        return value

    def real_value_of(self, tensor: Tensor, asked: str) -> tuple[Tensor, bool]:
        """Return the value of a real tensor, and whether its memory is from outside; refuse an unknown value."""
        if not self.values.is_written(tensor):
            return tensor, not self.values.is_ours(tensor)
        with dispatch_disabled(), autograd_disabled():
            value = self.values.of(tensor)
        if value is None:
            raise self._refusals.refuse(f"Tensor.{asked}")
        value.requires_grad = tensor.requires_grad
        return value, False

    def lacks_values(self, tensor: Tensor) -> bool:
        """Return whether a real tensor that was made inside stands for values that are not known."""
        if tensor.layout is torch.strided:
            return self.values.is_ours(tensor) and self.known(tensor) is None
        return self.known(tensor) is None

    def forget(self, tensor: Tensor) -> None:
        """Mark the value of a tensor as unknown."""
        self.ranges.forget(tensor)
        with dispatch_disabled(), autograd_disabled():
            self.values.forget(tensor)

    def borrow(self, twin: Tensor, real: Tensor) -> None:
        """Use a real tensor as the value of its twin; call it with dispatch and autograd disabled.

        Nothing is known of the twin of another dry run's fake tensor.
        """
        if type(twin) is not DryTensor or isinstance(real, FakeTensor):
            return
        if real.device == CPU:
            self.values.borrow(twin, real)
        elif not real.is_meta and real.numel() <= LIMIT:
            self.values.keep(twin, real.cpu())

    def wrap(self, value: Tensor, device: torch.device = CPU, *, blank: bool = False) -> Any:
        """Return a fake tensor, with a value if it is small; return a tensor that cannot be faked itself.

        Args:
            value: Any real tensor.
            device: Of the result.
            blank: Whether programs write to such tensors; integers are then fake as well.
        """
        if not can_be_faked(value):
            return value
        with dispatch_disabled(), autograd_disabled():
            stride, plain = value.stride(), value.device == CPU and not value.requires_grad
            value = value.clone() if plain else value.detach().to(CPU, copy=True)
            small = value.numel() <= LIMIT
            if value.dtype in INTEGERS and small and not blank and device == CPU:
                return self.values.adopt(value)
            fake = self._fakes.make(value.shape, stride, value.dtype, device)
            if small:
                self.values.keep(fake, value)
        return fake

    def dense(self, tensor: Tensor) -> Tensor:
        """Return a fake dense tensor in place of a sparse one."""
        return self._empty(tensor.shape, tensor)

    def _empty(self, size: Sequence[int], like: Tensor) -> Tensor:
        with dispatch_disabled():
            stride = torch.empty(size, device="meta").stride()
            fake: Tensor = self._fakes.make(size, stride, like.dtype, CPU if like.is_meta else like.device)
        return fake

    def _refuse_unknown_sparsity(self, facts: Facts, tensors: list[Tensor]) -> None:
        """Refuse an operator that depends on the number of stored elements, if it is unknown."""
        if "sparse_compressed" in facts.name:
            raise self._refusals.refuse(facts.func, "makes a sparse tensor of indices that a dry run does not know")
        if not facts.needs_stored:
            return
        for tensor in tensors:
            if isinstance(tensor, DryTensor) and tensor.layout is not torch.strided and tensor.numel():
                with dispatch_disabled():
                    stored = tensor._nnz()
                if not stored or facts.looks or "coalesce" in str(facts.func):
                    reason = "is given a sparse tensor of which a dry run does not know how many elements it stores"
                    raise self._refusals.refuse(facts.func, reason)

    def memory(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return real memory for a function of PyTorch that writes to it in C++, else `UNKNOWN`.

        A tensor that is set to a storage stays whose the storage is: PyTorch reads and writes storages that way.

        Raises:
            DryRunError: It would change memory of outside of the dry run.
        """
        func = facts.func
        if not needs_real_memory(func, args):
            return UNKNOWN
        if func is _COPY and not (args[0].is_meta or self.values.is_ours(args[0])):
            raise self._refusals.refuse("UntypedStorage.copy_", "changes memory of outside of the dry run")
        with dispatch_disabled(), autograd_disabled():
            out = func(*args, **kwargs)
            return out if schema_of(func).name == "aten::set_" else self.values.adopt(out)

    def draw(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return random numbers that may decide what runs, else `UNKNOWN`; others stand for data."""
        if draws_seed(facts.func):
            reason = "draws the seed of a dropout, of which cuDNN keeps the state for as long as the process runs"
            raise self._refusals.refuse(facts.func, reason)
        target = args[0] if facts.kind is Kind.IN_PLACE else None
        ours = target is None or type(target) is DryTensor or self.values.is_ours(target)
        out = self.draws.run(facts, args, kwargs, lambda: ours and self._decides(facts, args))
        if out is UNKNOWN:
            return self.memory(facts, args, kwargs)
        if target is None:
            return self.wrap(out)
        self.ranges.forget(target)
        with dispatch_disabled(), autograd_disabled():
            value = self.values.blank(target) if type(target) is DryTensor else None
            value = self.values.writable(target) if value is None else value
            if value is None:
                self.values.forget(target)
            else:
                value.copy_(out)
        return target

    def _decides(self, facts: Facts, args: tuple[Any, ...]) -> bool:
        inside = self._refusals.in_module or graph_task() >= 0  # computed again in a backward
        return inside or facts.name in DISCRETE_DRAWS or made_by_a_library() or needs_real_memory(facts.func, args)

    def run(self, facts: Facts, known: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any) -> Any:
        """Run an operator on small known arguments, else return `UNKNOWN`."""
        total = 0
        for tensor in known:
            total += tensor.numel()
            if total > LIMIT:
                return UNKNOWN
        if not (known or facts.takes_tensors or self._makes_small(facts, answer)):
            return UNKNOWN
        if total > FEW and not have_few_elements(answer, LIMIT):
            return UNKNOWN
        if returns_data(facts, known, dataless=self._dataless):
            return UNKNOWN
        return self._compute_with_draws(facts, args, kwargs)

    def ask(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an uncacheable operator if the values of its arguments are known, else return `UNKNOWN`."""
        out = self._ask(facts, args, kwargs)
        if out is UNKNOWN and facts.random:
            self.draws.omit(facts, args, kwargs)
        return out

    def _ask(  # noqa: PLR0911  (one for each way)
        self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        found = list(tensors((*args, *kwargs.values())))
        if facts.func is _SELECT and type(found[0]) is DryTensor:
            return self._select(*args)
        special = SIZED_BY_VALUES.get(str(facts.func)) if facts.looks or facts.kind is Kind.FRESH else None
        if special is not None:
            out = special(self.known, self._empty, *args, **kwargs)
            if out is not UNKNOWN:
                return out
        if facts.reshapes and found and type(found[0]) is not DryTensor and not found[0].is_meta:
            return self._reshape(facts, found[0], args, kwargs)
        out = self._patterns.run(facts, found, args, kwargs)
        if out is not UNKNOWN:
            return out
        self._refuse_unknown_sparsity(facts, found)
        if found and all(t.layout is not torch.strided and type(t) is not DryTensor for t in found):
            return self._on_odd(facts, found, args, kwargs)  # also products: they are the program's data
        if not may_be_computed(facts, found) or returns_data(facts, found, dataless=self._dataless):
            return UNKNOWN
        if any(map(is_odd, found)):
            return UNKNOWN if facts.random else self._on_odd(facts, found, args, kwargs)
        if facts.looks or not facts.tensors:
            out = self._compute(facts, args, kwargs)
            asked = out is UNKNOWN and facts.func in QUESTIONS
            return self.numbers.asked(facts.func, found, sys._getframe(1)) if asked else out
        limit = LIMIT if facts.kind is Kind.IN_PLACE or facts.random else FEW
        few = sum(t.numel() for t in found) <= limit
        return self._compute_with_draws(facts, args, kwargs) if few else UNKNOWN

    def ask_again(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any) -> Any:
        """Run an operator whose results have known shapes, as `ask` does others, else return `UNKNOWN`."""
        found = list(tensors((*args, *kwargs.values())))
        tried = sum(t.numel() for t in found) <= FEW or facts.kind is Kind.IN_PLACE or facts.random  # by `ask`
        if not facts.made and (tried or any(map(is_odd, found)) or not may_be_computed(facts, found)):
            return UNKNOWN
        return self.run(facts, found, args, kwargs, shapes)

    def _reshape(self, facts: Facts, tensor: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Change the shape of a real tensor, if the dry run has made it."""
        if not self.values.is_ours(tensor):
            reason = "changes the shape of a tensor that was made outside of the dry run"
            raise self._refusals.refuse(facts.func, reason)
        with dispatch_disabled(), autograd_disabled():
            return facts.func(*args, **kwargs)

    def _select(self, source: Tensor, mask: Tensor) -> Any:
        """Return a result with as many elements as a known mask selects."""
        value = self.known(mask)
        if value is None:
            return UNKNOWN
        with dispatch_disabled(), autograd_disabled():
            shape = torch.broadcast_shapes(source.shape, value.shape)
            number = int(value.expand(shape).sum())
        return self._empty((number,), source)

    def _on_odd(self, facts: Facts, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator on real sparse, quantized or nested tensors, whose values are known."""
        if any(type(t) is DryTensor or t.is_meta for t in tensors) or facts.writes:
            return UNKNOWN
        with dispatch_disabled(), autograd_disabled():
            return facts.func(*args, **kwargs)

    def overwrite(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forget the values that an operator overwrites, unless it fills the whole tensor with known ones."""
        for index, name in facts.writes:
            target = args[index] if index < len(args) else kwargs.get(name)
            for tensor in tensors((target,)):
                self.ranges.forget(tensor)
                if type(tensor) is DryTensor and not tensor.known and tensor.numel() > LIMIT:
                    continue
                if self.values.may_know(tensor):
                    with dispatch_disabled(), autograd_disabled():
                        self.values.forget(tensor)
                if facts.overwrites:
                    self._fill(facts, tensor, args)

    def with_known_indices(
        self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Replace known masks among indices by the positions of their true elements."""
        if (
            facts.kind is Kind.IN_PLACE
            or not hasattr(facts.func, "_schema")
            or schema_of(facts.func).name not in _MASKABLE
        ):
            return args, kwargs
        indices: list[Any] = []
        for index in args[1]:
            value = self.known(index) if isinstance(index, Tensor) and index.dtype in _MASKS else None
            if value is None:
                indices.append(index)
            else:
                with dispatch_disabled(), autograd_disabled():
                    positions = value.nonzero().unbind(1)
                indices.extend(self.wrap(each, _accelerator((index,))) for each in positions)
        return (args[0], indices, *args[2:]), kwargs

    def _fill(self, facts: Facts, tensor: Tensor, args: tuple[Any, ...]) -> None:
        source = args[1] if len(args) > 1 else 0
        with dispatch_disabled(), autograd_disabled():
            value = self.values.of(source) if isinstance(source, Tensor) else source
            if value is None or not (type(tensor) is DryTensor or can_be_faked(tensor)):
                return
            blank = self.values.blank(tensor)
            if blank is not None:
                facts.func(blank, *((value, *args[2:]) if len(args) > 1 else ()))

    def _makes_small(self, facts: Facts, answer: Any) -> bool:
        """Return whether an operator without tensor arguments makes a small tensor, by its cached result.

        Tensors that the program itself makes outside of modules may stand for data.
        """
        if not (facts.made and type(answer) is Shape and have_few_elements(answer, LIMIT)):
            return False
        return not stands_for_input(facts.func, answer.dtype) or self._refusals.in_module or made_by_a_library()

    def _compute_with_draws(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not facts.random or facts.is_off(args, kwargs):
            return self._compute(facts, args, kwargs)
        return self.draws.compute(facts, args, kwargs, lambda: self._compute(facts, args, kwargs))

    def _compute(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        real: list[tuple[Tensor, Tensor]] = []
        written = {place for both in facts.writes for place in both}  # indices and names
        try:
            with dispatch_disabled(), autograd_disabled():
                values = tuple(self._real(v, real, written=i in written) for i, v in enumerate(args))
                named = {k: self._real(v, real, written=k in written) for k, v in kwargs.items()}
                out = facts.compute(*values, **named)
                if facts.name == "mkldnn_rnn_layer" and out[-1] is None:  # nothing is kept for a backward
                    out = (*out[:-1], torch.empty(0, dtype=torch.uint8))
        except (_NotKnownError, NotImplementedError):
            return UNKNOWN
        asked = next((v for v in (*args, *kwargs.values()) if isinstance(v, torch.device)), None)
        device = _accelerator([tensor for _, tensor in real]) if asked is None else asked
        return self._fake(out, real, self._fakes.place(device), blank=facts.blank)

    def _real(self, value: Any, real: list[tuple[Tensor, Tensor]], *, written: bool) -> Any:
        if isinstance(value, Tensor):
            if type(value) is not DryTensor and value.is_meta:
                raise _NotKnownError
            found = self.values.writable(value) if written else self.values.of(value)
            if found is None:
                raise _NotKnownError
            real.append((found, value))
            return found
        if isinstance(value, torch.device):
            return CPU
        if isinstance(value, (list, tuple)):
            return type(value)([self._real(v, real, written=written) for v in value])
        return value

    def _fake(self, out: Any, real: list[tuple[Tensor, Tensor]], device: torch.device, *, blank: bool) -> Any:
        if isinstance(out, Tensor):
            original = next((tensor for value, tensor in real if value is out), None)
            if original is None and out.layout in LAYOUTS:
                with dispatch_disabled(), autograd_disabled():
                    self._patterns.own(out, [value for value, _ in real])
            return self.wrap(out, device, blank=blank) if original is None else original
        if isinstance(out, (list, tuple)):
            return type(out)([self._fake(o, real, device, blank=blank) for o in out])
        return out

    def known(self, tensor: Tensor) -> Tensor | None:
        """Return the value of a tensor, or None if it is unknown."""
        with dispatch_disabled(), autograd_disabled():
            return None if type(tensor) is not DryTensor and tensor.is_meta else self.values.of(tensor)


def _accelerator(tensors: Iterable[Tensor]) -> torch.device:
    """Return the device of results: that of the first argument on an accelerator, else the CPU."""
    return next((t.device for t in tensors if t.device != CPU and not t.is_meta), CPU)
