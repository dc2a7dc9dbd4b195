"""Conventions that read a cost as FLOPs. Nothing is counted again to change the convention."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING

from opcount.errors import ConventionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.cost import Cost


@dataclass(frozen=True)
class Convention:
    """A way to read MACs and other arithmetic as one number.

    Attributes:
        name: Printed by reports and stored in files.
        summary: The rule in one line.
        flops_per_mac: 1 where a multiply-accumulate is one operation, 2 where it is two.
        prices_arith: ``(operator, family) -> bool``: True if the arithmetic of that operator counts.
    """

    name: str
    summary: str
    flops_per_mac: int
    prices_arith: Callable[[str, str], bool]

    def flops(self, operator: str, family: str, cost: Cost) -> int:
        """Return the FLOPs of a cost that ``operator`` (``"aten.mm.default"``) of ``family`` ran up.

        Example:
            >>> from opcount.cost import Cost
            >>> TORCH.flops("aten.addmm.default", "matmul", Cost(macs=100, arith=10))
            200
            >>> FULL.flops("aten.addmm.default", "matmul", Cost(macs=100, arith=10))
            210
        """
        macs = self.flops_per_mac * cost.macs
        return macs + cost.arith if self.prices_arith(operator, family) else macs


_PUBLISHED = re.compile(
    r"(batch|layer|group|instance)_norm"
    r"|\bupsample_(nearest|bilinear)2d"
    r"|grid_sampler"
    r"|^autograd\.\w*(Batch|Layer|Group)Norm\w*Function(Backward)?$"
    r"|^autograd\.FastLayerNormFN(Backward)?$"
)


@cache
def _is_published(operator: str, family: str) -> bool:
    """Return whether the tables that fvcore and mmengine publish include the operator's arithmetic.

    The only pool among them is the 2-D adaptive average. ``adaptive_avg_pool2d(x, 1)`` dispatches as ``mean``, with the
    family ``pool``; the 1-D pool dispatches under the same names, with another family.
    """
    if family == "pool":
        return operator.startswith("aten.mean.") or "adaptive_avg_pool2d" in operator
    return _PUBLISHED.search(operator) is not None


def _none(_operator: str, _family: str) -> bool:
    return False


def _all(_operator: str, _family: str) -> bool:
    return True


FVCORE = Convention(
    "fvcore",
    "MACs + arithmetic of norms, 2-D adaptive average pooling, nearest and bilinear 2-D upsampling, grid sampling",
    1,
    _is_published,
)
MACS = Convention("macs", "MACs of contractions only", 1, _none)
TORCH = Convention("torch", "2 x MACs of contractions only", 2, _none)
FULL = Convention("full", "2 x MACs + all other arithmetic", 2, _all)

CONVENTIONS: dict[str, Convention] = {c.name: c for c in (FVCORE, MACS, TORCH, FULL)}
_ALIASES = {"mmengine": "fvcore"}


def find_convention(name: str | Convention) -> Convention:
    """Return the convention of that name or alias; a `Convention` is returned as it is.

    Raises:
        ConventionError: There is none; near names are offered.

    Example:
        >>> find_convention("mmengine").name
        'fvcore'
    """
    if isinstance(name, Convention):
        return name
    known = CONVENTIONS.get(_ALIASES.get(name, name)) if isinstance(name, str) else None
    if known is not None:
        return known
    names = [*CONVENTIONS, *_ALIASES]
    near = get_close_matches(str(name), names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ConventionError(
        f"convention: expected one of {', '.join(map(repr, names))}, got {name!r} of type {type(name).__name__}. "
        f"{hint}Pass one of these names, or a Convention of your own."
    )
