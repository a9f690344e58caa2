"""ConvNeXt: large depthwise convolutions and feed-forward nets at each place, stage by stage. Liu et al. 2022."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from groundup.models.config import both, layers, other_heads, write_config
from groundup.nn.activations import gelu
from groundup.nn.conv import Conv2d
from groundup.nn.norm import LayerNorm
from groundup.nn.regularisation import DropPath
from groundup.nn.weights import Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNextConfig:
    """The sizes of a ConvNeXt, under the names of its published config.json."""

    num_channels: int = 3
    patch_size: int = 4
    hidden_sizes: Sequence[int] = (96, 192, 384, 768)
    depths: Sequence[int] = (3, 3, 9, 3)
    layer_norm_eps: float = 1e-12
    """Of the norm before the head; all others have 1e-6."""
    layer_scale_init_value: float = 1e-6
    drop_path_rate: float = 0.0
    head: Literal["states", "classes"] = "classes"
    num_labels: int = 2

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "convnext", "hidden_act": "gelu"}
    INERT: ClassVar = frozenset({"image_size", "num_stages", "out_features", "out_indices", "stage_names"})
    OFFERED: ClassVar = {"num_labels": "num_classes", "num_channels": "in_channels"}
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {
        "ConvNextModel": "states",
        "ConvNextForImageClassification": "classes",
    }

    def to_dict(self) -> dict[str, Any]:
        """The table of a config.json that transformers and others read."""
        return {**write_config(self), "num_stages": len(self.depths)}


HEADS = {"states": (), "classes": both(head="classifier")}
LAYER, BLOCK = "convnext.encoder.stages.*.layers.*", "stages.*.blocks.*"
BODY = (
    *both(stem="convnext.embeddings.patch_embeddings", stem_norm="convnext.embeddings.layernorm"),
    *both(norm="convnext.layernorm"),
    *layers("convnext.encoder.stages.*.downsampling_layer", "stages.*", shrink_norm="0", shrink="1"),
    Weight(f"{LAYER}.layer_scale_parameter", f"{BLOCK}.scale"),
    *layers(LAYER, BLOCK, mix="dwconv", norm="layernorm", up="pwconv1", down="pwconv2"),
)


class ConvNext(nn.Module):
    """A classifier of images: [B, C, H, W] -> logits [B, num_labels], or the last states [B, F, H / 32, W / 32]."""

    CONFIG = ConvNextConfig
    PREFIX = "convnext."

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__()
        self.config = config
        sizes, patch = config.hidden_sizes, config.patch_size
        self.stem = nn.Conv2d(config.num_channels, sizes[0], patch, patch)
        self.stem_norm = LayerNorm(in_features=sizes[0], eps=1e-6)
        rates = torch.split(
            torch.linspace(0, config.drop_path_rate, sum(config.depths), device="cpu"), list(config.depths)
        )
        self.stages = nn.ModuleList(
            Stage(config, sizes[max(0, i - 1)], width, rates[i].tolist()) for i, width in enumerate(sizes)
        )
        self.norm = LayerNorm(in_features=sizes[-1], eps=config.layer_norm_eps)
        self.head = self.new_head(config)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, 0.0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @staticmethod
    def new_head(config: ConvNextConfig) -> nn.Module | None:
        """A head as the config says."""
        return nn.Linear(config.hidden_sizes[-1], config.num_labels) if config.head == "classes" else None

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        return (*BODY, *HEADS[self.config.head])

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """The head's tensors, where the states are all that is wanted."""
        return other_heads(self.config.head, HEADS)

    def states(self, inputs: Tensor) -> Tensor:
        """The last states [B, F, H / 32, W / 32]."""
        states = over_channels(self.stem_norm, self.stem(inputs))
        for stage in self.stages:
            states = stage(states)
        return states

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, num_labels], or the states."""
        states = self.states(inputs)
        if self.head is None:
            return states
        outputs: Tensor = self.head(self.norm(states.mean((2, 3))))
        return outputs


def over_channels(norm: nn.Module, inputs: Tensor) -> Tensor:
    """A norm over the channels of [B, C, H, W]."""
    outputs: Tensor = norm(inputs.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return outputs


class Stage(nn.Module):
    """Half the size where the width changes, then the blocks: [B, C, H, W] -> [B, F, H', W']."""

    def __init__(self, config: ConvNextConfig, before: int, width: int, rates: Sequence[float]) -> None:
        super().__init__()
        self.shrink_norm = LayerNorm(in_features=before, eps=1e-6) if before != width else None
        self.shrink = nn.Conv2d(before, width, 2, 2) if before != width else None
        self.blocks = nn.Sequential(*(ConvNextBlock(width, config.layer_scale_init_value, rate) for rate in rates))

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, F, H', W']."""
        if self.shrink is not None and self.shrink_norm is not None:
            inputs = self.shrink(over_channels(self.shrink_norm, inputs))
        outputs: Tensor = self.blocks(inputs)
        return outputs


class ConvNextBlock(nn.Module):
    """x + scale * down(gelu(up(norm(mix(x))))), the norm and the dense layers over channels: [B, C, H, W] -> same."""

    def __init__(self, width: int, scale: float, drop: float) -> None:
        super().__init__()
        self.mix = Conv2d(width, 7, padding=3, groups=width, in_channels=width)
        self.norm = LayerNorm(in_features=width, eps=1e-6)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale)) if scale > 0 else None
        self.drop = DropPath(drop)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        inner = self.down(gelu(self.up(self.norm(self.mix(inputs).permute(0, 2, 3, 1)))))
        inner = self.drop(inner.permute(0, 3, 1, 2))
        outputs: Tensor = inputs + inner if self.scale is None else inputs.addcmul(inner, self.scale[:, None, None])
        return outputs
