"""Random numbers that decide what runs, such as ``torch.rand(()) < layerdrop``, as a real run draws them.

They come from PyTorch's default generator, whose state is put back at the end. A draw of many numbers, such as a
dropout mask, is left out until a number is asked for that comes after it; then it is made up for, up to a limit.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.autograd import autograd_disabled
from opcount._torch.dispatch import dispatch_disabled
from opcount._torch.functorch import transforms_disabled
from opcount.dryrun.fakes import CPU
from opcount.dryrun.operators import MAKERS
from opcount.dryrun.tensors import DryTensor, DryZeros
from opcount.dryrun.unknown import UNKNOWN
from opcount.dryrun.values import LIMIT
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opcount.dryrun.operators import Facts

_GENERATOR = torch.default_generator

_LIMIT_OF_OMITTED = 1 << 18
"""Largest number of omitted random numbers that are made up for."""

_INTEGER_DRAWS = frozenset({"randint", "randint_like", "randperm", "random_"})

DISCRETE_DRAWS = _INTEGER_DRAWS | {"bernoulli_"}
"""Draws that do not stand for data: indices, and masks as of a dropout."""

_REPEATABLE = {*MAKERS, "native_dropout", "bernoulli", "multinomial", "cauchy_"}
"""Operators that take as many random numbers from a generator whatever the values of their arguments."""


class Draws:
    """Draws from the default generator."""

    def __init__(self) -> None:
        self._before: Tensor | None = None
        self._left = 0
        self._ours: set[int] = set()
        self._omitted: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
        self._number = 0
        self._lost = False

    def run(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any], wanted: Callable[[], bool]) -> Any:
        """Return the random numbers of an operator that only makes some, else `UNKNOWN`.

        Args:
            facts: About the operator.
            args: Its arguments.
            kwargs: Its named arguments.
            wanted: Returns whether their values matter.
        """
        if facts.name not in MAKERS or not _draws(facts, args, kwargs):
            return UNKNOWN
        number = _number(facts.name, args)
        decides = number == 1 or facts.name in _INTEGER_DRAWS  # others may wait
        with dispatch_disabled(), autograd_disabled():
            self._look()
            if number > LIMIT or self._lost or (self._omitted and not decides) or not wanted():
                return UNKNOWN
            self._make_up()
            out = facts.func(*map(_stand_in, args), **{k: _stand_in(v) for k, v in kwargs.items()})
            self._note()
        return out

    def compute(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]) -> Any:
        """Return what ``run`` makes of known values and of the random numbers that a real run takes, else `UNKNOWN`."""
        if not _draws(facts, args, kwargs):
            return UNKNOWN
        with dispatch_disabled(), autograd_disabled():
            self._look()
            if self._lost:
                return UNKNOWN
            self._make_up()
            out = run()
            self._note()
        return out

    def omit(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember a draw that is not made."""
        if not _draws(facts, args, kwargs):
            return
        with dispatch_disabled(), autograd_disabled():
            self._look()
        self._number += _number(facts.name, args)
        if self._lost or facts.name not in _REPEATABLE or self._number > _LIMIT_OF_OMITTED:
            self._lost, self._omitted = True, []
        else:
            shapes = tuple(_Shape(v) if isinstance(v, Tensor) else v for v in args)
            self._omitted.append((facts.func, shapes, kwargs))

    def flush(self) -> None:
        """Make up for omitted draws before the program reads the state of the generator."""
        with transforms_disabled(), dispatch_disabled(), autograd_disabled():
            if self._omitted:
                self._look()
                self._make_up()

    def end(self) -> None:
        """Put the state of the generator back, unless the program has set it."""
        with transforms_disabled(), dispatch_disabled(), autograd_disabled():
            if self._before is not None and _state() in self._ours:
                _GENERATOR.set_state(self._before)
        self._before = None

    def _look(self) -> None:
        """See whether the program has set the state of the generator."""
        now = _state()
        if self._before is not None and now == self._left:
            return
        if now not in self._ours:
            self._before = _GENERATOR.get_state()
            if self._lost and _is_fresh(now):
                self._lost = False
        self._omitted, self._number = [], 0
        self._note()

    def _note(self) -> None:
        self._left = _state()
        self._ours.add(self._left)

    def _make_up(self) -> None:
        for func, args, kwargs in self._omitted:
            func(*map(_stand_in, args), **{k: _stand_in(v) for k, v in kwargs.items()})
        self._omitted, self._number = [], 0
        self._note()


class _Shape:
    """Layout of a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.size, self.stride, self.dtype = tensor.shape, tensor.stride(), tensor.dtype


def _stand_in(value: Any) -> Any:
    """Return a real tensor in place of a layout or a fake tensor, and the CPU in place of the meta device."""
    if isinstance(value, Tensor):
        value = _Shape(value)
    if isinstance(value, _Shape):
        return torch.empty_strided(value.size, value.stride, dtype=value.dtype, device=CPU).fill_(1)
    return CPU if isinstance(value, torch.device) else value


def _state(generator: torch.Generator = _GENERATOR) -> int:
    return hash(bytes(generator.get_state().numpy()))


def _is_fresh(state: int) -> bool:
    """Return whether a state is that of a generator that was just seeded."""
    return _state(torch.Generator().manual_seed(_GENERATOR.initial_seed())) == state


def _draws(facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a call takes numbers from the default generator: not at a dropout rate of 0, nor in evaluation."""
    if facts.is_off(args, kwargs):
        return False
    values = (*args, *kwargs.values())
    if any(isinstance(v, torch.Generator) and v is not _GENERATOR for v in values):
        return False
    if any(isinstance(v, DryTensor) and type(v) not in {DryTensor, DryZeros} for v in values):
        return False  # it is asked for again without its class
    devices = [v.device if isinstance(v, Tensor) else v for v in values if isinstance(v, (Tensor, torch.device))]
    return all(device.type in {"cpu", "meta"} for device in devices)


def _number(name: str, args: tuple[Any, ...]) -> int:
    """Return how many random numbers a call makes."""
    if name in {"rand", "randn"}:
        return prod(args[0])
    if name == "randperm":
        return int(args[0])
    if name == "randint":
        return prod(next(v for v in args if isinstance(v, (list, tuple))))
    return sum(value.numel() for value in args if isinstance(value, Tensor))


_USERS: list[Draws] = []
"""Those of the dry runs under way."""


def _get_rng_state() -> Tensor:
    for draws in _USERS:
        draws.flush()
    return _of_torch()


_of_torch = torch.get_rng_state
_PATCHES = Patches({(torch, "get_rng_state"): _get_rng_state, (torch.random, "get_rng_state"): _get_rng_state})


@contextmanager
def draws_kept(draws: Draws) -> Iterator[None]:
    """Monkeypatch the function that reads the state of the generator; put the state back on leaving."""
    with Undo() as undo:
        undo.add(draws.end)
        undo.add(partial(_leave, draws))
        _USERS.append(draws)
        _PATCHES.use(undo)
        yield


def _leave(draws: Draws) -> None:
    if draws in _USERS:
        _USERS.remove(draws)
