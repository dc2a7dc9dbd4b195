"""The command line's grammar."""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from opcount._version import __version__
from opcount.cli.formats import DIFF_FORMATS, FORMATS
from opcount.cli.words import hint, hint_of_command, sizes, with_command
from opcount.convention import CONVENTIONS
from opcount.errors import InputError
from opcount.reporter.diff_table import METRICS
from opcount.reporter.module_columns import COLUMNS, TORCHINFO, columns_named
from opcount.reporter.outline import SORT_KEYS
from opcount.selectors import Tolerance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EXAMPLES = {
    "count": """\
  opcount count timm/vit_base_patch16_224
  opcount count transformers/llama --seq 2048 --format tree --depth 3
  opcount count transformers/llama --cache 2048 --decode 32 --on H100-SXM5
  opcount count model.py:build --shape 3 256 256 --train -o profile.json
  opcount count mylib.models:Net --input x=1x3x64x64 --input mask=1x64:bool
""",
    "show": """\
  opcount show profile.json --format operators
  opcount show profile.json --modules '**.attn' --sort flops
  opcount show profile.json -o report.html
""",
    "diff": """\
  opcount diff before.json after.json --format markdown --fail macs:1%
""",
    "fit": """\
  opcount fit timm/vit_base_patch16_224 --on L4 --train --batch-size 64
  opcount fit transformers/gpt2 --on H100-SXM5 --train --batch-size auto --seq 1024
  opcount fit model.py:build --on A100-SXM4-40GB --train --checkpoint 'layers.*'
""",
    "operators": """\
  opcount operators 'aten.*attention*'
""",
    "device": """\
  opcount device
  opcount device H100-SXM5
  opcount device --measure -o here.toml
""",
    "run": """\
  opcount run train.py --epochs 1
  opcount run -o whole.json -m mylib.train --epochs 1
  opcount run --world 1024 --rank 0 train.py
  opcount run --world 1024 --ranks representative -o world.json train.py
""",
    "size": """\
  opcount size world.json --on H100-SXM5 --link tp=450GB/s --link pp=50GB/s --link dp=50GB/s
  opcount size world.json --on H100-SXM5 --link dp=50GB/s --tokens-per-step 16.8M --tokens 15T --mfu 0.4
""",
    "completion": """\
  eval "$(opcount completion bash)"                                     in ~/.bashrc
  eval "$(opcount completion zsh)"                                      in ~/.zshrc, after compinit
  opcount completion fish > ~/.config/fish/completions/opcount.fish
""",
}
_UNKNOWN = "unrecognized arguments: "
_CODES = "exit codes: 0, all well; 1, a check failed; 2, what was asked for cannot be done; of run: the program's own"
_TARGET = """
TARGET is one of
  FILE.py[:factory]            a function, a class or an object in a Python file
  package.module:factory       the same, of anything that can be imported
  timm/NAME, torchvision/NAME  a model of these libraries
  transformers/CONFIG[:CLASS]  a folder with a config.json, such a file, or a model type such as bert
  diffusers/CONFIG             the same, or a class such as DiTTransformer2DModel
  CONFIG.py, CONFIG            a config of mmpretrain, mmdet or mmyolo, by path or by name
"""
_FIT = """
The allocations of a dry run are replayed through the rules of PyTorch's caching allocator. Where they do not fit,
changes that may help are counted, too. The exit code is 0 if it fits, 1 if it does not, 2 if that cannot be said.
"""
_PROGRAM = """
The report goes to standard error, or to the file after -o. What child processes compute is not counted.
"""


