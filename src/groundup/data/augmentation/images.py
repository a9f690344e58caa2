"""Steps carried out on images: the numbers are drawn first, then applied, to arrays on a CPU or tensors on any device.

A step has ``matrix(rng, height, width)``, or ``draw(rng, height, width)`` and ``change(images, drawn)``, or
``draw_mix`` and ``mix``. Whatever their order in the recipe, all that moves pixels becomes one matrix, and each image
is resampled once, before its values change; the mixing steps come last. The generator of an image is seeded by
(seed, epoch, row) and handed through the steps in the recipe's order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from groundup.core.errors import DataError, MissingExtraError, RecipeError
from groundup.core.preprocessing import as_tensor
from groundup.data.augmentation.affine import Matrix, warp
from groundup.data.augmentation.mixing import mixes, split_mixing

Pixels = npt.NDArray[np.uint8]
Engine = Literal["torch", "opencv", "pillow"]

AT_ONCE = 2**16
"""Pixels that are worked on together on a CPU, so that what is in between stays in its cache."""


@dataclasses.dataclass(frozen=True)
class ImageDraws:
    """What a batch of images has drawn: applied anywhere, it means the same."""

    matrices: Matrix
    """[B, 3, 3], where each point goes."""
    changes: tuple[tuple[Any, npt.NDArray[np.float64]], ...] = ()
    """Steps that change values, in order, each with its numbers [B, P]."""
    mixes: tuple[tuple[Any, npt.NDArray[np.float64]], ...] = ()
    """Steps that mix, in order, each with its numbers [B, P]; the first is the partner's position."""

    def take(self, positions: Any) -> ImageDraws:
        """What these images of the batch have drawn."""
        changes = tuple((step, drawn[positions]) for step, drawn in self.changes)
        return ImageDraws(self.matrices[positions], changes, tuple((s, drawn[positions]) for s, drawn in self.mixes))


def draw_images(
    augment: Sequence[Any], rows: npt.NDArray[Any], shape: tuple[int, int, int], seed: int, epoch: int, count: int = 1
) -> ImageDraws:
    """The numbers of these rows; ``shape`` is (channels, height, width), ``count`` the samples to mix among."""
    split_mixing(augment)
    for step in augment:
        if not (hasattr(step, "matrix") or (hasattr(step, "draw") and hasattr(step, "change")) or mixes(step)):
            raise RecipeError(
                f"augment: {type(step).__name__} has neither matrix(rng, height, width), nor draw(rng, height, width) "
                "and change(images, drawn), nor draw_mix and mix; images need one of these. Is it for other data?"
            )
    size = shape[1:]
    matrices = np.empty((len(rows), 3, 3))
    numbers: list[list[Any]] = [[] for _ in augment]
    for i, row in enumerate(rows.tolist()):
        rng = np.random.default_rng([seed, epoch, row])
        product = np.eye(3)
        for step, drawn in zip(augment, numbers, strict=True):
            if hasattr(step, "matrix"):
                product = step.matrix(rng, *size) @ product
            elif mixes(step):
                drawn.append(step.draw_mix(rng, count, shape))
            else:
                drawn.append(step.draw(rng, *size))
                if hasattr(step, "moves"):
                    product = step.moves(np.array(drawn[-1]), *size) @ product
        matrices[i] = product
    found = [
        (step, np.array(drawn, dtype=np.float64).reshape(len(rows), -1))
        for step, drawn in zip(augment, numbers, strict=True)
        if not hasattr(step, "matrix")
    ]
    return ImageDraws(
        matrices,
        tuple(pair for pair in found if not mixes(pair[0])),
        tuple(pair for pair in found if mixes(pair[0])),
    )


def change(images: Tensor, drawn: ImageDraws) -> Tensor:
    """Images [B, C, H, W] of values 0 to 1 on any device, their values changed as drawn; not moved, not mixed."""
    for step, numbers in drawn.changes:
        images = step.change(images, numbers)
    return images


def mix(inputs: Tensor, others: Sequence[Tensor], drawn: ImageDraws) -> Tensor:
    """Finished images mixed as drawn; ``others`` are the partners' for each step that mixes, finished too."""
    for (step, numbers), other in zip(drawn.mixes, others, strict=True):
        inputs = step.mix(inputs, other, numbers)
    return inputs


def choose_engine(asked: Literal["auto"] | Engine, height: int, width: int) -> Engine:
    """What moves pixels on a CPU: OpenCV where it is installed and images are not tiny, else torch.

    Raises MissingExtraError for OpenCV that is asked for and not installed.
    """
    if asked == "opencv":
        _opencv()
    if asked != "auto":
        return asked
    if height * width < AT_ONCE // 16:  # whole batches at a time are quicker then than one by one
        return "torch"
    try:
        _opencv()
    except MissingExtraError:
        return "torch"
    return "opencv"


