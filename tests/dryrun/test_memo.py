"""Memoized results are those of FakeTensorMode, over PyTorch's operator database."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_utils import set_rng_seed
from torch.utils._pytree import tree_flatten, tree_map

from opcount import OpCounter, get_model_complexity_info
from opcount.dryrun import dry_run
from opcount.errors import DryRunError, UncountedOperatorWarning
from tests.features import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLES = 2

_NEEDS_VALUES = ("DataDependentOutputException", "DynamicOutputShapeException")
"""Errors of fake tensors where a dry run may know the value."""


def metadata(value: Any, inputs: list[Tensor]) -> Any:
    """Describe a result by all that shapes decide, and by the inputs whose memory it shares."""
    if not isinstance(value, Tensor):
        return repr(value)
    layout = (value.stride(), value.storage_offset()) if value.layout == torch.strided else ()
    shares = [i for i, t in enumerate(inputs) if _storage(t) is not None and _storage(t) == _storage(value)]
    return tuple(value.shape), value.dtype, value.device, layout, value.is_conj(), shares


def _storage(tensor: Tensor) -> int | None:
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else None


def outcome(op: Any, sample: Any) -> Any:
    """Run an operator on fake copies of a sample's tensors; return what comes out, or the kind of error."""
    fake = tree_map(
        lambda t: torch.empty_like(t) if isinstance(t, Tensor) else t, (sample.input, sample.args, sample.kwargs)
    )
    inputs = [t for t in tree_flatten(fake)[0] if isinstance(t, Tensor)]
    versions = [t._version for t in inputs]
    try:
        out = op(fake[0], *fake[1], **fake[2])
    except Exception as error:  # noqa: BLE001  (the kind of error is what is compared)
        return _kind(error)
    results = [metadata(r, inputs) for r in tree_flatten(out)[0]]
    return results, [t._version - v for t, v in zip(inputs, versions, strict=True)]


def _kind(error: Exception) -> str:
    cause = error.__cause__ if type(error).__name__ == "DryRunError" else error
    return type(cause).__name__


@contextmanager
def _counted() -> Iterator[None]:
    """Let a counter ask the memory, which is how operators of a dry run reach it."""
    with suppress(DryRunError), warnings.catch_warnings():  # raised again at the end: an operator was refused
        warnings.simplefilter("ignore", UncountedOperatorWarning)
        with OpCounter(dry_run=True):
            yield


@pytest.mark.parametrize("op", op_db, ids=lambda op: f"{op.name}_{op.variant_test_name}".rstrip("_"))
@pytest.mark.filterwarnings("ignore")  # of the samples themselves, some of them given once in a process
def test_memory_answers_what_fake_tensors_do(op: Any) -> None:
    supported = op.supported_dtypes("cpu")
    for dtype in [torch.float32] if torch.float32 in supported else sorted(supported, key=str)[:1]:
        compare(op, dtype)


def compare(op: Any, dtype: torch.dtype) -> None:
    if op.name == "sparse.sampled_addmm":
        require("a shape function of sampled products")
    if op.name == "torch._scaled_mm_v2":
        require("samples of scaled products that ask for no GPU")
    if op.name == "sparse.mm":
        require("fake copies of CSR tensors")
    set_rng_seed(0)
    samples = list(islice(op.sample_inputs_func(op, "cpu", dtype, False), SAMPLES))
    with FakeTensorMode(allow_non_fake_inputs=True):
        expected = [outcome(op, sample) for sample in samples]
    with suppress(DryRunError), dry_run():  # raised again at the end: an operator was refused
        first = [outcome(op, sample) for sample in samples]
        second = [outcome(op, sample) for sample in samples]
    for found in (first, second):
        assert [e if e in _NEEDS_VALUES else f for e, f in zip(expected, found, strict=True)] == expected
    with _counted():
        third = [outcome(op, sample) for sample in samples]
    assert [e if e in _NEEDS_VALUES else t for e, t in zip(expected, third, strict=True)] == expected


def test_memory_makes_proper_fake_tensors() -> None:
    with dry_run():
        x = torch.randn(3, 4)
        first = x + x
        _, second = x + x, x + x  # by then it is known what a fake tensor looks like
    assert isinstance(second, FakeTensor)
    assert vars(second).keys() - {"made_as"} == vars(first).keys() - {"made_as"}
    assert vars(second)["fake_mode"] is vars(first)["fake_mode"]
    assert second.untyped_storage().nbytes() == 3 * 4 * 4


