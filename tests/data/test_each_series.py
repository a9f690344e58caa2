"""Steps over every series of a table: as if each were alone, in order of time, and never ahead unless they say so."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from groundup import DataRecipe, Recipe, Training, Use
from groundup.core.contract import contract_of, declared
from groundup.core.dataset import Dataset, Kind, apply
from groundup.core.errors import DataError, RecipeError
from groundup.core.use import check, make
from groundup.data import series
from groundup.data.causality import refuse_look_ahead, step_look_ahead
from groundup.data.prepare import EachSeries, Fill, Outliers, Standardize
from groundup.data.series.ahead import looks_ahead

Array = np.ndarray[Any, Any]


def table(kinds: dict[str, Kind] | None = None, **columns: Sequence[Any]) -> Dataset:
    return Dataset.of(pl.DataFrame(columns, strict=False), kinds, origin="memory")


STEPS: dict[str, Any] = {
    "interpolate": partial(series.interpolate, limit=2),
    "pchip": partial(series.interpolate, method="pchip"),
    "forward_fill": series.forward_fill,
    "backward_fill": series.backward_fill,
    "moving_average": partial(series.moving_average, width=3),
    "median_filter": partial(series.median_filter, width=4),
    "centred_median": partial(series.median_filter, width=3, causal=False),
    "savitzky_golay": partial(series.savitzky_golay, width=5),
    "gaussian_filter": partial(series.gaussian_filter, sigma=1.0),
    "wiener": partial(series.wiener, width=4),
    "hampel": partial(series.hampel, width=5),
    "exponential_filter": partial(series.exponential_filter, alpha=0.3),
    "butterworth": partial(series.butterworth, cutoff=0.3),
    "kalman": partial(series.kalman, ratio=0.1),
    "wavelet_shrinkage": partial(series.wavelet_shrinkage, wavelet="haar", width=8),
}
CAUSAL = [name for name, step in STEPS.items() if looks_ahead(step) is False]

rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.one_of(st.none(), st.floats(-100, 100, width=16))),
    min_size=1,
    max_size=40,
)


@pytest.mark.parametrize("name", STEPS)
@given(rows=rows)
@settings(max_examples=25, deadline=None)
def test_each_series_is_treated_as_if_it_were_alone(name: str, rows: list[Any]) -> None:
    keys, times, values = zip(*rows, strict=True)
    if name == "pchip" and len({(k, t) for k, t, _ in rows}) < len(rows):
        return
    dataset = table({"x": "number", "t": "time"}, key=keys, t=times, x=values)
    found = EachSeries([STEPS[name]], ["x"], by=["key"])(dataset).frame["x"]
    array = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    expected = np.empty_like(array)
    for key in set(keys):
        mine = [i for i, k in enumerate(keys) if k == key]
        mine.sort(key=lambda i: times[i])
        options = {"times": np.array([[times[i] for i in mine]], dtype=np.float64)} if name == "pchip" else {}
        expected[mine] = STEPS[name](array[mine][None, :, None], **options)[0, :, 0]
    assert np.array_equal(found.fill_null(np.nan).to_numpy(), expected, equal_nan=True)


@given(rows=rows, seed=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_whole_series_may_come_in_any_buckets(rows: list[Any], seed: int) -> None:
    """What an engine does: rows parted by their key, each part through the step, and back to their places."""
    keys, times, values = zip(*rows, strict=True)
    dataset = table({"x": "number"}, key=keys, t=times, x=values)
    step = EachSeries([STEPS["interpolate"], STEPS["median_filter"]], ["x"], by=["key"], time="t")
    assert contract_of(step) == "keyed"
    assert declared(step, "by") == ["key"]
    whole = step(dataset).frame
    bucket = np.array([(ord(key) + seed) % 2 for key in keys])
    parts = [step(dataset.take(np.flatnonzero(bucket == b))).frame for b in (0, 1) if (bucket == b).any()]
    assert pl.concat(parts).sort("_row").equals(whole)


@pytest.mark.parametrize("name", STEPS)
def test_what_looks_ahead_is_found_and_what_does_not_is_not(name: str) -> None:
    rng = np.random.default_rng(0)
    values = [None if rng.random() < 0.2 else float(v) for v in np.cumsum(rng.normal(size=240))]
    dataset = table({"t": "time"}, key=[*"abc"] * 80, t=list(range(240)), x=values)
    step = EachSeries([STEPS[name]], ["x"], by=["key"])
    assert step.looks_ahead == (name not in CAUSAL)
    found = step_look_ahead(step, dataset, origins=40)
    assert found.passed == (name in CAUSAL), found
    if name in CAUSAL:
        refuse_look_ahead(step, "recipe.data.clean[0]")
    else:
        with pytest.raises(RecipeError, match=r"recipe\.data\.clean\[0\]: EachSeries looks ahead"):
            refuse_look_ahead(step, "recipe.data.clean[0]")


@pytest.mark.parametrize(
    ("step", "ahead"),
    [
        (Fill(["x"], "forward"), False),
        (Fill(["x"], "backward"), True),
        (Fill(["x"], "linear", by=["key"]), True),
        (Fill(["x"], "median"), False),
        (Outliers(["x"], "hampel", width=5), False),
        (Outliers(["x"], "hampel", k=0.5, width=5, causal=False), True),
        (Outliers(["x"], "iqr"), False),
    ],
)
def test_fitted_steps_declare_it_too(step: Any, ahead: bool) -> None:
    rng = np.random.default_rng(0)
    values = [None if rng.random() < 0.2 else float(v) for v in rng.normal(size=120)]
    dataset = table({"t": "time"}, key=[*"ab"] * 60, t=list(range(120)), x=values)
    fitted = step.fit(dataclasses.replace(dataset, split="train"))
    assert bool(looks_ahead(step)) == ahead
    assert step_look_ahead(fitted, dataset, origins=30).passed == (not ahead)


def test_what_is_counted_and_what_is_refused() -> None:
    dataset = table({"t": "time"}, t=[3, 1, 2], x=[4.0, 1.0, None], y=[1, 2, 3])
    step = EachSeries([series.interpolate, partial(series.median_filter, width=2)], ["x"])
    after = apply(step, dataset, "EachSeries")
    assert after.frame["x"].to_list() == [3.25, 1.0, 1.75]
    assert after.history[-1].notes == ("x: 1 values changed", "x: 1 gaps filled")
    assert after.history[-1].cells_changed == {"x": 2}
    with pytest.raises(DataError, match="'x' is infinite at row 1"):
        step(table(x=[1.0, float("inf")]))
    with pytest.raises(DataError, match="'z'"):
        EachSeries([series.interpolate], ["z"])(dataset)
    with pytest.raises(DataError, match="'station'"):
        EachSeries([series.interpolate], ["x"], by=["station"])(dataset)
    with pytest.raises(
        DataError, match=r"EachSeries: savitzky_golay: the series key=b of 2 rows: .*at most the series"
    ):
        EachSeries([partial(series.savitzky_golay, width=3, causal=False)], ["x"], by=["key"])(
            table(key=[*"aaabb"], x=[1.0, 2, 3, 4, 5])
        )
    with pytest.raises(DataError, match="a step gave shape"):
        EachSeries([lambda values: values[:, 1:]], ["x"])(dataset)
    with pytest.raises(DataError, match="row 0 and row 1 have the same time"):
        EachSeries([partial(series.interpolate, method="time")], ["x"], time="t")(table(t=[1, 1], x=[1.0, 2.0]))


def test_named_in_a_recipe_before_and_after_the_split() -> None:
    steps = [{"use": "interpolate", "limit": 3}, {"use": "median_filter", "width": 5}, "forward_fill"]
    use = Use("EachSeries", steps=steps, by=["station"], time="when")
    for slot in ("clean", "prepare"):
        made = make(check(use, slot, f"recipe.data.{slot}[0]"), slot)
        assert isinstance(made, EachSeries)
        assert [getattr(step, "func", step) for step in made.steps] == [
            series.interpolate,
            series.median_filter,
            series.forward_fill,
        ]
    for bad, words in (
        ([], "steps: read none"),
        ([{"use": "median_filter", "width": 0}], "median_filter.width: read 0"),
        ([{"use": "median_filtre"}], "Did you mean 'median_filter'"),
    ):
        with pytest.raises(RecipeError, match=words):
            make(Use("EachSeries", steps=bad), "prepare")


@pytest.mark.parametrize(
    ("steps", "halo"),
    [
        ([partial(series.median_filter, width=5)], (4, 0)),
        ([partial(series.interpolate, limit=3), partial(series.moving_average, width=5, causal=False)], (5, 5)),
        ([partial(series.forward_fill, limit=2)], (2, 0)),
        ([partial(series.backward_fill, limit=2)], (0, 2)),
        ([partial(series.gaussian_filter, sigma=1.0)], (4, 0)),
        ([series.interpolate], None),
        ([partial(series.exponential_filter, alpha=0.5)], None),
    ],
)
def test_one_long_series_in_stretches_with_as_many_neighbours_as_it_declares(steps: Any, halo: Any) -> None:
    step = EachSeries(steps, ["x"])
    assert step.halo == halo
    if halo is None:
        return
    rng = np.random.default_rng(1)
    values = [None if rng.random() < 0.4 else float(v) for v in rng.normal(size=100)]
    dataset = table(x=values)
    whole = step(dataset).frame
    for start in range(0, 100, 10):
        low, high = max(0, start - halo[0]), min(100, start + 10 + halo[1])
        around = step(dataset.take(np.arange(low, high))).frame
        own = around.filter(pl.col("_row").is_between(start, start + 9))
        assert own.equals(whole[start : start + 10]), start


# ------------------------------------------------------------------------------- before a split by time


def r2(x: Array, y: Array, lags: int = 5) -> float:
    """Of a linear forecast of the next y from the last x, on the last fifth of the rows."""
    inputs = np.lib.stride_tricks.sliding_window_view(x[:-1], lags)
    targets = y[lags:]
    cut = int(0.8 * len(targets))
    return float(LinearRegression().fit(inputs[:cut], targets[:cut]).score(inputs[cut:], targets[cut:]))


def test_a_centred_median_before_the_split_gives_the_answer_away() -> None:
    """The past tells 9% of this series' variance, and 40% once the future is smeared into it."""
    rng = np.random.default_rng(0)
    values = np.zeros(4000)
    for t in range(1, 4000):
        values[t] = 0.3 * values[t - 1] + rng.normal()
    dataset = table(y=values)

    def filtered(causal: bool) -> Array:
        step = EachSeries([partial(series.median_filter, width=5, causal=causal)], ["y"])
        return step(dataset).frame["y"].to_numpy()

    honest = r2(values, values)
    assert honest == pytest.approx(0.09, abs=0.03)
    assert r2(filtered(causal=True), values) < honest + 0.02
    assert r2(filtered(causal=False), values) > 0.25, "even of the raw target, since the last inputs have seen it"
    assert r2(filtered(causal=False), filtered(causal=False)) > 0.4


