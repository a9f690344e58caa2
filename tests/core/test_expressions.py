"""Steps as expressions: what they give together is what they give one by one, and only what they need is read."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.dataset import ROW, Dataset, apply
from groundup.core.errors import DataError
from groundup.core.expressions import Asked, Columns, Expressed, ask, booked, learned, need_carried, plan, together


@dataclasses.dataclass(frozen=True)
class Shift:
    """Adds a number to a column, and says how many of its values are there."""

    column: str
    by: float

    def expressed(self, columns: Columns) -> Expressed:
        values = columns.number(self.column, "Shift")

        def notes(counts: Mapping[str, int]) -> list[str]:
            return [f"{self.column}: {counts['there']} values moved"]

        return Expressed({self.column: values + self.by}, counts={"there": values.count()}, notes=notes)

    def __call__(self, dataset: Dataset) -> Dataset:
        return need_carried(self, dataset)


@dataclasses.dataclass(frozen=True)
class Above:
    """A flag beside a column: whether a value is above zero, false where it is missing."""

    column: str

    def expressed(self, columns: Columns) -> Expressed:
        flag = (columns.number(self.column, "Above") > 0).fill_null(False)
        return Expressed({f"{self.column}_above": flag}, {f"{self.column}_above": "boolean"})

    def __call__(self, dataset: Dataset) -> Dataset:
        return need_carried(self, dataset)


@dataclasses.dataclass(frozen=True)
class Mean:
    """Asks for the mean of a column."""

    column: str

    def asked(self, columns: Columns) -> Asked:
        values = columns.number(self.column, "Mean")
        return Asked({"mean": values.mean(), "known": values.count()}, lambda rows, found: {"rows": rows, **found})


def dataset(a: list[float | None], b: list[int | None]) -> Dataset:
    frame = pl.DataFrame({"a": pl.Series(a, dtype=pl.Float64), "b": pl.Series(b, dtype=pl.Int64)})
    return Dataset.of(frame, {"a": "number", "b": "number"})


CELL = st.one_of(st.none(), st.sampled_from([float("nan"), float("inf"), 0.0]), st.floats(-9, 9))
ROWS = st.lists(st.tuples(CELL, st.one_of(st.none(), st.integers(-3, 3))), max_size=9)
STEPS = st.lists(
    st.one_of(
        st.builds(Shift, st.sampled_from("ab"), st.sampled_from([0.0, 1.0, -2.5])),
        st.builds(Above, st.sampled_from("ab")),
    ),
    max_size=4,
)


@settings(deadline=None, max_examples=150)
@given(rows=ROWS, steps=STEPS)
def test_steps_together_are_booked_as_one_by_one(rows: list[Any], steps: list[Any]) -> None:
    given = dataset([a for a, _ in rows], [b for _, b in rows]).note("2 cells were odd")
    books = [(f"step {i}", {"train": i}) for i in range(len(steps))]
    found, num = together(given, steps, books)
    expected = alone = given
    for step, (name, seen) in zip(steps, books, strict=True):
        expected, alone = apply(step, expected, name, seen), booked(alone, [step], [(name, seen)])
    assert num == len(steps)
    assert found.frame.equals(expected.frame, null_equal=True)
    assert found.frame.schema == expected.frame.schema
    assert found.kinds == expected.kinds
    for one, other in zip(found.history, expected.history, strict=True):
        seen_cells = {name: count for name, count in other.cells_changed.items() if count}
        assert dataclasses.replace(one, cells_changed=dict(one.cells_changed)) == dataclasses.replace(
            other, cells_changed=seen_cells
        )
    assert alone.frame.equals(found.frame, null_equal=True)
    assert alone.history == found.history
    looked, _ = together(given, steps)
    assert looked.frame.equals(expected.frame, null_equal=True)
    assert looked.history == ()
    assert not steps or found.history[0].notes[0] == "2 cells were odd"


def test_nan_is_missing_though_no_step_asks_whether_there_is_any() -> None:
    given = dataset([1.0, float("nan"), 3.0, None], [1, 2, 3, None])
    assert ask(Mean("a"), given) == {"rows": 4, "mean": 2.0, "known": 2}
    after = apply(Shift("a", 1.0), given, "Shift")
    assert after.frame["a"].to_list() == [2.0, None, 4.0, None]
    assert after.history[0].cells_changed == {"a": 3}, "NaN became null"
    assert after.history[0].notes == ("a: 2 values moved",)


def test_only_what_is_asked_is_read_and_made() -> None:
    given = dataset([1.0, 2.0], [3, 4])
    read: list[list[str]] = []

    def rows(names: list[str]) -> pl.DataFrame:
        read.append(names)
        return given.frame.select(names)

    like = dataclasses.replace(given, frame=given.frame.clear())
    steps = [Shift("a", 1.0), Shift("b", 1.0), Above("a")]
    assert learned(Mean("b"), steps, like, rows) == (2, {"rows": 2, "mean": 4.5, "known": 2})
    assert read == [["b"]]


def test_a_step_that_cannot_be_expressed_ends_what_goes_together() -> None:
    given = dataset([1.0, 2.0], [3, 4])

    def plain(rows: Dataset) -> Dataset:
        return rows

    found, num = together(given, [Shift("a", 1.0), plain, Shift("a", 1.0)], [("", {})] * 3)
    assert num == 1
    assert found.frame["a"].to_list() == [2.0, 3.0]
    assert together(given, [plain])[1] == 0
    assert learned(Mean("a"), [plain], given, lambda _: given.frame)[1] is None


def test_columns_that_hold_no_numbers_are_named() -> None:
    given = Dataset.of(pl.DataFrame({"word": ["x"]}), {"word": "category"}, origin="words.csv")
    with pytest.raises(DataError, match=r"Shift: column 'word' of words\.csv holds String, not numbers"):
        plan([Shift("word", 1.0)], given)


THREADS = """
import numpy as np, polars as pl
from groundup.core.dataset import Dataset
from groundup.data.prepare import Fill, Outliers, Standardize
draw = np.random.default_rng(0)
given = Dataset.of(pl.DataFrame({name: draw.normal(1, 3, 300_000) for name in "abc"}))
for step in (Fill(method="mean"), Outliers(method="k_sigma"), Standardize()):
    told = step.partial(given)
    print([[value.hex() if isinstance(value, float) else value for value in column.get("told", column.get("whole"))]
           if isinstance(column, dict) else [float(value).hex() for value in column]
           for column in told["columns"].values()])
    given = step.finish(told)(given)
print(given.fingerprint())
"""


def test_what_is_learned_does_not_depend_on_the_number_of_threads() -> None:
    found = [
        subprocess.run(
            [sys.executable, "-c", THREADS],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "POLARS_MAX_THREADS": threads},
        ).stdout
        for threads in ("1", "4")
    ]
    assert found[0] == found[1]
    assert found[0].count("0x") >= 9


def test_row_numbers_are_read_where_nothing_else_is_asked() -> None:
    class Rows:
        def asked(self, columns: Columns) -> Asked:
            return Asked({}, lambda rows, found: rows)

    given = dataset([1.0, 2.0, 3.0], [1, 2, 3])
    read: list[list[str]] = []

    def rows(names: list[str]) -> pl.DataFrame:
        read.append(names)
        return given.frame.select(names)

    assert learned(Rows(), [Shift("a", 1.0)], given, rows) == (3, 3)
    assert read == [[ROW]]
