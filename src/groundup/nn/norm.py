"""Normalisation: root mean square, layer, batch, group and instance."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from groundup.core.errors import RecipeError
from groundup.nn.kinds import IMAGE, SERIES, VOLUME, divisors


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, whose shape stays. Zhang and Sennrich 2019, eq. 4.

    With ``around_one`` the factor is 1 + weight and the weight begins at 0, as in published Gemma checkpoints.
    """

    def __init__(self, *, in_features: int, eps: float = 1e-6, around_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(in_features) if around_one else torch.ones(in_features))
        self.eps = eps
        self.around_one = around_one

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in_features] -> the same shape and type."""
        weight = 1 + self.weight if self.around_one else self.weight
        outputs: Tensor = _RMSNorm.apply(inputs, weight, self.eps)  # type: ignore[no-untyped-call]
        return outputs

    def extra_repr(self) -> str:
        """What the module's printed form shows."""
        return f"{len(self.weight)}, eps={self.eps}"


class _RMSNorm(torch.autograd.Function):
    """Statistics in fp32, products in the input's type: on a CPU, half of F.rms_norm's time, forward and backward."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, eps: float) -> Tensor:
        exact = torch.promote_types(inputs.dtype, torch.float32)
        length = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True, dtype=exact)
        scale = length.square_().mul_(1 / inputs.shape[-1]).add_(eps).rsqrt_().to(inputs.dtype)
        normal: Tensor = inputs * scale
        short = weight.to(inputs.dtype)  # fp32 beside bf16 activations under autocast
        if not any(ctx.needs_input_grad):
            return normal.mul_(short)
        ctx.save_for_backward(normal, scale, short)
        ctx.weight_dtype = weight.dtype
        return normal * short

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_output: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        normal, scale, weight = ctx.saved_tensors
        by_weight = (by_output * normal).flatten(0, -2).sum(0).to(ctx.weight_dtype) if ctx.needs_input_grad[1] else None
        by_normal = by_output * weight
        along = (by_normal * normal).mean(dim=-1, keepdim=True)
        return torch.addcmul(by_normal, normal, along, value=-1).mul_(scale), by_weight, None


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last dimension. Ba et al. 2016."""

    def __init__(self, *, in_features: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__(in_features, eps=eps, bias=bias)


class BatchNorm1d(nn.BatchNorm1d):
    """(x - mean) / sqrt(variance + eps) * weight + bias per feature, over the batch: [B, F]; over steps too: [B, T, F].

    In evaluation the running mean and variance of training stand in for the batch's. Ioffe and Szegedy 2015.
    """

    def __init__(self, *, in_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(in_features, eps, momentum)

    def forward(self, input: Tensor) -> Tensor:
        """[B, F] or [B, T, F] -> the same shape. Raises ValueError for images, whose channels are first."""
        if input.ndim > 3:
            raise ValueError("it takes rows and series; BatchNorm2d takes images, BatchNorm3d volumes")
        if input.ndim == 2:
            return super().forward(input)
        return super().forward(input.flatten(0, -2)).view(input.shape)


class BatchNorm2d(nn.BatchNorm2d):
    """(x - mean) / sqrt(variance + eps) * weight + bias per channel, over batch and places: [B, C, H, W].

    In evaluation the running mean and variance of training stand in for the batch's. Ioffe and Szegedy 2015.
    """

    takes: ClassVar = IMAGE

    def __init__(self, *, in_channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(in_channels, eps, momentum)


class BatchNorm3d(nn.BatchNorm3d):
    """(x - mean) / sqrt(variance + eps) * weight + bias per channel, over batch and places: [B, C, D, H, W].

    In evaluation the running mean and variance of training stand in for the batch's. Ioffe and Szegedy 2015.
    """

    takes: ClassVar = VOLUME

    def __init__(self, *, in_channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(in_channels, eps, momentum)


class GroupNorm(nn.GroupNorm):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the places and channels of each group: [B, C, ...].

    Wu and He 2018, equations 1 to 7. One group is layer norm over a whole image, as many as channels instance norm.
    """

    def __init__(self, groups: int, *, in_channels: int, eps: float = 1e-5) -> None:
        if groups < 1 or in_channels % groups:
            raise RecipeError(
                f"GroupNorm: {groups} groups must divide the {in_channels} channels; take {divisors(in_channels)}."
            )
        super().__init__(groups, in_channels, eps)


class InstanceNorm1d(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias per feature, over the steps of each series: [B, T, F].

    Ulyanov et al. 2016. In training and evaluation alike; no statistics are kept.
    """

    takes: ClassVar = SERIES

    def __init__(self, *, in_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(in_features))
        self.bias = nn.Parameter(torch.zeros(in_features))
        self.eps = eps

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        variance, mean = torch.var_mean(inputs, dim=1, keepdim=True, correction=0)
        return (inputs - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class InstanceNorm2d(nn.InstanceNorm2d):
    """(x - mean) / sqrt(variance + eps) * weight + bias per channel, over the places of each image: [B, C, H, W].

    Ulyanov et al. 2016. In training and evaluation alike; no statistics are kept.
    """

    takes: ClassVar = IMAGE

    def __init__(self, *, in_channels: int, eps: float = 1e-5) -> None:
        super().__init__(in_channels, eps, affine=True)
