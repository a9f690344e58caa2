"""Blocks that published image networks are built from: squeeze and excite, dense, residual."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.nn.activations import relu
from groundup.nn.conv import Conv2d
from groundup.nn.feed_forward import Activation, made_activation
from groundup.nn.kinds import IMAGE


class SqueezeExcite(nn.Module):
    """inputs * sigmoid(W2 activation(W1 mean over places)): [B, C, H, W] -> [B, C, H, W].

    ``ratio`` is how many times fewer channels lie between. Hu et al. 2018, equations 2 to 4.
    """

    takes: ClassVar = IMAGE

    def __init__(self, ratio: int = 16, activation: Activation = relu, *, in_channels: int) -> None:
        super().__init__()
        between = max(1, in_channels // ratio)
        self.squeeze = nn.Linear(in_channels, between)
        self.activation = made_activation(activation)
        self.excite = nn.Linear(between, in_channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        weights = torch.sigmoid(self.excite(self.activation(self.squeeze(inputs.mean(dim=(-2, -1))))))
        return inputs * weights[..., None, None]


class DenseBlock(nn.Module):
    """``depth`` convolutions, each of which sees all outputs before it: [B, C, H, W] -> [B, C + depth * growth, H, W].

    Each is batch norm, relu, a 1 x 1 convolution to 4 * growth channels, then the same with 3 x 3 to ``growth``.
    Huang et al. 2017, section 3.
    """

    takes: ClassVar = IMAGE

    def __init__(self, depth: int, growth: int = 32, dropout: float = 0.0, *, in_channels: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        for place in range(depth):
            width = in_channels + place * growth
            self.parts.append(
                nn.Sequential(
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                    Conv2d(4 * growth, 1, in_channels=width, bias=False),
                    nn.BatchNorm2d(4 * growth),
                    nn.ReLU(),
                    Conv2d(growth, 3, padding=1, in_channels=4 * growth, bias=False),
                    nn.Dropout(dropout),
                )
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C + depth * growth, H, W]."""
        for part in self.parts:
            inputs = torch.cat((inputs, part(inputs)), dim=1)
        return inputs


class ResidualBlock(nn.Module):
    """relu(x + two 3 x 3 convolutions with batch norm): [B, C, H, W] -> [B, channels, H / stride, W / stride].

    The shortcut is the input itself, or a 1 x 1 convolution with batch norm where the shape changes. He et al. 2016,
    section 3.3, option B. ``squeeze`` adds a SqueezeExcite of that ratio before the sum.
    """

    takes: ClassVar = IMAGE

    def __init__(
        self, channels: int | None = None, stride: int = 1, squeeze: int | None = None, *, in_channels: int
    ) -> None:
        super().__init__()
        out = channels or in_channels
        if stride < 1:
            raise RecipeError(f"ResidualBlock.stride: read {stride}, expected at least 1.")
        self.inner = nn.Sequential(
            Conv2d(out, 3, stride, 1, in_channels=in_channels, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            Conv2d(out, 3, 1, 1, in_channels=out, bias=False),
            nn.BatchNorm2d(out),
        )
        self.excite = SqueezeExcite(squeeze, in_channels=out) if squeeze else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or out != in_channels:
            self.shortcut = nn.Sequential(
                Conv2d(out, 1, stride, 0, in_channels=in_channels, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, channels, H / stride, W / stride]."""
        return torch.relu(self.shortcut(inputs) + self.excite(self.inner(inputs)))
