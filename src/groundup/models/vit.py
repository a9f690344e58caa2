"""Vision transformer: an image as a series of patches. Dosovitskiy et al. 2021."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.core.errors import DataError
from groundup.models.config import both, layers, other_heads
from groundup.nn.activations import gelu
from groundup.nn.attention import Attention
from groundup.nn.encoder import PreNormBlock, Surroundings
from groundup.nn.feed_forward import FeedForward
from groundup.nn.norm import LayerNorm
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """The sizes of a vision transformer, under the names of its published config.json."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    qkv_bias: bool = True
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.0
    head: Literal["states", "classes"] = "classes"
    num_labels: int = 2

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "vit", "hidden_act": "gelu"}
    INERT: ClassVar = frozenset({"encoder_stride", "pooler_act", "pooler_output_size"})
    OFFERED: ClassVar = {"num_labels": "num_classes", "num_channels": "in_channels"}
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {"ViTModel": "states", "ViTForImageClassification": "classes"}


HEADS = {"states": (), "classes": both(head="classifier")}


def embedded(family: str) -> tuple[Weight, ...]:
    """Rows of the patches and places."""
    return (
        Weight(f"{family}.embeddings.cls_token", "embedding.first"),
        Weight(f"{family}.embeddings.position_embeddings", "embedding.places"),
        *both(embedding__patches=f"{family}.embeddings.patch_embeddings.projection", norm=f"{family}.layernorm"),
    )


BODY = (
    *embedded("vit"),
    *layers(
        "vit.encoder.layer.*",
        attention_norm="layernorm_before",
        feed_forward_norm="layernorm_after",
        attention__query="attention.attention.query",
        attention__key="attention.attention.key",
        attention__value="attention.attention.value",
        attention__output="attention.output.dense",
        feed_forward__up="intermediate.dense",
        feed_forward__down="output.dense",
    ),
    *layers(
        "vit.layers.*",
        attention_norm="layernorm_before",
        feed_forward_norm="layernorm_after",
        attention__query="attention.q_proj",
        attention__key="attention.k_proj",
        attention__value="attention.v_proj",
        attention__output="attention.o_proj",
        feed_forward__up="mlp.fc1",
        feed_forward__down="mlp.fc2",
    ),
)
"""Published name, our name; the second set of names is that of some newer files."""


class ViT(nn.Module):
    """A classifier of images: [B, C, H, W] -> logits [B, num_labels], or the states [B, 1 + patches, F]."""

    CONFIG = ViTConfig
    PREFIX = "vit."

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.embedding = PatchEmbedding(width, config.image_size, config.patch_size, config.num_channels)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.blocks = nn.ModuleList(
            PreNormBlock(
                Attention(
                    config.num_attention_heads,
                    causal=False,
                    in_features=width,
                    bias=config.qkv_bias,
                ),
                FeedForward(config.intermediate_size, gelu, in_features=width),
                (
                    LayerNorm(in_features=width, eps=config.layer_norm_eps),
                    LayerNorm(in_features=width, eps=config.layer_norm_eps),
                ),
                dropout=config.hidden_dropout_prob,
            )
            for _ in range(config.num_hidden_layers)
        )
        if not config.qkv_bias:
            for block in self.blocks:
                block.attention.output = nn.Linear(width, width)  # type: ignore[union-attr]
        self.norm = LayerNorm(in_features=width, eps=config.layer_norm_eps)
        self.head = self.new_head(config)
        start(self)

    @staticmethod
    def new_head(config: ViTConfig) -> nn.Module | None:
        """A head as the config says."""
        return nn.Linear(config.hidden_size, config.num_labels) if config.head == "classes" else None

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        return (*BODY, *HEADS[self.config.head])

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """The pooler's tensors, and the head's where the states are all that is wanted."""
        return ("vit.pooler.**", "vit.embeddings.mask_token", *other_heads(self.config.head, HEADS))

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
        outputs: Tensor = states if self.head is None else self.head(states[:, 0])
        return outputs


class PatchEmbedding(nn.Module):
    """Patches through one dense layer, a learned first step, and places: [B, C, H, W] -> [B, 1 + patches, F].

    For an image of another size than the places were learned for, they are resampled (bicubic).
    """

    def __init__(self, width: int, image_size: int, patch_size: int, channels: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch_size, patch_size)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.zeros(1, 1 + (image_size // patch_size) ** 2, width))
        self.patch_size = patch_size

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 1 + patches, F]. Raises DataError for an image that is no whole number of patches."""
        height, width = (side // self.patch_size for side in inputs.shape[2:])
        if height * self.patch_size != inputs.shape[2] or width * self.patch_size != inputs.shape[3]:
            raise DataError(
                f"an image of {inputs.shape[2]} x {inputs.shape[3]} is no whole number of patches of "
                f"{self.patch_size} x {self.patch_size}; resize it."
            )
        states = self.patches(inputs).flatten(2).transpose(1, 2)
        states = torch.cat((self.first.expand(len(states), -1, -1), states), dim=1)
        outputs: Tensor = states + self._places(height, width)
        return outputs

    def _places(self, height: int, width: int) -> Tensor:
        side = int((self.places.shape[1] - 1) ** 0.5)
        if (height, width) == (side, side):
            return self.places
        grid = self.places[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        resampled = F.interpolate(grid.float(), (height, width), mode="bicubic", align_corners=False).to(grid.dtype)
        return torch.cat((self.places[:, :1], resampled.flatten(2).transpose(1, 2)), dim=1)


def start(model: nn.Module, std: float = 0.02) -> None:
    """Weights, places and the first step normal with deviation ``std``, biases 0."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.trunc_normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, PatchEmbedding):
            nn.init.trunc_normal_(module.places, 0.0, std)
            nn.init.trunc_normal_(module.first, 0.0, std)
