"""MobileNet: each convolution as one over places and one over channels. Howard et al. 2017."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from groundup.models.config import both, other_heads
from groundup.models.resnet import NORM_PARTS, start
from groundup.nn.conv_norm import ConvNorm
from groundup.nn.weights import Weight

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileNetV1Config:
    """The sizes of a MobileNet, under the names of its published config.json."""

    num_channels: int = 3
    depth_multiplier: float = 1.0
    """Share of the channels that each layer of the largest one has."""
    min_depth: int = 8
    hidden_act: Literal["relu6", "relu", "leaky_relu"] = "relu6"
    negative_slope: float = 0.01
    """Of leaky_relu."""
    tf_padding: bool = True
    """Whether convolutions pad as TensorFlow's, where the weights come from there."""
    layer_norm_eps: float = 0.001
    classifier_dropout_prob: float = 0.0
    head: Literal["states", "classes"] = "classes"
    num_labels: int = 2

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "mobilenet_v1"}
    INERT: ClassVar = frozenset({"image_size"})
    OFFERED: ClassVar = {"num_labels": "num_classes", "num_channels": "in_channels"}
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {
        "MobileNetV1Model": "states",
        "MobileNetV1ForImageClassification": "classes",
    }

    def widths(self) -> list[int]:
        """Channels behind the stem and behind each pair of convolutions."""
        found, depth = [], 32
        for i, stride in enumerate((0, *STRIDES)):
            depth *= 2 if stride == 2 or i == 1 else 1
            found.append(max(int(depth * self.depth_multiplier), self.min_depth))
        return found

    def activation(self) -> Callable[[Tensor], Tensor]:
        """What follows each norm."""
        leaky = functools.partial(F.leaky_relu, negative_slope=self.negative_slope)
        kinds: dict[str, Callable[[Tensor], Tensor]] = {"relu6": F.relu6, "relu": F.relu, "leaky_relu": leaky}
        return kinds[self.hidden_act]


HEADS = {"states": (), "classes": both(head="classifier")}


class MobileNetV1(nn.Module):
    """A classifier of images: [B, C, H, W] -> logits [B, num_labels], or the last states [B, F, H / 32, W / 32]."""

    CONFIG = MobileNetV1Config
    PREFIX = "mobilenet_v1."

    def __init__(self, config: MobileNetV1Config) -> None:
        super().__init__()
        self.config = config
        widths, activation = config.widths(), config.activation()
        options: dict[str, Any] = {"eps": config.layer_norm_eps, "padding": "same" if config.tf_padding else None}
        self.stem = ConvNorm(config.num_channels, widths[0], 3, 2, activation=activation, **options)
        steps: list[nn.Module] = []
        for i, stride in enumerate(STRIDES):
            before, after = widths[i], widths[i + 1]
            steps.append(ConvNorm(before, before, 3, stride, before, activation, **options))
            steps.append(ConvNorm(before, after, 1, activation=activation, **options))
        self.steps = nn.Sequential(*steps)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.head = self.new_head(config)
        start(self)

    @staticmethod
    def new_head(config: MobileNetV1Config) -> nn.Module | None:
        """A head as the config says."""
        return nn.Linear(config.widths()[-1], config.num_labels) if config.head == "classes" else None

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        rows = []
        for theirs, ours in (("mobilenet_v1.conv_stem", "stem"), ("mobilenet_v1.layer.*", "steps.*")):
            rows.append(Weight(f"{theirs}.convolution.weight", f"{ours}.convolution.weight"))
            rows += [Weight(f"{theirs}.normalization.{part}", f"{ours}.norm.{part}") for part in NORM_PARTS]
        return (*rows, *HEADS[self.config.head])

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """The head's tensors, where the states are all that is wanted."""
        return other_heads(self.config.head, HEADS)

    def states(self, inputs: Tensor) -> Tensor:
        """The last states [B, F, H / 32, W / 32]."""
        states: Tensor = self.steps(self.stem(inputs))
        return states

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, num_labels], or the states."""
        states = self.states(inputs)
        outputs: Tensor = states if self.head is None else self.head(self.dropout(states.mean((2, 3))))
        return outputs
