"""Rows carried from shards to other shards in bounded memory, in two passes over files.

The first pass cuts each shard into a piece for every target and writes the pieces into one file; the second reads, for
one target, its piece of every file. There are as many files as shards, never shards times targets.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]

from groundup.data.shards.folder import write_text

Array = np.ndarray[Any, Any]


def write_pieces(pieces: Sequence[pl.DataFrame], path: Path) -> None:
    """One file with a batch for each piece, empty ones included, whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    schema = _arrow(pieces[0].clear()).schema
    try:
        with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for piece in pieces:
                batches = _arrow(piece).combine_chunks().to_batches()
                writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        release_unused()


def read_piece(path: Path, number: int) -> pl.DataFrame:
    """The piece for one target."""
    with pa.OSFile(str(path), "rb") as file, pa.ipc.open_file(file) as reader:
        frame = pl.from_arrow(pa.Table.from_batches([reader.get_batch(number)]))
    assert isinstance(frame, pl.DataFrame)
    return frame


def release_unused() -> None:
    """Give back what pieces took that are gone: Arrow's allocator keeps it, and every other one here could use it."""
    pa.default_memory_pool().release_unused()


def split_by(frame: pl.DataFrame, target: Array, num_targets: int) -> list[pl.DataFrame]:
    """The rows of each target, in the order in which they stood. ``target`` [N] is from 0 to num_targets - 1."""
    order = np.argsort(target.astype(np.min_scalar_type(num_targets)), kind="stable")  # short ones by their digits
    ends = np.cumsum(np.bincount(target, minlength=num_targets))
    ordered = frame[order]
    return [ordered[int(end - count) : int(end)] for end, count in zip(ends, np.diff(ends, prepend=0), strict=True)]


def write_told(path: Path, told: dict[str, Any]) -> None:
    """Beside a file of pieces, what its task gives back; written last, so that it says that the file is whole."""
    write_text(path.with_suffix(".json"), json.dumps(told, ensure_ascii=False))


def read_told(path: Path) -> dict[str, Any] | None:
    """What the task gave back that wrote this file of pieces, if it did."""
    try:
        told: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if path.is_file() else None


def _arrow(frame: pl.DataFrame) -> Any:
    return frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
