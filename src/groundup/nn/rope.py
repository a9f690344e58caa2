"""Rotary positions: each pair of a head's features is turned by an angle that grows with the position.

The product of a turned query and key depends on their distance alone. Su et al. 2021, section 3.4; the pairs
are (i, i + half), as in published Llama checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from groundup.core.errors import RecipeError, nearest

SCALINGS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""Kinds of ``rope_scaling`` in a config.json, and the numbers each one needs."""


class Rotary(nn.Module):
    """Cosine and sine tables, made once for a type and device and grown when a longer sequence comes.

    ``scaling`` is a config.json's ``rope_scaling`` of kind "default", "linear" or "llama3".
    """

    def __init__(self, head_dim: int, theta: float = 10000.0, scaling: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if head_dim % 2:
            raise RecipeError(f"rotary positions need an even head size, read {head_dim}.")
        self.head_dim = head_dim
        self.theta = theta
        self.scaling = dict(scaling or {})
        self._tables: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}
        self._frequencies()  # complains now about a scaling that cannot be read

    def forward(self, start: int, length: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """(cosine, sine), each [length, 1, head_dim], for the positions from ``start``; see ``rotate``."""
        end = start + length
        tables = self._tables.get((dtype, device))
        if tables is None or len(tables[0]) < end:
            # A power of two, so that growing one by one in generation makes a new table seldom.
            positions = torch.arange(1 << max(9, (end - 1).bit_length()), dtype=torch.float32, device="cpu")
            angles = torch.outer(positions, self._frequencies())
            cosine = torch.cat((angles.cos(), angles.cos()), dim=-1)[:, None]
            sine = torch.cat((-angles.sin(), angles.sin()), dim=-1)[:, None]
            tables = (cosine.to(device, dtype), sine.to(device, dtype))
            self._tables[dtype, device] = tables
        return tables[0][start:end], tables[1][start:end]

    def _frequencies(self) -> Tensor:
        """Angle per position of each pair, [head_dim / 2]."""
        kind = self.scaling.get("rope_type", self.scaling.get("type", "default"))
        if kind not in SCALINGS:
            raise RecipeError(f"rope_scaling: kind {kind!r} is not known.{nearest(str(kind), SCALINGS)}")
        missing = [name for name in SCALINGS[kind] if name not in self.scaling]
        if missing:
            raise RecipeError(f"rope_scaling: {kind!r} needs {', '.join(missing)}; read {self.scaling}.")
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device="cpu") / self.head_dim
        frequencies = 1.0 / self.theta**exponents
        numbers = {name: float(self.scaling[name]) for name in SCALINGS[kind]}
        if kind == "llama3":
            return _llama3(frequencies, **numbers)
        return frequencies / numbers.get("factor", 1.0)


def _llama3(
    frequencies: Tensor,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_max_position_embeddings: float,
) -> Tensor:
    """Long waves stretched by ``factor``, short ones left, a linear blend between. Llama 3.1's released code."""
    waves = original_max_position_embeddings * frequencies / (2 * math.pi)  # how often each turns in the old length
    blend = ((waves - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0)
    return frequencies * (blend + (1.0 - blend) / factor)


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each head's pairs by its position's angles: heads [B, T, H, head_dim], tables [T, 1, head_dim].

    (x, y) becomes (x cos - y sin, y cos + x sin); the minus stands in the first half of the sine table.
    """
    first, second = heads.chunk(2, dim=-1)
    return heads * cosine + torch.cat((second, first), dim=-1) * sine
