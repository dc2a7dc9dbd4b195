"""Published counts, and how a count is held to them."""

from __future__ import annotations

import csv
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

REFERENCE = Path(__file__).resolve().parents[1] / "reference"


class Published(NamedTuple):
    """Counts of mmengine for one model.

    Attributes:
        inputs: Shapes of the inputs, batch included.
        mode: ``"train"`` or ``"eval"``.
        params: Of the model.
        flops: By module, children included.
        acts: Activations by module, children included.
        flops_by_operator: Of the model.
        acts_by_operator: Of the model.
    """

    inputs: list[tuple[int, ...]]
    mode: str
    params: int
    flops: dict[str, int]
    acts: dict[str, int]
    flops_by_operator: dict[str, int]
    acts_by_operator: dict[str, int]


@lru_cache(maxsize=1)
def _rows() -> dict[str, Any]:
    return json.loads((REFERENCE / "mmengine.json").read_text())


def published(name: str) -> Published:
    """Return the row of a model, such as ``"torchvision/resnet18"``."""
    row = _rows()[name]
    return Published(
        inputs=[tuple(shape) for shape in row["inputs"]],
        mode=row["mode"],
        params=row["params"],
        flops={module: flops for module, (flops, _) in row["modules"].items()},
        acts={module: acts for module, (_, acts) in row["modules"].items()},
        flops_by_operator=row["flops_by_operator"],
        acts_by_operator=row["acts_by_operator"],
    )


def names() -> list[str]:
    """Return the models there are."""
    return list(_rows())


def assert_published(name: str, flops: dict[str, int], acts: dict[str, int]) -> None:
    """Hold counts by module to the published ones; modules that compute nothing may be missing on either side."""
    row = published(name)
    for kind, counted, expected in (("FLOPs", flops, row.flops), ("activations", acts, row.acts)):
        wrong = {
            module: (counted.get(module, 0), expected.get(module, 0))
            for module in {**expected, **counted}
            if counted.get(module, 0) != expected.get(module, 0)
        }
        assert not wrong, f"{name}: {kind} of modules: (counted, published): {wrong}"


def seed(name: str) -> list[list[str]]:
    """Return the cells of a published table, the header left out."""
    with (REFERENCE / "seeds" / f"{name}.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def cells(table: str) -> list[list[str]]:
    """Return the cells of a printed table, stripped, the header left out."""
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows][1:]
