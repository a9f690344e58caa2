"""Pieces of any size, as a source finds them, turned into one dataset or into shards of a given number of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import polars as pl

from groundup.core.dataset import ROW, Dataset, Entry, Kind
from groundup.core.errors import DataError
from groundup.core.quarantine import Quarantine, Rejected


@dataclasses.dataclass(frozen=True)
class Piece:
    """Some rows, and what was rejected between them; ``places`` says how many rows of the piece stand before each."""

    frame: pl.DataFrame
    rejected: tuple[Rejected, ...] = ()
    places: tuple[int, ...] = ()


def joined(pieces: Iterable[Piece], kinds: Mapping[str, Kind], entry: Entry, origin: str) -> Dataset:
    """All rows as one dataset."""
    frames: list[pl.DataFrame] = []
    rejected: list[Rejected] = []
    for piece in pieces:
        frames.append(piece.frame)
        rejected += piece.rejected
    return _dataset(pl.concat(frames, rechunk=True), tuple(rejected), 0, kinds, entry, origin)


def sharded(
    pieces: Iterable[Piece], kinds: Mapping[str, Kind], entry: Entry, origin: str, rows_at_once: int
) -> Iterator[Dataset]:
    """The same in shards of ``rows_at_once`` rows, the last one of what is left.

    Rows are numbered through; each shard's quarantine holds what was rejected among its rows, and every shard carries
    the same line of the ledger, which is of the whole. Raises DataError for less than one row at once.
    """
    if rows_at_once < 1:
        raise DataError(f"{origin}: shards of {rows_at_once} rows were asked for; expected at least 1.")
    return _cut(pieces, kinds, entry, origin, rows_at_once)


def _cut(
    pieces: Iterable[Piece], kinds: Mapping[str, Kind], entry: Entry, origin: str, rows_at_once: int
) -> Iterator[Dataset]:
    waiting: list[pl.DataFrame] = []
    rejected: list[tuple[int, Rejected]] = []
    height = given = 0
    for piece in pieces:
        place = given + height
        rejected += [(place + at, one) for at, one in zip(piece.places, piece.rejected, strict=True)]
        waiting.append(piece.frame)
        height += piece.frame.height
        while height > rows_at_once:  # the last shard waits for what is rejected behind its last row
            whole = pl.concat(waiting)
            end = given + rows_at_once
            mine = tuple(one for at, one in rejected if at < end)
            rejected = [(at, one) for at, one in rejected if at >= end]
            yield _dataset(whole.head(rows_at_once).rechunk(), mine, given, kinds, entry, origin)
            waiting, given, height = [whole.slice(rows_at_once)], end, height - rows_at_once
    yield _dataset(pl.concat(waiting, rechunk=True), tuple(one for _, one in rejected), given, kinds, entry, origin)


def _dataset(
    frame: pl.DataFrame,
    rejected: tuple[Rejected, ...],
    given: int,
    kinds: Mapping[str, Kind],
    entry: Entry,
    origin: str,
) -> Dataset:
    numbered = frame.with_row_index(ROW, offset=given)
    quarantine = Quarantine(frame.height + len(rejected), frame.height, rejected)
    dataset = Dataset.of(numbered, {name: kinds[name] for name in frame.columns}, origin=origin)
    return dataclasses.replace(dataset, history=(entry,), quarantine=quarantine)
