"""Files larger than the memory are read into shards in pieces, with what cannot be taken set aside and counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from groundup.core.dataset import Dataset
from groundup.data import sources
from groundup.data.shards import Room, Shards, open_shards
from groundup.data.shards.reading import read
from groundup.data.shards.source import shards as folder_of_shards

ROWS = 200_000
SMALL = Room(20_000_000, 2)


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    draw = np.random.default_rng(3)
    return pl.DataFrame(
        {
            "number": draw.normal(0, 5, ROWS).round(4),
            "whole": draw.integers(0, 1000, ROWS),
            "kind": draw.choice(["red", "green", "blue"], ROWS),
            "text": [f"row {i} of some length, so that it is text and nothing else" for i in range(ROWS)],
        }
    ).with_columns(number=pl.when(pl.col("whole") % 17 == 0).then(None).otherwise(pl.col("number")))


WRITE: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "csv": lambda table, path: table.write_csv(path),
    "parquet": lambda table, path: table.write_parquet(path),
    "json_lines": lambda table, path: table.write_ndjson(path),
}


@pytest.mark.parametrize("kind", WRITE)
def test_a_large_file_becomes_shards_that_hold_what_it_holds(kind: str, table: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / f"table.{kind.replace('json_lines', 'jsonl')}"
    WRITE[kind](table, path)
    source = getattr(sources, kind)(path)
    whole: Dataset = source()
    found = read(source, kind, SMALL, tmp_path / "shards")
    assert isinstance(found, Shards)
    assert len(found.files) > 5
    assert max(file.size_bytes for file in found.files) <= SMALL.shard_bytes * 1.1
    assert found.whole().frame.equals(whole.frame)
    assert found.kinds == whole.kinds
    assert [(e.step, e.rows_before, e.rows_after, e.notes) for e in found.history] == [
        (e.step, e.rows_before, e.rows_after, e.notes) for e in whole.history
    ]
    again = read(source, kind, Room(4 * 10**9, 2), tmp_path / "none")
    assert isinstance(again, Dataset)
    assert again.frame.equals(whole.frame)
    assert again.history == whole.history
    assert again.quarantine == whole.quarantine


def test_what_cannot_be_taken_is_counted_and_kept(table: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    table.write_csv(path)
    lines = path.read_text().splitlines()
    for place in (5, 90_000, 199_999):
        lines[place] = "one,cell,too,many,here"
    path.write_text("\n".join(lines) + "\n")
    found = read(sources.csv(path), "csv", SMALL, tmp_path / "shards")
    assert isinstance(found, Shards)
    assert (len(found), found.rejected) == (ROWS - 3, 3)
    kept = [json.loads(line) for line in (tmp_path / "shards" / "quarantine.jsonl").read_text().splitlines()]
    assert [one["line"] for one in kept] == [6, 90_001, 200_000]
    whole = sources.csv(path)()
    assert found.whole().frame.equals(whole.frame)
    in_memory = read(sources.csv(path), "csv", Room(4 * 10**9, 2), tmp_path / "none")
    assert isinstance(in_memory, Dataset)
    assert in_memory.quarantine == whole.quarantine


def test_a_folder_of_shards_is_a_source_and_is_not_copied(table: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table.write_parquet(path)
    written = read(sources.parquet(path), "parquet", SMALL, tmp_path / "shards")
    from functools import partial

    source = partial(folder_of_shards, path="shards", folder=tmp_path)
    found = read(source, "shards", SMALL, tmp_path / "unused")
    assert isinstance(found, Shards)
    assert found.folder == tmp_path / "shards"
    assert not (tmp_path / "unused").exists()
    assert found.whole().frame.equals(written.whole().frame)  # type: ignore[union-attr]
    assert source().frame.equals(found.whole().frame)
    assert open_shards(tmp_path / "shards") == written
