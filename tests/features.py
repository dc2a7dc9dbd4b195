"""Names that some versions of PyTorch lack: tests that need one are skipped there, and say which.

In the body of a test nothing has to be written: one that ends because this PyTorch lacks a name is skipped
(`conftest.py`). Before 2.13 only: that version has all of them.
"""

from __future__ import annotations

import re
import traceback
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest
import torch
from torch.utils._pytree import tree_flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TESTS = Path(__file__).parent
VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])
WHOLE = 2, 13
"""The version that the whole suite runs with, which shows that each name is spelt right."""


SINCE = {
    "a NumPy array from DLPack that can be written to": (2, 9),
    "numbers of any class as scalars of operators": (2, 9),
    "every operator and argument that a formula names": WHOLE,
    "samples of scaled products that ask for no GPU": (2, 12),
    "a detach that modes see once": (2, 10),
    "a fast path under autocast on a CPU": (2, 6),
    "an AdamW that scales nothing without decay": (2, 7),
    "a length of the cache in use for packed attention": (2, 4),
    "attention of shared heads": (2, 5),
    "operands of invoke_subgraph one by one": (2, 8),
    "gradients of a cond that fake tensors can follow": (2, 9),
    "formulas for FLOPs that are registered by packet": (2, 5),
    "a shape function of packed attention": (2, 5),
    "a shape function of sampled products": (2, 5),
    "a linear layer of distributed tensors in inference mode": (2, 6),
    "a backward of scan that runs no forward again": WHOLE,
    "a map that runs its body in a dry run": (2, 8),
    "a scan that tries its body in the operator alone": (2, 9),
    "a while_loop that compares what its body returns": (2, 9),
    "a trace for an export that is not strict under a fake tensor mode": (2, 9),
    "fully_shard on a CPU": (2, 9),
    "grouped products on a CPU": (2, 9),
    "a jagged linear layer that computes only gradients that are asked for": (2, 6),
    "a product of two CSC matrices that does not crash": (2, 3),
    "attention of jagged nested tensors that does not crash on a CPU": (2, 3),
    "attention's fast path under autocast on a CPU": (2, 4),
    "attention that adds a mask as without a mode": (2, 4),
    "autocast to float16 on a CPU": (2, 4),
    "products of float16 on a CPU": (2, 4),
    "products of int8 on a CPU": (2, 4),
    "sparse products of bfloat16 on a CPU": (2, 4),
    "forward derivatives of products with numbers under a mode": (2, 4),
    "fake copies of CSR tensors": (2, 4),
    "fake tensors on a GPU that is not there": (2, 4),
    "fused steps of optimizers on a CPU": (2, 4),
    "the operators that PyTorch 2.13 chooses on CUDA": WHOLE,
}
"""Features that no name shows, and the first version that was seen to have each: 2.2 and 2.3 ran no tests."""


sees_kept_apply = pytest.mark.skipif(
    not hasattr(vars(torch.autograd.Function)["apply"], "__func__"),
    reason="apply is C++ from PyTorch 2.15 on: a function that was kept under another name is not seen",
)
"""Skip a test that calls a function by a name under which its ``apply`` was kept."""


def needs(*features: str) -> pytest.MarkDecorator:
    """Skip a test where this PyTorch lacks a name such as ``torch._ops.OpOverload.redispatch``, or one of `SINCE`."""
    lacking = _lacking(features)
    return pytest.mark.skipif(bool(lacking), reason=_reason(lacking))


def require(*features: str) -> None:
    """Skip the running test as `needs` does."""
    lacking = _lacking(features)
    if lacking:
        pytest.skip(_reason(lacking))


@contextmanager
def skipped_without_kernel() -> Iterator[None]:
    """Skip the running test if a bare program in the block has no kernel of oneDNN on this processor."""
    try:
        yield
    except RuntimeError as error:
        if "could not create a primitive descriptor" not in str(error):
            raise
        pytest.skip("oneDNN has no kernel for this program on this processor")


