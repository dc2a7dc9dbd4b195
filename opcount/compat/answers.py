"""What analyzers of all packages answer, made of their numbers by module and operator."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from torch import nn

from opcount.compat.structure import canonical_names

if TYPE_CHECKING:
    from collections.abc import Mapping


class Answers:
    """Answers by module and operator.

    Modules go by their full names, the model by ``""``; a shared module by the first of its names.

    Args:
        model: What is analyzed.
        inputs: What it is called with.
        dry_run: Whether it is called without computing; None: where its parameters are on the meta device.
    """

    def __init__(self, model: nn.Module, inputs: object, *, dry_run: bool | None = None) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"{type(self).__name__}: expected an nn.Module, got {model!r} of type {type(model).__name__}. "
                f"Wrap a function in a module's forward."
            )
        self._model = model
        self._inputs = inputs
        self._dry_run = dry_run
        self._names: dict[str, str] = {}

    @property
    def model(self) -> nn.Module:
        """What is analyzed."""
        return self._model

    def total(self, module_name: str = "") -> int:
        """Return the number of the whole module, all operators."""
        return sum(self.by_operator(module_name).values())

    def by_operator(self, module_name: str = "") -> Counter[str]:
        """Return the numbers of one module, children included, by operator: ``conv``."""
        return self.by_module_and_operator()[self.canonical_module_name(module_name)]

    def by_module(self) -> Counter[str]:
        """Return the number of every module, children included; 0 for those that computed nothing."""
        return Counter({name: sum(words.values()) for name, words in self.by_module_and_operator().items()})

    def by_module_and_operator(self) -> dict[str, Counter[str]]:
        """Return the numbers of every module, children included, by operator."""
        raise NotImplementedError

    def canonical_module_name(self, name: str) -> str:
        """Return the name that a module is counted under: the first of a shared module's.

        Raises:
            AssertionError: That is no string; the references assert it.
            KeyError: The model has no such module.
        """
        if not isinstance(name, str):
            raise AssertionError(self._unknown_module(name))  # noqa: TRY004  (what the references raise)
        if not self._names:
            self._names = canonical_names(self._model)
        if name not in self._names:
            raise KeyError(self._unknown_module(name))
        return self._names[name]

    def _unknown_module(self, name: object) -> str:
        return (
            f"{type(self).__name__}: expected the name of a module of the model, got {name!r} of type "
            f"{type(name).__name__}. Names are those of named_modules(), the model itself is ''."
        )


def pairs_of(args: tuple[Any, ...], kwargs: Mapping[str, object]) -> dict[str, Any]:
    """Return handles by operator: of names and handles in turn, and of keywords, which come first.

    Raises:
        TypeError: A name has no handle.
    """
    if len(args) % 2:
        raise TypeError(
            f"set_op_handle: expected pairs of an operator's name and a handle, got {len(args)} arguments, "
            f"the last {args[-1]!r} of type {type(args[-1]).__name__}. Pass a handle for it, or None."
        )
    return {**kwargs, **dict(zip(args[::2], args[1::2], strict=True))}


def one_of(who: str, mode: str, known: tuple[str, ...]) -> str:
    """Return a mode that is known.

    Raises:
        ValueError: It is not.
    """
    if mode not in known:
        names = " or ".join(map(repr, known))
        raise ValueError(f"{who}: expected {names}, got {mode!r} of type {type(mode).__name__}. Pass one of these.")
    return mode


ANCESTORS = ("owner", "caller")
TRACER_WARNINGS = ("all", "no_tracer_warning", "none")
