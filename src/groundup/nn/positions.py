"""Where a step stands: added to the input (learned or sinusoidal), or entering attention (rotary, ALiBi)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from groundup.core.errors import DataError, RecipeError
from groundup.nn.kinds import SERIES
from groundup.nn.rope import Rotary

__all__ = ["ALiBi", "Rotary"]


class LearnedPositions(nn.Module):
    """inputs + a learned vector for each place: [B, T, F] -> [B, T, F]. Gehring et al. 2017, section 3.1.

    ``length`` left open is that of the inputs it is made for; a longer series is refused.
    """

    takes: ClassVar = SERIES

    def __init__(
        self,
        length: int | None = None,
        std: float = 0.02,
        *,
        in_features: int,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if length is None and input_shape is None:
            raise RecipeError("LearnedPositions: give length, the longest series that it will see.")
        steps = length if length is not None else (input_shape or (0,))[0]
        self.num_embeddings = steps  # optimizers treat it as an embedding by this
        self.weight = nn.Parameter(torch.empty(steps, in_features))
        nn.init.normal_(self.weight, 0.0, std)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T, F]. Raises DataError where T is longer than the table."""
        steps = inputs.shape[1]
        if steps > len(self.weight):
            raise DataError(f"LearnedPositions: {steps} steps, and {len(self.weight)} places were learned.")
        return inputs + self.weight[:steps]


class SinusoidalPositions(nn.Module):
    """inputs + sines and cosines of the place at wavelengths from 2 pi to ``longest`` * 2 pi: [B, T, F] -> [B, T, F].

    Feature 2i is sin(t / longest^(2i / F)), feature 2i + 1 its cosine. Vaswani et al. 2017, section 3.5.
    """

    takes: ClassVar = SERIES

    def __init__(self, longest: float = 10000.0, *, in_features: int) -> None:
        super().__init__()
        if in_features % 2:
            raise RecipeError(f"SinusoidalPositions: sines and cosines need an even width, read {in_features}.")
        self.longest = longest
        self.in_features = in_features

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        return inputs + sinusoids(inputs.shape[1], self.in_features, self.longest, inputs.device).to(inputs.dtype)


def sinusoids(steps: int, features: int, longest: float, device: torch.device) -> Tensor:
    """The table [steps, features] of SinusoidalPositions, in fp32."""
    exponents = torch.arange(0, features, 2, dtype=torch.float32, device=device) / features
    angles = torch.outer(torch.arange(steps, dtype=torch.float32, device=device), longest**-exponents)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


class ALiBi(nn.Module):
    """A penalty on each score that grows with the distance, steeper in some heads: -slope * |t - s|.

    With H heads a power of two the slopes are 2^(-8 / H), 2^(-16 / H), ...; otherwise those of the power of two
    below, then every second one of the power above. Press et al. 2022, section 3.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        below = 2 ** math.floor(math.log2(num_heads))
        slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
        slopes += [2 ** (-8 * (i + 1) / (2 * below)) for i in range(0, 2 * (num_heads - below), 2)]
        self.slopes = slopes

    def forward(self, steps: int, seen: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """[1, H, steps, seen], for the last ``steps`` of ``seen``; to be added to a mask."""
        places = torch.arange(seen, dtype=torch.float32, device=device)
        distances = (places[seen - steps :, None] - places).abs()
        slopes = torch.tensor(self.slopes, dtype=torch.float32, device=device)
        return (-slopes[:, None, None] * distances)[None].to(dtype)
