"""Gemma 2: norms before and after each half of a block, capped scores, every second layer with a window.

Gemma Team 2024, "Gemma 2: Improving Open Language Models at a Practical Size".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from groundup.models.config import ATTENTION, EMBEDDED, FEED_FORWARD, OLD_TABLES, TIED, DecoderConfig, windows
from groundup.nn.activations import gelu_tanh
from groundup.nn.decoder import Decoder, Given, attend_in, start_small
from groundup.nn.feed_forward import GatedFeedForward
from groundup.nn.rope import Rotary
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gemma2Config(DecoderConfig):
    """The sizes of a Gemma 2, under the names of its published config.json."""

    head_dim: int | None = 256
    query_pre_attn_scalar: float = 256
    """Scores are divided by its square root."""
    sliding_window: int = 4096
    layer_types: Sequence[str] | None = None
    """By default every second layer, the first among them, has the window."""
    attn_logit_softcapping: float | None = 50.0
    final_logit_softcapping: float | None = 30.0
    tie_word_embeddings: bool = True

    FIXED: ClassVar[Mapping[str, Any]] = {
        "model_type": "gemma2",
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "use_bidirectional_attention": None,
    }
    INERT: ClassVar = frozenset({"hidden_act", "cache_implementation"})

    def windows(self) -> list[int | None]:
        """For each layer how far it sees."""
        alternating = ["full_attention" if i % 2 else "sliding_attention" for i in range(self.num_hidden_layers)]
        return windows(self.layer_types or alternating, self.num_hidden_layers, self.sliding_window)


NORMS = tuple(
    Weight(f"model.layers.*.{theirs}.weight", f"blocks.*.{ours}.weight")
    for theirs, ours in (
        ("input_layernorm", "attention_norm"),
        ("post_attention_layernorm", "attended_norm"),
        ("pre_feedforward_layernorm", "feed_forward_norm"),
        ("post_feedforward_layernorm", "fed_norm"),
    )
)


class Gemma2(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = Gemma2Config
    ARCHITECTURE = "Gemma2ForCausalLM"
    WEIGHTS = (*EMBEDDED, *NORMS, *ATTENTION, *FEED_FORWARD)
    UNUSED = OLD_TABLES
    TIED = TIED

    def __init__(self, config: Gemma2Config) -> None:
        self.config = config
        positions = config.rotary()
        scale, cap = config.query_pre_attn_scalar**-0.5, config.attn_logit_softcapping
        blocks = (
            SandwichBlock(config, config.attention(window=window, scale=scale, cap=cap), positions)
            for window in config.windows()
        )
        super().__init__(
            config.embedding(),
            blocks,
            config.norm(around_one=True),
            config.output_layer(),
            scale_in=config.hidden_size**0.5,
            cap=config.final_logit_softcapping,
        )
        start_small(self)


class SandwichBlock(nn.Module):
    """One layer of a Gemma: each half normalised before and after, then added to what came in."""

    def __init__(self, config: DecoderConfig, attention: nn.Module, positions: Rotary) -> None:
        super().__init__()
        self.attention_norm = config.norm(around_one=True)
        self.attention = attention
        self.attended_norm = config.norm(around_one=True)
        self.feed_forward_norm = config.norm(around_one=True)
        self.feed_forward = GatedFeedForward(config.intermediate_size, gelu_tanh, in_features=config.hidden_size)
        self.fed_norm = config.norm(around_one=True)
        self.positions = (positions,)

    def forward(self, states: Tensor, given: Given) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        attended = attend_in(given, self.attention, self.attention_norm(states))
        states = states + self.attended_norm(attended)
        outputs: Tensor = states + self.fed_norm(self.feed_forward(self.feed_forward_norm(states)))
        return outputs
