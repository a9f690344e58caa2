"""Whatever a step does, undoing it gives back the very same data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.changes import Change, read_changes, record, undo, write_changes
from groundup.core.dataset import ROW, Dataset, apply
from groundup.core.errors import DataError

Step = Callable[[Dataset], Dataset]


def apply_recorded(step: Step, dataset: Dataset, name: str) -> tuple[Dataset, Change]:
    after = apply(step, dataset, name)
    return after, record(dataset, after, name)


def table() -> Dataset:
    frame = pl.DataFrame(
        {
            "a": [1.0, -0.0, float("nan"), None, 5.0],
            "b": ["x", "y", None, "z\n", ""],
            "flag": [True, None, False, True, True],
            "picture": pl.Series([[[1, 2], [3, 4]]] * 5, dtype=pl.Array(pl.UInt8, (2, 2))),
            "raw": [b"1", b"", None, b"\0", b"5"],
        }
    )
    return Dataset.of(frame, {"a": "number", "b": "category"})


def changed(**columns: Any) -> Step:
    return lambda data: data.with_frame(data.frame.with_columns(**columns))


def everything(data: Dataset) -> Dataset:
    kept = data.keep(np.array([True, True, False, True, True]), "gone")
    frame = kept.frame[[3, 2, 1, 0]].drop("flag").with_columns(a=pl.lit(0.0), n=pl.lit("new"))
    return kept.with_frame(frame)


STEPS: dict[str, Step] = {
    "cells": changed(a=pl.col("a").fill_null(7.0)),
    "a sign of zero": changed(a=pl.col("a").abs()),
    "text": changed(b=pl.col("b").str.strip_chars()),
    "another type": changed(a=pl.col("a").cast(pl.String)),
    "a new column": changed(c=pl.lit(1)),
    "a column less": lambda data: data.with_frame(data.frame.drop("b"), {}),
    "other kinds": lambda data: data.with_frame(data.frame, {"a": "category"}),
    "rows less": lambda data: data.keep(np.array([True, False, True, False, True]), "not wanted"),
    "no rows": lambda data: data.keep(np.zeros(5, dtype=bool), "not wanted"),
    "another order": lambda data: data.with_frame(data.frame[[4, 3, 2, 1, 0]]),
    "columns in another order": lambda data: data.with_frame(data.frame.select(reversed(data.frame.columns))),
    "images": changed(picture=pl.Series([[[9, 9], [9, 9]]] * 5, dtype=pl.Array(pl.UInt8, (2, 2)))),
    "bytes": changed(raw=pl.lit(b"2")),
    "rows doubled": lambda data: data.with_frame(pl.concat([data.frame, data.frame.head(2)])),
    "new rows": lambda data: data.with_frame(
        pl.concat([data.frame, data.frame.head(1).with_columns((pl.col(ROW) + 100).cast(pl.get_index_type()))])
    ),
    "nothing": lambda data: data,
    "all at once": lambda data: everything(data),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_undo_gives_back_what_a_step_was_given(step: Step, tmp_path: Path) -> None:
    before = table()
    after, change = apply_recorded(step, before, "step one/two")
    assert undo(after, change).fingerprint() == before.fingerprint()
    assert undo(after, change).history == before.history
    write_changes(tmp_path, [change])
    (again,) = read_changes(tmp_path)
    back = undo(after, again)
    assert back.fingerprint() == before.fingerprint()
    assert back.frame.equals(before.frame, null_equal=True)
    assert back.kinds == before.kinds


def test_steps_are_undone_one_by_one_from_the_last(tmp_path: Path) -> None:
    versions, changes = [table()], []
    for name in ("cells", "rows less", "another type", "a new column"):
        after, change = apply_recorded(STEPS[name], versions[-1], name)
        versions.append(after)
        changes.append(change)
    write_changes(tmp_path, changes[:2])
    write_changes(tmp_path, changes[2:])
    dataset = versions[-1]
    for change, version in zip(reversed(read_changes(tmp_path)), reversed(versions[:-1]), strict=True):
        dataset = undo(dataset, change)
        assert dataset.fingerprint() == version.fingerprint()
    with pytest.raises(DataError, match="is not what this step made"):
        undo(versions[-1], changes[0])


def test_a_record_holds_what_changed_and_no_more() -> None:
    before = table()
    _, change = apply_recorded(STEPS["cells"], before, "fill")
    assert {name: frame.rows() for name, frame in change.cells.items()} == {"a": [(3, None, 7.0)]}
    assert change.num_cells == 1
    assert change.removed is None
    assert change.whole is None
    _, change = apply_recorded(STEPS["rows less"], before, "drop")
    assert change.removed is not None
    assert change.removed[ROW].to_list() == [1, 3]
    assert change.num_cells == 0


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    after, change = apply_recorded(STEPS["cells"], table(), "fill")
    cells = {"a": change.cells["a"].with_columns(before=pl.lit(3.0))}
    with pytest.raises(DataError, match="damaged"):
        undo(after, dataclasses.replace(change, cells=cells))
    with pytest.raises(DataError, match="no record"):
        read_changes(tmp_path)
    write_changes(tmp_path, [change])
    next(tmp_path.glob("*/cells-0.parquet")).unlink()
    with pytest.raises(DataError, match="damaged"):
        read_changes(tmp_path)


values = st.one_of(st.none(), st.floats(), st.just(-0.0))


@given(st.lists(st.tuples(values, values, st.booleans()), max_size=12), st.randoms())
def test_any_change_of_any_small_table_is_undone(rows: list[Any], random: Any) -> None:
    frame = pl.DataFrame({"a": [row[0] for row in rows]}, schema={"a": pl.Float64})
    before = Dataset.of(frame)
    new = before.frame.with_columns(a=pl.Series([row[1] for row in rows], dtype=pl.Float64))
    order = list(range(len(rows)))
    random.shuffle(order)
    after = before.with_frame(new[order].filter(pl.Series([rows[i][2] for i in order], dtype=pl.Boolean)))
    assert undo(after, record(before, after, "any")).fingerprint() == before.fingerprint()
