"""Steps that see all rows of a key together: rows go to buckets by key, through the step, and back to their place.

A step that declares no key but a ``halo`` sees the rows in order of time instead, shard by shard, with so many rows of
the neighbours on either side; what it makes of those is thrown away. With neither it sees all rows at once.
"""

from __future__ import annotations

import dataclasses
import inspect
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from groundup.core.contract import declared
from groundup.core.dataset import ROW, Dataset, apply, merge_entries
from groundup.core.errors import DataError
from groundup.core.plan import format_bytes
from groundup.data.shards.exchange import (
    Array,
    read_piece,
    read_told,
    release_unused,
    split_by,
    write_pieces,
    write_told,
)
from groundup.data.shards.executors import Executor
from groundup.data.shards.folder import Piece, Shards, entry_from, finished, gathered, kinds_of, write_shard
from groundup.data.shards.memory import COPIES, Room
from groundup.data.shards.rearrange import rearranged
from groundup.data.shards.removed import gather_removed, write_list

Named = tuple[str, Any, Mapping[str, int]]
"""A step with its name in the ledger and the rows it learned from."""

SHARD, PLACE = "_shard", "_place"
"""Where a row came from; these columns travel beside the rows and are never seen by a step."""

BUCKETS_A_SHARD = 3
"""A step over series holds more copies of its rows than one that takes them one by one, so buckets are smaller."""


