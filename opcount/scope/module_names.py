"""Names of modules: the path in the model, or the class for a module outside the model."""

from __future__ import annotations

import itertools
import sys
import weakref
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from torch import fx, jit, nn
from torch.nn.parameter import is_lazy

from opcount._torch.modules import forward_hooks_of, parameters_of, submodules_of
from opcount._torch.tracing import untraced
from opcount.identity import identity
from opcount.paths import ROOT, common_parent
from opcount.records import Module
from opcount.scope.call_shapes import CallShapes
from opcount.scope.module_shapes import KERNEL, kernel_of, weights_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_WRAPPED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Attributes that only wrappers have; they do not show in a path."""

_WRAPPERS = {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"}
"""Classes whose ``module`` is what they wrap."""

_OPERATORS = str(Path(nn.__file__).parents[1] / "_higher_order_ops")
"""The folder of PyTorch's code for higher-order operators."""

_FAR = 64
"""Python frames from a hook up to the higher-order operator that calls its module, at most."""

_NO_CALL = CallShapes()

_serials = itertools.count(1)

_Sizes: TypeAlias = tuple[int, int, int]
"""Elements of parameters, those that a gradient is computed for, and all bytes."""


class _Numbers:
    """The smallest numbers that are not in use."""

    def __init__(self) -> None:
        self._next = 0
        self._free: list[int] = []

    def take(self) -> int:
        """Return a number."""
        if self._free:
            return heappop(self._free)
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        """Return a number to the pool."""
        heappush(self._free, number)


class _Leaf(NamedTuple):
    variable: weakref.ref[Any]
    path: str


class _Known(weakref.ref[nn.Module]):
    """A module that has a path.

    Attributes:
        key: Its ``id``.
        hooks: That of its dict of forward hooks.
    """

    __slots__ = ("hooks", "key")
    key: int
    hooks: int


class _Alive(dict[int, _Known]):
    """Modules that have a path, by ``id``; unlike a plain dict, it can be referred to weakly."""


