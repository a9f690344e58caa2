"""Attention layers: over a series itself, over another one, and through a latent that is small to keep.

Shapes: B batch, T steps of the input, S steps attended to, H query heads, G key/value heads, D head size, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use, make
from groundup.nn.attending import Score, attend
from groundup.nn.cache import KeyValueCache
from groundup.nn.kinds import SERIES, divisors
from groundup.nn.masks import full_mask, kept_of, triangle
from groundup.nn.norm import RMSNorm
from groundup.nn.positions import ALiBi, Rotary
from groundup.nn.rope import rotate


class Attention(nn.Module):
    """softmax(q k^T / sqrt(head size)) v over heads, where several query heads share one key/value head.

    [B, T, F] -> [B, T, F]. Vaswani et al. 2017, equation 1; grouped: Ainslie et al. 2023, one key/value head for all:
    Shazeer 2019. ``causal``: a step sees itself and what is before it; ``window``: only so many steps, itself among
    them, or so many to either side where it is not causal (Beltagy et al. 2020). ``positions`` is ``Rotary`` or
    ``ALiBi``. ``bias`` "inputs" gives one to query, key and value alone. ``norm`` is one for queries and keys, over
    each head or over "all" heads together (Henry et al. 2020). ``scale`` replaces 1 / sqrt(head size); ``cap`` bends
    scores to stay within +-cap (Gemma 2).
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
        window: int | None = None,
        positions: Use | nn.Module | None = None,
        bias: bool | Literal["inputs"] = False,
        norm: Use | Callable[..., nn.Module] | None = None,
        norm_over: Literal["head", "all"] = "head",
        scale: float | None = None,
        cap: float | None = None,
    ) -> None:
        super().__init__()
        groups = num_key_value_heads or num_heads
        self.head_dim = head_dim or _head_dim("Attention", num_heads, groups, in_features)
        if num_heads % groups:
            raise RecipeError(
                f"Attention: {groups} key/value heads must divide the {num_heads} heads; take {divisors(num_heads)}."
            )
        self.causal = causal
        self.window = window
        self.score = Score(scale, cap)
        self.norm_over = norm_over
        made = (
            make(positions, "positions", head_dim=self.head_dim, num_heads=num_heads)
            if isinstance(positions, Use)
            else positions
        )
        self.positions = made
        wide, narrow = num_heads * self.head_dim, groups * self.head_dim
        self.query = nn.Linear(in_features, wide, bias=bool(bias))
        self.key = nn.Linear(in_features, narrow, bias=bool(bias))
        self.value = nn.Linear(in_features, narrow, bias=bool(bias))
        self.output = nn.Linear(wide, in_features, bias=bias is True)
        over_all = norm_over == "all"
        self.query_norm = _made_norm(norm, wide if over_all else self.head_dim)
        self.key_norm = _made_norm(norm, narrow if over_all else self.head_dim)

    def forward(
        self,
        inputs: Tensor,
        rotary: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """[B, T, F] -> [B, T, F].

        ``rotary``: cosine and sine [T, 1, D], else its own ``positions``. ``mask``: [B, 1 or H, T, S], added to the
        scores; without one the layer is causal, or sees all, within its window, and ``lengths`` [B] hide what lies
        behind each series. ``cache`` adds this input's keys and values as ``layer``'s, and attends to all it holds.
        """
        steps = inputs.shape[1]
        q_BTHD = self._heads(self.query(inputs), self.query_norm)
        k_BTGD = self._heads(self.key(inputs), self.key_norm)
        v_BTGD = self.value(inputs).unflatten(-1, (-1, self.head_dim))
        if rotary is None and isinstance(self.positions, Rotary):
            held = 0 if cache is None else cache.held
            rotary = self.positions(held, steps, q_BTHD.dtype, q_BTHD.device)
        if rotary is not None:
            q_BTHD, k_BTGD = rotate(q_BTHD, *rotary), rotate(k_BTGD, *rotary)
        if cache is not None:
            k_BTGD, v_BTGD = cache.add(layer, k_BTGD, v_BTGD)
        mask = self._mask(mask, q_BTHD, k_BTGD.shape[1], lengths)
        attended = attend(q_BTHD, k_BTGD, v_BTGD, mask, self.causal, self.window, self.score)
        outputs: Tensor = self.output(attended.flatten(2))
        return outputs

    def _heads(self, projected: Tensor, norm: nn.Module | None) -> Tensor:
        """[B, T, H * D] -> [B, T, H, D], normalised where the layer does so."""
        if norm is not None and self.norm_over == "all":
            projected = norm(projected)
        heads = torch.unflatten(projected, -1, (-1, self.head_dim))
        if norm is not None and self.norm_over == "head":
            heads = norm(heads)
        return heads

    def _mask(self, mask: Tensor | None, q_BTHD: Tensor, seen: int, lengths: Tensor | None) -> Tensor | None:
        """The mask as given, or one that says what the kernel does not do by itself."""
        steps, dtype, device = q_BTHD.shape[1], q_BTHD.dtype, q_BTHD.device
        slopes = self.positions if isinstance(self.positions, ALiBi) else None
        if mask is None and not self.causal:
            kept = None if lengths is None else kept_of(lengths, steps)
            mask = full_mask(steps, dtype, device, window=self.window, kept=kept)
        elif mask is None and slopes is not None:  # the penalty goes over the future, so that has to be hidden too
            mask = triangle(steps, seen, dtype, device, self.window)
        if slopes is None:
            return mask
        penalties: Tensor = slopes(steps, seen, dtype, device)
        return penalties if mask is None else mask + penalties


class CrossAttention(nn.Module):
    """Attention from a series to another: queries of the inputs, keys and values of the context.

    [B, T, F] and [B, S, context_features] -> [B, T, F]. Vaswani et al. 2017, section 3.2.3. ``context_features`` left
    open are the inputs' own.
    """

    takes: ClassVar = SERIES

    def __init__(
        self,
        num_heads: int,
        num_key_value_heads: int | None = None,
        *,
        in_features: int,
        context_features: int | None = None,
        head_dim: int | None = None,
        bias: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        groups = num_key_value_heads or num_heads
        self.head_dim = head_dim or _head_dim("CrossAttention", num_heads, groups, in_features)
        self.score = Score(scale)
        context = context_features or in_features
        self.query = nn.Linear(in_features, num_heads * self.head_dim, bias=bias)
        self.key = nn.Linear(context, groups * self.head_dim, bias=bias)
        self.value = nn.Linear(context, groups * self.head_dim, bias=bias)
        self.output = nn.Linear(num_heads * self.head_dim, in_features, bias=bias)

    def forward(
        self, inputs: Tensor, context: Tensor | tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """[B, T, F] -> [B, T, F].

        ``context`` [B, S, context_features], or what ``remembered`` made of it, once for all steps of a generation;
        the inputs themselves where it is None. ``mask`` [B, 1, T or 1, S] is added to the scores.
        """
        context = inputs if context is None else context
        keys, values = context if isinstance(context, tuple) else self.remembered(context)
        q_BTHD = self.query(inputs).unflatten(-1, (-1, self.head_dim))
        outputs: Tensor = self.output(attend(q_BTHD, keys, values, mask, score=self.score).flatten(2))
        return outputs

    def remembered(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, S, G, D] of a context, to be kept and passed instead of it."""
        keys, values = self.key(context), self.value(context)
        return keys.unflatten(-1, (-1, self.head_dim)), values.unflatten(-1, (-1, self.head_dim))


class LatentAttention(nn.Module):
    """Attention whose keys and values are made from one small latent a step, which is all that a cache keeps (MLA).

    [B, T, F] -> [B, T, F]. Each head's query and key have ``plain_dim`` features from latents and ``rotary_dim`` that
    are turned by position; the turned key is one for all heads. ``query_rank`` None makes queries from the input
    itself. DeepSeek-AI 2024 (DeepSeek-V2), section 2.1, equations 37 to 47. The rotary features lie in halves,
    (i, i + half); published DeepSeek weights interleave them, and are to be reordered as they are read.
    """

    takes: ClassVar = SERIES

    def __init__(
        self,
        num_heads: int,
        key_value_rank: int,
        query_rank: int | None = None,
        *,
        in_features: int,
        plain_dim: int = 128,
        rotary_dim: int = 64,
        value_dim: int = 128,
        bias: bool = False,
        eps: float = 1e-6,
        scale: float | None = None,
        positions: Use | nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.dims = (plain_dim, rotary_dim, value_dim)
        self.score = Score(scale)
        made = make(positions, "positions", head_dim=rotary_dim) if isinstance(positions, Use) else positions
        self.positions = made
        wide = num_heads * (plain_dim + rotary_dim)
        self.query_down = self.query_norm = None
        if query_rank is not None:
            self.query_down = nn.Linear(in_features, query_rank, bias=bias)
            self.query_norm = RMSNorm(in_features=query_rank, eps=eps)
        self.query = nn.Linear(query_rank or in_features, wide, bias=False)
        self.key_value_down = nn.Linear(in_features, key_value_rank + rotary_dim, bias=bias)
        self.key_value_norm = RMSNorm(in_features=key_value_rank, eps=eps)
        self.key_value = nn.Linear(key_value_rank, num_heads * (plain_dim + value_dim), bias=False)
        self.output = nn.Linear(num_heads * value_dim, in_features, bias=bias)

    def forward(
        self,
        inputs: Tensor,
        rotary: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """[B, T, F] -> [B, T, F], causal; the rest as ``Attention`` takes it, with tables of size ``rotary_dim``."""
        plain, turned, width = self.dims
        latent = (
            inputs if self.query_down is None or self.query_norm is None else self.query_norm(self.query_down(inputs))
        )
        q_BTHD = self.query(latent).unflatten(-1, (-1, plain + turned))
        latent_BTR, k_turned = self.key_value_down(inputs).split((self.key_value_norm.weight.numel(), turned), dim=-1)
        latent_BTR, k_turned = self.key_value_norm(latent_BTR), k_turned[:, :, None]
        if rotary is None and isinstance(self.positions, Rotary):
            rotary = self.positions(0 if cache is None else cache.held, inputs.shape[1], inputs.dtype, inputs.device)
        if rotary is not None:
            q_BTHD = torch.cat((q_BTHD[..., :plain], rotate(q_BTHD[..., plain:], *rotary)), dim=-1)
            k_turned = rotate(k_turned, *rotary)
        if cache is not None:
            kept, k_turned = cache.add(layer, latent_BTR[:, :, None], k_turned)
            latent_BTR = kept[:, :, 0]
        k_plain, v_BSHD = self.key_value(latent_BTR).unflatten(-1, (-1, plain + width)).split((plain, width), dim=-1)
        k_BSHD = torch.cat((k_plain, k_turned.expand(-1, -1, k_plain.shape[2], -1)), dim=-1)
        outputs: Tensor = self.output(attend(q_BTHD, k_BSHD, v_BSHD, mask, True, None, self.score).flatten(2))
        return outputs


def _head_dim(layer: str, num_heads: int, groups: int, in_features: int) -> int:
    if num_heads < 1 or in_features % num_heads:
        raise RecipeError(
            f"{layer}: {num_heads} heads must divide the {in_features} features; take {divisors(in_features)} of them, "
            "or give head_dim."
        )
    if num_heads % groups:
        raise RecipeError(
            f"{layer}: {groups} key/value heads must divide the {num_heads} heads; take {divisors(num_heads)}."
        )
    return in_features // num_heads


def _made_norm(norm: Use | Callable[..., nn.Module] | None, width: int) -> nn.Module | None:
    if norm is None:
        return None
    made: Any = make(norm, "norm", in_features=width) if isinstance(norm, Use) else norm(in_features=width)
    if not isinstance(made, nn.Module):
        raise RecipeError(f"Attention.norm: read {norm!r}, expected a layer such as {{ use = 'RMSNorm' }}.")
    return made
