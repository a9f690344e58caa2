"""OLMo 2: each half of a block is normalised after it, queries and keys over all heads together.

OLMo Team 2024, "2 OLMo 2 Furious", section 3.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from groundup.models.config import ATTENTION, EMBEDDED, FEED_FORWARD, HEAD_NORMS, OLD_TABLES, TIED, DecoderConfig
from groundup.nn.decoder import Decoder, Given, attend_in, start_small
from groundup.nn.feed_forward import GatedFeedForward
from groundup.nn.norm import RMSNorm
from groundup.nn.rope import Rotary
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class Olmo2Config(DecoderConfig):
    """The sizes of an OLMo 2, under the names of its published config.json."""

    rms_norm_eps: float = 1e-5

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "olmo2", "hidden_act": "silu", "attention_bias": False}


class Olmo2(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = Olmo2Config
    ARCHITECTURE = "Olmo2ForCausalLM"
    WEIGHTS = (
        *EMBEDDED,
        *ATTENTION,
        *HEAD_NORMS,
        *FEED_FORWARD,
        Weight("model.layers.*.post_attention_layernorm.weight", "blocks.*.attended_norm.weight"),
        Weight("model.layers.*.post_feedforward_layernorm.weight", "blocks.*.fed_norm.weight"),
    )
    UNUSED = OLD_TABLES
    TIED = TIED

    def __init__(self, config: Olmo2Config) -> None:
        self.config = config
        positions = config.rotary()
        blocks = (PostNormBlock(config, positions) for _ in range(config.num_hidden_layers))
        super().__init__(config.embedding(), blocks, config.norm(), config.output_layer())
        start_small(self)


class PostNormBlock(nn.Module):
    """One layer: attention, then feed-forward, each normalised after it and added to what came in."""

    def __init__(self, config: Olmo2Config, positions: Rotary) -> None:
        super().__init__()
        self.attention = config.attention(norm=functools.partial(RMSNorm, eps=config.rms_norm_eps), norm_over="all")
        self.attended_norm = config.norm()
        self.feed_forward = GatedFeedForward(config.intermediate_size, in_features=config.hidden_size)
        self.fed_norm = config.norm()
        self.positions = (positions,)

    def forward(self, states: Tensor, given: Given) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        attended = attend_in(given, self.attention, states)
        states = states + self.attended_norm(attended)
        outputs: Tensor = states + self.fed_norm(self.feed_forward(states))
        return outputs