def choose_device(device: str) -> torch.device:
    """A device by its name. Raises DataError where it is not there."""
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise DataError(f'Images.device: {device!r} is not to be had here ({error}); leave it "cpu".') from error
    return chosen


def augment_pixels(
    pixels: Pixels, drawn: ImageDraws | None, outside: str = "zeros", engine: Engine = "torch", device: str = "cpu"
) -> Tensor:
    """uint8 [B, H, W, C] as float32 [B, C, H, W] of values 0 to 1, moved and changed as drawn, on a device.

    "torch" moves values in float32; "opencv" and "pillow" move bytes and are rounded to them: within 0.51 / 255 of it
    for OpenCV 5 (before that its steps of 1/32 pixel add to this), within 1 / 255 for Pillow, which cuts off.
    """
    place = choose_device(device)
    on_cpu = place.type == "cpu"
    count, height, width, channels = pixels.shape
    at_once = max(1, AT_ONCE // (height * width) if on_cpu else count)
    mover = _MOVERS.get(engine) if drawn is not None and on_cpu else None
    whole = torch.empty((count, channels, height, width), dtype=torch.float32, device=place)
    for start in range(0, count, at_once):
        cut = slice(start, start + at_once)
        part, images = pixels[cut], whole[cut]
        draws = None if drawn is None else drawn.take(cut)
        if mover is not None and draws is not None:
            part = _joined([mover(one, matrix, outside) for one, matrix in zip(part, draws.matrices, strict=True)])
            np.divide(part.transpose(0, 3, 1, 2), np.float32(255), out=images.numpy())  # one pass, torch takes two
        else:
            images.copy_(as_tensor(part).to(place).permute(0, 3, 1, 2)).div_(255)
        if draws is not None:
            changed = change(images if mover is not None else warp(images, draws.matrices, outside), draws)
            if changed is not images:
                images.copy_(changed)
    return whole


def _joined(arrays: list[Pixels]) -> Pixels:
    """Arrays of one shape as one, without a copy where there is one alone."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def _with_opencv(image: Pixels, matrix: Matrix, outside: str) -> Pixels:
    """One image [H, W, C] moved by OpenCV."""
    if (matrix == np.eye(3)).all():
        return image
    cv2 = _opencv()
    height, width = image.shape[:2]
    border = {
        "zeros": cv2.BORDER_CONSTANT, "border": cv2.BORDER_REPLICATE, "reflection": cv2.BORDER_REFLECT
    }[outside]  # fmt: skip
    moved = cv2.warpAffine(
        image,
        _from_corner(matrix, height, width, 0.0)[:2],
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=border,
        borderValue=(0, 0, 0),
    )
    return np.asarray(moved, dtype=np.uint8).reshape(image.shape)


def _with_pillow(image: Pixels, matrix: Matrix, outside: str) -> Pixels:
    """One image [H, W, C] moved by Pillow, which knows black outside alone."""
    if (matrix == np.eye(3)).all():
        return image
    if outside != "zeros":
        raise RecipeError(f'Images.engine: Pillow draws nothing but black from outside, not "{outside}"; use "torch".')
    height, width, channels = image.shape
    rimmed = np.zeros((height + 2, width + 2, channels), np.uint8)  # so that the edge fades, and is not cut
    rimmed[1:-1, 1:-1] = image
    inverse = _from_corner(matrix, height, width, 0.5)[:2]
    inverse[:, 2] += 1  # the rim
    moved = Image.fromarray(rimmed[..., 0] if channels == 1 else rimmed).transform(
        (width, height), Image.Transform.AFFINE, tuple(inverse.ravel().tolist()), Image.Resampling.BILINEAR
    )
    return np.asarray(moved, dtype=np.uint8).reshape(image.shape)


_MOVERS: dict[str, Callable[[Pixels, Matrix, str], Pixels]] = {"opencv": _with_opencv, "pillow": _with_pillow}


def _from_corner(matrix: Matrix, height: int, width: int, offset: float) -> Matrix:
    """Where each point comes from, in coordinates in which the first pixel's centre lies at ``offset``."""
    x, y = width / 2 - 0.5 + offset, height / 2 - 0.5 + offset
    to, back = np.eye(3), np.eye(3)
    to[:2, 2], back[:2, 2] = (-x, -y), (x, y)
    inverse: Matrix = back @ np.linalg.inv(matrix) @ to
    return inverse


def _opencv() -> Any:
    try:
        import cv2  # type: ignore[import-not-found, unused-ignore]
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingExtraError(
            f"Images.engine: OpenCV is not installed ({error}). Run pip install groundup[images], or leave engine out."
        ) from error
    return cv2
