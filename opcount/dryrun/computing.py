"""Computes what is small and known: flags, counters, sizes, masks; never a product, and nothing random."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.utils.data
from torch import Tensor

from opcount._torch.dispatch import aten, dispatch_disabled, schema_of
from opcount._torch.fake import FakeTensor
from opcount._torch.names import STORAGE_FILE, TENSOR_FILE
from opcount.dryrun.checks import asking
from opcount.dryrun.fakes import CPU, can_be_faked
from opcount.dryrun.numbers import Numbers
from opcount.dryrun.operators import FINITE_ANSWERS, Kind, stands_for_input
from opcount.dryrun.patterns import LAYOUTS, Patterns
from opcount.dryrun.refusals import made_by_a_library
from opcount.dryrun.sized_by_values import SIZED_BY_VALUES
from opcount.dryrun.tensors import DryTensor, stands_for_data
from opcount.dryrun.unknown import UNKNOWN
from opcount.dryrun.values import LIMIT, LIMIT_OF_INTEGERS, Values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opcount.dryrun.fakes import Fakes
    from opcount.dryrun.operators import Facts
    from opcount.dryrun.refusals import Refusals

_SELECT = torch.ops.aten.masked_select.default
_MASKABLE = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index", "aten::_unsafe_index_put"}
_INTEGERS = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_MASKS = {torch.bool, torch.uint8}


_WRITTEN_IN_C = {"ctc_loss", "pad_packed_sequence", "pack_padded_sequence"}
"""Functions of PyTorch in Python whose numbers are written in C++."""

_EMPTY = torch.ops.aten.empty.memory_format

_DATA = str(Path(torch.utils.data.__file__).parent)
"""Loaders shuffle and seed by random numbers, on which no size depends; they read them where no mode sees it."""

_SCALAR = aten("_local_scalar_dense.default")


class _NotKnownError(Exception):
    """An argument has no known value."""


class Computing:
    """Runs operators on known values."""

    def __init__(self, fakes: Fakes, refusals: Refusals) -> None:
        self._fakes = fakes
        self._refusals = refusals
        self._values = Values()
        self.numbers = Numbers(self.known, refusals)
        self._patterns = Patterns(fakes, self._values, refusals)

    def value_of(self, tensor: DryTensor, asked: str) -> Tensor:
        """Return the value of a tensor, or refuse what asks for it."""
        with for_real():
            value = self._values.of(tensor)
        if value is None:
            raise self._refusals.refuse(f"Tensor.{asked}")
        return value

    def real_value_of(self, tensor: Tensor, asked: str) -> tuple[Tensor, bool]:
        """Return the real tensor that has the value of a real one, and whether that is memory of outside; or refuse."""
        if not self._values.is_written(tensor):
            return tensor, not self._values.is_ours(tensor)
        with for_real():
            value = self._values.of(tensor)
        if value is None:
            raise self._refusals.refuse(f"Tensor.{asked}")
        return value.requires_grad_(tensor.requires_grad), False

    def forget(self, tensor: Tensor) -> None:
        """Take the value of a real tensor for unknown."""
        with for_real():
            self._values.forget(tensor)

    def is_written(self, tensor: Tensor) -> bool:
        """Tell whether a real tensor has another value than its memory holds."""
        return self._values.is_written(tensor)

    def is_ours(self, tensor: Tensor) -> bool:
        """Tell whether the dry run has made a real tensor."""
        return self._values.is_ours(tensor)

    def is_our_memory(self, storage: torch.UntypedStorage) -> bool:
        """Tell whether the dry run has made a piece of memory."""
        return self._values.is_our_memory(storage)

    def borrow(self, twin: Tensor, real: Tensor) -> None:
        """Let a real tensor be the value of its twin; call it `for_real`."""
        if type(twin) is DryTensor and real.device == CPU:
            self._values.borrow(twin, real)

    def wrap(self, value: Tensor, *, blank: bool = False) -> Any:
        """Return a fake tensor, with a value if it is small; one that has no plain fake one is returned itself.

        Args:
            value: What it stands for.
            blank: Whether the program made it to write to it: then small integers are fake, too.
        """
        if not can_be_faked(value):
            return value
        with for_real():
            value = value.detach().clone()
            small = value.numel() <= LIMIT
            if value.dtype in _INTEGERS and not blank and value.device == CPU and value.numel() <= LIMIT_OF_INTEGERS:
                return self._values.adopt(value)
            fake = self._fakes.make(value.shape, value.stride(), value.dtype, value.device)
            if small:
                self._values.keep(fake, value)
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
        """Refuse a sparse tensor that was made inside, where it matters how many elements it stores."""
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

    def memory(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return real memory for functions of PyTorch that write to it where no mode sees them, else `UNKNOWN`."""
        frame = asking(sys._getframe(1))
        if frame is None or any(isinstance(value, FakeTensor) for value in args):
            return UNKNOWN
        code = frame.f_code
        deep = code.co_name == "__deepcopy__" and code.co_filename == TENSOR_FILE
        copies = deep or code.co_filename == STORAGE_FILE
        loads = code.co_filename.startswith(_DATA)
        if not (copies or loads) and (code.co_name not in _WRITTEN_IN_C or func is not _EMPTY):
            return UNKNOWN
        with for_real():
            return self._values.adopt(func(*args, **kwargs))

    def run(self, facts: Facts, known: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any) -> Any:
        """Return what an operator returns if it is small, and the values of its arguments are known."""
        total = 0
        for tensor in known:
            total += tensor.numel()
            if total > LIMIT and not (facts.bounded and tensor.dtype in _INTEGERS and _fit(known)):
                return UNKNOWN
        if not (known or facts.takes_tensors or self._makes_small(facts, answer)):
            return UNKNOWN
        return self._compute(facts, args, kwargs)

    def ask(  # noqa: C901, PLR0911  (one for each way)
        self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return what an operator returns of which no answer can be remembered, if that is known."""
        tensors = list(_tensors((*args, *kwargs.values())))
        if facts.func is _SELECT and type(tensors[0]) is DryTensor:
            return self._select(*args)
        special = SIZED_BY_VALUES.get(str(facts.func)) if facts.looks or facts.kind is Kind.FRESH else None
        if special is not None:
            out = special(self.known, self._empty, *args, **kwargs)
            if out is not UNKNOWN:
                return out
        if facts.reshapes and tensors and type(tensors[0]) is not DryTensor and not tensors[0].is_meta:
            return self._reshape(facts, tensors[0], args, kwargs)
        out = self._patterns.run(facts, tensors, args, kwargs)
        if out is not UNKNOWN:
            return out
        self._refuse_unknown_sparsity(facts, tensors)
        if tensors and all(t.layout is not torch.strided and type(t) is not DryTensor for t in tensors):
            return self._on_odd(facts, tensors, args, kwargs)  # also products: they are the program's data
        if (
            not (tensors or facts.takes_tensors)
            or not facts.computes
            or facts.reshapes
            or facts.aliases
            or facts.kind is Kind.VIEW
        ):
            return UNKNOWN
        if any(not stands_for_data(type(t)) and type(t) is not DryTensor for t in tensors):
            return UNKNOWN
        odd = any(type(t) is not DryTensor and not can_be_faked(t) for t in tensors)
        if odd:
            return self._on_odd(facts, tensors, args, kwargs)
        if facts.looks or not facts.tensors:
            out = self._compute(facts, args, kwargs)
            return self.numbers.asked(tensors[0], sys._getframe(1)) if out is UNKNOWN and facts.func is _SCALAR else out
        if sum(t.numel() for t in tensors) <= LIMIT or (facts.bounded and _fit(tensors)):
            return self._compute(facts, args, kwargs)
        return UNKNOWN

    def _reshape(self, facts: Facts, tensor: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Change the shape of a real tensor, if the dry run has made it."""
        if not self._values.is_ours(tensor):
            reason = "changes the shape of a tensor that was made outside of the dry run"
            raise self._refusals.refuse(facts.func, reason)
        with for_real():
            return facts.func(*args, **kwargs)

    def as_finite(self, func: Any, args: tuple[Any, ...]) -> Any:
        """Return the answer to a question whether a single number is finite: it is taken to be, as in a real run."""
        number = args[0]
        if not isinstance(number, Tensor) or number.numel() != 1 or not number.dtype.is_floating_point:
            return UNKNOWN
        answer = FINITE_ANSWERS[func](*args)
        if answer is None:
            return UNKNOWN
        with for_real():
            return self._values.adopt(torch.full(number.shape, answer, device="cpu"))

    def as_factorized(self, info: int, results: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the results of a factorization, where the one that counts failures says that there was none."""
        size = results[info].shape
        if results[info].device != CPU or size.numel() > LIMIT_OF_INTEGERS:
            return tuple(results)
        with for_real():
            none = self._values.adopt(torch.zeros(size, dtype=torch.int32, device="cpu"))
        return (*results[:info], none, *results[info + 1 :])

    def _select(self, source: Tensor, mask: Tensor) -> Any:
        """Return as many elements as a known mask selects."""
        value = self.known(mask)
        if value is None:
            return UNKNOWN
        with for_real():
            shape = torch.broadcast_shapes(source.shape, value.shape)
            number = int(value.expand(shape).sum())
        return self._empty((number,), source)

    def _on_odd(self, facts: Facts, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator on sparse, quantized or nested tensors that are real: their values are at hand."""
        if any(type(t) is DryTensor or t.is_meta for t in tensors) or facts.writes:
            return UNKNOWN
        with for_real():
            return facts.func(*args, **kwargs)

    def overwrite(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forget the values of what an operator writes to, unless it writes something known over all of it."""
        for index, name in facts.writes:
            target = args[index] if index < len(args) else kwargs.get(name)
            for tensor in _tensors(target):
                if type(tensor) is DryTensor and not tensor.known and tensor.numel() > LIMIT:
                    continue
                with for_real():
                    self._values.forget(tensor)
                if facts.overwrites:
                    self._fill(facts, tensor, args)

    def with_known_indices(
        self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Replace known masks among indices by the positions that they stand for."""
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
                with for_real():
                    positions = value.nonzero().unbind(1)
                indices.extend(map(self.wrap, positions))
        return (args[0], indices, *args[2:]), kwargs

    def _fill(self, facts: Facts, tensor: Tensor, args: tuple[Any, ...]) -> None:
        source = args[1] if len(args) > 1 else 0
        with for_real():
            value = self._values.of(source) if isinstance(source, Tensor) else source
            if value is None or not (type(tensor) is DryTensor or can_be_faked(tensor)):
                return
            blank = self._values.blank(tensor)
            if blank is not None:
                facts.func(blank, *((value, *args[2:]) if len(args) > 1 else ()))

    def _makes_small(self, facts: Facts, answer: Any) -> bool:
        """Tell whether an operator without tensors makes a small one, by the answer that it got before.

        What is taken for data is made by the program itself, outside of the modules.
        """
        if not facts.made or answer is None or not hasattr(answer, "size"):
            return False
        number = 1
        for n in answer.size:
            number *= n
        return number <= LIMIT and (
            not stands_for_input(facts.func, answer.dtype) or self._refusals.in_module or made_by_a_library()
        )

    def _compute(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        real: list[tuple[Tensor, Tensor]] = []
        writes = {index for index, _ in facts.writes}
        names = {name for _, name in facts.writes}
        try:
            with for_real():
                values = tuple(self._real(v, real, written=i in writes) for i, v in enumerate(args))
                named = {k: self._real(v, real, written=k in names) for k, v in kwargs.items()}
                out = facts.func(*values, **named)
        except (_NotKnownError, NotImplementedError):
            return UNKNOWN
        return self._fake(out, real, blank=facts.blank)

    def _real(self, value: Any, real: list[tuple[Tensor, Tensor]], *, written: bool) -> Any:
        if isinstance(value, Tensor):
            if type(value) is not DryTensor and value.is_meta:
                raise _NotKnownError
            found = self._values.writable(value) if written else self._values.of(value)
            if found is None:
                raise _NotKnownError
            real.append((found, value))
            return found
        if isinstance(value, torch.device):
            return CPU
        if isinstance(value, (list, tuple)):
            return type(value)([self._real(v, real, written=written) for v in value])
        return value

    def _fake(self, out: Any, real: list[tuple[Tensor, Tensor]], *, blank: bool) -> Any:
        if isinstance(out, Tensor):
            original = next((tensor for value, tensor in real if value is out), None)
            if original is None and out.layout in LAYOUTS:
                with for_real():
                    self._patterns.own(out, [value for value, _ in real])
            return self.wrap(out, blank=blank) if original is None else original
        if isinstance(out, (list, tuple)):
            return type(out)([self._fake(o, real, blank=blank) for o in out])
        return out

    def known(self, tensor: Tensor) -> Tensor | None:
        """Return the value of a tensor; None: it is not known."""
        with for_real():
            return None if type(tensor) is not DryTensor and tensor.is_meta else self._values.of(tensor)


def _fit(tensors: list[Tensor]) -> bool:
    """Tell whether tensors hold integers, and not too many for a result to be computed, broadcast."""
    if any(t.dtype not in _INTEGERS for t in tensors) or sum(t.numel() for t in tensors) > LIMIT_OF_INTEGERS:
        return False
    try:
        return int(torch.broadcast_shapes(*[t.shape for t in tensors]).numel()) <= LIMIT_OF_INTEGERS
    except RuntimeError:
        return False


@contextmanager
def for_real() -> Iterator[None]:
    """Compute, unseen by modes and by autograd."""
    with dispatch_disabled(), torch.inference_mode(mode=False), torch.no_grad():
        yield


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
