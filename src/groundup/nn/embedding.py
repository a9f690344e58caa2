"""A learned vector for each token or category, and a picture or series cut into pieces that become such vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use
from groundup.nn.init import start
from groundup.nn.kinds import IMAGE, SERIES, divisors


class Embedding(nn.Embedding):
    """Row ``i`` of a learned table for each id ``i``: [...] int64 below vocab_size -> [..., features].

    To tie it to the last layer of a Sequential: ``tied = { "layers.9.weight" = "layers.0.weight" }``.
    """

    takes_ids: ClassVar = True

    def __init__(self, features: int, *, vocab_size: int, init: Use | Callable[[Tensor], object] | None = None) -> None:
        super().__init__(vocab_size, features)
        start(self.weight, None, init)


class Patches(nn.Module):
    """An image cut into ``size`` x ``size`` patches, each projected to ``features``: [B, C, H, W] -> [B, T, F].

    T = (H / size) * (W / size), row by row. Dosovitskiy et al. 2021, section 3.1.
    """

    takes: ClassVar = IMAGE

    def __init__(self, features: int, size: int = 16, *, input_shape: tuple[int, ...], bias: bool = True) -> None:
        super().__init__()
        if len(input_shape) != 3 or input_shape[1] % size or input_shape[2] % size:
            fitting = f"; take {divisors(math.gcd(*input_shape[1:]))}" if len(input_shape) == 3 else ""
            raise RecipeError(
                f"Patches: patches of {size} do not tile a sample of shape {tuple(input_shape)}{fitting}."
            )
        self.projection = nn.Conv2d(input_shape[0], features, size, size, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, T, F]."""
        outputs: Tensor = self.projection(inputs).flatten(2).transpose(1, 2)
        return outputs


class ClassToken(nn.Module):
    """A learned first step, where what stands for the whole series gathers: [B, T, F] -> [B, T + 1, F].

    Devlin et al. 2019; Dosovitskiy et al. 2021, equation 1.
    """

    takes: ClassVar = SERIES

    def __init__(self, *, in_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features))
        nn.init.normal_(self.weight, 0.0, 0.02)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T + 1, F]."""
        first = self.weight.to(inputs.dtype).expand(inputs.shape[0], 1, -1)
        return torch.cat((first, inputs), dim=1)
