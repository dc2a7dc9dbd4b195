"""Watches one call, of an ``autograd.Function`` or of an operator that is opened: is what it returns explained?"""

from __future__ import annotations

from collections.abc import Mapping
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from opcount._torch.dispatch import dispatch_disabled, subclass_functions_disabled
from opcount._torch.modules import buffers_of, parameters_of, submodules_of
from opcount._torch.stand_ins import is_own_memory
from opcount._torch.tensors import storage_key, version_of
from opcount.identity import identity
from opcount.interceptor.calls import tensors
from opcount.interceptor.contents import is_copy_of, is_filled_with
from opcount.interceptor.origins import DOUBTFUL, Origin
from opcount.interceptor.storages import has_values, parts_of, print_of, revive, storage_of, storages_of
from opcount.interceptor.symbolic import size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from opcount.interceptor.origins import Origins, State

_PLAIN = (int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, type, ModuleType, type(None))
_NUMBERS = {int, float, bool, str, type(None), torch.Size, torch.dtype, torch.device}
_SIMPLE = {Tensor, nn.Parameter, *_NUMBERS}
_MESHES = "torch.distributed.device_mesh"
"""Module of what numbers ranks, perhaps thousands, and holds no data."""
_EMPTY = CellType()
_MADE = {Origin.WORK, Origin.COPY, Origin.TAINTED}
_DEPTH = 4
_MOST = 512


class Watching:
    """One call, all operators of which are looked at while the block runs.

    Args:
        origins: Knows who wrote what; None: nobody does.
        given: What the call is given; tensors in lists, dicts, modules and other objects are found.
        lenient: Whether it runs the program's own code: a tensor that this made of Python's numbers or filled with
            one number may be what it returns.
    """

    def __init__(self, origins: Origins | None, given: tuple[Any, ...], *, lenient: bool = False) -> None:
        self._origins = origins
        self._states: Any = {} if origins is None else origins.states
        self._start = 0 if origins is None else origins.tick
        self._asked = origins is not None
        self._lenient = lenient
        self._given = [Given.of(tensor) for tensor in tensors(given)] if self._asked else []
        self.known = {each.key for each in self._given}
        others = [value for value in given if type(value) not in _SIMPLE]
        if others or 0 in self.known:  # 0: a tensor without a storage of its own
            self.know(*given)

    def __enter__(self) -> Self:
        try:
            if self._origins is not None:
                self._origins.begin(self)
            return self  # noqa: TRY300  (an interrupt here ends it, too)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self._origins is not None:
            self._origins.end(self)

    def know(self, *values: Any) -> None:
        """Take more tensors for known from before the call."""
        if _NUMBERS.issuperset(map(type, values)):
            return
        self.known.update(storage_key(storage) for tensor in _reachable(values) for storage in storages_of(tensor))

    def leaves_unexplained(self, out: Any, *, constants: bool = False, strangers: bool = False) -> bool:
        """Return whether a result holds what no operator wrote that was seen.

        Args:
            out: What the call returned.
            constants: Whether results may be filled with one number.
            strangers: Whether results may be tensors of PyTorch that were not met in the call.
        """
        if not self._asked or (self._are_computed(out) and not self._changes_given()):
            return False
        with dispatch_disabled(), subclass_functions_disabled(), torch.no_grad():
            return self._changes_given() or any(
                not self._is_explained(part, constants=constants, strangers=strangers)
                for tensor in tensors((out,))
                for part in parts_of(tensor)
                if size_of(part.numel())
            )

    def may_be_in_arrays(self) -> bool:
        """Return whether an array may hold what was computed from tensors of the call.

        PyTorch does not resize memory that it has ever shared with an array. Of memory that is gone nobody knows.
        """
        made = (
            revive(key) for key, state in self._states.items() if state.tick > self._start and state.origin in _MADE
        )
        storages = (*(given.storage for given in self._given), *made)
        return any(storage is None or not is_own_memory(storage) for storage in storages)

    def _are_computed(self, out: Any) -> bool:
        """Return whether results are plain tensors that operators computed: so it is with nearly all."""
        for tensor in (out,) if type(out) is Tensor else tensors((out,)):
            key = getattr(storage_of(tensor), "_cdata", 0) if type(tensor) is Tensor else 0
            state = self._states.get(key)
            if state is None or state.origin is not Origin.WORK or key in self.known:
                return False
        return True

    def _changes_given(self) -> bool:
        """Return whether other bytes stand in an argument, and no operator has put them there."""
        if not self._lenient:
            for given in self._given:
                if given.reads_otherwise() and not self._was_touched(given.key):
                    return True
        return False

    def _was_touched(self, key: int) -> bool:
        state = self._states.get(key)
        return state is not None and state.tick > self._start

    def finds_opaque(self, out: Any, mutated: Sequence[Tensor] = ()) -> bool:
        """Return whether an operator is opaque: a result is not explained, or nothing wrote what it was to write.

        Args:
            out: What it returned.
            mutated: What it writes into.
        """
        if self._asked and mutated and not any(map(self._was_written, mutated)):
            left_alone = all(given.print is not None for given in self._given) and not self._changes_given()
            if not left_alone or next(tensors((out,)), None) is None:
                return True
        return self.leaves_unexplained(out, constants=True)

    def _was_written(self, tensor: Tensor) -> bool:
        return any(
            (state := self._states.get(storage_key(storage))) is not None
            and state.tick > self._start
            and state.origin not in {Origin.BLANK, Origin.TAINTED}
            for storage in storages_of(tensor)
        )

    def _is_explained(self, tensor: Tensor, *, constants: bool, strangers: bool) -> bool:
        storage = storage_of(tensor)
        if storage is None or storage_key(storage) in self.known:
            return storage is None or not self._was_dirtied(storage)
        state = self._states.get(storage_key(storage))
        if state is None:
            return self._lenient or bool(strangers and is_own_memory(storage))
        if state.origin is Origin.BLANK:
            return bool(size_of(tensor.numel()) <= state.filled)
        if self._lenient or state.origin in DOUBTFUL:
            return self._lenient and state.origin is not Origin.TAINTED
        return state.origin is Origin.WORK or self._is_as_put(tensor, state, constants=constants)

    def _was_dirtied(self, storage: Any) -> bool:
        """Return whether a tensor that was given was changed, and by no operator that was seen."""
        state = self._states.get(storage_key(storage))
        if state is not None and state.tick > self._start:
            return state.origin in DOUBTFUL and not self._lenient
        return any(given.key == storage_key(storage) and given.has_changed() for given in self._given)

    def _is_as_put(self, tensor: Tensor, state: State, *, constants: bool) -> bool:
        """Return whether results are the numbers that were put there, and such may be returned."""
        if state.origin is Origin.COPY:
            return self._is_still_a_copy(tensor, state)
        if not constants and size_of(tensor.numel()) > 1:
            return False
        return state.origin is Origin.DATA or is_filled_with(tensor, state.value)

    def _is_still_a_copy(self, tensor: Tensor, state: State) -> bool:
        source = state.source
        if source is None:
            return True
        if state.print is not None and state.print != print_of(storage_of(tensor)):
            return False
        storage = storage_of(source)
        origin = None if storage is None else self._states.get(storage_key(storage))
        return (origin is not None and origin.tick > state.tick) or is_copy_of(source, tensor)


