"""SqueezeNet 1.1: layers that narrow, then widen by 1 x 1 and 3 x 3 convolutions side by side. Iandola et al. 2016.

Published with torchvision's names of tensors; there is no config.json for it but ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.models.config import other_heads
from groundup.nn.conv import Conv2d
from groundup.nn.weights import Weight

FIRES = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128)} | {
    9: (256, 48, 192),
    10: (384, 48, 192),
    11: (384, 64, 256),
    12: (512, 64, 256),
}
"""Place -> channels that come in, that are squeezed to, and that each half widens to."""

POOLS = (2, 5, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SqueezeNetConfig:
    """What of a SqueezeNet 1.1 is open."""

    num_channels: int = 3
    num_labels: int = 1000
    classifier_dropout_prob: float = 0.5
    head: Literal["states", "classes"] = "classes"

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "squeezenet"}
    OFFERED: ClassVar = {"num_labels": "num_classes", "num_channels": "in_channels"}
    ARCHITECTURES: ClassVar[Mapping[str, str]] = {"SqueezeNet": "classes", "SqueezeNetFeatures": "states"}


HEADS = {
    "states": (),
    "classes": tuple(Weight(f"classifier.1.{part}", f"head.{part}") for part in ("weight", "bias")),
}


class SqueezeNet(nn.Module):
    """A classifier of images: [B, C, H, W] -> logits [B, num_labels], or the last states [B, 512, H / 16, W / 16]."""

    CONFIG = SqueezeNetConfig
    PREFIX = ""

    def __init__(self, config: SqueezeNetConfig) -> None:
        super().__init__()
        self.config = config
        steps: list[nn.Module] = [Conv2d(64, 3, 2, "valid", in_channels=config.num_channels), nn.ReLU()]
        for place in range(2, 13):
            pool = nn.MaxPool2d(3, 2, ceil_mode=True)
            steps.append(pool if place in POOLS else Fire(*FIRES[place]))
        self.steps = nn.Sequential(*steps)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        for module in self.steps.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        self.head = self.new_head(config)

    @staticmethod
    def new_head(config: SqueezeNetConfig) -> nn.Module | None:
        """A head as the config says."""
        if config.head == "states":
            return None
        head = Conv2d(config.num_labels, 1, in_channels=512)
        nn.init.normal_(head.weight, 0.0, 0.01)
        assert head.bias is not None
        nn.init.zeros_(head.bias)
        return head

    @property
    def WEIGHTS(self) -> tuple[Weight, ...]:
        """Published name, our name."""
        parts = (("squeeze", "squeeze"), ("expand1x1", "narrow"), ("expand3x3", "wide"))
        layers = (("features.0", "steps.0"), *((f"features.*.{theirs}", f"steps.*.{ours}") for theirs, ours in parts))
        rows = [Weight(f"{theirs}.{part}", f"{ours}.{part}") for theirs, ours in layers for part in ("weight", "bias")]
        return (*rows, *HEADS[self.config.head])

    @property
    def UNUSED(self) -> tuple[str, ...]:
        """The head's tensors, where the states are all that is wanted."""
        return other_heads(self.config.head, HEADS)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, num_labels], or the states."""
        states: Tensor = self.steps(inputs)
        return states if self.head is None else F.relu(self.head(self.dropout(states))).mean((2, 3))


class Fire(nn.Module):
    """relu of a 1 x 1 and a 3 x 3 convolution of what was squeezed, side by side: [B, C, H, W] -> [B, 2 F, H, W]."""

    def __init__(self, before: int, squeezed: int, after: int) -> None:
        super().__init__()
        self.squeeze = Conv2d(squeezed, 1, in_channels=before)
        self.narrow = Conv2d(after, 1, in_channels=squeezed)
        self.wide = Conv2d(after, 3, padding=1, in_channels=squeezed)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 2 F, H, W]."""
        squeezed = F.relu(self.squeeze(inputs))
        return torch.cat((F.relu(self.narrow(squeezed)), F.relu(self.wide(squeezed))), dim=1)
