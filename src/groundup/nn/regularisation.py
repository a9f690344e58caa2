"""Layers that leave something out while training, so that nothing relies on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from groundup.core.errors import RecipeError


class DropPath(nn.Module):
    """What a residual branch gives, left out for some samples and made larger for the others: [B, ...] -> [B, ...].

    In training each sample's is 0 with probability ``p`` and divided by 1 - p otherwise; in evaluation it stays.
    Huang et al. 2016 (stochastic depth), section 3. Put it last in the layers of a ``Residual``.
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise RecipeError(f"DropPath.p: read {p}, expected at least 0 and less than 1.")
        self.p = p

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, ...] -> [B, ...]."""
        if not self.training or self.p == 0:
            return inputs
        kept = torch.rand(inputs.shape[0], *[1] * (inputs.ndim - 1), device=inputs.device) >= self.p
        return inputs * kept.to(inputs.dtype) / (1 - self.p)

    def extra_repr(self) -> str:
        """What the module's printed form shows."""
        return f"p={self.p}"
