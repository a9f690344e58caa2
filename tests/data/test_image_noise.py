"""Noise of images: our own code and OpenCV give the same, and each filter does what it is for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from groundup.core.contract import contract_of
from groundup.core.dataset import Dataset, apply
from groundup.core.errors import DataError, RecipeError
from groundup.core.use import Use, make
from groundup.data.cleaning import image_noise
from groundup.data.pixels import open_image, to_array, to_png
from groundup.data.sources import scikit_learn

Array = np.ndarray[Any, Any]

FILTERS: dict[str, tuple[Callable[..., Array], int]] = {
    "median": (partial(image_noise.median_of, size=3), 0),
    "wide_median": (partial(image_noise.median_of, size=7), 0),
    "gaussian": (partial(image_noise.gaussian_of, sigma=1.3), 1),
    "bilateral": (partial(image_noise.bilateral_of, size=5, sigma_colour=30.0, sigma_space=2.0), 1),
    "non_local_means": (partial(image_noise.non_local_means_of, strength=15.0, patch=5, search=11), 3),
}
"""Filter -> by how many levels OpenCV's fixed-point arithmetic may differ."""


def picture(height: int = 40, width: int = 50, channels: int = 3, noise: float = 15.0, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    plain = 120 + 60 * np.sin(np.add.outer(np.arange(height) / 9, np.arange(width) / 6))
    plain[height // 3 : height // 2, width // 4 : width // 2] = 230
    coloured = np.stack([plain, 255 - plain, plain / 2][:channels], axis=-1)
    return (coloured + rng.normal(0, noise, coloured.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(40, 50), (7, 9), (1, 1), (2, 5)])
def test_our_own_code_equals_opencv(
    name: str, channels: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    how, levels = FILTERS[name]
    pixels = picture(*size, channels)
    before = pixels.copy()
    fast = how(pixels)
    assert np.array_equal(pixels, before)
    assert fast.shape == pixels.shape
    assert fast.dtype == np.uint8
    monkeypatch.setattr(image_noise, "_opencv", lambda: None)
    slow = how(pixels)
    assert np.abs(fast.astype(int) - slow.astype(int)).max() <= levels


def test_formulas_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_noise, "_opencv", lambda: None)
    pixels = picture(12, 14)
    given_ = pixels.astype(np.float64)
    padded = np.pad(given_, ((6, 6), (6, 6), (0, 0)), mode="reflect")
    weights, total = 0.0, np.zeros(3)
    alike, likely = 0.0, np.zeros(3)
    y, x = 5, 9
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            other = padded[y + 6 + dy, x + 6 + dx]
            if dy**2 + dx**2 <= 4:
                c = np.abs(other - given_[y, x]).sum()
                w = np.exp(-(dy**2 + dx**2) / (2 * 1.5**2) - c**2 / (2 * 40.0**2))
                weights, total = weights + w, total + w * other
            one = padded[y + 5 : y + 8, x + 5 : x + 8]
            two = padded[y + 5 + dy : y + 8 + dy, x + 5 + dx : x + 8 + dx]
            w = np.exp(-((one - two) ** 2).mean() / 20.0**2)
            alike, likely = alike + w, likely + w * other
    bilateral = image_noise.bilateral_of(pixels, size=5, sigma_colour=40.0, sigma_space=1.5)
    assert bilateral[y, x].tolist() == np.rint(total / weights).tolist()
    means = image_noise.non_local_means_of(pixels, strength=20.0, patch=3, search=5)
    assert means[y, x].tolist() == np.rint(likely / alike).tolist()
    median = ndimage.median_filter(given_[..., 0], 3, mode="nearest")
    assert np.array_equal(image_noise.median_of(pixels, 3)[..., 0], median)


@pytest.mark.parametrize("name", ["gaussian", "bilateral", "non_local_means"])
def test_noise_goes(name: str) -> None:
    clean, noisy = picture(noise=0.0), picture(noise=15.0)
    how, _ = FILTERS[name]

    def error(found: Array) -> float:
        return float(((found.astype(float) - clean) ** 2).mean())

    assert error(how(noisy)) < 0.6 * error(noisy)


def test_salt_and_pepper_go_and_edges_stay() -> None:
    clean = picture(noise=0.0)
    noisy = clean.copy()
    hit = np.random.default_rng(0).random(clean.shape[:2]) < 0.05
    noisy[hit] = 255 * (np.random.default_rng(1).random((int(hit.sum()), 1)) < 0.5)
    found = image_noise.median_of(noisy, 3)
    assert (np.abs(found.astype(int) - clean)[hit] < 40).mean() > 0.95
    step = np.zeros((20, 20, 1), np.uint8)
    step[:, 10:] = 200
    assert np.array_equal(image_noise.bilateral_of(step, 5, 10.0, 2.0), step)
    assert image_noise.gaussian_of(step, 2.0)[0, 9, 0] > 20


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]), st.sampled_from(sorted(FILTERS)))
@settings(max_examples=60, deadline=None)
def test_any_size_and_a_flat_image_stays_flat(height: int, width: int, channels: int, name: str) -> None:
    flat = np.full((height, width, channels), 77, np.uint8)
    assert np.array_equal(FILTERS[name][0](flat), flat)


