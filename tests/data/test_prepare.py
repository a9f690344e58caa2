"""Preparation: what is learned equals scikit-learn's, is learned on train alone, and is kept at prediction."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import preprocessing as reference
from sklearn.impute import SimpleImputer

from groundup.core.dataset import Dataset, Kind, Splits, apply
from groundup.core.errors import DataError, RecipeError
from groundup.core.preprocessing import Preprocessing, fit_step
from groundup.core.use import Use, make
from groundup.data.prepare import (
    ClipOutliers,
    DropMissing,
    Fill,
    LogScale,
    MinMax,
    OneHot,
    Ordinal,
    Standardize,
)
from groundup.data.sources import csv


def table(split: str = "train", kinds: dict[str, Kind] | None = None, **columns: Sequence[Any]) -> Dataset:
    dataset = Dataset.of(pl.DataFrame(columns, strict=False), kinds, origin="memory")
    return dataclasses.replace(dataset, split=split)  # type: ignore[arg-type]


numbers = st.lists(
    st.one_of(st.none(), st.floats(-1e6, 1e6, allow_subnormal=False), st.integers(-1000, 1000).map(float)),
    min_size=2,
    max_size=40,
).filter(lambda values: any(value is not None for value in values))


def as_matrix(values: Sequence[float | None]) -> np.ndarray[Any, Any]:
    return np.array([np.nan if value is None else value for value in values])[:, None]


@given(numbers, numbers)
@settings(max_examples=80, deadline=None)
def test_standardize_equals_scikit_learn(train: list[float | None], later: list[float | None]) -> None:
    step = Standardize().fit(table(x=train))
    expected = reference.StandardScaler().fit(as_matrix(train))
    for values in (train, later):
        found = step(table(x=values)).frame["x"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        np.testing.assert_allclose(found, expected.transform(as_matrix(values))[:, 0], rtol=1e-6, atol=1e-6)


@given(numbers, numbers)
@settings(max_examples=80, deadline=None)
def test_min_max_equals_scikit_learn(train: list[float | None], later: list[float | None]) -> None:
    step = MinMax(low=-1, high=3).fit(table(x=train))
    expected = reference.MinMaxScaler((-1, 3)).fit(as_matrix(train))
    if np.nanmax(as_matrix(train)) - np.nanmin(as_matrix(train)) < 1e-9:
        return  # scikit-learn takes nearly constant columns for constant
    for values in (train, later):
        found = step(table(x=values)).frame["x"].fill_null(np.nan).to_numpy()
        np.testing.assert_allclose(found, expected.transform(as_matrix(values))[:, 0], rtol=1e-6, atol=1e-6)


@given(numbers, numbers, st.sampled_from(["mean", "median", "mode"]))
@settings(max_examples=80, deadline=None)
def test_fill_equals_scikit_learn(train: list[float | None], later: list[float | None], method: Any) -> None:
    step = Fill(method=method).fit(table(x=train))
    strategy = {"mode": "most_frequent"}.get(method, method)
    expected = SimpleImputer(strategy=strategy).fit(as_matrix(train)).transform(as_matrix(later))[:, 0]
    found = step(table(x=later)).frame["x"]
    assert found.null_count() == 0
    np.testing.assert_allclose(found.to_numpy(), expected, rtol=1e-12)


@given(numbers)
@settings(max_examples=60, deadline=None)
def test_bounds_follow_their_formulas(train: list[float | None]) -> None:
    x = as_matrix(train)[:, 0]
    known = x[~np.isnan(x)]
    quartiles = reference.RobustScaler(quantile_range=(25, 75)).fit(known[:, None])
    q25, q75 = np.quantile(known, [0.25, 0.75])
    if q75 - q25 > 1e-9:  # scikit-learn takes less for no spread
        assert quartiles.scale_[0] == pytest.approx(q75 - q25)
    centre, mad = np.median(known), np.median(np.abs(known - np.median(known)))
    expected = {
        ("iqr", 2.0): (q25 - 2 * (q75 - q25), q75 + 2 * (q75 - q25)),
        ("k_sigma", 1.5): (known.mean() - 1.5 * known.std(), known.mean() + 1.5 * known.std()),
        ("mad", 2.0): (centre - 2 * 1.4826 * mad, centre + 2 * 1.4826 * mad),
        ("quantile", 0.1): tuple(np.quantile(known, [0.1, 0.9])),
    }
    for (method, k), (low, high) in expected.items():
        dataset = table(x=train)
        after = ClipOutliers(method=method, k=k).fit(dataset)(dataset)  # type: ignore[arg-type]
        found = after.frame["x"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        clipped = np.clip(x, low, high) if high > low else x
        np.testing.assert_allclose(found, clipped, rtol=1e-9, atol=1e-9)


@given(numbers)
@settings(max_examples=40, deadline=None)
def test_log_scale_keeps_sign_and_order(values: list[float | None]) -> None:
    dataset = table(x=values)
    found = LogScale().fit(dataset)(dataset).frame["x"].fill_null(np.nan).to_numpy()
    x = as_matrix(values)[:, 0]
    np.testing.assert_allclose(found, np.sign(x) * np.log1p(np.abs(x)), rtol=1e-12)


categories = st.lists(st.one_of(st.none(), st.sampled_from("abcde")), min_size=1, max_size=30).filter(any)


@given(categories, categories)
@settings(max_examples=80, deadline=None)
def test_one_hot_equals_scikit_learn(train: list[str | None], later: list[str | None]) -> None:
    step = OneHot().fit(table(kinds={"c": "category"}, c=train))
    after = step(table("serve", kinds={"c": "category"}, c=later))
    known = sorted({value for value in train if value})
    expected = reference.OneHotEncoder(categories=[known], handle_unknown="ignore", sparse_output=False)
    expected.fit(np.array([[k] for k in known], dtype=object))
    wanted = expected.transform(np.array([[value or "missing"] for value in later], dtype=object))
    assert after.columns == [f"c={value}" for value in known]
    assert np.array_equal(after.frame.select(after.columns).to_numpy(), wanted.astype(bool))
    assert set(after.kinds.values()) == {"boolean"}
    strange = sum(value is not None and value not in known for value in later)
    counted = sum(int(note.split()[1]) for note in after.notes if "did not have" in note)
    assert counted == strange


def test_equal_values_are_one_category_whatever_holds_them() -> None:
    step = OneHot(columns=["c"]).fit(table(c=[1, 2, 3]))
    for later in ([3, 1], [3.0, 1.0], ["3", "1"], [3.0, 1.5]):
        after = step(table("serve", kinds={"c": "category"}, c=later))
        assert after.frame["c=3"].to_list() == [True, False], later
    truth = OneHot(columns=["b"]).fit(table(b=[True, False, None]))
    assert truth(table("serve", b=[True])).columns == ["b=false", "b=true"]


def test_one_hot_refuses_names_of_rows_and_clashes() -> None:
    with pytest.raises(DataError, match=r"'c' has 101 categories .* more than limit = 100"):
        OneHot().fit(table(kinds={"c": "category"}, c=[str(i) for i in range(101)]))
    with pytest.raises(DataError, match="'c=a' already"):
        OneHot().fit(table(kinds={"c": "category"}, **{"c": ["a"], "c=a": [1]}))
    with pytest.raises(DataError, match="all 2 values of column 'c' are missing"):
        OneHot().fit(table(kinds={"c": "category"}, c=[None, None]))


def test_ordinal() -> None:
    train = table(kinds={"size": "category"}, size=["M", "S", None, "L"], n=[10, 9, 100, 9])
    step = Ordinal(columns=["size", "n"], order={"size": ["S", "M", "L", "XL"]}).fit(train)
    after = step(table("test", kinds={"size": "category"}, size=["XL", "S", "XXL", None], n=[9, 10, 100, 7]))
    assert after.frame["size"].to_list() == [3, 0, None, None]
    assert after.frame["n"].to_list() == [0, 1, 2, None], "numbers are ordered by value, not by spelling"
    assert after.kinds["size"] == "number"
    assert any("'XXL'" in note for note in after.notes)
    with pytest.raises(DataError, match="leaves out 'L'"):
        Ordinal(columns=["size"], order={"size": ["S", "M"]}).fit(train)
    with pytest.raises(RecipeError, match="names 'weight'"):
        Ordinal(order={"weight": ["S"]}).fit(train)


def test_fill_in_order_of_time() -> None:
    times = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 5), "1d", eager=True).to_list()
    shuffled = [3, 0, 4, 1, 2]
    values = [None, 1.0, None, None, 4.0]
    dataset = table(x=[values[i] for i in shuffled], time=[times[i] for i in shuffled])
    back = np.argsort(shuffled)

    def filled(method: Any) -> list[float]:
        return Fill(method=method).fit(dataset)(dataset).frame["x"][back].to_list()

    median = 2.5
    assert filled("forward") == [median, 1, 1, 1, 4]
    assert filled("backward") == [1, 1, 4, 4, 4]
    assert filled("linear") == [median, 1, 2, 3, 4]
    assert Fill(method="linear").looks_ahead
    assert not Fill(method="forward").looks_ahead


def test_fill_constants_categories_and_indicators() -> None:
    train = table(
        kinds={"c": "category"}, c=["b", "a", "a", "b", None], x=[1, None, 3, 4, 5], b=[True, None, True, False, None]
    )
    step = Fill(method="mode", indicator=True).fit(train)
    after = step(table("serve", kinds={"c": "category"}, c=[None], x=[None], b=[None]))
    assert after.frame["c"].to_list() == ["a"], "of several most frequent the smallest"
    assert after.frame["b"].to_list() == [True]
    assert after.frame["c_missing"].to_list() == [True]
    assert after.kinds["x_missing"] == "boolean"
    constant = Fill(columns=["c"], method="constant", value="none").fit(train)
    assert constant(train).frame["c"].to_list()[-1] == "none"
    with pytest.raises(ValueError, match="value belongs to method 'constant'"):
        Fill(method="constant")
    with pytest.raises(ValueError, match="value belongs to method 'constant'"):
        Fill(value=3)
    with pytest.raises(DataError, match="'x_missing' would replace"):
        Fill(indicator=True).fit(table(x=[1, None], x_missing=[1, 2]))


def test_a_gap_where_train_had_none_is_filled_and_said() -> None:
    step = Fill().fit(table(x=[1.0, 3.0], y=[1.0, None]))
    after = step(table("serve", x=[None], y=[float("nan")]))
    assert after.frame["x"].to_list() == [2.0]
    assert after.frame["y"].to_list() == [1.0]
    assert "x: 1 missing, filled by median (2); train had none" in after.notes
    assert not any(note.startswith("y") and "train had none" in note for note in after.notes)


@pytest.mark.parametrize("step", [Fill(), Standardize(), MinMax(), ClipOutliers()])
def test_nothing_to_learn_is_an_error(step: Any) -> None:
    with pytest.raises(DataError, match="all 2 values of column 'x' are missing"):
        step.fit(table(kinds={"x": "number"}, x=[None, None]))
    with pytest.raises(DataError, match=r"'x' is infinite at row 1"):
        step.fit(table(x=[1.0, float("inf")]))
    with pytest.raises(DataError, match="no column of kind"):
        step.fit(table(kinds={"c": "category"}, c=["a", "b"]))


@pytest.mark.parametrize("step", [Standardize(), MinMax(), ClipOutliers()])
def test_a_constant_column_is_left_finite_and_said(step: Any) -> None:
    train = table(x=[7.1, 7.1, 7.1, None])
    after = step.fit(train)(train)
    assert np.isfinite(after.frame["x"].drop_nulls().to_numpy()).all()
    assert len(after.notes) == 1
    assert after.notes[0].startswith("x: ")


STEPS = [Fill(), Standardize(), MinMax(), ClipOutliers(), LogScale(), OneHot(), Ordinal(), DropMissing()]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_fitted_on_train_alone_and_travels_as_json(step: Any) -> None:
    train = table(kinds={"c": "category"}, x=[1.0, 2.0, None, 9.0], c=["a", "b", "a", None])
    with pytest.raises(DataError, match="would leak"):
        fit_step(step, dataclasses.replace(train, split="test"))
    if not isinstance(step, DropMissing):
        with pytest.raises(DataError, match="has learned nothing yet"):
            step(train)
    fitted = fit_step(step, train)
    assert fitted.learned["rows"] == 4
    json.dumps(fitted.learned, allow_nan=False)
    recalled = Preprocessing.from_json(Preprocessing((fitted,), Standardize(learned=fitted.learned)).to_json())
    later = table("test", kinds={"c": "category"}, x=[None, 5.0], c=["z", "a"])
    assert recalled.prepare[0](later).frame.equals(fitted(later).frame)
    assert len(fitted(later)) == 2, "outside train no row may vanish"
    if not isinstance(step, DropMissing):
        with pytest.raises(DataError, match="has no column"):
            fitted(table("serve", z=[1.0]))


@pytest.mark.parametrize("step", STEPS)
def test_what_train_taught_does_not_depend_on_other_splits(step: Any) -> None:
    train = table(kinds={"c": "category"}, x=[1.0, 2.0, None, 9.0], c=["a", "b", "a", None])
    fitted = fit_step(step, train)
    one = table("test", kinds={"c": "category"}, x=[5.0], c=["a"])
    many = table("test", kinds={"c": "category"}, x=[5.0, 1e9, None], c=["a", "z", None])
    assert fitted(many).frame.drop("_row")[0].equals(fitted(one).frame.drop("_row"))


def test_the_target_is_protected() -> None:
    train = table(x=[1.0, 2.0], y=[3.0, 4.0])
    step = make(Use("Standardize"), "prepare", exclude=["y"]).fit(train)
    assert step(train).frame["y"].to_list() == [3.0, 4.0]
    with pytest.raises(DataError, match="'y' is the target or excluded"):
        Standardize(columns=["y"], exclude=["y"]).fit(train)
    with pytest.raises(DataError, match="Did you mean 'x'"):
        Standardize(columns=["X"]).fit(train)
    with pytest.raises(DataError, match="is of kind category, it needs number"):
        Standardize(columns=["c"]).fit(table(kinds={"c": "category"}, c=["a", "b"]))


def test_options_out_of_range_name_the_place_in_the_recipe() -> None:
    with pytest.raises(RecipeError, match=r"recipe\.data\.prepare\[0\].*k: read 0\.7"):
        make(Use("ClipOutliers", method="quantile", k=0.7), "prepare", where="recipe.data.prepare[0]")
    with pytest.raises(ValueError, match="low must be below high"):
        MinMax(low=1, high=1)


def test_drop_missing_drops_from_train_with_reasons_only() -> None:
    train = table(x=[1.0, None, 3.0], y=[None, "a", "b"], z=[1.0, 2.0, float("nan")])
    step = DropMissing(columns=["x", "z"]).fit(train)
    after = apply(step, train, "DropMissing")
    assert after.frame["x"].to_list() == [1.0]
    assert after.history[-1].removed == (("row 1", "missing value: x"), ("row 2", "missing value: z"))
    flagged = apply(step, dataclasses.replace(train, split="valid"), "DropMissing")
    assert len(flagged) == 3
    assert flagged.history[-1].notes == ("2 rows with a missing value stay, since this is not train",)


def test_titanic_as_scikit_learn_would_prepare_it(shared_data: Path) -> None:
    dataset = csv(shared_data / "tab_titanic" / "titanic.csv")()
    at = np.random.default_rng(0).permutation(len(dataset))
    splits = Splits(dataset.take(at[:600], "train"), dataset.take(at[600:700], "valid"), dataset.take(at[700:], "test"))
    steps = [
        Fill(columns=["Age"], indicator=True),
        ClipOutliers(columns=["Fare"], method="quantile", k=0.05),
        Standardize(columns=["Age", "Fare"]),
        OneHot(columns=["Sex", "Embarked"]),
    ]
    fitted, after = Preprocessing.fit(steps, Standardize(columns=["SibSp"]), splits)
    assert fitted.prepare[0].learned["rows"] == 600
    train, test = splits.train.frame, splits.test.frame
    age = SimpleImputer(strategy="median").fit(train[["Age"]].to_numpy())
    scale = reference.StandardScaler().fit(age.transform(train[["Age"]].to_numpy()))
    expected = scale.transform(age.transform(test[["Age"]].to_numpy()))[:, 0]
    np.testing.assert_allclose(after.test.frame["Age"].to_numpy(), expected, rtol=1e-12)
    assert after.test.frame["Age_missing"].sum() == test["Age"].null_count()
    low, high = np.quantile(train["Fare"].to_numpy(), [0.05, 0.95])
    fare = reference.StandardScaler().fit(train["Fare"].to_numpy().clip(low, high)[:, None])
    expected = fare.transform(test["Fare"].to_numpy().clip(low, high)[:, None])[:, 0]
    np.testing.assert_allclose(after.test.frame["Fare"].to_numpy(), expected, rtol=1e-12)
    missing = int(test["Embarked"].null_count())
    assert (
        after.test.frame.select("Embarked=C", "Embarked=Q", "Embarked=S").sum_horizontal().sum() == len(test) - missing
    )
