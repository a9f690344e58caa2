"""Normalisation: root mean square, layer and batch."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from groundup.nn.conv import IMAGE


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, whose shape stays. Zhang and Sennrich 2019, eq. 4."""

    def __init__(self, *, in_features: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(in_features))
        self.eps = eps

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in_features] -> the same shape and type."""
        outputs: Tensor = _RMSNorm.apply(inputs, self.weight, self.eps)  # type: ignore[no-untyped-call]
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
    """(x - mean) / sqrt(variance + eps) * weight + bias per feature, over the batch: [B, F]. Ioffe and Szegedy 2015.

    In evaluation the running mean and variance of training stand in for the batch's.
    """

    def __init__(self, *, in_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(in_features, eps, momentum)


class BatchNorm2d(nn.BatchNorm2d):
    """(x - mean) / sqrt(variance + eps) * weight + bias per channel, over batch and places: [B, C, H, W].

    In evaluation the running mean and variance of training stand in for the batch's. Ioffe and Szegedy 2015.
    """

    takes: ClassVar = IMAGE

    def __init__(self, *, in_channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(in_channels, eps, momentum)
