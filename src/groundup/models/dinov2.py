"""DINOv2: a vision transformer with scaled halves, trained without labels. Oquab et al. 2023."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from groundup.models.config import both, layers, other_heads
from groundup.models.vit import PatchEmbedding, embedded, start
from groundup.nn.activations import gelu
from groundup.nn.attention import Attention
from groundup.nn.encoder import PreNormBlock, Surroundings
from groundup.nn.feed_forward import FeedForward, GatedFeedForward
from groundup.nn.norm import LayerNorm
from groundup.nn.weights import Weight, split_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dinov2Config:
    """The sizes of a DINOv2, under the names of its published config.json."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: int = 4
    image_size: int = 224
    patch_size: int = 14
    num_channels: int = 3
    layer_norm_eps: float = 1e-6
    layerscale_value: float = 1.0
    use_swiglu_ffn: bool = False
    """Whether feed-forward nets are gated, as in the giant one."""
    use_mask_token: bool = True
    hidden_dropout_prob: float = 0.0
    head: Literal["states", "classes"] = "classes"
    num_labels: int = 2

    FIXED: ClassVar[Mapping[str, Any]] = {
        "model_type": "dinov2",
        "hidden_act": "gelu",
        "qkv_bias": True,
        "drop_path_rate": 0.0,
        "apply_layernorm": True,
    }
    INERT: ClassVar = frozenset({"out_features", "out_indices", "reshape_hidden_states", "stage_names"})
    OFFERED: ClassVar = {"num_labels": "num_classes", "num_channels": "in_channels"}
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {"Dinov2Model": "states", "Dinov2ForImageClassification": "classes"}

    @property
    def gated_width(self) -> int:
        """Hidden features of a gated net: two thirds of the plain one's, as a multiple of 8."""
        return (int(self.hidden_size * self.mlp_ratio * 2 / 3) + 7) // 8 * 8

    def norm(self) -> LayerNorm:
        """A norm over the hidden size."""
        return LayerNorm(in_features=self.hidden_size, eps=self.layer_norm_eps)

    def feed_forward(self) -> nn.Module:
        """A block's feed-forward net."""
        if self.use_swiglu_ffn:
            return GatedFeedForward(self.gated_width, in_features=self.hidden_size, bias=True)
        return FeedForward(self.hidden_size * self.mlp_ratio, gelu, in_features=self.hidden_size)


HEADS = {"states": (), "classes": both(head="classifier")}
SHARED = {"attention_norm": "norm1", "feed_forward_norm": "norm2"}
ATTENTION = {"query": "attention.attention.query", "key": "attention.attention.key"} | {
    "value": "attention.attention.value",
    "output": "attention.output.dense",
}
NEWER = {name: f"attention.{name[0]}_proj" for name in ATTENTION}
NEWER["output"] = "attention.o_proj"


class Dinov2(nn.Module):
    """A classifier of images: [B, C, H, W] -> logits [B, num_labels], or the states [B, 1 + patches, F].

    The head sees the first step and the mean of the patches side by side.
    """

    CONFIG = Dinov2Config
    PREFIX = "dinov2."

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.embedding = PatchEmbedding(width, config.image_size, config.patch_size, config.num_channels)
        self.mask = nn.Parameter(torch.zeros(1, width)) if config.use_mask_token else None
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.blocks = nn.ModuleList(
            PreNormBlock(
                Attention(config.num_attention_heads, causal=False, in_features=width, bias=True),
                config.feed_forward(),
                (config.norm(), config.norm()),
                config.layerscale_value,
                width,
                dropout=config.hidden_dropout_prob,
            )
            for _ in range(config.num_hidden_layers)
        )
        self.norm = config.norm()
        self.head = self.new_head(config)
        start(self)

    @staticmethod
    def new_head(config: Dinov2Config) -> nn.Module | None:
        """A head as the config says."""
        return nn.Linear(2 * config.hidden_size, config.num_labels) if config.head == "classes" else None

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        layer = "dinov2.encoder.layer.*"
        rows = [
            *embedded("dinov2"),
            Weight("dinov2.embeddings.mask_token", "mask"),
            Weight(f"{layer}.layer_scale1.lambda1", "blocks.*.attended_scale"),
            Weight(f"{layer}.layer_scale2.lambda1", "blocks.*.fed_scale"),
            *layers(layer, **SHARED, **{f"attention__{ours}": theirs for ours, theirs in ATTENTION.items()}),
            *layers(layer, **{f"attention__{ours}": theirs for ours, theirs in NEWER.items()}),
        ]
        if self.config.use_swiglu_ffn:
            inner = self.config.gated_width
            for part in ("weight", "bias"):
                names = (f"blocks.*.feed_forward.gate.{part}", f"blocks.*.feed_forward.up.{part}")
                rows.append(Weight(f"{layer}.mlp.weights_in.{part}", names, split_rows(inner, inner)))
            rows += layers(layer, feed_forward__down="mlp.weights_out")
        else:
            rows += layers(layer, feed_forward__up="mlp.fc1", feed_forward__down="mlp.fc2")
        return (*rows, *HEADS[self.config.head])

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """The head's tensors, where the states are all that is wanted."""
        return other_heads(self.config.head, HEADS)

    def states(self, inputs: Tensor) -> Tensor:
        """The last states [B, 1 + patches, F]; the first stands for the whole."""
        states: Tensor = self.dropout(self.embedding(inputs))
        around = Surroundings(states)
        for block in self.blocks:
            states = block(states, around)
        normalised: Tensor = self.norm(states)
        return normalised

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, num_labels], or the states."""
        states = self.states(inputs)
        if self.head is None:
            return states
        outputs: Tensor = self.head(torch.cat((states[:, 0], states[:, 1:].mean(1)), dim=-1))
        return outputs
