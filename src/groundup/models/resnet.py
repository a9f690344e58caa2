"""ResNet: blocks of convolutions that add to what came in; for photographs, and the small ones for 32 x 32 images.

He et al. 2016, "Deep Residual Learning for Image Recognition".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.models.config import both, other_heads
from groundup.nn.conv_norm import ConvNorm
from groundup.nn.weights import Weight

NORM_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """The sizes of a ResNet, under the names of its published config.json."""

    num_channels: int = 3
    embedding_size: int = 64
    hidden_sizes: Sequence[int] = (256, 512, 1024, 2048)
    depths: Sequence[int] = (3, 4, 6, 3)
    layer_type: Literal["bottleneck", "basic"] = "bottleneck"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False
    """Whether a bottleneck's first convolution takes the stride; otherwise its second does."""
    head: Literal["states", "classes"] = "classes"
    num_labels: int = 2

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "resnet", "hidden_act": "relu"}
    INERT: ClassVar = frozenset({"out_features", "out_indices", "stage_names"})
    OFFERED: ClassVar = {"num_labels": "num_classes", "num_channels": "in_channels"}
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {
        "ResNetModel": "states",
        "ResNetForImageClassification": "classes",
    }


HEADS = {"states": (), "classes": both(head="classifier.1")}


def _steps(theirs: str, ours: str) -> list[Weight]:
    """One convolution and its norm."""
    norms = [Weight(f"{theirs}.normalization.{part}", f"{ours}.norm.{part}") for part in NORM_PARTS]
    return [Weight(f"{theirs}.convolution.weight", f"{ours}.convolution.weight"), *norms]


class ResNet(nn.Module):
    """A classifier of photographs: [B, C, H, W] -> logits [B, num_labels], or the states [B, F, H / 32, W / 32]."""

    CONFIG = ResNetConfig
    PREFIX = "resnet."

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = ConvNorm(config.num_channels, config.embedding_size, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.ModuleList()
        before = config.embedding_size
        for stage, (width, depth) in enumerate(zip(config.hidden_sizes, config.depths, strict=True)):
            stride = 2 if stage or config.downsample_in_first_stage else 1
            blocks = [_block(config, before if i == 0 else width, width, stride if i == 0 else 1) for i in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
            before = width
        self.head = self.new_head(config)
        start(self)

    @staticmethod
    def new_head(config: ResNetConfig) -> nn.Module | None:
        """A head as the config says."""
        return nn.Linear(config.hidden_sizes[-1], config.num_labels) if config.head == "classes" else None

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        layer, block = "resnet.encoder.stages.*.layers.*", "stages.*.*"
        rows = _steps("resnet.embedder.embedder", "stem") + _steps(f"{layer}.shortcut", f"{block}.shortcut")
        return (*rows, *_steps(f"{layer}.layer.*", f"{block}.steps.*"), *HEADS[self.config.head])

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """The head's tensors, where the states are all that is wanted."""
        return other_heads(self.config.head, HEADS)

    def states(self, inputs: Tensor) -> Tensor:
        """The last states [B, F, H / 32, W / 32]."""
        states: Tensor = self.pool(self.stem(inputs))
        for stage in self.stages:
            states = stage(states)
        return states

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, num_labels], or the states."""
        states = self.states(inputs)
        outputs: Tensor = states if self.head is None else self.head(states.mean((2, 3)))
        return outputs


class Steps(nn.Module):
    """relu(shortcut(x) + steps(x)): [B, C, H, W] -> [B, F, H', W']."""

    def __init__(self, steps: Sequence[nn.Module], shortcut: nn.Module | None) -> None:
        super().__init__()
        self.steps = nn.Sequential(*steps)
        self.shortcut = shortcut

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, F, H', W']."""
        beside = inputs if self.shortcut is None else self.shortcut(inputs)
        return F.relu(beside + self.steps(inputs))


def _block(config: ResNetConfig, before: int, width: int, stride: int) -> Steps:
    shortcut = ConvNorm(before, width, 1, stride, activation=None) if before != width or stride > 1 else None
    if config.layer_type == "basic":
        return Steps([ConvNorm(before, width, 3, stride), ConvNorm(width, width, 3, activation=None)], shortcut)
    narrow = width // 4
    first, second = (stride, 1) if config.downsample_in_bottleneck else (1, stride)
    steps = [ConvNorm(before, narrow, 1, first), ConvNorm(narrow, narrow, 3, second)]
    return Steps([*steps, ConvNorm(narrow, width, 1, activation=None)], shortcut)


class CifarResNet(nn.Module):
    """The ResNets of 32 x 32 images: [B, C, H, W] -> logits [B, num_classes]. He et al. 2016, section 4.2.

    ``depth`` is 6 n + 2: 20, 32, 44, 56, 110. Where a stage grows wider, the shortcut takes every second pixel and
    zeros for the new channels (option A), so that it has no weights.
    """

    def __init__(self, depth: int = 20, *, num_classes: int, in_channels: int = 3, width: int = 16) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise RecipeError(f"CifarResNet: depth is {depth}; expected 6 n + 2, such as 20, 32, 44, 56 or 110.")
        self.stem = ConvNorm(in_channels, width)
        blocks: list[nn.Module] = []
        before = width
        for stage in range(3):
            after = width << stage
            for i in range((depth - 2) // 6):
                stride = 2 if stage and i == 0 else 1
                steps = [ConvNorm(before, after, 3, stride), ConvNorm(after, after, 3, activation=None)]
                blocks.append(Steps(steps, EverySecond(after - before) if before != after else None))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(before, num_classes)
        start(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, num_classes]."""
        outputs: Tensor = self.head(self.blocks(self.stem(inputs)).mean((2, 3)))
        return outputs


class EverySecond(nn.Module):
    """Every second pixel, and ``more`` channels of zeros, half of them before: [B, C, H, W] -> [B, C + more, ...]."""

    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C + more, ceil(H / 2), ceil(W / 2)]."""
        return F.pad(inputs[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))


def start(model: nn.Module) -> None:
    """Convolutions as He et al. 2015 have them, over what goes out."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
