"""Nested tensors have no shape to show, and are counted all the same."""

import pytest
import torch
from torch import nn

from opcount import OpCounter
from tests.features import needs


@needs("torch._ops.OpOverload.redispatch")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_an_encoder_with_padding_computes_the_tokens_that_are_there(mode):
    e, hidden, heads, tokens = 16, 32, 2, 5 + 3
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(e, heads, hidden, batch_first=True), 2).eval()
    padding = torch.tensor([[False] * 3 + [True] * 2, [False] * 5])
    with mode(), OpCounter(encoder) as c:
        encoder(torch.randn(2, 5, e), src_key_padding_mask=padding)
    projections = tokens * (3 * e * e + e * e + 2 * e * hidden)
    attention = 2 * 2 * 5 * 5 * e  # scores and their product with the values, on two padded sequences
    assert c.macs == 2 * (projections + attention)
    assert c.coverage.complete
