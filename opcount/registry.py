"""Registry of formulas: which one prices an operator.

Formulas are found by name, so that one may be written for an operator that this build of PyTorch does not have.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, update_wrapper, wraps
from typing import Any, NamedTuple, TypeVar

from opcount._torch.dispatch import HigherOrderOperator, OpOverload, OpOverloadPacket
from opcount.cost import Cost
from opcount.coverage import FREE, UNCOUNTED
from opcount.errors import FormulaError

Pricing = Callable[..., Cost]
"""``formula(out, *args, **kwargs) -> Cost``: a pure function of one call of the operator."""

P = TypeVar("P", bound=Pricing)


class Formula(NamedTuple):
    """A registered formula.

    Attributes:
        price: The function.
        family: Its file's name, ``"matmul"``.
        when: Whether the formula is meant for that call, on the same arguments; None: for every one.
        sealed: Whether the formula is only for calls that cannot be opened: elsewhere the parts say more.
    """

    price: Pricing
    family: str
    when: Callable[..., bool] | None = None
    sealed: bool = False

    @property
    def from_user(self) -> bool:
        """Return whether the formula is not one of opcount's own."""
        return not _origin(self)[0].startswith("opcount.")

    @property
    def text(self) -> str:
        """The mathematics: the first paragraph of the formula's docstring."""
        paragraph = (inspect.getdoc(self.price) or _origin(self)[1]).split("\n\n")[0]
        return " ".join(paragraph.split())


class ByClass:
    """A formula for functions of autograd that is given their class: ``price(function, out, *args)``.

    Some libraries make a class for each set of options, and do not pass these to ``apply``.
    """

    def __init__(self, price: Callable[..., Cost]) -> None:
        update_wrapper(self, price)
        self._price = price

    def __call__(self, out: Any, /, *_: Any, **__: Any) -> Cost:
        """Refuse a call of no class."""
        raise FormulaError(f"formula: expected the class of an autograd.Function, got {out!r}. Use ByClass.of(class).")

    def of(self, function: type) -> Pricing:
        """Return the formula of one class."""
        return wraps(self._price)(partial(self._price, function))


def suits(price: Pricing, function: Any) -> bool:
    """Return whether a class of functions takes as many arguments as a formula asks for.

    Formulas are found by the short names of classes, and programs have classes of their own under these names.
    """
    function = getattr(function, "_forward_cls", function)
    try:
        least, most = _counted(function.forward)
        asked_least, asked_most = _counted(price)
    except (TypeError, ValueError):
        return True
    has_context = function.setup_context is _no_setup_context()
    before = 2 if isinstance(price, ByClass) else 1
    return asked_least - before <= most - has_context and least - has_context <= asked_most - before


def _no_setup_context() -> object:
    from torch.autograd import Function  # noqa: PLC0415

    return Function.setup_context


def _counted(function: Callable[..., Any]) -> tuple[float, float]:
    """Return the least and the most positional arguments that a function takes."""
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    most = math.inf if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)
    return sum(p.default is p.empty for p in positional), most


class OperatorNames:
    """Names of the operators in a namespace: ``OperatorNames("aten").mm`` is ``"aten.mm"``, in every PyTorch."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def __getattr__(self, name: str) -> str:
        return f"{self._namespace}.{name}"


aten = OperatorNames("aten")


class Registry:
    """Formulas by the name of an overload (``aten.mean.dim``) or of its packet (``aten.mean``)."""

    def __init__(self, parent: Registry | None = None) -> None:
        self._parent = parent
        self._formulas: dict[object, list[Formula]] = {}
        self._modules: set[type] = set()

    def add(self, target: object, formula: Formula, *, replace: bool = False) -> None:
        """Register a formula.

        Raises:
            FormulaError: The target is nothing that can be called under a counter, or has such a formula.
        """
        key = target_key(target)
        clash = next((f for f in self.find([key]) if f.when is formula.when), None)
        if clash is not None and not replace and _origin(clash) != _origin(formula):
            raise FormulaError(
                f"formula: {key} has a formula already, {'.'.join(_origin(clash))}. "
                f"Pass OpCounter(formulas={{...}}) to replace it for one count."
            )
        if isinstance(key, type) and not _is_function(key):
            self._modules.add(key)
        kept = [f for f in self._formulas.get(key, ()) if f.when is not formula.when]
        self._formulas[key] = sorted([*kept, formula], key=lambda f: f.when is None)

    def find(self, keys: Sequence[object]) -> list[Formula]:
        """Return the formulas of the first key that has any, else the parent's: conditional ones first."""
        for key in keys:
            if key in self._formulas:
                return self._formulas[key]
        return self._parent.find(keys) if self._parent is not None else []

    def modules(self) -> set[type]:
        """Return the module classes that have a formula, the parent's included."""
        return self._modules | (self._parent.modules() if self._parent is not None else set())

    def users_targets(self) -> list[object]:
        """Return the targets that are registered here and in the parents, except opcount's own."""
        above = [] if self._parent is None else self._parent.users_targets()
        return above if self is BUILTIN else [*self._formulas, *above]

    def targets(self) -> Mapping[object, list[Formula]]:
        """Return all that is registered here, by key."""
        return self._formulas