class Given(NamedTuple):
    """A tensor as it was when it was given.

    Attributes:
        tensor: It.
        storage: Its own; None if it has none.
        key: That of the storage; 0 if it has none.
        version: How often it had been changed; None where PyTorch does not count.
        print: Some of the bytes in it, on the CPU.
    """

    tensor: Tensor
    storage: Any
    key: int
    version: int | None
    print: bytes | None

    @classmethod
    def of(cls, tensor: Tensor) -> Given:
        """Return a tensor as it is."""
        storage = storage_of(tensor)
        if storage is None:
            return cls(tensor, None, 0, None, None)
        version = None if tensor.is_inference() else version_of(tensor)
        return cls(tensor, storage, storage_key(storage), version, print_of(storage) if has_values(tensor) else None)

    def reads_otherwise(self) -> bool:
        """Return whether other bytes stand in it."""
        return self.print is not None and self.print != print_of(self.storage)

    def has_changed(self) -> bool:
        """Return whether it was changed."""
        return (self.version is not None and self.version != version_of(self.tensor)) or self.reads_otherwise()


def surroundings_of(function: Any) -> list[Any]:
    """Return where a function may have kept tensors: its class, and what its forward closes over or finds by name."""
    forward = function.forward
    names = getattr(getattr(forward, "__code__", None), "co_names", ())
    found = getattr(forward, "__globals__", {})
    return [forward, *(vars(kind) for kind in function.__mro__ if not _is_pytorchs(kind)), *map(found.get, names)]


def _is_pytorchs(kind: type) -> bool:
    return kind.__module__.startswith(("torch.", "builtins"))


def _reachable(values: Any) -> list[Tensor]:
    """Return the tensors in arguments: in lists, dicts, modules and other objects."""
    found: list[Tensor] = []
    pending = [(value, 0) for value in values]
    met: set[int] = set()
    while pending and len(met) < _MOST:
        value, depth = pending.pop()
        if isinstance(value, Tensor):
            found.append(value)
            continue
        if isinstance(value, _PLAIN) or depth > _DEPTH or identity(value) in met:
            continue
        met.add(identity(value))
        pending += [(inner, depth + 1) for inner in _inside(value)]
    return found


def _inside(value: Any) -> list[Any]:  # noqa: PLR0911  (one for each kind of object)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [] if _NUMBERS.issuperset(map(type, value)) else list(value)
    if type(value).__module__ == _MESHES:
        return []
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, nn.Module):
        return [parameters_of(value), buffers_of(value), submodules_of(value)]
    if type(value) is FunctionType:
        cells = value.__closure__ or ()
        return [*(cell.cell_contents for cell in cells if cell != _EMPTY), value.__dict__]
    if isinstance(value, (MethodType, BuiltinMethodType)):
        return [value.__self__]
    try:
        return [object.__getattribute__(value, "__dict__")]  # not what an object answers for any name
    except AttributeError:
        return []
