"""Threads of a dry run: the one that entered it, those that run modules of the model, and those that they start.

PyTorch's modes are thread-local: without them, another thread would compute, and write to the model. A task that is
submitted to a pool is in the dry run while it runs.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from opcount._torch.dispatch import push_mode
from opcount.dryrun.fake_mode import put_on_thread, take_off_thread
from opcount.dryrun.script_profiles import scripts_unprofiled
from opcount.interceptor.composites import run_composites
from opcount.interceptor.patches import Patches
from opcount.interceptor.stack import dry_runs, modes_below, replace_modes
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opcount._torch.dispatch import OpOverload
    from opcount.dryrun.fake_mode import DryMode
    from opcount.dryrun.refusals import Refusals
    from opcount.interceptor.composites import Way


class _Here(threading.local):
    inside = False


class Threads:
    """Threads on which a dry run is active.

    Args:
        mode: Fake tensor mode.
        refusals: Remembers errors that end another thread, where nothing may catch them.
        ways: What runs composite operators another way.
    """

    def __init__(self, mode: DryMode, refusals: Refusals, ways: Mapping[OpOverload, Way]) -> None:
        self._mode = mode
        self._refusals = refusals
        self._ways = ways
        self._here = _Here()
        self._here.inside = True

    def is_here(self) -> bool:
        """Return whether this thread is in the dry run."""
        return self._here.inside

    def join(self, memo: Any, undo: Undo) -> None:
        """Activate the dry run on this thread until the steps have run."""
        if self._here.inside:
            return
        undo.add(partial(self._leave, memo, undo))
        self._here.inside = True
        put_on_thread(self._mode)
        push_mode(memo)
        put_beneath_counters(memo)
        run_composites(self._ways, undo)
        undo.enter(scripts_unprofiled())

    def _leave(self, memo: Any, undo: Undo) -> None:
        error = undo.error or sys.exc_info()[1]
        if isinstance(error, Exception):
            self._refusals.note(error)
        replace_modes([mode for mode in modes_below() if mode is not memo])
        take_off_thread(self._mode)
        self._here.inside = False


def put_beneath_counters(memo: Any) -> None:
    """Move the dry run's mode below the counters of this thread, so that they see its operators."""
    others = [mode for mode in modes_below() if mode is not memo]
    height = next((i for i, mode in enumerate(others) if getattr(mode, "is_interceptor", False)), len(others))
    replace_modes([*others[:height], memo, *others[height:]])


def put_on_top(memo: Any) -> None:
    """Move the mode back to the top of the stack, if it is there."""
    modes = modes_below()
    if memo in modes:
        replace_modes([*(mode for mode in modes if mode is not memo), memo])


def _in_dry_runs(run: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function to run in the dry runs of this thread, on whatever thread it is called."""
    memos = dry_runs()
    if not memos:
        return run

    @wraps(run)
    def run_dry(*args: Any, **kwargs: Any) -> Any:
        with Undo() as undo:
            for memo in memos:
                memo.join(undo)
            return run(*args, **kwargs)

    return run_dry


_start, _submit = threading.Thread.start, ThreadPoolExecutor.submit


def _start_in_dry_runs(thread: threading.Thread) -> None:
    before = thread.run
    run = _in_dry_runs(before)
    if run is before:
        _start(thread)
        return
    own = vars(thread).get("run")

    def run_once() -> None:
        _set_run(thread, own)
        run()

    _set_run(thread, run_once)
    try:
        _start(thread)
    except BaseException:
        _set_run(thread, own)
        raise


def _set_run(thread: threading.Thread, run: Any) -> None:
    vars(thread).pop("run", None)
    if run is not None:
        vars(thread)["run"] = run


def _submit_in_dry_runs(pool: ThreadPoolExecutor, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return _submit(pool, _in_dry_runs(function), *args, **kwargs)


_PATCHES = Patches(
    {(threading.Thread, "start"): _start_in_dry_runs, (ThreadPoolExecutor, "submit"): _submit_in_dry_runs}
)


def take_threads_along(undo: Undo) -> None:
    """Activate dry runs on threads that they start, until the steps have run."""
    _PATCHES.use(undo)
