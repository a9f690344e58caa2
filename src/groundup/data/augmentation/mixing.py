"""Samples mixed with one another, and their targets with them.

The partner of a sample is drawn by the sample's own generator from the whole of train, not from whoever happens to
stand in the same batch: so what a sample becomes depends on (seed, epoch, row) alone. A step's ``draw_mix`` gives
(partner's position, the sample's own share, top, left, bottom, right); ``mix`` acts on inputs [B, ...] of any shape,
and ``mix_targets`` on what goes with them. A step that mixes stands last: it mixes finished samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from groundup.core.errors import RecipeError
from groundup.data.augmentation.affine import need

Drawn = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class MixUp:
    """Mix each sample with another of train: s x + (1 - s) x', s from Beta(``alpha``, ``alpha``); targets alike.

    Zhang et al. 2018, equation 1. Classes become probabilities of classes, so the loss must take these, as
    ``cross_entropy`` does. With 1 - ``probability`` a sample stays as it is.
    """

    alpha: float = 0.2
    probability: float = 1.0

    def __post_init__(self) -> None:
        need(self.alpha > 0, "alpha", self.alpha, "more than 0")
        need(0 <= self.probability <= 1, "probability", self.probability, "0 to 1")

    def draw_mix(self, rng: np.random.Generator, count: int, shape: Sequence[int]) -> tuple[float, ...]:
        """(partner, share) of one sample among ``count``."""
        partner, share = rng.integers(count), rng.beta(self.alpha, self.alpha)
        return (float(partner), share if rng.uniform() < self.probability else 1.0)

    def mix(self, inputs: Tensor, others: Tensor, drawn: Drawn) -> Tensor:
        """share * inputs + (1 - share) * others; with a share of 1 bit for bit the inputs."""
        return mix_values(inputs, others, drawn[:, 1])


@dataclasses.dataclass(frozen=True)
class CutMix:
    """Paste a box of another image of train; classes mix by area. Yun et al. 2019, equations 1 and 2.

    The box has 1 - s of the area before it is cut off at the rim, s from Beta(``alpha``, ``alpha``), and the image's
    own shape; its centre lies anywhere. The share that counts is that of the pixels which stayed.
    """

    alpha: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        need(self.alpha > 0, "alpha", self.alpha, "more than 0")
        need(0 <= self.probability <= 1, "probability", self.probability, "0 to 1")

    def draw_mix(self, rng: np.random.Generator, count: int, shape: Sequence[int]) -> tuple[float, ...]:
        """(partner, share, top, left, bottom, right) of one image [C, H, W] among ``count``."""
        if len(shape) != 3:
            raise RecipeError(f"augment: CutMix pastes a part of an image; these samples have the shape {list(shape)}.")
        height, width = shape[1:]
        partner, edge = rng.integers(count), np.sqrt(1 - rng.beta(self.alpha, self.alpha))
        x, y, used = rng.integers(width), rng.integers(height), rng.uniform() < self.probability
        across, down = (int(width * edge), int(height * edge)) if used else (0, 0)
        left, right = np.clip([x - across // 2, x - across // 2 + across], 0, width)
        top, bottom = np.clip([y - down // 2, y - down // 2 + down], 0, height)
        share = 1 - (right - left) * (bottom - top) / (height * width)
        return (float(partner), float(share), float(top), float(left), float(bottom), float(right))

    def mix(self, inputs: Tensor, others: Tensor, drawn: Drawn) -> Tensor:
        """The other's pixels inside the box."""
        from groundup.data.augmentation.degrading import inside

        return torch.where(inside(inputs, drawn[:, 2:6]), others, inputs)


def mix_values(values: Tensor, others: Tensor, shares: Drawn) -> Tensor:
    """share * values + (1 - share) * others, [B, ...]; with a share of 1 bit for bit the values."""
    share = torch.from_numpy(shares.copy()).to(values.device, values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    return values * share + others * (1 - share)


def partners(drawn: Drawn) -> npt.NDArray[np.int64]:
    """The positions of the samples to mix with [B]."""
    return drawn[:, 0].astype(np.int64)


def as_probabilities(targets: Tensor, num_classes: int) -> Tensor:
    """Class numbers int64 [B] as float32 [B, C], 1 at the class."""
    return torch.nn.functional.one_hot(targets, num_classes).to(torch.float32)


def mixes(step: object) -> bool:
    """Whether a step mixes samples."""
    return hasattr(step, "draw_mix")


def split_mixing(augment: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The steps that act on one sample alone, and those behind them that mix. RecipeError for another order."""
    first = next((i for i, step in enumerate(augment) if mixes(step)), len(augment))
    for step in augment[first:]:
        if not mixes(step):
            raise RecipeError(
                f"augment: {type(step).__name__} stands behind {type(augment[first]).__name__}, which mixes finished "
                "samples; put the steps that mix last."
            )
    return list(augment[:first]), list(augment[first:])
