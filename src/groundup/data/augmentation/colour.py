"""Changes of colour, on images [B, C, H, W] of values 0 to 1 on any device; each image has drawn its own numbers.

A step's ``draw`` gives an image's numbers, ``change`` acts on a batch with those of all its images [B, P]. An image
that draws no change comes back bit for bit. Sums are taken in float64 row by row, so that they do not depend on the
size of the batch or on the number of threads.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from groundup.data.augmentation.affine import need

Drawn = npt.NDArray[np.float64]

LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue add to brightness: ITU-R BT.601, as Pillow has it."""


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Multiply by a factor drawn evenly from 1 - ``strength`` to 1 + ``strength``, cut off at white."""

    strength: float

    def __post_init__(self) -> None:
        need(0 <= self.strength <= 1, "strength", self.strength, "0 to 1")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[float, ...]:
        """The factor."""
        return (rng.uniform(1 - self.strength, 1 + self.strength),)

    def change(self, images: Tensor, drawn: Drawn) -> Tensor:
        """images * factor."""
        return blend(images, torch.zeros_like(images), drawn[:, 0])


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Draw away from, or towards, the image's mean grey m: m + f (x - m), f evenly from 1 - to 1 + ``strength``."""

    strength: float

    def __post_init__(self) -> None:
        need(0 <= self.strength <= 1, "strength", self.strength, "0 to 1")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[float, ...]:
        """The factor."""
        return (rng.uniform(1 - self.strength, 1 + self.strength),)

    def change(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Blended with the mean of its grey."""
        return blend(images, mean_grey(images), drawn[:, 0])


@dataclasses.dataclass(frozen=True)
class Saturation:
    """Draw away from, or towards, the grey g of each pixel: g + f (x - g), f evenly from 1 - to 1 + ``strength``.

    A grey image stays as it is.
    """

    strength: float

    def __post_init__(self) -> None:
        need(0 <= self.strength <= 1, "strength", self.strength, "0 to 1")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[float, ...]:
        """The factor."""
        return (rng.uniform(1 - self.strength, 1 + self.strength),)

    def change(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Blended with its grey."""
        return images if images.shape[1] == 1 else blend(images, grey(images), drawn[:, 0])


@dataclasses.dataclass(frozen=True)
class Hue:
    """Turn every colour on the colour circle by up to ``turns`` of a whole turn either way, drawn evenly.

    Lightest and darkest channel (value and chroma of HSV) stay. A grey image stays as it is.
    """

    turns: float

    def __post_init__(self) -> None:
        need(0 <= self.turns <= 0.5, "turns", self.turns, "0 to 0.5 of a turn")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[float, ...]:
        """The part of a turn."""
        return (rng.uniform(-self.turns, self.turns),)

    def change(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Through hue, saturation and value, and back."""
        return images if images.shape[1] == 1 else where(drawn[:, 0] != 0, turn_hue(images, drawn[:, 0]), images)


def blend(images: Tensor, towards: Tensor, factors: Drawn) -> Tensor:
    """f x + (1 - f) y, cut off at 0 and 1; a factor of 1 gives x bit for bit."""
    factor = per_image(factors, images)
    return (images * factor + towards * (1 - factor)).clamp_(0, 1)


def per_image(numbers: Drawn, images: Tensor) -> Tensor:
    """One number for each image, [B, 1, 1, 1], on the images' device."""
    return torch.from_numpy(np.ascontiguousarray(numbers)).to(images.device, images.dtype)[:, None, None, None]


def where(chosen: npt.NDArray[np.bool_], changed: Tensor, images: Tensor) -> Tensor:
    """The changed images where chosen, else the images as they were."""
    return torch.where(torch.from_numpy(chosen).to(images.device)[:, None, None, None], changed, images)


def grey(images: Tensor) -> Tensor:
    """Brightness [B, 1, H, W]."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2])[:, None]


def mean_grey(images: Tensor) -> Tensor:
    """The mean brightness of each image [B, 1, 1, 1]."""
    rows = grey(images).to(torch.float64).sum(dim=-1)
    total = rows.sum(dim=-1) / (images.shape[-1] * images.shape[-2])
    return total[..., None, None].to(images.dtype)


def turn_hue(images: Tensor, turns: Drawn) -> Tensor:
    """Each pixel's hue moved by a part of a turn, its value and chroma kept."""
    value, _ = images.max(dim=1)
    chroma = value - images.min(dim=1)[0]
    red, green, blue = images.unbind(1)
    step = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    hue = torch.where(
        value == red,
        (green - blue) / step,
        torch.where(value == green, 2 + (blue - red) / step, 4 + (red - green) / step),
    )
    hue = hue + 6 * per_image(turns, images)[:, 0]
    # Smith 1978: each channel is value - chroma * clamp(min(k, 4 - k), 0, 1), k = (n + hue) mod 6.
    channels = []
    for n in (5, 3, 1):
        k = torch.remainder(hue + n, 6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, dim=1)
