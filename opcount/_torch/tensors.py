"""Facts about tensors and storages that only private names give."""

from __future__ import annotations

from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any

from opcount._torch.lookup import VERSION, need, needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

with needed():
    from torch._prims_common import suggest_memory_format

storage_key: Callable[[Any], int] = attrgetter("_cdata")
"""Returns the address of a storage in C++: the same for every Python object that stands for it."""
version_of: Callable[[Tensor], int] = attrgetter("_version")
"""Returns how often a tensor was written into; an inference tensor does not count."""
base_of: Callable[[Tensor], Tensor | None] = attrgetter("_base")
is_view: Callable[[Tensor], bool] = methodcaller("_is_view")
hooks_of_tensor: Callable[[Tensor], Any] = attrgetter("_backward_hooks")
accumulation_hooks_of: Callable[[Tensor], Any] = attrgetter("_post_accumulate_grad_hooks")
is_zero_tensor: Callable[[Tensor], bool] = methodcaller("_is_zerotensor")
"""Returns whether a tensor is all zeros without any memory, as autograd makes them."""
has_symbolic_shape: Callable[[Tensor], bool] = attrgetter("_has_symbolic_sizes_strides")
sparse_indices: Callable[[Tensor], Tensor] = methodcaller("_indices")
"""Returns the indices of a sparse COO tensor that need not be coalesced, as the public method demands."""
sparse_values: Callable[[Tensor], Tensor] = methodcaller("_values")
nested_sizes_of: Callable[[Tensor], Tensor] = methodcaller("_nested_tensor_size")

GIVES_CLASSES_UNDER_MODES: bool = VERSION >= (2, 6)
"""Flag: ``Tensor.as_subclass`` works under a dispatch mode. Since 2.6; before, it fails as constructors do."""

make_subclass: Any = need("Tensor._make_subclass")
"""Makes a tensor of a class from the memory of another: what constructors of subclasses and parameters call."""

shape_as_tensor: Callable[[Tensor], Tensor] = need("_shape_as_tensor")
"""Returns the sizes of a tensor as a tensor of integers, which its kernel fills where no dispatch mode sees it."""


def mark_parameter(tensor: Tensor) -> None:
    """Make a tensor of another class pass for a parameter, as ``isinstance`` asks."""
    tensor._is_param = True


# Weak references to storages, by their addresses.
weak_reference: Callable[[Any], int] = methodcaller("_weak_ref")
is_dead: Callable[[int], bool] = need("UntypedStorage._expired")
drop_weak_reference: Callable[[int], None] = need("UntypedStorage._free_weak_ref")
revived: Callable[[int], Any] = need("UntypedStorage._new_with_weak_ptr")
"""Returns the storage of a weak reference; None if it is gone."""

KEEPS_STORAGE_OBJECTS: bool = VERSION >= (2, 2)
"""Flag: a storage keeps its Python object, so that a weak reference to that tells when it dies. Since 2.2."""

untyped_memory: Callable[[Any], Any] = attrgetter("_untyped_storage")
"""Returns the memory of a ``TypedStorage``, whose public method warns that the class is deprecated."""
