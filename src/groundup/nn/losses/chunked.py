"""Cross entropy over a large vocabulary, a chunk of positions at a time, so that the logits never exist as a whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.core.errors import DataError, RecipeError
from groundup.nn.losses.reading import MASKED


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int | None = None) -> Tensor:
    """Mean cross entropy of the logits hidden @ weight.T, which never exist as a whole.

    hidden [N, D], weight [V, D], targets [N] int64 with -100 for masked; a scalar in fp32 (fp64 for fp64 inputs).
    Masked positions are removed first; the rest goes in chunks of ``chunk`` positions, and each chunk's gradient is
    computed at once, while its logits are at hand. Matrix products follow autocast; log-sum-exp and sum do not.
    Raises DataError when every target is masked or one lies outside [0, V).
    """
    if hidden.ndim != 2 or weight.ndim != 2 or targets.shape != hidden.shape[:1] or hidden.shape[1] != weight.shape[1]:
        raise RecipeError(
            f"linear_cross_entropy: expected hidden [N, D], weight [V, D], targets [N]; read {tuple(hidden.shape)}, "
            f"{tuple(weight.shape)}, {tuple(targets.shape)}."
        )
    kept = _kept(targets, len(weight))
    # Few rows keep the memory low, but each chunk passes once over the weight and its gradient.
    rows = chunk or max(256, 2**21 // len(weight))
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, kept, rows, dtype)  # type: ignore[no-untyped-call]
        return loss
    return _in_chunks(hidden, weight, targets, kept, rows, dtype, (False, False))[0]


def _kept(targets: Tensor, num_classes: int) -> Tensor | None:
    """The positions that count, or None for all of them."""
    kept = (targets != MASKED).nonzero().squeeze(1)
    if len(kept) == 0:
        raise DataError(
            f"every one of the {len(targets)} targets is masked ({MASKED}): there is nothing to learn from in this "
            "batch. Look at the loss mask of its samples."
        )
    seen = targets if len(kept) == len(targets) else targets[kept]
    low, high = (int(value) for value in torch.aminmax(seen))
    if low < 0 or high >= num_classes:
        raise DataError(f"targets lie in [{low}, {high}], the vocabulary is [0, {num_classes}).")
    return None if len(kept) == len(targets) else kept


def _in_chunks(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    kept: Tensor | None,
    rows: int,
    dtype: torch.dtype,
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(mean loss, its gradient by the kept rows of hidden, by weight), the gradients where wanted."""
    if kept is not None:
        hidden, targets = hidden.index_select(0, kept), targets.index_select(0, kept)
    exact = torch.promote_types(dtype, torch.float32)
    with torch.autocast(hidden.device.type, enabled=False):
        hidden, table = hidden.to(dtype), weight.to(dtype)
        total = torch.zeros((), dtype=exact, device=hidden.device)
        for_hidden = torch.empty_like(hidden) if wanted[0] else None
        for_weight = torch.zeros(table.shape, dtype=exact, device=table.device) if wanted[1] else None
        for start in range(0, len(hidden), rows):
            cut = slice(start, start + rows)
            labels = targets[cut, None]
            log_p = torch.log_softmax((hidden[cut] @ table.T).to(exact), dim=-1)
            total -= log_p.gather(1, labels).sum()
            if for_hidden is None and for_weight is None:
                continue
            by_logits = log_p.exp_().scatter_add_(1, labels, log_p.new_full((), -1.0).expand_as(labels)).to(dtype)
            if for_hidden is not None:
                torch.mm(by_logits, table, out=for_hidden[cut])
            if for_weight is not None:
                for_weight += by_logits.T @ hidden[cut]
    return total / len(hidden), for_hidden, for_weight


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradient is made in the forward pass, where the logits are, and scaled in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        kept: Tensor | None,
        rows: int,
        dtype: torch.dtype,
    ) -> Tensor:
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        loss, for_hidden, for_weight = _in_chunks(hidden, weight, targets, kept, rows, dtype, wanted)
        ctx.save_for_backward(for_hidden, for_weight, kept)
        ctx.like = (hidden.shape, hidden.dtype, weight.dtype)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_loss: Tensor) -> tuple[Tensor | None, ...]:
        for_hidden, for_weight, kept = ctx.saved_tensors
        shape, hidden_dtype, weight_dtype = ctx.like
        count = shape[0] if kept is None else len(kept)
        scale = by_loss / count
        if for_hidden is not None:
            for_hidden = (for_hidden * scale).to(hidden_dtype)
            if kept is not None:
                for_hidden = for_hidden.new_zeros(shape).index_copy_(0, kept, for_hidden)
        if for_weight is not None:
            for_weight = (for_weight * scale).to(weight_dtype)
        return for_hidden, for_weight, None, None, None, None
