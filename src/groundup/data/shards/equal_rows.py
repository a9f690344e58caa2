"""Rows that equal an earlier one, found in bounded memory: keys of rows go to buckets, and each bucket is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from groundup.data.shards.exchange import Array, read_piece, read_told, split_by, write_pieces, write_told
from groundup.data.shards.executors import Executor
from groundup.data.shards.folder import Piece, Shards
from groundup.data.shards.memory import Room

KEY_BYTES = 96
"""What a row takes while its bucket is looked at: key, place, and those of the first row that equals it."""


Reasons = Iterator[dict[int, str]]
"""For each shard in order: position of each row that goes -> reason."""


def find_equal(executor: Executor, room: Room, shards: Shards, step: Any, folder: Path) -> Reasons:
    """For each shard, position of each row that goes -> reason, as ``step.keys`` and ``step.reason`` have it.

    Of all rows nothing is in memory together; of those that go, 16 bytes each and the name of the row that stays.
    """
    pieces = shards.pieces()
    buckets = max(1, -(-len(shards) * KEY_BYTES // room.shard_bytes))
    apart = folder / "keys"
    apart.mkdir(exist_ok=True)
    origins = [apart / f"{i}.arrow" for i in range(len(pieces))]
    for _ in executor.each(
        part_keys, [(piece, step, buckets, path) for piece, path in zip(pieces, origins, strict=True)]
    ):
        pass
    found = pl.concat(list(executor.each(later_ones, [(origins, bucket) for bucket in range(buckets)])))
    return told_by_shard(executor, pieces, found, lambda first, *_: step.reason(first))


def told_by_shard(executor: Executor, pieces: Sequence[Piece], found: pl.DataFrame, reason: Any) -> Reasons:
    """``reason(name, value)`` of rows that go, with the name of the row that each is like.

    ``found`` has the columns ``shard`` and ``place``, for that row ``first_shard`` and ``first_place``, and may have
    ``value``.
    """
    firsts = found.select(shard="first_shard", place="first_place").unique().sort("shard", "place")
    wanted = [firsts.filter(shard=i)["place"].to_numpy() for i in range(len(pieces))]
    asked = [(piece, places) for piece, places in zip(pieces, wanted, strict=True) if len(places)]
    names = [pl.Series([], dtype=pl.String), *executor.each(names_of, asked)]
    firsts = firsts.with_columns(name=pl.concat(names))
    found = found.join(
        firsts, left_on=["first_shard", "first_place"], right_on=["shard", "place"], how="left", maintain_order="left"
    ).drop("first_shard", "first_place")
    for number in range(len(pieces)):
        gone = found.filter(shard=number).sort("place").select("place", "name", pl.exclude("shard", "place", "name"))
        yield {place: reason(*told) for place, *told in gone.iter_rows()}


def part_keys(piece: Piece, step: Any, buckets: int, path: Path) -> bool:
    """A task: the keys of one shard's rows by bucket, with where each row stands, into one file."""
    if read_told(path) is None:
        keys = step.keys(piece.read())
        write_keys(keys, np.arange(len(keys)), buckets, path)
        write_told(path, {})
    return True


def write_keys(keys: Array, places: Array, buckets: int, path: Path) -> None:
    """Keys [rows, 2] by bucket, with where each row stands; the file is named after the shard."""
    frame = pl.DataFrame({"place": places.astype(np.uint32), "one": keys[:, 0], "other": keys[:, 1]})
    frame = frame.with_columns(pl.lit(int(path.stem), dtype=pl.UInt32).alias("shard"))
    write_pieces(split_by(frame, (keys[:, 0] % np.uint64(buckets)).astype(np.int64), buckets), path)


def later_ones(origins: Sequence[Path], bucket: int) -> pl.DataFrame:
    """A task: of one bucket the rows that equal an earlier one, and where the first of these stands."""
    frame = pl.concat([read_piece(origin, bucket) for origin in origins])
    order = frame.select(pl.arg_sort_by(["one", "other"], maintain_order=True)).to_series()
    frame = frame[order]
    same = (frame["one"] == frame["one"].shift(1)) & (frame["other"] == frame["other"].shift(1))
    later = same.fill_null(False).to_numpy()
    first = np.maximum.accumulate(np.where(later, 0, np.arange(frame.height)))[later]
    firsts = frame[first]
    return frame.filter(pl.Series(later)).select(
        "shard", "place", first_shard=firsts["shard"], first_place=firsts["place"]
    )


def names_of(piece: Piece, places: Array) -> pl.Series:
    """A task: the names of some rows of one shard."""
    return pl.Series(piece.read().take(places).row_names(), dtype=pl.String)
