"""Rows that stand in two parts of the data, looked for by a hash of each row: a few bytes a row are in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from groundup.core.dataset import ROW
from groundup.data.cleaning.leaks import Leak
from groundup.data.shards.exchange import Array
from groundup.data.shards.executors import Executor
from groundup.data.shards.folder import Piece, Shards

MOST_COMPARED = 20_000
"""Rows with equal hashes that are compared value by value."""


def find_twins(executor: Executor, source: Shards, parts: Mapping[str, Shards], gone: Sequence[str] = ()) -> list[Leak]:
    """Rows of valid and test that an earlier part has too, as the source gave them, without ids and what is ``gone``.

    Compared are 64-bit hashes, and of the rows that agree in them the first 20,000 value by value.
    """
    columns = [name for name in source.columns if source.kinds[name] != "id" and name not in gone]
    told = list(executor.each(hashes_of, [(piece, columns) for piece in source.pieces()]))
    rows = np.concatenate([one[0] for one in told])
    hashes = np.concatenate([one[1] for one in told])
    order = np.argsort(rows, kind="stable")
    rows, hashes = rows[order], hashes[order]
    del told, order
    known_rows, known_hashes, known_in = np.zeros(0, rows.dtype), np.zeros(0, hashes.dtype), np.zeros(0, np.uint8)
    pairs: list[tuple[str, int, str, int]] = []
    names = list(parts)
    for number, (name, part) in enumerate(parts.items()):
        here = part.within([ROW]).frame[ROW].to_numpy()
        mine = hashes[np.searchsorted(rows, here)]
        if len(known_hashes) and len(mine):
            place = np.minimum(np.searchsorted(known_hashes, mine), len(known_hashes) - 1)
            found = np.flatnonzero(known_hashes[place] == mine)
            pairs += [
                (name, int(here[i]), names[known_in[place[i]]], int(known_rows[place[i]])) for i in found.tolist()
            ]
        known_hashes = np.concatenate([known_hashes, mine])
        by_hash = np.argsort(known_hashes, kind="stable")
        known_hashes = known_hashes[by_hash]
        known_rows = np.concatenate([known_rows, here])[by_hash]
        known_in = np.concatenate([known_in, np.full(len(here), number, np.uint8)])[by_hash]
    return _confirmed(executor, source, columns, pairs)


def hashes_of(piece: Piece, columns: list[str]) -> tuple[Array, Array]:
    """A task: number and hash of each row of one shard."""
    frame = piece.read([ROW, *columns]).frame
    return frame[ROW].to_numpy(), frame.select(columns).hash_rows(seed=11).to_numpy()


def _confirmed(
    executor: Executor, source: Shards, columns: list[str], pairs: list[tuple[str, int, str, int]]
) -> list[Leak]:
    compared = pairs[:MOST_COMPARED]
    wanted = np.unique(np.array([row for _, one, _, other in compared for row in (one, other)], dtype=np.int64))
    found: dict[int, tuple[str, Any]] = {}
    if len(wanted):
        for part in executor.each(values_of, [(piece, columns, wanted) for piece in source.pieces()]):
            found.update(part)
    twins = [
        Leak(split, found[one][0], f"{other_split}: {found[other][0]}", 1.0, one)
        for split, one, other_split, other in compared
        if found[one][1] == found[other][1]
    ]
    return twins + [
        Leak(split, f"row {one}", f"{other_split}: row {other}", 1.0, one)
        for split, one, other_split, other in pairs[MOST_COMPARED:]
    ]


def values_of(piece: Piece, columns: list[str], wanted: Array) -> dict[int, tuple[str, Any]]:
    """A task: name and values, as text, of the wanted rows of one shard."""
    dataset = piece.read()
    chosen = np.flatnonzero(np.isin(dataset.frame[ROW].to_numpy(), wanted))
    dataset = dataset.take(chosen)
    values = [repr(row) for row in dataset.frame.select(pl.col(columns)).iter_rows()]
    return dict(zip(dataset.frame[ROW].to_list(), zip(dataset.row_names(), values, strict=True), strict=True))
