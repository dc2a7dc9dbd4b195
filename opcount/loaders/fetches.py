"""Loading without a network, and without packages that only tell versions."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from threading import get_ident
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.request import OpenerDirector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_STAND_IN = "pkg_resources"
_REPOSITORY = "pretrained_model_name_or_path"
"""Variable in which functions of transformers hold the name of what they load."""


class FetchError(OSError):
    """A model wants a file from the network."""


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Refuse, on this thread, to open an address of the network; what a library has stored already is read.

    Raises:
        FetchError: In the program: an address was to be opened.
    """
    real, here = OpenerDirector.open, get_ident()

    def refusing(opener: OpenerDirector, fullurl: Any, *args: Any, **kwargs: Any) -> Any:
        address = fullurl if isinstance(fullurl, str) else fullurl.full_url
        if get_ident() == here and address.startswith(("http:", "https:", "ftp:")):
            raise FetchError(
                f"expected the file {address} on this machine. Nothing is downloaded for a count: store the file and "
                "name it with --cfg-options, or leave out the part that needs it"
            )
        return real(opener, fullurl, *args, **kwargs)

    OpenerDirector.open = refusing  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        OpenerDirector.open = real  # type: ignore[method-assign]


def missing_repository(error: BaseException) -> str:
    """Return the name of what transformers did not find on this machine; empty if an error is about something else."""
    name, trace = "", error.__traceback__
    while trace is not None and isinstance(error, OSError):
        name = name or str(trace.tb_frame.f_locals.get(_REPOSITORY) or "")
        trace = trace.tb_next
    return name


@contextmanager
def package_versions_known() -> Iterator[None]:
    """Have ``pkg_resources``, which newer versions of setuptools lack, tell what mmengine asks it for."""
    if _STAND_IN in sys.modules or find_spec(_STAND_IN) is not None:
        yield
        return
    finder = _StandInFinder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.modules.pop(_STAND_IN, None)


class _StandInFinder:
    """Finds and loads a stand-in, in which ``get_distribution`` is all that there is."""

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == _STAND_IN else None  # type: ignore[arg-type]

    def create_module(self, _spec: ModuleSpec) -> None:
        """Leave the making of the module to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(DistributionNotFound=PackageNotFoundError, get_distribution=_distribution)


def _distribution(name: str) -> SimpleNamespace:
    found = distribution(name)
    return SimpleNamespace(location=str(found.locate_file("")), version=found.version, project_name=name)