BUILTIN = Registry()
"""Formulas of opcount's own; filled by importing `opcount.formulas`."""

USER = Registry(BUILTIN)
"""Formulas of the user, added by `formula` for every count."""


def builtin(*targets: str, when: Callable[..., bool] | None = None, sealed: bool = False) -> Callable[[P], P]:
    """Register a formula of opcount's own; the family is the name of its file."""

    def register(function: P) -> P:
        for target in targets:
            BUILTIN.add(target, Formula(function, function.__module__.rpartition(".")[2], when, sealed))
        return function

    return register


def formula(*targets: object) -> Callable[[P], P]:
    """Register how an operator is priced, in every count from now on.

    Args:
        targets: Overloads (``torch.ops.mylib.f.default``), packets (``torch.ops.mylib.f``), their names
            (``"mylib.f"``), higher-order operators, Triton kernels, or `nn.Module` classes and classes of
            `autograd.Function`, which are then priced as a whole.

    The formula of a function takes ``(out, *args)`` of its ``apply``, and stands for all that runs inside. It may be
    registered by the class or by the name, ``"autograd.MyFunction"``. Its backward costs as much for each gradient that
    it returns, unless ``"autograd.MyFunctionBackward"`` has a formula: that is asked when the function is applied, with
    the same arguments.

    A composite operator such as ``aten.linear`` is charged whole by its formula in every grad mode; what it is made of
    is then charged in backward only. Inside ``torch.vmap`` such a formula is an error.

    Raises:
        FormulaError: A target is none of these, or a formula for it was registered before.

    Example:
        >>> @formula("mylib.scale")
        ... def scale(out, x, factor):
        ...     return Cost(arith=out.numel())
    """
    if not targets:
        raise FormulaError("formula: expected at least one target, got none. Write @formula(torch.ops.lib.op).")

    def register(function: P) -> P:
        if not callable(function):
            raise FormulaError(
                f"formula: expected a function (out, *args, **kwargs) -> Cost, got {function!r} of type "
                f"{type(function).__name__}. Decorate a function."
            )
        for target in targets:
            USER.add(target, Formula(function, family_of(function)))
        return function

    return register


def _origin(formula: Formula) -> tuple[str, str]:
    """Return the module and the name of a formula's function, or of the class of a callable object."""
    price = formula.price
    return price.__module__ or "", getattr(price, "__qualname__", type(price).__qualname__)


def family_of(function: Pricing) -> str:
    """Return the family of a user's formula: the name of its file, or ``"user"`` where that is a word of a count."""
    name = (getattr(function, "__module__", None) or "").rpartition(".")[2]
    return "user" if name in {"", FREE, UNCOUNTED} else name


def target_key(target: object) -> object:
    """Return the key of a target: a name for operators, the class or kernel itself for others.

    Raises:
        FormulaError: The target is nothing that can be called under a counter.
    """
    if isinstance(target, str):
        name = target.replace("::", ".")
        if not all(part.isidentifier() for part in name.split(".")) or "." not in name:
            raise FormulaError(
                f"formula: expected an operator's name such as 'aten.mm' or 'mylib::f', got {target!r}. "
                f"Write namespace.operator, or namespace.operator.overload."
            )
        return name
    import torch  # noqa: PLC0415  (a name needs no torch)

    if isinstance(target, (OpOverload, OpOverloadPacket)):
        return str(target).replace("::", ".")
    if isinstance(target, HigherOrderOperator):
        return f"higher_order.{target.name()}"
    if isinstance(target, type) and issubclass(target, torch.nn.Module) and target is not torch.nn.Module:
        return target
    if _is_function(target):
        return target
    if type(target).__module__.startswith("triton"):
        return target
    raise FormulaError(
        f"formula: expected an operator, its name, a higher-order operator, a Triton kernel, an nn.Module class or "
        f"an autograd.Function class, got {target!r} of type {type(target).__name__}. "
        f"For the function of a custom operator pass torch.ops.lib.name."
    )


def _is_function(target: object) -> bool:
    """Return whether a target is the class of an ``autograd.Function``, or of its backward."""
    from torch.autograd.function import BackwardCFunction, Function  # noqa: PLC0415

    return isinstance(target, type) and issubclass(target, (Function, BackwardCFunction)) and target is not Function


def operator_keys(func: Any) -> list[str]:
    """Return the names under which a formula for an operator is looked up, the most specific first.

    ``aten.addmm_.default`` is found as ``aten.addmm_.default``, ``aten.addmm_`` and then ``aten.addmm``; an
    ``out=`` overload shares its packet's.
    """
    name = str(func)
    namespace, packet, overload = name.split(".", 2)
    keys = [name, f"{namespace}.{packet}"]
    if packet.endswith("_") and not packet.endswith("__"):
        keys += [f"{namespace}.{packet[:-1]}.{overload}", f"{namespace}.{packet[:-1]}"]
    return keys
