"""Rows without a label, and those of classes too rare to be learned, go with their reason; all others stay."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.dataset import ROW, Dataset, apply
from groundup.core.errors import DataError
from groundup.core.use import Use, make


def done(dataset: Dataset, use: Use) -> Dataset:
    return apply(make(use, "clean"), dataset, use.target)


def test_rows_without_a_value_go() -> None:
    data = Dataset.of(pl.DataFrame({"a": [1.0, None, float("nan"), 4.0], "b": ["x", "y", "z", None]}))
    after = done(data, Use("drop_without", columns=["a", "b"]))
    assert after.frame[ROW].to_list() == [0]
    assert after.history[-1].reasons() == {"no value in a": 2, "no value in b": 1}
    with pytest.raises(DataError, match="no column 'c'"):
        done(data, Use("drop_without", columns=["c"]))


def test_classes_on_fewer_rows_than_asked_go() -> None:
    data = Dataset.of(pl.DataFrame({"kind": ["a"] * 5 + ["b"] * 4 + [None]}))
    after = done(data, Use("drop_rare", column="kind"))
    assert after.frame["kind"].to_list() == ["a"] * 5 + [None]
    assert after.history[-1].removed[0][1] == "rare kind: 'b' on 4 rows"
    assert len(done(data, Use("drop_rare", column="kind", at_least=4))) == 10
    with pytest.raises(DataError, match="nothing would be left"):
        done(
            data.with_frame(data.frame.filter(pl.col("kind").is_not_null())),
            Use("drop_rare", column="kind", at_least=6),
        )


@given(st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "c"])), max_size=20), st.integers(1, 6))
def test_what_stays_is_what_a_count_says(values: list[Any], at_least: int) -> None:
    data = Dataset.of(pl.DataFrame({"kind": pl.Series(values, dtype=pl.String)}))
    expected = [v for v in values if v is None or values.count(v) >= at_least]
    if values and not expected:
        with pytest.raises(DataError):
            done(data, Use("drop_rare", column="kind", at_least=at_least))
        return
    assert done(data, Use("drop_rare", column="kind", at_least=at_least)).frame["kind"].to_list() == expected
