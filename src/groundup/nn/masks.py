"""What attention may not see, as numbers added to its scores: 0 where a key is seen, -inf where it is not.

Shapes: B batch, T new steps, S steps attended to, H heads. A step always sees itself, so that no row is empty.
"""

from __future__ import annotations

import torch
from torch import Tensor


def causal_mask(
    steps: int,
    dtype: torch.dtype,
    device: torch.device,
    seen: int = 0,
    documents: Tensor | None = None,
    window: int | None = None,
    kept: Tensor | None = None,
) -> Tensor | None:
    """Hides the future, what lies ``window`` steps back and more, other documents and padding; None where it need not.

    ``steps`` new ones stand behind ``seen`` old ones; ``documents`` [B, seen + steps] says which document each is of,
    ``kept`` [B, seen + steps] is False where one is padding. [B or 1, 1, steps, seen + steps]. None says that
    ``attend`` with ``causal`` and ``window`` does it by itself. Made once for all layers of one window.
    """
    documents, kept = _telling(documents, kept)
    if documents is None and kept is None and (seen == 0 or steps == 1):
        return None
    allowed = torch.ones(steps, seen + steps, dtype=torch.bool, device=device).tril(seen)
    if window is not None:
        allowed = allowed.triu(seen - window + 1)
    return _additive(allowed, seen, dtype, documents, kept)


def full_mask(
    steps: int,
    dtype: torch.dtype,
    device: torch.device,
    documents: Tensor | None = None,
    window: int | None = None,
    kept: Tensor | None = None,
) -> Tensor | None:
    """Hides what lies ``window`` steps away and more, other documents and padding; None where it need not.

    ``documents`` and ``kept`` [B, steps] as for ``causal_mask``. [B or 1, 1, steps, steps].
    """
    documents, kept = _telling(documents, kept)
    if documents is None and kept is None and (window is None or window >= steps):
        return None
    allowed = torch.ones(steps, steps, dtype=torch.bool, device=device)
    if window is not None:
        allowed = allowed.tril(window - 1).triu(1 - window)
    return _additive(allowed, 0, dtype, documents, kept)


def triangle(steps: int, seen: int, dtype: torch.dtype, device: torch.device, window: int | None = None) -> Tensor:
    """Hides the future and what lies outside the window, always written out: [1, 1, steps, seen]."""
    allowed = torch.ones(steps, seen, dtype=torch.bool, device=device).tril(seen - steps)
    if window is not None:
        allowed = allowed.triu(seen - steps - window + 1)
    return torch.zeros(1, 1, steps, seen, dtype=dtype, device=device).masked_fill_(~allowed, float("-inf"))


def padding_mask(lengths: Tensor, steps: int, dtype: torch.dtype) -> Tensor | None:
    """Hides the padding of a series from whatever looks at it: [B, 1, 1, steps]; None where there is none.

    ``lengths`` [B] are to be 1 or more: what sees nothing at all has no softmax.
    """
    _, kept = _telling(None, kept_of(lengths, steps))
    if kept is None:
        return None
    return torch.zeros(kept.shape, dtype=dtype, device=kept.device).masked_fill_(~kept, float("-inf"))[:, None, None]


def kept_of(lengths: Tensor, steps: int) -> Tensor:
    """Which steps of a padded series count: lengths [B] -> [B, steps] bool."""
    return torch.arange(steps, device=lengths.device)[None] < lengths[:, None]


def _telling(documents: Tensor | None, kept: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """None for documents that are one and for padding that is none."""
    if torch.compiler.is_compiling():  # what is asked of values here would break the graph
        return documents, kept
    if documents is not None and documents.device.type != "meta" and bool((documents == documents[:, :1]).all()):
        documents = None
    if kept is not None and kept.device.type != "meta" and bool(kept.all()):
        kept = None
    return documents, kept


def _additive(allowed: Tensor, seen: int, dtype: torch.dtype, documents: Tensor | None, kept: Tensor | None) -> Tensor:
    allowed = allowed[None]
    if documents is not None:
        allowed = allowed & (documents[:, seen:, None] == documents[:, None, :])
    if kept is not None:
        itself = torch.ones_like(allowed).triu(seen).tril(seen)
        allowed = allowed & (kept[:, None, :] | itself)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, float("-inf"))[:, None]
