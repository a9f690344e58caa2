"""A convolution, its batch norm and an activation as one step, which is what most image networks are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from groundup.nn.conv import Conv2d


class ConvNorm(nn.Module):
    """activation(norm(convolution(x))): [B, C, H, W] -> [B, out_channels, H', W'].

    ``padding`` None keeps the size at stride 1; "same" pads as TensorFlow does, more behind than before where the two
    sides cannot be equal, so that the size is ceil(H / stride).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[Tensor], Tensor] | None = F.relu,
        *,
        padding: int | str | None = None,
        dilation: int = 1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.same = padding == "same"
        sides = 0 if self.same else (kernel - 1) // 2 * dilation if padding is None else int(padding)
        self.convolution = Conv2d(
            out_channels, kernel, stride, sides, dilation, groups, in_channels=in_channels, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=eps)
        self.activation = activation

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out_channels, H', W']."""
        if self.same:
            inputs = pad_same(inputs, self.convolution)
        outputs: Tensor = self.norm(self.convolution(inputs))
        return outputs if self.activation is None else self.activation(outputs)


def pad_same(inputs: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Zeros around [B, C, H, W] such that a convolution gives ceil(H / stride)."""
    sides: list[int] = []
    for axis in (1, 0):  # width first, as F.pad has it
        size, stride = inputs.shape[2 + axis], convolution.stride[axis]
        total = max(convolution.kernel_size[axis] - (size % stride or stride), 0)
        spread = convolution.dilation[axis]
        sides += [total // 2 * spread, (total - total // 2) * spread]
    return F.pad(inputs, sides)
