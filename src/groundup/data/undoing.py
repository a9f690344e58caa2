"""The way back: what each step of cleaning changed is kept beside the cleaned data, and taken back step by step."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from groundup.core.changes import Change, read_changes, record, undo, write_changes
from groundup.core.dataset import Dataset, Splits
from groundup.core.errors import DataError, nearest
from groundup.data.shards.carry import Workshop
from groundup.data.shards.changes import STEP, joined, take_back
from groundup.data.shards.folder import Shards, open_shards

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


@dataclasses.dataclass(frozen=True)
class ShardRecord:
    """The same of data in shards, of which one shard is in memory at a time."""

    folder: Path

    def steps(self) -> list[Done]:
        """In order, numbered from 1; each step behind the split stands there once for its three parts."""
        whole = [_told(place) for place in [*self.places("clean"), *self.places("split")]]
        parts = zip(*([_told(place) for place in self.places(part)] for part in PARTS), strict=True)
        alike = [(those[0][0], sum(one[1] for one in those), sum(one[2] for one in those)) for those in parts]
        return [Done(i, *told) for i, told in enumerate([*whole, *alike], 1)]

    def places(self, of: str) -> list[Path]:
        """The folders of the steps over data that are not split, of the split, or of the steps over one part."""
        return sorted(place.parent for place in (self.folder / CHANGES / of).glob(f"[0-9]*/{STEP}"))

    def before(self, number: int) -> Iterator[tuple[str, Dataset]]:
        """Each shard of the data as they were before that step: of the three parts, or of the whole as ``data``.

        Raises DataError when the cleaned data are not what the steps made.
        """
        clean, split = self.places("clean"), self.places("split")
        behind = len(clean) + 1
        if number > behind:
            for part in PARTS:
                places = self.places(part)[number - behind - 1 :]
                for i in range(self._num_shards(part, places)):
                    found = self._part(part, i, places)
                    assert found is not None
                    yield part, found
            return
        places = [*clean[number - 1 :], *split]
        for i in range(self._num_shards("", places)):
            parts = [self._part(part, i, self.places(part)) for part in PARTS]
            yield "data", self._undone(joined([part for part in parts if part is not None]), i, places)

    def _part(self, part: str, i: int, places: list[Path]) -> Dataset | None:
        """A shard of a part as it was before these steps; None where there was none."""
        pieces = open_shards(self.folder / part).pieces()
        if i >= self._num_shards(part, places):
            return None
        return self._undone(pieces[i].read() if i < len(pieces) else None, i, places)

    def _undone(self, dataset: Dataset | None, i: int, places: list[Path]) -> Dataset:
        for place in reversed(places):
            if (place / f"{i:05d}").is_dir():
                dataset = take_back(dataset, place / f"{i:05d}")
        assert dataset is not None
        return dataset

    def _num_shards(self, part: str, places: list[Path]) -> int:
        """How many shards there were before the first of these steps."""
        if not places:
            return len(open_shards(self.folder / part).files)
        return int(json.loads((places[0] / STEP).read_text(encoding="utf-8"))["shards"])


def _told(place: Path) -> tuple[str, int, int]:
    """A step's name, and the cells and rows that it changed."""
    about = json.loads((place / STEP).read_text(encoding="utf-8"))
    return about["name"], about["cells"], 0 if about["name"] == "split" else about["rows"]


def place_of(recorded: Record | ShardRecord, step: str | None) -> int:
    """The number of a step that is named by it or by its name; 1 where none is. Raises DataError for another."""
    steps = recorded.steps()
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
def recording(folder: Path, shop: Workshop, source: Dataset | Shards) -> Iterator[tuple[Recorder | None, Workshop]]:
    """A recorder for what is in memory, and a workshop that records shards.

    The record lies below ``folder/changes`` once every step went well, and nowhere before.
    """
    if isinstance(source, Shards):  # beside the shards that are made, since a restart finds those
        yield None, dataclasses.replace(shop, changes=shop.folder / CHANGES)
        (shop.folder / CHANGES).rename(folder / CHANGES)
        return
    beside = folder / f".{CHANGES}.tmp"
    shutil.rmtree(beside, ignore_errors=True)  # what was stopped
    try:
        beside.mkdir()
        yield Recorder(beside), shop
        shutil.rmtree(folder / CHANGES, ignore_errors=True)
        beside.rename(folder / CHANGES)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_record(folder: Path) -> Record | ShardRecord:
    """What was recorded of the steps. Raises DataError where nothing was, or it is damaged."""
    place = folder / CHANGES
    if not place.is_dir():
        raise DataError(
            f"{folder}: what its steps changed was not recorded, as it is for cleaned data of at most "
            f"{MOST_BYTES >> 20} MiB in memory; groundup clean --record records any."
        )
    if (place / "split").is_dir() and any((place / "split").glob(f"[0-9]*/{STEP}")):
        return ShardRecord(folder)
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


def write_back(recorded: Record | ShardRecord, number: int, out: Path) -> Path:
    """The data as they were before that step: each part in a folder of its name, or the whole.

    In Parquet files ``part-00000.parquet`` and so on, as many as there were shards; the whole of data that were in
    memory as ``data.parquet``. Raises DataError when the cleaned data are not what the steps made.
    """
    if out.exists():
        raise DataError(f"{out}: exists already, and is never overwritten. Choose another folder with out.")
    in_memory = isinstance(recorded, Record)
    found = iter(go_back(recorded, number).items()) if isinstance(recorded, Record) else recorded.before(number)
    beside = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    counts: collections.Counter[str] = collections.Counter()
    try:
        for name, dataset in found:
            file = beside / name / f"part-{counts[name]:05d}.parquet"
            if in_memory and name == "data":
                file = beside / "data.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            dataset.frame.write_parquet(file)
            counts[name] += 1
        beside.rename(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error}.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return out


def _joined(splits: Splits) -> Dataset:
    """The three parts behind one another, as data that are not split."""
    frame = pl.concat([part.frame for part in splits.parts().values()])
    return Dataset(frame, splits.train.kinds, origin=splits.train.origin)


def _changes(folder: Path) -> list[Change]:
    return read_changes(folder) if any(folder.glob("[0-9]*-*")) else []


def _gone(change: Change) -> int:
    return 0 if change.removed is None else change.removed.height
