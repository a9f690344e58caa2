"""Images as samples: resized if asked, normalised by what train looks like, with a class or a number to predict."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor

from groundup.core.dataset import ROW, Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.preprocessing import as_tensor
from groundup.data.augmentation.affine import draw_matrices, warp
from groundup.data.pixels import is_grey, open_image, to_array, to_png
from groundup.data.samples.targets import (
    decode_output,
    decode_target,
    encode_target,
    learn_target,
    present_output,
    target_sizes,
)

MEMORY_BYTES = 512 * 2**20
"""Decoded images are kept up to here, for each split; beyond it each batch decodes its own."""


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedImages:
    """Images ready for the model; ``targets`` as in rows of a table."""

    dataset: Dataset
    samples: Images
    targets: np.ndarray[Any, Any] | None
    rows: np.ndarray[Any, Any]
    kept: np.ndarray[Any, Any] | None
    """uint8 [N, C, H, W], or None where they are too many to be kept decoded."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """These images, uint8 [B, C, H, W], as they are before augmentation and normalisation."""
        if self.kept is not None:
            chosen: np.ndarray[Any, Any] = self.kept[positions]
            return chosen
        return self.samples.load(self.dataset.take(positions))

    def batch(
        self, positions: np.ndarray[Any, Any], augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """``{"inputs": [B, C, H, W]}`` float32, augmented and normalised, and ``{"targets": ...}``."""
        learned = self.samples.need()
        images = as_tensor(self.pixels(positions)).to(torch.float32) / 255
        if augment:
            size = (learned["height"], learned["width"])
            matrices = draw_matrices(augment, self.rows[positions], size, seed, epoch)
            images = warp(images, matrices, self.samples.outside)
        mean = torch.tensor(learned["mean"], dtype=torch.float32)[:, None, None]
        deviation = torch.tensor(learned["deviation"], dtype=torch.float32)[:, None, None]
        targets = {} if self.targets is None else {"targets": as_tensor(self.targets[positions])}
        return {"inputs": (images - mean) / deviation}, targets

    def arrays(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Inputs [N, C, H, W] as the model sees them, not augmented, and targets [N]: class numbers or values."""
        if self.targets is None:
            raise DataError("Images: these images have no targets.")
        inputs, _ = self.batch(np.arange(len(self)))
        return inputs["inputs"].numpy(), decode_target(as_tensor(self.targets), self.samples.need()["target"])

    def describe(self, position: int) -> dict[str, Any]:
        """One image in words: its name, shape and range, and its target decoded."""
        image = self.pixels(np.array([position]))[0]
        shown: dict[str, Any] = {
            "image": self.dataset.row_names()[position],
            "shape": list(image.shape),
            "smallest, mean, largest": [int(image.min()), float(image.mean()), int(image.max())],
        }
        if self.targets is not None:
            learned = self.samples.need()["target"]
            value = decode_target(as_tensor(self.targets[[position]]), learned)[0]
            shown[f"target {self.samples.target}"] = (
                learned["classes"][int(value)] if "classes" in learned else float(value)
            )
        return shown