class ModuleNames:
    """Paths of modules.

    Attributes:
        paths: By ``id``; a module that dies leaves, for its ``id`` is the next one's.
        wrappers: Ids of modules that share the path of the module they wrap.
        scripts: Ids of ScriptModules.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self.model = model
        self.paths: dict[int, str] = {}
        self.wrappers: set[int] = set()
        self.scripts: set[int] = set()
        self._alive = _Alive()
        self._types: dict[str, str] = {}
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._foreign: dict[str, Module] = {}
        self._numbers: dict[str, _Numbers] = {}
        self._originals: dict[int, str] = {}
        self._forget = partial(
            _forget, self.paths, (self.wrappers, self.scripts), weakref.ref(self._alive), self._originals
        )
        self._leaves: dict[int, _Leaf] = {}
        self._foreign_parameters: dict[str, dict[int, int]] = {}
        self._serials: dict[int, tuple[weakref.ref[Any], int]] = {}
        if model is not None:
            self._name_model(model)

    def _name_model(self, model: nn.Module) -> None:
        first: dict[str, nn.Module] = {}
        paths, types, wrappers, foreign = self.paths, self._types, self.wrappers, self._foreign
        for path, module in _walk(model):
            key = identity(module)
            known = paths.get(key)
            if known is None or (known in foreign and known not in types):
                if path in first:
                    wrappers.add(identity(first[path]))
                first[path] = module
                self._name(module, path)
                known = path
            elif path != known and path not in self._aliases.get(known, ()):
                self._aliases[known] = (*self._aliases.get(known, ()), path)
            if path == known and key not in wrappers:
                types[path] = type(module).__name__

    def _name(self, module: nn.Module, path: str) -> None:
        """Remember a path until the module dies."""
        known = _Known(module, self._forget)
        known.key = key = identity(module)
        known.hooks = hooks = identity(forward_hooks_of(module))
        self._alive[key] = known
        self.paths[key] = path
        self._originals[hooks] = path
        if isinstance(module, jit.ScriptModule):
            self.scripts.add(key)

    def is_known(self, module: nn.Module) -> bool:
        """Return whether a module is the model's, or a replica of one."""
        return identity(module) in self.paths or self._original(module) is not None

    def _original(self, module: nn.Module) -> str | None:
        """Return the path of the module that DataParallel copied: a replica shares its hooks."""
        is_replica = getattr(module, "_is_replica", False)
        return self._originals.get(identity(forward_hooks_of(module))) if is_replica else None

    def path_of_new(self, module: nn.Module, caller: str) -> str:
        """Name a module that was not there when the model was named, or is not of the model."""
        original = self._original(module)
        if original is not None:
            return original
        if self.model is not None and _contains(self.model, module):
            self._name_model(self.model)
            return self.paths[identity(module)]
        if isinstance(module, fx.GraphModule) and _is_traced_for_operator():
            self._name(module, caller)
            self.wrappers.add(identity(module))
            return caller
        return self._name_foreign(module, caller)

    @untraced()
    def _name_foreign(self, module: nn.Module, caller: str) -> str:
        """Name a module by its class, below the module that calls it; the number of a dead one is given again."""
        name = type(module).__name__
        base = f"{caller}.{name}" if caller else name
        numbers = self._numbers.setdefault(base, _Numbers())
        number = numbers.take()
        while (path := f"{base}_{number}" if number else base) in self._types:
            number = numbers.take()
        weakref.finalize(module, numbers.give_back, number).atexit = False
        for below, child in _walk(module):
            if identity(child) not in self.paths:
                child_path = f"{path}.{below}" if below else path
                self._name(child, child_path)
                self._foreign[child_path] = _facts(child_path, child)
                own = [p for p in parameters_of(child).values() if p is not None]
                self._foreign_parameters[child_path] = {self._serial(p): _elements(p) for p in own}
        return path

    def is_foreign(self, path: str) -> bool:
        """Return whether a path is that of a module outside the model."""
        return path in self._foreign and path not in self._types

    def _serial(self, parameter: Any) -> int:
        """Return a number that is a parameter's own, where its ``id`` is another's once it has died."""
        reference, serial = self._serials.get(identity(parameter), (None, 0))
        if reference is None or reference() is not parameter:
            serial = next(_serials)
            self._serials[identity(parameter)] = weakref.ref(parameter), serial
        return serial

    def count_foreign_parameters(self) -> int:
        """Count the elements of the parameters of the modules that ran and are not the model's, a tied one once."""
        found: dict[int, int] = {}
        for own in self._foreign_parameters.values():
            found.update(own)
        return sum(found.values())

    def owner_of(self, variable: object) -> str:
        """Return the path of the module that owns a parameter; the root if none does."""
        leaf = self._leaves.get(identity(variable))
        if leaf is None or leaf.variable() is not variable:
            self._find_leaves()
            leaf = self._leaves.get(identity(variable))
            if leaf is None:
                if variable is None:
                    return ROOT
                leaf = self._leaves[identity(variable)] = _Leaf(weakref.ref(variable), ROOT)
        return leaf.path

    def path_of_all(self, modules: Iterable[object], parameters: Iterable[object]) -> str | None:
        """Return the path of the innermost module that has all of these inside; None if nothing is known of them."""
        paths = [path for module in modules if (path := self.paths.get(identity(module))) is not None]
        paths += map(self.owner_of, parameters)
        return common_parent(paths) if paths else None

    def path_of_whole(self, path: str) -> str:
        """Return the path of the whole that a module is part of: the model's; without one, of the outermost module."""
        return ROOT if self.model is not None else path.partition(".")[0]

    def _find_leaves(self) -> None:
        self._leaves = {key: leaf for key, leaf in self._leaves.items() if leaf.variable() is not None}
        for path, module in _walk(self.model) if self.model is not None else ():
            for parameter in parameters_of(module).values():
                if parameter is not None:
                    known = self._leaves.get(identity(parameter))
                    if known is None or known.path == ROOT:
                        self._leaves[identity(parameter)] = _Leaf(weakref.ref(parameter), path)

    def owns_any(self, variables: Iterable[object]) -> bool:
        """Return whether a parameter of the model is among variables; without a model any is ours."""
        if self.model is None:
            return True
        parameters = set(map(identity, self.model.parameters()))
        return any(identity(variable) in parameters for variable in variables)

    def refresh(self) -> None:
        """Name modules that were added to the model since."""
        if self.model is not None:
            self._name_model(self.model)

    @untraced()
    def count_parameters(self) -> int:
        """Count the elements of the model's parameters, a tied one once."""
        return 0 if self.model is None else sum(map(_elements, self.model.parameters()))

    @untraced()
    def table(
        self, calls: Callable[[str], int], examples: Callable[[str], CallShapes | None] = lambda _path: None
    ) -> dict[str, Module]:
        """Return the facts about every module, the model's in ``named_modules`` order."""
        sizes, kernels, weights = self._sizes_and_shapes()
        nothing = (0, 0, 0)
        table: dict[str, Module] = {}
        for path, kind in self._types.items():
            params, trainable, written = sizes.get(path, nothing)
            aliases, kernel = self._aliases.get(path, ()), kernels.get(path, "")
            _, inputs, outputs, _ = examples(path) or _NO_CALL
            facts = (params, calls(path), aliases, trainable, written, kernel, inputs, outputs, weights.get(path, ""))
            table[path] = Module(path, kind, *facts)
        for path, module in self._foreign.items():
            if path not in table:
                call = examples(path) or _NO_CALL
                table[path] = module._replace(calls=calls(path), inputs=call.inputs, outputs=call.outputs)
        return table

    def _sizes_and_shapes(self) -> tuple[dict[str, _Sizes], dict[str, str], dict[str, str]]:
        """Add up parameters, a tied one once under its first name, along the dotted parents of their paths."""
        sizes: dict[str, _Sizes] = {}
        kernels: dict[str, str] = {}
        weights: dict[str, str] = {}
        seen: set[int] = set()
        for path, module in _walk(self.model) if self.model is not None else ():
            own = [p for p in parameters_of(module).values() if p is not None and identity(p) not in seen]
            seen.update(map(identity, own))
            if own:
                params, trainable, written = sizes.get(path, (0, 0, 0))
                sizes[path] = _sizes_of(own, params, trainable, written)
                weights[path] = weights_of(module)
            if KERNEL in vars(module):
                kernels[path] = kernel_of(module)
        return _with_parents(sizes), kernels, weights


