"""Blur, noise and holes: what a worse camera or something in the way would do to images of values 0 to 1.

Steps have ``draw`` and ``change`` as those of colour do.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from groundup.data.augmentation.affine import need
from groundup.data.augmentation.colour import Drawn, per_image, where

REACH = 3
"""A Gaussian kernel is cut off at so many deviations, where 0.3% of it are left."""


@dataclasses.dataclass(frozen=True)
class GaussianBlur:
    """With ``probability``, blur by a Gaussian whose deviation is drawn evenly from ``low`` to ``high`` pixels.

    The kernel reaches ``3 * high`` pixels each way; beyond the edge stands the mirrored image.
    """

    low: float = 0.1
    high: float = 2.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        need(0 < self.low <= self.high, "low, high", (self.low, self.high), "0 < low <= high, in pixels")
        need(0 <= self.probability <= 1, "probability", self.probability, "0 to 1")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[float, ...]:
        """The deviation, 0 for none."""
        deviation = rng.uniform(self.low, self.high)
        return (deviation if rng.uniform() < self.probability else 0.0,)

    def change(self, images: Tensor, drawn: Drawn) -> Tensor:
        """The kernel first across, then down."""
        reach = max(1, round(REACH * self.high))
        offsets = np.arange(-reach, reach + 1)
        deviations = np.where(drawn[:, :1] > 0, drawn[:, :1], 1.0)
        weights = np.exp(-0.5 * (offsets / deviations) ** 2)
        weights /= weights.sum(axis=1, keepdims=True)
        blurred = _convolve(_convolve(images, weights, 3), weights, 2)
        return where(drawn[:, 0] > 0, blurred, images)


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
    """Add to each value its own normal noise, with a deviation drawn evenly from 0 to ``deviation`` (1 is white).

    The noise itself comes from the image's own generator on the CPU, so that it is the same on any device.
    """

    deviation: float

    def __post_init__(self) -> None:
        need(0 <= self.deviation <= 1, "deviation", self.deviation, "0 to 1")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[float, ...]:
        """The deviation, and the seed of the noise."""
        return (rng.uniform(0, self.deviation), float(rng.integers(2**53)))

    def change(self, images: Tensor, drawn: Drawn) -> Tensor:
        """images + deviation * noise, cut off at black and white."""
        shape = tuple(images.shape[1:])
        fields = [np.random.default_rng(int(seed)).standard_normal(shape, dtype=np.float32) for seed in drawn[:, 1]]
        noise = torch.from_numpy(np.stack(fields)).to(images.device, images.dtype)
        return (images + noise * per_image(drawn[:, 0], images)).clamp_(0, 1)


@dataclasses.dataclass(frozen=True)
class Cutout:
    """With ``probability``, a square hole of ``value``, its edge ``fraction`` of the shorter side, its centre anywhere.

    At the rim a part of the square lies outside. DeVries and Taylor 2017. ``value`` 0 is black, 1 white.
    """

    fraction: float = 0.5
    value: float = 0.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        need(0 < self.fraction <= 1, "fraction", self.fraction, "above 0 to 1")
        need(0 <= self.value <= 1, "value", self.value, "0 to 1")
        need(0 <= self.probability <= 1, "probability", self.probability, "0 to 1")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[float, ...]:
        """Top, left, bottom and right of the hole, in whole pixels."""
        edge = max(1, round(self.fraction * min(height, width)))
        top, left = rng.integers(height) - edge // 2, rng.integers(width) - edge // 2
        if rng.uniform() >= self.probability:
            return (0.0, 0.0, 0.0, 0.0)
        return tuple(
            float(np.clip(place, 0, most))
            for place, most in ((top, height), (left, width), (top + edge, height), (left + edge, width))
        )

    def change(self, images: Tensor, drawn: Drawn) -> Tensor:
        """The square filled."""
        return torch.where(inside(images, drawn), torch.full_like(images, self.value), images)


def inside(images: Tensor, boxes: Drawn) -> Tensor:
    """Which pixels lie in each image's box (top, left, bottom, right), bool [B, 1, H, W]."""
    height, width = images.shape[-2:]
    top, left, bottom, right = torch.from_numpy(boxes.T.copy()).to(images.device)[:, :, None]
    down = torch.arange(height, device=images.device)
    across = torch.arange(width, device=images.device)
    rows, columns = (down >= top) & (down < bottom), (across >= left) & (across < right)
    both: Tensor = rows[:, None, :, None] & columns[:, None, None, :]
    return both


def _convolve(images: Tensor, weights: Drawn, dim: int) -> Tensor:
    """The sum over shifted images, in one order for every batch; a library's convolution may choose its own."""
    reach = (weights.shape[1] - 1) // 2
    padded = _mirrored(images, reach, dim)
    total = torch.zeros_like(images)
    for k in range(weights.shape[1]):
        total.addcmul_(padded.narrow(dim, k, images.shape[dim]), per_image(weights[:, k], images))
    return total


def _mirrored(images: Tensor, reach: int, dim: int) -> Tensor:
    """Wider by ``reach`` at both ends of a dimension, the edge's own pixel not doubled; again and again if small."""
    size = images.shape[dim]
    if size == 1:
        return functional.pad(images, (reach, reach) if dim == 3 else (0, 0, reach, reach), mode="replicate")
    places = np.abs(np.arange(-reach, size + reach)) % (2 * size - 2)
    places = np.minimum(places, 2 * size - 2 - places)
    return images.index_select(dim, torch.from_numpy(places).to(images.device))
