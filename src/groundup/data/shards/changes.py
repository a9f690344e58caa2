"""What each step changed, written down shard by shard, so that it is taken back in bounded memory too.

Below ``changes`` lie ``clean``, ``split``, ``train``, ``valid`` and ``test``; in each a folder for every step, by its
place in the ledger, and in that one for every shard, by its place, with a ``Change`` and how the shard was made.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from groundup.core.changes import read_changes, record, undo, write_changes
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError

MADE, ABOUT = "made.parquet", "about.json"
STEP = "step.json"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where it is written down what steps do to one shard."""

    folder: Path
    """Of the data that are not split, or of one part."""
    shard: int

    def of(self, step: int) -> Path:
        """The folder of a step, by its place in the ledger."""
        return self.folder / f"{step:03d}" / f"{self.shard:05d}"


def write_change(place: Path, before: Dataset, after: Dataset, name: str) -> None:
    """Write down what a step did to one shard; what is there already stays."""
    if (place / MADE).is_file():
        return
    shutil.rmtree(place, ignore_errors=True)  # what was stopped
    change = record(before, after, name)
    write_changes(place, [change])
    rows = 0 if change.removed is None else change.removed.height
    about = {"kinds": dict(after.kinds), "cells": change.num_cells, "rows": rows}
    (place / ABOUT).write_text(json.dumps(about), encoding="utf-8")
    after.frame.clear().write_parquet(place / MADE)


def close_step(folder: Path, step: int, name: str, shards: int) -> None:
    """Say that a step is written down for all of so many shards. Raises DataError where one lacks."""
    place = folder / f"{step:03d}"
    found = sum((one / MADE).is_file() for one in place.glob("[0-9]*"))
    if found != shards:
        raise DataError(
            f"clean: what {name} changed is written down for {found} of {shards} shards, since the folder was begun "
            "without record. Remove it and clean anew."
        )
    told = [json.loads((one / ABOUT).read_text(encoding="utf-8")) for one in place.glob("[0-9]*")]
    totals = {what: sum(one[what] for one in told) for what in ("cells", "rows")}
    about = {"name": name, "shards": shards, **totals}
    (place / STEP).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")


def take_back(dataset: Dataset | None, place: Path) -> Dataset:
    """One shard as it was before the step that is written down there; without a shard, of one that came to nothing.

    Raises DataError when it is not what the step made.
    """
    (change,) = read_changes(place)
    try:
        made = pl.read_parquet(place / MADE)
        kinds = json.loads((place / ABOUT).read_text(encoding="utf-8"))["kinds"]
    except (OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{place}: this record of a change is damaged: {error}.") from error
    if dataset is None:
        dataset = Dataset(made, kinds, change.split)
    elif set(made.columns) != set(dataset.frame.columns):
        raise DataError(f"undo {change.step}: a shard has other columns than this step made.")
    else:  # shards of one folder are given one type and kind, whatever a step made of each
        frame = dataset.frame.select(made.columns).cast(made.schema)
        dataset = dataclasses.replace(dataset, frame=frame, kinds=kinds)
    return undo(dataset, change)


def joined(parts: Sequence[Dataset]) -> Dataset | None:
    """Shards of the three parts behind one another, as data that are not split; None where there are none."""
    if not parts:
        return None
    frame = pl.concat([part.frame for part in parts], how="vertical_relaxed")
    return Dataset(frame, parts[0].kinds, origin=parts[0].origin)


def write_pair(before: Any, after: Sequence[Any], place: Path, name: str) -> None:
    """A task: what became of the rows of one shard in those that stand at its place, of which there may be none."""
    was = before.read()
    are = joined([piece.read() for piece in after])
    found = was.with_frame(was.frame.clear()) if are is None else dataclasses.replace(are, split=was.split)
    write_change(place, was, found, name)
