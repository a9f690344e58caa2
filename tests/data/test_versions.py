"""Two versions of data are told apart row by row, cell by cell, and by their distributions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError
from groundup.data.inspection.drift import drift, drifts, stability
from groundup.data.versions import compare, read_version


def people(**columns: Any) -> Dataset:
    frame = {"id": [f"p{i}" for i in range(40)], "age": list(range(40)), "town": ["A", "B"] * 20}
    return Dataset.of(pl.DataFrame({**frame, **columns}), origin="people")


def test_equal_data_do_not_differ() -> None:
    found = compare(people(), people())
    assert not found.differs
    assert found.drift == ()
    assert json.loads(json.dumps(found.to_dict()))["differs"] is False


def test_rows_and_cells_by_a_column_that_names_them() -> None:
    first = people()
    frame = first.frame.drop(ROW)
    frame = frame.filter(pl.col("id") != "p3").with_columns(
        age=pl.when(pl.col("id") == "p5").then(None).otherwise(pl.col("age")),
        town=pl.when(pl.col("id").is_in(["p5", "p6"])).then(pl.lit("C")).otherwise(pl.col("town")),
    )
    frame = pl.concat([frame, pl.DataFrame({"id": ["new"], "age": [7], "town": ["A"]})])
    found = compare(first, Dataset.of(frame))
    assert "id" in found.rows.matched_by
    assert (found.rows.added, found.rows.removed, found.rows.changed) == (1, 1, 2)
    assert found.rows.added_examples == ("new",)
    assert found.rows.removed_examples == ("p3",)
    assert {one.column: one.count for one in found.cells} == {"town": 2, "age": 1}
    assert found.cells[1].examples == (("p5", "5", "missing"),)
    assert next(one for one in found.drift if one.column == "town").new == ("C",)


def test_columns_and_types() -> None:
    first = people()
    second = first.with_frame(first.frame.drop("town").with_columns(new=pl.lit(1), age=pl.col("age").cast(pl.Float64)))
    found = compare(first, second)
    assert found.columns.added == ("new",)
    assert found.columns.removed == ("town",)
    assert found.columns.retyped == (("age", "Int64, number", "Float64, number"),)
    assert found.cells == ()
    assert found.differs


def test_rows_without_a_name_are_told_apart_by_where_they_stand() -> None:
    first = Dataset.of(pl.DataFrame({"a": [1.0, 2.0, 3.0, 3.0]}))
    second = Dataset.of(pl.DataFrame({"a": [1.0, 2.5, 3.0, 3.0]}))
    found = compare(first, second)
    assert "where they stand" in found.rows.matched_by
    assert found.rows.changed == 1
    assert found.cells[0].examples == (("row 1", "2", "2.5"),)


def test_otherwise_by_all_that_they_hold_copies_counted() -> None:
    first = Dataset.of(pl.DataFrame({"a": [1, 1, 2, 3], "b": [None, None, "x", "y"]}))
    second = Dataset.of(pl.DataFrame({"a": [3, 1, 2], "b": ["y", None, "z"]}))
    found = compare(first, second)
    assert (found.rows.removed, found.rows.added) == (2, 1)
    assert set(found.rows.removed_examples) == {"1, missing", "2, x"}


def test_cleaned_rows_keep_their_numbers() -> None:
    raw = Dataset.of(pl.DataFrame({"a": [1.0, None, 3.0, 3.0]}))
    cleaned = raw.with_frame(raw.frame.filter(pl.col(ROW) != 0).with_columns(pl.col("a").fill_null(9.0)))
    found = compare(raw, cleaned)
    assert "number" in found.rows.matched_by
    assert (found.rows.removed, found.rows.added, found.rows.changed) == (1, 0, 1)


def test_a_key_must_name_rows() -> None:
    with pytest.raises(DataError, match="does not name each row"):
        compare(people(), people(), ["town"])
    with pytest.raises(DataError, match=r"no column .twon.\. Did you mean .town."):
        compare(people(), people(), ["twon"])


def test_order_alone_is_told() -> None:
    first = people()
    found = compare(first, first.with_frame(first.frame[::-1]), ["id"])
    assert found.rows.moved
    assert found.differs
    assert (found.rows.added, found.rows.removed, found.rows.changed) == (0, 0, 0)


def test_a_folder_of_shards_is_a_version(tmp_path: Path) -> None:
    raw = people()
    for part, rows in (("train", raw.frame[:30]), ("test", raw.frame[30:])):
        (tmp_path / part).mkdir()
        rows[:10].write_parquet(tmp_path / part / "part-0.parquet")
        rows[10:].write_parquet(tmp_path / part / "part-1.parquet")
    read = read_version(tmp_path)
    assert len(read) == 40
    assert read.frame["split"].value_counts(sort=True).rows() == [("train", 30), ("test", 10)]
    found = compare(raw, read)
    assert found.columns.added == ("split",)
    assert (found.rows.added, found.rows.removed, found.rows.changed) == (0, 0, 0)
    (tmp_path / "train" / "part-0.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_version(tmp_path)


def test_distance_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=400), rng.normal(0.6, 1.3, size=300)
    found = drift(pl.Series("x", one), pl.Series("x", other))
    assert found.distance == pytest.approx(stats.ks_2samp(one, other).statistic, abs=1e-12)
    assert found.moved


def test_stability_by_hand() -> None:
    p, q = np.array([9.5, 1.5]) / 11, np.array([4.5, 6.5]) / 11
    assert stability(np.array([9, 1]), np.array([4, 6])) == pytest.approx(float(((q - p) * np.log(q / p)).sum()))
    assert stability(np.array([9, 1]), np.array([9, 1])) == 0


def test_the_same_population_hardly_moves() -> None:
    rng = np.random.default_rng(1)
    one = Dataset.of(pl.DataFrame({"x": rng.normal(size=3000), "c": rng.choice(["a", "b"], 3000)}))
    other = Dataset.of(pl.DataFrame({"x": rng.normal(size=3000), "c": rng.choice(["a", "b"], 3000)}))
    assert all(found.stability < 0.02 for found in drifts(one, other))


names = st.one_of(st.sampled_from(["*", "^.*$", "_", "split"]), st.text(max_size=5))
cells = st.one_of(st.none(), st.floats(), st.integers(-3, 3), st.text(max_size=3), st.booleans())
tables = st.dictionaries(
    names,
    st.lists(cells, min_size=4, max_size=4),
    max_size=4,
)


def made(columns: dict[str, list[Any]], rows: int) -> Dataset:
    frame = pl.DataFrame(
        {name: pl.Series(values[:rows], strict=False) for name, values in columns.items() if name != ROW}
    )
    return Dataset.of(frame if frame.width else pl.DataFrame({"x": list(range(rows))}))


@given(tables, tables, st.integers(0, 4), st.integers(0, 4))
def test_any_two_small_tables_can_be_compared(one: dict[str, Any], other: dict[str, Any], n: int, m: int) -> None:
    first, second = made(one, n), made(other, m)
    found = compare(first, second)
    json.dumps(found.to_dict())
    assert not compare(first, first).differs
    if found.columns.added == found.columns.removed == ():
        assert found.rows.added - found.rows.removed == len(second) - len(first)
