"""GPT-NeoX and Pythia: attention and feed-forward side by side, a quarter of each head turned. Black et al. 2022."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from groundup.models.config import write_config
from groundup.nn.activations import gelu
from groundup.nn.attention import Attention
from groundup.nn.decoder import Decoder, Given, attend_in, start_small
from groundup.nn.feed_forward import FeedForward
from groundup.nn.norm import LayerNorm
from groundup.nn.rope import Rotary
from groundup.nn.weights import Transform, Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTNeoXConfig:
    """The sizes of a GPT-NeoX, under the names of its published config.json."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 2048
    layer_norm_eps: float = 1e-5
    use_parallel_residual: bool = True
    attention_bias: bool = True
    partial_rotary_factor: float = 0.25
    """Share of each head's features that is turned."""
    rope_theta: float = 10000.0
    rope_scaling: Mapping[str, Any] | None = None
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "gpt_neox", "hidden_act": "gelu", "is_decoder": False}
    RENAMED: ClassVar = {"rotary_pct": "partial_rotary_factor", "rotary_emb_base": "rope_theta"}

    def to_dict(self) -> dict[str, Any]:
        """The table of a config.json, in which this family has names of its own."""
        table = write_config(self, "GPTNeoXForCausalLM")
        return {**table, **{theirs: table.pop(ours) for theirs, ours in self.RENAMED.items()}}


class GPTNeoX(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = GPTNeoXConfig
    ARCHITECTURE = "GPTNeoXForCausalLM"
    UNUSED = (
        "gpt_neox.layers.*.attention.bias",
        "gpt_neox.layers.*.attention.masked_bias",
        "gpt_neox.layers.*.attention.rotary_emb.inv_freq",
    )
    TIED: ClassVar[Mapping[str, str]] = {"embed_out.weight": "gpt_neox.embed_in.weight"}

    def __init__(self, config: GPTNeoXConfig) -> None:
        self.config = config
        turned = int(config.hidden_size // config.num_attention_heads * config.partial_rotary_factor)
        positions = Rotary(turned, config.rope_theta, config.rope_scaling, config.max_position_embeddings)
        blocks = (NeoXBlock(config, positions) for _ in range(config.num_hidden_layers))
        width, vocabulary = config.hidden_size, config.vocab_size
        head = None if config.tie_word_embeddings else nn.Linear(width, vocabulary, bias=False)
        super().__init__(nn.Embedding(vocabulary, width), blocks, _norm(config), head)
        start_small(self)

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our names: query, key and value are published together, head by head."""
        heads = self.config.num_attention_heads
        fused = Transform(lambda tensor: _by_head(tensor, heads), lambda *parts: _interleaved(parts, heads))
        names = {
            "gpt_neox.final_layer_norm": "norm",
            "gpt_neox.layers.*.input_layernorm": "blocks.*.attention_norm",
            "gpt_neox.layers.*.post_attention_layernorm": "blocks.*.feed_forward_norm",
            "gpt_neox.layers.*.attention.dense": "blocks.*.attention.output",
            "gpt_neox.layers.*.mlp.dense_h_to_4h": "blocks.*.feed_forward.up",
            "gpt_neox.layers.*.mlp.dense_4h_to_h": "blocks.*.feed_forward.down",
        }
        ours = ("query", "key", "value")
        return (
            Weight("gpt_neox.embed_in.weight", "embedding.weight"),
            Weight("embed_out.weight", "head.weight"),
            *(Weight(f"{t}.{part}", f"{o}.{part}") for t, o in names.items() for part in ("weight", "bias")),
            *(
                Weight(
                    f"gpt_neox.layers.*.attention.query_key_value.{part}",
                    tuple(f"blocks.*.attention.{name}.{part}" for name in ours),
                    fused,
                )
                for part in ("weight", "bias")
            ),
        )


def _by_head(tensor: Tensor, heads: int) -> tuple[Tensor, ...]:
    """[heads * 3 * size, ...] -> three of [heads * size, ...]."""
    return tuple(part.flatten(0, 1) for part in torch.unflatten(tensor, 0, (heads, 3, -1)).unbind(1))


def _interleaved(parts: tuple[Tensor, ...], heads: int) -> Tensor:
    return torch.stack([torch.unflatten(part, 0, (heads, -1)) for part in parts], dim=1).flatten(0, 2)


def _norm(config: GPTNeoXConfig) -> LayerNorm:
    return LayerNorm(in_features=config.hidden_size, eps=config.layer_norm_eps)


class NeoXBlock(nn.Module):
    """One layer: attention and feed-forward of the same input, both added to it (or one after the other)."""

    def __init__(self, config: GPTNeoXConfig, positions: Rotary) -> None:
        super().__init__()
        self.parallel = config.use_parallel_residual
        self.attention_norm = _norm(config)
        self.attention = Attention(
            config.num_attention_heads, in_features=config.hidden_size, bias=config.attention_bias
        )
        self.feed_forward_norm = _norm(config)
        self.feed_forward = FeedForward(config.intermediate_size, gelu, in_features=config.hidden_size)
        self.positions = (positions,)

    def forward(self, states: Tensor, given: Given) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        attended = attend_in(given, self.attention, self.attention_norm(states))
        after = states + attended
        fed = self.feed_forward(self.feed_forward_norm(states if self.parallel else after))
        outputs: Tensor = after + fed
        return outputs
