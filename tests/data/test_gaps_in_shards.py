"""Fills, filters and detectors over shards: the same rows and the same learned values as over a table in memory."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from groundup.core.dataset import Dataset
from groundup.core.preprocessing import fit_step
from groundup.data import series
from groundup.data.prepare import (
    DropSparseColumns,
    EachSeries,
    Fill,
    FillIterative,
    FillNearest,
    OutlierRows,
    Outliers,
)
from groundup.data.shards import Room, Workshop, cut, executor, fit_and_carry, written


@pytest.fixture(scope="module")
def made() -> Dataset:
    rng = np.random.default_rng(0)
    rows = 3000
    values = np.cumsum(rng.normal(size=(rows, 3)), axis=0)
    values[rng.random(values.shape) < 0.1] = np.nan
    frame = pl.DataFrame({f"x{i}": values[:, i] for i in range(3)}).with_columns(
        site=pl.Series(rng.choice(["a", "b", "c", "d"], rows)), at=pl.Series(rng.permutation(rows)), odd=pl.lit(None)
    )
    columns = [f"x{i}" for i in range(3)]
    frame = frame.with_columns(pl.col(columns).fill_nan(None), pl.col("odd").cast(pl.Float64))
    dataset = Dataset.of(frame, {"at": "time", "site": "category", "odd": "number"})
    return dataclasses.replace(dataset, split="train")


COLUMNS = ["x0", "x1", "x2"]
FILTERS = [series.interpolate, partial(series.median_filter, width=5)]
STEPS: dict[str, Any] = {
    "mean": Fill(COLUMNS, "mean"),
    "median": Fill(COLUMNS, "median", indicator=True),
    "group_mean": Fill(COLUMNS, "mean", by=["site"]),
    "group_median": Fill(COLUMNS, "median", by=["site"]),
    "mode": Fill(["site"], "mode"),
    "forward": Fill(COLUMNS, "forward", by=["site"]),
    "time": Fill(COLUMNS, "time", by=["site"], limit=3),
    "forward_without_a_key": Fill(COLUMNS, "forward", limit=2),
    "each_series": EachSeries(FILTERS, COLUMNS, by=["site"]),
    "one_long_series": EachSeries([partial(series.moving_average, width=7)], COLUMNS),
    "nearest": FillNearest(COLUMNS, sample_rows=300),
    "iterative": FillIterative(COLUMNS, sample_rows=1000),
    "sparse": DropSparseColumns(),
    "iqr": Outliers(COLUMNS, "iqr", "blank"),
    "mad": Outliers(COLUMNS, "mad", "flag"),
    "k_sigma": Outliers(COLUMNS, "k_sigma", k=1.5),
    "hampel": Outliers(COLUMNS, "hampel", "flag", by=["site"]),
    "rows": OutlierRows(columns=COLUMNS, sample_rows=500),
}


@pytest.mark.parametrize("name", STEPS)
def test_shards_give_what_memory_gives(
    name: str, made: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("SMALLEST_SHARD", "LARGEST_SHARD"):
        monkeypatch.setattr(f"groundup.data.shards.memory.{limit}", 20_000)
    step = STEPS[name]
    fitted = fit_step(step, made)
    expected = fitted(made).frame
    room = Room.of("200MB")
    shop = Workshop(executor("local", room), room, tmp_path / "work")
    (tmp_path / "cut").mkdir()
    shards = cut(made, tmp_path / "cut", int(made.frame.estimated_size()) // 7)
    again, parts = fit_and_carry(shop, step, {"train": shards}, "step")
    done = written(shop, parts["train"], "end")
    found = done.whole().frame.select(expected.columns)
    assert len(done.files) > 5
    for column in expected.columns:
        one, other = expected[column], found[column]
        if one.dtype == pl.Float64 and name in ("mean", "group_mean", "k_sigma"):  # sums are added in other pieces
            np.testing.assert_allclose(other.to_numpy(), one.to_numpy(), rtol=1e-12, atol=1e-12)
        else:
            assert one.equals(other, null_equal=True), column
    if hasattr(again, "learned"):
        assert again.learned["rows"] == fitted.learned["rows"]
