"""k-fold: every row held out once, by the same shares as scikit-learn's families."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import model_selection as reference

from groundup.core.dataset import ROW, Dataset, Splits
from groundup.core.errors import DataError
from groundup.core.use import Use, make
from groundup.data.splitting.folds import cut_folds, k_fold


def table(rows: int, **columns: Any) -> Dataset:
    return Dataset.of(pl.DataFrame({"value": np.arange(rows), **columns}), origin="memory")


WAYS: list[tuple[Any, str | None]] = [
    ("random", None),
    ("stratified", "label"),
    ("grouped", "group"),
    ("by_hash", "value"),
]


@pytest.mark.parametrize(("way", "column"), WAYS)
@given(rows=st.integers(30, 90), count=st.integers(2, 6), seed=st.integers(0, 5))
def test_each_row_is_held_out_once(way: Any, column: str | None, rows: int, count: int, seed: int) -> None:
    data = table(rows, label=[i % 3 for i in range(rows)], group=[i % 11 for i in range(rows)])
    folds = cut_folds(data, count, way, column, seed)
    assert [fold.number for fold in folds] == list(range(count))
    assert sorted(np.concatenate([fold.held_out for fold in folds]).tolist()) == list(range(rows))
    for fold, again in zip(folds, cut_folds(data, count, way, column, seed), strict=True):
        assert np.array_equal(np.sort(np.concatenate([fold.train, fold.held_out])), np.arange(rows))
        assert np.array_equal(fold.held_out, again.held_out)
        learned, held_out = fold.cut(data)
        assert (learned.split, held_out.split) == ("train", "test")


@given(st.lists(st.integers(0, 3), min_size=20, max_size=80), st.integers(2, 5), st.integers(0, 3))
def test_shares_are_those_of_scikit_learn(labels: list[int], count: int, seed: int) -> None:
    data = table(len(labels), label=labels)
    sizes = [len(held_out) for _, held_out in reference.KFold(count).split(labels)]
    assert [len(fold.held_out) for fold in cut_folds(data, count, seed=seed)] == sizes
    if len(set(labels)) >= count:
        groups = reference.GroupKFold(count).split(labels, groups=labels)
        found = cut_folds(data, count, "grouped", "label", seed)
        assert sorted(len(fold.held_out) for fold in found) == sorted(len(held_out) for _, held_out in groups)
        for fold in found:
            assert not set(np.array(labels)[fold.train]) & set(np.array(labels)[fold.held_out])
    if min(labels.count(label) for label in set(labels)) >= count:
        of_class = [
            np.bincount(np.array(labels)[held_out], minlength=4).tolist()
            for _, held_out in reference.StratifiedKFold(count).split(labels, labels)
        ]
        found = cut_folds(data, count, "stratified", "label", seed)
        assert [np.bincount(np.array(labels)[fold.held_out], minlength=4).tolist() for fold in found] == of_class


@given(st.integers(12, 60), st.integers(2, 6), st.randoms())
def test_rolling_origin_is_scikit_learns(rows: int, count: int, chance: Any) -> None:
    times = [datetime.datetime(2024, 1, 1) + datetime.timedelta(hours=i) for i in range(rows)]
    order = list(range(rows))
    chance.shuffle(order)
    data = table(rows, time=[times[i] for i in order])
    place = np.array(order)
    wanted = list(reference.TimeSeriesSplit(count).split(times))
    for fold, (train, held_out) in zip(cut_folds(data, count, "by_time", "time"), wanted, strict=True):
        assert place[fold.train].tolist() == train.tolist()
        assert place[fold.held_out].tolist() == held_out.tolist()


def test_rows_of_one_time_stay_together() -> None:
    data = table(40, day=np.repeat(np.arange(8), 5))
    for fold in cut_folds(data, 3, "by_time", "day"):
        days = data.frame["day"].to_numpy()
        assert days[fold.train].max() < days[fold.held_out].min()
    with pytest.raises(DataError, match="too few distinct times"):
        cut_folds(table(40, day=np.repeat([0, 1], 20)), 3, "by_time", "day")


def test_a_row_stays_in_its_fold_when_data_grow() -> None:
    small, large = table(200), table(500)
    before = {i: fold.number for fold in cut_folds(small, 5, "by_hash", "value") for i in fold.held_out.tolist()}
    after = {i: fold.number for fold in cut_folds(large, 5, "by_hash", "value") for i in fold.held_out.tolist()}
    assert all(after[row] == number for row, number in before.items())


def part_rows(splits: Splits) -> list[set[int]]:
    return [set(part.frame[ROW].to_list()) for part in splits.parts().values()]


@pytest.mark.parametrize(("way", "column"), [*WAYS, ("by_time", "value")])
def test_as_a_split_of_a_recipe(way: Any, column: str | None) -> None:
    data = table(120, label=[i % 3 for i in range(120)], group=[i % 20 for i in range(120)])
    options = {} if column is None else {"column": column}
    held_out: set[int] = set()
    for fold in range(4):
        split = make(Use("k_fold", folds=4, fold=fold, way=way, valid=0.2, **options), "split", seed=1)
        splits = split(data)
        train, valid, test = part_rows(splits)
        assert [part.split for part in splits.parts().values()] == ["train", "valid", "test"]
        assert not train & valid | train & test | valid & test
        if way != "by_time":
            assert len(train | valid | test) == 120
            assert 0.1 <= len(valid) / len(train | valid) <= 0.3
        assert not held_out & test
        held_out |= test
    assert len(held_out) == (120 if way != "by_time" else 96)
    first = make(Use("k_fold", folds=4, way=way, **options), "split", seed=1)(data)
    assert part_rows(first)[2] == part_rows(k_fold(data, 4, 0, way, column, seed=1))[2]


def test_what_is_refused() -> None:
    data = table(10, label=["a"] * 9 + ["b"])
    for options, words in (
        ({"count": 1}, "folds = 1"),
        ({"count": 11}, "10 rows, too few for 11 folds"),
        ({"way": "stratified"}, "needs a column"),
        ({"column": "label"}, "takes no column"),
        ({"way": "by_chance"}, "expected one of random, stratified"),
        ({"way": "stratified", "column": "label", "count": 2}, "class 'b' of 'label' has 1 rows"),
        ({"way": "grouped", "column": "label", "count": 3}, "2 distinct values, fewer than the 3 folds"),
        ({"way": "by_time", "column": "label", "count": 2}, "no order in time"),
        ({"way": "by_hash", "column": "label", "count": 5}, "came to fold"),
        ({"way": "grouped", "column": "labl"}, "no column 'labl'"),
    ):
        with pytest.raises(DataError, match=words):
            cut_folds(data, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="fold = 5, expected 0 to 4"):
        k_fold(data, fold=5)
