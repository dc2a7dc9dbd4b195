"""Every operator is decided: PyTorch's own database of operators, run under the counter and without it."""

from __future__ import annotations

import random
import re
import sys
import warnings
from collections import Counter
from contextlib import contextmanager, nullcontext
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from opcount.counter import OpCounter
from opcount.formulas import rule_for
from opcount.registry import BUILTIN, operator_keys
from tests.features import custom_op, tree_leaves

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torch's own test utilities import
    from torch.testing._internal.common_methods_invocations import op_db

SAMPLES = 4
DTYPES = (torch.float32, torch.complex64, torch.bfloat16, torch.int64)

UNCOUNTED: dict[str, str] = {}
"""Overloads that no formula, rule or declaration explains even when they are opened, and why."""

_COMPOSED = "written in terms of operators that are priced: opened"
_TEST = "PyTorch's own tests call it"
UNDECIDED = {
    "_native::_foreach_mm_native": _COMPOSED,
    "_native::bmm_triton": "a kernel behind bmm, which is priced",
    "_native::linalg_polar_native": _COMPOSED,
    "_native::linalg_polar_out_native": _COMPOSED,
    "aten::_cslt_sparse_mm_search": "tries kernels of a product until it knows the fastest",
    "aten::_foobar": _TEST,
    "aten::_spsolve": "a sparse factorization fills in as the data tell",
    "aten::_test_autograd_multiple_dispatch": _TEST,
    "aten::_test_functorch_fallback": _TEST,
    "aten::_test_optional_filled_intlist": _TEST,
    "aten::_test_optional_floatlist": _TEST,
    "aten::_test_optional_intlist": _TEST,
    "aten::_test_parallel_materialize": _TEST,
    "aten::_test_warn_in_autograd": _TEST,
    "aten::adaptive_avg_pool1d": _COMPOSED,
    "aten::adaptive_avg_pool2d": _COMPOSED,
    "aten::adaptive_avg_pool3d": _COMPOSED,
    "aten::avg_pool1d": _COMPOSED,
    "aten::linalg_polar": _COMPOSED,
    "inductor::accumulate_grad_": _COMPOSED,
    "mkldnn_prepacked::conv2d_run": "its weight is known to its own library alone",
    "static_runtime::embedding_bag": "for a runtime of compiled graphs",
    "static_runtime::layer_norm": "for a runtime of compiled graphs",
    "symm_mem::_async_input_mm": _COMPOSED,  # defined when torch.distributed is imported
}
"""Packets that have an overload without formula, rule or declaration, and why."""

NAMESPACES = {
    *("aten", "prims", "quantized", "_quantized", "onednn", "mkldnn", "mkldnn_prepacked", "mkl", "sparse", "inductor"),
    *("static_runtime", "quantization", "c10d", "_c10d_functional", "symm_mem", "profiler", "_native", "rngprims"),
}

GARBAGE = {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided", "resize_"}
"""Operators whose output is whatever memory held."""

WAVERING = {"linalg.lstsq"}
"""Operators that do not give the same bits twice, counter or not."""

OTHER_UNDER_A_MODE = {"linalg.matrix_sqrth", "linalg.pinv", "pinverse", "prod"}
"""Operators for which PyTorch takes another path under any dispatch mode, an empty one included."""

ABSENT = {"jiterator_2inputs_2outputs", "jiterator_4inputs_with_extra_args", "jiterator_binary",
          "jiterator_binary_return_by_ref", "jiterator_unary"}  # fmt: skip
"""Operators that exist on CUDA alone."""


class Empty(TorchDispatchMode):
    """A dispatch mode that does nothing."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@contextmanager
def quiet():
    """Let operators warn: of beta support, of deprecation, of differing shapes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def seed():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (the database draws from the global generator)
    random.seed(0)


def samples(op, dtype):
    grad = op.supports_autograd and dtype in op.supported_backward_dtypes("cpu")
    seed()
    with quiet():
        return list(islice(op.sample_inputs_func(op, "cpu", dtype, grad), SAMPLES))


def run(op, sample):
    """Return outputs and gradients, or the type of the exception."""
    seed()
    try:
        out = op(sample.input, *sample.args, **sample.kwargs)
        outs = [o for o in tree_leaves(out) if isinstance(o, torch.Tensor)]
        ends = tree_leaves(sample.output_process_fn_grad(out))
        ends = [o for o in ends if isinstance(o, torch.Tensor) and o.requires_grad]
        leaves = [x for x in tree_leaves((sample.input, sample.args, sample.kwargs)) if isinstance(x, torch.Tensor)]
        leaves = [x for x in leaves if x.requires_grad and x.is_leaf]
        grads = ()
        if ends and leaves:
            grads = torch.autograd.grad(ends, leaves, [torch.ones_like(o) for o in ends], allow_unused=True)
    except Exception as error:  # noqa: BLE001  (whatever the bare operator raises, the counted one must raise, too)
        return type(error), ()
    return outs, grads


def same(left, right):
    if isinstance(left, type) or isinstance(right, type):
        return left is right
    return len(left) == len(right) and all(map(identical, left, right))


def identical(a, b):
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)


