"""What train's columns are, learned whole or in pieces, and what is done with data that is otherwise."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.dataset import Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.novelty import OnNew
from groundup.core.schema import Schema


def dataset(split: Any = "train", **columns: Any) -> Dataset:
    kinds: dict[str, Kind] = {"age": "number", "port": "category", "alive": "boolean", "when": "time"}
    frame = pl.DataFrame(columns)
    found = Dataset.of(frame, {name: kind for name, kind in kinds.items() if name in columns}, origin="people.csv")
    return dataclasses.replace(found, split=split)


def train() -> Dataset:
    moments = [datetime.datetime(2024, 1, day) for day in range(1, 6)]
    return dataset(
        age=[20.0, 30.0, 40.0, 50.0, None],
        port=["S", "S", "C", "Q", "S"],
        alive=[True, False, True, True, False],
        when=moments,
    )


def test_what_is_learned() -> None:
    schema = Schema.of(train())
    assert dict(schema) == {"age": "number", "port": "category", "alive": "boolean", "when": "time"}
    age, port, alive, when = schema.columns.values()
    assert (age.low, age.high, age.typical, age.missing) == (20.0, 50.0, 35.0, 0.2)
    assert (port.categories, port.typical, port.missing) == (("S", "C", "Q"), "S", 0.0)
    assert alive.typical is True
    assert when.said() == "2024-01-01 00:00 to 2024-01-05 00:00"
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))).columns == schema.columns
    for split in ("valid", "test", "serve", None):
        with pytest.raises(DataError, match="would leak"):
            Schema.of(dataset(split, age=[1.0]))


@given(
    st.lists(
        st.tuples(st.none() | st.floats(-1e6, 1e6), st.none() | st.sampled_from("abcdé")), min_size=1, max_size=40
    ),
    st.lists(st.integers(0, 40), max_size=3),
)
def test_pieces_tell_what_the_whole_tells(rows: list[tuple[Any, Any]], cuts: list[int]) -> None:
    frame = pl.DataFrame(rows, schema={"age": pl.Float64, "port": pl.String}, orient="row")
    whole = dataclasses.replace(Dataset.of(frame, {"age": "number", "port": "category"}), split="train")
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    pieces = [whole.take(np.arange(a, b)) for a, b in itertools.pairwise(bounds)]
    state = Schema.partial(pieces[0])
    for piece in pieces[1:]:
        state = Schema.merge(state, Schema.partial(piece))
    merged, direct = Schema.finish(state), Schema.of(whole)
    assert merged.rows == direct.rows
    for name in direct:
        assert dataclasses.replace(merged.columns[name], typical=None) == dataclasses.replace(
            direct.columns[name], typical=None
        )
    assert merged.columns["age"].typical == pytest.approx(direct.columns["age"].typical)


def test_what_is_new_is_counted_and_handed_on() -> None:
    later = dataset(
        "serve", age=[25.0, 99.0], port=["S", "X"], alive=[None, True], when=[datetime.datetime(2030, 1, 1)] * 2
    )
    checked = Schema.of(train()).enforce(later)
    assert [(one.case, one.column, one.rows, one.done) for one in checked.new] == [
        ("out of range", "age", (1,), "pass"),
        ("new category", "port", (1,), "pass"),
        ("missing value", "alive", (0,), "pass"),
    ]
    assert checked.frame.equals(later.frame)
    assert checked.notes[0] == "age: 1 outside train's range (99.0 at row 1); passed on"


@pytest.mark.parametrize(
    ("on_new", "expected"),
    [
        ({"out_of_range": "clip"}, {"age": [25.0, 50.0]}),
        ({"out_of_range": "missing"}, {"age": [25.0, None]}),
        ({"new_category": "missing"}, {"port": ["S", None]}),
        ({"new_category": "fill"}, {"port": ["S", "S"]}),
        ({"missing_value": "fill"}, {"alive": [True, True]}),
    ],
)
def test_what_is_declared_is_done(on_new: dict[str, Any], expected: dict[str, Any]) -> None:
    later = dataset("serve", age=[25.0, 99.0], port=["S", "X"], alive=[None, True])
    checked = Schema.of(train(), OnNew(**on_new)).enforce(later)
    for name, values in expected.items():
        assert checked.frame[name].to_list() == values
    assert len(checked.new) == 3


@pytest.mark.parametrize(
    ("on_new", "words"),
    [
        ({"out_of_range": "refuse"}, ["row 1", "'age'", "99.0", "20 to 50", "out_of_range"]),
        ({"new_category": "refuse"}, ["row 1", "'port'", "'X'", "S, C, Q", "new_category"]),
        ({"missing_value": "refuse"}, ["row 0", "'alive'", "missing value", "missing_value"]),
    ],
)
def test_what_is_refused_is_named(on_new: dict[str, Any], words: list[str]) -> None:
    later = dataset("serve", age=[25.0, 99.0], port=["S", "X"], alive=[None, True])
    with pytest.raises(DataError) as caught:
        Schema.of(train(), OnNew(**on_new)).enforce(later)
    for word in ["people.csv", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("age", ["25", "young"], ["row 1", "'age'", "'young'", "a number"]),
        ("alive", ["yes", "no"], ["row 0", "'alive'", "'yes'", "true or false"]),
        ("when", ["noon", "later"], ["row 0", "'when'", "'noon'", "a time"]),
        ("port", [[1], [2]], ["row 0", "'port'", "a category"]),
    ],
)
def test_another_type_is_named_by_column_row_and_value(column: str, values: list[Any], words: list[str]) -> None:
    frame = pl.DataFrame({column: values})
    later = dataclasses.replace(Dataset.of(frame, origin="people.csv"), split="test")
    with pytest.raises(DataError) as caught:
        Schema.of(train()).check_types(later)
    for word in ["people.csv", *words]:
        assert word in str(caught.value)


def test_numbers_may_be_whole_in_one_file_and_not_in_another() -> None:
    Schema.of(train()).check_types(dataset("test", age=[1, 2], port=[1, 2]))


def test_too_many_categories_are_not_held_against_anything() -> None:
    many = dataset(port=[f"c{i}" for i in range(1001)])
    schema = Schema.of(many)
    assert schema.columns["port"].categories is None
    assert schema.find_new(dataset("test", port=["new"])) == ()
