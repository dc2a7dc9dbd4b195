"""The model as ``repr`` shows it, with a line of statistics for every module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.compat.mmengine import parameter_count
from opcount.compat.structure import structure_of
from opcount.reporter.arch import arch
from opcount.reporter.structure import Complexity

if TYPE_CHECKING:
    from torch import nn

    from opcount.profile import Profile


def render_arch(model: nn.Module, profile: Profile) -> str:
    """Return the annotated architecture of a model that was counted."""
    totals = profile.by_module()
    columns = {
        "flops": {path: total.flops for path, total in totals.items()},
        "acts": {path: total.activations for path, total in totals.items()},
    }
    silent = {path for path, module in profile.modules.items() if not module.calls and not totals[path].calls}
    complexity = Complexity(structure_of(model), parameter_count(model), columns, {"flops": silent, "acts": silent})
    facts = f"convention: {profile.convention.name}\ncoverage: {profile.coverage.verdict()}"
    return f"{arch(complexity).rstrip()}\n\n{facts}\n"