def recipe(
    tmp_path: Any, samples: Use, split: Use, clean: tuple[Use, ...] = (), prepare: tuple[Use, ...] = ()
) -> Recipe:
    rng = np.random.default_rng(0)
    y = [None if rng.random() < 0.05 else float(v) for v in np.cumsum(rng.normal(size=300))]
    times = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 13, 11), "1h", eager=True)
    frame = pl.DataFrame({"when": times, "x": rng.normal(size=300), "y": y})
    frame.with_columns(pl.col("y").fill_null(0.0) if "Rows" in samples.target else pl.col("y")).write_csv(
        tmp_path / "data.csv", datetime_format="%Y-%m-%d %H:%M:%S"
    )
    data = DataRecipe(
        source=Use("csv", path=str(tmp_path / "data.csv"), time="when"),
        clean=clean,
        split=split,
        prepare=prepare,
        samples=samples,
    )
    return Recipe(name="series", data=data, model=Use("MLP", hidden=[4]), training=Training(steps=1))


BY_TIME = Use("by_time", column="when", valid=0.2, test=0.2)
WINDOWS = Use("Windows", target="y", length=8, horizon=2)


def centred(dataset: Dataset) -> Dataset:
    """A step of one's own that declares nothing."""
    smooth = dataset.frame["x"].rolling_mean(5, center=True, min_samples=1)
    return dataset.with_frame(dataset.frame.with_columns(x=smooth))


