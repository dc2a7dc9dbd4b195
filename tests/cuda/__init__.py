"""Tests that run on a CUDA device alone."""

import pytest
import torch


def needs_cuda() -> None:
    """Skip the file that calls this where PyTorch sees no CUDA device."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device", allow_module_level=True)
