"""Llama: a decoder of RMSNorm, rotary positions, grouped-query attention and SwiGLU, in the published shape.

Shapes: B batch, T steps, S steps attended to, F hidden_size, V vocab_size.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.core.errors import CheckpointError, RecipeError
from groundup.models.config import read_config, write_config
from groundup.nn.activations import swiglu
from groundup.nn.attention import Attention
from groundup.nn.cache import KeyValueCache
from groundup.nn.init import initialise, normal
from groundup.nn.losses import linear_cross_entropy
from groundup.nn.masks import causal_mask
from groundup.nn.norm import RMSNorm
from groundup.nn.rope import Rotary
from groundup.nn.weights import Weight

HEAD_SIZE = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The sizes of a Llama, under the names of its published config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: Mapping[str, Any] | None = None
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    FIXED: ClassVar[Mapping[str, Any]] = {
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Self:
        """Read a config.json's table, as ``read_config`` does."""
        if table.get("hidden_size") and table.get("num_attention_heads"):
            size = table["hidden_size"] // table["num_attention_heads"]
            if table.get("head_dim") not in (size, None):
                raise CheckpointError(
                    f"config.json: head_dim is {table['head_dim']}; this family is written for {size}."
                )
        return read_config(cls, {name: value for name, value in table.items() if name != "head_dim"}, ignore)

    def to_dict(self) -> dict[str, Any]:
        """The table of a config.json that transformers and others read."""
        return {**write_config(self, "LlamaForCausalLM"), "head_dim": self.hidden_size // self.num_attention_heads}


WEIGHTS = (
    Weight("model.embed_tokens.weight", "embedding.weight"),
    Weight("model.layers.*.input_layernorm.weight", "blocks.*.attention_norm.weight"),
    Weight("model.layers.*.self_attn.q_proj.weight", "blocks.*.attention.query.weight"),
    Weight("model.layers.*.self_attn.k_proj.weight", "blocks.*.attention.key.weight"),
    Weight("model.layers.*.self_attn.v_proj.weight", "blocks.*.attention.value.weight"),
    Weight("model.layers.*.self_attn.o_proj.weight", "blocks.*.attention.output.weight"),
    Weight("model.layers.*.post_attention_layernorm.weight", "blocks.*.feed_forward_norm.weight"),
    Weight("model.layers.*.mlp.gate_proj.weight", "blocks.*.feed_forward.gate.weight"),
    Weight("model.layers.*.mlp.up_proj.weight", "blocks.*.feed_forward.up.weight"),
    Weight("model.layers.*.mlp.down_proj.weight", "blocks.*.feed_forward.down.weight"),
    Weight("model.norm.weight", "norm.weight"),
    Weight("lm_head.weight", "head.weight"),
)
"""Published name, our name."""

UNUSED = ("model.layers.*.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq")
"""Published tensors that old files carry and that are computed from the config."""

TIED = {"lm_head.weight": "model.embed_tokens.weight"}
"""Where the embeddings are tied, what may be written out all the same, and what it must equal."""


class Llama(nn.Module):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy.

    One dial, ``depth``, sets every size that is left open: depth layers, hidden_size 64 * depth, heads of size 64,
    as many key/value heads as the largest divisor of the heads that is at most half of them, and an
    intermediate_size of 8/3 hidden_size rounded up to a multiple of 64. Without it give hidden_size and
    num_hidden_layers; num_attention_heads given alone means as many key/value heads.
    ``dropout`` acts on the embedding and on what each layer adds. Touvron et al. 2023; Dubey et al. 2024.
    """

    CONFIG = LlamaConfig
    WEIGHTS = WEIGHTS
    UNUSED = UNUSED
    TIED = TIED

    def __init__(
        self,
        vocab_size: int,
        depth: int | None = None,
        *,
        hidden_size: int | None = None,
        intermediate_size: int | None = None,
        num_hidden_layers: int | None = None,
        num_attention_heads: int | None = None,
        num_key_value_heads: int | None = None,
        rms_norm_eps: float = 1e-6,
        rope_theta: float = 10000.0,
        rope_scaling: Mapping[str, Any] | None = None,
        tie_word_embeddings: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config = LlamaConfig(
            vocab_size=vocab_size,
            **_sizes(
                depth, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads
            ),
            rms_norm_eps=rms_norm_eps,
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            tie_word_embeddings=tie_word_embeddings,
        )
        self.embedding = nn.Embedding(vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(config, dropout) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(in_features=config.hidden_size, eps=rms_norm_eps)
        self.head = None if tie_word_embeddings else nn.Linear(config.hidden_size, vocab_size, bias=False)
        self.rotary = Rotary(config.hidden_size // config.num_attention_heads, rope_theta, rope_scaling)
        initialise(self, _initial(config))

    @classmethod
    def from_config(cls, config: LlamaConfig) -> Self:
        """A model of the sizes of a published config.json."""
        names = inspect.signature(cls).parameters
        model = cls(**{name: value for name, value in vars(config).items() if name in names})
        model.config = config
        return model

    def forward(
        self,
        tokens: Tensor,
        documents: Tensor | None = None,
        targets: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of the token that follows each; with ``targets``, their mean cross entropy.

        tokens [B, T] int64. documents [B, T] int: which packed document a token is of; none sees another's.
        targets [B, T] int64, already the next tokens, -100 where masked. cache: what was read before stands in it,
        and these tokens are added.
        """
        hidden = self.hidden(tokens, documents, cache)
        weight = self.embedding.weight if self.head is None else self.head.weight
        if targets is None:
            return F.linear(hidden, weight)
        return linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten())

    def hidden(self, tokens: Tensor, documents: Tensor | None = None, cache: KeyValueCache | None = None) -> Tensor:
        """The normalised last hidden states [B, T, F], from which the logits are one product away."""
        hidden = self.embedding(tokens)
        device = hidden.device
        if torch.is_autocast_enabled(device.type):
            # The residual stream in the short type too: half the memory traffic, and no cast at each layer.
            hidden = hidden.to(torch.get_autocast_dtype(device.type))
        seen = 0
        if cache is not None:
            seen = cache.held
            documents = cache.start(tokens, documents)
        steps = tokens.shape[1]
        rotary = self.rotary(seen, steps, hidden.dtype, device)
        mask = causal_mask(steps, hidden.dtype, device, seen, documents)
        hidden = self.dropout(hidden)
        for layer, block in enumerate(self.blocks):
            hidden = block(hidden, rotary, mask, cache, layer)
        if cache is not None:
            cache.advance(steps)
        normalised: Tensor = self.norm(hidden)
        return normalised

    def new_cache(self, batch_size: int, length: int) -> KeyValueCache:
        """An empty cache for ``batch_size`` sequences of up to ``length`` tokens, prompt included."""
        return KeyValueCache(self.config.num_hidden_layers, batch_size, length)


