"""Mistral: a Llama whose layers see a window of steps. Jiang et al. 2023."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from groundup.models.config import OLD_TABLES, STANDARD, TIED, DecoderConfig
from groundup.nn.decoder import Decoder, start_small


@dataclasses.dataclass(frozen=True, kw_only=True)
class MistralConfig(DecoderConfig):
    """The sizes of a Mistral, under the names of its published config.json."""

    sliding_window: int | None = 4096
    """Steps that each layer sees, None for all."""

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "mistral", "hidden_act": "silu"}


class Mistral(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = MistralConfig
    ARCHITECTURE = "MistralForCausalLM"
    WEIGHTS = STANDARD
    UNUSED = OLD_TABLES
    TIED = TIED

    def __init__(self, config: MistralConfig) -> None:
        self.config = config
        positions = config.rotary()
        blocks = (
            config.block(config.attention(window=config.sliding_window), positions)
            for _ in range(config.num_hidden_layers)
        )
        super().__init__(config.embedding(), blocks, config.norm(), config.output_layer())
        start_small(self)
