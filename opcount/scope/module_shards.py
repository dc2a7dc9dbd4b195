"""Parameters of which each rank holds a part, as layouts of DTensor say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount._torch.distributed import shard_dimensions
from opcount._torch.modules import modules_of, parameters_of
from opcount._torch.tracing import untraced
from opcount.identity import identity
from opcount.paths import parents

if TYPE_CHECKING:
    from opcount.records import Module
    from opcount.scope.module_names import ModuleNames


@untraced()
def with_shards(names: ModuleNames, table: dict[str, Module]) -> dict[str, Module]:
    """Return the facts about modules with the elements of their parameters that are parts of whole ones."""
    if names.model is None:
        return table
    sums: dict[str, dict[str, int]] = {}
    seen: set[int] = set()
    for module in modules_of(names.model):
        for parameter in parameters_of(module).values():
            if parameter is None or identity(parameter) in seen:
                continue
            seen.add(identity(parameter))
            for dimension in shard_dimensions(parameter):
                for path in parents(names.paths.get(identity(module), "")):
                    row = sums.setdefault(path, {})
                    row[dimension] = row.get(dimension, 0) + parameter.numel()
    found = {path: table[path]._replace(shards=tuple(row.items())) for path, row in sums.items() if path in table}
    return {**table, **found}
