"""Images as a person would leaf through them: sizes, classes, which ones are odd and why, which are copies."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.cleaning.pictures import SIDE, Looks, alike_images, perceptual_hash
from groundup.data.inspection.relations import drawn
from groundup.data.pixels import is_grey, open_image, to_array

MOST_IMAGES = 2000
"""Images that are decoded, drawn by a seed."""

THUMBNAIL = 96
"""Pixels of the longer edge of a picture on the page."""

FEATURES = ("brightness", "contrast", "sharpness", "colourfulness", "shape")
WORDS = {
    "brightness": ("very dark", "very bright"),
    "contrast": ("hardly any contrast", "harsh contrast"),
    "sharpness": ("blurred or empty", "very fine grain"),
    "colourfulness": ("hardly any colour", "very colourful"),
    "shape": ("very tall", "very wide"),
}
"""Feature -> what is said of an image far below or far above the others."""

MOST_ALIKE = 8
"""Odd images that are shown for one reason, so that another one is seen too."""

ODD = 3.5
"""Robust deviations from the median, from which on an image is odd (Iglewicz and Hoaglin 1993)."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image on the page: a small JPEG, its name, and what is said of it."""

    name: str
    data: bytes
    said: str = ""

    @property
    def address(self) -> str:
        """A data address, so that the page needs no file beside it."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.data).decode()}"


@dataclasses.dataclass(frozen=True)
class Images:
    """What is known of the images of a data set."""

    rows: int
    seen: int
    """How many of them were decoded."""
    sizes: tuple[tuple[tuple[int, int], int], ...]
    """((height, width), count), the commonest first."""
    grey: int
    classes: tuple[tuple[str, int], ...]
    odd: tuple[Picture, ...]
    typical: tuple[Picture, ...]
    """Some of each class, drawn by a seed."""
    copies: tuple[tuple[str, str, float], ...]
    """(image, an earlier one that shows the same, correlation of their pixels)."""
    across: int
    """How many of the copies carry different labels."""
    edge: int
    """The median of the shorter edge."""

    @property
    def alike(self) -> bool:
        """Whether all seen have one size."""
        return len(self.sizes) == 1


def describe_images(dataset: Dataset, image: str, label: str | None = None) -> Images:
    """Look at the images of a column. Raises DataError where none can be read."""
    some = drawn(dataset.with_frame(dataset.frame.filter(dataset.frame[image].is_not_null())), MOST_IMAGES)
    names, labels = some.row_names(), some.frame[label].to_list() if label is not None else [None] * len(some)
    sizes: dict[tuple[int, int], int] = {}
    grey = 0
    features, hashes, pixels, sides, thumbnails = [], [], [], [], []
    for picture in _opened(some, image):
        sizes[picture.height, picture.width] = sizes.get((picture.height, picture.width), 0) + 1
        grey += is_grey(picture)
        coloured = Image.fromarray(to_array(picture, 3))
        small = _small(coloured)
        features.append(_features(small, picture.width / picture.height))
        hashes.append(perceptual_hash(coloured))
        pixels.append(np.asarray(coloured.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1))
        sides.append(max(picture.size))
        thumbnails.append(small)
    if not features:
        raise DataError(f"{dataset.origin or 'the data'}: there is no image to look at.")
    table = np.array(features)
    odd = [Picture(names[i], _jpeg(thumbnails[i]), said) for i, said in odd_ones(table)]
    links = alike_images(Looks(np.array(hashes, np.uint64), np.array(pixels), np.array(sides, np.uint32)))
    copies = list(zip(*(some.tolist() for some in links), strict=True))
    counts = dataset.frame[label].value_counts(sort=True) if label is not None else None
    edges = [min(size) for size, count in sizes.items() for _ in range(count)]
    return Images(
        rows=len(dataset),
        seen=len(features),
        sizes=tuple(sorted(sizes.items(), key=lambda item: -item[1])),
        grey=grey,
        classes=tuple((str(c), int(n)) for c, n in counts.iter_rows()) if counts is not None else (),
        odd=tuple(odd),
        typical=tuple(Picture(names[i], _jpeg(thumbnails[i]), str(labels[i] or "")) for i in _typical(labels)),
        copies=tuple((names[i], names[j], likeness) for i, j, likeness in copies),
        across=sum(labels[i] != labels[j] for i, j, _ in copies),
        edge=int(np.median(edges)),
    )


def odd_ones(features: npt.NDArray[np.float64], most: int = 18) -> list[tuple[int, str]]:
    """(position, what is odd) of the images furthest from the median in any feature, the oddest first.

    By the modified z-score 0.6745 (x - median) / MAD (Iglewicz and Hoaglin 1993), from 3.5 on.
    """
    median = np.median(features, axis=0)
    spread = np.median(np.abs(features - median), axis=0)
    scores = np.where(spread > 0, 0.6745 * (features - median) / np.where(spread > 0, spread, 1.0), 0.0)
    furthest = np.argmax(np.abs(scores), axis=1)
    heights = scores[np.arange(len(scores)), furthest]
    found: list[tuple[int, str]] = []
    for i in np.argsort(-np.abs(heights), kind="stable").tolist():
        said = WORDS[FEATURES[furthest[i]]][int(heights[i] > 0)]
        alike = sum(one == said for _, one in found)
        if abs(heights[i]) >= ODD and len(found) < most and alike < MOST_ALIKE:
            found.append((i, said))
    return found


def _opened(dataset: Dataset, column: str) -> Iterator[Image.Image]:
    for name, cell in zip(dataset.row_names(), dataset.frame[column].to_list(), strict=True):
        if isinstance(cell, bytes):
            yield open_image(cell, name)
        else:
            array = np.asarray(cell, dtype=np.float64)
            if array.ndim not in (2, 3) or not array.size:
                raise DataError(f"{dataset.origin or 'the data'}, {name}: column {column!r} holds no image.")
            array = array.clip(0, 255).astype(np.uint8)
            yield Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _small(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """At most 96 pixels along the longer edge, RGB; tiny ones are enlarged so that one sees them."""
    scale = THUMBNAIL / max(picture.width, picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    found: npt.NDArray[np.uint8] = to_array(picture.resize(size, way), 3)
    return found


def _jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=75)
    return buffer.getvalue()


def _features(pixels: npt.NDArray[np.uint8], aspect: float) -> list[float]:
    """Brightness, contrast, log of the Laplacian's variance, mean distance of the channels, log of width / height."""
    colours = pixels.astype(np.float64) / 255
    grey = colours.mean(axis=2)
    padded = np.pad(grey, 1, mode="edge")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    spread = float((colours.max(axis=2) - colours.min(axis=2)).mean())
    return [
        float(grey.mean()),
        float(grey.std()),
        float(np.log(laplacian.var() + 1e-6)),
        spread,
        float(np.log(aspect)),
    ]


def _typical(labels: Sequence[Any], most: int = 24) -> list[int]:
    """Positions of some images of each class, drawn by a seed, class by class."""
    order = np.random.default_rng(0).permutation(len(labels))
    classes = sorted({str(label) for label in labels})
    each = max(1, most // len(classes))
    found: list[int] = []
    for name in classes[:most]:
        found += [int(i) for i in order if str(labels[int(i)]) == name][:each]
    return found
