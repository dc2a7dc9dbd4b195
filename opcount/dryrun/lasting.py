"""A dry run that ends with its last counter, in whatever order counters end."""

from __future__ import annotations

from functools import partial
from threading import get_ident

from opcount.undo import Undo


class Lasting:
    """Reference count of a dry run by its counters.

    Attributes:
        undo: Ends the dry run.
    """

    def __init__(self) -> None:
        self.undo = Undo()
        self._users: dict[Undo, int] = {}

    def join(self, user: Undo) -> None:
        """Count a counter until its steps have run."""
        user.add(partial(self._users.pop, user, None))
        self._users[user] = get_ident()

    def leave(self, owner: Undo) -> None:
        """End the dry run, or leave that to a remaining counter of this thread as its last step."""
        heir = next((user for user, thread in reversed(self._users.items()) if thread == get_ident()), None)
        if heir is None:
            self.undo.run(owner.error)
        else:
            heir.add_last(partial(self.leave, heir))
