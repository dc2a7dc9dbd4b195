"""Conversion of the running tally, frames and rows, to a frozen profile."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from opcount._torch.modules import modules_of
from opcount.cost import Cost
from opcount.coverage import FREE
from opcount.escapes import printable
from opcount.profile import Profile
from opcount.records import BATCH, CALLED, INPUTS, Record, Total, merge
from opcount.scope import BACKWARD, OPTIMIZER, RECOMPUTE
from opcount.scope.module_shards import with_shards
from opcount.steps import Amount
from opcount.symbolic_sizes import SymbolicSizes, dimensions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    from opcount.convention import Convention
    from opcount.live_memory import LiveMemory
    from opcount.records import Module
    from opcount.scope import Frame, Scopes
    from opcount.scope.call_shapes import CallShapes
    from opcount.scope.frame import Shapes
    from opcount.scope.module_names import ModuleNames

_AFTER_FORWARD = {BACKWARD, RECOMPUTE, OPTIMIZER}
"""Phases whose outputs do not count as activations."""

_SHOWN = 3
"""The most modules outside the model, and the most inputs, that are named."""


def profile_of(
    scopes: Scopes,
    convention: Convention,
    provenance: Mapping[str, str],
    memory: LiveMemory | None = None,
    groups: Mapping[str, tuple[int, ...]] | None = None,
) -> Profile:
    """Return the profile of the tally of all threads so far."""
    calls: Counter[str] = Counter()
    records: list[Record] = []
    formulas: dict[str, str] = {}
    sizes = SymbolicSizes()
    examples: dict[str, CallShapes] = {}
    for frame in scopes.threads.frames():
        calls[frame.path] += frame.calls
        if frame.examples:
            examples.setdefault(frame.path, frame.examples[0].described())
        records += map(sizes.settle, _records(frame, formulas))
    return Profile(
        records=merge(records),
        modules={path: sizes.settle_module(module) for path, module in _modules(scopes, calls, examples).items()},
        convention=convention,
        provenance={
            **provenance,
            **_called_with(scopes),
            **sizes.facts(),
            **_uncalled(scopes.names, calls, records),
        },
        unattributed=dict(scopes.threads.unattributed()),
        formulas=formulas,
        memory=memory,
        groups={name: groups[name] for name in _groups_in(records) if name in groups} if groups else {},
    )


def _modules(scopes: Scopes, calls: Counter[str], examples: dict[str, CallShapes]) -> dict[str, Module]:
    return with_shards(scopes.names, scopes.names.table(calls.__getitem__, examples.get))


def _groups_in(records: list[Record]) -> set[str]:
    return {record.collective.group for record in records if record.collective is not None}


def amount_of(scopes: Scopes) -> Amount:
    """Return what `profile_of` would say of the tally's `Profile.amount`, in a fraction of the time."""
    calls: Counter[str] = Counter()
    records: list[Record] = []
    sizes = SymbolicSizes()
    for frame in list(scopes.threads.frames()):
        calls[frame.path] += frame.calls
        records += map(sizes.settle, _records(frame, {}))
    return Amount(merge(records), +calls, dict(scopes.threads.unattributed()))


def _called_with(scopes: Scopes) -> dict[str, str]:
    """Return what the model, or without one each outermost module, was called with, and the optimizers that stepped."""
    found: dict[str, None] = {}
    batches: set[int | None] = set()
    for frame in scopes.threads.frames():
        if frame.parent is None or (frame.parent.parent is None and scopes.names.model is None):
            name = printable(frame.path)
            calls = [call.described() for call in frame.examples]
            texts = (call.arguments for call in calls if call.arguments)
            found.update(dict.fromkeys(f"{name}({text})" if name else text for text in texts))
            batches.update(call.batch for call in calls)
    facts = {"optimizer": ", ".join(scopes.optimizers)} if scopes.optimizers else {}
    if found:
        facts[INPUTS] = ", ".join([*list(found)[:_SHOWN], *(["and others"] if len(found) > _SHOWN else [])])
    if len(batches) == 1 and scopes.names.model is not None and (batch := batches.pop()) and _leads(scopes.names.model):
        facts[BATCH] = str(batch)
    return facts


def _leads(model: nn.Module) -> bool:
    """Return whether the first dimension of an input is the batch, as far as the model's modules tell."""
    return all(vars(module).get("batch_first", True) is not False for module in modules_of(model))


def _uncalled(names: ModuleNames, calls: Counter[str], records: list[Record]) -> dict[str, str]:
    """Return ``{CALLED: ...}`` if the model was never called although forward operators ran."""
    called = [path for path, count in calls.items() if count]
    if names.model is None or not all(map(names.is_foreign, called)):
        return {}
    families = {record.family for record in records if record.phase not in _AFTER_FORWARD}
    begins_backward = families == {FREE} and any(record.phase in _AFTER_FORWARD for record in records)
    if not families or begins_backward:
        return {}
    others = sorted({path.partition(".")[0] for path in called})
    shown = " and ".join([*others[:_SHOWN], *(["others"] if len(others) > _SHOWN else [])])
    return {CALLED: f"never (other modules were: {shown})" if shown else "never"}


def total_of(scopes: Scopes, convention: Convention) -> Total:
    """Return the total of the tally of all threads so far, without making a profile."""
    macs = arith = flops = activations = calls = written = read = payload = sent = 0
    for frame in scopes.threads.frames():
        for (plan, phase, _), row in list(frame.rows.items()):
            macs += row.macs
            arith += row.arith
            flops += convention.flops(plan.operator, plan.family, Cost(row.macs, row.arith))
            activations += 0 if phase in _AFTER_FORWARD else row.activations
            calls += row.calls
            written += row.bytes_written
            read += row.bytes_read
            if plan.occasion is not None:
                payload += row.buffer_bytes
                sent += plan.occasion.moving(row.buffer_bytes).bus_bytes
    return Total(macs, arith, flops, activations, calls, written, read, payload, sent)


def _records(frame: Frame, formulas: dict[str, str]) -> Iterator[Record]:
    if not frame.rows:
        return
    stack = frame.stack()
    for (plan, phase, dtype), row in list(frame.rows.items()):
        activations = 0 if phase in _AFTER_FORWARD else row.activations
        cost = Cost(row.macs, row.arith, activations)
        name = "" if dtype is None else str(dtype).removeprefix("torch.")
        yield Record(
            stack, plan.operator, plan.family, phase, name, row.calls, cost,
            row.bytes_written, _text(row.shapes), row.bytes_read, row.repeated, row.causal,
            None if plan.occasion is None else plan.occasion.moving(row.buffer_bytes),
        )  # fmt: skip
        known = formulas.get(plan.operator)
        if plan.text and (known is None or plan.text not in known):  # one operator may be priced in several ways
            formulas[plan.operator] = plan.text if known is None else f"{known} Or: {plan.text}"


def _text(shapes: Shapes) -> str:
    """Format shapes: ``"(8x16, 16x4) -> 8x4"``."""
    try:
        inputs, outputs = (", ".join(map(_dimensions, group)) for group in shapes)
    except TypeError:  # symbolic sizes have no hash
        inputs, outputs = (", ".join(map(dimensions, group)) for group in shapes)
    return f"({inputs}) -> {outputs or 'none'}"


_dimensions = lru_cache(4096)(dimensions)
