"""``opcount run SCRIPT [ARGS]``: any Python program, counted whole."""

from __future__ import annotations

import os
import runpy
import shlex
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from opcount.cli import world
from opcount.cli.formats import chosen, render, totals, wants_memory
from opcount.cli.output import write
from opcount.counter import OpCounter
from opcount.errors import InputError, UncountedOperatorWarning
from opcount.profile import ROOT, Module
from opcount.records import COMMAND

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager
    from types import TracebackType

    from opcount.distributed.ranks import Ranks
    from opcount.profile import Profile

_OURS = (str(Path(__file__).parents[1]) + os.sep, "<frozen runpy>", "<frozen importlib", str(runpy.__file__))
"""Files of the frames that a program does not have when Python runs it."""


def run(options: argparse.Namespace) -> int:
    """Run a program as Python does, count it, and end with its own exit code.

    What the program prints stays where it prints it; the report goes to standard error, or to a file. Its child
    processes are not counted.
    """
    if not options.module and not Path(options.script).is_file():
        raise InputError(f"run: expected a Python program, got {options.script!r}, which is no file. Check the path.")
    if chosen(options) == "arch":
        raise InputError("--format: arch needs one model, and a program has any number. Use tree.")
    if options.nproc is not None and options.world is not None:
        raise InputError(f"run: expected --nproc or --world, got both: {options.nproc} and {options.world}. Drop one.")
    block = _block(options)
    if options.world is None and (options.nproc is not None or "RANK" in os.environ):
        return _run_ranks(options, block)
    status, counter = _counted(block, options)
    profile = _with_parameters(counter)
    if options.world is not None:
        profile = world.with_name(profile, options)
        if options.ranks is not None and not status:
            world.report(world.other_ranks(options, profile), options)
            return status
    _report(profile, options)
    return status


def _counted(block: AbstractContextManager[OpCounter], options: argparse.Namespace) -> tuple[int, OpCounter]:
    """Run a program and count it; return what the interpreter would exit with, and the counter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncountedOperatorWarning)  # the report says it
        with block as counter:
            return _status(options), counter


def _run_ranks(options: argparse.Namespace, block: AbstractContextManager[OpCounter]) -> int:
    """Start ranks on this machine; or run as the rank that a launcher says, and report on all as rank 0."""
    from opcount.cli.ranks import RankRun, start  # noqa: PLC0415  (takes a second)

    if options.nproc is not None:
        return start(options)
    ranks, counter = RankRun.of(options), cast("OpCounter", block)
    count = partial(_with_parameters, counter)
    with ranks.watch(count, partial(_report_all, options), options.rank_timeout) as watch:
        status, _ = _counted(counter, options)
    merged = ranks.finish(count(), status, watch)
    if merged is not None:
        _report_all(options, merged)
    watch.close()
    return status or (0 if ranks.complete else 1)


def _report_all(options: argparse.Namespace, ranks: Ranks) -> None:
    """Write the report of all ranks together, as a table with one of the ranks before it."""
    from opcount.distributed.ranks_table import rank_lines  # noqa: PLC0415  (takes a second)

    _report(ranks.merged, options, "".join(f"{line}\n" for line in (*rank_lines(ranks), "")))


def _report(profile: Profile, options: argparse.Namespace, before: str = "") -> None:
    """Write the report: to standard error, or to a file."""
    command = shlex.join(["opcount", *options.command_line])
    text = render(replace(profile, provenance={**profile.provenance, COMMAND: command}), options)
    if options.output is None:
        if sys.stdout is not None:  # closed by the shell
            sys.stdout.flush()
        if sys.stderr is not None:
            sys.stderr.write(f"{before if chosen(options) == 'table' else ''}{text}")
    else:
        write(text, options.output)
        if sys.stderr is not None:
            sys.stderr.write(f"{before}{totals(profile, options)}")


def _block(options: argparse.Namespace) -> AbstractContextManager[OpCounter]:
    """Return the block that the program runs in: on this machine, or as one rank of a world that is not there."""
    if options.world is not None:
        return world.simulated(options)
    for option in ("rank", "ranks"):
        if getattr(options, option):
            raise InputError(f"run: expected --world beside --{option}, got none. Add --world N, the number of ranks.")
    return OpCounter(memory=wants_memory(options))


def _with_parameters(counter: OpCounter) -> Profile:
    """Return what was counted, with the parameters of all modules that ran: a program has any number of models."""
    params = counter._scopes.names.count_foreign_parameters()  # noqa: SLF001  (a counter without a model tells none)
    profile = counter.profile
    return replace(profile, modules={ROOT: Module(ROOT, "", params), **profile.modules}) if params else profile


def _status(options: argparse.Namespace) -> int:
    """Run a program; return what the interpreter would exit with."""
    try:
        if options.module:
            _run_module(options.script, options.arguments)
        else:
            _run_script(Path(options.script), options.arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except Exception as error:
        trace = _without_ours(error.__traceback__)
        if trace is None and isinstance(error, InputError):
            raise  # nothing of the program ran
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return 1
    return 0


def _run_script(script: Path, arguments: list[str]) -> None:
    """Run a file as ``__main__``, which it stays: what it leaves for the exit of the process finds itself there."""
    sys.argv = [str(script), *arguments]
    sys.path[0] = str(script.resolve().parent)
    code = compile(script.read_bytes(), str(script.absolute()), "exec", dont_inherit=True)
    main = ModuleType("__main__")
    main.__dict__.update(__file__=str(script.absolute()), __builtins__=sys.modules["builtins"], __cached__=None)
    sys.modules["__main__"] = main
    exec(code, main.__dict__)  # noqa: S102  (running it is what was asked for)


def _run_module(name: str, arguments: list[str]) -> None:
    sys.argv = [name, *arguments]
    sys.path[0] = str(Path.cwd())
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except ImportError as error:
        if _without_ours(error.__traceback__) is not None:
            raise
        raise InputError(f"run: expected a module that Python can run, got {name!r}: {error}.") from error


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the program's own first frame on."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace
