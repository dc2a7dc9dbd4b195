"""A dry run that lasts until the last counter in it is left, in whatever order its counters are left."""

from __future__ import annotations

from functools import partial
from threading import get_ident

from opcount.undo import Undo


class Lasting:
    """What ends a dry run, and the counters of its thread that are in it.

    Attributes:
        undo: Ends it.
    """

    def __init__(self) -> None:
        self.undo = Undo()
        self._users: dict[Undo, int] = {}

    def join(self, user: Undo) -> None:
        """Be in it until a counter's steps have run."""
        user.add(partial(self._users.pop, user, None))
        self._users[user] = get_ident()

    def leave(self, owner: Undo) -> None:
        """End it, or let another counter that is still in it do so, as the last of its steps."""
        heir = next((user for user, thread in reversed(self._users.items()) if thread == get_ident()), None)
        if heir is None:
            self.undo.run(owner.error)
        else:
            heir.add_last(partial(self.leave, heir))
