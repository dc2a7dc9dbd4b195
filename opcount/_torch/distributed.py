"""Process groups and device meshes behind collectives, and the modules whose parameters a wrapper sends."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import distributed

from opcount._torch.lookup import VERSION, find, need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from torch import Tensor, nn

_FAR = 48
"""Python frames from a collective up to the wrapper that issued it, at most."""

_WRAPPERS = tuple(
    os.path.join("torch", "distributed", *folder)  # noqa: PTH118  (a part of a path, compared as text)
    for folder in (("fsdp",), ("algorithms", "ddp_comm_hooks"))
)
_OF_MESH, _OF_WHOLE_MESH = "mesh_", "mesh_default"
"""Descriptions of groups that a device mesh made begin with the first; the second names no dimension. Since 2.4."""


class GroupFacts(NamedTuple):
    """A process group as plain data: it may be destroyed while a count of it lives on.

    Attributes:
        name: PyTorch's name for it, which is unique as long as the group lives.
        ranks: The global ranks in it.
        description: What its maker calls it; ``""``: nothing.
    """

    name: str
    ranks: tuple[int, ...]
    description: str


def process_group(value: Any) -> Any:
    """Return the process group that an operator is given: by name, boxed for C++, or as it is; or None."""
    if isinstance(value, str):
        resolve: Callable[[str], Any] | None = find("_C._distributed_c10d._resolve_process_group")  # since 2.2
        return None if resolve is None else resolve(value)
    kind = distributed.ProcessGroup
    if value is None or isinstance(value, kind):
        return value
    unbox: Callable[[Any], Any] = getattr(kind, "unbox", _group_in_use)  # 2.1 has none
    return unbox(value)


def _group_in_use(_box: Any) -> Any:
    """Return the group of the running function of ``torch.distributed``; where C++ runs it, that which is the only one.

    Stands in for opening a box.
    """
    from torch.distributed import distributed_c10d  # noqa: PLC0415  (not in every build)

    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == distributed_c10d.__file__:
            group = frame.f_locals.get("group")
            return group if isinstance(group, distributed.ProcessGroup) else distributed_c10d._get_default_group()
        frame = frame.f_back
    groups = list(distributed_c10d._world.pg_map)
    return groups[0] if len(groups) == 1 else None


ENDS_COLLECTIVES = VERSION >= (2, 3)
"""True if a collective that nobody does can return work, as an operator does, and if fake groups have names."""


def work_done() -> Any:
    """Return the work of a collective that has ended, as an operator returns it."""
    make: Callable[[], Any] = find("_C._distributed_c10d.FakeWork", _work_of_future)  # since 2.7
    return make().boxed()


def _work_of_future() -> Any:
    future: torch.futures.Future[list[Tensor]] = torch.futures.Future()
    future.set_result([])
    return need("_C._distributed_c10d._create_work_from_future")(future)


def find_group(tag: str, ranks: Any, size: int) -> Any:
    """Return the process group that an operator of ``c10d_functional`` is given. Up to 2.2."""
    known: Callable[[str, Any, int], Any] | None = find(
        "distributed.distributed_c10d._find_or_create_pg_by_ranks_and_tag"
    )
    return None if known is None else known(tag, ranks, size)


def group_name(group: Any) -> str:
    """Return PyTorch's name for a process group, ``""`` if it has none."""
    try:
        return str(getattr(group, "group_name", ""))
    except RuntimeError:  # up to 2.2 a group of the fake backend does not know its name
        from torch.distributed import distributed_c10d  # noqa: PLC0415  (not in every build)

        return str(distributed_c10d._world.pg_names.get(group, ""))


def group_facts(group: Any) -> GroupFacts:
    """Return a process group as plain data."""
    try:
        ranks = tuple(distributed.get_process_group_ranks(group))
    except (KeyError, RuntimeError, ValueError):  # made by hand
        ranks = tuple(range(group.size()))
    return GroupFacts(group_name(group), ranks, getattr(group, "group_desc", ""))


def mesh_dimension(group: Any, description: str) -> str:
    """Return the name of the dimension of a device mesh that a group is of; empty if no mesh that is alive knows it."""
    if description.startswith(_OF_MESH) and description != _OF_WHOLE_MESH:
        return description.removeprefix(_OF_MESH)
    meshes = sys.modules.get("torch.distributed.device_mesh")
    kind = getattr(meshes, "DeviceMesh", None)
    if kind is None:
        return ""
    found = [
        (-len(names), name)
        for mesh in gc.get_referrers(kind)
        if isinstance(mesh, kind) and (names := getattr(mesh, "mesh_dim_names", None))
        for place, name in enumerate(names)
        if _group_of_dimension(mesh, place) is group
    ]
    return min(found)[1] if found else ""


def _group_of_dimension(mesh: Any, place: int) -> Any:
    try:
        group = mesh.get_group(place)  # found by its name, which a later job's may have as well
        return group if group.size() == mesh.size(place) else None
    except Exception:  # noqa: BLE001  (a mesh of another job, one that is not initialized, or of an older PyTorch)
        return None


def shard_dimensions(parameter: Any) -> list[str]:
    """Return the dimensions of a device mesh along which parts of a DTensor lie, ``""`` for one without a name."""
    spec = getattr(parameter, "_spec", None)
    placements = getattr(spec, "placements", None) or ()
    names = getattr(getattr(spec, "mesh", None), "mesh_dim_names", None) or [""] * len(placements)
    return [name for name, placement in zip(names, placements, strict=False) if placement.is_shard()]


default_store: Callable[[], Any] = need("distributed.distributed_c10d._get_default_store")
"""Returns the store by which the ranks of the default process group have met."""


_world: Any = need("distributed.distributed_c10d._world")


def is_fake_group(group: Any) -> bool:
    """Return whether a process group, or the default one, is PyTorch's fake one: a simulated one says another name."""
    backend, _store = _world.pg_map[group or distributed.group.WORLD]
    return str(backend) == "fake"


def parts_sent() -> tuple[list[nn.Module], list[Tensor]]:
    """Return the modules that own the parameters which the running collective of a wrapper is for, or the parameters.

    FSDP2 gathers and reduces the parameters of a group, FSDP1 those of a handle, a hook of DDP the gradients in a
    bucket, each wherever it is called.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_FAR):
        if frame is None:
            break
        if any(folder in frame.f_code.co_filename for folder in _WRAPPERS):
            modules, parameters = list(_modules_of(frame.f_locals)), _gradients_of(frame.f_locals)
            if modules or parameters:
                return modules, parameters
        frame = frame.f_back
    return [], []


def _modules_of(names: Any) -> Iterator[nn.Module]:
    owner = names.get("self")
    for parameter in getattr(owner, "fsdp_params", None) or ():  # of FSDP2's FSDPParamGroup
        yield parameter._module_info.module
    for handle in (owner, names.get("handle")):  # FSDP1's FlatParamHandle
        flat = getattr(handle, "flat_param", None)
        for _, module, _ in getattr(flat, "_param_infos", None) or ():
            yield module


def _gradients_of(names: Any) -> list[Tensor]:
    bucket = names.get("bucket")
    return bucket.parameters() if type(bucket).__name__ == "GradBucket" else []
