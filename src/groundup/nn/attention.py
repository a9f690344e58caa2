"""Attention with grouped keys and values, a mask that keeps packed documents apart, and a cache for generation.

Shapes: B batch, T steps of the input, S steps attended to, H query heads, G key/value heads, D head size, F features.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from groundup.core.errors import GroundupError, RecipeError
from groundup.nn.recurrent import SERIES
from groundup.nn.rope import rotate


class Attention(nn.Module):
    """softmax(q k^T / sqrt(head size)) v over heads, where several query heads share one key/value head.

    [B, T, F] -> [B, T, F]. Vaswani et al. 2017, equation 1; grouped: Ainslie et al. 2023. ``causal``: a step sees
    itself and what is before it. Positions enter by ``rotary`` tables only.
    """

    takes: ClassVar = SERIES

    def __init__(
        self,
        num_heads: int,
        num_key_value_heads: int | None = None,
        causal: bool = True,
        *,
        in_features: int,
        head_dim: int | None = None,
    ) -> None:
        super().__init__()
        groups = num_key_value_heads or num_heads
        if num_heads % groups or (head_dim is None and in_features % num_heads):
            raise RecipeError(
                f"Attention: {num_heads} heads over {in_features} features with {groups} key/value heads: "
                "the heads must divide the features, and the key/value heads must divide the heads."
            )
        self.head_dim = head_dim or in_features // num_heads
        self.causal = causal
        self.query = nn.Linear(in_features, num_heads * self.head_dim, bias=False)
        self.key = nn.Linear(in_features, groups * self.head_dim, bias=False)
        self.value = nn.Linear(in_features, groups * self.head_dim, bias=False)
        self.output = nn.Linear(num_heads * self.head_dim, in_features, bias=False)

    def forward(
        self,
        inputs: Tensor,
        rotary: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """[B, T, F] -> [B, T, F].

        ``rotary``: cosine and sine [T, 1, D]. ``mask``: [B, 1, T, S], added to the scores; without one the layer is
        causal, or sees all. ``cache`` adds this input's keys and values as ``layer``'s, and attends to all it holds.
        """
        q_BTHD = self.query(inputs).unflatten(-1, (-1, self.head_dim))
        k_BTGD = self.key(inputs).unflatten(-1, (-1, self.head_dim))
        v_BTGD = self.value(inputs).unflatten(-1, (-1, self.head_dim))
        if rotary is not None:
            q_BTHD, k_BTGD = rotate(q_BTHD, *rotary), rotate(k_BTGD, *rotary)
        if cache is not None:
            k_BTGD, v_BTGD = cache.add(layer, k_BTGD, v_BTGD)
        outputs: Tensor = self.output(attend(q_BTHD, k_BTGD, v_BTGD, mask, self.causal).flatten(2))
        return outputs


def attend(q_BTHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """softmax(q k^T / sqrt(D) + mask) v: [B, T, H, D]; H / G neighbouring query heads share one key/value head.

    Without a mask, ``causal`` hides the future. With one, [B or 1, 1, T, S], ``causal`` says that it does so.
    """
    steps, seen = q_BTHD.shape[1], k_BSGD.shape[1]
    if causal and q_BTHD.device.type == "cpu" and 1 < steps == seen <= LONGEST_BLOCKED:
        outputs: Tensor = _BlockedAttention.apply(q_BTHD, k_BSGD, v_BSGD, mask)  # type: ignore[no-untyped-call]
        return outputs
    out_BHTD = F.scaled_dot_product_attention(
        q_BTHD.transpose(1, 2),
        k_BSGD.transpose(1, 2),
        v_BSGD.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal and mask is None and steps > 1,
        enable_gqa=q_BTHD.shape[2] != k_BSGD.shape[2],
    )
    return out_BHTD.transpose(1, 2)


BLOCK = 128
"""Query steps in one block of the blocked attention."""

LONGEST_BLOCKED = 2048
"""Beyond so many steps the stored weights would need too much memory; torch's own kernel stores none."""


