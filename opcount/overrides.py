"""Formulas for one count alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.coverage import FREE
from opcount.errors import FormulaError
from opcount.registry import USER, Formula, Registry, family_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opcount.registry import Pricing


def registry_with(formulas: Mapping[Any, Pricing | None] | None) -> Registry:
    """Return a registry in which ``formulas`` come before all others; None declares an operator free.

    Raises:
        FormulaError: A key is no operator, or a value is neither a function nor None.
    """
    if not formulas:
        return USER
    registry = Registry(USER)
    for target, function in formulas.items():
        if function is not None and not callable(function):
            raise FormulaError(
                f"OpCounter: expected a formula (out, *args, **kwargs) -> Cost or None for {target!r}, "
                f"got {function!r} of type {type(function).__name__}. Pass a function, or None to ignore the operator."
            )
        formula = Formula(ignored, FREE) if function is None else Formula(function, family_of(function))
        registry.add(target, formula, replace=True)
    return registry


def ignored(_out: object, /, *_args: object, **_kwargs: object) -> Cost:
    """Ignored on request."""
    return Cost()