class _Parser(argparse.ArgumentParser):
    """A parser that says what options of other tools are called here."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, with a hint if there is one, and exit."""
        words = message.removeprefix(_UNKNOWN).split() if message.startswith(_UNKNOWN) else []
        subs = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001
        parsers = [self, *(sub for action in subs for sub in action.choices.values())]
        known = {name for each in parsers for name in each._option_string_actions}  # noqa: SLF001  (no public list)
        advice = hint(words, known)
        if wrong := re.match(r"argument COMMAND: invalid choice: '([^']*)'", message):
            advice = hint_of_command(wrong[1], _EXAMPLES)
        super().error(f"{message.rstrip('.')}. {advice}" if advice else message)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of one command line; ``options.command`` runs it."""
    whole = parser()
    options = whole.parse_args(with_command(words, _EXAMPLES))
    options.command_line = with_command(words, _EXAMPLES)
    return options


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    top = _Parser(
        "opcount",
        description="What a PyTorch program computes: FLOPs, MACs, activations and parameters.\n"
        "`opcount TARGET` means `opcount count TARGET`.",
        epilog=f"examples:\n{''.join(_EXAMPLES.values())}\n{_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"opcount {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="name")

    def add(name: str, usage: str, words: str, more: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=words,
            usage=f"opcount {name} {usage}",
            description=f"{words[0].upper()}{words[1:]}.\n{more}",
            epilog=f"examples:\n{_EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    _count(add("count", "TARGET [OPTIONS]", "count a model", _TARGET))
    _show(add("show", "FILE.json [OPTIONS]", "print a stored profile"))
    _diff(add("diff", "A.json B.json [OPTIONS]", "compare two stored profiles"))
    _fit(add("fit", "TARGET --on DEVICE [OPTIONS]", "say whether a model has room on a device", _FIT))
    _operators(add("operators", "[GLOB] [-o FILE]", "list what is priced, and by which formula"))
    _device_options(add("device", "[NAME] [OPTIONS]", "list devices and their peaks, or measure this one"))
    _run(add("run", "[OPTIONS] SCRIPT [ARGS]", "count a Python program, whole", _PROGRAM))
    _size(add("size", "FILE.json --on DEVICE [OPTIONS]", "least time of a step on devices with links, and days"))
    _completion(add("completion", "bash|zsh|fish", "print a completion script for a shell"))
    return top


def _lazily(module: str) -> Callable[[argparse.Namespace], int]:
    """Return a command that is imported when it runs: ``--help`` does not wait for torch."""

    def command(options: argparse.Namespace) -> int:
        status: int = import_module(f"opcount.cli.{module}").run(options)
        return status

    return command


def _count(sub: argparse.ArgumentParser) -> None:
    model_options(sub, train="forward, backward and an optimizer's step, in train mode")
    add = sub.add_argument
    add("--optimizer", metavar="NAME", help="of torch.optim for --train, or none (default: AdamW)")
    add("--prefill", type=positive, metavar="N", help="generate text: N tokens at once, which fill the cache")
    add("--decode", type=positive, metavar="N", help="generate text: N tokens one by one, each against the cache")
    add("--cache", type=positive, metavar="N", help="tokens in the cache before these, not counted")
    _memory(add)
    _report(sub)
    sub.set_defaults(command=_lazily("count"))


def model_options(sub: argparse.ArgumentParser, train: str, batch: Callable[[str], int | str] | None = None) -> None:
    """Add a target, and the options that say how to build, call and run it: the fields of a `Request`, and dry_run.

    Args:
        sub: Gets them.
        train: Help for ``--train``.
        batch: Reads ``--batch-size``; None: a number.
    """
    add = sub.add_argument
    pairs: dict[str, Any] = {"nargs": "+", "action": "extend", "default": [], "metavar": "K=V"}
    add("target", metavar="TARGET", help="what to count")
    shapes = "S, or H W, or a whole shape without the batch: 3 256 256, 3x256x256 or 3,256,256"
    add("--shape", nargs="+", type=_sizes, action=_Last, default=[], metavar="N", help=shapes)
    add("--input", action="append", default=[], metavar="NAME=1x3x224x224:float32", help="an input, by name or not")
    add("--seq", type=positive, metavar="N", help="tokens in a text")
    samples = "samples (default: 1)" if batch is None else "samples (default: 1), or auto: the most that fit"
    add("--batch-size", type=batch or positive, metavar="N", help=samples)
    add("--kwargs", **pairs, help="arguments of what builds the model")
    add("--cfg-options", **pairs, type=_setting, help="override settings of an OpenMMLab config")
    add("--dtype", default="", metavar="D", help="of parameters and inputs, such as bfloat16")
    add("--device", default="cpu", type=_device, help="cpu (default), cuda, cuda:N, or meta")
    add("--train", action="store_true", help=train)
    way = sub.add_mutually_exclusive_group()
    real = "compute; the default is a dry run, where that is possible"
    way.add_argument("--real", dest="dry_run", action="store_false", help=real)
    way.add_argument("--dry-run", action="store_true", help="never compute: fail where a dry run is not possible")
    sub.set_defaults(dry_run=None)


def _fit(sub: argparse.ArgumentParser) -> None:
    model_options(sub, train="forward, backward and steps of an optimizer, in train mode", batch=_batch)
    add = sub.add_argument
    add("--on", metavar="DEVICE", required=True, help="one that `opcount device` lists, or a file of one")
    add("--optimizer", metavar="NAME", help="of torch.optim for --train, or none (default: AdamW)")
    add("--checkpoint", metavar="PATTERN", help="modules that compute their activations again, such as 'layers.*'")
    _output(sub)
    sub.set_defaults(command=_lazily("fit"))


def _show(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", metavar="FILE.json", type=Path)
    _report(sub)
    sub.set_defaults(command=_lazily("show"))


def _diff(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument
    add("before", metavar="A.json", type=Path)
    add("after", metavar="B.json", type=Path)
    add("--metric", choices=METRICS, default="macs")
    add("--format", choices=DIFF_FORMATS, help="default: table, or what the output file's name says")
    add("--convention", choices=sorted(CONVENTIONS), help="how MACs and arithmetic are read as FLOPs")
    add(
        "--fail",
        type=_tolerance,
        action="append",
        default=[],
        metavar="METRIC:BY",
        help="exit with 1 if it grew by more, such as macs:1%% or macs:1000",
    )
    add("--unfold", action="store_true", help="show each of several modules that changed alike, and all that is new")
    add("--on", metavar="DEVICE", help="whose least times the page shows (only with --format html)")
    _output(sub)
    sub.set_defaults(command=_lazily("diff"))


def _operators(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("pattern", nargs="?", default="*", metavar="GLOB", help="only operators whose name matches")
    _output(sub)
    sub.set_defaults(command=_lazily("operators"))


def _device_options(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument
    add("device_name", nargs="?", metavar="NAME", help="show this device alone, with its source")
    add("--measure", action="store_true", help="measure this machine: products by dtype, and a copy")
    add("--device", type=_device, help="what to measure: cpu, cuda or cuda:N (default: cuda where there is one)")
    _output(sub)
    sub.set_defaults(command=_lazily("device"))


def _run(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument
    add("--world", type=positive, metavar="N", help="be one rank of so many that are not there: nothing is computed")
    add("--rank", type=_natural, default=0, metavar="R", help="which rank of --world to be (default: 0)")
    kinds = "count one rank of each kind of --world: first, middle and last pipeline stage"
    add("--ranks", choices=("representative",), help=kinds)
    add("--ranks-per-node", type=positive, default=8, metavar="N", help="devices of a node of --world (default: 8)")
    _memory(sub.add_argument)
    _report(sub)
    add = sub.add_argument
    add("--nproc", type=int, metavar="N", help="run N ranks on this machine, as torchrun does; rank 0 reports on all")
    wait = "how long to wait for ranks that do not answer (default: 60), and, if given, for one that runs nothing"
    add("--rank-timeout", type=float, metavar="SECONDS", help=wait)
    sub.add_argument("-m", dest="module", action="store_true", help="SCRIPT is a module's name, as for python -m")
    sub.add_argument("script", metavar="SCRIPT", help="the program; options of opcount stand before it")
    sub.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS", help="of the program")
    sub.set_defaults(command=_lazily("program"))


def _size(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument
    add("file", metavar="FILE.json", type=Path, help="a rank's profile, or those of `opcount run --ranks`")
    add("--on", metavar="DEVICE", required=True, help="what each rank has: one of `opcount device`, or a file of one")
    links = "bandwidth of one rank's link in one direction, for the collectives of a group: tp=450GB/s, dp=400Gbit/s"
    add("--link", action="append", default=[], metavar="GROUP=RATE", help=links)
    add("--tokens-per-step", metavar="N", help="that all ranks together process in what was counted, such as 16.8M")
    add("--tokens", metavar="N", help="of the whole training, such as 15T: how many days it takes")
    add("--mfu", type=float, metavar="SHARE", help="expected of the devices' peaks, such as 0.4: a plan, not a floor")
    _output(sub)
    sub.set_defaults(command=_lazily("size"))


def _completion(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("shell", choices=("bash", "zsh", "fish"))
    sub.set_defaults(command=lambda options: import_module("opcount.cli.completion").run(options, parser()))


def _memory(add: Callable[..., object]) -> None:
    add("--memory", action="store_true", help="track live bytes: the peak, and what it is made of")
    add("--kernels", action="store_true", help="ask the allocator of a real run how much is inside kernels, too")


def _report(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument
    add("--convention", choices=sorted(CONVENTIONS), help="how MACs and arithmetic are read as FLOPs (default: fvcore)")
    add("--format", choices=FORMATS, help="default: table, or what the name of the output file says")
    add("--depth", type=_natural, metavar="N", help="modules below this depth are left out")
    add("--sort", choices=SORT_KEYS, help="children in descending order, in place of the model's order")
    add("--modules", metavar="PATTERN", help="only modules whose path matches: * is one name, ** any number of them")
    add("--unfold", action="store_true", help="show each of several equal blocks")
    add("--on", metavar="DEVICE", help="the least time on a device: one that `opcount device` lists, or a file of one")
    columns = f"of the table, in place of the usual ones: {', '.join(COLUMNS)}"
    add("--columns", nargs="+", type=_columns, action=_Flat, default=[], metavar="NAME", help=columns)
    _output(sub)


def _output(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there, all or nothing")


class _Flat(argparse.Action):
    """Joins the lists that an option's values are, those of several occurrences, too."""

    def __call__(
        self, _parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, _option: str | None = None
    ) -> None:
        """Add the values to those that the option has."""
        known = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, [*known, *(each for value in values for each in value)])