def bits(x):
    x = x.detach() if x.layout is torch.strided else x.detach().to_dense()
    x = x.resolve_conj().resolve_neg()
    return torch.empty(x.shape, dtype=x.dtype).copy_(x).flatten().view(torch.uint8).numpy().tobytes()


def dtypes_of(op):
    return [dtype for dtype in DTYPES if dtype in op.supported_dtypes("cpu")]


OPERATORS = [op for op in op_db if op.name not in ABSENT and dtypes_of(op)]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.formatted_name)
def test_an_operator_is_explained_and_computes_the_same_bits_under_the_counter(op):
    for dtype in dtypes_of(op):
        for bare, counted in zip(samples(op, dtype), samples(op, dtype), strict=True):
            with quiet():
                with Empty() if op.name in OTHER_UNDER_A_MODE else nullcontext():
                    outs, grads = run(op, bare)
                with OpCounter() as c:
                    counted_outs, counted_grads = run(op, counted)
            assert set(c.coverage.uncounted) <= set(UNCOUNTED), dtype
            if op.name not in GARBAGE | WAVERING:
                assert same(outs, counted_outs), (dtype, outs, counted_outs)
                assert same(grads, counted_grads), dtype


def test_every_overload_of_the_database_is_counted_or_free(capsys):
    with quiet(), OpCounter() as c:
        for op in OPERATORS:
            for dtype in dtypes_of(op):
                for sample in samples(op, dtype)[:2]:
                    run(op, sample)
                    run(op.inplace_variant or op, sample)
    families = {r.operator: r.family for r in c.profile.records}
    verdicts = Counter(
        {"elementwise": "by rule", "reduction": "by rule", "free": "free", "uncounted": "uncounted"}.get(f, "counted")
        for f in families.values()
    )
    with capsys.disabled():
        print("\noverloads:", ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items())))  # noqa: T201
    assert {name for name, family in families.items() if family == "uncounted"} == set(UNCOUNTED)
    assert sum(verdicts.values()) > 500


def overloads():
    """Yield the overloads of PyTorch that end in a kernel of their own."""
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = name.partition("::")
        if namespace in NAMESPACES and not is_composite(name):
            packet, _, overload = rest.partition(".")
            yield getattr(getattr(getattr(torch.ops, namespace), packet), overload or "default")


def is_composite(name):
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd")


def test_every_overload_of_this_pytorch_is_decided():
    decided = lambda func: rule_for(func) or any(f.when is None for f in BUILTIN.find(operator_keys(func)))
    undecided = {name_of(func) for func in overloads() if not decided(func)}
    assert undecided - inductors_own() <= set(UNDECIDED)


def name_of(func):
    """Return the name of an overload's packet without a native one's number, which depends on what is installed."""
    name = func._schema.name
    return re.sub(r"_\d+$", "", name) if name.startswith("_native::") else name


def inductors_own():
    """Return the operators that inductor adds to its graphs, if a test has loaded it: no program calls them."""
    home = sys.modules.get("torch._inductor.inductor_prims")
    packets = (
        p for p in vars(home or object).values() if isinstance(p, torch._ops.OpOverload | torch._ops.OpOverloadPacket)
    )
    return {str(p).replace(".default", "").replace(".", "::", 1) for p in packets}


@pytest.fixture(scope="module")
def custom():
    """Two custom operators: one made of operators, one of which nothing is known."""

    @custom_op("opcount_tests::twice", mutates_args=())
    def twice(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        return [x @ y, x @ y]

    @custom_op("opcount_tests::opaque", mutates_args=())
    def opaque(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() + 1)

    return twice, opaque


def test_a_custom_operator_is_opened_for_every_counter_around_it(custom):
    twice, _ = custom
    with OpCounter() as outer, OpCounter() as inner:
        twice(torch.ones(2, 3), torch.ones(3, 5))
    assert inner.macs == outer.macs == 2 * (2 * 3 * 5)
    assert inner.coverage.complete
    assert outer.coverage.complete


def test_an_opaque_operator_is_named_by_every_counter_around_it(custom):
    _, opaque = custom
    with quiet(), OpCounter() as outer, OpCounter() as inner:
        opaque(torch.ones(3))
    assert set(inner.coverage.uncounted) == set(outer.coverage.uncounted) == {"opcount_tests.opaque.default"}
