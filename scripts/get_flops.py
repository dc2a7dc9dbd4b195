"""Count the FLOPs, parameters and activations of a model: of a Python file, an OpenMMLab config, or a model name.

    python scripts/get_flops.py scripts/examples/resnet50.py
    python scripts/get_flops.py model.py:build_small --shape 256 320 --show-arch
    python scripts/get_flops.py resnet50_8xb32_in1k
    python scripts/get_flops.py rtmdet_s_syncbn_fast_8xb32-300e_coco --shape 640 --train

Nothing is computed where a dry run is possible; where it is not, or with --real, the model runs.

TARGET is FILE.py, FILE.py:factory, a config file of OpenMMLab or the name of one, or any other target of `opcount
count`. A Python file builds the model with a function or an nn.Module class. It may say `input_shape`, one shape
without the batch or several, or `inputs`: a tensor, a tuple of arguments, a dict of keyword arguments, or a function
that returns one of these. A model of mmpretrain is counted up to its features, as its own get_flops.py does; one of
mmdet or mmyolo up to what its heads put out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import traceback
import warnings
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

_CHECKOUT = Path(__file__).resolve().parents[1]
if (_CHECKOUT / "opcount").is_dir():
    sys.path.insert(0, str(_CHECKOUT))

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opcount import Profile
    from opcount.loaders import Loaded
    from opcount.loaders.request import Image

_RULE = "=" * 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a count needs no weights: nothing is to be fetched

    from opcount.cli.attempt import NeedsNewProcessError, attempt  # noqa: PLC0415  (--help does not wait for torch)
    from opcount.errors import OpcountError, UncountedOperatorWarning  # noqa: PLC0415

    warnings.simplefilter("ignore", UncountedOperatorWarning)  # the report says it
    try:
        with redirect_stdout(sys.stderr):  # what a model or a config prints is no part of the report
            loaded, report, reason = attempt(options, partial(_report, options), nullcontext)
            notes = [loaded.note, reason]
    except NeedsNewProcessError as why:
        command = [sys.executable, __file__, "--real", *arguments]
        status, report, notes = subprocess.run(command, check=False).returncode, "", [str(why)]  # noqa: S603
        if status:
            return status
    except OpcountError as error:
        if options.traceback:
            traceback.print_exc()
        print(f"get_flops.py: {error}", file=sys.stderr)
        return 1
    for note in filter(None, notes):
        print(f"get_flops.py: {note}", file=sys.stderr)
    print(report, end="")
    return 0


def _report(options: argparse.Namespace, loaded: Loaded, dry: bool) -> str:  # noqa: FBT001  (see `attempt`)
    """Run the model, and return all that there is to print."""
    from opcount import OpCounter  # noqa: PLC0415
    from opcount.errors import InputError, OpcountError  # noqa: PLC0415
    from opcount.loaders import blame  # noqa: PLC0415
    from opcount.loaders.step import backward, forward  # noqa: PLC0415

    show_arch = loaded.style == "classifier" if options.show_arch is None else options.show_arch
    shown: dict[str, Any] = {"show_table": not options.not_show_table, "show_arch": show_arch}
    try:
        if loaded.images is not None:
            info, profile, closing = _mean(loaded.model, loaded.images(), shown, dry)
        else:
            info, profile = _count(loaded.model, loaded.inputs, shown, dry)
            closing = _closing(loaded, info, options.batch_size or 1)
        if options.train:
            with OpCounter(loaded.model, dry_run=dry) as counter:
                backward(forward(loaded))
            profile = counter.profile
    except OpcountError:
        raise
    except Exception as error:
        hint = ". Meta tensors hold no values: if it reads one, pass --device cpu" if options.device == "meta" else ""
        raise InputError(f"the model raised {blame(error, loaded.model)}{hint}") from error
    texts = [info["out_table"], info["out_arch"]]
    parts = texts if loaded.style == "detector" else texts[::-1]
    parts += [_phases(profile)] if options.train else []
    parts += [f"\n{profile.convention.name} convention: {profile.convention.summary}; {profile.coverage.verdict()}."]
    return "\n".join([*(part.rstrip("\n") for part in parts if part), *closing, ""])


def _count(model: Any, inputs: Any, shown: dict[str, Any], dry: bool) -> tuple[dict[str, Any], Profile]:  # noqa: FBT001
    from opcount import OpCounter, get_model_complexity_info  # noqa: PLC0415

    with OpCounter(dry_run=dry) as counter:
        info = get_model_complexity_info(model, inputs=inputs, dry_run=dry, **shown)
    return info, counter.profile


def _mean(
    model: Any,
    images: Iterator[Image],
    shown: dict[str, Any],
    dry: bool,  # noqa: FBT001
) -> tuple[dict[str, Any], Profile, list[str]]:
    """Count images one by one; return what is known of the first, and the lines that tell the mean."""
    from opcount.errors import InputError  # noqa: PLC0415
    from opcount.reporter.numbers import openmmlab  # noqa: PLC0415

    counted: list[tuple[dict[str, Any], Profile]] = []
    known: dict[tuple[int, ...], int] = {}
    flops: list[int] = []
    for image in images:
        if not dry or image.padded not in known:  # without values, images of one size cost the same
            counted.append(_count(model, image.inputs, shown, dry))
            known[image.padded] = counted[-1][0]["flops"]
        flops.append(known[image.padded])
    if not flops:
        raise InputError("expected at least one image in the data set of the config, got none. Pass --shape H W.")
    info = counted[0][0]
    resized = [_RULE, f"Use size divisor set input shape from {image.original} to {image.padded}"]
    lines = [
        *(resized if image.original != image.padded else []),
        _RULE,
        f"Compute type: dataloader: mean of {len(flops)} image{'s' * (len(flops) > 1)}",
        f"Input shape: {image.padded}",
        f"Flops: {openmmlab(sum(flops) // len(flops))}",
        f"Params: {info['params_str']}",
        _RULE,
    ]
    if any(shown.values()):
        lines.insert(0, "All above this line is of the first image.")
    return info, max((profile for _, profile in counted), key=lambda each: len(each.coverage.uncounted)), lines


def _phases(profile: Profile) -> str:
    from prettytable import PrettyTable  # noqa: PLC0415

    from opcount.reporter.numbers import openmmlab  # noqa: PLC0415

    table = PrettyTable(["phase", "#flops", "#macs"], align="l")
    for phase, total in {**profile.by_phase(), "total": profile.total}.items():
        table.add_row([phase, openmmlab(total.flops), openmmlab(total.macs)])
    return f"\n{table}"


def _closing(loaded: Loaded, info: dict[str, Any], batch_size: int) -> list[str]:
    """Return the lines that the users of the OpenMMLab scripts read, and others parse."""
    batch = [f"Batch size: {batch_size}"] if batch_size > 1 else []
    shape = f"Input shape: {loaded.shape}"
    if loaded.style == "detector":
        padded = [_RULE, f"Use size divisor set input shape from {loaded.asked} to {loaded.shape}"]
        totals = [f"Model Flops: {info['flops_str']}", f"Model Parameters: {info['params_str']}"]
        return [*(padded if loaded.asked else []), _RULE, shape, *batch, *totals, _RULE]
    names = {"Flops": "flops_str", "Params": "params_str", "Activation": "activations_str"}
    return [_RULE, shape, *batch, *(f"{name}: {info[key]}" for name, key in names.items()), _RULE]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    from opcount.cli.parser import model_options, positive  # noqa: PLC0415  (it may be beside this script)

    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        "get_flops.py", description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model_options(parser, train="train mode; adds a backward pass, and a table of forward and backward")
    add = parser.add_argument
    add("--show-arch", action=argparse.BooleanOptionalAction, help="print every module (default: for mmpretrain)")
    images = "the mean over the first N images of the config's val_dataloader; random ones where its data is not here"
    add("--num-images", type=positive, metavar="N", help=images)
    add("--not-show-table", action="store_true", help="leave out the table")
    add("--traceback", action="store_true", help="show where an error comes from")
    options = parser.parse_args(arguments)
    if options.train and options.num_images:
        parser.error("--num-images counts a forward pass: leave out --train, or count one input with --shape")
    return options


def _run() -> int:
    """Run `main`; end quietly when the reader of the output is gone, or the user interrupts."""
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("get_flops.py: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 141
    return status


if __name__ == "__main__":
    sys.exit(_run())
