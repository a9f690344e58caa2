"""Granite 3: a Llama with a factor of its own on embedding, attention, residual and logits. IBM 2024."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from groundup.models.config import OLD_TABLES, STANDARD, TIED, DecoderConfig
from groundup.nn.decoder import Decoder, start_small


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraniteConfig(DecoderConfig):
    """The sizes of a Granite, under the names of its published config.json."""

    embedding_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    """In place of 1 / sqrt(head size)."""
    residual_multiplier: float = 1.0
    logits_scaling: float = 1.0
    """Logits are divided by it."""

    FIXED: ClassVar[Mapping[str, Any]] = {
        "model_type": "granite",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }


class Granite(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = GraniteConfig
    ARCHITECTURE = "GraniteForCausalLM"
    WEIGHTS = STANDARD
    UNUSED = OLD_TABLES
    TIED = TIED

    def __init__(self, config: GraniteConfig) -> None:
        self.config = config
        positions = config.rotary()
        blocks = (
            config.block(
                config.attention(scale=config.attention_multiplier), positions, scale=config.residual_multiplier
            )
            for _ in range(config.num_hidden_layers)
        )
        super().__init__(
            config.embedding(),
            blocks,
            config.norm(),
            config.output_layer(),
            scale_in=config.embedding_multiplier,
            scale_out=1.0 / config.logits_scaling,
        )
        start_small(self)
