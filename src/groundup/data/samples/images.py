"""Images as samples: resized if asked, normalised by what train looks like, with a class or a number to predict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor

from groundup.core.contract import State
from groundup.core.dataset import ROW, Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.preprocessing import as_tensor
from groundup.data.augmentation.images import (
    ImageDraws,
    augment_pixels,
    choose_engine,
    draw_images,
    mix,
)
from groundup.data.augmentation.mixing import as_probabilities, mix_values, partners, split_mixing
from groundup.data.pixels import from_numbers, is_grey, open_header, open_image, to_array, to_png, turned_size
from groundup.data.samples.targets import (
    TargetScale,
    decode_output,
    decode_target,
    encode_target,
    finish_target,
    merge_targets,
    partial_target,
    present_output,
    target_sizes,
    tell_target,
)

_LEVELS = np.arange(256)

MEMORY_BYTES = 512 * 2**20
"""Decoded images are kept up to here, for each split; beyond it each batch decodes its own."""


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedImages:
    """Images ready for the model; ``targets`` as in rows of a table."""

    dataset: Dataset
    samples: Images
    targets: np.ndarray[Any, Any] | None
    rows: np.ndarray[Any, Any]
    ON_DISK: ClassVar = ("dataset", "targets", "rows")
    """What lies in files where there are too many of them."""
    kept: np.ndarray[Any, Any] | None = None
    """uint8 [N, H, W, C], or None where they are too many to be kept decoded."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """These images, uint8 [B, H, W, C], as they are before augmentation and normalisation."""
        if self.kept is not None:
            chosen: np.ndarray[Any, Any] = self.kept[positions]
            return chosen
        return self.samples.load(self.dataset.take(positions))

    def batch(
        self, positions: np.ndarray[Any, Any], augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """``{"inputs": [B, C, H, W]}`` float32, augmented and normalised, and ``{"targets": ...}``.

        Targets of mixed samples are probabilities float32 [B, classes], or mixed values [B, 1].
        """
        learned = self.samples.need()
        images, drawn = self._drawn(positions, augment, seed, epoch)
        targets = self._targets(positions, drawn.mixes if drawn else ())
        mean = torch.tensor(learned["mean"], dtype=torch.float32, device=images.device)[:, None, None]
        deviation = torch.tensor(learned["deviation"], dtype=torch.float32, device=images.device)[:, None, None]
        return {"inputs": images.sub_(mean).div_(deviation)}, targets

    def augmented(
        self, positions: np.ndarray[Any, Any], augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> np.ndarray[Any, Any]:
        """These images as training sees them before normalisation, as uint8 [B, H, W, C] to look at."""
        images, _ = self._drawn(positions, augment, seed, epoch)
        shown: np.ndarray[Any, Any] = images.mul_(255).round_().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return shown

    def _drawn(
        self, positions: np.ndarray[Any, Any], augment: Sequence[Any], seed: int, epoch: int
    ) -> tuple[Tensor, ImageDraws | None]:
        """Values 0 to 1 [B, C, H, W], augmented and mixed, and what was drawn."""
        samples, learned = self.samples, self.samples.need()
        if not augment:
            return augment_pixels(self.pixels(positions), None), None
        shape = (learned["channels"], learned["height"], learned["width"])
        drawn = draw_images(augment, self.rows[positions], shape, seed, epoch, len(self))
        images = augment_pixels(self.pixels(positions), drawn, samples.outside, learned["engine"], samples.device)
        if not drawn.mixes:
            return images, drawn
        alone, _ = split_mixing(augment)
        others = [self._drawn(partners(numbers), alone, seed, epoch)[0].to(images) for _, numbers in drawn.mixes]
        return mix(images, others, drawn), drawn

    def _targets(self, positions: np.ndarray[Any, Any], mixes: Sequence[Any]) -> dict[str, Tensor]:
        if self.targets is None:
            return {}
        targets = as_tensor(self.targets[positions])
        classes = self.samples.need()["target"].get("classes")
        if mixes and classes is not None:
            targets = as_probabilities(targets, len(classes))
        for _, numbers in mixes:
            others = as_tensor(self.targets[partners(numbers)])
            others = others if classes is None else as_probabilities(others, len(classes))
            targets = mix_values(targets, others, numbers[:, 1])
        return {"targets": targets}

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
            "shape": list(image.transpose(2, 0, 1).shape),
            "smallest, mean, largest": [int(image.min()), float(image.mean()), int(image.max())],
        }
        if self.targets is not None:
            told = tell_target(as_tensor(self.targets[[position]]), self.samples.need()["target"])
            shown[f"target {self.samples.target}"] = told
        return shown


@dataclasses.dataclass(frozen=True)
class Images:
    """Each row's image is a sample, float32 [C, H, W]: (grey / 255 - mean) / deviation, channel by channel.

    Mean and deviation are those of all of train's pixels, counted in whole numbers, so that they are the same however
    train is cut into shards. The column ``image`` holds files' bytes, or arrays of bytes [H, W] or [H, W, C]. ``size``
    (an edge, or [height, width]) resizes each image, whatever its shape; without it all must be of one size.
    ``channels`` is 1 where train has grey images alone, else 3. ``target`` and ``target_scale`` are as in ``Rows``.
    ``mean`` and ``deviation``, one for each channel from 0 to 1, are taken instead where they are given, as published
    weights ask for. At prediction an image of another size is resized to that of training, with a note.

    Augmentation draws in from beyond the edge what ``outside`` says. ``engine`` moves its pixels on a CPU: "auto" is
    OpenCV where it is installed and images have 4,096 pixels or more, else torch, and is settled when train is
    learned. ``device`` is where it is done: "cpu", or a GPU such as "cuda", to which bytes are sent, a quarter of the
    values.
    """

    image: str
    target: str | None = None
    size: int | Sequence[int] | None = None
    channels: Literal[1, 3] | None = None
    outside: Literal["zeros", "border", "reflection"] = "zeros"
    engine: Literal["auto", "torch", "opencv", "pillow"] = "auto"
    device: str = "cpu"
    task: Literal["auto", "classify", "regress"] = "auto"
    target_scale: TargetScale = "z_score"
    mean: Sequence[float] | None = None
    deviation: Sequence[float] | None = None
    learned: Mapping[str, Any] | None = None

    BY_ROW: ClassVar = True
    """What becomes of a row does not depend on the others, so shards can be encoded one by one."""

    def __post_init__(self) -> None:
        edges = (self.size,) if isinstance(self.size, int) else tuple(self.size or (1,))
        if len(edges) > 2 or min(edges) < 1:
            raise ValueError(f"size: read {self.size}, expected an edge in pixels, or [height, width].")
        if (self.mean is None) != (self.deviation is None) or min(self.deviation or (1,)) <= 0:
            raise ValueError("mean and deviation: give both, or neither; a deviation is more than 0.")
        if self.engine == "pillow" and self.outside != "zeros":
            raise ValueError(f"outside: read {self.outside!r}, and Pillow draws in nothing but black; take torch.")

    def fit(self, train: Dataset) -> Self:
        """Learn shape, mean and deviation of each channel, and the target. Raises DataError that names a bad image."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """Sums of values and of their squares by channel, as whole numbers, shape and targets of these rows."""
        shard.need(self.image, by="Images.image")
        if shard.kinds[self.image] != "image":
            raise DataError(
                f"Images.image: column {self.image!r} is of kind {shard.kinds[self.image]} in {len(shard)} rows; "
                "images are needed."
            )
        grey, size = True, self._size()
        for name, image in _headers(shard, self.image):
            grey, size = grey and is_grey(image), size or turned_size(image, name)
            if not grey and size:
                break
        channels = self.channels or (1 if grey else 3)
        total, squares, count = np.zeros(channels, np.int64), np.zeros(channels, np.int64), 0
        for array in _arrays(shard, self.image, channels, size or (1, 1), resize=self.size is not None):
            levels = [np.bincount(array[..., channel].ravel(), minlength=256) for channel in range(channels)]
            total += [int(counts @ _LEVELS) for counts in levels]
            squares += [int(counts @ _LEVELS**2) for counts in levels]
            count += array.shape[0] * array.shape[1]
        first = shard.row_names()[0] if len(shard) else ""
        target = None if self.target is None else partial_target(shard, self.target, "Images", self.target_scale)
        return {
            "rows": len(shard), "grey": grey, "size": size and list(size), "first": first, "count": count,
            "total": total.tolist(), "squares": squares.tolist(), "target": target,
        }  # fmt: skip

    def merge(self, one: State, other: State) -> State:
        """What both tell. Raises DataError where their images are of different sizes, and none is asked for."""
        if not one["rows"] or not other["rows"]:
            return one if one["rows"] else other
        if one["size"] != other["size"]:
            raise DataError(_two_sizes(other["first"], tuple(other["size"]), tuple(one["size"])))
        channels = max(len(one["total"]), len(other["total"]))  # in a grey shard all channels are alike
        sums = {
            name: [a + b for a, b in zip(_widened(one[name], channels), _widened(other[name], channels), strict=True)]
            for name in ("total", "squares")
        }
        counts = {name: one[name] + other[name] for name in ("rows", "count")}
        target = None if one["target"] is None else merge_targets(one["target"], other["target"])
        return {**one, **sums, **counts, "grey": one["grey"] and other["grey"], "target": target}

    def finish(self, state: State) -> Self:
        """The same builder with what was learned."""
        if not state["rows"]:
            raise DataError(f"Images.image: column {self.image!r} has no rows in train; images are needed.")
        target = self.target and finish_target(state["target"], self.target, self.task, "Images", self.target_scale)
        count, (height, width) = state["count"], state["size"]
        mean = [total / (255 * count) for total in state["total"]]
        spread = [count * s - t**2 for t, s in zip(state["total"], state["squares"], strict=True)]
        deviation = [math.sqrt(value) / (255 * count) for value in spread]
        if self.mean is not None and self.deviation is not None:
            if {len(self.mean), len(self.deviation)} != {len(mean)}:
                raise DataError(f"Images.mean and deviation: expected {len(mean)} numbers each, one for each channel.")
            mean, deviation = list(self.mean), list(self.deviation)
        learned = {
            "rows": state["rows"], "channels": len(mean), "height": height, "width": width, "mean": mean,
            "deviation": [value if value > 1e-6 else 1.0 for value in deviation], "target": target,
            "engine": choose_engine(self.engine, height, width),
        }  # fmt: skip
        return dataclasses.replace(self, task=target["task"] if target else self.task, learned=learned)

    def _size(self) -> tuple[int, int] | None:
        if self.size is None:
            return None
        edges = (self.size,) if isinstance(self.size, int) else tuple(self.size)
        return (edges[0], edges[-1])

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
        """A dataset's images as uint8 [N, H, W, C]."""
        learned = self.need()
        size = (learned["height"], learned["width"])
        resize = self.size is not None or dataset.split == "serve"
        images = list(_arrays(dataset, self.image, learned["channels"], size, resize=resize))
        return np.stack(images) if images else np.zeros((0, *size, learned["channels"]), np.uint8)

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


