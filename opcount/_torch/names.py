"""Files and modules of PyTorch, by which a Python frame or a class is known to be PyTorch's own."""

from __future__ import annotations

import torch
import torch.utils.checkpoint

from opcount._torch.lookup import need

CHECKPOINT_FILE: str = torch.utils.checkpoint.__file__
MODULE_FILE: str = torch.nn.modules.module.__file__
OPERATORS_FILE: str = need("_ops").__file__
PARAMETER_FILE: str = torch.nn.parameter.__file__
RECURRENT_FILE: str = torch.nn.modules.rnn.__file__
STORAGE_FILE: str = torch.storage.__file__
TENSOR_FILE: str = need("_tensor").__file__

FAKE_TENSORS = "torch._subclasses."
"""Begins the names of the modules of fake and functional tensors."""
FAKE_TENSOR_LOG = "torch._subclasses.fake_tensor"
"""The logger of fake tensors."""
FUNCTORCH_FUNCTIONS = "torch._functorch.autograd_function"
"""The module in which functorch makes functions of a program's own."""
LIBRARY_FUNCTIONS = "torch._library.autograd"
"""The module in which ``torch.library`` makes functions of operators, whose backward is a program's own."""
