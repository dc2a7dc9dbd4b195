"""A whole analysis, per-module answer and text included, against what people use for it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import measure
import torch
from models import MODELS, positional
from torch.utils.flop_counter import FlopCounterMode

from opcount import OpCounter, get_model_complexity_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn


def mmengine(model: nn.Module, x: Tensor) -> object:
    """Run mmengine's function of the same name."""
    from mmengine.analysis import get_model_complexity_info as theirs  # noqa: PLC0415

    return theirs(model, inputs=(x,))


def fvcore(model: nn.Module, x: Tensor) -> object:
    """Count FLOPs and activations and format fvcore's table."""
    from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis, flop_count_table  # noqa: PLC0415

    return flop_count_table(FlopCountAnalysis(model, x), activations=ActivationCountAnalysis(model, x))


def flop_counter_mode(model: nn.Module, x: Tensor) -> object:
    """Count under torch's own mode and format its table."""
    with FlopCounterMode(display=False) as mode:
        model(x)
    return mode.get_table(depth=3)


def thop(model: nn.Module, x: Tensor) -> object:
    """Count with thop."""
    from thop import profile  # noqa: PLC0415

    return profile(model, (x,), verbose=False, ret_layer_info=True)


def ptflops(model: nn.Module, x: Tensor) -> object:
    """Count with ptflops."""
    from ptflops import get_model_complexity_info as theirs  # noqa: PLC0415

    return theirs(
        model,
        (1,),
        as_strings=False,
        print_per_layer_stat=True,
        input_constructor=lambda _: {"x": x},
        ost=io.StringIO(),
    )


def torchinfo(model: nn.Module, x: Tensor) -> object:
    """Count with torchinfo and format its table."""
    from torchinfo import summary  # noqa: PLC0415

    return str(summary(model, input_data=(x,), depth=10, verbose=0))


def calflops(model: nn.Module, x: Tensor) -> object:
    """Count with calflops."""
    from calflops import calculate_flops  # noqa: PLC0415

    return calculate_flops(model, args=[x], print_results=False, print_detailed=True)


def deepspeed(model: nn.Module, x: Tensor) -> object:
    """Count with DeepSpeed's profiler."""
    from deepspeed.profiling.flops_profiler import get_model_profile  # noqa: PLC0415

    return get_model_profile(model, args=[x], print_profile=True, as_string=False, warm_up=0, output_file="/dev/null")


PEERS: dict[str, Callable[[nn.Module, Tensor], object]] = {
    f.__name__: f for f in (mmengine, fvcore, flop_counter_mode, thop, ptflops, torchinfo, calflops, deepspeed)
}


PATCHED = (torch, torch.Tensor, torch.nn.functional)
"""Modules in which peers replace functions of PyTorch."""


def ours(model: nn.Module, x: Tensor) -> object:
    """Answer as mmengine does: numbers, table and arch."""
    return get_model_complexity_info(model, inputs=(x,))


def ours_dry(model: nn.Module, x: Tensor) -> object:
    """Answer the same without computing."""
    return get_model_complexity_info(model, inputs=(x,), dry_run=True)


def real(model: nn.Module, x: Tensor) -> object:
    """Count a real run, and format our table."""
    with OpCounter(model) as c:
        model(x)
    return str(c)


def dry(model: nn.Module, x: Tensor) -> object:
    """Count without computing, and format our table."""
    with OpCounter(model, dry_run=True) as c:
        model(x)
    return str(c)


def run(names: list[str] | None = None) -> Iterator[measure.Result]:
    """Time all peers that are installed and can count the model, without gradients."""
    for name in names or MODELS:
        model, x = positional(name)
        mine = {
            "opcount": quietly(ours, model, x),
            "opcount dry run": quietly(ours_dry, model, x),
            "OpCounter": quietly(real, model, x),
        }
        peers = {peer: quietly(count, *positional(name)) for peer, count in PEERS.items() if works(count, name)}
        peers["bare forward"] = quietly(lambda model, x: model(x), model, x)
        yield from measure.compare_each("analyses", name, mine, peers, pairs=5)


def works(count: Callable[[nn.Module, Tensor], object], name: str) -> bool:
    """Return whether a tool is installed and can count a model, of its own: some leave hooks behind when they fail."""
    before = [(owner, dict(vars(owner))) for owner in PATCHED]
    try:
        quietly(count, *positional(name))()
    except Exception as error:  # noqa: BLE001  (a peer that is absent, or cannot count this, is left out)
        logging.getLogger("bench").info("%s: %s", getattr(count, "__name__", ""), error)
        for owner, attributes in before:  # some replace PyTorch's functions, and fail before they put them back
            for attribute, value in attributes.items():
                if vars(owner).get(attribute) is not value:
                    setattr(owner, attribute, value)
        return False
    return True


def quietly(count: Callable[[nn.Module, Tensor], object], model: nn.Module, x: Tensor) -> Callable[[], Any]:
    """Return an analysis without gradients that prints nothing."""

    def program() -> object:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return count(model, x)

    return program
