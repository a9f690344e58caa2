"""From a source to shards: what is larger than the memory is read a piece at a time and never held as a whole.

A source may offer, beside being called for all of its rows, ``shards(rows_at_once)``, which gives them as datasets one
after another: a method of an object, or an attribute of a function that takes the function's options as well.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from groundup.core.dataset import ROW, Dataset, Entry, Kind, merge_entries, merge_notes
from groundup.core.errors import DataError
from groundup.core.quarantine import Quarantine
from groundup.data.shards.carry import cut
from groundup.data.shards.folder import (
    MANIFEST,
    Shards,
    finished,
    gathered,
    open_shards,
    shard_names,
    write_shard,
)
from groundup.data.shards.memory import Room
from groundup.data.sources.iterables import as_dataset

ROWS_AT_ONCE = 1 << 16

QUARANTINE = "quarantine.jsonl"
"""Beside the shards of a source, what it could not take, as ``groundup.core.quarantine`` writes it."""

Source = Callable[[], Dataset]


def read(source: Source, name: str, room: Room, folder: Path) -> Dataset | Shards:
    """All rows of a source: in memory where they fit, else in shards under ``folder``.

    Raises DataError as the source does, and for pieces that do not go together.
    """
    if (folder / MANIFEST).is_file():
        return open_shards(folder)
    found = _read(source, name, room, folder)
    if isinstance(found, Dataset) and not found.quarantine.read:  # a source that rejects nothing need not count
        return dataclasses.replace(found, quarantine=Quarantine(len(found), len(found)))
    return found


def _read(source: Source, name: str, room: Room, folder: Path) -> Dataset | Shards:
    opened = offered(source, "opened")
    if opened is not None:
        shards: Shards = opened()
        return shards if not room.fits(shards.size_bytes) else _as_dataset(shards)
    pieces = offered(source, "shards")
    if pieces is None:
        return _whole(as_dataset(source(), name), name, room, folder)
    return _from_pieces(pieces(ROWS_AT_ONCE), source, name, room, folder)


def offered(source: Any, what: str) -> Callable[..., Any] | None:
    """A method of a source, or an attribute of a function with the source's options bound to it; None without it."""
    found: Callable[..., Any] | None = getattr(source, what, None)
    if found is not None or not isinstance(source, functools.partial):
        return found
    found = getattr(source.func, what, None)
    return None if found is None else functools.partial(found, *source.args, **source.keywords)


def _as_dataset(shards: Shards) -> Dataset:
    return dataclasses.replace(shards.whole(), split=None)


def _whole(dataset: Dataset, name: str, room: Room, folder: Path) -> Dataset | Shards:
    if room.fits(int(dataset.frame.estimated_size())):
        return dataset
    if dataset.notes or dataset.pending:
        dataset = dataclasses.replace(dataset, history=(*dataset.history, _entry(name, dataset)), notes=(), pending=())
    folder.mkdir(parents=True, exist_ok=True)
    if dataset.quarantine.rejected:
        (folder / QUARANTINE).write_text(dataset.quarantine.to_json_lines(), encoding="utf-8")
    shards = cut(dataset, folder, room.shard_bytes)
    return dataclasses.replace(shards, rejected=len(dataset.quarantine.rejected)).save()


def _entry(name: str, dataset: Dataset) -> Entry:
    """What could not be read, as a line of the ledger."""
    return Entry(name, None, len(dataset), len(dataset), removed=dataset.pending, notes=dataset.notes)


def _from_pieces(pieces: Iterator[Dataset], source: Source, name: str, room: Room, folder: Path) -> Dataset | Shards:
    """The first pieces are kept in memory until it shows that all of them would not fit."""
    kept: list[Dataset] = []
    size = 0
    tally = _Tally(name)
    for piece in pieces:
        kept.append(tally.numbered(piece))
        size += int(piece.frame.estimated_size())
        if not room.fits(size):
            break
    else:
        if not kept:
            raise DataError(f"{name}: the source gave no rows.")
        return tally.joined(kept) or source()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / QUARANTINE).unlink(missing_ok=True)
    following = itertools.chain(_given_up(kept), (tally.numbered(piece) for piece in pieces))
    vouched = []
    for shard_name, shard in zip(shard_names(), _of_size(following, room), strict=False):
        tally.spill(folder)
        there = finished(folder / shard_name)
        same = there is not None and there["rows"] == len(shard)
        vouched.append(there if there is not None and same else write_shard(shard, folder / shard_name))
    tally.spill(folder)
    known: dict[str, Any] = {"origin": tally.origin, "history": tally.booked(), "kinds": tally.kinds()}
    known["rejected"] = tally.rejected
    return gathered(folder, vouched, None, tally.rows, split=None, **known)


