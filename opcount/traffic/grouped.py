"""Products of experts: of each group that no row can reach, nothing is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.registry import aten
from opcount.traffic.registry import traffic
from opcount.traffic.touched import touched, touched_by

if TYPE_CHECKING:
    from torch import Tensor


@traffic(aten._grouped_mm, aten._scaled_grouped_mm, aten._scaled_grouped_mm_v2)
def grouped_mm(out: Tensor, self: Tensor, mat2: Tensor, /, *rest: Any, **options: Any) -> tuple[int, int]:
    """``out[rows of g] = a[rows of g] @ b[g]``: rows, or columns, reach as many groups as there are of them.

    A decoder that routes one token to two of 64 experts reads the weights of two. How often two rows share a group
    depends on data, and a dry run says what a real one does: each row is taken for another group.
    """
    read = touched_by((self, mat2, *rest, *options.values()))
    if self.dim() != mat2.dim():
        groups, rows = (self, mat2.shape[-1]) if self.dim() == 3 else (mat2, self.shape[0])
        count = groups.shape[0]
        read -= touched(groups) // max(count, 1) * max(count - rows, 0)
    return read, touched(out)
