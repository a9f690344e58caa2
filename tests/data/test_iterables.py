"""Rows that Python makes, as a dataset: from a function, from frames and arrays."""

from __future__ import annotations

import collections
import dataclasses
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.use import Use, make
from groundup.data.sources.iterables import as_dataset, iterable


def numbered() -> Iterator[dict[str, Any]]:
    for i in range(10):
        yield {"i": i, "word": f"w{i % 2}"}


@dataclasses.dataclass
class Point:
    x: float
    y: float


Pair = collections.namedtuple("Pair", ["left", "right"])


@pytest.mark.parametrize(
    ("rows", "columns", "first"),
    [
        ([{"a": 1}, {"a": 2}], ["a"], (1,)),
        ([("some text", "yes"), ("more", "no")], ["text", "label"], ("some text", "yes")),
        ([({"a": 1.5}, 0), ({"a": 2.5}, 1)], ["a", "label"], (1.5, 0)),
        ([([1, 2], "x"), ([3, 4], "y")], ["column 1", "column 2", "label"], (1, 2, "x")),
        ([Point(1.0, 2.0)], ["x", "y"], (1.0, 2.0)),
        ([Pair("a", None), Pair("b", 2)], ["left", "right"], ("a", None)),
        (["one", "two"], ["text"], ("one",)),
        (range(3), ["value"], (0,)),
        ({"a": [1, 2], "b": np.array([0.5, 1.5])}, ["a", "b"], (1, 0.5)),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), ["column 1", "column 2"], (1.0, 2.0)),
        ((np.eye(2), np.array(["u", "v"])), ["column 1", "column 2", "label"], (1.0, 0.0, "u")),
        (pl.DataFrame({"a": ["x"]}), ["a"], ("x",)),
        (pl.LazyFrame({"a": ["x"]}), ["a"], ("x",)),
        (pa.table({"a": [1, 2]}), ["a"], (1,)),
        ([{"t": datetime.date(2024, 3, 1)}], ["t"], (datetime.datetime(2024, 3, 1),)),
    ],
)
def test_rows_of_python(rows: Any, columns: list[str], first: tuple[Any, ...]) -> None:
    dataset = Dataset.of_rows(rows)
    assert dataset.columns == columns
    assert dataset.frame.drop("_row").row(0) == first
    assert dataset.quarantine.accepted == len(dataset)


def test_images() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for rows in (pixels, [(pixels[0], "a"), (pixels[1], "b")]):
        dataset = Dataset.of_rows(rows)
        assert dataset.kinds["image"] == "image"
        assert np.array_equal(dataset.frame["image"].to_numpy(), pixels)


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is no dependency; it is in the benchmarks' environment")
    frame = pandas.DataFrame({"a": [1.5, None], "b": ["x", "y"]})
    assert Dataset.of_rows(frame).frame.drop("_row").rows() == [(1.5, "x"), (None, "y")]


def test_an_item_that_is_no_row_is_kept_aside_and_too_many_are_refused() -> None:
    rows: list[Any] = [{"a": i} for i in range(50)]
    dataset = Dataset.of_rows([*rows, object()])
    assert (len(dataset), dataset.quarantine.read) == (50, 51)
    assert dataset.quarantine.rejected[0].line == 51
    with pytest.raises(DataError, match="3 of 5 rows"):
        Dataset.of_rows([{"a": 1}, {"a": 2}, object(), {1: 2}, {"a": {"b": set()}}])
    for nothing in ([], iter(()), "text", 3, np.zeros((2, 2), dtype=object), {"a": [1], "b": [1, 2]}):
        with pytest.raises(DataError):
            Dataset.of_rows(nothing)


def test_a_function_is_a_source(tmp_path: Path) -> None:
    source = make(Use("iterable", of=f"{__name__}:numbered"), "source")
    dataset = source()
    assert len(dataset) == 10
    assert dataset.history[0].step == "numbered"
    assert [len(shard) for shard in source.shards(4)] == [4, 4, 2]
    named = make(Use(f"{__name__}:numbered"), "source", folder=tmp_path)
    assert as_dataset(named(), "numbered").frame.equals(dataset.frame)
    with pytest.raises(DataError, match="gave nothing back"):
        iterable(lambda: None)()
