"""Images that show the same: hashes against their definitions, search against brute force, photographs saved anew."""

from __future__ import annotations

import gzip
import io
import itertools
import math
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from groundup.core.contract import contract_of
from groundup.core.dataset import Dataset, Splits, apply
from groundup.core.errors import DataError
from groundup.data.cleaning import drop_near_images
from groundup.data.cleaning.clusters import apart, bands_of, similar_pairs
from groundup.data.cleaning.leaks import find_leaks
from groundup.data.cleaning.pictures import hamming_keys, looks, perceptual_hash


def saved(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def scene(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """Smooth colours, as a photograph's are."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


def pictures(*images: bytes | None, names: list[str] | None = None) -> Dataset:
    names = names or [f"{i}.png" for i in range(len(images))]
    frame = pl.DataFrame({"path": names, "image": list(images)}, schema={"path": pl.String, "image": pl.Binary})
    return Dataset.of(frame, {"path": "id", "image": "image"})


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_hamming_pairs_are_those_of_brute_force(values: list[int], distance: int) -> None:
    near = [value ^ (1 << (i % 64)) ^ (1 << (7 * i % 64)) for i, value in enumerate(values)]
    hashes = np.array(values + near + values[:2], dtype=np.uint64)
    rows = np.arange(len(hashes))
    bands = bands_of({"keys": hamming_keys(hashes, distance), "tags": hashes}, rows)
    near = similar_pairs(drop_near_images(distance=distance), bands, rows, lambda pairs: np.ones(len(pairs)))
    found = list(zip(*(some.tolist() for some in apart(near.pairs)), strict=True))
    plain = [
        (i, j)
        for i, j in itertools.combinations(range(len(hashes)), 2)
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= distance
    ]
    assert sorted(found) == plain, "each pair once"


def test_hashes_are_those_of_their_definitions() -> None:
    image = scene(3)
    grey = image.convert("L")
    narrow = np.asarray(grey.resize((9, 8), Image.Resampling.LANCZOS)).astype(int)
    bits = "".join("1" if narrow[y, x + 1] > narrow[y, x] else "0" for y in range(8) for x in range(8))
    assert int(perceptual_hash(image, "dhash")) == int(bits, 2)
    wide = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS)).astype(float)
    waves = np.array([[math.cos(math.pi * (2 * n + 1) * k / 64) for n in range(32)] for k in range(8)])
    low = waves @ wide @ waves.T
    assert int(perceptual_hash(image)) == int("".join("01"[int(v > np.median(low))] for v in low.reshape(-1)), 2)


def test_an_image_saved_anew_goes_and_another_stays() -> None:
    first, second = scene(1), scene(2)
    small = first.resize((32, 24), Image.Resampling.BILINEAR)
    dataset = pictures(
        saved(first), saved(second), saved(first, "JPEG", quality=60), saved(small), None, saved(first), None
    )
    cleaned = apply(drop_near_images(), dataset, "drop_near_images")
    assert cleaned.frame["path"].to_list() == ["0.png", "1.png", "4.png", "6.png"]
    reasons = dict(cleaned.history[-1].removed)
    assert reasons["5.png"] == "near-duplicate image: 1.000 like 0.png"
    assert reasons["2.png"].startswith("near-duplicate image: 0.99")
    assert contract_of(drop_near_images()) == "pairwise"


def test_even_surfaces_are_told_apart_by_their_colour() -> None:
    colours = ["black", "white", "red", "black", "red"]
    dataset = pictures(*(saved(Image.new("RGB", (20, 20), colour)) for colour in colours))
    assert drop_near_images()(dataset).frame["path"].to_list() == ["0.png", "1.png", "2.png"]


def test_arrays_are_images_too_and_nonsense_is_refused() -> None:
    values = np.stack([np.asarray(scene(i, 12, 12).convert("L")) for i in (1, 2, 1)])
    frame = pl.DataFrame({"image": pl.Series(values, dtype=pl.Array(pl.UInt8, (12, 12)))})
    assert drop_near_images()(Dataset.of(frame)).frame["_row"].to_list() == [0, 1]
    with pytest.raises(DataError, match="no column of images"):
        drop_near_images()(Dataset.of(pl.DataFrame({"a": [1]})))
    with pytest.raises(DataError, match=r"0\.png: not an image"):
        drop_near_images()(pictures(b"nonsense"))
    for wrong in ({"distance": 64}, {"distance": -1}, {"similarity": 0.0}):
        with pytest.raises(DataError, match="expected 0 to 63"):
            drop_near_images(**wrong)  # type: ignore[arg-type]


def test_leaks_of_images_across_splits() -> None:
    train = pictures(*(saved(scene(i)) for i in range(5)), names=[f"train-{i}" for i in range(5)])
    valid = pictures(saved(scene(10)), saved(scene(2), "JPEG", quality=70), names=["v0", "v1"])
    test = pictures(saved(scene(10)), saved(scene(11)), saved(scene(4)), names=["t0", "t1", "t2"])
    leaks = find_leaks(Splits(train, valid, test), "image")
    assert [(leak.split, leak.name, leak.like) for leak in leaks] == [
        ("valid", "v1", "train: train-2"),
        ("test", "t0", "valid: v0"),
        ("test", "t2", "train: train-4"),
    ]


def test_photographs_saved_anew_are_found_and_no_two_are_taken_for_one(shared_data: Path) -> None:
    with tarfile.open(shared_data / "img_hymenoptera" / "hymenoptera_256.tar") as archive:
        files = [archive.extractfile(m).read() for m in archive.getmembers() if m.name.endswith(".jpg")][:120]  # type: ignore[union-attr]
    images = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
    assert len(drop_near_images()(pictures(*files))) == len(files)
    again = [saved(image.resize((image.width // 2, image.height // 2)), "JPEG", quality=60) for image in images]
    left = drop_near_images()(pictures(*files, *again))
    assert len(left) <= len(files) + 3


def test_no_two_digits_of_mnist_are_taken_for_one(shared_data: Path) -> None:
    content = gzip.decompress((shared_data / "img_mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    digits = np.frombuffer(content, dtype=np.uint8, offset=16).reshape(-1, 28, 28)[:4000]
    frame = pl.DataFrame({"image": pl.Series(digits, dtype=pl.Array(pl.UInt8, (28, 28)))})
    assert len(drop_near_images()(Dataset.of(frame))) == 4000
    assert looks(Dataset.of(frame)).there.all()
