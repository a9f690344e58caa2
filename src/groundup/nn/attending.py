"""The attention kernel: torch's own, or on a CPU a blocked one, whichever was measured to be faster for the case.

Shapes: B batch, T query steps, S steps attended to, H query heads, G key/value heads, R = H / G, D head size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.core.processor import has_amx
from groundup.nn.dense_attention import attend_dense
from groundup.nn.masks import full_mask, triangle

AMX = has_amx()
"""Read once as this module loads, since a compiled graph can read no file."""


class Score(NamedTuple):
    """How a product of query and key becomes a score."""

    scale: float | None = None
    """What the product is multiplied with; 1 / sqrt(D) where it is None."""
    cap: float | None = None
    """Scores become cap * tanh(score / cap), within +-cap. Gemma 2 (Gemma Team 2024), section 2."""


PLAIN = Score()


def attend(
    q_BTHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    score: Score = PLAIN,
) -> Tensor:
    """softmax(score(q k^T) + mask) v: [B, T, H, D of v]; H / G neighbouring query heads share one key/value head.

    Without a mask, ``causal`` hides the future and ``window`` what lies so many steps away and more; the queries are
    the last T of the S steps. With one, [B or 1, H or 1, T, S], they say that it does so.
    """
    steps, seen = q_BTHD.shape[1], k_BSGD.shape[1]
    window = None if window is None or window >= seen else window
    if mask is None and causal and steps == 1 and window is not None:
        k_BSGD, v_BSGD, seen, window = k_BSGD[:, -window:], v_BSGD[:, -window:], window, None
    scale = q_BTHD.shape[-1] ** -0.5 if score.scale is None else score.scale
    if causal and 1 < steps == seen and _blocks_win(q_BTHD, k_BSGD, v_BSGD, mask, window, score):
        options = (window or steps, Score(scale, score.cap))
        outputs: Tensor = _BlockedAttention.apply(q_BTHD, k_BSGD, v_BSGD, mask, *options)  # type: ignore[no-untyped-call]
        return outputs
    same_heads = q_BTHD.shape[2] == k_BSGD.shape[2]
    if mask is None and causal and (window is not None or 1 < steps < seen or (score.cap and steps > 1)):
        mask = triangle(steps, seen, q_BTHD.dtype, q_BTHD.device, window)
    elif mask is None and not causal and window is not None:
        mask = full_mask(steps, q_BTHD.dtype, q_BTHD.device, window=window)
    if score.cap is not None:
        return _plain(q_BTHD, k_BSGD, v_BSGD, mask, scale, score.cap)
    if same_heads and _dense_wins(q_BTHD, k_BSGD, mask, causal):
        return attend_dense(q_BTHD, k_BSGD, v_BSGD, mask, scale)
    out_BHTD = F.scaled_dot_product_attention(
        q_BTHD.transpose(1, 2),
        k_BSGD.transpose(1, 2),
        v_BSGD.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal and mask is None and steps > 1,
        scale=scale,
        enable_gqa=not same_heads,
    )
    return out_BHTD.transpose(1, 2)


def _is_learned(mask: Tensor | None) -> bool:
    """Whether a gradient is wanted of the mask as well."""
    return mask is not None and mask.requires_grad


LONGEST_DENSE = 1024
"""Beyond so many steps either way the weights that dense products keep would need too much memory."""


def _dense_wins(q_BTHD: Tensor, k_BSHD: Tensor, mask: Tensor | None, causal: bool) -> bool:
    """Whether whole dense products are the faster kernel: where the mask is learned, or without AMX in bf16."""
    if q_BTHD.device.type != "cpu":
        return False
    if _is_learned(mask):
        return True
    short = 1 < q_BTHD.shape[1] <= LONGEST_DENSE and k_BSHD.shape[1] <= LONGEST_DENSE
    return not AMX and not causal and short and q_BTHD.dtype == torch.bfloat16


def _plain(q_BTHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, mask: Tensor | None, scale: float, cap: float) -> Tensor:
    """The formula as it stands, for scores that torch's kernel cannot make."""
    groups = k_BSGD.shape[2]
    q_BGRTD = _grouped(q_BTHD * scale, groups)
    scores = cap * torch.tanh(q_BGRTD @ k_BSGD.permute(0, 2, 3, 1)[:, :, None] / cap)
    if mask is not None:
        scores = scores + _by_group(mask, groups)
    weights = torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(v_BSGD.dtype)
    out_BGRTD = weights @ v_BSGD.transpose(1, 2)[:, :, None]
    return out_BGRTD.flatten(1, 2).transpose(1, 2)


