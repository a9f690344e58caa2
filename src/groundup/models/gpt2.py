"""GPT-2: learned positions, layer norms and biases. Radford et al. 2019."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from groundup.nn.activations import gelu_tanh
from groundup.nn.attention import Attention
from groundup.nn.decoder import Block, Decoder, start_small
from groundup.nn.feed_forward import FeedForward
from groundup.nn.norm import LayerNorm
from groundup.nn.weights import TRANSPOSED, Transform, Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """The sizes of a GPT-2, under the names of its published config.json."""

    vocab_size: int
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    """Four times n_embd where it is None."""
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    FIXED: ClassVar[Mapping[str, Any]] = {
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "add_cross_attention": False,
    }
    INERT: ClassVar = frozenset(
        {"n_ctx", "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"}
        | {"summary_first_dropout", "task_specific_params"}
    )


def _taken_apart(tensor: Tensor) -> tuple[Tensor, ...]:
    """Query, key and value side by side, as [in, 3 out] or [3 out]."""
    return tuple(part.T if part.ndim == 2 else part for part in tensor.chunk(3, dim=-1))


def _together(*parts: Tensor) -> Tensor:
    return torch.cat([part.T if part.ndim == 2 else part for part in parts], dim=-1)


def _both(theirs: str, ours: str) -> tuple[Weight, Weight]:
    """Weight and bias of a layer published as [in, out]."""
    return Weight(f"{theirs}.weight", f"{ours}.weight", TRANSPOSED), Weight(f"{theirs}.bias", f"{ours}.bias")


FUSED = Transform(_taken_apart, _together)
NORMS = {
    "transformer.h.*.ln_1": "blocks.*.attention_norm",
    "transformer.h.*.ln_2": "blocks.*.feed_forward_norm",
    "transformer.ln_f": "norm",
}

WEIGHTS = (
    Weight("transformer.wte.weight", "embedding.weight"),
    Weight("transformer.wpe.weight", "places.weight"),
    Weight("lm_head.weight", "head.weight"),
    *(Weight(f"{t}.{part}", f"{o}.{part}") for t, o in NORMS.items() for part in ("weight", "bias")),
    *(
        Weight(
            f"transformer.h.*.attn.c_attn.{part}",
            tuple(f"blocks.*.attention.{n}.{part}" for n in ("query", "key", "value")),
            FUSED,
        )
        for part in ("weight", "bias")
    ),
    *_both("transformer.h.*.attn.c_proj", "blocks.*.attention.output"),
    *_both("transformer.h.*.mlp.c_fc", "blocks.*.feed_forward.up"),
    *_both("transformer.h.*.mlp.c_proj", "blocks.*.feed_forward.down"),
)
"""Published name, our name."""


class GPT2(Decoder):
    """A language model: tokens [B, T] -> logits [B, T, V], or with targets their mean cross entropy."""

    CONFIG = GPT2Config
    ARCHITECTURE = "GPT2LMHeadModel"
    WEIGHTS = WEIGHTS
    UNUSED = ("transformer.h.*.attn.bias", "transformer.h.*.attn.masked_bias")
    TIED: ClassVar[Mapping[str, str]] = {"lm_head.weight": "transformer.wte.weight"}
    PREFIX = "transformer."

    def __init__(self, config: GPT2Config) -> None:
        self.config = config
        width = config.n_embd

        def norm() -> LayerNorm:
            return LayerNorm(in_features=width, eps=config.layer_norm_epsilon)

        blocks = (
            Block(
                Attention(config.n_head, in_features=width, bias=True),
                FeedForward(config.n_inner or 4 * width, gelu_tanh, in_features=width),
                (norm(), norm()),
            )
            for _ in range(config.n_layer)
        )
        head = None if config.tie_word_embeddings else nn.Linear(width, config.vocab_size, bias=False)
        places = nn.Embedding(config.n_positions, width)
        super().__init__(nn.Embedding(config.vocab_size, width), blocks, norm(), head, places=places)
        start_small(self)
