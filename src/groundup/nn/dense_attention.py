"""Attention as dense products over all steps at once, with the gradient of the mask where it is learned.

Torch's own kernel on a CPU is slow under a learned mask, such as a bias by distance, and in bf16 without AMX. Shapes:
B batch, T query steps, S steps attended to, H heads, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def attend_dense(q_BTHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """softmax(scale q k^T + mask) v as dense products: [B, T, H, D]; it keeps B x H x T x S weights for the way back.

    mask [B or 1, H or 1, T or 1, S]. In bf16 the scores are rounded to bf16 before the softmax. Its time over that of
    torch's kernel, forward and backward: under a learned mask, on an Intel CPU with AMX, 0.62 to 0.91 in fp32 and 0.26
    to 0.42 in bf16; in bf16 under none or one that is not learned, on an AMD CPU without AMX, 0.14 to 0.32 up to 512
    steps and 0.45 to 0.73 up to 1,024, forward alone 0.4 to 0.8.
    """
    outputs: Tensor = _DenseAttention.apply(q_BTHD, k_BSHD, v_BSHD, mask, scale)  # type: ignore[no-untyped-call]
    return outputs


class _DenseAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BTHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        q_BHTD = (q_BTHD if scale == 1.0 else q_BTHD * scale).transpose(1, 2).contiguous()
        k_BHSD, v_BHSD = (heads.transpose(1, 2).contiguous() for heads in (k_BSHD, v_BSHD))
        scores = q_BHTD @ k_BHSD.transpose(2, 3)
        weights = torch.softmax(scores if mask is None else scores.add_(mask), dim=-1)
        ctx.save_for_backward(q_BHTD, k_BHSD, v_BHSD, weights)
        ctx.options = (None if mask is None else mask.shape, scale)
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
