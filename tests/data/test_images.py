"""Images: what is no image is named, pixels are what Pillow says, and a drawing can be asked about."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from groundup.core.dataset import Dataset, Splits
from groundup.core.errors import DataError, RecipeError
from groundup.core.preprocessing import Preprocessing
from groundup.core.use import Use, make
from groundup.data import pixels
from groundup.data.augmentation import Rotate, Translate
from groundup.data.samples import Images
from groundup.data.samples import images as images_module
from groundup.data.sources import image_folder, scikit_learn


def png(array: np.ndarray[Any, Any], form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, **options)
    return buffer.getvalue()


def files(contents: list[bytes | None], labels: list[Any] | None = None, split: str = "train") -> Dataset:
    frame = pl.DataFrame({"image": pl.Series(contents, dtype=pl.Binary)})
    if labels is not None:
        frame = frame.with_columns(label=pl.Series(labels))
    dataset = Dataset.of(frame, {"image": "image"}, origin="memory")
    return dataclasses.replace(dataset, split=split)  # type: ignore[arg-type]


def noise(seed: int, shape: tuple[int, ...] = (6, 5, 3)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def digits() -> Splits:
    dataset = scikit_learn("digits")
    at = np.random.default_rng(0).permutation(len(dataset))
    return Splits(
        dataset.take(at[:300], "train"), dataset.take(at[300:400], "valid"), dataset.take(at[400:500], "test")
    )


def test_digits_are_normalised_by_train(digits: Splits) -> None:
    samples = Images("image", target="label").fit(digits.train)
    grey = digits.train.frame["image"].to_numpy() / 255
    learned = samples.need()
    assert learned["mean"] == pytest.approx([grey.mean()])
    assert learned["deviation"] == pytest.approx([grey.std()])
    assert samples.sizes() == {
        "input_shape": (1, 8, 8), "in_channels": 1, "image_size": (8, 8), "out_features": 10, "num_classes": 10,
    }  # fmt: skip
    inputs, targets = samples.encode(digits.test).batch(np.array([4, 2]))
    expected = (digits.test.frame["image"].to_numpy()[[4, 2], None] / 255 - grey.mean()) / grey.std()
    np.testing.assert_allclose(inputs["inputs"].numpy(), expected, atol=1e-6)
    assert [samples.need()["target"]["classes"][i] for i in targets["targets"]] == digits.test.frame["label"][
        [4, 2]
    ].to_list()


def test_augmented_batches_do_not_depend_on_the_batching(digits: Splits) -> None:
    encoded = Images("image", target="label").fit(digits.train).encode(digits.train)
    augment = [Rotate(20), Translate(0.1)]
    whole = encoded.batch(np.arange(40), augment, seed=3, epoch=2)[0]["inputs"]
    order = np.random.default_rng(1).permutation(40)
    for part in np.split(order, [1, 3, 10, 28]):
        assert torch.equal(encoded.batch(part, augment, seed=3, epoch=2)[0]["inputs"], whole[part])
    chosen = np.array([31, 7, 12])
    few = encoded.samples.encode(digits.train.take(chosen)).batch(np.arange(3), augment, seed=3, epoch=2)[0]["inputs"]
    assert torch.equal(few, whole[chosen]), "the draw goes by row, wherever it stands"
    assert not torch.equal(whole, encoded.batch(np.arange(40), augment, seed=3, epoch=3)[0]["inputs"])
    assert not torch.equal(whole, encoded.batch(np.arange(40))[0]["inputs"])
    np.testing.assert_array_equal(encoded.arrays()[0][:40], encoded.batch(np.arange(40))[0]["inputs"].numpy())


def test_outside_is_black_before_normalisation(digits: Splits) -> None:
    samples = Images("image", target="label").fit(digits.train)
    encoded = samples.encode(digits.train)
    moved = encoded.batch(np.arange(5), [Translate(1.0)], seed=0, epoch=0)[0]["inputs"]
    black = -samples.need()["mean"][0] / samples.need()["deviation"][0]
    assert float(moved.min()) == pytest.approx(black, abs=1e-5)


def test_files_and_arrays_give_the_same_samples() -> None:
    arrays = np.stack([noise(i) for i in range(4)])
    labels = ["a", "b", "a", "b"]
    encoded = files([png(array) for array in arrays], labels)
    columns = pl.DataFrame({"image": pl.Series(arrays, dtype=pl.Array(pl.UInt8, (6, 5, 3))), "label": labels})
    lists = pl.DataFrame({"image": pl.Series(arrays.tolist()), "label": labels})
    samples = Images("image", target="label").fit(encoded)
    wanted = samples.encode(encoded).batch(np.arange(4))[0]["inputs"]
    assert wanted.shape == (4, 3, 6, 5)
    for frame in (columns, lists):
        dataset = dataclasses.replace(Dataset.of(frame, {"image": "image"}), split="train")
        again = Images("image", target="label").fit(dataset)
        assert again.learned == samples.learned
        assert torch.equal(again.encode(dataset).batch(np.arange(4))[0]["inputs"], wanted)


def test_too_many_to_keep_are_decoded_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = files([png(noise(i)) for i in range(6)], [1.5, 2.5, 3.5, 4.5, 5.5, 6.5])
    samples = Images("image", target="label").fit(dataset)
    kept = samples.encode(dataset)
    monkeypatch.setattr(images_module, "MEMORY_BYTES", 100)
    lazy = samples.encode(dataset)
    assert kept.kept is not None
    assert lazy.kept is None
    at = np.array([5, 0, 3])
    assert torch.equal(kept.batch(at)[0]["inputs"], lazy.batch(at)[0]["inputs"])
    assert samples.task == "regress"
    np.testing.assert_allclose(samples.decode_targets(lazy.batch(at)[1]), [6.5, 1.5, 4.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"not an image", r"row 1: not an image that can be read: its bytes are no known image format"),
        (png(noise(1))[:60], r"row 1: not an image that can be read"),
        (None, r"row 1: there is no image"),
        (png(noise(1, (9, 9, 3))), r"row 1: 9 x 9 pixels, others have 6 x 5\. Set size"),
    ],
)
def test_a_bad_image_is_named_by_its_row(bad: bytes | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Images("image", target="label").fit(files([png(noise(0)), bad], ["a", "b"]))


def test_a_picture_that_unfolds_too_far_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "MAX_PIXELS", 29)
    with pytest.raises(DataError, match="5 x 6 pixels, more than the limit of 29"):
        Images("image", target="label").fit(files([png(noise(0)), png(noise(1))], ["a", "b"]))


def test_a_column_of_other_things_is_refused() -> None:
    dataset = dataclasses.replace(Dataset.of(pl.DataFrame({"x": [1, 2], "label": ["a", "b"]})), split="train")
    with pytest.raises(DataError, match="'x' is of kind number"):
        Images("x", target="label").fit(dataset)
    with pytest.raises(DataError, match="no column 'image'"):
        Images("image", target="label").fit(dataset)
    floats = pl.DataFrame({"image": pl.Series(np.zeros((2, 4, 4))), "label": ["a", "b"]})
    with pytest.raises(DataError, match="whole numbers 0 to 255"):
        Images("image", target="label").fit(dataclasses.replace(Dataset.of(floats, {"image": "image"}), split="train"))


@pytest.mark.parametrize(
    ("image", "grey", "expected"),
    [
        (Image.new("L", (2, 2), 77), True, 77),
        (Image.new("1", (2, 2), 1), True, 255),
        (Image.fromarray(np.full((2, 2), 0x4D00, dtype=np.uint16)), True, 0x4D),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 0)), False, 255),
        (Image.new("LA", (2, 2), (10, 255)), True, 10),
        (Image.new("RGB", (2, 2), (50, 50, 50)).quantize(4), False, 50),
    ],
)
def test_modes_of_pillow(image: Image.Image, grey: bool, expected: int) -> None:
    assert pixels.is_grey(image) == grey
    for channels in (1, 3):
        array = pixels.to_array(image, channels)
        assert array.shape == (2, 2, channels)
        assert np.unique(array).tolist() == [expected]


def test_a_turned_photograph_is_set_upright() -> None:
    array = noise(5, (6, 10, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    opened = pixels.open_image(png(array, exif=exif), "photo")
    np.testing.assert_array_equal(np.asarray(opened), np.rot90(array, -1))


def test_size_resizes_as_pillow_does() -> None:
    array = noise(3, (12, 9, 3))
    samples = Images("image", target="label", size=[4, 6]).fit(
        files([png(array), png(noise(4, (20, 20, 3)))], ["a", "b"])
    )
    found = samples.load(files([png(array)], split="test"))
    expected = np.asarray(Image.fromarray(array).resize((6, 4), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found[0], expected)
    assert samples.sizes()["image_size"] == (4, 6)
    assert Images("image", size=7).fit(files([png(array)])).sizes()["input_shape"] == (3, 7, 7)
    with pytest.raises(RecipeError, match=r"samples.*size: read \[1, 2, 3\]"):
        make(Use("Images", image="image", size=[1, 2, 3]), "samples")


def test_colours_of_other_kinds() -> None:
    samples = Images("image", size=4).fit(files([png(noise(0)), png(noise(1))]))
    served = samples.read(Image.new("CMYK", (4, 4), (0, 255, 255, 0)))
    assert samples.load(served)[0, 0, 0].tolist() == [255, 0, 0]
    with pytest.raises(DataError, match="image 0: the image holds floating-point grey values"):
        samples.read(Image.new("F", (4, 4)))
    buffer = io.BytesIO()
    Image.new("F", (4, 4)).save(buffer, "TIFF")
    with pytest.raises(DataError, match="row 1: the image holds floating-point"):
        Images("image", size=4).fit(files([png(noise(0)), buffer.getvalue()]))


@pytest.mark.parametrize("form", ["png", "jpeg", "pillow", "array", "bytes", "list"])
def test_raw_images_in_every_form(tmp_path: Path, digits: Splits, form: str) -> None:
    fitted, _ = Preprocessing.fit([], Images("image", target="label"), digits)
    fitted = Preprocessing.from_json(fitted.to_json(), trusted=("groundup",))
    array = digits.test.frame["image"].to_numpy()[0]
    path = tmp_path / f"digit.{form}"
    if form in ("png", "jpeg"):
        Image.fromarray(array).save(path, quality=100)
    raw: Any = {"pillow": Image.fromarray(array), "array": array, "bytes": png(array), "list": [array, path]}.get(
        form, str(path)
    )
    if form == "list":
        Image.fromarray(array).save(path, "PNG")
    served = fitted.samples.read(raw, fitted.schema)
    assert served.split == "serve"
    encoded = fitted.samples.encode(fitted(served))
    inputs, targets = encoded.batch(np.arange(len(encoded)))
    assert targets == {}
    wanted = fitted.samples.encode(digits.test).batch(np.array([0]))[0]["inputs"]
    torch.testing.assert_close(inputs["inputs"][:1], wanted, atol=0.1 if form == "jpeg" else 0.0, rtol=0)
    assert len(encoded) == (2 if form == "list" else 1)
    shown = fitted.samples.present(fitted.samples.decode(torch.zeros(1, 10)))
    assert shown[0]["probability"] == pytest.approx(0.1)


def test_raw_images_of_another_size_are_resized_and_said(digits: Splits) -> None:
    samples = Images("image", target="label").fit(digits.train)
    served = samples.read(noise(0, (80, 80)))
    assert served.notes == ("image 0: resized from 80 x 80 to 8 x 8",)
    assert samples.encode(served).batch(np.array([0]))[0]["inputs"].shape == (1, 1, 8, 8)
    assert samples.encode(samples.read(noise(0, (8, 8, 3)))).batch(np.array([0]))[0]["inputs"].shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("nowhere.png", r"nowhere\.png: cannot be read: No such file"),
        (np.zeros((8, 8)), "array of float64"),
        (np.zeros(8, dtype=np.uint8), "shape \\[8\\]"),
        (b"\x89PNG broken", "not an image"),
        (7, "read int, expected the path of an image"),
        ([], "empty list"),
    ],
)
def test_raw_input_that_is_no_image(digits: Splits, raw: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Images("image", target="label").fit(digits.train).read(raw)


def test_hymenoptera_as_files(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "img_hymenoptera" / "hymenoptera_256.tar") as archive:
        members = [m for m in archive.getmembers() if m.isfile() and "/val/" in f"/{m.name}"][::16]
        archive.extractall(tmp_path, members=members, filter="data")
    folder = next(p for p in tmp_path.rglob("val") if p.is_dir())
    dataset = image_folder(folder)
    assert sorted(set(dataset.frame["label"])) == ["ants", "bees"]
    assert len(dataset) == len(members)
    train = dataclasses.replace(dataset, split="train")
    samples = Images("image", target="label", size=32).fit(train)
    encoded = samples.encode(train)
    inputs, targets = encoded.batch(np.arange(len(encoded)), [Rotate(10)], seed=0, epoch=0)
    assert inputs["inputs"].shape == (len(members), 3, 32, 32)
    plain = encoded.arrays()[0]
    np.testing.assert_allclose(plain.mean(axis=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(plain.std(axis=(0, 2, 3)), 1, atol=1e-3)
    assert set(targets["targets"].tolist()) == {0, 1}
    assert "ants" in str(encoded.describe(0)) or "bees" in str(encoded.describe(0))


# ---------------------------------------------------------------------------------------------- statistics from pieces


@pytest.mark.parametrize("cuts", [[5], [1, 2, 3], [0, 7, 12]])
@pytest.mark.parametrize("kinds", ["colour", "grey", "mixed"])
def test_shards_in_order_teach_what_all_rows_teach(cuts: list[int], kinds: str) -> None:
    shapes = {"colour": [(6, 5, 3)] * 12, "grey": [(6, 5)] * 12, "mixed": [(6, 5)] * 6 + [(6, 5, 3)] * 6}[kinds]
    train = files([png(noise(i, shape)) for i, shape in enumerate(shapes)], ["a", "b", "c"] * 4)
    whole = Images("image", target="label").fit(train)
    samples = Images("image", target="label")
    parts = [samples.partial(train.take(at)) for at in np.split(np.arange(12), cuts)]
    state = parts[0]
    for part in parts[1:]:
        state = samples.merge(state, part)
    assert samples.finish(state).learned == whole.learned
    stacked = np.stack([pixels.to_array(Image.open(io.BytesIO(cell)), 1 if kinds == "grey" else 3)
                        for cell in train.frame["image"]]) / 255  # fmt: skip
    learned = whole.need()
    np.testing.assert_allclose(learned["mean"], stacked.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(learned["deviation"], stacked.std(axis=(0, 1, 2)), rtol=1e-12)


def test_shards_of_two_sizes_are_told() -> None:
    samples = Images("image")
    one, other = (samples.partial(files([png(noise(0, shape))])) for shape in ((6, 5), (7, 5)))
    with pytest.raises(DataError, match=r"row 0: 7 x 5 pixels, others have 6 x 5\. Set size"):
        samples.merge(one, other)
    with pytest.raises(DataError, match="no rows in train"):
        samples.fit(files([]))


def test_a_constant_channel_is_centred_and_not_scaled() -> None:
    flat = np.full((6, 5, 3), 100, np.uint8)
    samples = Images("image").fit(files([png(flat), png(flat)]))
    assert samples.need()["deviation"] == [1.0] * 3
    assert samples.encode(files([png(flat)])).batch(np.array([0]))[0]["inputs"].abs().max() < 1e-6


# ------------------------------------------------------------------------------------------- decoding in bounded time


def photo(height: int = 600, width: int = 800) -> np.ndarray[Any, Any]:
    down, across = np.mgrid[:height, :width]
    waves = [np.sin(down / 40) + np.cos(across / 55), np.sin((down + across) / 70), np.cos(down / 90)]
    return ((np.stack(waves, axis=-1) + 2) * 63).astype(np.uint8)


def test_a_jpeg_is_decoded_at_a_scale_that_suffices() -> None:
    data = png(photo(), "JPEG", quality=92)
    assert pixels.open_image(data, "photo").size == (800, 600)
    assert pixels.open_image(data, "photo", (100, 100)).size == (400, 300)
    assert pixels.open_image(data, "photo", (60, 75)).size == (200, 150)
    assert pixels.open_image(data, "photo", (590, 590)).size == (800, 600)
    whole, scaled = (
        pixels.to_array(pixels.open_image(data, "photo", room), 3, (75, 100)) for room in (None, (75, 100))
    )
    assert np.abs(whole.astype(int) - scaled).max() <= 4
    assert pixels.open_image(png(photo()), "photo", (10, 10)).size == (800, 600), "PNG knows no scales"


@pytest.mark.parametrize("room", [None, (80, 60)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_simplejpeg_and_pillow_decode_to_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, room: tuple[int, int] | None, mode: str
) -> None:
    pytest.importorskip("simplejpeg")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(photo()).convert(mode).save(buffer, "JPEG", quality=85, exif=exif)
    quick = pixels.open_image(buffer.getvalue(), "photo", room)
    monkeypatch.setattr(pixels, "simplejpeg", None)
    slow = pixels.open_image(buffer.getvalue(), "photo", room)
    assert quick.size == slow.size
    assert quick.width < quick.height, "turned as its EXIF entry says"
    np.testing.assert_array_equal(np.asarray(quick), np.asarray(slow))


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_jpeg_that_is_cut_off_is_named(keep: float) -> None:
    data = png(photo(), "JPEG")
    with pytest.raises(DataError, match=r"^photo: not an image that can be read"):
        pixels.open_image(data[: int(len(data) * keep)], "photo")


@given(st.binary(max_size=300), st.integers(0, 2))
def test_bytes_of_any_kind_end_in_an_image_or_a_data_error(data: bytes, kind: int) -> None:
    start = [b"", png(photo(20, 30), "JPEG"), png(photo(20, 30))][kind]
    cut = len(start) * 2 // 3
    with contextlib.suppress(DataError):
        pixels.open_image(start[:cut] + data + start[cut + len(data) :], "bytes", (4, 4))
