"""Bytes that cuDNN keeps of recurrent layers for backward, against those read on an H100 (PyTorch 2.11, cuDNN 9.19)."""

from __future__ import annotations

import pytest
import torch

from opcount import OpCounter

SIZES = [
    (128, 256, 1, 4, 64, 0.0, False),
    (128, 256, 2, 4, 64, 0.0, False),
    (128, 256, 3, 4, 64, 0.0, False),
    (128, 256, 2, 4, 64, 0.1, False),
    (128, 256, 2, 4, 64, 0.0, True),
    (128, 256, 1, 4, 64, 0.0, True),
    (128, 256, 2, 4, 64, 0.1, True),
    (64, 64, 2, 8, 16, 0.0, True),
    (16, 32, 2, 4, 10, 0.0, True),
    (512, 1024, 2, 32, 128, 0.0, False),
    (100, 33, 1, 3, 7, 0.0, False),
    (256, 256, 1, 1, 1, 0.0, False),
]
"""Width of the input and of the state, layers, batch, steps, dropout, and whether there are two directions."""

MEASURED = {
    ("LSTM", torch.float32): [
        1310976, 2883840, 4456704, 2892032, 5767424, 2621696, 5800192, 721152,
        112896, 184549632, 14144, 5376,
    ],
    ("LSTM", torch.bfloat16): [
        655616, 1442048, 2228480, 1450240, 2883840, 1310976, 2916608, 360704,
        56576, 92274944, 7232, 2816,
    ],
    ("GRU", torch.float32): [
        1573120, 3408128, 5243136, 3416320, 6816000, 3145984, 6848768, 852224,
        133376, 218104064, 16896, 6400,
    ],
    ("GRU", torch.bfloat16): [
        786688, 1704192, 2621696, 1712384, 3408128, 1573120, 3440896, 426240,
        66816, 109052160, 8576, 3328,
    ],
    ("RNN", torch.float32): [
        262400, 786688, 1310976, 794880, 1573120, 524544, 1605888, 196864,
        30976, 50331904, 3040, 1280,
    ],
    ("RNN", torch.bfloat16): [
        131328, 393472, 655616, 401664, 786688, 262400, 819456, 98560,
        15616, 25166080, 1664, 768,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "dtype"), MEASURED, ids=str)
def test_a_recurrent_layer_keeps_what_it_was_seen_to_keep(kind, dtype):
    for sizes, kept in zip(SIZES, MEASURED[kind, dtype], strict=True):
        width, hidden, layers, batch, steps, dropout, both = sizes
        model = getattr(torch.nn, kind)(
            width, hidden, layers, batch_first=True, dropout=dropout, bidirectional=both, dtype=dtype
        )
        with OpCounter(model, dry_run=True, memory=True, device="H100-SXM5") as c:
            out, _ = model(torch.empty(batch, steps, width, dtype=dtype))
            out.sum().backward()
        assert c.memory.saved_by_operator()["aten._cudnn_rnn.default"] == kept, sizes  # its results are outputs
        assert any("_cudnn_rnn" in each for each in c.memory.unknown)  # its workspace, which comes on top
