"""Geometric augmentation: each step is a matrix, and the product of all moves the pixels once.

Coordinates are pixels from the image's centre, x to the right and y down. A step's ``matrix`` is 3 x 3 in
homogeneous coordinates and says where a point of the image goes; the first step in a recipe acts first. What each
image draws depends on (seed, epoch, row) alone, so it is the same however the images are batched.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Matrix = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Rotate:
    """Turn by an angle drawn evenly from -``degrees`` to ``degrees``; positive is counter-clockwise as one sees it."""

    degrees: float

    def __post_init__(self) -> None:
        need(0 <= self.degrees <= 180, "degrees", self.degrees, "0 to 180")

    def matrix(self, rng: np.random.Generator, height: int, width: int) -> Matrix:
        """[[cos a, sin a], [-sin a, cos a]], for y points down."""
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        cosine, sine = np.cos(angle), np.sin(angle)
        return np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])


@dataclasses.dataclass(frozen=True)
class Translate:
    """Move by up to ``fraction`` of the width and, drawn apart, of the height, either way."""

    fraction: float

    def __post_init__(self) -> None:
        need(0 <= self.fraction <= 1, "fraction", self.fraction, "0 to 1")

    def matrix(self, rng: np.random.Generator, height: int, width: int) -> Matrix:
        """Moves by (x, y) pixels."""
        x, y = rng.uniform(-self.fraction, self.fraction, size=2) * (width, height)
        return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


@dataclasses.dataclass(frozen=True)
class Scale:
    """Grow or shrink about the centre by a factor from ``low`` to ``high``, its logarithm drawn evenly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        need(0 < self.low <= self.high, "low, high", (self.low, self.high), "0 < low <= high")

    def matrix(self, rng: np.random.Generator, height: int, width: int) -> Matrix:
        """The same factor both ways."""
        factor = self.low * (self.high / self.low) ** rng.uniform()
        return np.diag([factor, factor, 1.0])


@dataclasses.dataclass(frozen=True)
class Shear:
    """Slant sideways by an angle drawn evenly from -``degrees`` to ``degrees``: x moves by y tan(angle)."""

    degrees: float

    def __post_init__(self) -> None:
        need(0 <= self.degrees < 90, "degrees", self.degrees, "0 to below 90")

    def matrix(self, rng: np.random.Generator, height: int, width: int) -> Matrix:
        """[[1, tan a], [0, 1]]."""
        slope = np.tan(np.deg2rad(rng.uniform(-self.degrees, self.degrees)))
        return np.array([[1.0, slope, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirror with a probability: left and right ("horizontal"), or top and bottom ("vertical")."""

    probability: float = 0.5
    axis: Literal["horizontal", "vertical"] = "horizontal"

    def __post_init__(self) -> None:
        need(0 <= self.probability <= 1, "probability", self.probability, "0 to 1")

    def matrix(self, rng: np.random.Generator, height: int, width: int) -> Matrix:
        """diag(-1, 1) or diag(1, -1), or neither."""
        sign = -1.0 if rng.uniform() < self.probability else 1.0
        return np.diag([sign, 1.0, 1.0] if self.axis == "horizontal" else [1.0, sign, 1.0])


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """A part of the image, drawn anew, enlarged to the whole image's size; what GoogLeNet was trained on.

    The part's share of the area is drawn evenly from ``low`` to ``high``, the logarithm of its width / height from that
    of ``narrowest`` to ``widest``, its place evenly among those inside; after ten draws that do not fit, the largest
    part of an allowed shape about the centre is taken. Szegedy et al. 2015, section 6. Give ``Images`` a ``size`` with
    room for it: what is enlarged from few pixels is blurred.
    """

    low: float = 0.08
    high: float = 1.0
    narrowest: float = 3 / 4
    widest: float = 4 / 3

    def __post_init__(self) -> None:
        need(0 < self.low <= self.high <= 1, "low, high", (self.low, self.high), "0 < low <= high <= 1")
        shapes = (self.narrowest, self.widest)
        need(0 < self.narrowest <= self.widest, "narrowest, widest", shapes, "0 < narrowest <= widest")

    def matrix(self, rng: np.random.Generator, height: int, width: int) -> Matrix:
        """The part's centre becomes the image's, its edges the image's edges."""
        for _ in range(10):
            area = rng.uniform(self.low, self.high) * height * width
            shape = self.narrowest * (self.widest / self.narrowest) ** rng.uniform()
            across, down = np.sqrt(area * shape), np.sqrt(area / shape)
            left, top = rng.uniform(0, 1, size=2)
            if across <= width and down <= height:
                x, y = (left - 0.5) * (width - across), (top - 0.5) * (height - down)
                return np.array([[width / across, 0, -x * width / across], [0, height / down, -y * height / down],
                                 [0, 0, 1.0]])  # fmt: skip
        shape = min(max(width / height, self.narrowest), self.widest)
        across, down = min(width, height * shape), min(height, width / shape)
        return np.diag([width / across, height / down, 1.0])


def warp(images: Tensor, matrices: Matrix, outside: str = "zeros") -> Tensor:
    """Images [B, C, H, W] on any device, moved by matrices [B, 3, 3], resampled once and bilinearly, each on its own.

    What comes from beyond the edge is 0 ("zeros"), the edge's value ("border") or the mirrored image
    ("reflection"). An image whose matrix is the identity comes back bit for bit.
    """
    height, width = images.shape[-2:]
    device = images.device
    inverse = torch.from_numpy(np.linalg.inv(matrices)).to(device)
    x = (torch.arange(width, dtype=torch.float64, device=device) + 0.5 - width / 2)[None, None, :]
    y = (torch.arange(height, dtype=torch.float64, device=device) + 0.5 - height / 2)[None, :, None]
    grid = torch.empty((len(images), height, width, 2), dtype=images.dtype, device=device)
    for i, scale in enumerate((2 / width, 2 / height)):
        # Elementwise, not as a product of matrices, whose rounding may depend on the size of the batch.
        across = inverse[:, i, 0, None, None] * x * scale
        down = (inverse[:, i, 1, None, None] * y + inverse[:, i, 2, None, None]) * scale
        grid[..., i] = across + down
    moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)
    unmoved = (matrices == np.eye(3)).all(axis=(1, 2))
    if not unmoved.any():
        return moved
    return torch.where(torch.from_numpy(unmoved).to(device)[:, None, None, None], images, moved)


def need(holds: bool, name: str, read: Any, expected: str) -> None:
    """Raises ValueError, which a recipe's reader tells with its place, unless an option is as it must be."""
    if not holds:
        raise ValueError(f"{name}: read {read}, expected {expected}.")
