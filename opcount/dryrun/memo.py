"""Answers an operator from memory when one with the same arguments was seen before.

Most of a fake tensor's time goes into finding out what an operator returns. That depends on the shapes,
strides and dtypes of its arguments alone, unless it aliases, mutates or looks at values; so for all others the
first answer is remembered.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode

from opcount.dryrun.fakes import CPU
from opcount.dryrun.shapes import lenient
from opcount.errors import DryRunError
from opcount.interceptor import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from opcount.dryrun.fakes import Fakes
    from opcount.dryrun.twins import Twins

_NEEDS_VALUES = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)
_SCALARS = {int, float, bool, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None)}
_LOOKS_AT_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
_DEVICE = torch.ops.prim.device.default
_LIFT = torch.ops.aten.lift_fresh.default


class Kind(Enum):
    """How an operator's results relate to its arguments."""

    FRESH = "memory of their own"
    VIEW = "the first argument's memory"
    IN_PLACE = "the first argument itself"
    LIFTED = "what ``torch.tensor`` made of numbers"
    OTHER = "not to be remembered"


_NEVER = {Kind.LIFTED, Kind.OTHER}

_KINDS: dict[int, tuple[Kind, Any]] = {}
"""What is known of operators, by ``id``, which is theirs as long as they are here: their own hash takes long."""

_ANSWERS: dict[Hashable, Any] = {}
"""What calls returned; shapes alone, so that they serve every dry run of the process."""

_CAPACITY = 1 << 17