def _cells(dataset: Dataset, column: str) -> Iterator[tuple[str, str, Any]]:
    """Each row's name, where that is, and its cell. Raises DataError that names a row without an image."""
    values = dataset.frame[column]
    cells: Any = values.to_numpy() if isinstance(values.dtype, pl.Array) else values
    for name, cell in zip(dataset.row_names(), cells, strict=True):
        where = f"{dataset.origin or 'the data'}, column {column!r}, {name}"
        if cell is None:
            raise DataError(f"{where}: there is no image.")
        yield name, where, cell


def _headers(dataset: Dataset, column: str) -> Iterator[tuple[str, Image.Image]]:
    """Each row's image with its mode and size known, files not yet decoded."""
    for _, where, cell in _cells(dataset, column):
        yield where, open_header(cell, where) if isinstance(cell, bytes) else _from_numbers(cell, where)


def _opened(dataset: Dataset, column: str, room: tuple[int, int] | None = None) -> Iterator[tuple[str, Image.Image]]:
    """Each row's name and image, one at a time; decoded at a smaller scale where there is to be ``room`` for less."""
    for name, where, cell in _cells(dataset, column):
        yield name, open_image(cell, where, room) if isinstance(cell, bytes) else _from_numbers(cell, where)


def _from_numbers(cell: Any, where: str) -> Image.Image:
    array = from_numbers(cell, where)
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _arrays(
    dataset: Dataset, column: str, channels: int, size: tuple[int, int], *, resize: bool
) -> Iterator[np.ndarray[Any, Any]]:
    """Each row's image as uint8 [H, W, C]. Raises DataError that names a row of another size, unless resized."""
    for name, image in _opened(dataset, column, size if resize else None):
        if not resize and (image.height, image.width) != size:
            raise DataError(_two_sizes(f"{dataset.origin or 'the data'}, {name}", (image.height, image.width), size))
        try:
            yield to_array(image, channels, size)
        except DataError as error:
            raise DataError(f"{dataset.origin or 'the data'}, {name}: {error}") from error


def _two_sizes(name: str, size: tuple[int, ...], others: tuple[int, ...]) -> str:
    return (
        f"{name}: {size[0]} x {size[1]} pixels, others have {others[0]} x {others[1]}. Set size in the recipe's "
        "samples, so that each image is resized."
    )


def _widened(sums: list[int], channels: int) -> list[int]:
    return sums if len(sums) == channels else sums * channels
