"""Pooling: a window, or all places or steps, made one."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from groundup.nn.kinds import IMAGE, SERIES, VOLUME
from groundup.nn.masks import kept_of


class MaxPool1d(nn.Module):
    """The largest value of each ``kernel`` steps: [B, T, F] -> [B, T / stride, F].

    ``stride`` left open is the kernel, so that windows do not overlap.
    """

    takes: ClassVar = SERIES

    def __init__(self, kernel: int = 2, stride: int | None = None) -> None:
        super().__init__()
        self.pool = nn.MaxPool1d(kernel, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T / stride, F]."""
        outputs: Tensor = self.pool(inputs.transpose(1, 2)).transpose(1, 2)
        return outputs


class AveragePool1d(nn.Module):
    """The mean of each ``kernel`` steps: [B, T, F] -> [B, T / stride, F].

    ``stride`` left open is the kernel, so that windows do not overlap.
    """

    takes: ClassVar = SERIES

    def __init__(self, kernel: int = 2, stride: int | None = None) -> None:
        super().__init__()
        self.pool = nn.AvgPool1d(kernel, kernel if stride is None else stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T / stride, F]."""
        outputs: Tensor = self.pool(inputs.transpose(1, 2)).transpose(1, 2)
        return outputs


class MaxPool2d(nn.MaxPool2d):
    """The largest value of each ``kernel`` x ``kernel`` window: [B, C, H, W] -> [B, C, H / stride, W / stride].

    ``stride`` left open is the kernel, so that windows do not overlap; ``padding`` adds such a border of -inf.
    """

    takes: ClassVar = IMAGE

    def __init__(self, kernel: int = 2, stride: int | None = None, padding: int = 0, round_up: bool = False) -> None:
        super().__init__(kernel, stride, padding, ceil_mode=round_up)


class AveragePool2d(nn.AvgPool2d):
    """The mean of each ``kernel`` x ``kernel`` window: [B, C, H, W] -> [B, C, H / stride, W / stride].

    ``stride`` left open is the kernel, so that windows do not overlap.
    """

    takes: ClassVar = IMAGE

    def __init__(self, kernel: int = 2, stride: int | None = None) -> None:
        super().__init__(kernel, stride)


class MaxPool3d(nn.MaxPool3d):
    """The largest value of each ``kernel``^3 window: [B, C, D, H, W] -> the last three sizes divided by the stride.

    ``stride`` left open is the kernel, so that windows do not overlap.
    """

    takes: ClassVar = VOLUME

    def __init__(self, kernel: int = 2, stride: int | None = None) -> None:
        super().__init__(kernel, stride)


class AveragePool3d(nn.AvgPool3d):
    """The mean of each ``kernel``^3 window: [B, C, D, H, W] -> the last three sizes divided by the stride.

    ``stride`` left open is the kernel, so that windows do not overlap.
    """

    takes: ClassVar = VOLUME

    def __init__(self, kernel: int = 2, stride: int | None = None) -> None:
        super().__init__(kernel, stride)

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, D, H, W] -> the last three sizes divided by the stride."""
        exact = torch.promote_types(input.dtype, torch.float32)  # torch has no bf16 kernel for it on a CPU
        return super().forward(input.to(exact)).to(input.dtype)


class GlobalAveragePool1d(nn.Module):
    """The mean over the steps of a series: [B, T, F] -> [B, F]; over the first ``lengths`` of them where given."""

    takes: ClassVar = SERIES

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, T, F] -> [B, F]; lengths [B]."""
        if lengths is None:
            return inputs.mean(dim=1)
        kept = kept_of(lengths, inputs.shape[1])[..., None]
        return (inputs * kept).sum(dim=1) / lengths.clamp_min(1)[:, None].to(inputs.dtype)


class GlobalAveragePool2d(nn.Module):
    """The mean over all places of an image: [B, C, H, W] -> [B, C]. Lin et al. 2014, section 3.2."""

    takes: ClassVar = IMAGE

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C]."""
        return inputs.mean(dim=(-2, -1))


class GlobalAveragePool3d(nn.Module):
    """The mean over all places of a volume: [B, C, D, H, W] -> [B, C]."""

    takes: ClassVar = VOLUME

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, D, H, W] -> [B, C]."""
        return inputs.mean(dim=(-3, -2, -1))


class GlobalMaxPool1d(nn.Module):
    """The largest value over the steps of a series: [B, T, F] -> [B, F]; of the first ``lengths`` where given."""

    takes: ClassVar = SERIES

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, T, F] -> [B, F]; lengths [B]."""
        if lengths is not None:
            kept = kept_of(lengths, inputs.shape[1])[..., None]
            inputs = inputs.masked_fill(~kept, torch.finfo(inputs.dtype).min)
        return inputs.amax(dim=1)


class GlobalMaxPool2d(nn.Module):
    """The largest value over all places of an image: [B, C, H, W] -> [B, C]."""

    takes: ClassVar = IMAGE

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C]."""
        return inputs.amax(dim=(-2, -1))


class AdaptiveAveragePool2d(nn.AdaptiveAvgPool2d):
    """The means of ``size`` x ``size`` even cells: [B, C, H, W] -> [B, C, size, size]."""

    takes: ClassVar = IMAGE

    def __init__(self, size: int) -> None:
        super().__init__(size)
