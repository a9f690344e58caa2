"""The way back: what each step of cleaning changed is kept beside the cleaned data, and taken back step by step."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from groundup.core.changes import Change, read_changes, record, undo, write_changes
from groundup.core.dataset import Dataset, Splits
from groundup.core.errors import DataError, nearest
from groundup.data.shards.folder import open_shards

CHANGES = "changes"
PARTS = ("train", "valid", "test")

MOST_BYTES = 256 << 20
"""Of data in memory; larger ones are not recorded unless that is asked for."""


@dataclasses.dataclass(frozen=True)
class Done:
    """One step that can be undone, as it stands in the list of all."""

    number: int
    name: str
    cells: int
    """Cells that changed, in all parts."""
    rows: int
    """Rows that went, in all parts."""


@dataclasses.dataclass(frozen=True)
class Record:
    """Every change from the data as they were read to the cleaned parts."""

    folder: Path
    before_split: tuple[Change, ...]
    split: Change
    parts: dict[str, tuple[Change, ...]]

    def steps(self) -> list[Done]:
        """In order, numbered from 1; each step behind the split stands there once for its three parts."""
        rows = [(change, *self._alike(change)) for change in (*self.before_split, self.split, *self.parts["train"])]
        return [Done(i, change.step, cells, gone) for i, (change, cells, gone) in enumerate(rows, 1)]

    def _alike(self, change: Change) -> tuple[int, int]:
        """Cells and rows of this step in all parts."""
        if change not in self.parts["train"]:
            return change.num_cells, _gone(change) if change is not self.split else 0
        place = self.parts["train"].index(change)
        alike = [changes[place] for changes in self.parts.values()]
        return sum(one.num_cells for one in alike), sum(map(_gone, alike))

    def place_of(self, step: str | None) -> int:
        """The number of a step that is named by it or by its name; 1 where none is. Raises DataError for another."""
        steps = self.steps()
        if step is None:
            return 1
        if step.isdecimal() and 1 <= int(step) <= len(steps):
            return int(step)
        named = [done.number for done in steps if done.name == step]
        if len(named) == 1:
            return named[0]
        if named:
            raise DataError(f"undo: {step} was done {len(named)} times; name one by its number: {named}.")
        shown = ", ".join(f"{done.number} {done.name}" for done in steps)
        raise DataError(f"undo: there is no step {step!r} among {shown}.{nearest(step, [d.name for d in steps])}")


@dataclasses.dataclass(frozen=True)
class Recorder:
    """Writes down how each step is undone, at once, as it is shown what the step was given and what it made of it."""

    folder: Path

    def __call__(self, before: Dataset, after: Dataset, step: str) -> None:
        """One step over data that are not split, or over one part."""
        write_changes(self.folder / (before.split or "clean"), [record(before, after, step)])

    def split(self, dataset: Any, splits: Any) -> None:
        """The split of the cleaned data; only what is in memory can be undone."""
        assert isinstance(dataset, Dataset)
        assert isinstance(splits, Splits)
        write_changes(self.folder / "split", [record(dataset, _joined(splits), "split")])


@contextlib.contextmanager
def recording(folder: Path) -> Iterator[Recorder]:
    """A recorder whose record lies below ``folder/changes`` once every step went well, and nowhere before."""
    beside = folder / f".{CHANGES}.tmp"
    shutil.rmtree(beside, ignore_errors=True)  # what was stopped
    try:
        beside.mkdir()
        yield Recorder(beside)
        shutil.rmtree(folder / CHANGES, ignore_errors=True)
        beside.rename(folder / CHANGES)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_record(folder: Path) -> Record:
    """What a ``Recorder`` wrote. Raises DataError where nothing was recorded, or it is damaged."""
    place = folder / CHANGES
    if not place.is_dir():
        raise DataError(
            f"{folder}: what its steps changed was not recorded, as it is for cleaned data of at most "
            f"{MOST_BYTES >> 20} MiB in memory; groundup.clean(..., record=True) records any that fit there."
        )
    parts = {part: tuple(_changes(place / part)) for part in PARTS}
    return Record(folder, tuple(_changes(place / "clean")), read_changes(place / "split")[0], parts)


def go_back(record: Record, number: int) -> dict[str, Dataset]:
    """The data as they were before that step: the three parts, or behind the split's beginning the whole as ``data``.

    Raises DataError when the cleaned data are not what the steps made.
    """
    behind = len(record.before_split) + 1  # the split's number
    data: dict[str, Dataset] = {}
    for part in PARTS:
        dataset = open_shards(record.folder / part).whole()
        kept = max(0, number - behind - 1)
        for change in reversed(record.parts[part][kept:]):
            dataset = undo(dataset, change)
        data[part] = dataset
    if number > behind:
        return data
    whole = undo(_joined(Splits(**data)), record.split)
    for change in reversed(record.before_split[number - 1 :]):
        whole = undo(whole, change)
    return {"data": whole}


def write_back(data: dict[str, Dataset], out: Path) -> Path:
    """Each part as one Parquet file in a folder of its name, or the whole as ``data.parquet``."""
    if out.exists():
        raise DataError(f"{out}: exists already, and is never overwritten. Choose another folder with out.")
    try:
        for name, dataset in data.items():
            file = out / "data.parquet" if name == "data" else out / name / "part-00000.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            dataset.frame.write_parquet(file)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error}.") from error
    return out


def _joined(splits: Splits) -> Dataset:
    """The three parts behind one another, as data that are not split."""
    frame = pl.concat([part.frame for part in splits.parts().values()])
    return Dataset(frame, splits.train.kinds, origin=splits.train.origin)


def _changes(folder: Path) -> list[Change]:
    return read_changes(folder) if any(folder.glob("[0-9]*-*")) else []


def _gone(change: Change) -> int:
    return 0 if change.removed is None else change.removed.height
