"""Gemma 3, the language model: five layers with a window for each that sees all, positions of their own for both.

Gemma Team 2025, "Gemma 3 Technical Report".
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from groundup.models.config import (
    ATTENTION,
    EMBEDDED,
    FEED_FORWARD,
    HEAD_NORMS,
    OLD_TABLES,
    TIED,
    DecoderConfig,
    read_config,
    windows,
)
from groundup.models.gemma2 import NORMS, SandwichBlock
from groundup.nn.decoder import Decoder, start_small
from groundup.nn.norm import RMSNorm
from groundup.nn.rope import Rotary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gemma3TextConfig(DecoderConfig):
    """The sizes of a Gemma 3, under the names of its published config.json."""

    head_dim: int | None = 256
    max_position_embeddings: int = 131072
    rope_theta: float = 1e6
    """For the layers that see all; ``rope_scaling`` is theirs too."""
    rope_local_base_freq: float = 10000.0
    """For the layers with a window."""
    query_pre_attn_scalar: float = 256
    sliding_window: int = 4096
    sliding_window_pattern: int = 6
    """Every so many layers one sees all, where ``layer_types`` does not say."""
    layer_types: Sequence[str] | None = None
    tie_word_embeddings: bool = True

    FIXED: ClassVar[Mapping[str, Any]] = {
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "final_logit_softcapping": None,
        "attn_logit_softcapping": None,
        "use_bidirectional_attention": False,
    }
    INERT: ClassVar = frozenset({"hidden_act", "cache_implementation"})
    RENAMED: ClassVar = {"_sliding_window_pattern": "sliding_window_pattern"}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Self:
        """Read a config.json's table; newer files keep the positions of both kinds of layer together."""
        rope = table.get("rope_parameters")
        if isinstance(rope, Mapping) and "full_attention" in rope:
            local = rope.get("sliding_attention", {})
            base = local.get("rope_theta", cls.rope_local_base_freq)
            table = {**table, "rope_parameters": rope["full_attention"], "rope_local_base_freq": base}
        return read_config(cls, table, ignore)

    def windows(self) -> list[int | None]:
        """For each layer how far it sees."""
        every = self.sliding_window_pattern
        usual = [
            "full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(self.num_hidden_layers)
        ]
        return windows(self.layer_types or usual, self.num_hidden_layers, self.sliding_window)


class Gemma3Text(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = Gemma3TextConfig
    ARCHITECTURE = "Gemma3ForCausalLM"
    WEIGHTS = (*EMBEDDED, *NORMS, *ATTENTION, *HEAD_NORMS, *FEED_FORWARD)
    UNUSED = OLD_TABLES
    TIED = TIED

    def __init__(self, config: Gemma3TextConfig) -> None:
        self.config = config
        everywhere, nearby = config.rotary(), Rotary(config.head_size, config.rope_local_base_freq)
        norm = functools.partial(RMSNorm, eps=config.rms_norm_eps, around_one=True)
        scale = config.query_pre_attn_scalar**-0.5
        blocks = (
            SandwichBlock(
                config,
                config.attention(window=window, scale=scale, norm=norm),
                everywhere if window is None else nearby,
            )
            for window in config.windows()
        )
        super().__init__(
            config.embedding(),
            blocks,
            config.norm(around_one=True),
            config.output_layer(),
            scale_in=config.hidden_size**0.5,
        )
        start_small(self)