def carry_keyed(executor: Executor, room: Room, shards: Shards, named: Named, folder: Path) -> Shards:
    """The step over whole keys; rows stay in their order. Raises DataError when a key's rows do not fit in memory."""
    name, step, _ = named
    keys = keys_of(step, name)
    if not keys:
        return _carry_with_halo(executor, room, shards, named, folder)
    shards.need(*keys, by=name)
    buckets = max(1, -(-shards.size_bytes * BUCKETS_A_SHARD // room.shard_bytes))
    apart, back = folder / "apart", folder / "back"
    apart.mkdir(exist_ok=True)
    back.mkdir(exist_ok=True)
    pieces = shards.pieces()
    parting = [(piece, keys, buckets, apart / f"{i}.arrow") for i, piece in enumerate(pieces)]
    sizes = np.sum(list(executor.each(part_by_key, parting)), axis=0)
    _refuse_large_bucket(room, int(sizes.max()), name, keys)
    origins = [apart / f"{i}.arrow" for i in range(len(pieces))]
    like = dataclasses.replace(pieces[0], path=folder)
    carrying = [(like, origins, bucket, named, back / f"{bucket}.arrow") for bucket in range(buckets)]
    told = list(executor.each(carry_bucket, carrying))
    kinds = kinds_of(told, told[0]["kinds"])
    origins = [back / f"{bucket}.arrow" for bucket in range(buckets)]
    like = dataclasses.replace(like, kinds=kinds)
    vouched = list(
        executor.each(gather_shard, [(like, origins, i, folder / f.name) for i, f in enumerate(shards.files)])
    )
    entry = merge_entries([entry_from(one["entry"]) for one in told])
    made = gathered(folder, vouched, shards, entry.rows_after, history=(*shards.history, entry))
    for place in (apart, back):
        shutil.rmtree(place, ignore_errors=True)
    return made


def keys_of(step: Any, name: str) -> list[str]:
    """The columns that a step declares by ``by``, or takes as an option of that name; empty for rows as one series."""
    found = _option(step, "by")
    found = declared(step, "by") if found is None else found
    if found is None or isinstance(found, str):
        return [found] if found else []
    if not all(isinstance(key, str) for key in found):
        raise DataError(f"{name}: declares by = {found!r}; expected names of columns.")
    return list(found)


def _option(step: Any, name: str) -> Any:
    """An option that is bound to a function, or its default."""
    function = getattr(step, "func", step)
    if not inspect.isfunction(function):
        return None
    parameter = inspect.signature(function).parameters.get(name)
    default = None if parameter is None or parameter.default is parameter.empty else parameter.default
    return getattr(step, "keywords", {}).get(name, default)


def _refuse_large_bucket(room: Room, size_bytes: int, name: str, keys: Sequence[str]) -> None:
    if size_bytes * COPIES > max(room.memory_bytes, COPIES * room.shard_bytes * 2):
        raise DataError(
            f"{name}: the rows of one value of {', '.join(keys)} take up to {format_bytes(size_bytes)}, too much for a "
            f"memory of {format_bytes(room.memory_bytes)}. Take a finer key, or raise recipe.data.memory."
        )


def part_by_key(piece: Piece, keys: Sequence[str], buckets: int, path: Path) -> list[int]:
    """A task: one shard's rows by bucket, into one file; gives the bytes that go to each."""
    if (told := read_told(path)) is not None:
        return told["sizes"]  # type: ignore[no-any-return]
    frame = piece.read().frame
    target = (frame.select(keys).hash_rows(seed=0) % buckets).to_numpy().astype(np.int64)
    place = pl.arange(0, pl.len(), dtype=pl.UInt32).alias(PLACE)
    parts = split_by(frame.with_columns(pl.lit(int(path.stem), dtype=pl.UInt32).alias(SHARD), place), target, buckets)
    write_pieces(parts, path)
    sizes = [int(part.estimated_size()) for part in parts]
    write_told(path, {"sizes": sizes})
    return sizes


def carry_bucket(like: Piece, origins: Sequence[Path], bucket: int, named: Named, path: Path) -> dict[str, Any]:
    """A task: the step over one bucket, its rows written by the shard they came from; gives kinds and ledger's line."""
    if (told := read_told(path)) is not None:
        return told
    name, step, seen = named
    frame = pl.concat([read_piece(origin, bucket) for origin in origins])
    places = frame.select(ROW, SHARD, PLACE)
    before = Dataset(frame.drop(SHARD, PLACE), like.kinds, like.split, like.history, origin=like.origin)
    after = apply(step, before, name, seen)
    placed = _placed(after.frame, places)
    del frame, before
    write_pieces(split_by(placed, placed[SHARD].to_numpy().astype(np.int64), len(origins)), path)
    write_list(after.history[-1], path.parent.parent / f"removed-{bucket:05d}.jsonl")
    entry = dataclasses.asdict(merge_entries([after.history[-1]]))
    told = {"rows": len(after), "kinds": dict(after.kinds), "entry": entry}
    write_told(path, told)
    return told


def _placed(after: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """The rows with where they came from; rows that the step has doubled stay beside their first."""
    if after[ROW].equals(places[ROW]):
        return after.hstack(places.select(SHARD, PLACE))
    known = places.unique(ROW, keep="first", maintain_order=True)
    return after.join(known, on=ROW, how="left", maintain_order="left")


def gather_shard(like: Piece, origins: Sequence[Path], number: int, path: Path) -> dict[str, Any]:
    """A task: one shard's rows from every bucket, back in their order."""
    if (there := finished(path)) is not None:
        return there
    frame = pl.concat([read_piece(origin, number) for origin in origins], how="vertical_relaxed").drop(SHARD)
    order = pl.Series(np.argsort(frame[PLACE].to_numpy(), kind="stable"))
    # Column by column: two copies of all of them are enough.
    frame = pl.DataFrame([frame[name].gather(order) for name in frame.columns if name != PLACE])
    release_unused()
    return write_shard(Dataset(frame, like.kinds, like.split), path)


# ------------------------------------------------------------------------------------------------ in order of time


def _carry_with_halo(executor: Executor, room: Room, shards: Shards, named: Named, folder: Path) -> Shards:
    """The step over rows in order of time with a halo on either side; without a halo that is all rows at once."""
    halo = declared(named[1], "halo")
    assert halo is not None
    before, behind = (halo, halo) if isinstance(halo, int) else halo
    order = _order_of_time(shards)
    ordered = shards
    if order is not None:
        (folder / "ordered").mkdir(exist_ok=True)
        ordered = rearranged(executor, room, shards, order, folder / "ordered")
    target = folder if order is None else folder / "carried"
    target.mkdir(exist_ok=True)
    pieces = ordered.pieces()
    rows = [file.rows for file in ordered.files]
    tasks = [
        (*_neighbours(pieces, rows, i, before, behind), named, target / file.name)
        for i, file in enumerate(ordered.files)
    ]
    carried = gathered(target, list(executor.each(carry_with_neighbours, tasks)), ordered)
    if order is None:
        return carried
    made = rearranged(executor, room, carried, _places_of(carried, shards), folder)
    gather_removed([target], folder / "removed-00000.jsonl")
    for place in ("ordered", "carried"):
        shutil.rmtree(folder / place, ignore_errors=True)
    return made


def _order_of_time(shards: Shards) -> Array | None:
    """Positions of the rows in order of the one time column there is, else of ``_row``; None if they stand so."""
    times = shards.of_kind("time")
    key = times[0] if len(times) == 1 else ROW
    column = shards.within([ROW, key] if key != ROW else [ROW]).frame[key]
    if column.is_sorted():
        return None
    return column.arg_sort().to_numpy()


def _places_of(carried: Shards, shards: Shards) -> Array:
    """The order in which the carried rows stand as the original ones do; rows that went are left out."""
    were = shards.within([ROW]).frame[ROW]
    at = pl.DataFrame({ROW: were, "at": np.arange(len(were))}).unique(ROW, keep="first")
    are = (
        carried.within([ROW])
        .frame.select(pl.col(ROW).cast(were.dtype))
        .join(at, on=ROW, how="left", maintain_order="left")
    )
    return are["at"].arg_sort().to_numpy()


def _neighbours(
    pieces: Sequence[Piece], rows: Sequence[int], i: int, before: int, behind: int
) -> tuple[list[Piece], Piece, list[Piece], tuple[int, int]]:
    """The shards that hold the rows before and behind shard ``i``, and how many of their rows are wanted."""
    first, last = i, i
    while first > 0 and sum(rows[first:i]) < before:
        first -= 1
    while last < len(rows) - 1 and sum(rows[i + 1 : last + 1]) < behind:
        last += 1
    return list(pieces[first:i]), pieces[i], list(pieces[i + 1 : last + 1]), (before, behind)


def carry_with_neighbours(
    earlier: Sequence[Piece], piece: Piece, later: Sequence[Piece], halo: tuple[int, int], named: Named, path: Path
) -> dict[str, Any]:
    """A task: the step over one shard, whose neighbours' rows it sees and does not keep."""
    if (there := finished(path)) is not None:
        return there
    name, step, seen = named
    own = piece.read()
    head = [one.read().frame for one in earlier]
    tail = [one.read().frame for one in later]
    frames = [*([pl.concat(head).tail(halo[0])] if head else []), own.frame]
    frames += [pl.concat(tail).head(halo[1])] if tail else []
    around = own.with_frame(pl.concat(frames))

    def own_rows(dataset: Dataset) -> Dataset:
        after: Dataset = step(around)
        names = set(dataset.row_names())
        kept = after.frame.filter(pl.col(ROW).is_in(dataset.frame[ROW].implode()))
        # Its notes count the neighbours' rows as well, so they would be wrong here.
        notes = (f"each shard was seen with {halo[0]} rows before it and {halo[1]} behind it",)
        gone = tuple(one for one in after.pending if one[0] in names)
        return dataclasses.replace(after, frame=kept, pending=gone, notes=notes)

    after = apply(own_rows, own, name, seen)
    return write_shard(after, path, after.history[-1:])
