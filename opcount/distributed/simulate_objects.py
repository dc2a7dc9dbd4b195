"""Objects that ranks tell each other in a simulated world: each says what this one says."""

from __future__ import annotations

import sys
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any
from warnings import warn

from torch import distributed as dist

from opcount._torch.fake_world import c10d, checkpoints
from opcount.dryrun.refusals import program_line
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Asked = Mapping[str, Any]
    Make = Callable[[Any], Any]


def object_patches() -> dict[tuple[Any, str], Make]:
    """Return the functions that send objects, and those that store what ranks have, and what stands in."""
    answers: dict[str, Callable[[Asked], Any]] = {
        "all_gather_object": _all_gather, "gather_object": _gather, "broadcast_object_list": _broadcast,
        "scatter_object_list": _scatter, "send_object_list": lambda _: None, "recv_object_list": _receive,
    }  # fmt: skip
    made = {
        (c10d, name): _answering(signature(getattr(c10d, name)), answer)
        for name, answer in answers.items()
        if hasattr(c10d, name)
    }
    return made | {(owner, name): _left_out(name) for owner, name in checkpoints()}


def _answering(parameters: Any, answer: Callable[[Asked], Any]) -> Make:
    def make(original: Any) -> Any:
        @wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            asked = parameters.bind(*args, **kwargs)
            asked.apply_defaults()
            return answer(asked.arguments)

        return call

    return make


def _all_gather(asked: Asked) -> None:
    asked["object_list"][:] = [asked["obj"]] * len(asked["object_list"])


def _gather(asked: Asked) -> None:
    objects = asked["object_gather_list"]
    if objects is not None:
        objects[:] = [asked["obj"]] * len(objects)


def _broadcast(asked: Asked) -> None:
    source = global_root(asked, "src")
    if source != dist.get_rank() and any(each is None for each in asked["object_list"]):
        raise not_there(f"the objects that rank {source} broadcasts")


def _scatter(asked: Asked) -> None:
    objects = asked["scatter_object_input_list"]
    if objects is None:
        raise not_there(f"the objects that rank {global_root(asked, 'src')} scatters")
    asked["scatter_object_output_list"][0] = objects[dist.get_rank(asked["group"])]


def _receive(asked: Asked) -> None:
    source = asked["src"] if asked.get("group_src") is None else global_root(asked, "src")
    raise not_there("objects" if source is None else f"the objects that rank {source} sends")


def global_root(asked: Asked, name: str) -> int:
    """Return the global rank of a root, which a program names by that or, since 2.6, by its rank in the group."""
    of_group = asked.get(f"group_{name}")
    if of_group is not None:
        return of_group if asked["group"] is None else dist.get_global_rank(asked["group"], of_group)
    return 0 if asked[name] is None else int(asked[name])


def not_there(what: str) -> DryRunError:
    """Return the error of a program that needs to know what another rank has."""
    file, line = program_line(sys._getframe(1))
    return DryRunError(
        f"simulate: rank {dist.get_rank()} waits for {what}, and no other rank is there, at {file}:{line}. Have each "
        f"rank know it by itself."
    )


def _left_out(name: str) -> Make:
    """Store and read no checkpoints: tensors have no values, and other ranks' parts are not there."""

    def make(original: Any) -> Any:
        @wraps(original)
        def leave_out(*_args: Any, **_kwargs: Any) -> None:
            file, line = program_line(sys._getframe(1))
            warn(f"simulate: left out torch.distributed.checkpoint.{name}(), at {file}:{line}", stacklevel=2)

        return leave_out

    return make
