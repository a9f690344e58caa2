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

from torch import Tensor

from groundup.core.errors import CheckpointError, RecipeError
from groundup.models.config import OLD_TABLES, STANDARD, TIED, DecoderConfig, read_config, write_config
from groundup.nn.decoder import Decoder
from groundup.nn.init import initialise, normal
from groundup.nn.rope import Rotary

HEAD_SIZE = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig(DecoderConfig):
    """The sizes of a Llama, under the names of its published config.json."""

    FIXED: ClassVar[Mapping[str, Any]] = {
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.hidden_size // self.num_attention_heads
        if self.head_dim not in (size, None):
            raise CheckpointError(f"config.json: head_dim is {self.head_dim}; this family is written for {size}.")

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Self:
        """Read a config.json's table, as ``read_config`` does; the size of a head, which is no choice, stays open."""
        return dataclasses.replace(read_config(cls, table, ignore), head_dim=None)

    def to_dict(self) -> dict[str, Any]:
        """The table of a config.json that transformers and others read."""
        return {**write_config(self, Llama.ARCHITECTURE), "head_dim": self.hidden_size // self.num_attention_heads}


class Llama(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy.

    One dial, ``depth``, sets every size that is left open: depth layers, hidden_size 64 * depth, heads of size 64,
    as many key/value heads as the largest divisor of the heads that is at most half of them, and an
    intermediate_size of 8/3 hidden_size rounded up to a multiple of 64. Without it give hidden_size and
    num_hidden_layers; num_attention_heads given alone means as many key/value heads.
    ``dropout`` acts on the embedding and on what each layer adds. Touvron et al. 2023; Dubey et al. 2024.
    """

    CONFIG = LlamaConfig
    ARCHITECTURE = "LlamaForCausalLM"
    WEIGHTS = STANDARD
    UNUSED = OLD_TABLES
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
        positions = Rotary(config.hidden_size // config.num_attention_heads, rope_theta, rope_scaling)
        blocks = [config.block(config.attention(), positions, dropout=dropout) for _ in range(config.num_hidden_layers)]
        head = config.output_layer()
        super().__init__(config.embedding(), blocks, config.norm(), head, dropout=dropout)
        initialise(self, _initial(config))

    @classmethod
    def from_config(cls, config: LlamaConfig) -> Self:
        """A model of the sizes of a published config.json."""
        names = inspect.signature(cls).parameters
        model = cls(**{name: value for name, value in vars(config).items() if name in names})
        model.config = config
        return model


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