BLOCK = 128
"""Query steps in one block of the blocked attention."""

LONGEST_BLOCKED = 2048
"""Beyond so many steps the stored weights would need too much memory; torch's own kernel stores none."""


def _blocks_win(
    q_BTHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, mask: Tensor | None, window: int | None, score: Score
) -> bool:
    """Whether causal attention over a whole input goes in blocks: by kind of processor and shapes alone.

    Equal runs on equal machines so have equal bits. Measured with 2,048 tokens and heads of 64, see LOG.md: without
    AMX, blocks take a quarter (bf16) to a half (fp32) of the time of torch's kernel, which makes small products there.
    With AMX they take 0.2 to 0.7 of the time for capped scores, which torch's kernel cannot make; 0.5 to 0.9 in fp32
    for a window of a quarter of the steps, 512 or more; and in bf16, gradients included, 0.3 to 0.8 for a mask, a
    window or few steps. Else torch's kernel is the faster one, without gradients by 1.3 to 3.5 times.
    """
    steps, heads, groups = q_BTHD.shape[1], q_BTHD.shape[2], k_BTGD.shape[2]
    if q_BTHD.device.type != "cpu" or steps > LONGEST_BLOCKED or _is_learned(mask):
        return False
    if not AMX or score.cap is not None or q_BTHD.shape[3] != v_BTGD.shape[3]:  # torch has no fast kernel for those
        return True
    if q_BTHD.dtype != torch.bfloat16:
        return window is not None and steps >= max(512, 4 * window)
    training = torch.is_grad_enabled() and (q_BTHD.requires_grad or k_BTGD.requires_grad or v_BTGD.requires_grad)
    few = steps <= (512 if groups < heads else 256)
    return training and (few or mask is not None or window is not None)


