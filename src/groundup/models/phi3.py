"""Phi-3 and Phi-4-mini: a Llama whose projections are published fused, some with a part of each head turned.

Abdin et al. 2024, "Phi-3 Technical Report".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from groundup.models.config import EMBEDDED, NORMS, OLD_TABLES, TIED, DecoderConfig
from groundup.nn.decoder import Decoder, start_small
from groundup.nn.rope import Rotary
from groundup.nn.weights import Weight, split_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phi3Config(DecoderConfig):
    """The sizes of a Phi-3, under the names of its published config.json."""

    rms_norm_eps: float = 1e-5
    original_max_position_embeddings: int = 4096
    partial_rotary_factor: float = 1.0
    """Share of each head's features that is turned."""
    sliding_window: int | None = None

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "phi3", "hidden_act": "silu"}
    INERT: ClassVar = frozenset({"auto_map", "attention_bias", "interpolate_factor", "lm_head_bias", "mlp_bias"})

    def positions(self) -> Rotary:
        """Rotary positions; their scaling is told here how long the model was before it."""
        scaling = self.rope_scaling
        if scaling is not None:
            scaling = {"original_max_position_embeddings": self.original_max_position_embeddings, **scaling}
        turned = int(self.head_size * self.partial_rotary_factor)
        return Rotary(turned, self.rope_theta, scaling, self.max_position_embeddings)


class Phi3(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = Phi3Config
    ARCHITECTURE = "Phi3ForCausalLM"
    UNUSED = OLD_TABLES
    TIED = TIED

    def __init__(self, config: Phi3Config) -> None:
        self.config = config
        positions = config.positions()
        blocks = (
            config.block(config.attention(window=config.sliding_window), positions)
            for _ in range(config.num_hidden_layers)
        )
        super().__init__(config.embedding(), blocks, config.norm(), config.output_layer())
        start_small(self)

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our names: the fused projections are cut by this model's sizes."""
        config = self.config
        wide = config.num_attention_heads * config.head_size
        narrow = (config.num_key_value_heads or config.num_attention_heads) * config.head_size
        inner = config.intermediate_size
        attention = tuple(f"blocks.*.attention.{name}.weight" for name in ("query", "key", "value"))
        feed_forward = tuple(f"blocks.*.feed_forward.{name}.weight" for name in ("gate", "up"))
        return (
            *EMBEDDED,
            *NORMS,
            Weight("model.layers.*.self_attn.qkv_proj.weight", attention, split_rows(wide, narrow, narrow)),
            Weight("model.layers.*.self_attn.o_proj.weight", "blocks.*.attention.output.weight"),
            Weight("model.layers.*.mlp.gate_up_proj.weight", feed_forward, split_rows(inner, inner)),
            Weight("model.layers.*.mlp.down_proj.weight", "blocks.*.feed_forward.down.weight"),
        )
