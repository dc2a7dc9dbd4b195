"""Memory that PyTorch reads and writes in C++ for a program: what is copied stays unwritten, whatever is done later."""

from __future__ import annotations

import copy
import io
import pickle
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from opcount import OpCounter
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ZEROS = {dtype: torch.zeros(6, dtype=dtype).untyped_storage() for dtype in (torch.float32, torch.int64)}


class Buffers(nn.Module):
    """Floats, integers, a parameter, and views of memory that another buffer has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("floats", torch.arange(6.0))
        self.register_buffer("integers", torch.arange(6))
        self.register_buffer("view", self.get("floats")[:3])
        self.weight = nn.Parameter(torch.arange(6.0))

    def get(self, name: str) -> Tensor:
        return getattr(self, name).detach()  # type: ignore[no-any-return]


COPIES: dict[str, Callable[[Buffers, Tensor], object]] = {
    "deepcopy of the model": lambda model, _: copy.deepcopy(model),
    "deepcopy of the tensor": lambda _, tensor: copy.deepcopy(tensor),
    "deepcopy of a storage": lambda _, tensor: copy.deepcopy(tensor.untyped_storage()),
    "copy of a storage": lambda _, tensor: copy.copy(tensor.untyped_storage()),
    "clone of a storage": lambda _, tensor: tensor.untyped_storage().clone(),
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),  # noqa: S301  (it is ours)
    "save": lambda model, _: torch.save(model.state_dict(), io.BytesIO()),
}

WRITES: dict[str, Callable[[Tensor], object]] = {
    "mul_": lambda tensor: tensor.mul_(2),
    "copy_": lambda tensor: tensor.copy_(torch.zeros(1, dtype=tensor.dtype)),
    "a slice": lambda tensor: tensor.__setitem__(slice(2), 7),
    "out": lambda tensor: torch.add(tensor, 1, out=tensor),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("name", ["floats", "integers", "view", "weight"])
@pytest.mark.parametrize("way", COPIES)
def test_a_tensor_that_was_copied_is_not_written_to(way: str, name: str, write: str) -> None:
    model = Buffers()
    before = copy.deepcopy(model.state_dict())
    with OpCounter(model, dry_run=True):
        copied = COPIES[way](model, model.get(name))
        WRITES[write](model.get(name))
        del copied
    assert {key: value.tolist() for key, value in model.state_dict().items()} == {
        key: value.tolist() for key, value in before.items()
    }


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize(
    "write",
    [
        lambda tensor: tensor.untyped_storage().copy_(ZEROS[tensor.dtype]),
        lambda tensor: tensor.untyped_storage().fill_(0),
        lambda tensor: tensor.storage().copy_(torch.storage.TypedStorage(wrap_storage=ZEROS[tensor.dtype],
                                                                         dtype=tensor.dtype)),
        lambda tensor: tensor.storage().fill_(0),
        lambda tensor: tensor.storage().__setitem__(0, 5),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["floats", "weight"])
def test_a_write_to_the_storage_of_a_tensor_is_refused(write: Callable[[Tensor], object], name: str) -> None:
    model = Buffers()
    with pytest.raises(DryRunError), OpCounter(model, dry_run=True):
        write(model.get(name))
    assert model.get(name).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("make", [Buffers, lambda: Buffers().to("meta")])
def test_a_tensor_with_other_data_can_be_copied(make: Callable[[], Buffers]) -> None:
    model = make()
    with OpCounter(model, dry_run=True) as c:
        for name in ("floats", "view", "weight"):
            getattr(model, name).data = torch.full_like(getattr(model, name), 2.0)
        copied = copy.deepcopy(model)
        _ = copied.get("view").reshape(1, 3) @ copied.get("floats").reshape(3, 2)
    assert c.macs == 1 * 3 * 2


def filled(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    storage.fill_(7)
    storage[0] = 1
    return storage


def grown() -> torch.UntypedStorage:
    storage = torch.UntypedStorage(2)
    storage.resize_(3)
    return filled(storage)


def copied(source: Tensor) -> torch.UntypedStorage:
    storage = torch.UntypedStorage(source.nbytes)
    storage.copy_(source.untyped_storage())
    storage[0] = 9
    return storage


OF_INSIDE: dict[str, Callable[[Tensor], torch.UntypedStorage]] = {
    "new": lambda _: filled(torch.UntypedStorage(3)),
    "new and grown": lambda _: grown(),
    "new and shared": lambda _: filled(torch.UntypedStorage(3).share_memory_()),
    "clone": lambda x: filled(x.untyped_storage().clone()),
    "deepcopy": lambda x: filled(copy.deepcopy(x.untyped_storage())),
    "copied into": copied,
}


@pytest.mark.parametrize("make", OF_INSIDE.values(), ids=OF_INSIDE)
def test_a_storage_that_was_made_inside_is_written_to(make: Callable[[Tensor], torch.UntypedStorage]) -> None:
    x = torch.arange(3.0)
    expected = make(x).tolist()
    with OpCounter(dry_run=True):
        found = make(x).tolist()
    assert found == expected
    assert x.tolist() == [0, 1, 2]


@pytest.mark.parametrize("make", [lambda: torch.arange(3), lambda: torch.zeros(3), lambda: torch.tensor([1, 2]) + 1])
def test_a_known_tensor_has_what_was_written_to_its_storage(make: Callable[[], Tensor]) -> None:
    with OpCounter(dry_run=True):
        tensor = make()
        tensor.untyped_storage().fill_(0)
        found = tensor.tolist()
    assert found == [0] * len(found)


def test_files_that_are_mapped_into_memory_are_not_written_to(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(bytes(4))
    with pytest.raises(DryRunError, match=r"UntypedStorage\.fill_"), OpCounter(dry_run=True):
        torch.UntypedStorage.from_file(str(file), True, 4).fill_(1)
    assert file.read_bytes() == bytes(4)
