"""Multi-head attention and an encoder layer, as PyTorch's modules compute them where no fast path is taken."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from torch.nn import functional as F  # noqa: N812  (as everybody calls it)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from opcount.interceptor.operator_steps import StepRecorder


class Masks(NamedTuple):
    """The shapes of what attention is masked with."""

    attention: tuple[int, ...] | None = None
    padding: tuple[int, ...] | None = None
    is_causal: bool = False


class Attention(NamedTuple):
    """A call of multi-head attention.

    Attributes:
        width: Of the vectors.
        heads: How many.
        weights: The projection's weight and bias, then the output's.
        masks: What is left out.
        need_weights: Whether the scores are returned.
        average: Whether they are averaged over the heads.
    """

    width: int
    heads: int
    weights: tuple[Tensor | None, ...]
    masks: Masks
    need_weights: bool = False
    average: bool = True

    def options(self, recorder: StepRecorder, dtype: torch.dtype) -> dict[str, Any]:
        """Return the keyword arguments of the call, as an encoder layer passes them."""
        return {
            "attn_mask": recorder.empty(self.masks.attention, dtype),
            "key_padding_mask": recorder.empty(self.masks.padding, dtype),
            "need_weights": self.need_weights,
            "is_causal": self.masks.is_causal,
        }

    def run(
        self, recorder: StepRecorder, q: Tensor, k: Tensor, v: Tensor, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Compute it on meta tensors whose batches come first."""
        weight, bias, out_weight, out_bias = map(recorder.like, self.weights)
        first = q.transpose(0, 1)
        second = first if k is q else k.transpose(0, 1)
        third = second if v is k else v.transpose(0, 1)
        out, scores = F.multi_head_attention_forward(
            first, second, third, self.width, self.heads, weight, bias, None, None,
            add_zero_attn=False, dropout_p=0.0, out_proj_weight=out_weight, out_proj_bias=out_bias, training=False,
            average_attn_weights=self.average, **options,
        )  # fmt: skip
        return out.transpose(0, 1), scores


class EncoderLayer(NamedTuple):
    """A call of ``nn.TransformerEncoderLayer``.

    Attributes:
        attention: Its attention.
        hidden: The weights and biases of its two linear layers.
        norms: Those of its norms.
        eps: Of the norms.
        gelu: Whether its activation is gelu, and not relu.
        norm_first: Whether the norms stand before the sums' operands, and not behind the sums.
        activation: The name of the submodule that its activation is, if it is one.
    """

    attention: Attention
    hidden: tuple[Tensor, ...]
    norms: tuple[Tensor, ...]
    eps: float
    gelu: bool
    norm_first: bool
    activation: str = ""

    def run(self, recorder: StepRecorder, x: Tensor) -> None:
        """Compute it on a meta tensor."""
        if self.norm_first:
            x = x + self._attend(recorder, self._norm(recorder, 1, x))
            x + self._feed(recorder, self._norm(recorder, 2, x))
        else:
            x = self._norm(recorder, 1, x + self._attend(recorder, x))
            self._norm(recorder, 2, x + self._feed(recorder, x))

    def _attend(self, recorder: StepRecorder, x: Tensor) -> Tensor:
        options = self.attention.options(recorder, x.dtype)
        out, _ = recorder.call("self_attn", partial(self.attention.run, recorder), x, x, x, **options)
        return self._drop(recorder, "dropout1", out)

    def _feed(self, recorder: StepRecorder, x: Tensor) -> Tensor:
        weight, bias, out_weight, out_bias = map(recorder.like, self.hidden)
        x = recorder.call("linear1", lambda x: F.linear(x, weight, bias), x)
        x = recorder.call(self.activation, F.gelu if self.gelu else F.relu, x)
        x = self._drop(recorder, "dropout", x)
        x = recorder.call("linear2", lambda x: F.linear(x, out_weight, out_bias), x)
        return self._drop(recorder, "dropout2", x)

    @staticmethod
    def _drop(recorder: StepRecorder, name: str, x: Tensor) -> Tensor:
        dropped: Tensor = recorder.call(name, lambda x: F.dropout(x, training=False), x)
        return dropped

    def _norm(self, recorder: StepRecorder, which: int, x: Tensor) -> Tensor:
        weight, bias = map(recorder.like, self.norms[2 * which - 2 : 2 * which])
        normed: Tensor = recorder.call(
            f"norm{which}", lambda x: F.layer_norm(x, (self.attention.width,), weight, bias, self.eps), x
        )
        return normed
