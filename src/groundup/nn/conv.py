"""Convolution over series (steps first, as recurrent layers have them), images and volumes (channels first).

Shapes: B batch, T steps, F features, C channels, H height, W width, D depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from groundup.core.errors import RecipeError
from groundup.core.use import Use
from groundup.nn.init import start
from groundup.nn.kinds import IMAGE, SERIES, VOLUME, divisors

Init = Use | Callable[[Tensor], object] | None
Padding = Literal["same", "valid"] | int


class Conv1d(nn.Module):
    """Cross-correlation over time: [B, T, F] -> [B, T / stride, channels].

    ``padding="same"`` keeps the steps (divided by stride, rounded up), "causal" too, but from what is before alone,
    "valid" pads nothing, a number pads so many on either side. ``dilation`` leaves gaps between the kernel's taps
    (Yu and Koltun 2016); ``groups`` divide the features into parts that do not see one another.
    """

    takes: ClassVar = SERIES

    def __init__(
        self,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        padding: Literal["same", "valid", "causal"] | int = "same",
        dilation: int = 1,
        groups: int = 1,
        *,
        in_features: int,
        bias: bool = True,
        init: Init = None,
    ) -> None:
        super().__init__()
        self.causal = padding == "causal"
        self.before = dilation * (kernel - 1) if self.causal else 0
        sides: Any = 0 if self.causal else _sides("Conv1d", padding, kernel, stride, dilation)
        _demand_groups("Conv1d", groups, in_features, channels)
        self.conv = nn.Conv1d(in_features, channels, kernel, stride, sides, dilation, groups, bias)
        start(self.conv.weight, self.conv.bias, init)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T / stride, channels]."""
        series = inputs.transpose(1, 2)
        outputs: Tensor = self.conv(F.pad(series, (self.before, 0)) if self.before else series).transpose(1, 2)
        return outputs


class Conv2d(nn.Conv2d):
    """Cross-correlation with learned kernels: [B, C, H, W] -> [B, channels, H / stride, W / stride].

    ``padding="same"`` keeps the size (divided by stride, rounded up), "valid" pads nothing, a number pads so many.
    ``kernel`` is one size or [height, width]. ``dilation`` leaves gaps between the kernel's taps (Yu and Koltun 2016);
    ``groups`` divide the channels into parts that do not see one another.
    """

    takes: ClassVar = IMAGE

    def __init__(
        self,
        channels: int,
        kernel: int | Sequence[int] = 3,
        stride: int = 1,
        padding: Padding = "same",
        dilation: int = 1,
        groups: int = 1,
        *,
        in_channels: int,
        bias: bool = True,
        init: Init = None,
    ) -> None:
        sides = _sides("Conv2d", padding, kernel, stride, dilation)
        _demand_groups("Conv2d", groups, in_channels, channels)
        size = kernel if isinstance(kernel, int) else tuple(kernel)
        super().__init__(in_channels, channels, size, stride, sides, dilation, groups, bias)  # type: ignore[arg-type]
        start(self.weight, self.bias, init)

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, channels, H / stride, W / stride]."""
        images = _laid_for(self.weight, input)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else images.dtype
        if dtype != torch.bfloat16 or not torch.is_grad_enabled() or not _slow_to_differentiate(self, images):
            return super().forward(images)
        options = (self.stride, self.padding, self.dilation, self.groups)
        weights = (None if tensor is None else tensor.to(dtype) for tensor in (self.weight, self.bias))
        outputs: Tensor = _ExactGradients.apply(images.to(dtype), *weights, options)  # type: ignore[no-untyped-call]
        return outputs


class Conv3d(nn.Conv3d):
    """Cross-correlation with learned kernels: [B, C, D, H, W] -> [B, channels, D / stride, H / stride, W / stride].

    The options are those of ``Conv2d``; ``kernel`` is one size or [depth, height, width].
    """

    takes: ClassVar = VOLUME

    def __init__(
        self,
        channels: int,
        kernel: int | Sequence[int] = 3,
        stride: int = 1,
        padding: Padding = "same",
        dilation: int = 1,
        groups: int = 1,
        *,
        in_channels: int,
        bias: bool = True,
        init: Init = None,
    ) -> None:
        sides = _sides("Conv3d", padding, kernel, stride, dilation)
        _demand_groups("Conv3d", groups, in_channels, channels)
        size = kernel if isinstance(kernel, int) else tuple(kernel)
        super().__init__(in_channels, channels, size, stride, sides, dilation, groups, bias)  # type: ignore[arg-type]
        start(self.weight, self.bias, init)


class TransposedConv1d(nn.Module):
    """The gradient of a convolution as a layer, which spreads a series out: [B, T, F] -> [B, T * stride, channels].

    With a kernel of at least the stride and of the same parity the steps are exactly so many. Zeiler et al. 2010.
    """

    takes: ClassVar = SERIES

    def __init__(
        self, channels: int, kernel: int = 4, stride: int = 2, *, in_features: int, bias: bool = True, init: Init = None
    ) -> None:
        super().__init__()
        sides = _spread("TransposedConv1d", kernel, stride)
        self.conv = nn.ConvTranspose1d(in_features, channels, kernel, stride, sides, bias=bias)
        start(self.conv.weight, self.conv.bias, init)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T * stride, channels]."""
        outputs: Tensor = self.conv(inputs.transpose(1, 2)).transpose(1, 2)
        return outputs


