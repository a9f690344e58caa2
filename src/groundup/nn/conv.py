"""Convolution and pooling over images, channels first."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use
from groundup.nn.init import start

IMAGE = ("channels", "height", "width")


class Conv2d(nn.Conv2d):
    """Cross-correlation with learned square kernels: [B, C, H, W] -> [B, channels, H / stride, W / stride].

    ``padding="same"`` keeps the size (divided by stride, rounded up), "valid" pads nothing, a number pads so many.
    """

    takes: ClassVar = IMAGE

    def __init__(
        self,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        padding: Literal["same", "valid"] | int = "same",
        *,
        in_channels: int,
        bias: bool = True,
        init: Use | Callable[[Tensor], object] | None = None,
    ) -> None:
        if padding == "same" and stride > 1:
            if kernel % 2 == 0:
                raise RecipeError(
                    f"Conv2d: padding 'same' with stride {stride} needs an odd kernel, read {kernel}; "
                    "take an odd one or write the padding as a number."
                )
            padding = kernel // 2
        super().__init__(in_channels, channels, kernel, stride, padding, bias=bias)
        start(self.weight, self.bias, init)


class MaxPool2d(nn.MaxPool2d):
    """The largest value of each ``kernel`` x ``kernel`` window: [B, C, H, W] -> [B, C, H / stride, W / stride].

    ``stride`` left open is the kernel, so that windows do not overlap.
    """

    takes: ClassVar = IMAGE

    def __init__(self, kernel: int = 2, stride: int | None = None) -> None:
        super().__init__(kernel, stride)


class AveragePool2d(nn.AvgPool2d):
    """The mean of each ``kernel`` x ``kernel`` window: [B, C, H, W] -> [B, C, H / stride, W / stride].

    ``stride`` left open is the kernel, so that windows do not overlap.
    """

    takes: ClassVar = IMAGE

    def __init__(self, kernel: int = 2, stride: int | None = None) -> None:
        super().__init__(kernel, stride)


class GlobalAveragePool2d(nn.Module):
    """The mean over all places of an image: [B, C, H, W] -> [B, C]. Lin et al. 2014, section 3.2."""

    takes: ClassVar = IMAGE

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C]."""
        return inputs.mean(dim=(-2, -1))
