"""RandAugment: a few operations for each image, drawn from fourteen, all at one strength."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from groundup.data.augmentation.affine import need
from groundup.data.augmentation.colour import Drawn, blend, grey, mean_grey, where

Matrix = npt.NDArray[np.float64]

LEVELS = 30
"""Magnitudes run from 0 to this."""

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDED = ("brightness", "saturation", "contrast", "sharpness")
OPERATIONS = (*GEOMETRIC, *BLENDED, "posterize", "solarize", "auto_contrast", "equalize", "identity")
SIGNED = (*GEOMETRIC, *BLENDED)


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """``number`` of fourteen operations for each image, with equal chances, all at ``magnitude`` of 0 to 30.

    Cubuk et al. 2020, with the ranges of their code and of torchvision's: at 30, shear by 0.3, translate by 0.45 of
    the edge, rotate by 30 degrees, either way; brightness, saturation, contrast and sharpness by a factor of 0.1 or
    1.9; posterize to 4 bits; solarize above 0; auto-contrast, equalize and identity know no strength. Those that move
    pixels join the one resampling of the image, which comes before all changes of values.
    """

    number: int = 2
    magnitude: float = 9

    def __post_init__(self) -> None:
        need(self.number >= 1, "number", self.number, "1 or more")
        need(0 <= self.magnitude <= LEVELS, "magnitude", self.magnitude, f"0 to {LEVELS}")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[float, ...]:
        """For each operation its place in OPERATIONS and its signed strength, 0 to 1."""
        drawn: list[float] = []
        for _ in range(self.number):
            chosen, sign = int(rng.integers(len(OPERATIONS))), 1 if rng.uniform() < 0.5 else -1
            strength = self.magnitude / LEVELS
            drawn += [float(chosen), strength * sign if OPERATIONS[chosen] in SIGNED else strength]
        return tuple(drawn)

    def moves(self, drawn: npt.NDArray[np.float64], height: int, width: int) -> Matrix:
        """The product of the drawn operations that move pixels."""
        product = np.eye(3)
        for place, strength in drawn.reshape(-1, 2):
            name = OPERATIONS[int(place)]
            if name not in GEOMETRIC:
                continue
            step = np.eye(3)
            if name == "rotate":
                angle = np.deg2rad(30 * strength)
                step[:2, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
            elif name.startswith("shear"):
                step[(0, 1) if name == "shear_x" else (1, 0)] = 0.3 * strength
            else:
                step[0 if name == "translate_x" else 1, 2] = (
                    150 / 331 * strength * (width if name[-1] == "x" else height)
                )
            product = step @ product
        return product

    def change(self, images: Tensor, drawn: Drawn) -> Tensor:
        """The drawn operations that change values, in their order."""
        for turn in range(self.number):
            places, strengths = drawn[:, 2 * turn].astype(int), drawn[:, 2 * turn + 1]
            for place in np.unique(places).tolist():
                name = OPERATIONS[place]
                if name not in GEOMETRIC and name != "identity":
                    chosen = places == place
                    images = where(chosen, _changed(name, images, np.where(chosen, strengths, 0.0)), images)
        return images


def _changed(name: str, images: Tensor, strengths: Drawn) -> Tensor:
    strongest = float(np.abs(strengths).max())
    if name == "posterize":
        return posterize(images, 8 - round(4 * strongest))
    if name == "solarize":
        return torch.where(images >= 1 - strongest, 1 - images, images)
    if name == "auto_contrast":
        return auto_contrast(images)
    if name == "equalize":
        return equalize(images)
    return blend(images, _TOWARDS[name](images), 1 + 0.9 * strengths)


def posterize(images: Tensor, bits: int) -> Tensor:
    """The upper ``bits`` of 8."""
    step = 2 ** (8 - bits)
    kept: Tensor = torch.floor((images * 255).round() / step) * (step / 255)
    return kept


def auto_contrast(images: Tensor) -> Tensor:
    """Each channel stretched so that its darkest value is 0 and its lightest 1; a flat one stays."""
    low, high = images.amin(dim=(-2, -1), keepdim=True), images.amax(dim=(-2, -1), keepdim=True)
    span = high - low
    return torch.where(span > 0, (images - low) / torch.where(span > 0, span, torch.ones_like(span)), images)


def equalize(images: Tensor) -> Tensor:
    """Each channel's 256 levels spread so that all are about as frequent, by the same whole numbers as in Pillow."""
    shape = images.shape
    levels = (images * 255).round().long().reshape(-1, shape[-2] * shape[-1])
    counts = torch.zeros((len(levels), 256), dtype=torch.long, device=images.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    last = counts.gather(1, levels.amax(dim=1, keepdim=True))
    step = (levels.shape[1] - last) // 255
    below = counts.cumsum(dim=1) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp_(0, 255)
    spread = (table.gather(1, levels).to(images.dtype) / 255).reshape(shape)
    return torch.where((step > 0).reshape(*shape[:2], 1, 1), spread, images)


def smooth(images: Tensor) -> Tensor:
    """Pillow's SMOOTH: each pixel five times and its eight neighbours once, over 13; the rim stays."""
    height, width = images.shape[-2:]
    if min(height, width) < 3:
        return images
    inner = images[..., 1:-1, 1:-1] * 4
    for down in range(3):
        for across in range(3):
            inner = inner + images[..., down : height - 2 + down, across : width - 2 + across]
    rim = images.clone()
    rim[..., 1:-1, 1:-1] = inner / 13
    return rim


_TOWARDS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "brightness": torch.zeros_like,
    "saturation": grey,
    "contrast": mean_grey,
    "sharpness": smooth,
}
"""What an operation blends an image with."""