@dataclasses.dataclass(frozen=True)
class Images:
    """Each row's image is a sample, float32 [C, H, W]: (grey / 255 - mean) / deviation, channel by channel.

    Mean and deviation are those of all of train's pixels. The column ``image`` holds files' bytes, or arrays of bytes
    [H, W] or [H, W, C]. ``size`` (an edge, or [height, width]) resizes each image, whatever its shape; without it all
    must be of one size. ``channels`` is 1 where train has grey images alone, else 3. ``outside`` is what augmentation
    draws in from beyond the edge. ``target`` is learned as in ``Rows``. At prediction an image of another size is
    resized to that of training, with a note.
    """

    image: str
    target: str | None = None
    size: int | Sequence[int] | None = None
    channels: Literal[1, 3] | None = None
    outside: Literal["zeros", "border", "reflection"] = "zeros"
    task: Literal["auto", "classify", "regress"] = "auto"
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        edges = (self.size,) if isinstance(self.size, int) else tuple(self.size or (1,))
        if len(edges) > 2 or min(edges) < 1:
            raise ValueError(f"size: read {self.size}, expected an edge in pixels, or [height, width].")

    def fit(self, train: Dataset) -> Self:
        """Learn shape, mean and deviation of each channel, and the target. Raises DataError that names a bad image."""
        train.need(self.image, by="Images.image")
        if train.kinds[self.image] != "image" or not len(train):
            raise DataError(
                f"Images.image: column {self.image!r} is of kind {train.kinds[self.image]} in {len(train)} rows; "
                "images are needed."
            )
        target = None if self.target is None else learn_target(train, self.target, self.task, "Images")
        channels = self.channels or (1 if all(is_grey(image) for _, image in _opened(train, self.image)) else 3)
        height, width = self._size_of(train)
        total, squares, count = np.zeros(channels), np.zeros(channels), 0
        for array in _arrays(train, self.image, channels, (height, width), resize=self.size is not None):
            grey = array.reshape(-1, channels).astype(np.float64) / 255
            total, squares, count = total + grey.sum(axis=0), squares + (grey**2).sum(axis=0), count + len(grey)
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
        learned = {
            "rows": len(train), "channels": channels, "height": height, "width": width, "mean": mean.tolist(),
            "deviation": np.where(deviation > 1e-6, deviation, 1.0).tolist(), "target": target,
        }  # fmt: skip
        return dataclasses.replace(self, task=target["task"] if target else self.task, learned=learned)

    def _size_of(self, train: Dataset) -> tuple[int, int]:
        if isinstance(self.size, int):
            return (self.size, self.size)
        if self.size is not None:
            edges = tuple(self.size)
            return (edges[0], edges[-1])
        _, first = next(_opened(train, self.image))
        return (first.height, first.width)

    def sizes(self) -> dict[str, Any]:
        """``input_shape`` (C, H, W), ``in_channels``, ``image_size`` (H, W), and those of the target."""
        learned = self.need()
        size = (learned["height"], learned["width"])
        found = {"input_shape": (learned["channels"], *size), "in_channels": learned["channels"], "image_size": size}
        return found if learned["target"] is None else {**found, **target_sizes(learned["target"])}

    def encode(self, dataset: Dataset) -> EncodedImages:
        """The images, decoded now where memory allows. Raises DataError that names a row without a usable image."""
        learned = self.need()
        dataset.need(self.image, by="Images")
        targets = None
        if self.target is not None:
            targets = encode_target(dataset, self.target, learned["target"], "Images")
        small = len(dataset) * learned["channels"] * learned["height"] * learned["width"] <= MEMORY_BYTES
        kept = self.load(dataset) if small else None
        return EncodedImages(dataset, self, targets, dataset.frame[ROW].to_numpy(), kept)

    def load(self, dataset: Dataset) -> np.ndarray[Any, Any]:
        """A dataset's images as uint8 [N, C, H, W]."""
        learned = self.need()
        size = (learned["height"], learned["width"])
        resize = self.size is not None or dataset.split == "serve"
        images = list(_arrays(dataset, self.image, learned["channels"], size, resize=resize))
        stacked = np.stack(images) if images else np.zeros((0, *size, learned["channels"]), np.uint8)
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))

    def read(self, raw: Any, schema: Mapping[str, Kind] | None = None) -> Dataset:
        """Images to predict on: a file's path, a Pillow image, a uint8 array [H, W] or [H, W, C], or a list of them."""
        learned = self.need()
        items = list(raw) if isinstance(raw, (list, tuple)) else [raw]
        if not items:
            raise DataError("Images: read an empty list, expected at least one image.")
        names, images, notes = [], [], []
        for i, item in enumerate(items):
            name = str(item) if isinstance(item, (str, Path)) else f"image {i}"
            data = _image_bytes(item, name)
            opened = open_image(data, name)
            if (opened.height, opened.width) != (learned["height"], learned["width"]) and self.size is None:
                notes.append(
                    f"{name}: resized from {opened.height} x {opened.width} to {learned['height']} x {learned['width']}"
                )
            names.append(name)
            images.append(data)
        frame = pl.DataFrame({"input": names, self.image: images})
        dataset = Dataset.of(frame, {"input": "id", self.image: "image"}, origin="the images to predict on")
        return dataclasses.replace(dataset, split="serve").note(*notes)

    def decode(self, output: Tensor) -> np.ndarray[Any, Any]:
        """Logits [N, C] as probabilities [N, C], or [N, 1] as values [N] in the target's own units."""
        return decode_output(output, self._target())

    def decode_targets(self, targets: Mapping[str, Tensor]) -> np.ndarray[Any, Any]:
        """Class numbers [N], or values [N] in the target's own units."""
        return decode_target(targets["targets"], self._target())

    def present(self, decoded: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
        """The label with its probabilities, or the value, for each image."""
        return present_output(decoded, self._target())

    def need(self) -> Mapping[str, Any]:
        """What was learned. Raises DataError before ``fit``."""
        if self.learned is None:
            raise DataError("Images: has learned nothing yet; call fit(train) first.")
        return self.learned

    def _target(self) -> Mapping[str, Any]:
        target: Mapping[str, Any] | None = self.need()["target"]
        if target is None:
            raise DataError("Images.target: no target was named, so there is nothing to predict.")
        return target


def _image_bytes(item: Any, name: str) -> bytes:
    if isinstance(item, (str, Path)):
        try:
            return Path(item).expanduser().read_bytes()
        except OSError as error:
            raise DataError(f"{item}: cannot be read: {error.strerror or error}.") from error
    if isinstance(item, bytes):
        return item
    if isinstance(item, (Image.Image, np.ndarray)):
        return to_png(item, name)
    raise DataError(
        f"{name}: read {type(item).__name__}, expected the path of an image, a Pillow image, or a uint8 array."
    )


def _opened(dataset: Dataset, column: str) -> Iterator[tuple[str, Image.Image]]:
    """Each row's name and image, one at a time. Raises DataError that names the row."""
    values = dataset.frame[column]
    cells: Any = values.to_numpy() if isinstance(values.dtype, pl.Array) else values
    for name, cell in zip(dataset.row_names(), cells, strict=True):
        where = f"{dataset.origin or 'the data'}, column {column!r}, {name}"
        if cell is None:
            raise DataError(f"{where}: there is no image.")
        yield name, open_image(cell, where) if isinstance(cell, bytes) else _from_numbers(cell, where)


def _from_numbers(cell: Any, where: str) -> Image.Image:
    try:
        array = np.asarray(cell.to_list() if isinstance(cell, pl.Series) else cell)
    except ValueError:
        array = np.zeros(0)
    if (
        array.dtype.kind not in "iu"
        or array.ndim not in (2, 3)
        or not array.size
        or array.min() < 0
        or array.max() > 255
    ):
        raise DataError(
            f"{where}: holds no image of whole numbers 0 to 255, [height, width] or [height, width, channels]."
        )
    array = array.astype(np.uint8)
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _arrays(
    dataset: Dataset, column: str, channels: int, size: tuple[int, int], *, resize: bool
) -> Iterator[np.ndarray[Any, Any]]:
    """Each row's image as uint8 [H, W, C]. Raises DataError that names a row of another size, unless resized."""
    for name, image in _opened(dataset, column):
        if not resize and (image.height, image.width) != size:
            raise DataError(
                f"{dataset.origin or 'the data'}, {name}: {image.height} x {image.width} pixels, others have "
                f"{size[0]} x {size[1]}. Set size in the recipe's samples, so that each image is resized."
            )
        try:
            yield to_array(image, channels, size)
        except DataError as error:
            raise DataError(f"{dataset.origin or 'the data'}, {name}: {error}") from error
