"""Steps inside a window, held against SciPy and pandas-like references written out, and blind to the future."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import signal
from scipy.interpolate import PchipInterpolator

from groundup.core.errors import RecipeError
from groundup.data import series

Values = np.ndarray[Any, Any]

windows = npst.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 3)),
    elements=st.one_of(st.just(np.nan), st.floats(-100, 100, width=16)),
)

CAUSAL: dict[str, Callable[..., Values]] = {
    "forward_fill": series.forward_fill,
    "fill_constant": partial(series.fill_constant, value=3.0),
    "moving_average": partial(series.moving_average, width=3),
    "exponential_filter": partial(series.exponential_filter, alpha=0.3),
    "median_filter": partial(series.median_filter, width=4),
    "hampel": partial(series.hampel, width=5, k=2.0),
}
OTHERS: dict[str, Callable[..., Values]] = {
    "interpolate": series.interpolate,
    "nearest": partial(series.interpolate, method="nearest", limit=2),
    "pchip": partial(series.interpolate, method="pchip"),
    "spline": partial(series.interpolate, method="spline", edges="leave"),
    "centred_average": partial(series.moving_average, width=3, causal=False),
    "centred_median": partial(series.median_filter, width=5, causal=False),
    "centred_hampel": partial(series.hampel, width=3, causal=False),
}
ALL = {**CAUSAL, **OTHERS}


@pytest.mark.parametrize("name", ALL)
@given(values=windows)
@settings(max_examples=30, deadline=None)
def test_shape_batch_and_columns(name: str, values: Values) -> None:
    """The shape stays, the input is not changed, and each series is treated on its own."""
    before = values.copy()
    whole = ALL[name](values)
    assert whole.shape == values.shape
    assert np.array_equal(values, before, equal_nan=True)
    for n in range(values.shape[0]):
        for f in range(values.shape[2]):
            alone = ALL[name](values[n : n + 1, :, f : f + 1])
            assert np.array_equal(alone[0, :, 0], whole[n, :, f], equal_nan=True)


@pytest.mark.parametrize("name", CAUSAL)
@given(values=windows, data=st.data())
@settings(max_examples=40, deadline=None)
def test_causal_steps_do_not_look_ahead(name: str, values: Values, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, values.shape[1] - 1))
    other = values.copy()
    other[:, at + 1 :] = np.random.default_rng(0).normal(0, 1e3, other[:, at + 1 :].shape)
    assert np.array_equal(CAUSAL[name](values)[:, : at + 1], CAUSAL[name](other)[:, : at + 1], equal_nan=True)


@pytest.mark.parametrize("name", ["moving_average", "exponential_filter", "median_filter", "hampel", "centred_average"])
@given(values=windows)
@settings(max_examples=30, deadline=None)
def test_filters_neither_fill_nor_lose_values(name: str, values: Values) -> None:
    assert np.array_equal(np.isnan(ALL[name](values)), np.isnan(values))


def one(values: list[float | None]) -> Values:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)[None, :, None]


@given(st.lists(st.one_of(st.none(), st.floats(-100, 100, width=16)), min_size=1, max_size=15))
@settings(max_examples=100, deadline=None)
def test_linear_interpolation_equals_numpy(values: list[float | None]) -> None:
    known = [i for i, v in enumerate(values) if v is not None]
    found = series.interpolate(one(values))[0, :, 0]
    if not known:
        assert np.isnan(found).all()
        return
    expected = np.interp(np.arange(len(values)), known, [values[i] for i in known])  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    inner = series.interpolate(one(values), edges="leave")[0, :, 0]
    assert np.isnan(inner[: known[0]]).all()
    assert np.isnan(inner[known[-1] + 1 :]).all()


def test_a_gap_longer_than_the_limit_is_left_whole() -> None:
    values = one([1, None, 3, None, None, 6, None])
    np.testing.assert_array_equal(series.interpolate(values, limit=1)[0, :, 0], [1, 2, 3, np.nan, np.nan, 6, 6])
    np.testing.assert_array_equal(series.interpolate(values, limit=2)[0, :, 0], [1, 2, 3, 4, 5, 6, 6])
    np.testing.assert_array_equal(series.forward_fill(values, limit=1)[0, :, 0], [1, 1, 3, 3, np.nan, 6, 6])
    nearest = series.interpolate(one([1, None, None, None, 9]), method="nearest")
    np.testing.assert_array_equal(nearest[0, :, 0], [1, 1, 1, 9, 9])


def test_curves_equal_scipy() -> None:
    rng = np.random.default_rng(1)
    x = np.cumsum(rng.normal(size=20))
    gaps = x.copy()
    gaps[[3, 4, 9, 15, 16, 17]] = np.nan
    known = ~np.isnan(gaps)
    expected = PchipInterpolator(np.flatnonzero(known), gaps[known])(np.arange(20))
    found = series.interpolate(gaps[None, :, None], method="pchip")[0, :, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    cubic = np.arange(8.0) ** 3
    with_gap = cubic.copy()
    with_gap[[2, 5]] = np.nan
    np.testing.assert_allclose(series.interpolate(with_gap[None, :, None], method="spline")[0, :, 0], cubic, atol=1e-9)


@given(st.lists(st.one_of(st.none(), st.floats(-100, 100, width=16)), min_size=1, max_size=20), st.floats(0.01, 1))
@settings(max_examples=80, deadline=None)
def test_exponential_filter_follows_its_recurrence(values: list[float | None], alpha: float) -> None:
    state: float | None = None
    expected = []
    for value in values:
        if value is not None:
            state = value if state is None else alpha * value + (1 - alpha) * state
        expected.append(np.nan if value is None else state)
    found = series.exponential_filter(one(values), alpha)[0, :, 0]
    np.testing.assert_allclose(found, np.array(expected, dtype=np.float64), rtol=1e-9, atol=1e-9)
    reference = pl.Series(values, dtype=pl.Float64).ewm_mean(alpha=alpha, adjust=False, ignore_nulls=True)
    kept = [v is not None for v in values]
    np.testing.assert_allclose(found[kept], reference.to_numpy()[kept], rtol=1e-9, atol=1e-9)


@given(st.lists(st.one_of(st.none(), st.floats(-100, 100, width=16)), min_size=1, max_size=15), st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_moving_average_and_median_equal_polars(values: list[float | None], width: int) -> None:
    column = pl.Series(values, dtype=pl.Float64)
    kept = column.is_not_null().to_numpy()
    mean = column.rolling_mean(width, min_samples=1).to_numpy()
    median = column.rolling_median(width, min_samples=1).to_numpy()
    np.testing.assert_allclose(series.moving_average(one(values), width)[0, kept, 0], mean[kept], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(series.median_filter(one(values), width)[0, kept, 0], median[kept], rtol=1e-12)


def test_centred_median_and_savitzky_golay_equal_scipy() -> None:
    values = np.random.default_rng(2).normal(size=(3, 40, 2))
    for n in range(3):
        for f in range(2):
            found = series.median_filter(values, 5, causal=False)[n, 2:-2, f]
            np.testing.assert_array_equal(found, signal.medfilt(values[n, :, f], 5)[2:-2])
            smooth = signal.savgol_filter(values[n, :, f], 7, 2)
            np.testing.assert_allclose(series.savitzky_golay(values)[n, :, f], smooth, rtol=1e-10)
    parabola = (np.arange(20.0) ** 2)[None, :, None]
    parabola[0, 8] = np.nan
    smooth = series.savitzky_golay(parabola)
    assert np.isnan(smooth[0, 8, 0])
    assert np.isfinite(np.delete(smooth, 8, axis=1)).all()


def test_hampel_takes_out_the_spike_and_nothing_else() -> None:
    clean = np.sin(np.arange(40) / 3)
    spiked = clean.copy()
    spiked[[15, 30]] += [8, -6]
    found = series.hampel(spiked[None, :, None], width=7, k=3, causal=False)[0, :, 0]
    changed = np.flatnonzero(found != spiked)
    assert {15, 30} <= set(changed.tolist())
    np.testing.assert_allclose(found, clean, atol=0.5)
    expected = spiked.copy()
    for i in range(3, 37):
        around = spiked[i - 3 : i + 4]
        median = np.median(around)
        if abs(spiked[i] - median) > 3 * 1.4826 * np.median(np.abs(around - median)):
            expected[i] = median
    np.testing.assert_array_equal(found[3:37], expected[3:37])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (partial(series.exponential_filter, alpha=0.0), "exponential_filter.alpha: read 0.0"),
        (partial(series.moving_average, width=0), "moving_average.width: read 0"),
        (partial(series.moving_average, width=4, causal=False), "an odd number"),
        (partial(series.savitzky_golay, width=31), "at most the window's 12 steps"),
        (partial(series.savitzky_golay, width=6), "an odd width"),
        (partial(series.interpolate, limit=0), "interpolate.limit"),
        (partial(series.hampel, k=-1.0), "hampel.k"),
    ],
)
def test_options_out_of_range(call: Callable[[Values], Values], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        call(np.zeros((1, 12, 1)))