def _given_up(kept: list[Dataset]) -> Iterator[Dataset]:
    """Each of them once, so that none stays in memory behind it."""
    kept.reverse()
    while kept:
        yield kept.pop()


def _of_size(pieces: Iterator[Dataset], room: Room) -> Iterator[Dataset]:
    """The same rows in pieces of the size of a shard, whatever the size they come in."""
    waiting: list[pl.DataFrame] = []
    size = 0
    like: Dataset | None = None
    for piece in pieces:
        like = piece
        rows = max(1, int(len(piece) * room.shard_bytes / max(1, piece.frame.estimated_size())))
        for part in piece.frame.iter_slices(rows):
            part_bytes = int(part.estimated_size())
            if waiting and size + part_bytes > room.shard_bytes:
                yield like.with_frame(pl.concat(waiting, how="vertical_relaxed"), like.kinds)
                waiting, size = [], 0
            waiting.append(part)
            size += part_bytes
    if like is not None and waiting:
        yield like.with_frame(pl.concat(waiting, how="vertical_relaxed"), like.kinds)


class _Tally:
    """What pieces of a source say together: numbering, kinds, the ledger, and what was rejected."""

    def __init__(self, name: str) -> None:
        self.name, self.origin = name, ""
        self.rows, self.offset, self.last = 0, 0, -1
        self.seen: dict[str, dict[Kind, int]] = {}
        self.entries: dict[int, list[Entry]] = {}
        self.told: list[Dataset] = []
        self.quarantine = Quarantine()
        self.rejected = 0

    def numbered(self, piece: Dataset) -> Dataset:
        """The piece with rows numbered on from those before, where the source has not done that."""
        self.origin = self.origin or piece.origin
        numbers = piece.frame[ROW].cast(pl.UInt32)
        if len(numbers) and self.rows and int(numbers[0]) + self.offset <= self.last:
            self.offset = self.last + 1
        if self.offset:
            numbers = numbers + self.offset
        if len(numbers):
            self.last = int(numbers[-1])
        self._count(piece)
        return piece.with_frame(piece.frame.with_columns(numbers.alias(ROW)))

    def _count(self, piece: Dataset) -> None:
        self.rows += len(piece)
        self.quarantine += piece.quarantine
        for name in piece.columns:
            kinds = self.seen.setdefault(name, {})
            kinds[piece.kinds[name]] = kinds.get(piece.kinds[name], 0) + len(piece)
        for place, entry in enumerate(piece.history):
            self.entries.setdefault(place, []).append(entry)
        if piece.notes or piece.pending:
            self.told.append(dataclasses.replace(piece, frame=piece.frame.clear(), quarantine=Quarantine()))

    def kinds(self) -> dict[str, Kind]:
        """Each column's; where pieces do not agree, what most rows say."""
        return {name: max(kinds, key=lambda kind: kinds[kind]) for name, kinds in self.seen.items()}

    def history(self) -> tuple[Entry, ...]:
        """The pieces' ledgers as one: a line that each of them has of the whole stands once, others add up."""
        return tuple(
            entries[0]
            if len(entries) > 1 and entries[0].rows_after == self.rows and all(one == entries[0] for one in entries)
            else merge_entries(entries)
            for entries in self.entries.values()
        )

    def pending(self) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        """Removals and notes that are not booked yet."""
        removed = tuple(one for piece in self.told for one in piece.pending)
        return removed, merge_notes([piece.notes for piece in self.told])

    def booked(self) -> tuple[Entry, ...]:
        """The history with a line for what is not booked yet."""
        removed, notes = self.pending()
        last = Entry(self.name, None, self.rows, self.rows, removed=removed, notes=notes)
        return (*self.history(), last) if removed or notes else self.history()

    def joined(self, pieces: list[Dataset]) -> Dataset | None:
        """All pieces in memory as one dataset; None where they differ in what a look at all values would settle."""
        if len(pieces) == 1:
            return pieces[0]
        agreed = all(len(kinds) == 1 for kinds in self.seen.values())
        if not agreed or any(piece.frame.schema != pieces[0].frame.schema for piece in pieces):
            return None
        removed, notes = self.pending()
        return dataclasses.replace(
            pieces[0],
            frame=pl.concat([piece.frame for piece in pieces]),
            kinds=self.kinds(),
            history=self.history(),
            pending=removed,
            notes=notes,
            quarantine=self.quarantine,
        )

    def spill(self, folder: Path) -> None:
        """What was rejected so far goes to a file, since there may be much of it."""
        if self.quarantine.rejected:
            with (folder / QUARANTINE).open("a", encoding="utf-8") as file:
                file.write(self.quarantine.to_json_lines())
        self.rejected += len(self.quarantine.rejected)
        self.quarantine = Quarantine()
