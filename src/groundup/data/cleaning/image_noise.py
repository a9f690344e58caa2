"""Noise taken out of images: by OpenCV where it is installed, else by slower code of our own that gives the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.contract import contract
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError, RecipeError
from groundup.data.pixels import from_numbers, is_grey, open_image, to_array, to_png

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64]


@contract("row-local")
def image_median(dataset: Dataset, column: str | None = None, size: int = 3) -> Dataset:
    """Each pixel becomes the median of the ``size`` x ``size`` around it, channel by channel: against salt and pepper.

    Beyond the edge the outermost pixels go on. ``column`` is the only one of kind image when not named; the same in
    the other filters of images. Files come out as PNG, arrays as arrays. Tukey, Exploratory Data Analysis, 1977.
    """
    _need(size >= 1 and size % 2 == 1, "image_median.size", size, "an odd number of pixels")
    return _filtered(dataset, column, partial(median_of, size=size), "image_median")


@contract("row-local")
def image_gaussian(dataset: Dataset, column: str | None = None, sigma: float = 1.0) -> Dataset:
    """Each pixel becomes the mean of those around it weighted by exp(-d^2 / (2 sigma^2)), d pixels away, up to 4 sigma.

    Beyond the edge the image is mirrored.
    """
    _need(0 < sigma <= 100, "image_gaussian.sigma", sigma, "more than 0 and at most 100 pixels")
    return _filtered(dataset, column, partial(gaussian_of, sigma=sigma), "image_gaussian")


@contract("row-local")
def image_bilateral(
    dataset: Dataset, column: str | None = None, size: int = 5, sigma_colour: float = 25.0, sigma_space: float = 2.0
) -> Dataset:
    """A Gaussian mean over pixels near in place and in colour, so that edges stay.

    The weight is exp(-d^2 / (2 sigma_space^2)) exp(-c^2 / (2 sigma_colour^2)) within the circle of diameter ``size``, c
    the sum over channels of |difference| in levels 0 to 255. Beyond the edge the image is mirrored. Tomasi and
    Manduchi, ICCV 1998.
    """
    _need(size >= 3 and size % 2 == 1, "image_bilateral.size", size, "an odd number of pixels, at least 3")
    _need(min(sigma_colour, sigma_space) > 0, "image_bilateral", (sigma_colour, sigma_space), "sigmas above 0")
    how = partial(bilateral_of, size=size, sigma_colour=sigma_colour, sigma_space=sigma_space)
    return _filtered(dataset, column, how, "image_bilateral")


@contract("row-local")
def image_non_local_means(
    dataset: Dataset, column: str | None = None, strength: float = 10.0, patch: int = 7, search: int = 21
) -> Dataset:
    """Each pixel becomes the mean of those within ``search`` x ``search`` whose surroundings look like its own.

    The weight is exp(-D / strength^2), D the mean of (difference)^2 over the ``patch`` x ``patch`` around both and over
    channels. ``strength`` is in levels 0 to 255, about that of the noise. Beyond the edge the image is mirrored.
    Buades, Coll, Morel, CVPR 2005. OpenCV rounds weights, which moves a pixel by a few levels at most; without it an
    image of 256 x 256 takes seconds.
    """
    _need(strength > 0, "image_non_local_means.strength", strength, "more than 0")
    fits = patch >= 1 and patch % 2 == 1 and search > patch and search % 2 == 1
    _need(fits, "image_non_local_means", (patch, search), "an odd patch, and an odd search that is wider")
    how = partial(non_local_means_of, strength=strength, patch=patch, search=search)
    return _filtered(dataset, column, how, "image_non_local_means")


# ------------------------------------------------------------------------------- pixels [H, W, C]


def median_of(pixels: Pixels, size: int) -> Pixels:
    """The median of the neighbourhood."""
    opencv = _opencv()
    if opencv is not None and min(pixels.shape[:2]) > 1:
        return _as(pixels, opencv.medianBlur(np.ascontiguousarray(pixels), size))
    return _as(pixels, _ndimage().median_filter(pixels, size=(size, size, 1), mode="nearest"))


def gaussian_of(pixels: Pixels, sigma: float) -> Pixels:
    """The Gaussian mean, rounded to whole levels."""
    opencv = _opencv()
    width = 2 * int(4 * sigma + 0.5) + 1
    if opencv is not None and min(pixels.shape[:2]) > width // 2:
        smooth = opencv.GaussianBlur(
            pixels.astype(np.float32), (width, width), sigma, borderType=opencv.BORDER_REFLECT_101
        )
    else:
        smooth = _ndimage().gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0), mode="mirror", truncate=4.0)
    return _as(pixels, np.rint(smooth))


def bilateral_of(pixels: Pixels, size: int, sigma_colour: float, sigma_space: float) -> Pixels:
    """The mean over what is near in place and colour."""
    opencv = _opencv()
    reach = size // 2
    if opencv is not None and min(pixels.shape[:2]) > reach:
        edge = opencv.BORDER_REFLECT_101
        return _as(pixels, opencv.bilateralFilter(pixels, size, sigma_colour, sigma_space, borderType=edge))
    given = pixels.astype(np.float64)
    padded = _mirrored(given, reach)
    total, weight = np.zeros_like(given), np.zeros(given.shape[:2])
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            squared = down**2 + right**2
            if squared > reach**2:
                continue
            other = _shifted(padded, reach, down, right, given.shape)
            colour = np.abs(other - given).sum(axis=2)
            share = np.exp(-squared / (2 * sigma_space**2) - colour**2 / (2 * sigma_colour**2))
            total += share[..., None] * other
            weight += share
    return _as(pixels, np.rint(total / weight[..., None]))


def non_local_means_of(pixels: Pixels, strength: float, patch: int, search: int) -> Pixels:
    """The mean over what has the same surroundings."""
    opencv = _opencv()
    reach, half = search // 2, patch // 2
    if opencv is not None and min(pixels.shape[:2]) > reach + half:
        found = opencv.fastNlMeansDenoising(pixels, h=strength, templateWindowSize=patch, searchWindowSize=search)
        return _as(pixels, found)
    given = pixels.astype(np.float64)
    height, width, _ = given.shape
    padded = _mirrored(given, reach + half)
    around = _shifted(padded, reach + half, 0, 0, given.shape, half)
    total, weight = np.zeros_like(given), np.zeros((height, width))
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            other = _shifted(padded, reach + half, down, right, given.shape, half)
            apart = _ndimage().uniform_filter(((other - around) ** 2).mean(axis=2), size=patch)
            share = np.exp(-apart[half : half + height, half : half + width] / strength**2)
            total += share[..., None] * other[half : half + height, half : half + width]
            weight += share
    return _as(pixels, np.rint(total / weight[..., None]))


def _mirrored(pixels: Values, reach: int) -> Values:
    """With ``reach`` more pixels on each side, the image mirrored at its outermost ones."""
    mode = "reflect" if min(pixels.shape[:2]) > 1 else "edge"
    return np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode=mode)  # type: ignore[call-overload,no-any-return]


def _shifted(padded: Values, reach: int, down: int, right: int, shape: tuple[int, ...], more: int = 0) -> Values:
    """What lies so far away from each pixel, and from ``more`` pixels around the image."""
    top, left = reach + down - more, reach + right - more
    return padded[top : top + shape[0] + 2 * more, left : left + shape[1] + 2 * more]


def _as(pixels: Pixels, found: npt.NDArray[Any]) -> Pixels:
    return found.clip(0, 255).astype(np.uint8).reshape(pixels.shape)


def _ndimage() -> Any:
    from scipy import ndimage  # type: ignore[import-untyped]  # 0.2 s to import

    return ndimage


def _opencv() -> Any:
    """OpenCV, or None where it is not installed or does not load."""
    try:
        import cv2
    except (ImportError, RuntimeError, OSError):
        return None
    return cv2


# ------------------------------------------------------------------------------- columns of images


def _filtered(dataset: Dataset, column: str | None, how: Callable[[Pixels], Pixels], by: str) -> Dataset:
    name = _image_column(dataset, column, by)
    values = dataset.frame[name]
    names = dataset.row_names()
    turned = 0
    found: list[Any] = []
    for i, cell in enumerate(values):
        where = f"{by}: column {name!r}, {names[i]}"
        if cell is None:
            found.append(None)
        elif isinstance(cell, bytes):
            image = open_image(cell, where)
            turned += image.mode not in ("L", "RGB")
            try:
                pixels = to_array(image, 1 if is_grey(image) else 3)
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
            found.append(to_png(how(pixels), where))
        else:
            found.append(_of_numbers(cell, how, where))
    after = dataset.with_frame(dataset.frame.with_columns(pl.Series(name, found, dtype=values.dtype)))
    lines = [f"{name}: {len(found) - found.count(None)} images filtered by {by}"]
    if turned:
        lines.append(f"{name}: {turned} images turned into 8 bits of grey or RGB, what is transparent into white")
    return after.note(*lines)


def _image_column(dataset: Dataset, column: str | None, by: str) -> str:
    if column is None:
        images = dataset.of_kind("image")
        if len(images) != 1:
            raise DataError(f"{by}: there are {len(images)} image columns; name one with column.")
        return images[0]
    dataset.need(column, by=by)
    if dataset.kinds[column] != "image":
        raise DataError(f"{by}: column {column!r} is of kind {dataset.kinds[column]}, it needs image.")
    return column


def _of_numbers(cell: Any, how: Callable[[Pixels], Pixels], where: str) -> Any:
    array = from_numbers(cell, where)
    pixels = array.reshape(*array.shape[:2], -1)
    if pixels.shape[2] not in (1, 3):
        raise DataError(f"{where}: has {pixels.shape[2]} channels, expected 1 or 3.")
    return how(pixels).reshape(array.shape).tolist()


def _need(holds: bool, name: str, read: Any, expected: str) -> None:
    if not holds:
        raise RecipeError(f"{name}: read {read}, expected {expected}.")