class TransposedConv2d(nn.ConvTranspose2d):
    """The gradient of a convolution as a layer: [B, C, H, W] -> [B, channels, H * stride, W * stride].

    With a kernel of at least the stride and of the same parity the sizes are exactly so many. Zeiler et al. 2010.
    """

    takes: ClassVar = IMAGE

    def __init__(
        self, channels: int, kernel: int = 4, stride: int = 2, *, in_channels: int, bias: bool = True, init: Init = None
    ) -> None:
        super().__init__(in_channels, channels, kernel, stride, _spread("TransposedConv2d", kernel, stride), bias=bias)
        start(self.weight, self.bias, init)


class TransposedConv3d(nn.ConvTranspose3d):
    """The gradient of a convolution as a layer: [B, C, D, H, W] -> [B, channels, D, H and W times the stride].

    With a kernel of at least the stride and of the same parity the sizes are exactly so many. Zeiler et al. 2010.
    """

    takes: ClassVar = VOLUME

    def __init__(
        self, channels: int, kernel: int = 4, stride: int = 2, *, in_channels: int, bias: bool = True, init: Init = None
    ) -> None:
        super().__init__(in_channels, channels, kernel, stride, _spread("TransposedConv3d", kernel, stride), bias=bias)
        start(self.weight, self.bias, init)


class DepthwiseConv1d(Conv1d):
    """One kernel for each feature, or ``multiplier`` of them: [B, T, F] -> [B, T / stride, F * multiplier].

    Options as for ``Conv1d``.
    """

    def __init__(
        self,
        kernel: int = 3,
        stride: int = 1,
        padding: Literal["same", "valid", "causal"] | int = "same",
        dilation: int = 1,
        multiplier: int = 1,
        *,
        in_features: int,
        bias: bool = True,
        init: Init = None,
    ) -> None:
        super().__init__(
            in_features * multiplier,
            kernel,
            stride,
            padding,
            dilation,
            in_features,
            in_features=in_features,
            bias=bias,
            init=init,
        )


class DepthwiseConv2d(Conv2d):
    """One kernel for each channel, or ``multiplier`` of them: [B, C, H, W] -> [B, C * multiplier, H, W / stride].

    Options as for ``Conv2d``. Chollet 2017.
    """

    def __init__(
        self,
        kernel: int | Sequence[int] = 3,
        stride: int = 1,
        padding: Padding = "same",
        dilation: int = 1,
        multiplier: int = 1,
        *,
        in_channels: int,
        bias: bool = True,
        init: Init = None,
    ) -> None:
        super().__init__(
            in_channels * multiplier,
            kernel,
            stride,
            padding,
            dilation,
            in_channels,
            in_channels=in_channels,
            bias=bias,
            init=init,
        )


class SeparableConv1d(nn.Module):
    """A depthwise convolution, then one over features alone: [B, T, F] -> [B, T / stride, channels]. Chollet 2017."""

    takes: ClassVar = SERIES

    def __init__(
        self,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        padding: Literal["same", "valid", "causal"] | int = "same",
        dilation: int = 1,
        *,
        in_features: int,
        bias: bool = True,
        init: Init = None,
    ) -> None:
        super().__init__()
        self.causal = padding == "causal"
        self.depthwise = DepthwiseConv1d(
            kernel, stride, padding, dilation, in_features=in_features, bias=False, init=init
        )
        self.pointwise = Conv1d(channels, 1, in_features=in_features, bias=bias, init=init)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T / stride, channels]."""
        outputs: Tensor = self.pointwise(self.depthwise(inputs))
        return outputs


class SeparableConv2d(nn.Module):
    """A depthwise convolution, then one over channels alone: [B, C, H, W] -> [B, channels, H / stride, W / stride].

    Chollet 2017, section 2.
    """

    takes: ClassVar = IMAGE

    def __init__(
        self,
        channels: int,
        kernel: int | Sequence[int] = 3,
        stride: int = 1,
        padding: Padding = "same",
        dilation: int = 1,
        *,
        in_channels: int,
        bias: bool = True,
        init: Init = None,
    ) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv2d(
            kernel, stride, padding, dilation, in_channels=in_channels, bias=False, init=init
        )
        self.pointwise = Conv2d(channels, 1, in_channels=in_channels, bias=bias, init=init)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, channels, H / stride, W / stride]."""
        outputs: Tensor = self.pointwise(self.depthwise(inputs))
        return outputs


