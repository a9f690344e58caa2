"""Images that show the same, though their files differ: saved anew, resized, slightly brighter.

Candidates are those whose perceptual hashes differ in few bits; a pair counts when what both show is alike, too.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import polars as pl
from PIL import Image
from scipy.fft import dctn  # type: ignore[import-untyped]

from groundup.core.contract import Contract, State
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.cleaning.clusters import Clusters, Links, Names, without
from groundup.data.pixels import open_image, to_array

Array = np.ndarray[Any, Any]
Kind = Literal["phash", "dhash"]

SIDE = 16
"""Pixels on each side of what two images are compared by."""

TINY, TINY_SIMILARITY = 32, 0.9995
"""Images of so few pixels a side count as the same from here only: two digits of MNIST reach 0.997."""

PAIRS_AT_ONCE = 20_000


@dataclasses.dataclass(frozen=True)
class drop_near_images:
    """Keeps the first of each group of images that show the same, whatever their size, format and quality.

    A pair counts when its perceptual hashes of 64 bits differ in at most ``distance`` bits and the correlation of
    both, as 16 x 16 pixels in colour, is at least ``similarity``: r = cov(a, b) / (sd(a) sd(b)). ``hash`` is "phash"
    (low frequencies of a cosine transform against their median) or "dhash" (brightness that falls from left to right;
    both Krawetz 2011, 2013). Of 397 photographs saved as JPEG of quality 30, or halved, all are found by the defaults;
    cropped by 2% they are not (5%). Images of at most 32 pixels a side need
    0.9995, or unlike digits of MNIST would count. 780 bytes an image are held.
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
        return without(dataset, self.removed([self.signature(dataset)])[0])

    def signature(self, shard: Dataset) -> State:
        """``hashes`` [n] uint64, ``small`` [n, 768] uint8, ``sides`` [n] uint32, and the rows' ``names``."""
        found = looks(shard, self.column, self.hash)
        return {**found._asdict(), "names": shard.row_names()}

    def removed(self, signatures: list[State]) -> list[dict[int, str]]:
        """For each shard: position -> "near-duplicate image: 0.998 like ..." of each image that goes."""
        names = Names([one["names"] for one in signatures])
        found = Looks(*(np.concatenate([one[name] for one in signatures]) for name in Looks._fields))
        gone = alike_images(found, self.distance, self.similarity)
        return names.by_shard({i: f"near-duplicate image: {r:.3f} like {names[j]}" for i, (r, j) in gone.items()})


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

    def correlation(self, one: Array, other: Array) -> Array:
        """Of pairs of images, pixel by pixel; of even surfaces 1 where they are equal and 0 where they are not."""
        found = np.zeros(len(one))
        for part in np.array_split(np.arange(len(one)), 1 + len(one) // PAIRS_AT_ONCE):
            a, b = (self.small[rows[part]].astype(np.float32) for rows in (one, other))
            a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
            scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
            equal = (self.small[one[part]] == self.small[other[part]]).all(axis=1)
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


def alike_images(found: Looks, distance: int = 4, similarity: float = 0.995) -> Links:
    """Position of each image that shows what an earlier one shows -> (correlation, position of that one)."""
    clusters = Clusters(len(found.hashes))
    groups = equal_looks(found)
    for group in groups:
        for copy in group[1:]:
            clusters.join(group[0], copy, 1.0)
    for i, j, value in image_pairs(found, groups, distance, similarity):
        clusters.join(groups[i][0], groups[j][0], value)
    return clusters.later_ones(found.correlation, similarity)


def equal_looks(found: Looks) -> list[list[int]]:
    """The positions of images that are the same pixel by pixel once they are small, group by group."""
    groups: dict[bytes, list[int]] = {}
    for i in np.flatnonzero(found.there).tolist():
        groups.setdefault(found.small[i].tobytes(), []).append(i)
    return list(groups.values())


def image_pairs(
    found: Looks, groups: list[list[int]], distance: int = 4, similarity: float = 0.995
) -> Iterator[tuple[int, int, float]]:
    """Pairs of groups whose images show the same, with their correlation."""
    rows = np.array([group[0] for group in groups], dtype=np.int64)
    for one, other in hamming_pairs(found.hashes[rows], distance):
        values = found.correlation(rows[one], rows[other])
        tiny = np.maximum(found.sides[rows[one]], found.sides[rows[other]]) <= TINY
        near = values >= np.where(tiny, max(similarity, TINY_SIMILARITY), similarity)
        yield from zip(one[near].tolist(), other[near].tolist(), values[near].tolist(), strict=True)


def hamming_pairs(hashes: Array, distance: int) -> Iterator[tuple[Array, Array]]:
    """All pairs (i < j) of 64-bit hashes [n] that differ in at most ``distance`` bits, some at a time, each once.

    Hashes cut in ``distance`` + 1 pieces agree in at least one of them (Norouzi, Punjani, Fleet: Fast search in
    Hamming space with multi-index hashing, 2012); within each piece's buckets all pairs are compared.
    """
    borders = np.linspace(0, 64, distance + 2).astype(int)
    pieces = [
        (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        for low, high in itertools.pairwise(borders.tolist())
    ]
    for k, piece in enumerate(pieces):
        order = np.argsort(piece, kind="stable")
        ordered = piece[order]
        places = np.arange(len(hashes))
        apart = 0
        while len(places):
            apart += 1
            places = places[places + apart < len(hashes)]
            places = places[ordered[places] == ordered[places + apart]]
            one, other = order[places], order[places + apart]
            near = np.bitwise_count(hashes[one] ^ hashes[other]) <= distance
            one, other = one[near], other[near]
            # What an earlier piece has in common was given there.
            new = ~np.any([before[one] == before[other] for before in pieces[:k]] or [np.zeros(len(one), bool)], axis=0)
            if new.any():
                yield one[new], other[new]
