"""Payload, bus bytes, kind and traffic of each collective, and how its group is called."""

from __future__ import annotations

import pytest

from opcount.communication import Volume
from tests.distributed.operators import ROWS, WIDTH, each, names
from tests.distributed.ranks import run

SIZE = 4
X = ROWS * WIDTH * 4
"""Bytes of the tensor that each collective is given."""

EXPECTED = {
    "all_reduce": ("all-reduce", 1, X, 2 * 3 * X // 4, X, X),
    "all_reduce of a slice": ("all-reduce", 1, X // 4, 2 * 3 * X // 16, X // 4, X // 4),
    "all_reduce coalesced": ("all-reduce", 1, X + X // 4, 2 * 3 * 5 * X // 16, 5 * X // 4, 5 * X // 4),
    "all_gather": ("all-gather", 1, 4 * X, 3 * X, X, 4 * X),
    "all_gather_into_tensor": ("all-gather", 1, 4 * X, 3 * X, X, 4 * X),
    "all_gather_into_tensor coalesced": ("all-gather", 1, 8 * X, 6 * X, X, 4 * X),  # twice the same tensors
    "reduce_scatter": ("reduce-scatter", 1, X, 3 * X // 4, X, X // 4),
    "reduce_scatter_tensor": ("reduce-scatter", 1, X, 3 * X // 4, X, X // 4),
    "all_to_all": ("all-to-all", 1, X, 3 * X // 4, X, X),
    "all_to_all_single": ("all-to-all", 1, X, 3 * X // 4, X, X),
    "all_to_all_single uneven": ("all-to-all", 1, X, 3 * X // 4, X, X),
    "broadcast": ("broadcast", 1, X, X, 0, X),  # rank 1 is not the root
    "reduce": ("reduce", 1, X, X, X, 0),
    "gather": ("gather", 1, 4 * X, 3 * X, X, 0),
    "scatter": ("scatter", 1, 4 * X, 3 * X, 0, X),
    "send": ("send", 1, X, X, X, 0),
    "isend": ("send", 1, X, X, X, 0),
    "recv": ("recv", 1, X, X, 0, X),
    "irecv": ("recv", 1, X, X, 0, X),
    "barrier": ("barrier", 1, 0, 0, 0, 0),
    "functional all_reduce": ("all-reduce", 1, X, 2 * 3 * X // 4, X, X),
    "functional all_gather": ("all-gather", 1, 4 * X, 3 * X, X, 4 * X),
    "functional reduce_scatter": ("reduce-scatter", 1, X, 3 * X // 4, X, X // 4),
    "functional all_to_all": ("all-to-all", 1, X, 3 * X // 4, X, X),
    "functional broadcast": ("broadcast", 1, X, X, X, X),
}
"""Kind, calls, payload, bus bytes, bytes read and bytes written of each collective on rank 1 of 4."""


@pytest.mark.parametrize("grad", ["enable_grad", "no_grad", "inference_mode"])
def test_each_collective_has_its_payload_and_what_a_ring_moves(grad):
    found = run(each, SIZE, grad, fake=True)[1]
    pair = found.pop("batch_isend_irecv").communication.by_kind()
    assert pair == {"send": Volume(1, X, X), "recv": Volume(1, X // 4, X // 4)}
    for name, profile in found.items():
        (record,) = profile.communication.records
        sent = record.collective
        numbers = record.calls, sent.buffer_bytes, sent.bus_bytes, record.bytes_read, record.bytes_written
        assert (sent.kind, *numbers) == EXPECTED[name], name
        assert (sent.ranks, record.family, record.cost.macs) == (SIZE, "collective", 0), name
        assert profile.coverage.complete, name


def test_a_group_is_called_by_the_dimension_of_a_mesh_else_as_its_maker_calls_it():
    whole, pair, dp, tp, named, both = run(names, SIZE, fake=True)[1]
    assert list(whole.values()) == [(0, 1, 2, 3)]
    assert pair == {"pair": (0, 1)}
    assert (dp, tp) == ({"dp": (1, 3)}, {"tp": (0, 1)})
    assert named == {"world": (0, 1, 2, 3)}
    assert both == {"dp": (1, 3), "tp": (0, 1)}
