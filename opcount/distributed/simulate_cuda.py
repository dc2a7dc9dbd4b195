"""CUDA for programs that name it in a simulated world: one device, whose tensors are fake ones on the CPU.

Fake tensors on CUDA end the process where they are differentiated without a driver. So all tensors are on one device,
and a copy from the host to it is none.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from opcount._torch.fake_world import device_mesh
from opcount.errors import DryRunError
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from opcount.distributed.simulate_place import Place

_CUDA = "cuda"
_CPU = torch.device("cpu")
_TO, _CUDA_METHOD = Tensor.to, Tensor.cuda
_HOST = {Tensor.pin_memory: 0, Tensor.record_stream: None, Tensor.cuda: 0}
"""Methods that do nothing here, and the position of the argument that they return."""

_NOTHING = (
    "set_device", "synchronize", "empty_cache", "ipc_collect", "set_stream", "manual_seed", "manual_seed_all", "seed",
    "seed_all", "reset_peak_memory_stats", "reset_accumulated_memory_stats", "reset_max_memory_allocated",
    "reset_max_memory_cached", "set_per_process_memory_fraction", "set_sync_debug_mode", "init",
)  # fmt: skip
_READ_AS_ZERO = (
    "memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "memory_cached",
    "max_memory_cached", "utilization", "memory_usage",
)  # fmt: skip
_NEEDS_DEVICE = ("get_device_properties", "get_device_capability", "get_device_name", "mem_get_info", "memory_stats")
_YES = True
_INTERNAL = ("torch.", "opcount.")
"""Beginnings of the names of modules that are told the truth."""


class _Event:
    """An event that has happened."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def record(self, *_args: object) -> None:
        """Do nothing."""

    wait = synchronize = record

    def query(self) -> bool:
        """Return True: nothing is pending."""
        return True

    def elapsed_time(self, _end: object) -> float:
        """Return 0: nothing runs."""
        return 0.0


class _Stream:
    """A stream on which nothing is pending."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        self.cuda_stream = 0

    def wait_stream(self, *_args: object) -> None:
        """Do nothing."""

    wait_event = synchronize = wait_stream

    def record_event(self, event: object = None) -> object:
        """Return an event that has happened."""
        return event or _Event()

    def query(self) -> bool:
        """Return True: nothing is pending."""
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


_RealGenerator = torch.Generator


class _AnyGenerator(type):
    """A class whose instances are all generators."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _RealGenerator)


class _Generator(metaclass=_AnyGenerator):
    """Stands for ``torch.Generator``: a generator for CUDA is one for the CPU."""

    def __new__(cls, device: Any = "cpu") -> Any:
        """Make a generator."""
        return _RealGenerator(_CPU if _is_cuda(device) else device)


@contextmanager
def cuda_answered(place: Place) -> Iterator[None]:
    """Answer what programs ask of CUDA: there are as many devices as ranks on a node, and nothing is pending."""
    cuda = torch.cuda
    around: dict[tuple[Any, str], Callable[[Any], Any]] = {
        (owner_of(name), name): _constant(None) for name in _NOTHING if hasattr(cuda, name)
    }
    around |= {(owner_of(name), name): _constant(0) for name in _READ_AS_ZERO if hasattr(cuda, name)}
    around |= {(owner_of(name), name): _refused(name) for name in _NEEDS_DEVICE if hasattr(cuda, name)}
    around |= {
        (cuda, "is_available"): _to_programs(_YES),
        (cuda, "device_count"): _to_programs(place.local_world),
        (cuda, "is_bf16_supported"): _to_programs(_YES),
        (cuda, "current_device"): _constant(place.local_rank),
        (cuda, "current_stream"): lambda _original: lambda *_args, **_kwargs: _Stream(),
        (cuda, "default_stream"): lambda _original: lambda *_args, **_kwargs: _Stream(),
        (cuda, "stream"): lambda _original: lambda *_args, **_kwargs: nullcontext(),
        (cuda.random, "get_rng_state"): lambda _original: lambda *_args, **_kwargs: torch.get_rng_state(),
        (cuda.random, "set_rng_state"): _constant(None),
        (device_mesh, "init_device_mesh"): _first_argument_on_cpu,
        (device_mesh.DeviceMesh, "__init__"): _second_argument_on_cpu,
        (torch.amp.autocast_mode.autocast, "__init__"): _autocast_on_cpu,
    }
    with Undo() as undo:
        Patches({(cuda, "Stream"): _Stream, (cuda, "Event"): _Event, (torch, "Generator"): _Generator}, around).use(
            undo
        )
        yield


def owner_of(name: str) -> Any:
    """Return the module that defines a function of ``torch.cuda``."""
    return sys.modules[getattr(torch.cuda, name).__module__]


def _constant(value: object) -> Callable[[Any], Any]:
    return lambda _original: lambda *_args, **_kwargs: value


def _to_programs(value: object) -> Callable[[Any], Any]:
    """Return what answers a program with a value, and PyTorch itself as always."""

    def make(original: Any) -> Any:
        def answer(*args: Any, **kwargs: Any) -> Any:
            asking = str(sys._getframe(2).f_globals.get("__name__", ""))
            return original(*args, **kwargs) if asking.startswith(_INTERNAL) else value

        return answer

    return make


def _refused(name: str) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(2)
            if str(frame.f_globals.get("__name__", "")).startswith(_INTERNAL):
                return original(*args, **kwargs)
            raise DryRunError(
                f"simulate: torch.cuda.{name}() asks for a device, and none is there "
                f"({frame.f_code.co_filename}:{frame.f_lineno}). Leave it out, or ask only where RANK is not set."
            )

        return refuse

    return make


def _first_argument_on_cpu(original: Any) -> Any:
    def call(device_type: Any, *args: Any, **kwargs: Any) -> Any:
        return original(_kind_on_cpu(device_type), *args, **kwargs)

    return call


def _second_argument_on_cpu(original: Any) -> Any:
    def call(self: Any, device_type: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, _kind_on_cpu(device_type), *args, **kwargs)

    return call


def _autocast_on_cpu(original: Any) -> Any:
    def call(self: Any, device_type: str, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if device_type == _CUDA:
            device_type, dtype = "cpu", torch.float16 if dtype is None else dtype
        return original(self, device_type, dtype, *args, **kwargs)

    return call


class OneDevice(TorchFunctionMode):
    """Puts what a program wants on CUDA on the CPU, where it is already: nothing is copied."""

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if kwargs:
            device = kwargs.get("device")
            if device is not None and _is_cuda(device):
                kwargs = {**kwargs, "device": _CPU}
            if kwargs.get("pin_memory"):
                kwargs = {**kwargs, "pin_memory": False}
        if func is _TO and any(map(_is_cuda, args[1:])):
            args = (args[0], *(_CPU if _is_cuda(each) else each for each in args[1:]))
        elif func in _HOST:
            at = _HOST[func]
            return None if at is None else args[at]
        return func(*args, **(kwargs or {}))


def _is_cuda(device: object) -> bool:
    """Return whether a device is one of CUDA; a bare number is."""
    if isinstance(device, torch.device):
        return device.type == _CUDA
    if isinstance(device, str):
        return device.partition(":")[0] == _CUDA
    return isinstance(device, int) and not isinstance(device, bool)


def _kind_on_cpu(kind: Any) -> Any:
    return "cpu" if isinstance(kind, str) and kind.partition(":")[0] == _CUDA else kind
