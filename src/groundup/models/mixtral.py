"""Mixtral: a Mistral with a mixture of experts in each layer. Jiang et al. 2024."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from groundup.models.config import ATTENTION, EMBEDDED, NORMS, OLD_TABLES, TIED, DecoderConfig, experts
from groundup.nn.decoder import Decoder, start_small
from groundup.nn.experts import MixtureOfExperts
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtralConfig(DecoderConfig):
    """The sizes of a Mixtral, under the names of its published config.json."""

    rms_norm_eps: float = 1e-5
    rope_theta: float = 1e6
    sliding_window: int | None = None
    num_local_experts: int = 8
    num_experts_per_tok: int = 2
    router_aux_loss_coef: float = 0.001

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "mixtral", "hidden_act": "silu", "router_jitter_noise": 0.0}
    INERT: ClassVar = frozenset({"output_router_logits"})


class Mixtral(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = MixtralConfig
    ARCHITECTURE = "MixtralForCausalLM"
    WEIGHTS = (
        *EMBEDDED,
        *NORMS,
        *ATTENTION,
        Weight("model.layers.*.block_sparse_moe.gate.weight", "blocks.*.feed_forward.router.weight"),
        *experts("model.layers.*.block_sparse_moe.experts", "w1", "w3", "w2"),
    )
    UNUSED = OLD_TABLES
    TIED = TIED

    def __init__(self, config: MixtralConfig) -> None:
        self.config = config
        positions = config.rotary()
        blocks = (
            config.block(
                config.attention(window=config.sliding_window),
                positions,
                MixtureOfExperts(
                    config.num_local_experts,
                    config.num_experts_per_tok,
                    config.intermediate_size,
                    in_features=config.hidden_size,
                ),
            )
            for _ in range(config.num_hidden_layers)
        )
        super().__init__(config.embedding(), blocks, config.norm(), config.output_layer())
        start_small(self)