def test_numbers_of_torch_tensor_stay_known() -> None:
    with OpCounter(dry_run=True):
        assert torch.tensor([]).tolist() == []
        assert torch.tensor([3]).item() == 3
        x = torch.cat([torch.tensor([]), torch.randn(4)])
        assert (isinstance(x, FakeTensor), x.shape) == (True, (4,))
        both = torch.cat([torch.tensor([5]), torch.tensor([])])
        assert both.tolist() == [5.0]


def test_an_empty_tensor_that_is_written_to_is_no_longer_known() -> None:
    with OpCounter(dry_run=True):
        x = torch.tensor([])
        x.resize_(3).uniform_()
        assert (tuple(x.shape), x.known) == ((3,), False)  # type: ignore[attr-defined]


def test_one_odd_answer_does_not_decide_what_an_operator_is_in_later_dry_runs() -> None:
    class First(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x[:, 0])

    with OpCounter(dry_run=True):
        get_model_complexity_info(First(4, 4), (3, 4), dry_run=True)
    with OpCounter(dry_run=True):
        assert bool((torch.arange(8)[None][:, -1] == 7).all())  # a view of known numbers is known


def _put_data(x: Tensor) -> Tensor:
    x.data = torch.ones(3, 8) * 2
    return x


def _write_out(x: Tensor) -> Tensor:
    return torch.add(torch.ones(3, 8), 1, out=x.new_empty(0))


def _take_attributes(x: Tensor) -> Tensor:
    x = x.reshape(2, 8)
    vars(x).update(vars(x[:1] * 2))  # as subclasses do that wrap results
    return x


RESHAPED = {
    "t_": lambda x: x.t_().t_().t_(),
    "unsqueeze_": lambda x: x.unsqueeze_(0)[0].reshape(2, 8),
    "squeeze_": lambda x: x.view(1, 2, 8).squeeze_(0),
    "transpose_": lambda x: x.transpose_(0, 1),
    "as_strided_": lambda x: x.as_strided_((1, 8), (8, 1)),
    "resize_": lambda x: x.resize_(1, 8),
    "set_": lambda x: x.set_(torch.ones(3, 8) * 2),
    "data": _put_data,
    "out": _write_out,
    "attributes": _take_attributes,
}
"""Programs that change the shape of a tensor that the dry run has made, without making another."""


@pytest.mark.parametrize("reshape", RESHAPED.values(), ids=RESHAPED)
def test_a_tensor_that_changes_its_shape_is_counted_as_it_is_then(reshape: Callable[[Tensor], Tensor]) -> None:
    counts = []
    for dry in (False, True):
        with torch.no_grad(), OpCounter(dry_run=dry) as c:
            x = torch.randn(300, 300)[:2, :8] * 2  # unknown
            for _ in range(2):
                y = reshape(x * 1)
                _ = y + y
                _ = y @ y.t()
        counts.append([(r.operator, r.calls, r.cost, r.bytes_read, r.bytes_written) for r in c.profile.records])
    assert counts[1] == counts[0]


def test_a_parameter_that_gets_other_data_is_counted_as_it_is_then() -> None:
    layer = torch.nn.Linear(4, 8)
    before = layer.weight.data
    x = torch.randn(2, 4)
    with torch.no_grad(), OpCounter(layer, dry_run=True) as c:
        _ = layer(x)
        layer.weight.data = torch.ones(3, 4)
        layer.bias.data = torch.ones(3)
        _ = layer(x)
    assert c.macs == 2 * 4 * 8 + 2 * 4 * 3
    assert (layer.weight.shape, layer.weight.data_ptr()) == ((8, 4), before.data_ptr())


@pytest.mark.parametrize(
    "call",
    [
        torch.nn.functional.rrelu,
        lambda x: torch.nn.functional.rrelu(x, training=True),
        lambda x: torch.batch_norm_update_stats(x, torch.zeros(300), torch.ones(300), 0.1)[0],
    ],
    ids=["rrelu", "rrelu that trains", "batch_norm_update_stats"],
)
def test_operators_that_write_what_no_schema_says_are_answered_twice(call: Any) -> None:
    ariths = []
    for dry in (False, True):
        with OpCounter(dry_run=dry) as c:
            x = torch.randn(400, 300) @ torch.randn(300, 300)
            for _ in range(2):
                call(x)
        ariths.append(c.arith)
    assert ariths[0] == ariths[1] > 400 * 300
