"""Kernels that PyTorch launches past its dispatcher: CUDA graphs, and elementwise kernels compiled at run time."""

from __future__ import annotations

from typing import Any

import torch

from opcount._torch.lookup import need

CudaGraph: Any = torch.cuda.CUDAGraph
JiteratorFunction: Any = need("cuda.jiterator._JittedFunction")


def is_captured(tensor: torch.Tensor) -> bool:
    """Return whether a CUDA graph is being captured, so that a tensor cannot be read."""
    return tensor.is_cuda and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
