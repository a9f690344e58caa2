"""MobileNetV2: blocks that widen, convolve each channel, and narrow without an activation. Sandler et al. 2018."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from groundup.models.config import both, other_heads
from groundup.models.resnet import NORM_PARTS, start
from groundup.nn.conv_norm import ConvNorm
from groundup.nn.weights import Weight

WIDTHS = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
STRIDES = (2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
FIRST, LAST = 32, 1280


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileNetV2Config:
    """The sizes of a MobileNetV2, under the names of its published config.json."""

    num_channels: int = 3
    depth_multiplier: float = 1.0
    """Share of the channels that each layer of the largest one has."""
    depth_divisible_by: int = 8
    min_depth: int = 8
    expand_ratio: float = 6.0
    output_stride: int = 32
    """How much smaller than the input the last states may be; beyond it convolutions spread instead."""
    first_layer_is_expansion: bool = True
    finegrained_output: bool = True
    """Whether the last width stays as it is where the others shrink."""
    tf_padding: bool = True
    layer_norm_eps: float = 0.001
    classifier_dropout_prob: float = 0.0
    head: Literal["states", "classes"] = "classes"
    num_labels: int = 2

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "mobilenet_v2", "hidden_act": "relu6"}
    INERT: ClassVar = frozenset({"image_size", "semantic_loss_ignore_index"})
    OFFERED: ClassVar = {"num_labels": "num_classes", "num_channels": "in_channels"}
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {
        "MobileNetV2Model": "states",
        "MobileNetV2ForImageClassification": "classes",
    }

    def rounded(self, channels: float) -> int:
        """The nearest multiple of depth_divisible_by, at most a tenth below."""
        by = self.depth_divisible_by
        near = max(self.min_depth, int(channels + by / 2) // by * by)
        return near + by if near < 0.9 * channels else near

    def width(self, channels: int) -> int:
        """So many channels of the largest one here."""
        return self.rounded(round(channels * self.depth_multiplier))

    @property
    def last(self) -> int:
        """Channels of the last states."""
        return LAST if self.finegrained_output and self.depth_multiplier < 1.0 else self.width(LAST)

    def step(
        self,
        before: int,
        after: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        *,
        by_channel: bool = False,
        activated: bool = True,
    ) -> ConvNorm:
        """One convolution with its norm."""
        return ConvNorm(
            before,
            after,
            kernel,
            stride,
            before if by_channel else 1,
            F.relu6 if activated else None,
            padding="same" if self.tf_padding else None,
            dilation=dilation,
            eps=self.layer_norm_eps,
        )


HEADS = {"states": (), "classes": both(head="classifier")}


class MobileNetV2(nn.Module):
    """A classifier of images: [B, C, H, W] -> logits [B, num_labels], or the last states [B, F, H / 32, W / 32]."""

    CONFIG = MobileNetV2Config
    PREFIX = "mobilenet_v2."

    def __init__(self, config: MobileNetV2Config) -> None:
        super().__init__()
        self.config = config
        widths = [config.width(channels) for channels in WIDTHS]
        self.stem = Stem(config, config.width(FIRST), widths[0])
        blocks: list[nn.Module] = []
        reached, dilation = 2, 1
        for i, stride in enumerate(STRIDES):
            if reached == config.output_stride:
                blocks.append(Inverted(config, widths[i], widths[i + 1], 1, dilation))
                dilation *= stride
            else:
                blocks.append(Inverted(config, widths[i], widths[i + 1], stride))
                reached *= stride
        self.blocks = nn.Sequential(*blocks)
        self.last = config.step(widths[-1], config.last, 1)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.head = self.new_head(config)
        start(self)

    @staticmethod
    def new_head(config: MobileNetV2Config) -> nn.Module | None:
        """A head as the config says."""
        return nn.Linear(config.last, config.num_labels) if config.head == "classes" else None

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        inner = (("expand_1x1", "widen"), ("conv_3x3", "convolve"), ("reduce_1x1", "narrow"))
        names = [("conv_1x1", "last"), ("conv_stem.first_conv", "stem.first")]
        names += [(f"conv_stem.{theirs}", f"stem.{ours}") for theirs, ours in inner]
        names += [(f"layer.*.{theirs}", f"blocks.*.{ours}") for theirs, ours in inner]
        rows = []
        for theirs, ours in names:
            rows.append(Weight(f"mobilenet_v2.{theirs}.convolution.weight", f"{ours}.convolution.weight"))
            rows += [Weight(f"mobilenet_v2.{theirs}.normalization.{p}", f"{ours}.norm.{p}") for p in NORM_PARTS]
        return (*rows, *HEADS[self.config.head])

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """The head's tensors, where the states are all that is wanted."""
        return other_heads(self.config.head, HEADS)

    def states(self, inputs: Tensor) -> Tensor:
        """The last states [B, F, H / 32, W / 32]."""
        states: Tensor = self.last(self.blocks(self.stem(inputs)))
        return states

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, num_labels], or the states."""
        states = self.states(inputs)
        outputs: Tensor = states if self.head is None else self.head(self.dropout(states.mean((2, 3))))
        return outputs


class Stem(nn.Module):
    """The first convolutions, at half the size: [B, C, H, W] -> [B, F, H / 2, W / 2]."""

    def __init__(self, config: MobileNetV2Config, width: int, after: int) -> None:
        super().__init__()
        self.first = config.step(config.num_channels, width, 3, 2)
        self.widen = None if config.first_layer_is_expansion else config.step(width, width, 1)
        self.convolve = config.step(width, width, 3, by_channel=True)
        self.narrow = config.step(width, after, 1, activated=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, F, H / 2, W / 2]."""
        states: Tensor = self.first(inputs)
        states = states if self.widen is None else self.widen(states)
        outputs: Tensor = self.narrow(self.convolve(states))
        return outputs


class Inverted(nn.Module):
    """narrow(convolve(widen(x))), added to x where the shape stays: [B, C, H, W] -> [B, F, H', W']."""

    def __init__(self, config: MobileNetV2Config, before: int, after: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        width = config.rounded(round(before * config.expand_ratio))
        self.widen = config.step(before, width, 1)
        self.convolve = config.step(width, width, 3, stride, dilation, by_channel=True)
        self.narrow = config.step(width, after, 1, activated=False)
        self.adds = stride == 1 and before == after

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, F, H', W']."""
        outputs: Tensor = self.narrow(self.convolve(self.widen(inputs)))
        return inputs + outputs if self.adds else outputs
