"""A finished count: tidy rows, and group-bys over them. Frozen, picklable, and readable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opcount import profile_parts
from opcount.communication import ROW_COLUMNS as SENT_COLUMNS
from opcount.communication import Communication, cells_of, volume_of
from opcount.convention import FVCORE, Convention, find_convention
from opcount.coverage import FREE, UNCOUNTED, Coverage
from opcount.devices import Device
from opcount.errors import ConventionError, ProfileFormatError
from opcount.files import write
from opcount.fit import Fit, fit_of
from opcount.live_memory import LiveMemory, merge_memory
from opcount.paths import ROOT, ancestors_of, parents, parents_first
from opcount.records import CALLED, UNKNOWN_TRAFFIC, Module, Record, Total, merge, phases_in_order, phases_of, stages
from opcount.roofline import Roofline
from opcount.steps import Amount
from opcount.utilization import HasFlops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from os import PathLike

    from opcount.diff import Diff
    from opcount.paths import Ancestors
    from opcount.steps import Steps

__all__ = ["ROOT", "ROW_COLUMNS", "Module", "Profile", "Record", "Total", "merge", "parents"]

ROW_COLUMNS = (
    "path", "stack", "operator", "family", "phase", "dtype",
    "macs", "arith", "flops", "activations", "calls", "bytes", "bytes_read", "bytes_written", "shapes",
)  # fmt: skip
"""The columns of `Profile.to_rows`."""


@dataclass(frozen=True)
class Profile(HasFlops):
    """One finished count.

    Attributes:
        records: The rows.
        modules: By path, in ``named_modules`` order; modules outside the model follow.
        convention: Reads costs as FLOPs.
        provenance: Versions, device and modes of the count.
        unattributed: Operator calls charged to the root because their module is unknown, by reason.
        formulas: The mathematics of each operator counted.
        steps: The sampled steps of a loop and their extrapolation, if only some steps were counted (``every=``); all
            other attributes are then those of the counted steps. None if everything was counted.
        memory: Live bytes: the peak and what it is made of; None if they were not tracked.
        groups: The global ranks of the process groups that collectives ran in, by the groups' names.
    """

    records: tuple[Record, ...] = ()
    modules: Mapping[str, Module] = field(default_factory=dict)
    convention: Convention = FVCORE
    provenance: Mapping[str, str] = field(default_factory=dict)
    unattributed: Mapping[str, int] = field(default_factory=dict)
    formulas: Mapping[str, str] = field(default_factory=dict)
    steps: Steps | None = None
    memory: LiveMemory | None = None
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def total(self) -> Total:
        """The sum of all records."""
        return profile_parts.sum_of(map(self.read, self.records))

    @property
    def communication(self) -> Communication:
        """Calls and bytes of collectives, sends and receives: by group, kind, module and phase."""
        return Communication(self.records, self.groups)

    @property
    def bytes_read(self) -> int:
        """Bytes that operators have to read, each operand once a call: caches and fusion are not considered.

        Raises:
            ProfileFormatError: The profile is of a version that did not count them.
        """
        return self.check_traffic().total.bytes_read

    @property
    def arithmetic_intensity(self) -> float:
        """Hardware FLOPs, two for each MAC, for each byte that is read or written.

        Raises:
            ProfileFormatError: The profile is of a version that did not count the bytes read.
        """
        return self.check_traffic().total.arithmetic_intensity

    @property
    def params(self) -> int:
        """Elements of the model's parameters; 0 without a model."""
        return self.modules[ROOT].params if ROOT in self.modules else 0

    @property
    def coverage(self) -> Coverage:
        """The operators by how they are explained: counted, declared free, or uncounted."""
        rows = ((r.operator, r.family, r.calls, r.bytes_written) for r in self.records)
        return Coverage.of(rows, self.unattributed, self.provenance.get(CALLED, ""))

    def by_module(self, ancestors: Ancestors = "owner") -> dict[str, Total]:
        """Return the total of every module by path, children included.

        Args:
            ancestors: ``"owner"``: an operator counts for its module and the dotted parents of its path.
                ``"caller"``: for every module that was running, which differs for shared modules.
        """
        if ancestors == "owner":
            return self._by_owner()
        own: dict[tuple[str, ...], list[int]] = {}
        for record in self.records:
            profile_parts.add_to(own, record.stack, self.read(record))
        totals = {path: list(Total()) for path in self.modules}
        for stack, numbers in own.items():
            for path in ancestors_of(stack, ancestors):
                profile_parts.add_to(totals, path, numbers)
        return profile_parts.as_totals(totals)

    def _by_owner(self) -> dict[str, Total]:
        """Add up the records of each module, then each module's sum to its parent's, children before parents."""
        sums: dict[str, list[int]] = {}
        for record in self.records:
            profile_parts.add_to(sums, record.path, self.read(record))
        own = list(sums)
        for path in reversed(parents_first(own)):
            if path != ROOT:
                profile_parts.add_to(sums, path.rpartition(".")[0], sums[path])
        paths = dict.fromkeys(self.modules)
        if not paths.keys() >= sums.keys():
            paths.update(dict.fromkeys(parent for path in own for parent in parents(path)))
        return {path: Total(*sums[path]) if path in sums else Total() for path in paths}

    def by_operator(self) -> dict[str, Total]:
        """Return the total of every counted operator, such as ``"aten.mm.default"``."""
        return self._group(lambda r: r.operator)

    def by_family(self) -> dict[str, Total]:
        """Return the total of every family of operators, such as ``"matmul"``."""
        return self._group(lambda r: r.family)

    def by_phase(self) -> dict[str, Total]:
        """Return the total of every phase: forward, the user's own, backward, recompute, optimizer."""
        phases = self._group(lambda r: r.phase)
        return {phase: phases[phase] for phase in phases_in_order(phases)}

    def by_dtype(self) -> dict[str, Total]:
        """Return the total of every dtype that computes."""
        return self._group(lambda r: r.dtype)

    def by_module_and_operator(self, ancestors: Ancestors = "owner") -> dict[str, dict[str, Total]]:
        """Return the totals of the operators of every module, children included; see `by_module`."""
        totals: dict[str, dict[str, list[int]]] = {path: {} for path in self.modules}
        for record in self._counted():
            read = self.read(record)
            for path in ancestors_of(record.stack, ancestors):
                profile_parts.add_to(totals.setdefault(path, {}), record.operator, read)
        return {path: profile_parts.as_totals(row) for path, row in totals.items()}

    def select(self, keep: Callable[[Record], bool]) -> Profile:
        """Return a profile of those records only.

        Example:
            >>> Profile().select(lambda r: r.phase == "backward").flops
            0
        """
        steps = None if self.steps is None else self.steps.select(keep)
        return replace(self, records=tuple(filter(keep, self.records)), steps=steps)

    def with_convention(self, convention: str | Convention) -> Profile:
        """Return the same count, read under another convention."""
        return replace(self, convention=find_convention(convention))

    def extrapolated(self) -> Profile:
        """Return an estimate for all steps of a loop, from those that were counted.

        Reports mark it as extrapolated. A complete profile is returned as it is.

        Example:
            >>> Profile().extrapolated() == Profile()
            True
        """
        if self.steps is None or self.steps.whole is None:
            return self
        whole = self.steps.whole
        modules = {path: module._replace(calls=whole.calls.get(path, 0)) for path, module in self.modules.items()}
        steps = replace(self.steps, whole=None)
        return replace(self, records=whole.records, modules=modules, unattributed=whole.unattributed, steps=steps)

    def explain(self, path: str = ROOT) -> str:
        """Return the explanation of a module's cost: its own operators with formulas, shapes and exact numbers.

        Raises:
            InputError: There is no such module; near names are offered.
        """
        from opcount.reporter.explain import render  # noqa: PLC0415  (reporters read profiles)

        return render(self, path)

    def __repr__(self) -> str:
        """Return the model and the totals in a few words."""
        from opcount.reporter.amounts import in_short  # noqa: PLC0415  (reporters read profiles)

        return f"<Profile {in_short(self)}>"

    def __str__(self) -> str:
        """Return the table of modules, the totals, the convention and the coverage."""
        from opcount.reporter.table import render  # noqa: PLC0415  (reporters read profiles)

        return render(self)

    def _repr_html_(self) -> str:
        """Return the page that explores the count, for notebooks."""
        from opcount.reporter.html import frame  # noqa: PLC0415  (reporters read profiles)

        return frame(self)

    def __add__(self, other: Profile) -> Profile:
        """Add the records of two counts; the modules of both are kept, by path.

        Raises:
            ConventionError: They are read under different conventions.
            SamplingError: One was measured, the other is extrapolated.
        """
        if not isinstance(other, Profile):
            return NotImplemented
        if self.convention.name != other.convention.name:
            raise ConventionError(
                f"Profile: expected two profiles of one convention, got {self.convention.name!r} and "
                f"{other.convention.name!r}. Call with_convention() on one of them first."
            )
        silent = all(CALLED in side.provenance for side in (self, other) if side.records)
        return replace(
            self,
            records=merge(self.records + other.records),
            modules=profile_parts.merge_modules(self.modules, other.modules),
            provenance=profile_parts.merge_provenance(
                self.provenance, other.provenance, without="" if silent else CALLED
            ),
            unattributed=profile_parts.merge_counts(self.unattributed, other.unattributed),
            formulas={**other.formulas, **self.formulas},
            steps=profile_parts.add_steps(self.steps, other.steps, (self.amount, other.amount)),
            memory=merge_memory(self.memory, other.memory),
            groups=profile_parts.merge_groups(self.groups, other.groups),
        )

    def __radd__(self, other: int) -> Profile:  # of ``sum``, which begins with 0
        return self if other == 0 else NotImplemented

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the records as flat rows of names and numbers; a stack's paths are joined by ``;``.

        Columns of what was communicated follow, and of the counted steps of a loop, where there are any.
        """
        communicates = bool(self.communication)
        steps = {} if self.steps is None else {"steps": self.steps.verdict()}
        return [
            {
                "path": record.path,
                "stack": ";".join(record.stack),
                "operator": record.operator,
                "family": record.family,
                "phase": record.phase,
                "dtype": record.dtype,
                **{name: getattr(total, name) for name in ROW_COLUMNS[6:-1]},
                "shapes": record.shapes,
                **(cells_of(record) if communicates else {}),
                **steps,
            }
            for record, total in zip(self.records, map(self.read, self.records), strict=True)
        ]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of `to_rows`."""
        sent = SENT_COLUMNS if self.communication else ()
        return (*ROW_COLUMNS, *sent) if self.steps is None else (*ROW_COLUMNS, *sent, "steps")

    def to_dataframe(self) -> Any:
        """Return the rows as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415  (an extra, slow to import)
        except ImportError as error:
            raise ImportError(
                "Profile.to_dataframe: expected pandas to be installed, and it is not. Run `pip install pandas`, "
                "or use to_rows()."
            ) from error
        return pd.DataFrame(self.to_rows(), columns=self.columns)

    def diff(self, other: Profile) -> Diff:
        """Compare with a later count, module by module; renamed modules are recognised.

        Example:
            >>> Profile().diff(Profile()).changed
            ()
        """
        from opcount.diff import compare  # noqa: PLC0415  (a diff is made of profiles)

        return compare(self, other)

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the profile as JSON text, with a schema version."""
        from opcount.serialize import dump  # noqa: PLC0415  (serialize imports this file)

        return dump(self, indent=indent)

    def save(self, path: str | PathLike[str]) -> None:
        """Write a report, whole or not at all, in the format of the name's ending: ``.html``, ``.json``, ``.csv``, ...

        Raises:
            InputError: The name has another ending; those that are known are listed.
            OSError: The file cannot be written.
        """
        from opcount.reporter.suffixes import format_of, render  # noqa: PLC0415  (reporters read profiles)

        name = format_of(path, "Profile.save")
        write(Path(path), render(self, name))

    @staticmethod
    def from_json(text: str) -> Profile:
        """Read a profile that `to_json` wrote.

        Raises:
            ProfileFormatError: The text is not a profile, or has a newer schema.
        """
        from opcount.serialize import load  # noqa: PLC0415  (serialize imports this file)

        return load(text)

    @property
    def knows_traffic(self) -> bool:
        """True if the bytes read were counted; False for a profile of an older version."""
        return UNKNOWN_TRAFFIC not in self.provenance

    def check_traffic(self) -> Profile:
        """Return the profile itself, whose bytes read are about to be shown.

        Raises:
            ProfileFormatError: They were not counted.
        """
        if self.knows_traffic:
            return self
        raise ProfileFormatError(
            f"Profile: expected bytes read, got a profile in which they are "
            f"{self.provenance[UNKNOWN_TRAFFIC]!r}: an older opcount wrote it. Count again."
        )

    def on(self, device: Device | str) -> Roofline:
        """Return the count on a device: the least time of each record, module, operator and phase.

        Raises:
            DeviceError: The device is not known.
            ProfileFormatError: The profile is of a version that did not count the bytes read.
        """
        return Roofline(self.rated_records(), self.modules, Device.find(device), stages(self.provenance))

    def fits(self, device: Device | str) -> Fit:
        """Return whether the count has room on a device: its allocations replayed by the rules of its allocator.

        Raises:
            DeviceError: The device is not known, or its memory is not.
            InputError: The count has no log of its allocations: it was made without ``memory="log"``.
        """
        return fit_of(self.memory, phases_of(self.records, "aten.addmm."), Device.find(device))

    def rated_records(self) -> tuple[Record, ...]:
        """Return the records, of which a version that did not count traffic did not know what was computed again."""
        return self.check_traffic().records

    def amount(self) -> Amount:
        """Return the part of the count that adds up over the steps of a loop."""
        calls = {path: module.calls for path, module in self.modules.items() if module.calls}
        return Amount(self.records, calls, self.unattributed)

    def read(self, record: Record) -> Total:
        """Return the numbers of one record, its cost read under the profile's convention."""
        macs, arith, activations = record.cost
        flops = self.convention.flops(record.operator, record.family, record.cost)
        known = macs, arith, flops, activations, record.calls, record.bytes_written, record.bytes_read
        return Total(*known) if record.collective is None else Total(*known, *volume_of(record)[1:])

    def _counted(self) -> Iterable[Record]:
        return (r for r in self.records if r.family not in (FREE, UNCOUNTED))

    def _group(self, key: Callable[[Record], str]) -> dict[str, Total]:
        totals: dict[str, list[int]] = {}
        for record in self._counted():
            profile_parts.add_to(totals, key(record), self.read(record))
        return profile_parts.as_totals(totals)