class Block(nn.Module):
    """One layer of the decoder: attention, then feed-forward, each normalised before and added to what came in."""

    def __init__(self, config: LlamaConfig, dropout: float) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(in_features=config.hidden_size, eps=config.rms_norm_eps)
        self.attention = Attention(
            config.num_attention_heads, config.num_key_value_heads, in_features=config.hidden_size
        )
        self.feed_forward_norm = RMSNorm(in_features=config.hidden_size, eps=config.rms_norm_eps)
        self.feed_forward = FeedForward(config.hidden_size, config.intermediate_size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """[B, T, F] -> [B, T, F]; the rest as ``Attention`` takes it."""
        hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), rotary, mask, cache, layer))
        outputs: Tensor = hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))
        return outputs


class FeedForward(nn.Module):
    """down(silu(gate(x)) * up(x)): [B, T, F] -> [B, T, F]. Shazeer 2020, equation 6."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        outputs: Tensor = self.down(swiglu(self.gate(inputs), self.up(inputs)))
        return outputs


def _sizes(
    depth: int | None,
    hidden_size: int | None,
    intermediate_size: int | None,
    num_hidden_layers: int | None,
    num_attention_heads: int | None,
    num_key_value_heads: int | None,
) -> dict[str, int]:
    """Every size, from the dial where it is left open."""
    layers = num_hidden_layers or depth
    hidden = hidden_size or (HEAD_SIZE * depth if depth else None)
    if layers is None or hidden is None:
        raise RecipeError(
            "Llama: its size is open; give depth, such as depth = 6, or hidden_size and num_hidden_layers."
        )
    heads = num_attention_heads or max(1, hidden // HEAD_SIZE)
    if num_key_value_heads is None:
        halves = (groups for groups in range(heads // 2, 0, -1) if heads % groups == 0)
        num_key_value_heads = heads if num_attention_heads else next(halves, 1)
    if hidden % heads or heads % num_key_value_heads or (hidden // heads) % 2:
        raise RecipeError(
            f"Llama: hidden_size {hidden}, num_attention_heads {heads}, num_key_value_heads {num_key_value_heads}: "
            "the heads must divide hidden_size into even parts, and the key/value heads must divide the heads."
        )
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate_size or 64 * math.ceil(hidden * 8 / 3 / 64),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": num_key_value_heads,
    }


def _initial(config: LlamaConfig) -> list[tuple[str, Callable[[Tensor], object]]]:
    """Normal weights that keep the variance, but for those that write into the residual stream: a hundredth of that.

    Each block starts as almost the identity, which learns faster than outputs scaled by depth, but not quite, so that
    every weight has a gradient from the first step. The first loss is close to log(vocab_size): logits of an untied
    head vary by at most 0.3; with a tied one a token's state starts as its own row of the head, with a logit near
    std * hidden_size, and std is such that this adds at most 5% to the loss.
    """
    vocabulary = config.vocab_size
    width = config.hidden_size**-0.5
    stds = {
        "embedding.weight": 0.02,
        "blocks.*.attention.[qkv]*.weight": width,
        "blocks.*.attention.output.weight": 0.01 * width,
        "blocks.*.feed_forward.[gu]*.weight": width,
        "blocks.*.feed_forward.down.weight": 0.01 * config.intermediate_size**-0.5,
    }
    if config.tie_word_embeddings:
        stds["embedding.weight"] = min(0.02, math.log(1 + vocabulary * (vocabulary**0.05 - 1)) / config.hidden_size)
    else:
        stds["head.weight"] = min(0.02, 0.3 * width)
    return [(where, functools.partial(normal, std=std)) for where, std in stds.items()]