def trailing(dataset: Dataset) -> Dataset:
    """The honest form of the same filter."""
    smooth = dataset.frame["x"].rolling_mean(5, min_samples=1)
    return dataset.with_frame(dataset.frame.with_columns(x=smooth))


def median(causal: bool) -> Use:
    return Use("EachSeries", columns=["x"], steps=[{"use": "median_filter", "width": 5, "causal": causal}])


@pytest.mark.parametrize(
    ("samples", "split"),
    [
        (WINDOWS, BY_TIME),
        (WINDOWS, Use("contiguous", valid=0.2, test=0.2)),
        (Use("Rows", target="y", inputs=["x"]), BY_TIME),
    ],
)
def test_steps_that_look_ahead_are_refused_before_a_split_by_time(tmp_path: Any, samples: Use, split: Use) -> None:
    from groundup.workflow import prepare

    for where, parts, mend in (
        ("clean", {"clean": (median(causal=False),)}, "Set causal = true in median_filter"),
        ("prepare", {"prepare": (median(causal=False),)}, "Set causal = true in median_filter"),
        ("prepare", {"prepare": (Use("Fill", columns=["x"], method="linear"),)}, 'Take method = "forward"'),
        ("clean", {"clean": (Use("EachSeries", columns=["x"], steps=["interpolate"]),)}, "take forward_fill"),
    ):
        with pytest.raises(RecipeError, match=rf"recipe\.data\.{where}\[0\]: .*looks ahead.*{mend}"):
            prepare(recipe(tmp_path, samples, split, **parts))  # type: ignore[arg-type]
    good = prepare(recipe(tmp_path, samples, split, clean=(median(causal=True),)))
    assert len(good.encoded["train"])


def test_undeclared_steps_are_tried_out() -> None:
    rng = np.random.default_rng(0)
    dataset = table(x=rng.normal(size=200))
    refuse_look_ahead(trailing, "here", dataset)
    with pytest.raises(RecipeError, match="here: centred looks ahead: 'x' in rows up to row 99 changes"):
        refuse_look_ahead(centred, "here", dataset)
    refuse_look_ahead(Standardize(), "here", None)


def test_a_random_split_takes_no_step_over_the_series_before_it(tmp_path: Any) -> None:
    from groundup.workflow import prepare

    rows = Use("Rows", target="y", inputs=["x"])
    split = Use("random", valid=0.2, test=0.2)
    prepared = prepare(recipe(tmp_path, rows, BY_TIME, clean=(median(causal=True),)))
    assert len(prepared.encoded["train"])
    with pytest.raises(
        RecipeError, match="carries values across the split"
    ):  # held-out rows lie between those of train
        prepare(recipe(tmp_path, rows, split, clean=(median(causal=True),)))
    with pytest.raises(DataError, match="before the split it would carry what is to be predicted"):
        prepare(recipe(tmp_path, rows, split, clean=(median(causal=False),)))