class _Shape(NamedTuple):
    """What is remembered of a tensor."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    offset: Any


class _NotRememberedError(Exception):
    """The arguments hold something that no key can stand for."""


class Memo(TorchDispatchMode):
    """Remembers what operators return.

    Args:
        fakes: Make the tensors that are answered.
        twins: Stand for tensors on the meta device.
        where: Tells the path of the running module.

    Attributes:
        refused: Why an operator was refused, the first of them; empty: none was. A model may catch that error and go
            on in a way of its own, which a real run would not take.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Leave compiled functions intact."""
        return True

    def __init__(self, fakes: Fakes, twins: Twins, where: Callable[[], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._make = fakes.make
        self._like = fakes.like
        self._twins = twins
        self._where = where
        self.refused = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = self.recall(func, args, kwargs)
        return self._ask(func, args, kwargs or {}) if out is UNKNOWN else out

    def recall(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """Return what an operator returns, or `UNKNOWN` if PyTorch has to be asked."""
        if func is _DEVICE and type(args[0]) is FakeTensor:
            return args[0].fake_device
        kind, _ = _KINDS.get(id(func)) or _classify(func)
        if kind is Kind.LIFTED:
            return self._lift(args[0]) if _is_liftable(args[0]) else UNKNOWN
        answer = _ANSWERS.get(_key_of(func, kind, args, kwargs))
        if answer is None:
            return UNKNOWN
        if kind is Kind.IN_PLACE:
            return args[0]
        with torch._C._DisableTorchDispatch():
            base = args[0].untyped_storage() if kind is Kind.VIEW else None
            if type(answer) is _Shape:
                return self._make(*answer, base)
            return type(answer)([self._make(*a, base) if type(a) is _Shape else a for a in answer])

    def _ask(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kind, _ = _KINDS[id(func)]
        key = _key_of(func, kind, args, kwargs)
        args, kwargs = self._off_meta(args), {k: self._off_meta(v) for k, v in kwargs.items()}
        try:
            out = lenient(func)(*args, **kwargs)
        except _NEEDS_VALUES as error:
            refusal = self._needs_values(func)
            self.refused = self.refused or str(refusal)
            raise refusal from error
        if key is not None:
            answer = True if kind is Kind.IN_PLACE and out is args[0] else _remember(out)
            if answer is not None and kind is not Kind.IN_PLACE and _shares_memory(out, args) != (kind is Kind.VIEW):
                answer = None
                # Whatever its schema says: _unsafe_view is a view.
                _classify(func, Kind.VIEW if kind is Kind.FRESH else Kind.OTHER)
            if answer is not None:
                if len(_ANSWERS) >= _CAPACITY:
                    _ANSWERS.clear()
                _ANSWERS[key] = answer
        return out

    def _lift(self, tensor: Tensor) -> Tensor:
        """Return a fake tensor for one that ``torch.tensor`` has made; an empty one remembers that it is constant."""
        fake: Any = self._like(tensor)
        if not tensor.numel():
            fake.constant = tensor
            fake.fake_mode.fake_tensor_converter.add_constant_storage_mapping(fake)
        return fake  # type: ignore[no-any-return]

    def _needs_values(self, func: Any) -> DryRunError:
        path = self._where() or "the model itself"
        return DryRunError(
            f"dry run: {func} in {path} needs the values of its inputs, and a dry run has none. "
            f"Count a real run instead (dry_run=False), or give that module a formula of its own."
        )

    def _off_meta(self, value: Any) -> Any:
        """Replace what is on the meta device by its like on the CPU."""
        if isinstance(value, Tensor):
            return self._twins.of(value) if value.is_meta and not isinstance(value, FakeTensor) else value
        if isinstance(value, torch.device):
            return CPU if value.type == "meta" else value
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._off_meta, value))
        return value


def _classify(func: Any, kind: Kind | None = None) -> tuple[Kind, Any]:
    """Remember of which kind an operator is."""
    known = _KINDS[id(func)] = (kind or _kind(func), func)
    return known


def _kind(func: Any) -> Kind:
    if not isinstance(func, torch._ops.OpOverload) or func.namespace == "prim":
        return Kind.OTHER
    if func is _LIFT:
        return Kind.LIFTED
    if _LOOKS_AT_VALUES.intersection(func.tags):
        return Kind.OTHER
    arguments, returns = func._schema.arguments, func._schema.returns
    aliased = [i for i, argument in enumerate(arguments) if argument.alias_info is not None]
    results = [r.alias_info for r in returns]
    if not aliased and returns and not any(results):
        return Kind.FRESH
    if aliased != [0] or len(results) != 1 or results[0] is None or torch.Tag.inplace_view in func.tags:
        return Kind.OTHER
    return Kind.IN_PLACE if results[0].is_write else Kind.VIEW


def _key_of(func: Any, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Hashable:
    """Return what a call is remembered by; None if it is not to be."""
    if kind in _NEVER:
        return None
    constants: list[Tensor] = []
    try:
        key: tuple[Hashable, ...] = (id(func), _key(args, kind, constants))
        if kwargs:
            key = (*key, *kwargs, _key(kwargs.values(), kind, constants))
    except _NotRememberedError:
        return None
    if constants and (kind is not Kind.FRESH or _all_constant((*args, *(kwargs or {}).values()))):
        return None
    return key


def _is_liftable(tensor: Tensor) -> bool:
    """Tell whether nobody will ask for the value of a tensor: of one with a single number PyTorch keeps it."""
    return type(tensor) is Tensor and tensor.device == CPU and tensor.layout is torch.strided and tensor.numel() != 1


def _all_constant(values: tuple[Any, ...]) -> bool:
    """Tell whether PyTorch computes a call on fake tensors after all, because it knows the values of each."""
    return all(getattr(tensor, "constant", None) is not None for tensor in _tensors(values))


def _key(values: Iterable[Any], of: Kind, constants: list[Tensor]) -> Hashable:
    parts: list[Hashable] = []
    for value in values:
        kind = type(value)
        if kind is FakeTensor:
            dtype = value.dtype
            if value.layout is not torch.strided or dtype.is_complex:
                raise _NotRememberedError
            if value.constant is not None:
                constants.append(value)
            offset = value.storage_offset() if of is Kind.VIEW else 0
            parts.append((value.shape, value.stride(), dtype, value.fake_device, offset))
        elif kind in _SCALARS:
            parts.append((kind, value))
        elif isinstance(value, (list, tuple)):
            kinds = tuple(map(type, value))
            parts.append((kinds, tuple(value)) if _SCALARS.issuperset(kinds) else _key(value, of, constants))
        elif isinstance(value, Tensor):
            if of is not Kind.FRESH or value.layout != torch.strided or value.dtype.is_complex or value.is_nested:
                raise _NotRememberedError
            parts.append((value.shape, value.stride(), value.dtype, value.device))
        else:
            raise _NotRememberedError
    return tuple(parts)


def _remember(out: Any) -> Any:
    """Return what to answer the next time, or None where that is not shapes alone."""
    if type(out) is FakeTensor:
        return (
            _Shape(tuple(out.shape), out.stride(), out.dtype, out.fake_device, out.storage_offset())
            if _is_plain(out)
            else None
        )
    if type(out) in (tuple, list):
        answers = [_remember(o) if isinstance(o, Tensor) else o for o in out]
        fine = all(type(a) is _Shape or isinstance(a, (int, float)) or a is None for a in answers)
        lost = any(a is None and o is not None for a, o in zip(answers, out, strict=True))
        return type(out)(answers) if fine and not lost else None
    return None


def _shares_memory(out: Any, args: tuple[Any, ...]) -> bool:
    """Tell whether a result is made of the first argument's memory."""
    first = args[0] if args else None
    if not isinstance(first, Tensor) or first.layout is not torch.strided:
        return False
    storage = first.untyped_storage()._cdata
    return any(t.untyped_storage()._cdata == storage for t in _tensors(out))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _is_plain(tensor: FakeTensor) -> bool:
    symbolic = any(not isinstance(n, int) for n in (*tensor.shape, *tensor.stride()))
    return not (symbolic or tensor.constant is not None or tensor.dtype.is_complex or tensor.layout != torch.strided)
