"""Text as it is generated: a prompt at once, then token by token, each against a cache of those before."""

from __future__ import annotations

import inspect
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from opcount.counter import OpCounter
from opcount.errors import InputError
from opcount.identity import identity
from opcount.loaders.step import tensors_in
from opcount.model_inputs import Arguments
from opcount.records import GENERATION, Stage, stage_facts
from opcount.reporter.numbers import si

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from torch import Tensor, nn

    from opcount.devices import Device
    from opcount.loaders.request import Loaded
    from opcount.profile import Profile

_CACHES = ("cache", "past_key_values", "cache_params", "state")
"""Names of the argument and the output that hold what earlier tokens left behind, the newest version's first."""

PREFILL, DECODE = "prefill", "decode"


@dataclass(frozen=True)
class Generation:
    """Text that a model generates: options of the command line.

    Attributes:
        cache: Tokens that are in the cache beforehand; what it cost to put them there is not counted.
        prefill: Tokens of the prompt, which run at once; of the encoder, where there is one.
        decode: Tokens that run one by one after it.
    """

    cache: int = 0
    prefill: int = 0
    decode: int = 0

    @classmethod
    def of(cls, options: Namespace) -> Generation | None:
        """Return what a command line asks for; None if it asks for no generation.

        Raises:
            InputError: The option beside it makes no sense, or nothing would run.
        """
        asked = cls(*(getattr(options, name) or 0 for name in ("cache", PREFILL, DECODE)))
        if asked == cls():
            return None
        beside = {"--train": options.train, "--input": bool(options.input), "--seq": options.seq}
        for name, given in beside.items():
            if given:
                why = "which has a backward" if name == "--train" else "which says the tokens itself"
                raise InputError(f"{asked.option}: expected it without {name}, {why}. Leave one of them out.")
        if not asked.prefill and not asked.decode:
            raise InputError(f"--cache: expected --prefill or --decode beside it, got --cache {asked.cache} alone.")
        return asked

    @property
    def option(self) -> str:
        """The option that asked for it."""
        return f"--{DECODE if self.decode else PREFILL if self.prefill else 'cache'}"

    @property
    def tokens(self) -> int:
        """Length of the text in the end."""
        return self.cache + self.prefill + self.decode

    def count(self, loaded: Loaded, *, dry: bool, memory: bool | str = False, device: Device | None = None) -> Profile:
        """Return the count of the prompt and of the tokens after it.

        Raises:
            InputError: The model keeps no cache.
        """
        model, writer = loaded.model, _Writer(loaded, self)
        options: Any = {"dry_run": dry, "memory": memory, "device": device}
        with torch.no_grad(), OpCounter(model, **options):  # what fills the cache is no part of the count
            writer.prepare()
            with OpCounter(model, **options) as counter:
                if self.prefill:
                    with counter.phase(PREFILL):
                        writer.read_prompt()
                for _ in range(self.decode):
                    with counter.phase(DECODE):
                        writer.write()
                    writer.note(DECODE)
            facts = self._facts(model, counter.profile, writer)
        return replace(counter.profile, provenance={**counter.profile.provenance, **facts})

    def _facts(self, model: nn.Module, profile: Profile, writer: _Writer) -> dict[str, str]:
        steps = {PREFILL: min(self.prefill, 1), DECODE: self.decode}
        tokens = {PREFILL: self.prefill, DECODE: self.decode}
        stages = {
            phase: Stage(writer.batch * tokens[phase], _weights(model, profile, phase, count) + writer.moved[phase])
            for phase, count in steps.items()
            if count
        }
        parts = [
            *([f"{self.cache} tokens in the cache"] if self.cache else []),
            *([f"{self.prefill} at once"] if self.prefill else []),
            *([f"{self.decode} one by one"] if self.decode else []),
        ]
        words = f"{', '.join(parts)}; {si(writer.cached, 'B')} of cache in the end"
        return {GENERATION: words, **stage_facts(stages)}


