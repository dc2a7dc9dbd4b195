"""Profiles of all ranks, exchanged through the store by which the ranks have met."""

from __future__ import annotations

import pickle
import zlib
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from torch import distributed

from opcount._torch.distributed import default_store, is_fake_group
from opcount.distributed.ranks import Ranks
from opcount.errors import RankError
from opcount.profile import Profile

if TYPE_CHECKING:
    from opcount.delegate import HasProfile

_CALLS: dict[str, int] = {}
"""Calls of `gather` so far, by the name of the group: all ranks of a group make them in the same order."""


def gather(profile: Profile | HasProfile, group: Any = None, *, timeout: float = 60.0) -> Ranks:
    """Return the counts of all ranks of a group, which have to call it together.

    The ranks may have run different programs, such as stages of a pipeline. No collective runs: each rank leaves its
    count in the store by which the process group was made, so that a rank that has died can be named. Without a
    process group, and with PyTorch's fake one, there is this rank alone.

    Args:
        profile: The count of this rank, or what has one: an `OpCounter`, a `Meter`.
        group: The process group of these ranks; None: all.
        timeout: Seconds to wait for the others.

    Raises:
        RankError: A rank did not answer in time; `RankError.ranks` has the counts of the others.
    """
    own = profile if isinstance(profile, Profile) else profile.profile
    if not (distributed.is_available() and distributed.is_initialized()):
        return Ranks({0: own})
    if is_fake_group(group):
        return Ranks({distributed.get_rank(): own})
    members = distributed.get_process_group_ranks(group or distributed.group.WORLD)
    place = f"opcount/{'.'.join(map(str, members))}"
    call = _CALLS[place] = _CALLS.get(place, 0) + 1
    store, rank = default_store(), distributed.get_rank()
    found: dict[int, Profile] = {rank: own}
    missing: list[int] = []
    try:
        with suppress(RuntimeError, NotImplementedError):  # all have read it; some stores keep what they have
            store.delete_key(f"{place}/{call - 2}/{rank}")
        store.set(f"{place}/{call}/{rank}", zlib.compress(pickle.dumps(own)))
        deadline = monotonic() + timeout
        for other in members:
            if other != rank:
                answer = _answer(store, f"{place}/{call}/{other}", deadline - monotonic())
                if answer is None:
                    missing.append(other)
                else:
                    found[other] = pickle.loads(zlib.decompress(answer))  # noqa: S301  (of this very job)
    except RuntimeError as error:
        raise _error([0], members, timeout, found, f" ({error})") from error
    if missing:
        raise _error(missing, members, timeout, found)
    return Ranks(found)


def _answer(store: Any, key: str, seconds: float) -> bytes | None:
    """Return what a rank has left in the store; None if it does not in time."""
    try:
        store.wait([key], timedelta(seconds=max(seconds, 0.05)))
    except RuntimeError:
        if not store.check([key]):
            return None
    return bytes(store.get(key))


def _error(
    missing: list[int], members: list[int], timeout: float, found: dict[int, Profile], why: str = ""
) -> RankError:
    names = f"rank {missing[0]}" if len(missing) == 1 else f"ranks {', '.join(map(str, missing))}"
    error = RankError(
        f"gather: expected a count of each of the ranks {', '.join(map(str, members))}, got none of {names} within "
        f"{timeout:g} s{why}: it has ended, hangs, or does not call gather. The counts of the others are in the "
        f"error's ranks.profiles; pass a longer timeout if it is only late."
    )
    error.missing, error.ranks = tuple(missing), Ranks(found)
    return error