class _BlockedAttention(torch.autograd.Function):
    """Causal attention as dense products, a block of queries at a time over the keys that it may see.

    On a CPU forward and backward together take a quarter (bf16) to a half (fp32) of the time of torch's kernel,
    for T^2 / 2 stored weights a head. The query heads that share a key head stand in one product (R of them).
    In bf16 the scores are rounded to bf16 before the softmax, where torch's kernel keeps fp32.
    """

    @staticmethod
    def forward(ctx: Any, q_BTHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, mask: Tensor | None) -> Tensor:
        steps, groups = k_BTGD.shape[1:3]
        q_BGRTD = _grouped(q_BTHD * q_BTHD.shape[-1] ** -0.5, groups)
        k_BGDT = k_BTGD.permute(0, 2, 3, 1).contiguous()
        v_BGTD = v_BTGD.transpose(1, 2).contiguous()
        out_BTHD = q_BTHD.new_empty(q_BTHD.shape)
        out_BGRTD = _grouped(out_BTHD, groups)
        saved = []
        for start in range(0, steps, BLOCK):
            end = min(start + BLOCK, steps)
            queries = q_BGRTD[:, :, :, start:end].flatten(2, 3)
            scores = queries @ k_BGDT[..., :end]
            by_head = scores.view(*q_BGRTD.shape[:3], end - start, end)
            if mask is not None:
                by_head += mask[:, :, None, start:end, :end]
            else:
                by_head[..., start:] += _future(end - start, scores.dtype)
            weights = torch.softmax(scores, dim=-1)
            out_BGRTD[:, :, :, start:end] = (weights @ v_BGTD[:, :, :end]).view_as(out_BGRTD[:, :, :, start:end])
            saved += [queries, weights]
        ctx.save_for_backward(k_BGDT, v_BGTD, *saved)
        return out_BTHD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_out_BTHD: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        k_BGDT, v_BGTD, *saved = ctx.saved_tensors
        groups, steps = v_BGTD.shape[1:3]
        exact = torch.promote_types(v_BGTD.dtype, torch.float32)
        by_out_BGRTD = _grouped(by_out_BTHD.contiguous(), groups)
        by_q_BTHD = by_out_BTHD.new_empty(by_out_BTHD.shape)
        by_q_BGRTD = _grouped(by_q_BTHD, groups)
        by_k_BGTD, by_v_BGTD = (torch.zeros(v_BGTD.shape, dtype=exact) for _ in range(2))
        k_BGTD = k_BGDT.transpose(2, 3).contiguous()
        v_BGDT = v_BGTD.transpose(2, 3)
        for index, start in enumerate(range(0, steps, BLOCK)):
            end = min(start + BLOCK, steps)
            queries, weights = saved[2 * index : 2 * index + 2]
            by_out = by_out_BGRTD[:, :, :, start:end].flatten(2, 3)
            by_v_BGTD[:, :, :end] += weights.transpose(2, 3) @ by_out
            by_scores = torch._softmax_backward_data(by_out @ v_BGDT[..., :end], weights, -1, weights.dtype)
            by_q_BGRTD[:, :, :, start:end] = (by_scores @ k_BGTD[:, :, :end]).view_as(by_q_BGRTD[:, :, :, start:end])
            by_k_BGTD[:, :, :end] += by_scores.transpose(2, 3) @ queries
        by_q_BTHD *= by_q_BTHD.shape[-1] ** -0.5
        by_k, by_v = (gradient.to(v_BGTD.dtype).transpose(1, 2) for gradient in (by_k_BGTD, by_v_BGTD))
        return by_q_BTHD, by_k, by_v, None


def _grouped(heads_BTHD: Tensor, groups: int) -> Tensor:
    """[B, T, H, D] seen as [B, G, R, T, D]."""
    batch, steps, heads, size = heads_BTHD.shape
    return heads_BTHD.view(batch, steps, groups, heads // groups, size).permute(0, 2, 3, 1, 4)


def _future(steps: int, dtype: torch.dtype) -> Tensor:
    """[steps, steps]: -inf where the key lies behind the query, else 0."""
    return torch.full((steps, steps), float("-inf"), dtype=dtype).triu_(1)


class KeyValueCache:
    """Keys and values of what was read so far, for every layer, with room for ``length`` steps.

    ``held`` steps are in it. A model adds each input's with ``add``, layer by layer, then calls ``advance`` once.
    """

    def __init__(self, num_layers: int, batch_size: int, length: int) -> None:
        self.batch_size = batch_size
        self.length = length
        self.held = 0
        self._stores: list[tuple[Tensor, Tensor] | None] = [None] * num_layers
        self._documents: Tensor | None = None

    def start(self, tokens: Tensor, documents: Tensor | None) -> Tensor | None:
        """Make sure that ``tokens`` [B, T] fit behind what is held; the documents [B, S] of all steps, if any."""
        batch_size, steps = tokens.shape
        if batch_size != self.batch_size or self.held + steps > self.length:
            raise GroundupError(
                f"the cache was made for {self.batch_size} x {self.length} tokens and holds {self.held}; "
                f"{batch_size} x {steps} more do not fit. Make it with new_cache(batch_size, length) for all of them."
            )
        if documents is None and self._documents is None:
            return None
        if self._documents is None:
            self._documents = tokens.new_zeros(self.batch_size, self.length)
        new = slice(self.held, self.held + steps)
        # Steps read without documents belong to the last one.
        self._documents[:, new] = self._documents[:, max(0, self.held - 1), None] if documents is None else documents
        return self._documents[:, : self.held + steps]

    def add(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values [B, T, G, D] behind those that ``layer`` holds; all of them, [B, S, G, D]."""
        store = self._stores[layer]
        if store is None:  # made by the first use, which knows the type
            shape = (self.batch_size, self.length, *keys.shape[2:])
            store = self._stores[layer] = (keys.new_empty(shape), values.new_empty(shape))
        end = self.held + keys.shape[1]
        for kept, new in zip(store, (keys, values), strict=True):
            kept[:, self.held : end] = new
        return store[0][:, :end], store[1][:, :end]

    def advance(self, steps: int) -> None:
        """Count ``steps`` as held, once every layer has added them."""
        self.held += steps


def causal_mask(
    steps: int, dtype: torch.dtype, device: torch.device, seen: int = 0, documents: Tensor | None = None
) -> Tensor | None:
    """What is added to the scores to hide the future and other documents, or None where plain causal will do.

    ``steps`` new ones stand behind ``seen`` old ones; ``documents`` [B, seen + steps] says which document each is of.
    [B or 1, 1, steps, seen + steps] of 0 and -inf. Made once for all layers.
    """
    if documents is not None and bool((documents == documents[:, :1]).all()):
        documents = None
    if documents is None and (seen == 0 or steps == 1):
        return None
    allowed = torch.ones(steps, seen + steps, dtype=torch.bool, device=device).tril(seen)[None]
    if documents is not None:
        allowed = allowed & (documents[:, seen:, None] == documents[:, None, :])
    mask = torch.zeros(allowed.shape, dtype=dtype, device=device)
    return mask.masked_fill_(~allowed, float("-inf"))[:, None]