class _Writer:
    """A model in the middle of a text.

    Attributes:
        batch: Number of texts.
        moved: Bytes of the cache that each phase has to read or to write.
    """

    def __init__(self, loaded: Loaded, asked: Generation) -> None:
        self._model = loaded.model
        self._asked = asked
        self._names = inspect.signature(loaded.model.forward).parameters
        self._cache: Any = None
        self._fixed: dict[str, Any] = {}
        self.moved: defaultdict[str, int] = defaultdict(int)
        args, kwargs = Arguments.of(loaded.inputs)
        self._inputs = {**dict(zip(self._names, args, strict=False)), **kwargs}
        self._key = next((name for name in _CACHES if name in self._names), "")
        if not self._key or not getattr(loaded.model, "can_generate", bool)():
            raise InputError(
                f"{asked.option}: expected a model that generates text and keeps a cache, got "
                f"{type(loaded.model).__name__}. Count one forward, without --decode, --prefill and --cache."
            )
        self._encoded = "encoder_outputs" in self._names
        self._ids = "decoder_input_ids" if self._encoded else "input_ids"
        tokens: Tensor | None = self._inputs.get(self._ids)
        if tokens is None:
            raise InputError(
                f"{asked.option}: expected a model that is called with {self._ids}, got {type(loaded.model).__name__}, "
                f"called with {', '.join(self._inputs) or 'nothing'}. Count one forward, without it."
            )
        self._texts = {count: tokens[:, :1].expand(-1, count) for count in {asked.cache, asked.prefill, 1}}
        self.batch = int(tokens.shape[0])
        self._prompt = dict(self._inputs)
        if "input_ids" in self._inputs:
            self._prompt["input_ids"] = self._inputs["input_ids"][:, : asked.prefill]

    @property
    def cached(self) -> int:
        """Bytes of the cache."""
        return sum(tensor.nbytes for tensor in {identity(each): each for each in tensors_in(self._cache)}.values())

    def prepare(self) -> None:
        """Fill the cache; run the encoder, if its prompt is not to be counted."""
        if self._encoded and not self._asked.prefill:
            self._encode(self._inputs)
        if self._asked.cache and self._encoded and self._asked.prefill:
            raise InputError("--cache: expected it without --prefill where a prompt goes to an encoder. Leave one out.")
        if self._asked.cache:
            self._run(self._asked.cache)

    def read_prompt(self) -> None:
        """Run the prompt."""
        if not self._encoded:
            self._run(self._asked.prefill)
            self.note(PREFILL)
            return
        if "input_ids" not in self._prompt:
            raise InputError(
                f"--prefill: expected a model whose encoder reads tokens, got {type(self._model).__name__}. Leave it "
                "out: the encoder runs, uncounted, before --decode."
            )
        self._encode(self._prompt)

    def write(self) -> None:
        """Run one token."""
        self._run(1)

    def note(self, phase: str) -> None:
        """Add what a step has to read of the cache, and to write to it."""
        self.moved[phase] += self.cached

    def _encode(self, inputs: dict[str, Any]) -> None:
        model: Any = self._model  # of transformers
        encoder = model.get_encoder()
        known = inspect.signature(encoder.forward).parameters
        self._fixed = {"encoder_outputs": encoder(**{name: inputs[name] for name in inputs if name in known})}

    def _run(self, count: int) -> None:
        """Run some tokens; as in generation, words are scored after the last alone."""
        tokens = self._texts[count]
        known = {self._ids: tokens, self._key: self._cache, "use_cache": True, "logits_to_keep": 1, "return_dict": True}
        outputs = self._model(**{name: known[name] for name in known if name in self._names}, **self._fixed)
        self._cache = next((found for name in _CACHES if (found := getattr(outputs, name, None)) is not None), None)


def _weights(model: nn.Module, profile: Profile, phase: str, calls: int) -> int:
    """Return the bytes of the parameters that a phase has to read: each once a call, of a table the rows in use."""
    read: defaultdict[str, int] = defaultdict(int)
    for record in profile.records:
        if record.phase == phase:
            read[record.path] += record.bytes_read
    return sum(min(calls * size, read[path]) for path, size in _own_weights(model))


def _own_weights(model: nn.Module) -> Iterator[tuple[str, int]]:
    for path, module in model.named_modules():
        yield path, sum(parameter.nbytes for parameter in module.parameters(recurse=False))