def _laid_for(weight: Tensor, images: Tensor) -> Tensor:
    """The same images [B, C, H, W], on a CPU with the channels of a pixel side by side in memory.

    What convolutions, pooling and norms are given so they return so, and most are faster by it. The weights stay as
    they are, and are turned at each call; where they are more than the images, that costs more than it saves, and the
    images lie channel by channel. Not on other devices, where it was not measured, nor in compiled and exported
    graphs, which have an order of their own and fit any batch.
    """
    if images.device.type != "cpu" or images.ndim != 4 or torch.compiler.is_compiling():
        return images
    turned = 0 if weight.shape[2:].numel() == 1 else weight.numel()
    if turned > images.numel():
        return images.contiguous()
    return images.to(memory_format=torch.channels_last)  # contiguous() would leave images of one channel as they are


def _slow_to_differentiate(layer: nn.Conv2d, images: Tensor) -> bool:
    """Whether a depthwise layer's gradients take longer in bf16 than in fp32: those of strides and of large kernels.

    On an AMD CPU fp32 takes 0.37 to 0.49 of the time for the gradient of 7 x 7 kernels, and 0.07 to 0.09 for the
    images' one through 3 x 3 kernels with stride 2.
    """
    depthwise = layer.groups == layer.in_channels > 1
    if not depthwise or images.device.type != "cpu" or isinstance(layer.padding, str):
        return False
    return max(layer.stride) > 1 or max(layer.kernel_size) > 3


class _ExactGradients(torch.autograd.Function):
    """A convolution in bf16 with the gradients in fp32."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, options: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.options = options
        return F.conv2d(images, weight, bias, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_outputs: Tensor) -> tuple[Tensor | None, ...]:
        exact = [tensor.float() for tensor in (by_outputs, *ctx.saved_tensors)]
        stride, padding, dilation, groups = ctx.options
        shape = (stride, padding, dilation, False, (0, 0), groups)  # not transposed, so nothing is padded behind
        wanted = ctx.needs_input_grad[:3]
        found = torch.ops.aten.convolution_backward(*exact, [by_outputs.shape[1]], *shape, wanted)
        return (*(None if gradient is None else gradient.to(by_outputs.dtype) for gradient in found), None)


def _sides(
    layer: str, padding: str | int, kernel: int | Sequence[int], stride: int, dilation: int
) -> str | tuple[int, ...] | int:
    """The padding as torch takes it. Raises RecipeError for "same" with a stride and an even kernel."""
    if padding != "same" or stride == 1:
        return padding
    sizes = (kernel,) if isinstance(kernel, int) else tuple(kernel)
    if any(size % 2 == 0 for size in sizes):
        raise RecipeError(
            f"{layer}: padding 'same' with stride {stride} needs an odd kernel, read {kernel}; "
            "take an odd one or write the padding as a number."
        )
    sides = tuple(dilation * (size // 2) for size in sizes)
    return sides[0] if len(sides) == 1 else sides


def _spread(layer: str, kernel: int, stride: int) -> int:
    """The padding that makes the output exactly ``stride`` times as long."""
    if kernel < stride or (kernel - stride) % 2:
        raise RecipeError(
            f"{layer}: a kernel of {kernel} and a stride of {stride} do not give {stride} times the size; "
            f"take a kernel of {max(kernel, stride) + (max(kernel, stride) - stride) % 2}."
        )
    return (kernel - stride) // 2


def _demand_groups(layer: str, groups: int, into: int, out: int) -> None:
    if groups < 1 or into % groups or out % groups:
        raise RecipeError(
            f"{layer}: {groups} groups must divide the {into} channels coming in and the {out} going out; "
            f"take {divisors(math.gcd(into, out))}."
        )