def feature(name: str) -> Any:
    """Return what PyTorch has by a name; where it has nothing, an object that skips the test which uses it."""
    found = _find(name)
    return _Lacking(name) if found is None else found


def custom_op(name: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make an operator as ``torch.library.custom_op`` does, which read no postponed annotations before 2.5."""

    def make(function: Callable[..., Any]) -> Any:
        if _find("torch.library.custom_op") is None:
            return _Lacking("torch.library.custom_op")
        hints = get_type_hints(function)
        function.__annotations__ = {of: None if hint is type(None) else hint for of, hint in hints.items()}
        return torch.library.custom_op(name, **options)(function)

    return make


def tree_leaves(tree: Any) -> list[Any]:
    """Return what a structure of lists, tuples and dicts holds; ``torch.utils._pytree.tree_leaves`` came with 2.2."""
    return tree_flatten(tree)[0]


def runs_of_scan(rounds: int) -> int:
    """Return how often a bare ``scan`` runs its body: before 2.13 some versions try it once or twice for its shapes."""
    scan = _find("torch._higher_order_ops.scan.scan") if VERSION < WHOLE else None
    if scan is None:
        return rounds
    runs: list[None] = []

    def body(carry: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        runs.append(None)
        return carry + x, carry * x

    with torch.compiler.set_stance("force_eager"):
        scan(body, torch.ones(3), torch.ones(rounds, 3))
    return len(runs)


def skip_if_lacking(error: AttributeError | ImportError) -> None:
    """Skip the running test if a file of the tests asks PyTorch for a name that it lacks, or a package is missing."""
    package = (error.name or "torch").partition(".")[0]
    if VERSION < WHOLE and isinstance(error, ModuleNotFoundError) and find_spec(package) is None:
        pytest.skip(f"not installed: {package}")
    frames = traceback.extract_tb(error.__traceback__)
    askers = [frame for frame in frames if frame.name != "__getattr__" and "importlib" not in frame.filename]
    name = _missing(error)
    if VERSION < WHOLE and name and askers and Path(askers[-1].filename).is_relative_to(TESTS):
        pytest.skip(_reason(name))


class _Lacking:
    """Stands for what this PyTorch lacks."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.startswith("register_"):  # parts of a custom operator, which decorate
            return lambda part, **_: part
        return _Lacking(f"{self._name}.{name}")

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        pytest.skip(_reason(self._name))


def _lacking(features: tuple[str, ...]) -> str:
    return ", ".join(name for name in features if (SINCE[name] > VERSION if name in SINCE else _find(name) is None))


def _find(name: str) -> Any:
    path, *rest = name.split(".")
    found: Any = import_module(path)
    for part in rest:
        path = f"{path}.{part}"
        try:
            found = import_module(path)  # a package may show a function by the name of its module
        except ImportError:
            try:
                found = getattr(found, part)
            except AttributeError:
                return None
    return found


def _missing(error: AttributeError | ImportError) -> str | None:
    """Return the name below ``torch`` that an error says is missing."""
    text = str(error)
    for pattern in (
        r"cannot import name '(?P<name>\w+)' from '(?P<owner>torch[\w.]*)'",
        r"No module named '(?P<owner>torch)\.(?P<name>[\w.]+)'",
        r"module '(?P<owner>torch[\w.]*)' has no attribute '(?P<name>\w+)'",
        r"The underlying op of '(?P<owner>[\w.]+)' has no overload name '(?P<name>\w+)'",
        r"'_(?:Py)?OpNamespace' '(?P<owner>[\w.]+)' object has no attribute '(?P<name>\w+)'",
    ):
        found = re.match(pattern, text)
        if found:
            return f"{found['owner']}.{found['name']}"
    return None


def _reason(name: str) -> str:
    if name and VERSION == WHOLE:
        raise LookupError(
            f"tests.features: expected names that PyTorch {torch.__version__} has, got {name}. Correct it."
        )
    return f"PyTorch {torch.__version__} lacks {name}"
