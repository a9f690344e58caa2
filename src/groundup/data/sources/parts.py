"""Data that come as one source for each part, put together so that every later step sees them alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl

from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError, nearest
from groundup.core.use import Use, make


def parts(
    train: Use, test: Use | None = None, valid: Use | None = None, column: str = "split", folder: Path = Path()
) -> Dataset:
    """Sources of their own for train, validation and test, as one table; ``column`` says where each row came from.

    Beside it goes ``split = { use = "given", column = "split" }``. All must have the same columns, and what these mean
    is told by train; numbers of different width become the wider one. Rows are numbered through, train's first.
    Raises DataError for columns that differ, and for one that is called ``column`` already.
    """
    named = {"train": train, "valid": valid, "test": test}
    made: dict[str, Dataset] = {
        name: make(use, "source", where=f"recipe.data.source.{name}", folder=folder)()
        for name, use in named.items()
        if use is not None
    }
    first = made["train"]
    if column in first.frame.columns:
        raise DataError(
            f"parts.column: {first.origin or 'train'} has a column {column!r} already; choose another name."
        )
    frames = []
    for name, part in made.items():
        for one, other, lacks in ((first, part, name), (part, first, "train")):
            missing = [known for known in one.columns if known not in other.columns]
            if missing:
                where = other.origin or lacks
                raise DataError(
                    f"parts.{lacks}: {where} lacks the column {missing[0]!r}, which the other has."
                    f"{nearest(missing[0], other.columns)}"
                )
        frames.append(part.frame.select(first.columns).with_columns(pl.lit(name).alias(column)))
    for name in first.columns:
        types = {part.frame.schema[name] for part in made.values()} - {pl.Null()}
        if len(types) > 1 and not all(dtype.is_numeric() for dtype in types):
            shown = ", ".join(f"{part.frame.schema[name]} in {where}" for where, part in made.items())
            raise DataError(
                f"parts: column {name!r} holds {shown}. Declare what stands for a missing value, so that each part "
                "reads alike."
            )
    frame = pl.concat(frames, how="vertical_relaxed").with_row_index(ROW)
    history = tuple(entry for part in made.values() for entry in part.history)
    origin = ", ".join(dict.fromkeys(part.origin for part in made.values() if part.origin))
    together = Dataset.of(frame, {**first.kinds, column: "category"}, origin=origin)
    notes = tuple(f"{name}: {len(part)} rows from {part.origin or 'its source'}" for name, part in made.items())
    return dataclasses.replace(together, history=history).note(*notes)
