"""Lines about what was counted: the inputs, the batch, the state of the model and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.escapes import visible
from opcount.paths import ROOT
from opcount.records import ASSUMED, BATCH, COMMAND, GENERATION, INPUTS
from opcount.reporter.amounts import amount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount.profile import Profile


def circumstances(profile: Profile) -> Iterator[str]:
    """Yield the lines that say what was counted, as far as the profile's provenance knows it."""
    known = profile.provenance
    yield from per_sample(profile)
    if INPUTS in known:
        yield f"inputs: {inputs(profile)}"
    if GENERATION in known:
        yield f"generation: {visible(known[GENERATION])}"
    if words := settings(profile):
        yield f"counted: {words}"
    if COMMAND in known:
        yield f"command: {visible(known[COMMAND])}"


def inputs(profile: Profile) -> str:
    """Return the inputs, and which option says others if nobody said these.

    Example:
        >>> from opcount.profile import Profile
        >>> inputs(Profile(provenance={"inputs": "x=1x3x224x224:float32", "assumed": "--shape"}))
        'x=1x3x224x224:float32 (assumed; --shape says another)'
    """
    known = profile.provenance
    note = f" (assumed; {known[ASSUMED]} says another)" if ASSUMED in known else ""
    return visible(known.get(INPUTS, "") + note)


def settings(profile: Profile) -> str:
    """Return the model's class and mode, and how it ran.

    Example:
        >>> from opcount.profile import Profile
        >>> facts = {"model": "Net", "mode": "eval", "dtype": "float32", "device": "cpu", "run": "dry"}
        >>> settings(Profile(provenance=facts))
        'Net, eval, float32, cpu, dry run'
    """
    known = profile.provenance
    names = ("model", "mode", "grad", "dtype", "device", "optimizer")
    words = [f"batch {known[name]}" if name == BATCH else known[name] for name in (*names, BATCH) if name in known]
    if "run" in known:
        words.append(f"{known['run']} run")
    return visible(", ".join(words))


def per_sample(profile: Profile) -> Iterator[str]:
    """Yield what one sample costs, if the batch has several; an optimizer's step is no sample's, nor a token one."""
    batch = profile.provenance.get(BATCH, "")
    calls = profile.modules[ROOT].calls if ROOT in profile.modules else 0
    if not batch.isdecimal() or int(batch) < 2 or not calls or GENERATION in profile.provenance:
        return
    total = profile.select(lambda record: record.phase != "optimizer").total
    if not total.macs and not total.flops:
        return
    samples = int(batch) * calls
    share = total._replace(macs=total.macs // samples, flops=total.flops // samples, arith=total.arith // samples)
    exact = not any(number % samples for number in (total.macs, total.flops, total.arith))
    yield f"per sample (batch {batch}{'' if exact else ', rounded'}): {amount(share, profile.convention)}"
