"""Rows of shards in another order, or some of them: what a split by time, or a step in order of time, asks for."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from groundup.data.shards.exchange import Array, read_piece, read_told, split_by, write_pieces, write_told
from groundup.data.shards.executors import Executor
from groundup.data.shards.folder import Piece, Shards, finished, gathered, shard_names, write_shard
from groundup.data.shards.memory import Room

PLACE = "_place"


def rearranged(executor: Executor, room: Room, shards: Shards, positions: Array, folder: Path, **known: Any) -> Shards:
    """The rows at these positions of all, in this order, as shards of the usual size. ``known`` sets fields anew."""
    share = len(positions) / max(1, len(shards))
    count = max(1, -(-int(shards.size_bytes * share) // room.shard_bytes))
    rows = max(1, -(-len(positions) // count))
    places = np.full(len(shards), -1, dtype=np.int64)
    places[positions] = np.arange(len(positions))
    apart = folder / "apart"
    apart.mkdir(parents=True, exist_ok=True)
    np.save(apart / "places.npy", places)
    del places
    tasks = [
        (piece, apart / "places.npy", int(start), (rows, count), apart / f"{i}.arrow")
        for i, (piece, start) in enumerate(zip(shards.pieces(), shards.starts[:-1], strict=True))
    ]
    for _ in executor.each(part_by_place, tasks):
        pass
    origins = [apart / f"{i}.arrow" for i in range(len(tasks))]
    like = dataclasses.replace(shards.pieces()[0], path=folder)
    names = [name for name, _ in zip(shard_names(), range(count), strict=False)]
    vouched = list(executor.each(gather_places, [(like, origins, i, folder / name) for i, name in enumerate(names)]))
    made = gathered(folder, vouched, shards, len(positions), **known)
    shutil.rmtree(apart, ignore_errors=True)
    return made


def part_by_place(piece: Piece, places: Path, start: int, cut: tuple[int, int], path: Path) -> bool:
    """A task: one shard's rows by the shard that they go to, into one file."""
    if read_told(path) is not None:
        return True
    rows, count = cut
    frame = piece.seen().frame
    place = np.array(np.load(places, mmap_mode="r")[start : start + frame.height])
    frame = frame.with_columns(pl.Series(PLACE, place)).filter(pl.Series(place >= 0))
    write_pieces(split_by(frame, place[place >= 0] // rows, count), path)
    write_told(path, {})
    return True


def gather_places(like: Piece, origins: Sequence[Path], number: int, path: Path) -> dict[str, Any]:
    """A task: the rows of one new shard from every old one."""
    if (there := finished(path)) is not None:
        return there
    frame = pl.concat([read_piece(origin, number) for origin in origins]).sort(PLACE).drop(PLACE)
    return write_shard(dataclasses.replace(piece_dataset(like), frame=frame), path)


def piece_dataset(like: Piece) -> Any:
    """An empty dataset of these kinds."""
    from groundup.core.dataset import Dataset

    return Dataset(pl.DataFrame(), like.kinds, like.split, origin=like.origin)