class _BlockedAttention(torch.autograd.Function):
    """Causal attention as dense products, a block of queries at a time over the keys that it may see.

    It stores T^2 / 2 weights a head, or T times the window. The query heads that share a key head stand in one product
    (R of them). In bf16 the scores are rounded to bf16 before the softmax, where torch's kernel keeps fp32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_BTHD: Tensor,
        k_BTGD: Tensor,
        v_BTGD: Tensor,
        mask: Tensor | None,
        window: int,
        score: Score,
    ) -> Tensor:
        scale, cap = score
        steps, groups = k_BTGD.shape[1:3]
        assert scale is not None
        q_BGRTD = _grouped(q_BTHD * scale, groups)
        k_BGDT = k_BTGD.permute(0, 2, 3, 1).contiguous()
        v_BGTD = v_BTGD.transpose(1, 2).contiguous()
        out_BTHD = q_BTHD.new_empty((*q_BTHD.shape[:3], v_BTGD.shape[3]))
        out_BGRTD = _grouped(out_BTHD, groups)
        mask = None if mask is None else _by_group(mask, groups)
        saved = []
        for start, end, first in _blocks(steps, window):
            queries = q_BGRTD[:, :, :, start:end].flatten(2, 3)
            scores = queries @ k_BGDT[..., first:end]
            if cap is not None:
                bent = torch.tanh(scores / cap)
                scores = bent * cap
                saved.append(bent)
            by_head = scores.view(*q_BGRTD.shape[:3], end - start, end - first)
            if mask is not None:
                by_head += mask[..., start:end, first:end]
            else:
                by_head[..., start - first :] += _future(end - start, scores.dtype)
                if first > 0 or end - first > window:
                    by_head += _past(start, end, first, window, scores.dtype)
            weights = torch.softmax(scores, dim=-1)
            out_BGRTD[:, :, :, start:end] = (weights @ v_BGTD[:, :, first:end]).view_as(out_BGRTD[:, :, :, start:end])
            saved += [queries, weights]
        ctx.save_for_backward(k_BGDT, v_BGTD, *saved)
        ctx.options = (window, scale, cap)
        return out_BTHD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_out_BTHD: Tensor) -> tuple[Tensor | None, ...]:
        k_BGDT, v_BGTD, *saved = ctx.saved_tensors
        window, scale, cap = ctx.options
        groups, steps = v_BGTD.shape[1:3]
        exact = torch.promote_types(v_BGTD.dtype, torch.float32)
        by_out_BGRTD = _grouped(by_out_BTHD.contiguous(), groups)
        by_q_BTHD = by_out_BTHD.new_empty((*by_out_BTHD.shape[:3], k_BGDT.shape[2]))
        by_q_BGRTD = _grouped(by_q_BTHD, groups)
        k_BGTD = k_BGDT.transpose(2, 3).contiguous()
        by_k_BGTD, by_v_BGTD = (torch.zeros(like.shape, dtype=exact) for like in (k_BGTD, v_BGTD))
        v_BGDT = v_BGTD.transpose(2, 3)
        pieces = iter(saved)
        for start, end, first in _blocks(steps, window):
            bent = next(pieces) if cap is not None else None
            queries, weights = next(pieces), next(pieces)
            by_out = by_out_BGRTD[:, :, :, start:end].flatten(2, 3)
            by_v_BGTD[:, :, first:end] += weights.transpose(2, 3) @ by_out
            by_scores = torch._softmax_backward_data(by_out @ v_BGDT[..., first:end], weights, -1, weights.dtype)
            if bent is not None:
                by_scores = by_scores * (1 - bent.square())
            by_q_BGRTD[:, :, :, start:end] = (by_scores @ k_BGTD[:, :, first:end]).view_as(
                by_q_BGRTD[:, :, :, start:end]
            )
            by_k_BGTD[:, :, first:end] += by_scores.transpose(2, 3) @ queries
        by_q_BTHD *= scale
        by_k, by_v = (gradient.to(v_BGTD.dtype).transpose(1, 2) for gradient in (by_k_BGTD, by_v_BGTD))
        return by_q_BTHD, by_k, by_v, None, None, None


def _blocks(steps: int, window: int) -> list[tuple[int, int, int]]:
    """(first query, end of the queries and keys, first key) of each block."""
    starts = range(0, steps, BLOCK)
    return [(start, min(start + BLOCK, steps), max(0, start - window + 1)) for start in starts]


def _grouped(heads_BTHD: Tensor, groups: int) -> Tensor:
    """[B, T, H, D] seen as [B, G, R, T, D]."""
    batch, steps, heads, size = heads_BTHD.shape
    return heads_BTHD.view(batch, steps, groups, heads // groups, size).permute(0, 2, 3, 1, 4)


def _by_group(mask: Tensor, groups: int) -> Tensor:
    """[B, H or 1, T, S] seen as [B, G or 1, R or 1, T, S]."""
    return mask[:, :, None] if mask.shape[1] == 1 else torch.unflatten(mask, 1, (groups, -1))


def _future(steps: int, dtype: torch.dtype) -> Tensor:
    """[steps, steps]: -inf where the key lies behind the query, else 0."""
    return torch.full((steps, steps), float("-inf"), dtype=dtype).triu_(1)


def _past(start: int, end: int, first: int, window: int, dtype: torch.dtype) -> Tensor:
    """[queries, keys]: -inf where the key lies ``window`` steps before the query or more, else 0."""
    return torch.full((end - start, end - first), float("-inf"), dtype=dtype).tril_(start - first - window)
