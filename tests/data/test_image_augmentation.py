"""Changes of values, mixing and engines: right by outside references, and the same however images are batched."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError, MissingExtraError, RecipeError
from groundup.core.preprocessing import Preprocessing
from groundup.core.use import Use, make
from groundup.data.augmentation import (
    AEDA,
    Brightness,
    Contrast,
    CutMix,
    Cutout,
    Flip,
    GaussianBlur,
    GaussianNoise,
    Hue,
    MixUp,
    RandAugment,
    RandomResizedCrop,
    Rotate,
    Saturation,
    Scale,
    Shear,
    Translate,
    before_and_after,
)
from groundup.data.augmentation import images as engines
from groundup.data.augmentation.affine import warp
from groundup.data.augmentation.images import augment_pixels, draw_images
from groundup.data.augmentation.random_policy import (
    OPERATIONS,
    auto_contrast,
    equalize,
    posterize,
    smooth,
)
from groundup.data.loading import batches
from groundup.data.samples import Images

EVERY = [
    Rotate(20), Brightness(0.4), Translate(0.1), Contrast(0.4), Saturation(0.5), Hue(0.1), GaussianBlur(0.3, 1.2, 0.5),
    GaussianNoise(0.1), Cutout(0.4, 0.5), RandAugment(2, 12), Flip(0.5), RandomResizedCrop(0.3),
]  # fmt: skip
MIXED = [*EVERY, MixUp(0.4), CutMix(1.0, 0.5)]
STILL = [
    Rotate(0), Brightness(0), Contrast(0), Saturation(0), Hue(0), GaussianBlur(probability=0), GaussianNoise(0),
    Cutout(probability=0), MixUp(probability=0), CutMix(probability=0),
]  # fmt: skip


def pictures(count: int, height: int = 14, width: int = 18, channels: int = 3) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(5)
    smoothed = ndimage.gaussian_filter(rng.uniform(size=(count, height, width, channels)), (0, 1.5, 1.5, 0))
    low, high = smoothed.min(axis=(1, 2, 3), keepdims=True), smoothed.max(axis=(1, 2, 3), keepdims=True)
    return ((smoothed - low) / (high - low) * 255).round().astype(np.uint8)


def tensor(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    return augment_pixels(pixels, None)


def dataset(count: int = 24, split: str = "train", channels: int = 3, target: str = "class") -> Dataset:
    pixels = pictures(count, channels=channels)
    labels = [f"c{i % 3}" for i in range(count)] if target == "class" else [float(i * i) for i in range(count)]
    frame = pl.DataFrame({"image": pl.Series(pixels, dtype=pl.Array(pl.UInt8, pixels.shape[1:])), "label": labels})
    made = Dataset.of(frame, {"image": "image"})
    return made.take(np.arange(count), split)  # type: ignore[arg-type]


def only(name: str, strength: float) -> np.ndarray[Any, Any]:
    """What RandAugment draws when it draws this operation alone."""
    return np.array([[float(OPERATIONS.index(name)), strength]])


# ---------------------------------------------------------------------------------------------- determinism


@pytest.mark.parametrize("engine", ["torch", "opencv", "pillow"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_does_not_depend_on_its_batch(engine: Any, channels: int) -> None:
    pytest.importorskip("cv2") if engine == "opencv" else None
    train = dataset(channels=channels)
    encoded = Images("image", target="label", engine=engine).fit(train).encode(train)
    whole, targets = encoded.batch(np.arange(24), MIXED, seed=3, epoch=2)
    order = np.random.default_rng(0).permutation(24)
    for part in np.split(order, [1, 2, 9, 20]):
        inputs, soft = encoded.batch(part, MIXED, seed=3, epoch=2)
        assert torch.equal(inputs["inputs"], whole["inputs"][part])
        assert torch.equal(soft["targets"], targets["targets"][part])
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 3}):
        assert not torch.equal(encoded.batch(np.arange(24), MIXED, **other)[0]["inputs"], whole["inputs"])


def test_a_stream_that_is_resumed_goes_on_bit_for_bit() -> None:
    train = dataset()
    encoded = Images("image", target="label").fit(train).encode(train)
    stream = batches(encoded, 7, seed=1, augment=MIXED)
    seen = [next(stream) for _ in range(9)]
    resumed = batches(encoded, 7, seed=1, augment=MIXED, bookmark=seen[3].bookmark)
    for one, other in zip(seen[4:], resumed, strict=False):
        assert torch.equal(one.inputs["inputs"], other.inputs["inputs"])
        assert torch.equal(one.targets["targets"], other.targets["targets"])


def test_threads_change_nothing() -> None:
    train = dataset()
    encoded = Images("image", target="label").fit(train).encode(train)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 4):
            torch.set_num_threads(threads)
            found.append(encoded.batch(np.array([3]), EVERY, seed=0, epoch=0)[0]["inputs"])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_later_steps_do_not_change_what_earlier_ones_draw() -> None:
    few, many = (draw_images(steps, np.arange(9), (3, 8, 8), 1, 2, 9) for steps in (EVERY[:4], MIXED))
    for (_, one), (_, other) in zip(few.changes, many.changes, strict=False):
        np.testing.assert_array_equal(one, other)


@given(st.integers(0, 3), st.integers(2, 30), st.integers(2, 30), st.sampled_from([1, 3]))
@settings(max_examples=25)
def test_values_stay_within_black_and_white_for_any_shape(seed: int, height: int, width: int, channels: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (3, height, width, channels), dtype=np.uint8)
    drawn = draw_images(EVERY, np.arange(3), (channels, height, width), seed, 0)
    found = augment_pixels(pixels, drawn)
    assert found.shape == (3, channels, height, width)
    assert torch.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


def test_at_zero_strength_nothing_changes() -> None:
    train = dataset()
    encoded = Images("image", target="label").fit(train).encode(train)
    plain, hard = encoded.batch(np.arange(24))
    found, soft = encoded.batch(np.arange(24), STILL, seed=0, epoch=0)
    assert torch.equal(found["inputs"], plain["inputs"])
    assert torch.equal(soft["targets"].argmax(1), hard["targets"])
    assert soft["targets"].max(1)[0].min() == 1


# ---------------------------------------------------------------------------------------------- geometry and engines


def test_all_that_moves_becomes_one_matrix() -> None:
    moving = [step for step in EVERY if hasattr(step, "matrix")]
    drawn = draw_images(EVERY, np.arange(5), (3, 14, 18), 0, 0)
    images = tensor(pictures(5))
    assert len(moving) == 4
    assert [type(step) for step, _ in drawn.changes] == [type(step) for step in EVERY if hasattr(step, "change")]
    expected = warp(images, drawn.matrices)
    for step, numbers in drawn.changes:
        expected = step.change(expected, numbers)
    assert torch.equal(augment_pixels(pictures(5), drawn), expected)


@pytest.mark.parametrize("angle", [0.0, 17.0, 90.0, -135.0])
def test_a_rotated_point_lands_where_trigonometry_says(angle: float) -> None:
    class Fixed:
        def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
            return angle

    matrix = Rotate(180).matrix(Fixed(), 101, 101)  # type: ignore[arg-type]
    image = torch.zeros(1, 1, 101, 101)
    image[0, 0, 50 - 20, 50 + 30] = 1.0  # 30 to the right of the centre, 20 up
    image = torch.from_numpy(ndimage.gaussian_filter(image[0, 0].numpy(), 2))[None, None]
    moved = warp(image, matrix[None])[0, 0].numpy()
    row, column = ndimage.center_of_mass(moved)
    radians = np.deg2rad(angle)
    right, up = 30 * np.cos(radians) - 20 * np.sin(radians), 30 * np.sin(radians) + 20 * np.cos(radians)
    assert (column - 50, 50 - row) == pytest.approx((right, up), abs=0.02)


@pytest.mark.parametrize(("engine", "levels"), [("opencv", 0.51), ("pillow", 1.0)])
def test_engines_for_bytes_agree_with_the_batch_form(engine: Any, levels: float) -> None:
    cv2 = pytest.importorskip("cv2") if engine == "opencv" else None
    steps = [Rotate(40), Translate(0.2), Scale(0.7, 1.5), Shear(15), Flip(0.5)]
    pixels = pictures(12, 40, 30)
    drawn = draw_images(steps, np.arange(12), (3, 40, 30), 7, 0)
    theirs, ours = augment_pixels(pixels, drawn, engine=engine), augment_pixels(pixels, drawn)
    if cv2 is not None and int(cv2.__version__.split(".")[0]) < 5:
        levels = 255 / 64  # before, places were rounded to 1/32 pixel
    assert ((theirs - ours).abs() * 255).max() <= levels
    assert ((theirs - ours).abs() * 255).max() > 0.1, "it was really done with bytes"


@pytest.mark.parametrize("outside", ["zeros", "border", "reflection"])
def test_opencv_draws_in_the_same_from_outside(outside: str) -> None:
    pytest.importorskip("cv2")
    pixels = pictures(6, 20, 20, 1)
    drawn = draw_images([Translate(0.6), Rotate(90)], np.arange(6), (1, 20, 20), 1, 1)
    theirs, ours = (augment_pixels(pixels, drawn, outside, engine) for engine in ("opencv", "torch"))  # type: ignore[arg-type]
    assert ((theirs - ours).abs() * 255).max() < 4.5


def test_which_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    assert engines.choose_engine("auto", 256, 256) == "opencv"
    assert engines.choose_engine("auto", 8, 8) == "torch"
    assert engines.choose_engine("pillow", 8, 8) == "pillow"
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    assert engines.choose_engine("auto", 256, 256) == "torch"
    with pytest.raises(MissingExtraError, match=r"groundup\[images\]"):
        engines.choose_engine("opencv", 256, 256)


def test_the_engine_is_settled_once_and_travels() -> None:
    train = dataset()
    samples = Images("image", target="label", engine="pillow").fit(train)
    assert samples.need()["engine"] == "pillow"
    read = Preprocessing.from_json(Preprocessing((), samples).to_json())
    assert read.samples == samples
    with pytest.raises(RecipeError, match="nothing but black"):
        make(Use("Images", image="image", engine="pillow", outside="border"), "samples", where="recipe.data.samples")


def test_a_device_that_is_not_there_is_named() -> None:
    train = dataset()
    encoded = Images("image", target="label", device="cuda:77").fit(train).encode(train)
    encoded.batch(np.arange(2))  # what is not augmented needs none
    with pytest.raises(DataError, match=r"Images\.device: 'cuda:77'"):
        encoded.batch(np.arange(2), EVERY)


@pytest.mark.gpu
def test_a_gpu_applies_the_same_numbers() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    train = dataset()
    here = Images("image", target="label", engine="torch").fit(train).encode(train)
    there = Images("image", target="label", engine="torch", device="cuda").fit(train).encode(train)
    steps = [step for step in MIXED if not isinstance(step, RandAugment)]  # it rounds to levels
    one, other = (e.batch(np.arange(24), steps, seed=1, epoch=1)[0]["inputs"] for e in (here, there))
    assert other.device.type == "cuda"
    torch.testing.assert_close(other.cpu(), one, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (33, 33)])
def test_a_random_resized_crop_is_pillows_resized_box(shape: tuple[int, int]) -> None:
    height, width = shape
    pixels = pictures(1, height, width)
    for row in range(8):
        matrix = RandomResizedCrop(0.2, 0.9).matrix(np.random.default_rng(row), height, width)
        corners = np.linalg.inv(matrix) @ np.array([[-width / 2, width / 2], [-height / 2, height / 2], [1, 1]])
        left, right = corners[0] + width / 2
        top, bottom = corners[1] + height / 2
        assert -1e-9 <= left < right <= width + 1e-9
        assert -1e-9 <= top < bottom <= height + 1e-9
        assert 0.2 - 1e-9 <= (right - left) * (bottom - top) / (height * width) <= 0.9 + 1e-9
        assert 3 / 4 - 1e-9 <= (right - left) / (bottom - top) <= 4 / 3 + 1e-9
        ours = warp(tensor(pixels), matrix[None], "border")[0].permute(1, 2, 0).numpy() * 255
        resized = Image.fromarray(pixels[0]).resize(
            (width, height), Image.Resampling.BILINEAR, (left, top, right, bottom)
        )
        np.testing.assert_allclose(ours[4:-4, 4:-4], np.asarray(resized)[4:-4, 4:-4], atol=1.5)


# ---------------------------------------------------------------------------------------------- values, by references


@pytest.mark.parametrize("factor", [0.2, 0.8, 1.0, 1.7])
@pytest.mark.parametrize(
    ("step", "enhance"),
    [
        (Brightness(1), ImageEnhance.Brightness),
        (Contrast(1), ImageEnhance.Contrast),
        (Saturation(1), ImageEnhance.Color),
    ],
)
def test_colour_changes_as_in_pillow(step: Any, enhance: Any, factor: float) -> None:
    pixels = pictures(1, 30, 30)
    ours = step.change(tensor(pixels), np.array([[factor]]))[0].permute(1, 2, 0).numpy() * 255
    theirs = np.asarray(enhance(Image.fromarray(pixels[0])).enhance(factor)).astype(float)
    assert np.abs(ours - theirs).max() <= 1.6  # Pillow rounds the grey, the mean grey and the sum


@pytest.mark.parametrize("turn", [-0.5, -0.13, 0.25, 0.4])
def test_hue_turns_as_colorsys_says(turn: float) -> None:
    images = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    ours = Hue(0.5).change(images, np.array([[turn]]))[0]
    for i in range(6):
        for j in range(7):
            hue, saturation, value = colorsys.rgb_to_hsv(*images[0, :, i, j].tolist())
            expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
            assert ours[:, i, j].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("deviation", [0.4, 1.0, 1.9])
def test_blur_is_scipys(deviation: float) -> None:
    images = tensor(pictures(1, 25, 31))
    step = GaussianBlur(0.1, 2.0)
    ours = step.change(images, np.array([[deviation]]))[0].numpy()
    theirs = ndimage.gaussian_filter(images[0].numpy(), (0, deviation, deviation), mode="mirror", radius=(0, 6, 6))
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_noise_has_the_deviation_that_was_drawn() -> None:
    images = torch.full((2, 3, 200, 200), 0.5)
    found = GaussianNoise(0.1).change(images, np.array([[0.05, 1.0], [0.02, 2.0]])) - 0.5
    assert found[0].std() == pytest.approx(0.05, rel=0.01)
    assert found[1].std() == pytest.approx(0.02, rel=0.01)
    assert abs(float(found[0].mean())) < 5e-4


def test_cutout_is_a_square_of_its_share() -> None:
    images = torch.ones(200, 1, 20, 30)
    drawn = draw_images([Cutout(0.5)], np.arange(200), (1, 20, 30), 0, 0)
    holes = (Cutout(0.5).change(images, drawn.changes[0][1]) == 0).sum(dim=(1, 2, 3))
    assert int(holes.max()) == 100
    assert int(holes.min()) >= 25, "at a corner a quarter lies inside"


@pytest.mark.parametrize(
    ("ours", "theirs", "levels"),
    [
        (equalize, ImageOps.equalize, 0.001),
        (auto_contrast, ImageOps.autocontrast, 1.001),
        (lambda images: posterize(images, 4), lambda image: ImageOps.posterize(image, 4), 0.001),
        (lambda images: posterize(images, 7), lambda image: ImageOps.posterize(image, 7), 0.001),
    ],
)
def test_operations_on_levels_are_pillows(ours: Any, theirs: Any, levels: float) -> None:
    for pixels in (pictures(1, 24, 32), pictures(1, 24, 32) // 3 + 20):
        found = ours(tensor(pixels))[0].permute(1, 2, 0).numpy() * 255
        assert np.abs(found - np.asarray(theirs(Image.fromarray(pixels[0]))).astype(float)).max() <= levels


@pytest.mark.parametrize("factor", [0.1, 1.9])
def test_sharpness_is_pillows(factor: float) -> None:
    pixels = pictures(1, 24, 32)
    step = RandAugment(1, 30)
    ours = step.change(tensor(pixels), only("sharpness", (factor - 1) / 0.9))[0].permute(1, 2, 0).numpy() * 255
    theirs = np.asarray(ImageEnhance.Sharpness(Image.fromarray(pixels[0])).enhance(factor)).astype(float)
    assert np.abs(ours - theirs).max() <= 1.6
    assert torch.equal(smooth(torch.ones(1, 1, 2, 2)), torch.ones(1, 1, 2, 2))


def test_rand_augment_draws_every_operation_evenly_and_knows_identity() -> None:
    drawn = draw_images([RandAugment(2, 15)], np.arange(3000), (3, 8, 8), 0, 0).changes[0][1]
    counts = np.bincount(np.concatenate([drawn[:, 0], drawn[:, 2]]).astype(int), minlength=14)
    assert counts.min() > 0.8 * 6000 / 14
    assert set(np.abs(drawn[:, 1]).tolist()) == {0.5}
    images = tensor(pictures(1))
    assert torch.equal(RandAugment(1).change(images, only("identity", 0.3)), images)
    assert torch.equal(RandAugment(1).change(images, only("rotate", 0.3)), images), "moved by the matrix alone"
    assert RandAugment(1).moves(only("translate_x", 1.0)[0], 8, 331)[0, 2] == pytest.approx(150)
    solarized = RandAugment(1).change(images, only("solarize", 0.5))
    assert torch.equal(solarized, torch.where(images >= 0.5, 1 - images, images))


# ---------------------------------------------------------------------------------------------- mixing


def test_mix_up_mixes_finished_samples_and_their_targets() -> None:
    train = dataset()
    encoded = Images("image", target="label").fit(train).encode(train)
    alone, hard = encoded.batch(np.arange(24), EVERY, seed=3, epoch=1)
    mixed, soft = encoded.batch(np.arange(24), [*EVERY, MixUp(1.0)], seed=3, epoch=1)
    ((_, numbers),) = draw_images([*EVERY, MixUp(1.0)], encoded.rows, (3, 14, 18), 3, 1, 24).mixes
    others = numbers[:, 0].astype(int)
    share = torch.from_numpy(numbers[:, 1]).float()
    expected = share[:, None, None, None] * alone["inputs"] + (1 - share)[:, None, None, None] * alone["inputs"][others]
    torch.testing.assert_close(mixed["inputs"], expected, atol=1e-5, rtol=1e-5)
    classes = torch.nn.functional.one_hot(hard["targets"], 3).float()
    torch.testing.assert_close(soft["targets"], share[:, None] * classes + (1 - share)[:, None] * classes[others])
    assert len(set(others.tolist())) > 10
    torch.testing.assert_close(soft["targets"].sum(1), torch.ones(24))


def test_cut_mix_counts_the_pixels_that_stayed() -> None:
    step = CutMix(1.0)
    images, others = torch.zeros(400, 1, 12, 16), torch.ones(400, 1, 12, 16)
    drawn = np.array([step.draw_mix(np.random.default_rng(i), 9, (1, 12, 16)) for i in range(400)])
    stayed = 1 - step.mix(images, others, drawn).mean(dim=(1, 2, 3))
    np.testing.assert_allclose(stayed.numpy(), drawn[:, 1], atol=1e-6)
    assert drawn[:, 1].min() < 0.3
    assert drawn[:, 1].max() > 0.9


def test_values_are_mixed_in_regression() -> None:
    train = dataset(target="value")
    encoded = Images("image", target="label", task="regress").fit(train).encode(train)
    _, plain = encoded.batch(np.arange(24))
    _, mixed = encoded.batch(np.arange(24), [MixUp(1.0)], seed=0, epoch=0)
    assert mixed["targets"].shape == (24, 1)
    assert not torch.equal(mixed["targets"], plain["targets"])
    assert mixed["targets"].max() <= plain["targets"].max()


def test_what_does_not_fit_is_refused() -> None:
    train = dataset()
    encoded = Images("image", target="label").fit(train).encode(train)
    with pytest.raises(RecipeError, match="Rotate stands behind MixUp"):
        encoded.batch(np.arange(2), [MixUp(), Rotate(3)])
    with pytest.raises(RecipeError, match="AEDA has neither matrix"):
        encoded.batch(np.arange(2), [AEDA()])
    with pytest.raises(RecipeError, match=r"CutMix pastes a part of an image.*\[5\]"):
        CutMix().draw_mix(np.random.default_rng(0), 3, (5,))


@pytest.mark.parametrize(
    "use",
    [
        Use("Brightness", strength=1.5), Use("Contrast", strength=-0.1), Use("Saturation", strength=2.0),
        Use("Hue", turns=0.6), Use("GaussianBlur", low=0.0), Use("GaussianNoise", deviation=2.0),
        Use("Cutout", fraction=0.0), Use("MixUp", alpha=0.0), Use("CutMix", probability=1.1),
        Use("RandAugment", magnitude=31.0), Use("RandAugment", number=0), Use("RandomResizedCrop", low=0.0),
    ],
)  # fmt: skip
def test_options_out_of_range_name_the_place_in_the_recipe(use: Use) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.data\.augment\[0\].*read"):
        make(use, "augment", where="recipe.data.augment[0]")


def test_before_and_after_each_step() -> None:
    train = dataset()
    encoded = Images("image", target="label").fit(train).encode(train)
    shown = before_and_after(encoded, [Rotate(30), Brightness(0.5), MixUp()], count=3, seed=2)
    assert [name for name, _ in shown[0].stages] == ["before", "Rotate", "Brightness", "MixUp"]
    assert len(shown) == 3
    for one in shown:
        position = int(np.flatnonzero(encoded.rows == one.row)[0])
        assert all(value.dtype == np.uint8 and value.shape == (14, 18, 3) for _, value in one.stages)
        np.testing.assert_array_equal(one.stages[0][1], encoded.pixels(np.array([position]))[0])
        last = encoded.augmented(np.array([position]), [Rotate(30), Brightness(0.5), MixUp()], 2, 0)[0]
        np.testing.assert_array_equal(one.stages[-1][1], last)
    with pytest.raises(DataError, match="no augmentation that can be shown"):
        before_and_after([], [])
