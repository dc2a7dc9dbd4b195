"""Words of a command line as people type them: a target without a command, sizes in any spelling, foreign options."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_FOREIGN = {
    "--shape": (
        "--input-size --input-shape --input_size --input_shape --inputs-shape --img-size --image-size --imgsz --img "
        "--size --resolution --res --height --width"
    ),
    "--batch-size": "--batch --batchsize --bs --bsz --batch_size -b",
    "--seq": "--seq-len --seq-length --seq_len --seqlen --sequence-length --max-length --tokens --length",
    "--dtype": "--precision --data-type --type --half --fp16 --bf16 --amp",
    "--train": "--backward --bwd --training --mode",
    "-o": "--out --save --out-file --file --export",
    "--kwargs": "--model-args --args --model-kwargs",
    "--format": "--fmt --print --as",
    "--depth": "--max-depth --level --levels",
    "--columns": "--cols --col-names --col_names",
    "--real": "--no-dry-run --compute",
}
"""Options by what other tools call them."""

_PLAIN = {"-h", "--help", "--version"}
_NEAR = 0.75


def with_command(words: Sequence[str], commands: Collection[str]) -> list[str]:
    """Return the words with ``count`` before them, if they begin with a file, a name of a library or an option.

    A bare word is taken for a command: `hint_of_command` says how to count it.

    Example:
        >>> with_command(["unet.py", "--train"], ["count", "show"])
        ['count', 'unet.py', '--train']
        >>> with_command(["shwo", "a.json"], ["count", "show"])
        ['shwo', 'a.json']
    """
    first = words[0] if words else "--help"
    is_target = re.search(r"[./:\\]", first) is not None or Path(first).exists()
    if first in commands or first in _PLAIN or (first.startswith("-") and len(words) == 1):
        return list(words)
    return ["count", *words] if is_target or first.startswith("-") else list(words)


def hint_of_command(word: str, commands: Collection[str]) -> str:
    """Return a sentence about a word that no command is.

    Example:
        >>> hint_of_command("shwo", ["count", "show"]), hint_of_command("gpt2", ["count", "show"])
        ('Did you mean show?', 'To count a model: opcount count gpt2')
    """
    near = get_close_matches(word, commands, 1, _NEAR)
    return f"Did you mean {near[0]}?" if near else f"To count a model: opcount count {word}"


def sizes(text: str) -> list[int]:
    """Return the whole numbers of a word, ``"3x256x256"``, ``"3,256,256"`` or ``"(3,"``.

    Raises:
        ValueError: There are none, or something else, or one that is not positive.

    Example:
        >>> sizes("3x256x256"), sizes("3,256,256"), sizes("(3,"), sizes("224")
        ([3, 256, 256], [3, 256, 256], [3], [224])
    """
    bare = text.strip("()[], ")
    if not re.fullmatch(r"\d+([x*,]\s*\d+)*", bare, re.ASCII):
        raise ValueError(text)
    found = [int(each) for each in re.findall(r"\d+", bare)]
    if not all(found):
        raise ValueError(text)
    return found


def hint(unknown: Sequence[str], known: Collection[str]) -> str:
    """Return a sentence about words that no option is: what they are called here.

    Example:
        >>> hint(["--input-size", "224"], ["--input", "--shape"])
        'For --input-size write --shape.'
        >>> hint(["3", "224"], ["--input", "--shape"])
        'Sizes of one input are one word: --input 1x3x224x224; those of the image follow --shape.'
    """
    for word in unknown:
        name = word.partition("=")[0]
        here = next((ours for ours, theirs in _FOREIGN.items() if name in theirs.split() and ours in known), None)
        if here is not None:
            return f"For {name} write {here}."
        if name.startswith("--") and (near := get_close_matches(name, known, n=1)):
            return f"For {name} write {near[0]}."
    if unknown and all(word.isdigit() for word in unknown) and "--shape" in known:
        return "Sizes of one input are one word: --input 1x3x224x224; those of the image follow --shape."
    return ""