class _Last(_Flat):
    """Joins the lists that an option's values are; a later occurrence replaces an earlier one."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *given: Any) -> None:
        """Set the values."""
        setattr(namespace, self.dest, [])
        super().__call__(parser, namespace, *given)


def _sizes(text: str) -> list[int]:
    try:
        return sizes(text)
    except ValueError as error:
        several = "positive whole numbers such as 3x256x256" if re.search("[x*,]", text) else "a positive whole number"
        raise argparse.ArgumentTypeError(f"expected {several}, got {text!r}. TARGET comes first.") from error


def _columns(text: str) -> list[str]:
    try:
        return list(columns_named([TORCHINFO.get(name, name) for name in re.split(r"[,\s]+", text.strip(", "))]))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def positive(text: str) -> int:
    """Read a number of things."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}. TARGET comes first.")
    return int(text)


def _batch(text: str) -> int | str:
    return text if text == "auto" else positive(text)


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}.")
    return int(text)


def _setting(text: str) -> str:
    if not re.match(r"[^=]+=", text):
        raise argparse.ArgumentTypeError(f"expected key=value, got {text!r}. TARGET comes first.")
    return text


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|meta|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda, cuda:N or meta, got {text!r}.")
    return text


def _tolerance(text: str) -> Tolerance:
    try:
        return Tolerance.parse(text, METRICS)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