STEPS = [
    Use("image_median", size=3),
    Use("image_gaussian", sigma=0.8),
    Use("image_bilateral", size=3),
    Use("image_non_local_means", patch=3, search=5),
]


@pytest.mark.parametrize("use", STEPS, ids=lambda use: use.target)
def test_files_and_arrays_from_a_recipe(use: Use) -> None:
    step = make(use, "clean", where="recipe.data.clean[0]")
    assert contract_of(step) == "row-local"
    grey, colour = picture(channels=1), picture()
    frame = pl.DataFrame({"image": [to_png(grey, ""), to_png(colour, ""), None], "label": [1, 2, 3]})
    after = apply(step, Dataset.of(frame, {"image": "image"}), use.target)
    assert after.frame["image"].dtype == pl.Binary
    assert after.frame["image"][2] is None
    assert after.history[-1].notes == (f"image: 2 images filtered by {use.target}",)
    assert after.history[-1].cells_changed == {"image": 2}
    for i, pixels in enumerate((grey, colour)):
        found = to_array(open_image(after.frame["image"][i], ""), pixels.shape[2])
        assert found.shape == pixels.shape
        assert not np.array_equal(found, pixels)
    arrays = [picture(8, 9, 1)[..., 0].tolist(), picture(8, 9, 1, seed=1)[..., 0].tolist()]
    for dtype in (pl.List(pl.List(pl.UInt8)), pl.Array(pl.UInt8, (8, 9))):
        dataset = Dataset.of(pl.DataFrame({"image": pl.Series(arrays, dtype=dtype)}))
        changed = step(dataset)
        assert changed.frame["image"].dtype == dtype
        assert changed.kinds == dataset.kinds


def test_digits_are_filtered() -> None:
    digits = scikit_learn("digits")
    digits = digits.take(np.arange(20))
    found = image_noise.image_median(digits)
    first = np.array(digits.frame["image"][0].to_list(), dtype=np.uint8)
    expected = ndimage.median_filter(first, 3, mode="nearest")
    assert np.array_equal(np.array(found.frame["image"][0].to_list()), expected)


def test_what_is_no_image_is_named() -> None:
    good = to_png(picture(), "")
    with pytest.raises(DataError, match="image_median: column 'image', row 1: not an image"):
        image_noise.image_median(Dataset.of(pl.DataFrame({"image": [good, b"none"]})))
    with pytest.raises(DataError, match="there are 0 image columns"):
        image_noise.image_gaussian(Dataset.of(pl.DataFrame({"x": [1]})))
    with pytest.raises(DataError, match="is of kind number, it needs image"):
        image_noise.image_gaussian(Dataset.of(pl.DataFrame({"x": [1]})), "x")
    with pytest.raises(DataError, match="there are 0 image columns"):
        image_noise.image_median(Dataset.of(pl.DataFrame({"image": [[[300, 1]]]})))
    for options, words in (
        (partial(image_noise.image_median, size=4), "image_median.size: read 4"),
        (partial(image_noise.image_gaussian, sigma=0.0), "image_gaussian.sigma"),
        (partial(image_noise.image_bilateral, size=2), "image_bilateral.size"),
        (partial(image_noise.image_non_local_means, patch=7, search=5), "an odd patch"),
    ):
        with pytest.raises(RecipeError, match=words):
            options(Dataset.of(pl.DataFrame({"image": [good]})))
