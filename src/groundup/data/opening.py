"""Data as a person names it, a file or a folder: which source reads it, with which arguments, and what it is."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError, nearest
from groundup.core.use import Use, make
from groundup.data.sources.column_types import MISSING
from groundup.data.sources.iterables import as_dataset
from groundup.data.sources.recognise import recognise
from groundup.data.sources.times import TIME_PARTS

Form = Literal["table", "images", "text"]

FORMS: dict[str, Form] = {"image_folder": "images", "idx": "images", "text_files": "text", "text_lines": "text"}
"""Source -> what it gives; every other one gives a table."""

DECLARED = ("csv", "json", "json_lines")
"""Sources in whose files words and signs may stand for missing values."""

MARKERS = ("?", "-", "--", ".", "#N/A", "n/a", "None", "none", "unknown")
"""Cells that stand for a missing value where all others of the column are numbers; "?" does so among categories too."""

LARGE_BYTES = 256 << 20
"""A larger file is read in shards, and a sample of its rows is looked at."""

MOST_ROWS = 200_000
"""Rows of the sample of a large file."""

SHARD_ROWS = 100_000


@dataclasses.dataclass(frozen=True)
class Opened:
    """Data that was read, and the call that reads it again."""

    dataset: Dataset
    source: Use
    """Its path is as it was given."""
    form: Form
    path: Path
    rows: int
    """How many there are; ``dataset`` may be a sample of them."""
    said: tuple[str, ...] = ()
    """How it is read and why, for people."""

    @property
    def name(self) -> str:
        """A short name for files and titles."""
        place = self.path.resolve()
        stem = place.name if place.is_dir() else re.sub(r"(\.tar)?\.(gz|xz|bz2|zip|tar)$|\.\w+$", "", place.name)
        plain = re.sub(r"[^\w.-]+", "-", stem).strip("-.")
        return plain if re.match(r"\w", plain) else "data"


def open_data(path: str | Path, large_bytes: int = LARGE_BYTES) -> Opened:
    """A file or a folder, read by the source that its content calls for. Raises DataError for what no source reads.

    Of a file of more than ``large_bytes`` that can be read in shards, a sample of 200,000 rows is taken, each as likely
    as any other; memory stays bounded.
    """
    place = Path(path).expanduser()
    if not place.exists():
        beside = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        raise DataError(f"{path}: there is no such file or folder.{nearest(place.name, beside) if beside else ''}")
    if place.is_dir() and not any(file.is_file() for file in place.rglob("*")):
        raise DataError(f"{path}: the folder holds no file.")
    use, why = recognise(place)
    opened = _opened(use, place, large_bytes)
    if opened.form != "table":
        return opened
    said = [] if why.startswith("its name ends with") else [f"read by {use.target}: {why}"]
    if use.target in DECLARED and (markers := _markers(opened.dataset)):
        use = use.with_arguments(missing=[*MISSING, *markers])
        opened = _opened(use, place, large_bytes)
        said.append(f"{', '.join(map(repr, markers))} read as missing")
    if use.target == "csv":
        for time in _times(opened.dataset):
            with contextlib.suppress(DataError):  # not every column of that name or look is a time
                opened = _opened(use.with_arguments(time=time, max_rejected=0), place, large_bytes)
                use = use.with_arguments(time=time)
                said.append(f"time from {time if isinstance(time, str) else ', '.join(time)}")
                break
    return dataclasses.replace(opened, source=use, said=(*said, *opened.said))


def _opened(use: Use, place: Path, large_bytes: int) -> Opened:
    source = make(use, "source", where=str(place), folder=Path())
    form = FORMS.get(use.target, "table")
    if form == "table" and hasattr(source, "shards") and place.is_file() and place.stat().st_size > large_bytes:
        dataset, rows = sample(source.shards(SHARD_ROWS))
        said = (f"{len(dataset):,} of {rows:,} rows looked at, drawn by chance",) if rows > len(dataset) else ()
        return Opened(dataset, use, form, place, rows, said)
    dataset = as_dataset(source(), use.target)
    return Opened(dataset, use, form, place, len(dataset))


def sample(shards: Iterable[Dataset], most: int = MOST_ROWS, seed: int = 0) -> tuple[Dataset, int]:
    """At most so many rows of all shards together, each as likely as any other, in their order; and how many there are.

    Each row draws a number and the smallest are kept (Vitter 1985, with keys), so that no more than twice the sample
    and one shard are in memory. Raises DataError where there is no shard.
    """
    rng = np.random.default_rng(seed)
    first: Dataset | None = None
    kept: list[pl.DataFrame] = []
    rows = held = 0
    for shard in shards:
        first = first or shard
        rows, held = rows + len(shard), held + len(shard)
        kept.append(shard.frame.with_columns(pl.Series("\0drawn", rng.random(len(shard)))))
        if held > 2 * most:
            kept = [pl.concat(kept).bottom_k(most, by="\0drawn")]
            held = most
    if first is None:
        raise DataError("there are no rows to look at.")
    frame = pl.concat(kept)
    frame = frame.bottom_k(most, by="\0drawn") if frame.height > most else frame
    return first.with_frame(frame.drop("\0drawn").sort(ROW)), rows


def _markers(dataset: Dataset) -> list[str]:
    """Cells that stand for missing values: "?" among categories, and any where the column is numbers but for them."""
    found: list[str] = []
    for name in dataset.columns:
        column = dataset.frame.get_column(name)
        if column.dtype != pl.String:
            continue
        present = column.drop_nulls().str.strip_chars()
        if dataset.kinds[name] == "category" and (present == "?").any():
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
        column = dataset.frame.get_column(name)
        if column.dtype == pl.String and len(column) and not column.null_count():
            head = column.head(200)
            if head.str.contains(r"^\s*\d{4}[-/]\d{1,2}([-/]\d{1,2})?([ T]\d{1,2}(:\d{2}){0,2}.*)?\s*$").all():
                looks.append(name)
    return [*looks, *together]
