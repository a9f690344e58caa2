"""SqueezeNet 1.1: layers that narrow, then widen by 1 x 1 and 3 x 3 convolutions side by side. Iandola et al. 2016.

Published with torchvision's names of tensors; there is no config.json for it but ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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

    FIXED: ClassVar[Mapping[str, Any]] = {"model_type": "squeezenet"}
    OFFERED: ClassVar = {"num_labels": "num_classes", "num_channels": "in_channels"}


class SqueezeNet(nn.Module):
    """A classifier of images: [B, C, H, W] -> logits [B, num_labels]."""

    CONFIG = SqueezeNetConfig
    ARCHITECTURE = "SqueezeNet"
    UNUSED = ()
    WEIGHTS = (
        *(Weight(f"features.0.{part}", f"steps.0.{part}") for part in ("weight", "bias")),
        *(
            Weight(f"features.*.{theirs}.{part}", f"steps.*.{ours}.{part}")
            for theirs, ours in (("squeeze", "squeeze"), ("expand1x1", "narrow"), ("expand3x3", "wide"))
            for part in ("weight", "bias")
        ),
        *(Weight(f"classifier.1.{part}", f"head.{part}") for part in ("weight", "bias")),
    )

    def __init__(self, config: SqueezeNetConfig) -> None:
        super().__init__()
        self.config = config
        steps: list[nn.Module] = [nn.Conv2d(config.num_channels, 64, 3, 2), nn.ReLU()]
        for place in range(2, 13):
            pool = nn.MaxPool2d(3, 2, ceil_mode=True)
            steps.append(pool if place in POOLS else Fire(*FIRES[place]))
        self.steps = nn.Sequential(*steps)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.head = nn.Conv2d(512, config.num_labels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if module is self.head:
                    nn.init.normal_(module.weight, 0.0, 0.01)
                else:
                    nn.init.kaiming_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, num_labels]."""
        return F.relu(self.head(self.dropout(self.steps(inputs)))).mean((2, 3))


class Fire(nn.Module):
    """relu of a 1 x 1 and a 3 x 3 convolution of what was squeezed, side by side: [B, C, H, W] -> [B, 2 F, H, W]."""

    def __init__(self, before: int, squeezed: int, after: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(before, squeezed, 1)
        self.narrow = nn.Conv2d(squeezed, after, 1)
        self.wide = nn.Conv2d(squeezed, after, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 2 F, H, W]."""
        squeezed = F.relu(self.squeeze(inputs))
        return torch.cat((F.relu(self.narrow(squeezed)), F.relu(self.wide(squeezed))), dim=1)
