"""Data as a person names it, a file or a folder: which source reads it, with which arguments, and what it is."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import polars as pl

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError, nearest
from groundup.core.use import Use, make
from groundup.data.sources.tables import MISSING, TIME_PARTS

Form = Literal["table", "images", "text"]

TABLES = (".csv", ".tsv", ".tab", ".data", ".dat")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z")

MARKERS = ("?", "-", "--", ".", "#N/A", "n/a", "None", "none", "unknown")
"""Cells that stand for a missing value where all others of the column are numbers; "?" does so everywhere."""

SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval")
"""Names of folders that hold a part of the data, not a class."""

LOOKED_AT = 2000
"""Files of a folder whose names are looked at to tell what is in it."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """Data that was read, and the call that reads it again."""

    dataset: Dataset
    source: Use
    """Its path is as it was given."""
    form: Form
    path: Path
    said: tuple[str, ...] = ()
    """Why it is read so, for people."""

    @property
    def name(self) -> str:
        """A short name for files and titles."""
        place = self.path.resolve()
        place = place.parent if place.is_dir() and place.name.lower() in SPLITS else place
        stem = place.name if place.is_dir() else place.stem
        plain = re.sub(r"[^\w.-]+", "-", stem).strip("-.")
        return plain if re.match(r"\w", plain) else "data"


def open_data(path: str | Path) -> Opened:
    """A table, a folder of images, or text, read by the source that fits. Raises DataError for anything else."""
    place = Path(path).expanduser()
    if not place.exists():
        beside = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        raise DataError(f"{path}: there is no such file or folder.{nearest(place.name, beside) if beside else ''}")
    if place.is_dir():
        return _open_folder(place)
    suffix = place.suffix.lower()
    if suffix in ARCHIVES:
        raise DataError(f"{path}: an archive or compressed file; unpack it first, then name the file or folder.")
    if suffix in IMAGES:
        raise DataError(f"{path}: one image; name the folder that the images lie in.")
    if suffix in TABLES:
        return _open_table(place)
    return _open_text(place)


def _open_folder(place: Path) -> Opened:
    """By what most of its files are."""
    counts: dict[str, int] = {}
    for i, file in enumerate(_files(place)):
        if i == LOOKED_AT:
            break
        kind = "images" if file.suffix.lower() in IMAGES else "text"
        counts[kind] = counts.get(kind, 0) + 1
    if not counts:
        raise DataError(f"{place}: the folder holds no file.")
    if counts.get("images", 0) >= counts.get("text", 0):
        return _open_images(place)
    return _opened(Use("text_files", path=str(place)), "text", place)


def _open_images(place: Path) -> Opened:
    """By class; where the first folders are named for splits, the largest of them alone, since each has the classes."""
    folders = sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders or not all(folder.name.lower() in SPLITS for folder in folders):
        return _opened(Use("image_folder", path=str(place)), "images", place)
    train = next((f for f in folders if f.name.lower() in ("train", "training")), folders[0])
    others = ", ".join(folder.name for folder in folders if folder != train)
    opened = _opened(Use("image_folder", path=str(train)), "images", train)
    said = f"the folders are named for splits: {train.name} is read and split anew" + (
        f", {others} is left aside" if others else ""
    )
    return dataclasses.replace(opened, said=(said,))


def _files(place: Path) -> Iterator[Path]:
    for file in place.rglob("*"):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(place).parts):
            yield file


def _open_text(place: Path) -> Opened:
    return _opened(Use("text_files", path=str(place)), "text", place)


def _open_table(place: Path) -> Opened:
    """Read, looked at, and read again where cells stand for missing values or columns for times."""
    use = Use("csv", path=str(place))
    opened = _opened(use, "table", place)
    said: list[str] = []
    markers = _markers(opened.dataset)
    if markers:
        use = use.with_arguments(missing=[*MISSING, *markers])
        opened = _opened(use, "table", place)
        said.append(f"{', '.join(map(repr, markers))} read as missing")
    time = _times(opened.dataset)
    for choice in time:
        with contextlib.suppress(DataError):  # not every column of that name or look is a time
            opened = _opened(use.with_arguments(time=choice), "table", place)
            said.append(f"time from {choice if isinstance(choice, str) else ', '.join(choice)}")
            break
    return dataclasses.replace(opened, said=tuple(said))


def _opened(use: Use, form: Form, place: Path) -> Opened:
    dataset: Dataset = make(use, "source", where=str(place), folder=Path())()
    return Opened(dataset, use, form, place)


def _markers(dataset: Dataset) -> list[str]:
    """Cells that stand for missing values: "?" anywhere, others where the column is numbers but for them."""
    found: list[str] = []
    for name in dataset.columns:
        column = dataset.frame[name]
        if column.dtype != pl.String:
            continue
        present = column.drop_nulls().str.strip_chars()
        if (present == "?").any():
            found.append("?")
        odd = present.filter(present.cast(pl.Float64, strict=False).is_null()).unique()
        mostly_numbers = 0 < len(odd) <= 3 and present.is_in(odd.to_list()).mean() < 0.5  # type: ignore[operator]
        if mostly_numbers and odd.is_in(list(MARKERS)).all():
            found += odd.to_list()
    return [marker for marker in dict.fromkeys(found) if marker not in MISSING]


def _times(dataset: Dataset) -> list[Any]:
    """What may be the column of times: one that looks like dates, or year, month, ... in columns of their own."""
    if dataset.of_kind("time"):
        return []
    lowered = {name.lower(): name for name in dataset.columns}
    parts = [lowered[part] for part in TIME_PARTS if part in lowered]
    together: list[Any] = []
    if len(parts) >= 3 and [p.lower() for p in parts] == list(TIME_PARTS[: len(parts)]) and "time" not in lowered:
        together = [parts]
    looks = []
    for name in dataset.columns:
        column = dataset.frame[name].drop_nulls()
        if column.dtype == pl.String and len(column) and not dataset.frame[name].null_count():
            head = column.head(200)
            if head.str.contains(r"^\s*\d{4}[-/]\d{1,2}([-/]\d{1,2})?([ T]\d{1,2}(:\d{2}){0,2}.*)?\s*$").all():
                looks.append(name)
    return [*looks, *together]
