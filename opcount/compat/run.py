"""One run of a model under a counter, and what every module of it came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import nn

from opcount.compat import words
from opcount.compat.structure import ancestors_of, forward_of, walk
from opcount.compat.subject import left_alone, reported, skeleton_of
from opcount.counter import OpCounter
from opcount.profile import parents
from opcount.scope.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opcount.compat.inputs import Inputs
    from opcount.profile import Profile, Record

_LEAVE_NO_OPERATOR = (nn.Identity.forward, nn.Sequential.forward, nn.Module.forward)


def run(
    model: nn.Module,
    inputs: Inputs,
    formulas: Mapping[Any, Any] | None = None,
    *,
    quiet: bool = False,
    dry: bool = False,
) -> Run:
    """Call the model once, as it is, and leave it as it was.

    Args:
        model: Called as ``model(*inputs.args, **inputs.kwargs)``.
        inputs: Its arguments.
        formulas: For this run alone.
        quiet: Do not warn of operators that nothing explains.
        dry: Compute nothing: a skeleton runs in the model's place.
    """
    ran = skeleton_of(model) if dry else model
    counter = OpCounter(ran, dry_run=dry, formulas=formulas)
    counter._warns = not quiet  # noqa: SLF001  (a filter would make Python forget which warnings it has shown)
    with left_alone(model, *inputs.args, *inputs.kwargs.values(), dry=dry), counter:
        ran(*inputs.args, **inputs.kwargs)
        counter.pause()
        shown = reported(model, ran)
    return Run(shown, counter.profile, dict(walk(shown)), Names(shown).paths)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        model: Whose modules and parameters are reported: the model's, or its skeleton's if forward made some.
        profile: What was counted.
        modules: By full name, a shared one once.
        paths: The profile's path of every module, by ``id``: wrappers do not show in it.
    """

    model: nn.Module
    profile: Profile
    modules: Mapping[str, nn.Module]
    paths: Mapping[int, str]

    @cached_property
    def _uncalled(self) -> dict[str, set[str]]:
        return {}

    @cached_property
    def _path_of(self) -> dict[str, str]:
        return {name: self.paths[id(module)] for name, module in self.modules.items()}

    def by_module_and_operator(
        self, value: Callable[[Record], int], word: Callable[[Record], str], ancestors: str
    ) -> dict[str, Counter[str]]:
        """Return what ``value`` reads from the records by full name of the module and operator.

        Args:
            value: The number of a record.
            word: What its operator is called.
            ancestors: ``"owner"`` or ``"caller"``.
        """
        totals: dict[str, Counter[str]] = {}
        for record in self.profile.records:
            number = value(record)
            if number:
                term = word(record)
                for path in ancestors_of(record.stack, ancestors):
                    totals.setdefault(path, Counter())[term] += number
        return {name: Counter(totals.get(path, ())) for name, path in self._path_of.items()}

    def word_of(self, record: Record) -> str:
        """Return mmengine's word for the record's operator."""
        owner = self.profile.modules.get(record.path)
        return words.word(record.operator, record.family, owner.type if owner else "")

    def uncalled(self, ancestors: str) -> set[str]:
        """Return the full names of the modules that no operator ran under, be it as caller or as owner."""
        if ancestors not in self._uncalled:
            self._uncalled[ancestors] = self._find_uncalled(ancestors)
        return set(self._uncalled[ancestors])

    def _find_uncalled(self, ancestors: str) -> set[str]:
        stacks = {record.stack for record in self.profile.records}
        seen = {path for stack in stacks for path in stack}
        if ancestors == "owner":
            seen.update(path for owner in {stack[-1] for stack in stacks} for path in parents(owner))
        for name, module in self.modules.items():
            path = self._path_of[name]
            if path not in seen and self._ran_without_operator(path, module):
                seen.update(parents(path) if ancestors == "owner" else [path])
        return {name for name, path in self._path_of.items() if path not in seen}

    def _ran_without_operator(self, path: str, module: nn.Module) -> bool:
        """Tell whether a module was called and is written as a call of PyTorch, though no operator arrived.

        Dropout in eval is one: a trace of the Python functions, which the reference is, has an entry for it, and none
        for ``Identity``. Who called it is not known then: it counts as called for its owners.
        """
        forward = forward_of(module)
        if path not in self.profile.modules or not self.profile.modules[path].calls:
            return False
        return getattr(forward, "__module__", "").startswith("torch.nn.") and forward not in _LEAVE_NO_OPERATOR
