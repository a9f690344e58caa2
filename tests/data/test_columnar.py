"""Parquet and Arrow files give what was put into them, whole or in shards, as plain types."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from groundup.core.dataset import infer_kind
from groundup.core.errors import DataError
from groundup.data.sources import arrow, columnar, parquet


def frame(rows: int = 1000) -> pl.DataFrame:
    random = np.random.default_rng(0)
    moments = [datetime.datetime(2024, 1, 1) + datetime.timedelta(hours=i) for i in range(rows)]
    return pl.DataFrame({
        "whole": random.integers(-5, 5, rows),
        "number": [None if i % 7 == 0 else float("nan") if i % 11 == 0 else i / 3 for i in range(rows)],
        "word": pl.Series([f"w{i % 5}" for i in range(rows)], dtype=pl.Categorical),
        "text": [f"text number {i}" for i in range(rows)],
        "price": pl.Series([Decimal(i) / 4 for i in range(rows)], dtype=pl.Decimal(10, 2)),
        "when": pl.Series(moments).dt.replace_time_zone("Europe/Berlin", ambiguous="earliest", non_existent="null"),
        "parts": pl.Series([{"a": i, "b": {"c": str(i)}} for i in range(rows)]),
        "messages": [[{"role": "user", "content": "x"}] * (i % 3) for i in range(rows)],
        "pixels": pl.Series(random.integers(0, 255, (rows, 2, 2)).astype(np.uint8), dtype=pl.Array(pl.UInt8, (2, 2))),
        "empty": pl.Series([None] * rows, dtype=pl.Null),
    })  # fmt: skip


def write(folder: Path, form: str) -> Any:
    path = folder / f"table.{form}"
    if form == "parquet":
        frame().write_parquet(path, row_group_size=128)
        return parquet(path)
    if form == "stream":
        frame().write_ipc_stream(path)
    else:
        frame().write_ipc(path, record_batch_size=100)
    return arrow(path)


@pytest.mark.parametrize("form", ["parquet", "arrow", "stream"])
def test_what_was_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(columnar, "BATCH_ROWS", 64)
    source, given = write(tmp_path, form), frame()
    dataset = source()
    found = dataset.frame
    assert found["whole"].to_list() == given["whole"].to_list()
    assert found["number"].to_list() == [None if v is None or v != v else v for v in given["number"]]
    assert found["word"].to_list() == given["word"].to_list()
    assert found["price"].to_list() == [float(value) for value in given["price"]]
    utc = given["when"].dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    assert found["when"].to_list() == utc.to_list()
    assert found["parts.b.c"].to_list() == [str(i) for i in range(1000)]
    assert dataset.kinds == {
        "whole": "number", "number": "number", "word": "category", "text": "text", "price": "number", "when": "time",
        "parts.a": "number", "parts.b.c": "text", "messages": "list", "pixels": "image", "empty": "number",
    }  # fmt: skip
    assert dataset.kinds == {name: infer_kind(found[name]) for name in dataset.columns}
    assert f"column 'number': not-a-number read as missing, {given['number'].is_nan().sum()} times" in (
        dataset.history[0].notes
    )
    for at_once in (1, 99, 5000):
        shards = list(source.shards(at_once))
        assert pl.concat([shard.frame for shard in shards]).equals(found)
        assert all(shard.frame.schema == found.schema and shard.kinds == dataset.kinds for shard in shards)
        assert all(shard.history == dataset.history for shard in shards)
        assert {len(shard) for shard in shards[:-1]} <= {at_once}


def test_columns_and_errors(tmp_path: Path) -> None:
    write(tmp_path, "parquet")
    assert parquet("table.parquet", columns=["text", "whole"], folder=tmp_path)().columns == ["text", "whole"]
    with pytest.raises(DataError, match="Did you mean 'whole'"):
        parquet("table.parquet", columns=["whoel"], folder=tmp_path)()
    with pytest.raises(DataError, match=r"Did you mean 'table\.parquet'"):
        parquet("tabel.parquet", folder=tmp_path)()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    for source in (parquet, arrow):
        with pytest.raises(DataError, match="cannot be read as"):
            source("bad.parquet", folder=tmp_path)()
    pl.DataFrame({"a": []}, schema={"a": pl.Int64}).write_parquet(tmp_path / "empty.parquet")
    with pytest.raises(DataError, match="no rows"):
        parquet("empty.parquet", folder=tmp_path)()