def _forget(
    paths: dict[int, str],
    noted: tuple[set[int], ...],
    alive: weakref.ref[_Alive],
    originals: dict[int, str],
    dead: Any,
) -> None:
    paths.pop(dead.key, None)
    for ids in noted:
        ids.discard(dead.key)
    known = alive()
    if known is not None:
        known.pop(dead.key, None)
    originals.pop(dead.hooks, None)


def _is_traced_for_operator() -> bool:
    """Return whether a higher-order operator of PyTorch calls the module that a hook is called for."""
    frame: Any = sys._getframe(3)
    for _ in range(_FAR):
        if frame is None:
            break
        if frame.f_code.co_filename.startswith(_OPERATORS):
            return True
        frame = frame.f_back
    return False


def _contains(model: nn.Module, module: nn.Module) -> bool:
    """Return whether a module is part of a model; fast, as it is asked for every module that is not."""
    pending: list[nn.Module | None] = [model]
    seen = set()
    while pending:
        one = pending.pop()
        if one is module:
            return True
        if one is not None and identity(one) not in seen:
            seen.add(identity(one))
            pending.extend(submodules_of(one).values())
    return False


def _with_parents(own: dict[str, _Sizes]) -> dict[str, _Sizes]:
    totals: dict[str, _Sizes] = {}
    for path, (params, trainable, written) in own.items():
        parent: str | None = path
        while parent is not None:
            known = totals.get(parent)
            totals[parent] = (
                (params, trainable, written)
                if known is None
                else (known[0] + params, known[1] + trainable, known[2] + written)
            )
            parent = None if parent == ROOT else parent.rpartition(".")[0]
    return totals


def _sizes_of(parameters: Iterable[nn.Parameter], elements: int = 0, trainable: int = 0, written: int = 0) -> _Sizes:
    """Return the elements of parameters, those that a gradient is computed for, and all bytes, added to others."""
    for parameter in parameters:
        count = _elements(parameter)
        elements += count
        trainable += count if parameter.requires_grad else 0
        written += count * parameter.dtype.itemsize
    return elements, trainable, written


def _facts(path: str, module: nn.Module) -> Module:
    """Return what is known of a module outside the model before it runs."""
    params, trainable, written = _sizes_of(module.parameters())
    kernel, weights = kernel_of(module), weights_of(module)
    return Module(path, type(module).__name__, params, 0, (), trainable, written, kernel, weights=weights)


def _walk(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return all modules with their paths, parents first, each alias on its own, wrappers' names left out."""
    found: list[tuple[str, nn.Module]] = []
    pending: list[tuple[str, nn.Module]] = [(ROOT, model)]
    seen: set[int] = set()
    wrap: dict[type, bool] = {}
    while pending:
        path, module = pending.pop()
        found.append((path, module))
        if identity(module) in seen:
            continue
        seen.add(identity(module))
        children = submodules_of(module)
        if not children:
            continue
        kind = type(module)
        if kind not in wrap:
            wrap[kind] = any(base.__name__ in _WRAPPERS for base in kind.__mro__)
        wraps = wrap[kind]
        prefix = f"{path}." if path else ""
        for name, child in reversed(children.items()):
            if child is not None:
                hidden = name in _WRAPPED or (wraps and name == "module")
                pending.append((path if hidden else f"{prefix}{name}", child))
    return found


def _elements(parameter: nn.Parameter) -> int:
    """Count elements; a parameter that a lazy module has not made yet has none.

    Up to PyTorch 2.5 any parameter of a tensor subclass, a fake one among them, is an instance of
    ``UninitializedParameter``.
    """
    return 0 if is_lazy(parameter) else parameter.numel()
