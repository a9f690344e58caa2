"""Qwen2 and Qwen2.5: a Llama with biases on query, key and value. Yang et al. 2024."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from groundup.models.config import BIASES, OLD_TABLES, STANDARD, TIED, DecoderConfig, windows
from groundup.nn.decoder import Decoder, start_small


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen2Config(DecoderConfig):
    """The sizes of a Qwen2, under the names of its published config.json."""

    use_sliding_window: bool = False
    sliding_window: int | None = None
    max_window_layers: int = 28
    """The first layer whose window is limited, where windows are used."""
    layer_types: Sequence[str] | None = None

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "qwen2", "hidden_act": "silu"}
    INERT: ClassVar = frozenset({"use_mrope"})

    def windows(self) -> list[int | None]:
        """For each layer how far it sees."""
        window = self.sliding_window if self.use_sliding_window else None
        if self.layer_types is None and window is not None:
            return [window if layer >= self.max_window_layers else None for layer in range(self.num_hidden_layers)]
        return windows(self.layer_types, self.num_hidden_layers, window)


class Qwen2(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = Qwen2Config
    ARCHITECTURE = "Qwen2ForCausalLM"
    WEIGHTS = (*STANDARD, *BIASES[:3])
    UNUSED = OLD_TABLES
    TIED = TIED

    def __init__(self, config: Qwen2Config) -> None:
        self.config = config
        positions = config.rotary()
        blocks = (
            config.block(config.attention(window=window, bias="inputs"), positions) for window in config.windows()
        )
        super().__init__(config.embedding(), blocks, config.norm(), config.output_layer())
        start_small(self)
