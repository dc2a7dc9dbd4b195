"""Operators, dispatch keys, kernels, and each thread's stack of dispatch modes."""

from __future__ import annotations

from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any

from opcount._torch.fake_slot import fake_mode, pop_mode, set_fake_mode, take_fake_mode
from opcount._torch.lookup import VERSION, find, need, needed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor

with needed():
    from torch import Tag
    from torch._C import DispatchKey, DispatchKeySet
    from torch._higher_order_ops import utils as higher_order_utils
    from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket
    from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

# The stack of modes. PyTorch's own context managers tell dynamo about every mode that is pushed; opcount's do not.
mode_count: Callable[[], int] = need("_C._len_torch_dispatch_stack")
mode_at: Callable[[int], Any] = need("_C._get_dispatch_stack_at")
push_mode: Callable[[Any], None] = need("_C._push_on_torch_dispatch_stack")
disabled_modes: Callable[[], AbstractContextManager[object]] = _disable_current_modes

# Context managers that switch a part of the dispatcher off. They are entered and left in C++, so that no interrupt
# comes between.
dispatch_disabled: Callable[[], AbstractContextManager[object]] = need("_C._DisableTorchDispatch")  # every mode
functions_disabled: Callable[[], AbstractContextManager[object]] = need("_C.DisableTorchFunction")  # with modes
subclass_functions_disabled: Callable[[], AbstractContextManager[object]] = need("_C.DisableTorchFunctionSubclass")
below_autograd: Callable[[], AbstractContextManager[object]] = need("_C._AutoDispatchBelowAutograd")
without_keys: Callable[[DispatchKeySet], AbstractContextManager[object]] = need("_C._ExcludeDispatchKeyGuard")
state_before_modes: Callable[[], AbstractContextManager[object]] = need("_C._RestorePythonTLSSnapshot")
"""Gives a kernel the thread-local dispatch state from before the mode was called: autocast, autograd."""

# Dispatch keys, of tensors and of this thread.
keys_of: Callable[[Tensor], DispatchKeySet] = need("_C._dispatch_keys")
keys_after: Callable[[DispatchKey], DispatchKeySet] = need("_C._dispatch_keyset_full_after")
excluded_keys: Callable[[], DispatchKeySet] = need("_C._dispatch_tls_local_exclude_set")
is_included: Callable[[DispatchKey], bool] = need("_C._dispatch_tls_is_dispatch_key_included")
set_included: Callable[[DispatchKey, bool], None] = need("_C._dispatch_tls_set_dispatch_key_included")
set_excluded: Callable[[DispatchKey, bool], None] = need("_C._dispatch_tls_set_dispatch_key_excluded")
BELOW_MODES: DispatchKeySet = keys_after(DispatchKey.Python)
"""The keys that a call still has to pass after a dispatch mode has seen it."""

# Kernels of operators, by the operator's name and the key's name.
is_registered: Callable[[str], bool] = need("_C._dispatch_has_kernel")
has_kernel: Callable[[str, str], bool] = need("_C._dispatch_has_kernel_for_dispatch_key")
has_computed_kernel: Callable[[str, str], bool] = need("_C._dispatch_has_computed_kernel_for_dispatch_key")
is_fallthrough: Callable[[str, str], bool] = find("_C._dispatch_kernel_for_dispatch_key_is_fallthrough")
"""Asked only where `CAN_REDISPATCH`: 2.1 lacks it."""
dump_kernels: Callable[[str], str] = need("_C._dispatch_dump")
"""Returns a text with a line for each kernel: the only source for which of them are PyTorch's autograd kernels."""

# Operators without the way through Python's wrappers.
FUNCTIONS: Any = need("_C._VariableFunctions")
script_builtin: Callable[[Any], str | None] = need("jit._builtins._find_builtin")
"""Returns the operator that a scripted call of a Python function becomes."""
register_script_builtin: Callable[[Any, str], None] = need("jit._builtins._register_builtin")
ScriptMethod: Any = need("_C.ScriptMethod")
optimizes_scripts: Callable[[], bool] = need("_C._get_graph_executor_optimize")
"""Returns whether TorchScript optimizes on this thread; it then notes what it runs, and runs it otherwise next time."""
optimize_scripts: Callable[[bool], None] = need("_C._set_graph_executor_optimize")
NN_FUNCTIONS: Any = need("_C._nn")
METHODS: Any = need("_C.TensorBase", "_C._TensorBase")  # since 2.2; as it was called before
CALLS_ITS_OP: bool = OpOverload.__call__.__code__.co_names == ("_op",)
"""True if a call of an overload does nothing but call its operator; from 2.15 on it does more."""
plain_operator: Callable[[OpOverload], Callable[..., Any]] = attrgetter("_op")
"""Returns the function of C++ that an overload calls."""
schema_of: Callable[[Any], Any] = attrgetter("_schema")
WRITES_HIDE_VIEWS: bool = VERSION < (2, 13)
"""True if a custom operator that writes hides the tracking of writes and views from what it calls. Up to 2.12."""
_UPDATE_STATISTICS = """
batch_norm batch_norm_gather_stats batch_norm_gather_stats_with_counts batch_norm_update_stats _batch_norm_impl_index
cudnn_batch_norm instance_norm miopen_batch_norm native_batch_norm
"""
_UNSAID_WRITES = {
    *((f"aten::{name}", f"running_{what}") for name in _UPDATE_STATISTICS.split() for what in ("mean", "var")),
    ("aten::rrelu_with_noise", "noise"),  # schemas say so since 2.6
    ("aten::rrelu_with_noise_", "noise"),
}
"""Operators and arguments that these write, of which schemas say nothing."""


_UNTAGGED = {"aten::set_"}
"""Operators that change the shape of a tensor, which no tag says up to 2.1."""


def changes_shape(func: OpOverload) -> bool:
    """Return whether an operator turns its first argument into another view, in place."""
    return Tag.inplace_view in func.tags or schema_of(func).name in _UNTAGGED


def is_written(func: OpOverload, argument: Any) -> bool:
    """Return whether an operator writes into an argument of its schema."""
    alias = argument.alias_info
    return (alias is not None and alias.is_write) or (schema_of(func).name, argument.name) in _UNSAID_WRITES


CPU_ATTENTION: OpOverload | None = find("ops.aten._scaled_dot_product_flash_attention_for_cpu.default")
"""Operator that attention runs on a CPU: since 2.2. Before, `FLASH_ATTENTION` without a mask, else single products."""
FLASH_ATTENTION: OpOverload = need("ops.aten._scaled_dot_product_flash_attention.default")


def aten(name: str) -> OpOverload:
    """Return an overload of PyTorch's own by its name, which begins with an underscore."""
    overload: OpOverload = need(f"ops.aten.{name}")
    return overload


def run_kernel(func: OpOverload, key: DispatchKey, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the kernel that an operator has for a key, whatever the keys of its arguments."""
    return func._op_dk(key, *args, **kwargs)


CAN_REDISPATCH: bool = hasattr(OpOverload, "redispatch")
"""Flag: an operator's own kernel can be run for a set of keys. Since 2.4; before, no operator is opened."""

destroy_library: Callable[[Any], None] = methodcaller("_destroy")
"""Takes back the kernels of a ``torch.library.Library``."""
