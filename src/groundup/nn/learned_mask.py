"""Attention under a mask that is learned, such as a bias by distance: the gradient of the mask with the others.

Torch's own kernel on a CPU takes a slow path for such a mask. Shapes: B batch, T query steps, S steps attended to,
H heads, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def attend_learned(q_BTHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, mask: Tensor, scale: float) -> Tensor:
    """softmax(scale q k^T + mask) v as dense products: [B, T, H, D]; it keeps B x H x T x S weights for the way back.

    mask [B or 1, H or 1, T or 1, S]. On an Intel CPU with AMX forward and backward took 0.62 to 0.91 of the time of
    torch's kernel in fp32, 0.26 to 0.42 in bf16. In bf16 the scores are rounded to bf16 before the softmax.
    """
    outputs: Tensor = _LearnedMaskAttention.apply(q_BTHD, k_BSHD, v_BSHD, mask, scale)  # type: ignore[no-untyped-call]
    return outputs


class _LearnedMaskAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BTHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, mask: Tensor, scale: float) -> Tensor:
        q_BHTD = (q_BTHD if scale == 1.0 else q_BTHD * scale).transpose(1, 2).contiguous()
        k_BHSD, v_BHSD = (heads.transpose(1, 2).contiguous() for heads in (k_BSHD, v_BSHD))
        weights = torch.softmax((q_BHTD @ k_BHSD.transpose(2, 3)).add_(mask), dim=-1)
        ctx.save_for_backward(q_BHTD, k_BHSD, v_BHSD, weights)
        ctx.options = (mask.shape, scale)
        return (weights @ v_BHSD).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_out_BTHD: Tensor) -> tuple[Tensor | None, ...]:
        q_BHTD, k_BHSD, v_BHSD, weights = ctx.saved_tensors
        shape, scale = ctx.options
        by_out_BHTD = by_out_BTHD.transpose(1, 2).contiguous()
        by_v_BHSD = weights.transpose(2, 3) @ by_out_BHTD
        by_weights = by_out_BHTD @ v_BHSD.transpose(2, 3)
        by_scores = torch._softmax_backward_data(by_weights, weights, -1, weights.dtype)
        by_q_BHTD = by_scores @ k_BHSD
        by_k_BHSD = by_scores.transpose(2, 3) @ q_BHTD
        by_q_BTHD = by_q_BHTD.transpose(1, 2) if scale == 1.0 else by_q_BHTD.transpose(1, 2) * scale
        by_mask = by_scores.sum_to_size(shape) if ctx.needs_input_grad[3] else None
        return by_q_BTHD, by_k_BHSD.transpose(1, 2), by_v_BHSD.transpose(1, 2), by_mask, None
