"""Scales: equal to scikit-learn's, undone by their inverse, and learned alike from one piece or many."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import preprocessing as reference

from groundup.core.contract import contract_of
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.preprocessing import Preprocessing, fit_step
from groundup.core.statistics import CAPACITY
from groundup.data.prepare import (
    HashEncode,
    LogScale,
    MinMax,
    OneHot,
    Ordinal,
    PowerScale,
    QuantileScale,
    RobustScale,
    Standardize,
    TargetEncode,
)
from groundup.data.samples import Rows, Windows
from groundup.data.shards.states import load_state, save_state


def table(split: str = "train", **columns: Sequence[Any]) -> Dataset:
    dataset = Dataset.of(pl.DataFrame(columns, strict=False), origin="memory")
    return dataclasses.replace(dataset, split=split)  # type: ignore[arg-type]


def column(dataset: Dataset, name: str = "x") -> np.ndarray[Any, Any]:
    return dataset.frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def as_matrix(values: Sequence[float | None]) -> np.ndarray[Any, Any]:
    return np.array([np.nan if value is None else value for value in values])[:, None]


numbers = st.lists(
    st.one_of(st.none(), st.floats(-1e6, 1e6, allow_subnormal=False), st.integers(-1000, 1000).map(float)),
    min_size=3,
    max_size=40,
).filter(lambda values: len({value for value in values if value is not None}) > 1)
positive = st.lists(st.floats(1e-3, 1e4), min_size=5, max_size=40, unique=True)

SCALES: list[Any] = [
    Standardize(),
    MinMax(low=-1, high=3),
    RobustScale(),
    RobustScale(low=0.1, high=0.8),
    LogScale(),
    PowerScale(),
    PowerScale(standardize=False),
    PowerScale(method="box_cox"),
    QuantileScale(),
    QuantileScale(quantiles=5, distribution="normal"),
]


@given(numbers, numbers, st.sampled_from([(0.25, 0.75), (0.1, 0.8)]))
@settings(max_examples=80)
def test_robust_equals_scikit_learn(train: list[float | None], later: list[float | None], ends: Any) -> None:
    step = RobustScale(low=ends[0], high=ends[1]).fit(table(x=train))
    assume(step.learned["columns"]["x"]["range"] > 1e-9)  # type: ignore[index]
    expected = reference.RobustScaler(quantile_range=(100 * ends[0], 100 * ends[1])).fit(as_matrix(train))
    for values in (train, later):
        wanted = expected.transform(as_matrix(values))[:, 0]
        np.testing.assert_allclose(column(step(table(x=values))), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=40, unique=True), numbers, st.integers(2, 60))
@example([1.0, 0.25, -5.960464477539063e-08], [None, 0.5, 1.0], 3)
@settings(max_examples=80)
def test_quantiles_equal_scikit_learn(
    distribution: Any, known: list[float], later: list[float | None], quantiles: int
) -> None:
    train = [*known, None]  # of equal values scikit-learn's rounding decides which share they get
    count = min(quantiles, len(known))
    step = QuantileScale(quantiles=quantiles, distribution=distribution).fit(table(x=train))
    expected = reference.QuantileTransformer(n_quantiles=count, output_distribution=distribution, subsample=None)
    expected.fit(as_matrix(known))
    gaps = np.diff(np.unique(step.learned["columns"]["x"]["quantiles"]))  # type: ignore[index]
    # Scikit-learn takes what lies within 1e-7 of an end for the end.
    assume(gaps.min() > 1e-3)
    assume(all(x is None or x == end or abs(x - end) > 1e-6 for x in later for end in (min(known), max(known))))
    for values in (known, later):
        wanted = expected.transform(as_matrix(values))[:, 0]
        np.testing.assert_allclose(column(step(table(x=values))), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["yeo_johnson", "box_cox"])
@pytest.mark.parametrize("seed", range(4))
def test_the_power_is_that_of_most_likelihood(method: Any, seed: int) -> None:
    draw = np.random.default_rng(seed)
    for values in (
        draw.lognormal(1, 0.8, 400),
        draw.gamma(2, 3, 300),
        draw.uniform(1, 9, 200),
        5 + draw.normal(size=99),
    ):
        values = np.abs(values)
        step = PowerScale(method=method).fit(table(x=values))
        expected = reference.PowerTransformer(method=method.replace("_", "-")).fit(values[:, None])
        power = step.learned["columns"]["x"]["power"]  # type: ignore[index]
        assert power == pytest.approx(expected.lambdas_[0], rel=1e-4, abs=1e-5)
        likelihood = stats.boxcox_llf if method == "box_cox" else stats.yeojohnson_llf
        assert likelihood(power, values) >= likelihood(expected.lambdas_[0], values) - 1e-9
        later = np.abs(values * 1.5 - 1)
        wanted = expected.transform(later[:, None])[:, 0]
        np.testing.assert_allclose(column(step(table(x=later))), wanted, rtol=1e-4, atol=1e-4)


def test_negative_values_by_yeo_johnson() -> None:
    draw = np.random.default_rng(0)
    for values in (draw.normal(size=300) ** 3, -draw.lognormal(size=200), draw.normal(-2, 3, size=200)):
        step = PowerScale().fit(table(x=values))
        expected = reference.PowerTransformer().fit(values[:, None])
        wanted = expected.transform(values[:, None])[:, 0]
        np.testing.assert_allclose(column(step(table(x=values))), wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(DataError, match=r"box_cox needs positive values, and column 'x' goes down to"):
        PowerScale(method="box_cox").fit(table(x=values))
    fitted = PowerScale(method="box_cox").fit(table(x=[1.0, 2.0, 4.0]))
    with pytest.raises(DataError, match=r"'x' is 0 at row 1 of test \(1 such rows\)"):
        fitted(table("test", x=[1.0, 0.0]))


@pytest.mark.parametrize("step", SCALES, ids=repr)
@given(data=st.data())
@settings(max_examples=60)
def test_the_inverse_undoes_the_step(step: Any, data: Any) -> None:
    box_cox = getattr(step, "method", "") == "box_cox"
    train = data.draw(positive if box_cox else numbers)
    dataset = table(x=train, y=np.arange(len(train)))
    fitted = dataclasses.replace(step, columns=["x"]).fit(dataset)
    there = fitted(dataset)
    back = fitted.inverse(there)
    known = as_matrix(train)[:, 0]
    assert back.frame["x"].null_count() == np.isnan(known).sum()
    size = np.nanmax(np.abs(known))
    # A power may press values together; half of their digits stay.
    tolerance = 1e-6 if isinstance(step, (PowerScale, QuantileScale)) else 1e-12
    np.testing.assert_allclose(column(back), known, rtol=tolerance, atol=tolerance * size)
    assert back.frame["y"].equals(dataset.frame["y"])
    only = there.with_frame(there.frame.drop("y"))
    assert fitted.inverse(only).frame["x"].equals(back.frame["x"]), "a forecast has one column alone"


@given(numbers, st.lists(st.integers(1, 40), max_size=4))
@settings(max_examples=60)
@pytest.mark.parametrize("step", SCALES, ids=repr)
def test_pieces_tell_what_all_rows_tell(step: Any, train: list[float | None], cuts: list[int]) -> None:
    if getattr(step, "method", "") == "box_cox":
        train = [None if value is None else abs(value) + 1 for value in train]
        assume(len(set(train) - {None}) > 1)
    dataset = table(x=train)
    assert contract_of(step) == "fitted"
    borders = sorted({0, len(train), *(cut for cut in cuts if cut < len(train))})
    shards = [dataset.take(np.arange(a, b)) for a, b in itertools.pairwise(borders)]
    whole = step.fit(dataset).learned
    merged = step.finish(functools.reduce(step.merge, [step.partial(shard) for shard in shards])).learned
    assert merged["rows"] == whole["rows"] == len(train)
    for name, value in whole["columns"]["x"].items():
        np.testing.assert_allclose(
            merged["columns"]["x"][name], value, rtol=1e-9, atol=1e-9 * max(1, np.max(np.abs(value)))
        )


def test_what_pieces_tell_can_be_written_down(tmp_path: Path) -> None:
    train = table(x=[1.0, 2.0, None, 9.0, 4.0], y=[5.0, 1.0, 2.0, 2.0, 7.0], c=["a", "b", None, "a", "a"])
    steps = [*SCALES, OneHot(["c"]), Ordinal(["c"]), HashEncode(["c"]), TargetEncode(["c"], "y"), Rows("c", ["y"])]
    for number, step in enumerate([*steps, TargetEncode(["c"], "c2"), Windows("y", 2, 1), Rows("y", ["x"])]):
        data = train.with_frame(train.frame.with_columns(c2=pl.col("c").fill_null("z")))
        data = data.with_frame(data.frame.with_columns(pl.col("c").fill_null("a"))) if isinstance(step, Rows) else data
        save_state(tmp_path / f"{number}", step.partial(data))
        assert step.finish(load_state(tmp_path / f"{number}")).learned == step.fit(data).learned


def test_large_columns_are_learned_from_a_sketch() -> None:
    draw = np.random.default_rng(0)
    values = draw.lognormal(0, 1, 6 * CAPACITY)
    dataset = table(x=values)
    shards = [dataset.take(part) for part in np.array_split(np.arange(len(values)), 5)]
    for step, expected in (
        (PowerScale(), reference.PowerTransformer()),
        (PowerScale(method="box_cox"), reference.PowerTransformer(method="box-cox")),
        (RobustScale(), reference.RobustScaler()),
        (QuantileScale(), reference.QuantileTransformer(subsample=None)),
    ):
        fitted: Any = step.finish(functools.reduce(step.merge, [step.partial(shard) for shard in shards]))  # type: ignore[attr-defined]
        wanted = expected.fit(values[:, None]).transform(values[:, None])[:, 0]
        inner = np.abs(stats.zscore(np.log(values))) < 3
        np.testing.assert_allclose(column(fitted(dataset))[inner], wanted[inner], rtol=2e-3, atol=2e-3)


def test_ends_ties_and_constants() -> None:
    step = QuantileScale().fit(table(x=[1.0, 2.0, 2.0, 2.0, 5.0]))
    after = step(table("test", x=[0.0, 1.0, 2.0, 5.0, 9.0, None]))
    assert after.frame["x"].to_list() == [0.0, 0.0, 0.5, 1.0, 1.0, None]
    assert after.notes == ("x: 2 values outside train's 1 to 5",)
    for constant in (RobustScale(), PowerScale(), QuantileScale(), PowerScale(method="box_cox")):
        train = table(x=[3.0, 3.0, None, 3.0])
        fitted = constant.fit(train)
        there = fitted(train)
        assert np.isfinite(there.frame["x"].drop_nulls().to_numpy()).all()
        assert there.notes, "a person is told"
        assert there.notes[0].startswith("x: ")
        np.testing.assert_allclose(column(fitted.inverse(there)), [3, 3, np.nan, 3], rtol=1e-12)
    for wrong in ({"low": 0.8, "high": 0.2}, {"high": 1.5}):
        with pytest.raises(ValueError, match="0 <= low < high <= 1"):
            RobustScale(**wrong)
    with pytest.raises(ValueError, match="quantiles: read 1"):
        QuantileScale(quantiles=1)


@pytest.mark.parametrize("step", SCALES, ids=repr)
def test_fitted_on_train_alone_and_carried_as_json(step: Any) -> None:
    train = table(x=[1.0, 2.0, None, 9.0, 4.0])
    with pytest.raises(DataError, match="would leak"):
        fit_step(step, dataclasses.replace(train, split="valid"))
    with pytest.raises(DataError, match="has learned nothing yet"):
        step(train)
    with pytest.raises(DataError, match="has learned nothing yet"):
        step.inverse(train)
    fitted = fit_step(step, train)
    json.dumps(fitted.learned, allow_nan=False)
    recalled = Preprocessing.from_json(Preprocessing((fitted,), Standardize(learned=fitted.learned)).to_json())
    later = table("test", x=[None, 5.0, 1.5])
    assert recalled.prepare[0](later).frame.equals(fitted(later).frame)
    with pytest.raises(DataError, match="has no column 'x'"):
        fitted(table("serve", z=[1.0]))
    with pytest.raises(DataError, match="has no column 'x'"):
        fitted.inverse(table("serve", z=[1.0]))
    if not isinstance(step, LogScale):
        empty = Dataset.of(pl.DataFrame({"x": [None, None]}, schema={"x": pl.Float64}), {"x": "number"})
        with pytest.raises(DataError, match="all 2 values of column 'x' are missing"):
            step.fit(empty)


def test_categories_come_back() -> None:
    train = table(c=["b", "a", None, "c", "b"], n=[3, 1, 3, 2, 1])
    for step in (OneHot(columns=["c", "n"]), Ordinal(columns=["c", "n"])):
        fitted: Any = step.fit(train)
        back = fitted.inverse(fitted(train))
        assert back.frame["c"].to_list() == ["b", "a", None, "c", "b"]
        assert back.frame["n"].to_list() == ["3", "1", "3", "2", "1"]
        assert back.kinds["c"] == "category"
        shards = [train.take(np.arange(2)), train.take(np.arange(2, 5))]
        merged = step.finish(functools.reduce(step.merge, [step.partial(shard) for shard in shards]))  # type: ignore[attr-defined]
        assert merged.learned == fitted.learned
