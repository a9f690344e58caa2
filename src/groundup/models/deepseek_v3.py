"""DeepSeek-V3 and R1: latent attention, and mixtures of many experts chosen by groups. DeepSeek-AI 2024."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from groundup.models.config import EMBEDDED, FEED_FORWARD, NORMS, OLD_TABLES, TIED, DecoderConfig, experts
from groundup.nn.attention import LatentAttention
from groundup.nn.decoder import Decoder, start_small
from groundup.nn.experts import MixtureOfExperts, SigmoidRouter
from groundup.nn.feed_forward import GatedFeedForward
from groundup.nn.weights import Transform, Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepseekV3Config(DecoderConfig):
    """The sizes of a DeepSeek-V3, under the names of its published config.json."""

    moe_intermediate_size: int = 2048
    n_shared_experts: int = 1
    n_routed_experts: int = 256
    num_experts_per_tok: int = 8
    n_group: int = 8
    topk_group: int = 4
    """How many of the n_group groups of experts a token may choose from."""
    routed_scaling_factor: float = 2.5
    norm_topk_prob: bool = True
    first_k_dense_replace: int = 3
    """So many layers at the start have a plain feed-forward net."""
    kv_lora_rank: int = 512
    q_lora_rank: int | None = 1536
    qk_rope_head_dim: int = 64
    qk_nope_head_dim: int = 128
    v_head_dim: int = 128
    rope_interleave: bool = True
    """Whether the published rotary features lie in pairs; ours lie in halves."""
    attention_bias: bool = False
    num_nextn_predict_layers: int = 0
    """Layers behind the last that predict further tokens in training; they are not read."""

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "deepseek_v3", "hidden_act": "silu"}
    RENAMED: ClassVar = {"num_local_experts": "n_routed_experts"}
    INERT: ClassVar = frozenset(
        {
            "aux_loss_alpha",
            "auto_map",
            "ep_size",
            "moe_layer_freq",
            "output_router_logits",
            "qk_head_dim",
            "scoring_func",
        }
        | {"seq_aux", "topk_method", "router_aux_loss_coef"}
    )

    def scale(self) -> float:
        """What scores are multiplied with: YaRN's attention factor enters it squared where the file says so."""
        scale: float = (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5
        rope = self.rope_scaling or {}
        everywhere, factor = rope.get("mscale_all_dim", 0), rope.get("factor", 1.0)
        if everywhere and factor > 1:
            scale *= (0.1 * everywhere * math.log(factor) + 1.0) ** 2
        return scale

    def latent_attention(self) -> LatentAttention:
        """One layer's attention."""
        return LatentAttention(
            self.num_attention_heads,
            self.kv_lora_rank,
            self.q_lora_rank,
            in_features=self.hidden_size,
            plain_dim=self.qk_nope_head_dim,
            rotary_dim=self.qk_rope_head_dim,
            value_dim=self.v_head_dim,
            bias=self.attention_bias,
            scale=self.scale(),
        )

    def feed_forward(self, layer: int) -> nn.Module:
        """A plain net in the first layers, a mixture in all others."""
        width = self.hidden_size
        if layer < self.first_k_dense_replace:
            return GatedFeedForward(self.intermediate_size, in_features=width)
        router = SigmoidRouter(
            self.n_routed_experts,
            self.num_experts_per_tok,
            self.n_group,
            self.topk_group,
            self.norm_topk_prob,
            self.routed_scaling_factor,
            in_features=width,
        )
        shared = self.moe_intermediate_size * self.n_shared_experts
        return MixtureOfExperts(
            self.n_routed_experts,
            self.num_experts_per_tok,
            self.moe_intermediate_size,
            shared,
            in_features=width,
            router=router,
        )


class DeepseekV3(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = DeepseekV3Config
    ARCHITECTURE = "DeepseekV3ForCausalLM"
    TIED = TIED

    def __init__(self, config: DeepseekV3Config) -> None:
        self.config = config
        positions = config.rotary(config.qk_rope_head_dim)
        blocks = (
            config.block(config.latent_attention(), positions, config.feed_forward(layer))
            for layer in range(config.num_hidden_layers)
        )
        super().__init__(config.embedding(), blocks, config.norm(), config.output_layer())
        start_small(self)

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """Published tensors that are not read: old tables, and the layers that predict further tokens."""
        last = self.config.num_hidden_layers
        return (*OLD_TABLES, *(f"model.layers.{last + i}.**" for i in range(self.config.num_nextn_predict_layers)))

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name: rotary features are brought from pairs into halves."""
        config = self.config
        attention, turned = "model.layers.*.self_attn", config.qk_rope_head_dim
        by_head = _in_halves(config.qk_nope_head_dim, turned, config.rope_interleave)
        once = _in_halves(config.kv_lora_rank, turned, config.rope_interleave)
        shared, mlp = "blocks.*.feed_forward.shared", "model.layers.*.mlp"
        query = "q_b_proj" if config.q_lora_rank is not None else "q_proj"
        return (
            *EMBEDDED,
            *NORMS,
            *FEED_FORWARD,
            Weight(f"{attention}.q_a_proj.weight", "blocks.*.attention.query_down.weight"),
            Weight(f"{attention}.q_a_proj.bias", "blocks.*.attention.query_down.bias"),
            Weight(f"{attention}.q_a_layernorm.weight", "blocks.*.attention.query_norm.weight"),
            Weight(f"{attention}.{query}.weight", "blocks.*.attention.query.weight", by_head),
            Weight(f"{attention}.kv_a_proj_with_mqa.weight", "blocks.*.attention.key_value_down.weight", once),
            Weight(f"{attention}.kv_a_proj_with_mqa.bias", "blocks.*.attention.key_value_down.bias", once),
            Weight(f"{attention}.kv_a_layernorm.weight", "blocks.*.attention.key_value_norm.weight"),
            Weight(f"{attention}.kv_b_proj.weight", "blocks.*.attention.key_value.weight"),
            Weight(f"{attention}.o_proj.weight", "blocks.*.attention.output.weight"),
            Weight(f"{attention}.o_proj.bias", "blocks.*.attention.output.bias"),
            Weight(f"{mlp}.gate.weight", "blocks.*.feed_forward.router.weight"),
            Weight(f"{mlp}.gate.e_score_correction_bias", "blocks.*.feed_forward.router.correction"),
            *experts(f"{mlp}.experts", "gate_proj", "up_proj", "down_proj"),
            *(Weight(f"{mlp}.shared_experts.{n}_proj.weight", f"{shared}.{n}.weight") for n in ("gate", "up", "down")),
        )


def _in_halves(plain: int, turned: int, in_pairs: bool) -> Transform:
    """For each head's rows, ``plain`` and then ``turned`` ones: the turned from (0, 1), (2, 3), ... into halves."""
    if not in_pairs:
        return Transform(lambda tensor: tensor, lambda tensor: tensor)
    order = torch.cat((torch.arange(plain), plain + torch.arange(turned).view(-1, 2).T.flatten()))
    back = order.argsort()

    def ordered(tensor: Tensor, places: Tensor) -> Tensor:
        return torch.unflatten(tensor, 0, (-1, plain + turned))[:, places].flatten(0, 1)

    return Transform(lambda tensor: ordered(tensor, order), lambda tensor: ordered(tensor, back))
