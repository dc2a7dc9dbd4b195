"""What cuDNN keeps of a recurrent layer for its backward, against sizes read on an H100 (PyTorch 2.11, cuDNN 9.19)."""

from __future__ import annotations

import pytest
import torch

from opcount import OpCounter

MEASURED = {
    (512, 1024, 2, 32, 128, 0.0): 184_549_632,
    (512, 1024, 1, 32, 128, 0.0): 83_886_336,
    (512, 512, 2, 32, 128, 0.0): 92_274_944,
    (128, 256, 2, 4, 64, 0.0): 2_883_840,
    (128, 256, 2, 4, 64, 0.1): 2_892_032,
}
"""Bytes by width of the input, of the state, layers, batch, steps and dropout."""


@pytest.mark.parametrize("sizes", MEASURED, ids=str)
def test_an_lstm_keeps_what_it_was_seen_to_keep(sizes):
    width, hidden, layers, batch, steps, dropout = sizes
    model = torch.nn.LSTM(width, hidden, layers, batch_first=True, dropout=dropout)
    with OpCounter(model, dry_run=True, memory=True, device="H100-SXM5") as c:
        out, _ = model(torch.empty(batch, steps, width))
        out.sum().backward()
    assert c.memory.saved_by_operator()["aten._cudnn_rnn.default"] == MEASURED[sizes]  # its results are outputs
    assert any("_cudnn_rnn" in each for each in c.memory.unknown)  # its workspace, which comes on top
