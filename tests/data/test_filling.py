"""Gaps filled from groups, series, similar rows and regressions: as scikit-learn, polars and brute force would."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.linear_model import Ridge

from groundup.core.contract import Mergeable, contract_of
from groundup.core.dataset import Dataset, Kind, apply
from groundup.core.errors import DataError, RecipeError
from groundup.core.preprocessing import Preprocessing, fit_step
from groundup.core.use import Use, make
from groundup.data.prepare import DropMissing, DropSparseColumns, Fill, FillIterative, FillNearest, Standardize
from groundup.data.prepare.imputing import gap_distances
from groundup.data.sources import csv

Array = np.ndarray[Any, Any]


def table(split: str = "train", kinds: dict[str, Kind] | None = None, **columns: Sequence[Any]) -> Dataset:
    dataset = Dataset.of(pl.DataFrame(columns, strict=False), kinds, origin="memory")
    return dataclasses.replace(dataset, split=split)  # type: ignore[arg-type]


def matrix_table(matrix: Array, split: str = "train") -> Dataset:
    names = [f"x{i}" for i in range(matrix.shape[1])]
    return table(split, **{name: matrix[:, i] for i, name in enumerate(names)})


def as_matrix(dataset: Dataset) -> Array:
    return dataset.frame.drop("_row").cast(pl.Float64).fill_null(np.nan).to_numpy()


maybe = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.5, -3.0, 7.0]))
grouped_rows = st.lists(st.tuples(st.sampled_from(["a", "b", None]), maybe), min_size=1, max_size=30).filter(
    lambda rows: any(value is not None for _, value in rows)
)


@given(grouped_rows, st.sampled_from(["mean", "median", "mode"]), st.lists(st.integers(0, 30), max_size=3))
@settings(max_examples=80, deadline=None)
def test_groups_get_their_own_value_learned_from_any_pieces(rows: list[Any], method: Any, cuts: list[int]) -> None:
    """Against plain Python over each group; and however train is cut into pieces."""
    keys, values = zip(*rows, strict=True)
    train = table(kinds={"k": "category", "x": "number"}, k=keys, x=values)
    step = Fill(columns=["x"], method=method, by=["k"]).fit(train)
    known = [v for v in values if v is not None]

    def typical(of: list[float]) -> float:
        if method == "mode":
            return min(of, key=lambda v: (-of.count(v), v))
        return float(np.mean(of) if method == "mean" else np.median(of))

    for key in ("a", "b", None, "new"):
        own = [v for k, v in rows if k == key and v is not None]
        found = step(table("serve", kinds={"k": "category", "x": "number"}, k=[key], x=[None])).frame["x"][0]
        assert found == pytest.approx(typical(own or known), rel=1e-12)
    ends = [0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]
    shards = [train.take(np.arange(a, b)) for a, b in itertools.pairwise(ends)]
    state = step.partial(shards[0])
    for shard in shards[1:]:
        state = step.merge(state, step.partial(shard))
    again = step.finish(state)
    assert again.learned is not None
    assert step.learned is not None
    assert again.learned["rows"] == len(rows)
    assert again(train).frame["x"].to_list() == pytest.approx(step(train).frame["x"].to_list(), rel=1e-12)
    json.dumps(again.learned, allow_nan=False)


def test_group_medians_of_many_values_are_near_in_rank() -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 3, 60_000)
    values = rng.lognormal(size=60_000) + keys
    train = table(k=[f"g{k}" for k in keys], x=values)
    step = Fill(columns=["x"], by=["k"])
    state = step.partial(train.take(np.arange(7000)))
    for start in range(7000, 60_000, 7000):
        state = step.merge(state, step.partial(train.take(np.arange(start, min(start + 7000, 60_000)))))
    assert max(len(told["groups"]["values"]) for told in state["columns"].values()) <= 3 * 2048 + 3
    learned = step.finish(state).learned
    assert learned is not None
    for key, value in zip(*learned["columns"]["x"]["groups"].values(), strict=True):
        own = values[keys == int(key[0][1])]
        assert abs((own < value).mean() - 0.5) < 0.002


numbers_along = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), maybe), min_size=1, max_size=40)


@given(numbers_along, st.sampled_from(["forward", "backward", "linear"]), st.one_of(st.none(), st.integers(1, 3)))
@settings(max_examples=80, deadline=None)
def test_series_are_filled_one_by_one(rows: list[Any], method: Any, limit: int | None) -> None:
    keys, times, values = zip(*rows, strict=True)
    train = table(kinds={"t": "time", "x": "number"}, k=keys, t=times, x=values)
    if all(v is None for v in values):
        return
    step = Fill(columns=["x"], method=method, by=["k"], limit=limit, fallback=False).fit(train)
    assert contract_of(step) == "keyed"
    assert isinstance(step, Mergeable)
    found = step(train).frame["x"].to_list()
    ordered = train.frame.sort("k", "t", "_row").with_columns(pl.col("x").cast(pl.Float64))
    if method == "linear":
        line = pl.col("x").interpolate().over("k")
        expected = ordered.with_columns(gap=pl.col("x").is_null().rle_id().over("k")).with_columns(
            x=pl.when((pl.len().over("k", "gap") <= (limit or 99)) | pl.col("x").is_not_null())
            .then(line)
            .otherwise(pl.col("x"))
        )
    else:
        expected = ordered.with_columns(pl.col("x").fill_null(strategy=method, limit=limit).over("k"))
    wanted = expected.sort("_row")["x"].to_list()
    assert [v is None for v in found] == [v is None for v in wanted]
    assert [v for v in found if v is not None] == pytest.approx([v for v in wanted if v is not None], abs=1e-12)


def test_along_time_by_name_with_curves_and_what_is_out_of_reach() -> None:
    train = table(
        kinds={"c": "category"},
        sensor=["a"] * 5 + ["b"] * 3,
        day=[0.0, 1, 4, 8, 9, 0, 1, 2],
        x=[0.0, None, None, 8, None, None, 4, 6],
        c=["u", None, None, "v", "v", None, None, "w"],
    )
    by_time = Fill(columns=["x"], method="time", by=["sensor"], time="day").fit(train)
    assert by_time(train).frame["x"].to_list() == [0, 1, 4, 8, 5, 5, 4, 6]
    assert "x: 4 missing, filled by time of sensor" in by_time(train).notes
    assert "x: 2 out of its reach, filled by 5" in by_time(train).notes
    forward = Fill(columns=["c", "x"], method="forward", by=["sensor"], time="day", fallback=False).fit(train)
    assert forward(train).frame["c"].to_list() == ["u", "u", "u", "v", "v", None, None, "w"]
    assert forward(train).frame["x"].to_list() == [0, 0, 0, 8, 8, None, 4, 6]
    cubic = table(day=list(range(8)), x=[None if d in (2, 5) else d**3 for d in range(8)])
    spline = Fill(columns=["x"], method="spline", time="day").fit(cubic)
    assert spline(cubic).frame["x"].to_list() == pytest.approx([d**3 for d in range(8)])
    assert Fill(method="pchip").looks_ahead
    assert Fill(method="time").looks_ahead
    with pytest.raises(DataError, match=r"row 0 and row 1 have the same time \(1 such pairs\)"):
        Fill(columns=["x"], method="time", time="day").fit(cubic)(table(day=[1, 1], x=[1.0, None]))
    two = table(kinds={"s": "time", "t": "time", "x": "number"}, s=[1, 2], t=[2, 1], x=[1.0, None])
    with pytest.raises(DataError, match="2 time columns, s, t"):
        Fill(columns=["x"], method="forward").fit(two)(two)
    with pytest.raises(DataError, match="no time at row 1"):
        Fill(columns=["x"], method="forward", time="s").fit(two)(table(s=[1, None], x=[1.0, None]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "constant", "value": 1.0, "by": ["k"]}, "by: a constant"),
        ({"method": "median", "limit": 3}, "limit: read 3 for median"),
        ({"method": "forward", "limit": 0}, "limit: read 0"),
        ({"method": "mean", "fallback": False}, "leaves nothing unfilled"),
    ],
)
def test_options_of_fill_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make(Use("Fill", **options), "prepare")


# ------------------------------------------------------------------------------- similar rows, regressions

gappy = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed))


def planted(rng: np.random.Generator, rows: int = 60, columns: int = 4, share: float = 0.2) -> Array:
    mixed = rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns)) * 5 + rng.normal(size=columns)
    mixed[rng.random(mixed.shape) < share] = np.nan
    mixed[0] = rng.normal(size=columns)  # no column may be missing whole
    return mixed


def scaled_by(train: Array, values: Array) -> Array:
    return (values - np.nanmean(train, axis=0)) / np.nanstd(train, axis=0)


def unscaled(train: Array, values: Array) -> Array:
    return values * np.nanstd(train, axis=0) + np.nanmean(train, axis=0)


@given(gappy, st.sampled_from([1, 3, 7, 100]), st.sampled_from(["uniform", "distance"]))
@settings(max_examples=40, deadline=None)
def test_nearest_equals_scikit_learn(rng: np.random.Generator, neighbours: int, weights: Any) -> None:
    train, later = planted(rng), planted(rng, rows=20, share=0.4)
    step = FillNearest(neighbours=neighbours, weights=weights).fit(matrix_table(train))
    expected = KNNImputer(n_neighbors=neighbours, weights=weights).fit(scaled_by(train, train))
    for values in (train, later):
        found = as_matrix(step(matrix_table(values)))
        wanted = unscaled(train, expected.transform(scaled_by(train, values)))
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-8)
        known = ~np.isnan(values)
        assert np.array_equal(found[known], values[known]), "what is known keeps its bits"


@given(gappy, st.sampled_from([0.1, 1.0, 20.0]), st.sampled_from([1, 4, 15]))
@settings(max_examples=30, deadline=None)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_iterative_equals_scikit_learn(rng: np.random.Generator, penalty: float, rounds: int) -> None:
    assert ConvergenceWarning
    train, later = planted(rng), planted(rng, rows=20, share=0.4)
    step = FillIterative(rounds=rounds, penalty=penalty).fit(matrix_table(train))
    expected = IterativeImputer(Ridge(alpha=penalty), max_iter=rounds, tol=1e-3, imputation_order="ascending")
    expected.fit(scaled_by(train, train))
    for values in (train, later):
        found = as_matrix(step(matrix_table(values)))
        wanted = unscaled(train, expected.transform(scaled_by(train, values)))
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("step", [FillNearest(indicator=True), FillIterative(indicator=True)])
def test_imputers_travel_as_json_and_see_rows_one_by_one(step: Any) -> None:
    rng = np.random.default_rng(1)
    train, later = matrix_table(planted(rng)), matrix_table(planted(rng, rows=600, share=0.3), "test")
    with pytest.raises(DataError, match="would leak"):
        fit_step(step, later)
    with pytest.raises(DataError, match="has learned nothing yet"):
        step(later)
    fitted = fit_step(step, train)
    assert contract_of(fitted) == "sampled"
    json.dumps(fitted.learned, allow_nan=False)
    recalled = Preprocessing.from_json(Preprocessing((fitted,), Standardize(learned=fitted.learned)).to_json())
    whole = fitted(later)
    assert recalled.prepare[0](later).frame.equals(whole.frame)
    assert whole.frame.null_count().sum_horizontal().item() == 0
    assert whole.kinds["x0_missing"] == "boolean"
    pieces = [fitted(later.take(np.arange(a, b))).frame for a, b in ((0, 1), (1, 530), (530, 600))]
    assert pl.concat(pieces).equals(whole.frame), "the bits do not depend on what other rows there are"
    entry = apply(fitted, later, "fill").history[-1]
    gaps = later.frame["x0"].cast(pl.Float64).fill_nan(None).null_count()
    assert entry.cells_changed["x0"] == gaps
    assert any(note.startswith(f"x0: {gaps} missing, filled from") for note in entry.notes)


def test_imputers_learn_from_a_sample_and_only_the_columns_asked_for() -> None:
    rng = np.random.default_rng(2)
    values = planted(rng, rows=500)
    train = matrix_table(values)
    for step in (
        FillNearest(columns=["x1"], features=["x2", "x3"], sample_rows=50, seed=3),
        FillIterative(columns=["x1"], features=["x2", "x3"], sample_rows=50, seed=3),
    ):
        fitted = step.fit(train)
        assert fitted.learned is not None
        assert fitted.learned["rows"] == 50
        shuffled = step.fit(train.take(rng.permutation(500)))
        assert shuffled.learned == fitted.learned, "the sample depends on the rows' numbers, not on their order"
        after = fitted(train)
        assert after.frame["x1"].null_count() == 0
        assert after.frame["x2"].equals(train.frame["x2"])
    with pytest.raises(DataError, match="'x9'"):
        FillNearest(columns=["x9"]).fit(train)
    with pytest.raises(DataError, match="one number column"):
        FillIterative().fit(table(x=[1.0, None]))
    with pytest.raises(DataError, match=r"'x' is infinite at row 1"):
        FillNearest().fit(table(x=[1.0, 2.0], y=[1.0, 2.0]))(table(x=[1.0, float("inf")], y=[None, 2.0]))
    with pytest.raises(RecipeError, match="neighbours: read 0"):
        make(Use("FillNearest", neighbours=0), "prepare")
    with pytest.raises(RecipeError, match="penalty"):
        make(Use("FillIterative", penalty=-1.0), "prepare")


def test_distances_over_what_both_rows_have() -> None:
    one, other = np.array([[1.0, np.nan, 3.0]]), np.array([[2.0, 5.0, np.nan], [np.nan, 1.0, np.nan]])
    found = gap_distances(one, other)[0]
    assert found[0] == pytest.approx(np.sqrt(3.0))
    assert np.isnan(found[1])


def test_penguins_told_by_similar_birds(shared_data: Path) -> None:
    """Similar rows and regressions tell a missing measure with a quarter less error than the median, or better."""
    birds = csv(shared_data / "tab_penguins" / "penguins.csv", missing=["NA"])()
    names = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    frame = birds.frame.select(names).drop_nulls()
    truth = frame.to_numpy().astype(np.float64)
    rng = np.random.default_rng(0)
    hidden = rng.random(truth.shape) < 0.1
    values = np.where(hidden, np.nan, truth)
    scale = truth.std(axis=0)

    def error(step: Any) -> float:
        found = as_matrix(step.fit(matrix_table(values))(matrix_table(values)))
        return float(np.sqrt((((found - truth) / scale)[hidden] ** 2).mean()))

    by_median = error(Fill(method="median"))
    assert error(FillNearest()) < 0.75 * by_median
    assert error(FillIterative()) < 0.75 * by_median


# ------------------------------------------------------------------------------- dropped by share


def test_rows_and_columns_go_by_their_share_of_gaps() -> None:
    train = table(a=[1.0, None, None, None], b=[1.0, 2.0, None, 4.0], c=["x", None, None, "y"], d=[1, 2, 3, 4])
    step = DropMissing(columns=["a", "b", "c"], share=0.5).fit(train)
    after = apply(step, train, "DropMissing")
    assert after.frame["d"].to_list() == [1, 4]
    assert after.history[-1].removed == (("row 1", "missing values: 2 of 3"), ("row 2", "missing values: 3 of 3"))
    flagged = apply(step, dataclasses.replace(train, split="test"), "DropMissing")
    assert flagged.history[-1].notes == ("2 rows with more than 50% missing stay, since this is not train",)
    columns = DropSparseColumns(share=0.5)
    state = columns.merge(columns.partial(train.take(np.arange(3))), columns.partial(train.take(np.arange(3, 4))))
    fitted = columns.finish(state)
    assert fitted.learned == columns.fit(train).learned
    later = fitted(dataclasses.replace(train, split="serve"))
    assert later.columns == ["b", "c", "d"]
    assert later.notes == ("a: dropped, 75.0% of it was missing in train",)
    assert DropSparseColumns(share=0.5, exclude=["a"]).fit(train)(train).columns == ["a", "b", "c", "d"]
    with pytest.raises(DataError, match="none is left"):
        DropSparseColumns(share=0.5).fit(table(a=[None, None, 1.0]))
    with pytest.raises(RecipeError, match=r"share: read 1\.5"):
        make(Use("DropSparseColumns", share=1.5), "prepare")


def test_rows_go_before_the_split_too() -> None:
    dataset = table(x=[1.0, None, 3.0, None], y=[1, 2, None, None])
    after = apply(make(Use("drop_missing", columns=["x"]), "clean"), dataset, "drop_missing")
    assert after.history[-1].removed == (("row 1", "missing value: x"), ("row 3", "missing value: x"))
    both = apply(make(Use("drop_missing", share=0.5), "clean"), dataset, "drop_missing")
    assert both.history[-1].removed == (("row 3", "missing values: 2 of 2"),)
    with pytest.raises(RecipeError, match=r"drop_missing\.share"):
        make(Use("drop_missing", share=1.0), "clean")(dataset)
    with pytest.raises(DataError, match="'z'"):
        make(Use("drop_missing", columns=["z"]), "clean")(dataset)
