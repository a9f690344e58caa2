"""Windows: no look-ahead, no invented target, no window over a border or a break."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.dataset import Dataset, Splits, apply
from groundup.core.errors import DataError, RecipeError
from groundup.core.preprocessing import Preprocessing
from groundup.core.recipe import read_recipe
from groundup.core.use import Use, check, make
from groundup.data import series
from groundup.data.causality import look_ahead
from groundup.data.prepare import Fill, OneHot, Standardize
from groundup.data.samples import Windows
from groundup.data.sources import csv

START = datetime.datetime(2024, 1, 1)


def hourly(values: Any, split: str = "train", skip: tuple[int, ...] = (), **columns: Any) -> Dataset:
    """A table with one row an hour, some rows left out."""
    kept = [i for i in range(len(values)) if i not in skip]
    frame = pl.DataFrame(
        {
            "time": [START + datetime.timedelta(hours=i) for i in kept],
            "y": pl.Series([values[i] for i in kept], dtype=pl.Float64, strict=False),
            **{name: [column[i] for i in kept] for name, column in columns.items()},
        },
        strict=False,
    )
    return dataclasses.replace(Dataset.of(frame, origin="memory"), split=split)  # type: ignore[arg-type]


def test_windows_and_targets_are_the_rows_they_should_be() -> None:
    train = hourly(np.arange(20.0), x=np.arange(20) * 10)
    samples = Windows("y", length=4, horizon=3, inputs=["x", "y"], stride=2).fit(train)
    encoded = samples.encode(train)
    assert len(encoded) == 7
    assert encoded.rows.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert encoded.origins.tolist() == [3, 5, 7, 9, 11, 13, 15]
    inputs, targets = encoded.batch(np.array([1, 0]))
    assert inputs["inputs"].shape == (2, 4, 2)
    assert inputs["inputs"].dtype == targets["targets"].dtype == torch.float32
    scale = np.std(np.arange(20.0))
    expected = (np.array([2, 3, 4, 5]) - 9.5) / scale
    np.testing.assert_allclose(inputs["inputs"][0].numpy(), np.stack([expected, expected], axis=1), rtol=1e-6)
    np.testing.assert_allclose(samples.decode_targets(targets), [[6, 7, 8], [4, 5, 6]], rtol=1e-6)
    np.testing.assert_allclose(samples.decode(targets["targets"][..., None]), [[6, 7, 8], [4, 5, 6]], rtol=1e-6)
    everything, values = encoded.arrays()
    np.testing.assert_array_equal(everything[[1, 0]], inputs["inputs"].numpy())
    np.testing.assert_array_equal(values[0], [4, 5, 6])
    assert encoded.last().tolist() == [3, 5, 7, 9, 11, 13, 15]
    shapes = {"input_shape": (4, 2), "in_features": 2, "length": 4, "horizon": 3, "out_features": 3}
    assert samples.sizes() == {**shapes, "target_input": 1}
    assert encoded.describe(0)["target y"] == [4, 5, 6]
    assert samples.present(np.array([[1.0, 2.0, 3.0]])) == [{"values": [1.0, 2.0, 3.0]}]
    with pytest.raises(DataError, match=r"shape \(2, 4\), expected \[N, 3\]"):
        samples.decode(torch.zeros(2, 4))


@given(
    st.lists(st.booleans(), min_size=12, max_size=40),
    st.sets(st.integers(1, 38), max_size=4),
    st.integers(1, 4),
    st.integers(1, 3),
)
@settings(max_examples=80, deadline=None)
def test_each_window_that_is_whole_is_kept_and_no_other(
    missing: list[bool], skip: set[int], length: int, horizon: int
) -> None:
    values = [None if gone else float(i) for i, gone in enumerate(missing)]
    kept = [i for i in range(len(values)) if i not in skip]
    known = [values[i] for i in kept if values[i] is not None]
    if len(set(known)) < 2:
        return
    # Train has no gaps in time, so that its usual step is an hour.
    samples = Windows("y", length=length, horizon=horizon).fit(hourly([0.0, 5.0, 1.0, 7.0]))
    whole = []
    for start in range(len(kept) - length - horizon + 1):
        span = kept[start : start + length + horizon]
        follow = all(b - a == 1 for a, b in itertools.pairwise(span))
        if follow and all(values[i] is not None for i in span[length:]):
            whole.append(start)
    dataset = hourly(values, "test", tuple(skip))
    if not whole:
        with pytest.raises(DataError, match="no window of"):
            samples.encode(dataset)
        return
    encoded = samples.encode(dataset)
    assert encoded.starts.tolist() == whole
    assert encoded.notes[0].startswith(f"{len(whole)} windows of")
    for i, start in enumerate(whole):
        np.testing.assert_array_equal(
            encoded.arrays()[1][i], [values[k] for k in kept[start + length : start + length + horizon]]
        )
        past = [values[k] for k in kept[start : start + length] if values[k] is not None]
        assert encoded.last()[i] == (past[-1] if past else samples.need()["target"]["mean"])


def test_rows_are_put_in_order_of_time_or_of_reading() -> None:
    values = np.sin(np.arange(40.0))
    train = hourly(values)
    samples = Windows("y", length=5, horizon=2).fit(train)
    wanted = samples.encode(train).arrays()
    shuffled = train.take(np.random.default_rng(0).permutation(40))
    for left, right in zip(wanted, samples.encode(shuffled).arrays(), strict=True):
        np.testing.assert_array_equal(left, right)
    plain = dataclasses.replace(train, frame=train.frame.drop("time"), kinds={"y": "number"})
    samples = Windows("y", length=5, horizon=2).fit(plain)
    part = plain.take(np.delete(np.random.default_rng(0).permutation(40), 0))
    gone = 40 - 1 - 6 - len(samples.encode(part))
    assert gone > 0, "a row that is missing in the order of reading is a break too"


def test_times_that_cannot_order_the_rows() -> None:
    train = hourly(np.arange(10.0))
    samples = Windows("y", length=2, horizon=1).fit(train)
    double = dataclasses.replace(train, frame=pl.concat([train.frame, train.frame[3:4]]))
    with pytest.raises(DataError, match="row 3 and row 3 have the same time"):
        samples.encode(double)
    gap = train.with_frame(train.frame.with_columns(pl.when(pl.col("_row") != 4).then(pl.col("time")).alias("time")))
    with pytest.raises(DataError, match="'time' has no time at row 4"):
        samples.encode(gap)
    two = train.with_frame(train.frame.with_columns(other=pl.col("time")))
    with pytest.raises(DataError, match="time, other are all of kind time"):
        samples.encode(two)


def test_steps_act_inside_the_window_and_gaps_become_the_mean() -> None:
    values: list[float | None] = [1.0, None, 3.0, None, None, None, 7.0, 8.0, 9.0, 10.0]
    train = hourly(values, x=[None, *range(9)])
    samples = Windows("y", length=6, horizon=2, steps=[partial(series.interpolate, limit=2)]).fit(train)
    assert samples.need()["inputs"] == ["y", "x"]
    inputs, _ = samples.encode(train).batch(np.array([0, 1]))
    mean, deviation = samples.need()["means"][0], samples.need()["deviations"][0]
    known = [1.0, 3.0, 7.0, 8.0, 9.0, 10.0]
    assert (mean, deviation) == pytest.approx((np.mean(known), np.std(known)))
    found = inputs["inputs"][:, :, 0].numpy() * deviation + mean
    np.testing.assert_allclose(found[0], [1, 2, 3, mean, mean, mean], rtol=1e-5)
    np.testing.assert_allclose(found[1], [3, 3, mean, mean, mean, 7], rtol=1e-5)


def test_batches_do_not_depend_on_the_batching() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.uniform(size=200) < 0.1, np.nan, rng.normal(size=200)).tolist()
    train = hourly([None if np.isnan(v) else v for v in values], x=rng.normal(size=200).tolist())
    steps: list[Callable[..., Any]] = [
        series.interpolate,
        partial(series.hampel, width=5),
        partial(series.exponential_filter, alpha=0.4),
        partial(series.moving_average, width=3),
        partial(series.savitzky_golay, width=5),
    ]
    encoded = Windows("y", length=24, horizon=2, steps=steps).fit(train).encode(train)
    whole = encoded.batch(np.arange(len(encoded)))[0]["inputs"]
    order = rng.permutation(len(encoded))
    for part in np.split(order, [1, 2, 5, 40]):
        assert torch.equal(encoded.batch(part)[0]["inputs"], whole[part])


def test_steps_are_checked_when_the_recipe_is_read() -> None:
    use = Use(
        "Windows", target="y", length=8, horizon=1, steps=["forward_fill", {"use": "exponential_filter", "alpha": 0.5}]
    )
    samples = make(check(use, "samples", "recipe.data.samples"), "samples")
    assert [getattr(step, "func", step) for step in samples.steps] == [series.forward_fill, series.exponential_filter]
    for steps, words in (
        ([{"use": "exponential_filter", "alpha": 1.5}], r"steps\[0\]: exponential_filter: .*alpha: read 1.5"),
        ([{"use": "savitzky_golay", "width": 9, "causal": False}], "at most the series' 8 steps"),
        (["forwardfill"], "Did you mean 'forward_fill'"),
    ):
        with pytest.raises(RecipeError, match=words):
            make(Use("Windows", target="y", length=8, horizon=1, steps=steps), "samples")
    with pytest.raises(RecipeError):
        make(Use("Windows", target="y", length=8, horizon=1, steps=["os:getcwd"]), "samples")
    with pytest.raises(RecipeError, match="length: read 0"):
        make(Use("Windows", target="y", length=0, horizon=1), "samples")
    cut = Windows("y", 4, 1, steps=[lambda values: values[:, 1:]])
    train = hourly(np.arange(10.0))
    with pytest.raises(DataError, match=r"gave shape \(1, 3, 1\) for \(1, 4, 1\)"):
        cut.fit(train).encode(train).batch(np.array([0]))


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (hourly([1.0] * 9), "'y' is constant: 1.0"),
        (hourly([None] * 9), "all 9 values of column 'y' are missing"),
        (hourly([1.0, float("inf"), 2.0]), "'y' is infinite at row 1"),
        (hourly(np.arange(9.0), c=["a"] * 9), "category: c"),
    ],
)
def test_what_cannot_be_learned(dataset: Dataset, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Windows("y", length=2, horizon=1, inputs=["*"] if "c" in dataset.kinds else None).fit(
            dataset.with_frame(dataset.frame.drop("time")) if "c" in dataset.kinds else dataset
        )


def test_a_target_that_a_step_changed_is_refused() -> None:
    train = hourly([1.0, None, 3.0, 4.0, 9.0])
    for step in (Fill(), Standardize()):
        with pytest.raises(DataError, match="changed by the prepare step"):
            Windows("y", length=2, horizon=1).fit(apply(step.fit(train), train, type(step).__name__))


def test_no_window_crosses_from_one_split_into_another() -> None:
    dataset = hourly(np.arange(100.0))
    splits = Splits(
        *(dataset.take(np.arange(a, b), s) for a, b, s in ((0, 60, "train"), (60, 80, "valid"), (80, 100, "test")))
    )  # type: ignore[arg-type]
    samples = Windows("y", length=6, horizon=3).fit(splits.train)
    for part, low, high in ((splits.train, 0, 60), (splits.valid, 60, 80), (splits.test, 80, 100)):
        encoded = samples.encode(part)
        assert encoded.rows.min() == low
        assert encoded.origins.max() + 3 == high - 1
        assert encoded.arrays()[1].max() == high - 1
    assert len(samples.encode(dataset.take(np.arange(0), "test"))) == 0
    with pytest.raises(DataError, match="no window of 6 \\+ 3 rows is whole in the 8 rows of valid"):
        samples.encode(dataset.take(np.arange(60, 68), "valid"))
    random = dataset.take(np.sort(np.random.default_rng(0).permutation(100)[:40]), "test")
    with pytest.raises(DataError, match="Split by_time"):
        samples.encode(random)


def test_a_forecast_from_raw_rows(tmp_path: Path) -> None:
    train = hourly(np.sin(np.arange(60.0)), c=["u", "v"] * 30)
    splits = Splits(train, *(dataclasses.replace(train, split=s) for s in ("valid", "test")))  # type: ignore[arg-type]
    samples = Windows("y", length=6, horizon=2, inputs=["y", "c=*"], steps=[series.forward_fill])
    fitted, prepared = Preprocessing.fit([OneHot()], samples, splits)
    fitted = Preprocessing.from_json(fitted.to_json(), trusted=("groundup",))
    frame = train.frame.drop("_row")
    frame.slice(0, 30).write_csv(tmp_path / "recent.csv", datetime_format="%Y-%m-%d %H:%M:%S")
    position = 30 - 6
    wanted = fitted.samples.encode(prepared.test).batch(np.array([position]))[0]["inputs"]
    rows = frame.slice(20, 10).to_dicts()
    without_time = [{"y": row["y"], "c": row["c"]} for row in rows]
    for raw in (tmp_path / "recent.csv", frame.slice(24, 6), frame.slice(0, 30), rows, without_time):
        served = fitted.samples.read(raw, fitted.schema)
        encoded = fitted.samples.encode(fitted(served))
        inputs, targets = encoded.batch(np.arange(len(encoded)))
        assert targets == {}
        torch.testing.assert_close(inputs["inputs"], wanted, rtol=1e-6, atol=1e-6)
        assert encoded.last().tolist() == pytest.approx([np.sin(29.0)])
    assert any("one step apart" in note for note in fitted.samples.read(without_time, fitted.schema).notes)
    with pytest.raises(DataError, match="has 5 rows; a forecast needs the last 6"):
        fitted.samples.read(rows[:5], fitted.schema)
    with pytest.raises(DataError, match="lacks the columns 'c'"):
        fitted.samples.read([{"y": 1.0}] * 6, fitted.schema)
    broken = fitted.samples.read(rows[:7] + rows[8:], fitted.schema)
    with pytest.raises(DataError, match="has a break in time before row 7"):
        fitted.samples.encode(fitted(broken))


# ------------------------------------------------------------------------------------------ looking ahead


def centred(dataset: Dataset) -> Dataset:
    """A planted fault: a filter over the whole table that averages over the future too."""
    smooth = dataset.frame["x"].rolling_mean(5, center=True, min_samples=1)
    return dataset.with_frame(dataset.frame.with_columns(x=smooth))


def trailing(dataset: Dataset) -> Dataset:
    """The honest form of the same filter."""
    smooth = dataset.frame["x"].rolling_mean(5, min_samples=1)
    return dataset.with_frame(dataset.frame.with_columns(x=smooth))


def scaled_by_itself(dataset: Dataset) -> Dataset:
    """A planted fault: a scale learned on the split at hand."""
    return dataset.with_frame(dataset.frame.with_columns(x=pl.col("x") / pl.col("x").std()))


@pytest.fixture(scope="module")
def series_with_gaps() -> Splits:
    rng = np.random.default_rng(4)
    y = [None if rng.uniform() < 0.05 else float(v) for v in np.cumsum(rng.normal(size=400))]
    x = [None if rng.uniform() < 0.05 else float(v) for v in rng.normal(size=400)]
    dataset = hourly(y, x=x, c=rng.choice(["u", "v"], 400).tolist())
    return Splits(
        *(dataset.take(np.arange(a, b), s) for a, b, s in ((0, 200, "train"), (200, 300, "valid"), (300, 400, "test")))
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prepare", "passes"),
    [
        ([], True),
        ([OneHot(), Standardize(exclude=["y"])], True),
        ([Fill(columns=["x"], method="forward")], True),
        ([trailing], True),
        ([centred], False),
        ([scaled_by_itself], False),
        ([Fill(columns=["x"], method="linear")], False),
        ([Fill(columns=["x"], method="backward")], False),
    ],
)
@pytest.mark.parametrize("split", ["train", "valid"])
def test_look_ahead_is_found(series_with_gaps: Splits, prepare: list[Any], passes: bool, split: str) -> None:
    samples = Windows(
        "y", length=12, horizon=4, steps=[series.interpolate, partial(series.median_filter, width=3, causal=False)]
    )
    fitted, _ = Preprocessing.fit(prepare, samples, series_with_gaps)
    # Many origins, so that some stand right before a gap, where a line to the future would be drawn.
    found = look_ahead(fitted.samples, series_with_gaps.parts()[split], fitted, origins=25)
    assert found.passed == passes, found
    assert found.passed or found.mend


def test_beijing(shared_data: Path, project: Path) -> None:
    recipe = read_recipe(project / "recipes" / "air.toml")
    dataset = csv(
        shared_data / "ts_beijing_pm25" / "pollution.csv", missing=["NA"], time=["year", "month", "day", "hour"]
    )()
    dataset = dataset.take(np.arange(12_000))
    splits = Splits(
        *(
            dataset.take(np.arange(a, b), s)
            for a, b, s in ((0, 8000, "train"), (8000, 10_000, "valid"), (10_000, 12_000, "test"))
        )
    )  # type: ignore[arg-type]
    steps = [make(use, "prepare", exclude=["pm2.5"]) for use in recipe.data.prepare]
    fitted, prepared = Preprocessing.fit(steps, make(recipe.data.samples, "samples"), splits)
    encoded = fitted.samples.encode(prepared.test)
    inputs, targets = encoded.batch(np.arange(64))
    assert inputs["inputs"].shape == (64, 72, 12)
    assert targets["targets"].shape == (64, 24)
    assert torch.isfinite(inputs["inputs"]).all()
    frame = splits.test.frame
    gone = frame["pm2.5"].is_null().cast(pl.Int64).to_numpy()
    whole = [i for i in range(2000 - 96 + 1) if not gone[i + 72 : i + 96].any()]
    assert encoded.starts.tolist() == whole
    assert fitted.samples.decode_targets(targets)[5].tolist() == pytest.approx(
        frame["pm2.5"][whole[5] + 72 : whole[5] + 96].to_list(), rel=1e-5
    )
    assert look_ahead(fitted.samples, splits.valid, fitted).passed
