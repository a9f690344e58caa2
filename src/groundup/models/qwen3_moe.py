"""Qwen3 with mixtures of experts in place of most feed-forward nets. Yang et al. 2025."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from groundup.models.config import BIASES, HEAD_NORMS, OLD_TABLES, STANDARD, TIED, DecoderConfig, experts
from groundup.nn.decoder import Decoder, start_small
from groundup.nn.experts import MixtureOfExperts
from groundup.nn.feed_forward import GatedFeedForward
from groundup.nn.norm import RMSNorm
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen3MoeConfig(DecoderConfig):
    """The sizes of a Qwen3 mixture of experts, under the names of its published config.json."""

    moe_intermediate_size: int = 768
    num_experts: int = 128
    num_experts_per_tok: int = 8
    norm_topk_prob: bool = False
    decoder_sparse_step: int = 1
    """Every so many layers one is a mixture."""
    mlp_only_layers: Sequence[int] = ()
    attention_bias: bool = False
    router_aux_loss_coef: float = 0.001
    use_sliding_window: bool = False
    sliding_window: int | None = None

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "qwen3_moe", "hidden_act": "silu"}
    RENAMED: ClassVar = {"num_local_experts": "num_experts"}
    INERT: ClassVar = frozenset({"output_router_logits", "max_window_layers"})

    def feed_forward(self, layer: int) -> nn.Module:
        """A mixture, or a plain net where the layer has none."""
        if layer in self.mlp_only_layers or not self.num_experts or (layer + 1) % self.decoder_sparse_step:
            return GatedFeedForward(self.intermediate_size, in_features=self.hidden_size)
        return MixtureOfExperts(
            self.num_experts,
            self.num_experts_per_tok,
            self.moe_intermediate_size,
            normalise=self.norm_topk_prob,
            in_features=self.hidden_size,
        )


class Qwen3Moe(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = Qwen3MoeConfig
    ARCHITECTURE = "Qwen3MoeForCausalLM"
    WEIGHTS = (
        *STANDARD,
        *HEAD_NORMS,
        *BIASES,
        Weight("model.layers.*.mlp.gate.weight", "blocks.*.feed_forward.router.weight"),
        *experts("model.layers.*.mlp.experts", "gate_proj", "up_proj", "down_proj"),
    )
    UNUSED = OLD_TABLES
    TIED = TIED

    def __init__(self, config: Qwen3MoeConfig) -> None:
        self.config = config
        positions = config.rotary()
        norm = functools.partial(RMSNorm, eps=config.rms_norm_eps)
        window = config.sliding_window if config.use_sliding_window else None
        blocks = (
            config.block(
                config.attention(window=window, bias=config.attention_bias, norm=norm),
                positions,
                config.feed_forward(layer),
            )
            for layer in range(config.num_hidden_layers)
        )
        super().__init__(config.embedding(), blocks, config.norm(), config.output_layer())
        start_small(self)
