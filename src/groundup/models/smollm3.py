"""SmolLM3: a Llama in which every fourth layer has no positions (Yang et al. 2025, "RoPE to NoPE and back again")."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from groundup.models.config import OLD_TABLES, STANDARD, TIED, DecoderConfig, windows
from groundup.nn.decoder import Decoder, start_small


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmolLM3Config(DecoderConfig):
    """The sizes of a SmolLM3, under the names of its published config.json."""

    rope_theta: float = 2e6
    tie_word_embeddings: bool = True
    no_rope_layers: Sequence[int] | None = None
    """1 for each layer with positions and 0 for each without; by default every ``no_rope_layer_interval``-th is one."""
    no_rope_layer_interval: int = 4
    use_sliding_window: bool = False
    sliding_window: int | None = None
    layer_types: Sequence[str] | None = None

    FIXED: ClassVar[Mapping[str, Any]] = {
        "model_type": "smollm3",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }
    INERT: ClassVar = frozenset({"max_window_layers"})

    def turned(self) -> list[bool]:
        """For each layer whether it has positions."""
        every = self.no_rope_layer_interval
        usual = [int((layer + 1) % every != 0) for layer in range(self.num_hidden_layers)]
        return [bool(flag) for flag in self.no_rope_layers or usual]


class SmolLM3(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = SmolLM3Config
    ARCHITECTURE = "SmolLM3ForCausalLM"
    WEIGHTS = STANDARD
    UNUSED = OLD_TABLES
    TIED = TIED

    def __init__(self, config: SmolLM3Config) -> None:
        self.config = config
        positions = config.rotary()
        window = config.sliding_window if config.use_sliding_window else None
        seen = windows(config.layer_types, config.num_hidden_layers, window)
        blocks = (
            config.block(config.attention(window=window), positions if turned else None)
            for window, turned in zip(seen, config.turned(), strict=True)
        )
        super().__init__(config.embedding(), blocks, config.norm(), config.output_layer())
        start_small(self)
