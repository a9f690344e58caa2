"""Images that show the same, though their files differ: saved anew, resized, slightly brighter.

Candidates are those whose perceptual hashes differ in few bits; a pair counts when what both show is alike, too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import polars as pl
from PIL import Image
from scipy.fft import dctn  # type: ignore[import-untyped]

from groundup.core.contract import Contract, State
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.cleaning.clusters import Links, linked, links_of
from groundup.data.cleaning.removing import without
from groundup.data.cleaning.shingles import PLACE_VALUES
from groundup.data.pixels import open_image, to_array

Array = np.ndarray[Any, Any]
Kind = Literal["phash", "dhash"]

SIDE = 16
"""Pixels on each side of what two images are compared by."""

TINY, TINY_SIMILARITY = 32, 0.9995
"""Images of so few pixels a side count as the same from here only: two digits of MNIST reach 0.997."""

RECORD = SIDE * SIDE * 3 + 4
"""Bytes by which an image is compared: its pixels in colour, and how large it was."""

PAIRS_AT_ONCE = 2_000


@dataclasses.dataclass(frozen=True)
class drop_near_images:
    """Keeps the first of each group of images that show the same, whatever their size, format and quality.

    A pair counts when its perceptual hashes of 64 bits differ in at most ``distance`` bits and the correlation of
    both, as 16 x 16 pixels in colour, is at least ``similarity``: r = cov(a, b) / (sd(a) sd(b)). ``hash`` is "phash"
    (low frequencies of a cosine transform against their median) or "dhash" (brightness that falls from left to right;
    both Krawetz 2011, 2013). Of 396 photographs the defaults find all that were saved as JPEG of quality 30, or halved,
    86% at quality 10, and 7% that were cropped by 2%. Images of at most 32 pixels a side need 0.9995, or unlike digits
    of MNIST would count. Of images in shards 20 bytes each are in memory together; 780 go through files.
    ``column`` is by default the first of images. Raises DataError for a file that is no image.
    """

    column: str | None = None
    hash: Kind = "phash"
    distance: int = 4
    similarity: float = 0.995

    CONTRACT: ClassVar[Contract] = "pairwise"

    def __post_init__(self) -> None:
        if not 0 <= self.distance < 64 or not 0 < self.similarity <= 1:
            raise DataError(
                f"drop_near_images: read distance {self.distance} and similarity {self.similarity}, expected 0 to 63 "
                "bits, and more than 0 up to 1."
            )

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without images that show what an earlier one shows."""
        return without(dataset, links_of(self, dataset))

    def signature(self, shard: Dataset) -> State:
        """``same`` [n], ``keys`` [n, pieces] and ``tags`` [n] uint64; ``values`` [n * 772] uint8 and ``lengths``."""
        return self.signature_of(looks(shard, self.column, self.hash))

    def signature_of(self, found: Looks) -> State:
        """What images of these looks are compared by."""
        digests = b"".join(hashlib.sha256(small.tobytes()).digest()[:8] for small in found.small)
        same = np.where(found.there, np.frombuffer(digests, dtype="<u8") | np.uint64(1), np.uint64(0))
        values = np.concatenate([found.small, found.sides.astype("<u4").view(np.uint8).reshape(-1, 4)], axis=1)
        return {
            "same": same,
            "keys": hamming_keys(found.hashes, self.distance),
            "tags": found.hashes,
            "values": values.reshape(-1),
            "lengths": np.full(len(same), RECORD),
        }

    def screen(self, one: Array, other: Array) -> Array:
        """Whether hashes differ in few enough bits."""
        return np.bitwise_count(one ^ other) <= self.distance

    def evidence(self, shard: Dataset, positions: Array) -> tuple[Array, Array]:
        """What the images at these positions look like; the signature tells it of all."""
        told = self.signature(shard.take(positions))
        return told["values"], told["lengths"]

    def likeness(self, values: Array, offsets: Array, one: Array, other: Array) -> Array:
        """Correlation of pairs of images, by their place in the evidence; 0 where it is less than is asked for."""
        records = values.reshape(-1, RECORD)
        found = correlation(records[:, :-4], one, other)
        sides = np.ascontiguousarray(records[:, -4:]).view("<u4")[:, 0]
        tiny = np.maximum(sides[one], sides[other]) <= TINY
        return np.where(found >= np.where(tiny, max(self.similarity, TINY_SIMILARITY), self.similarity), found, 0.0)

    def reason(self, first: str, likeness: float) -> str:
        """Why an image goes that shows what the one of this name does."""
        return f"near-duplicate image: {likeness:.3f} like {first}"


