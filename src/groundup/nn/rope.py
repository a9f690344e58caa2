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
    "dynamic": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "longrope": ("short_factor", "long_factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""Kinds of ``rope_scaling`` in a config.json, and the numbers each one needs."""


class Rotary(nn.Module):
    """Cosine and sine tables, made once for a type and device and grown when a longer sequence comes.

    ``scaling`` is a config.json's ``rope_scaling``: "linear" (Chen et al. 2023), "dynamic" (NTK-aware by length),
    "yarn" (Peng et al. 2023), "longrope" (Ding et al. 2024) or "llama3"; "dynamic" and "longrope" need
    ``max_positions``, the config's max_position_embeddings. ``head_dim`` may be less than a head's size: then its
    first features alone are turned.
    """

    def __init__(
        self,
        head_dim: int,
        theta: float = 10000.0,
        scaling: Mapping[str, Any] | None = None,
        max_positions: int | None = None,
    ) -> None:
        super().__init__()
        if head_dim % 2:
            raise RecipeError(f"rotary positions need an even head size, read {head_dim}.")
        self.head_dim = head_dim
        self.theta = theta
        self.scaling = dict(scaling or {})
        self.max_positions = max_positions
        self.kind = str(self.scaling.get("rope_type", self.scaling.get("type", "default")))
        self._tables: dict[tuple[torch.dtype, torch.device], tuple[int, Tensor, Tensor]] = {}
        self._check()

    def forward(self, start: int, length: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """(cosine, sine), each [length, 1, head_dim], for the positions from ``start``; see ``rotate``."""
        end = start + length
        regime = self._regime(end)
        known, cosine, sine = self._tables.get((dtype, device), (-1, None, None))
        if cosine is None or sine is None or known != regime or len(cosine) < end:
            # A power of two, so that growing one by one in generation makes a new table seldom.
            positions = torch.arange(1 << max(9, (end - 1).bit_length()), dtype=torch.float32, device="cpu")
            angles = torch.outer(positions, self.frequencies(regime))
            factor = self.attention_factor()
            cosine = (torch.cat((angles.cos(), angles.cos()), dim=-1)[:, None] * factor).to(device, dtype)
            sine = (torch.cat((-angles.sin(), angles.sin()), dim=-1)[:, None] * factor).to(device, dtype)
            self._tables[dtype, device] = (regime, cosine, sine)
        return cosine[start:end], sine[start:end]

    def frequencies(self, length: int = 0) -> Tensor:
        """Angle per position of each pair, [head_dim / 2], for a sequence of ``length``."""
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device="cpu") / self.head_dim
        frequencies = 1.0 / self.theta**exponents
        if self.kind == "linear":
            return frequencies / float(self.scaling["factor"])
        if self.kind == "dynamic":
            return 1.0 / self._dynamic_theta(length) ** exponents
        if self.kind == "longrope":
            longer = length > self.scaling["original_max_position_embeddings"]
            factors = self.scaling["long_factor" if longer else "short_factor"]
            return frequencies / torch.tensor(factors, dtype=torch.float32, device="cpu")
        if self.kind == "yarn":
            return self._yarn(frequencies)
        if self.kind == "llama3":
            return _llama3(frequencies, **{name: float(self.scaling[name]) for name in SCALINGS["llama3"]})
        return frequencies

    def attention_factor(self) -> float:
        """What the tables are multiplied with, so that scores keep their spread over a stretched length."""
        given = self.scaling.get("attention_factor")
        if self.kind not in ("yarn", "longrope") or given is not None:
            return 1.0 if given is None else float(given)
        original = self.scaling["original_max_position_embeddings"]
        factor = self.scaling.get("factor") or (self.max_positions or original) / original
        if self.kind == "longrope":
            return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
        scale, scale_all = self.scaling.get("mscale"), self.scaling.get("mscale_all_dim")
        if scale and scale_all:
            return yarn_scale(factor, scale) / yarn_scale(factor, scale_all)
        return yarn_scale(factor)

    def same_angles(self, held: int, end: int) -> bool:
        """Whether keys of ``held`` steps, turned as they were read, fit those of a sequence that is now ``end`` long.

        "longrope" turns all anew beyond its original length. "dynamic" does so too at each further step; there the
        keys that are held stay as they are, as published implementations have it.
        """
        return self.kind != "longrope" or self._regime(held) == self._regime(end)

    def _regime(self, end: int) -> int:
        """The length that the frequencies are those of; 0 where they hang on no length."""
        if self.kind == "dynamic":
            return max(end, self.max_positions or 0)
        if self.kind == "longrope":
            original = int(self.scaling["original_max_position_embeddings"])
            return original + 1 if end > original else 0
        return 0

    def _dynamic_theta(self, length: int) -> float:
        trained = self.max_positions or 1
        factor = float(self.scaling["factor"])
        stretch = factor * max(length, trained) / trained - (factor - 1)
        return float(self.theta * stretch ** (self.head_dim / (self.head_dim - 2)))

    def _yarn(self, frequencies: Tensor) -> Tensor:
        """Fast pairs left, slow ones stretched, a linear ramp between. Peng et al. 2023, section 3.2."""
        original = float(self.scaling["original_max_position_embeddings"])
        ends = []
        for turns in (self.scaling.get("beta_fast") or 32, self.scaling.get("beta_slow") or 1):
            waves = original / (turns * 2 * math.pi)
            ends.append(self.head_dim * math.log(waves) / (2 * math.log(self.theta)))
        low, high = ends
        if self.scaling.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.head_dim - 1)
        pairs = torch.arange(self.head_dim // 2, dtype=torch.float32, device="cpu")
        kept = 1 - ((pairs - low) / ((high - low) or 0.001)).clamp(0, 1)
        factor = float(self.scaling.get("factor") or (self.max_positions or original) / original)
        return frequencies / factor * (1 - kept) + frequencies * kept

    def _check(self) -> None:
        """Complain now about a scaling that cannot be read."""
        if self.kind not in SCALINGS:
            raise RecipeError(f"rope_scaling: kind {self.kind!r} is not known.{nearest(self.kind, SCALINGS)}")
        missing = [name for name in SCALINGS[self.kind] if name not in self.scaling]
        if missing:
            raise RecipeError(f"rope_scaling: {self.kind!r} needs {', '.join(missing)}; read {self.scaling}.")
        if self.kind in ("dynamic", "longrope") and self.max_positions is None:
            raise RecipeError(f"rope_scaling: {self.kind!r} needs max_positions, the longest length trained on.")
        if self.kind == "longrope":
            for name in ("short_factor", "long_factor"):
                if len(self.scaling[name]) != self.head_dim // 2:
                    raise RecipeError(
                        f"rope_scaling.{name}: read {len(self.scaling[name])} numbers, a head of {self.head_dim} "
                        f"turned features has {self.head_dim // 2} pairs."
                    )


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


def yarn_scale(factor: float, weight: float = 1.0) -> float:
    """0.1 * weight * log(factor) + 1, the temperature of YaRN (Peng et al. 2023, equation 22); 1 for no stretch."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each head's pairs by its position's angles: heads [B, T, H, head_dim], tables [T, 1, head_dim].

    (x, y) becomes (x cos - y sin, y cos + x sin); the minus stands in the first half of the sine table. Tables
    narrower than a head turn its first features and leave the others.
    """
    turned, width = heads, cosine.shape[-1]
    if width < heads.shape[-1]:
        turned = heads[..., :width]
    first, second = turned.chunk(2, dim=-1)
    outputs = turned * cosine + torch.cat((second, first), dim=-1) * sine
    return outputs if width == heads.shape[-1] else torch.cat((outputs, heads[..., width:]), dim=-1)
