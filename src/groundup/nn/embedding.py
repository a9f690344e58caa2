"""A learned vector for each token or category."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from groundup.core.use import Use
from groundup.nn.init import start


class Embedding(nn.Embedding):
    """Row ``i`` of a learned table for each id ``i``: [...] int64 below vocab_size -> [..., features]."""

    def __init__(self, features: int, *, vocab_size: int, init: Use | Callable[[Tensor], object] | None = None) -> None:
        super().__init__(vocab_size, features)
        start(self.weight, None, init)