class Looks(NamedTuple):
    """What images are compared by."""

    hashes: Array
    """[n] uint64."""
    small: Array
    """[n, 768] uint8: 16 x 16 pixels in colour."""
    sides: Array
    """[n] uint32: pixels on the longer side; 0 for a missing image."""

    @property
    def there(self) -> Array:
        """[n] whether there is an image."""
        found: Array = self.sides > 0
        return found


def correlation(small: Array, one: Array, other: Array) -> Array:
    """Of pairs of images [n, 768], pixel by pixel; of even surfaces 1 where they are equal and 0 where they are not."""
    found = np.zeros(len(one))
    for part in np.array_split(np.arange(len(one)), 1 + len(one) // PAIRS_AT_ONCE):
        a, b = (small[rows[part]].astype(np.float32) for rows in (one, other))
        a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
        scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
        equal = (small[one[part]] == small[other[part]]).all(axis=1)
        found[part] = np.where(scale > 0, (a * b).sum(axis=1) / np.maximum(scale, 1e-9), equal)
    return found


def looks(dataset: Dataset, column: str | None = None, kind: Kind = "phash") -> Looks:
    """What the images of a dataset look like.

    Raises DataError when there is no column of images, or a file is none.
    """
    columns = [column] if column else dataset.of_kind("image")[:1]
    if not columns:
        raise DataError(f"drop_near_images: {dataset.origin or 'the data'} has no column of images.")
    dataset.need(*columns, by="drop_near_images")
    hashes = np.zeros(len(dataset), dtype=np.uint64)
    small = np.zeros((len(dataset), SIDE * SIDE * 3), dtype=np.uint8)
    sides = np.zeros(len(dataset), dtype=np.uint32)
    for i, (name, value) in enumerate(zip(dataset.row_names(), dataset.frame[columns[0]], strict=True)):
        if value is None:
            continue
        image = _opened(value, f"{dataset.origin or 'the data'}, {name}")
        hashes[i] = perceptual_hash(image, kind)
        small[i] = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1)
        sides[i] = max(image.size)
    return Looks(hashes, small, sides)


def _opened(value: Any, where: str) -> Image.Image:
    """In colour, whatever it was."""
    if isinstance(value, bytes):
        return Image.fromarray(to_array(open_image(value, where), 3))
    pixels = np.array(value.to_list() if isinstance(value, pl.Series) else value)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise DataError(f"{where}: read an array of shape {list(pixels.shape)}, expected [height, width] or [.., 3].")
    return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")


def perceptual_hash(image: Image.Image, kind: Kind = "phash") -> np.uint64:
    """64 bits of what an image looks like; alike images differ in few.

    "phash": grey 32 x 32, discrete cosine transform of type II, its 8 x 8 lowest frequencies above their median
    (Krawetz: Looks like it, 2011). "dhash": grey 9 x 8, each pixel brighter than its left neighbour (Krawetz: Kind of
    like that, 2013).
    """
    grey = image.convert("L")
    if kind == "dhash":
        pixels = np.asarray(grey.resize((9, 8), Image.Resampling.LANCZOS))
        bits = pixels[:, 1:] > pixels[:, :-1]
    else:
        pixels = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS), dtype=np.float64)
        low = dctn(pixels, type=2)[:8, :8]
        bits = low > np.median(low)
    return np.uint64(int.from_bytes(np.packbits(bits.reshape(-1)).tobytes(), "big"))


def alike_images(found: Looks) -> Links:
    """The images that show what an earlier one shows."""
    step = drop_near_images()
    return linked(step, step.signature_of(found))


def hamming_keys(hashes: Array, distance: int) -> Array:
    """[n, distance + 1] uint64 of 64-bit hashes [n]; any two that differ in at most ``distance`` bits share one.

    Hashes cut in so many pieces agree in at least one of them (Norouzi, Punjani, Fleet: Fast search in Hamming space
    with multi-index hashing, 2012).
    """
    borders = np.linspace(0, 64, distance + 2).astype(int)
    keys = np.empty((len(hashes), distance + 1), dtype=np.uint64)
    for k, (low, high) in enumerate(itertools.pairwise(borders.tolist())):
        piece = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        keys[:, k] = (piece ^ PLACE_VALUES[k]) * PLACE_VALUES[128 + k]  # one to one, and unlike in each piece
        keys[:, k] ^= keys[:, k] >> np.uint64(29)
    return keys
