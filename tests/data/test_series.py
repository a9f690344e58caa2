"""Steps inside a window, held against SciPy and pandas-like references written out, and blind to the future."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage, signal
from scipy.interpolate import PchipInterpolator

from groundup.core.errors import MissingExtraError, RecipeError
from groundup.data import series
from groundup.data.series.ahead import looks_ahead

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
    "savitzky_golay": partial(series.savitzky_golay, width=5),
    "butterworth": partial(series.butterworth, cutoff=0.3),
    "gaussian_filter": partial(series.gaussian_filter, sigma=1.0),
    "wiener": partial(series.wiener, width=4),
    "wiener_of_known_noise": partial(series.wiener, width=4, noise=2.0),
    "kalman": partial(series.kalman, ratio=0.1),
    "wavelet_shrinkage": partial(series.wavelet_shrinkage, wavelet="haar", width=8),
}
OTHERS: dict[str, Callable[..., Values]] = {
    "interpolate": series.interpolate,
    "nearest": partial(series.interpolate, method="nearest", limit=2),
    "pchip": partial(series.interpolate, method="pchip"),
    "spline": partial(series.interpolate, method="spline", edges="leave"),
    "centred_average": partial(series.moving_average, width=3, causal=False),
    "centred_median": partial(series.median_filter, width=5, causal=False),
    "centred_hampel": partial(series.hampel, width=3, causal=False),
    "backward_fill": partial(series.backward_fill, limit=2),
    "time": partial(series.interpolate, method="time"),
    "centred_exponential": partial(series.exponential_filter, alpha=0.3, causal=False),
    "centred_butterworth": partial(series.butterworth, cutoff=0.3, causal=False),
    "centred_gaussian": partial(series.gaussian_filter, sigma=1.0, causal=False),
    "centred_wiener": partial(series.wiener, width=3, causal=False),
    "centred_kalman": partial(series.kalman, ratio=0.1, causal=False),
    "centred_wavelets": partial(series.wavelet_shrinkage, wavelet="haar", causal=False),
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


def test_each_step_declares_whether_it_looks_ahead() -> None:
    assert {name: looks_ahead(step) for name, step in ALL.items()} == {
        **dict.fromkeys(CAUSAL, False),
        **dict.fromkeys(OTHERS, True),
    }
    assert looks_ahead(np.sort) is None
    for name in series.__all__:
        assert looks_ahead(getattr(series, name)) is not None


FILLS = {"forward_fill", "backward_fill", "fill_constant", "interpolate", "nearest", "pchip", "spline", "time"}


@pytest.mark.parametrize("name", sorted(set(ALL) - FILLS))
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


@pytest.mark.parametrize("width", [*range(1, 20), 33])
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_medians_of_any_width_equal_numpy(width: int, share: float) -> None:
    """Up to 16 values are sorted by a network; each width has one of its own."""
    rng = np.random.default_rng(width)
    values = np.where(rng.random((2, 150, 3)) < share, np.nan, rng.integers(0, 9, (2, 150, 3)).astype(np.float64))
    found = series.median_filter(values, width)
    for t in range(150):
        known = ~np.isnan(values[:, t])
        expected = np.nanmedian(np.where(known[:, None], values[:, max(0, t - width + 1) : t + 1], 0.0), axis=1)
        np.testing.assert_array_equal(found[:, t], np.where(known, expected, np.nan))


def test_centred_median_and_savitzky_golay_equal_scipy() -> None:
    values = np.random.default_rng(2).normal(size=(3, 40, 2))
    for n in range(3):
        for f in range(2):
            found = series.median_filter(values, 5, causal=False)[n, 2:-2, f]
            np.testing.assert_array_equal(found, signal.medfilt(values[n, :, f], 5)[2:-2])
            smooth = signal.savgol_filter(values[n, :, f], 7, 2)
            np.testing.assert_allclose(series.savitzky_golay(values, causal=False)[n, :, f], smooth, rtol=1e-10)
    parabola = (np.arange(20.0) ** 2)[None, :, None]
    parabola[0, 8] = np.nan
    smooth = series.savitzky_golay(parabola, causal=False)
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
        (partial(series.savitzky_golay, width=31, causal=False), "at most the series' 12 steps"),
        (partial(series.savitzky_golay, width=6), "an odd width"),
        (partial(series.interpolate, limit=0), "interpolate.limit"),
        (partial(series.hampel, k=-1.0), "hampel.k"),
        (partial(series.gaussian_filter, sigma=0.0), "gaussian_filter.sigma"),
        (partial(series.butterworth, cutoff=1.5), "butterworth.cutoff: read 1.5"),
        (partial(series.kalman, ratio=0.0), "kalman.ratio"),
        (partial(series.wiener, width=3, noise=-1.0), "wiener.noise"),
        (partial(series.wavelet_shrinkage, wavelet="dragon"), "wavelet_shrinkage.wavelet: read 'dragon'"),
    ],
)
def test_options_out_of_range(call: Callable[[Values], Values], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        call(np.zeros((1, 12, 1)))


# ------------------------------------------------------------------------------- filters held against references


@pytest.fixture
def noisy() -> Values:
    rng = np.random.default_rng(3)
    return np.cumsum(rng.normal(size=(2, 90, 2)), axis=1) + rng.normal(size=(2, 90, 2))


def test_causal_savitzky_golay_is_the_end_of_a_fitted_polynomial(noisy: Values) -> None:
    found = series.savitzky_golay(noisy, width=9, degree=3)
    for t in range(90):
        last = noisy[1, max(0, t - 8) : t + 1, 1]
        fit = np.polyfit(np.arange(len(last)), last, min(3, len(last) - 1))
        assert found[1, t, 1] == pytest.approx(np.polyval(fit, len(last) - 1), rel=1e-8)
    weights = signal.savgol_coeffs(9, 3, pos=8, use="dot")
    assert found[0, 50, 0] == pytest.approx(float(weights @ noisy[0, 42:51, 0]), rel=1e-10)


def test_gaussian_and_wiener_equal_scipy_inside(noisy: Values) -> None:
    smooth = ndimage.gaussian_filter1d(noisy, 1.5, axis=1)
    found = series.gaussian_filter(noisy, 1.5, causal=False)
    np.testing.assert_allclose(found[:, 6:-6], smooth[:, 6:-6], rtol=1e-10, atol=1e-10)
    weights = np.exp(-0.5 * (np.arange(6, -1, -1) / 1.5) ** 2)
    one_sided = (noisy[0, 20:27, 0] * weights).sum() / weights.sum()
    assert series.gaussian_filter(noisy, 1.5)[0, 26, 0] == pytest.approx(one_sided, rel=1e-12)
    with_gap = noisy.copy()
    with_gap[0, 25, 0] = np.nan
    kept = np.arange(20, 27) != 25
    one_sided = (noisy[0, 20:27, 0] * weights)[kept].sum() / weights[kept].sum()
    assert series.gaussian_filter(with_gap, 1.5)[0, 26, 0] == pytest.approx(one_sided, rel=1e-12)
    for n in range(2):
        expected = signal.wiener(noisy[n, :, 0], 5, noise=0.8)
        found = series.wiener(noisy, 5, noise=0.8, causal=False)[n, :, 0]
        np.testing.assert_allclose(found[2:-2], expected[2:-2], rtol=1e-9, atol=1e-9)


def test_wiener_measures_the_noise_of_the_series_so_far(noisy: Values) -> None:
    column = noisy[0, :, 0]
    around = [column[max(0, t - 4) : t + 1] for t in range(90)]
    variances = [float(np.var(a)) for a in around]
    expected = []
    for t in range(90):
        noise, mean = np.mean(variances[: t + 1]), around[t].mean()
        expected.append(mean + max(variances[t] - noise, 0) / max(variances[t], 1e-30) * (column[t] - mean))
    np.testing.assert_allclose(series.wiener(noisy, 5)[0, :, 0], expected, rtol=1e-9, atol=1e-9)


def test_butterworth_equals_scipy_and_lets_through_what_it_says() -> None:
    time = np.arange(4000)
    slow, fast = np.sin(np.pi * 0.02 * time), np.sin(np.pi * 0.6 * time)
    at_cutoff = np.sin(np.pi * 0.2 * time)
    given = np.stack([slow, fast, at_cutoff], axis=-1)[None]
    sections = signal.butter(3, 0.2, output="sos")
    found = series.butterworth(given, cutoff=0.2, order=3)
    for f in range(3):
        expected, _ = signal.sosfilt(sections, given[0, :, f], zi=signal.sosfilt_zi(sections) * given[0, 0, f])
        np.testing.assert_allclose(found[0, :, f], expected, rtol=1e-9, atol=1e-12)
    energy = (found[0, 500:] ** 2).mean(axis=0) * 2
    assert energy[0] == pytest.approx(1, abs=0.01)
    assert energy[1] < 1e-3
    assert energy[2] == pytest.approx(0.5, abs=0.01), "half the power passes at the cutoff"
    both_ways = series.butterworth(given, cutoff=0.2, order=3, causal=False)
    np.testing.assert_allclose(both_ways[0, :, 0], signal.sosfiltfilt(sections, slow), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(both_ways[0, 500:-500, 0], slow[500:-500], atol=1e-3)


@pytest.mark.parametrize("ratio", [0.02, 0.5, 3.0])
def test_kalman_equals_least_squares(noisy: Values, ratio: float) -> None:
    """The level is what minimises sum (x - level)^2 + sum (step of level)^2 / ratio over what is known."""
    column = noisy[0, :30, 0].copy()
    column[[0, 1, 7, 8, 20]] = np.nan

    def level(values: Values) -> Values:
        known = np.flatnonzero(~np.isnan(values))
        rows = np.eye(len(values))[known]
        steps = np.diff(np.eye(len(values)), axis=0) / np.sqrt(ratio)
        right = np.concatenate([values[known], np.zeros(len(steps))])
        return np.linalg.lstsq(np.concatenate([rows, steps]), right)[0]

    kept = ~np.isnan(column)
    causal = series.kalman(column[None, :, None], ratio)[0, :, 0]
    expected = np.array([level(column[: t + 1])[-1] if kept[t] else np.nan for t in range(30)])
    np.testing.assert_allclose(causal, expected, rtol=1e-8)
    smooth = series.kalman(column[None, :, None], ratio, causal=False)[0, :, 0]
    np.testing.assert_allclose(smooth[kept], level(column)[kept], rtol=1e-8)


def test_centred_exponential_is_both_ways(noisy: Values) -> None:
    def forward(column: Values) -> Values:
        return pl.Series(column).ewm_mean(alpha=0.3, adjust=False).to_numpy()

    found = series.exponential_filter(noisy, 0.3, causal=False)[0, :, 0]
    np.testing.assert_allclose(found, forward(forward(noisy[0, :, 0])[::-1])[::-1], rtol=1e-9)


def test_wavelet_shrinkage_as_written_out_with_pywavelets(noisy: Values) -> None:
    pywt = pytest.importorskip("pywt")

    def shrunk(column: Values, mode: str) -> Values:
        coarse, *details = pywt.wavedec(column, "db4", level=3)
        threshold = np.median(np.abs(details[-1])) / 0.6745 * np.sqrt(2 * np.log(len(column)))
        kept = [pywt.threshold(d, threshold, mode) for d in details]
        return pywt.waverec([coarse, *kept], "db4")[: len(column)]

    for mode in ("soft", "hard"):
        found = series.wavelet_shrinkage(noisy, "db4", mode, level=3, causal=False)  # type: ignore[arg-type]
        np.testing.assert_allclose(found[1, :, 0], shrunk(noisy[1, :, 0], mode), rtol=1e-9, atol=1e-9)
    causal = series.wavelet_shrinkage(noisy, "db4", level=3, width=64)
    for t in (63, 70, 89):
        assert causal[1, t, 0] == pytest.approx(shrunk(noisy[1, t - 63 : t + 1, 0], "soft")[-1])


def test_wavelets_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(MissingExtraError, match=r"groundup\[wavelets\]"):
        series.wavelet_shrinkage(np.zeros((1, 8, 1)))


CLEANERS: dict[str, Callable[..., Values]] = {
    "moving_average": partial(series.moving_average, width=15, causal=False),
    "savitzky_golay": partial(series.savitzky_golay, width=31, causal=False),
    "butterworth": partial(series.butterworth, cutoff=0.06, causal=False),
    "gaussian_filter": partial(series.gaussian_filter, sigma=5.0, causal=False),
    "kalman": partial(series.kalman, ratio=0.02, causal=False),
    "wavelet_shrinkage": partial(series.wavelet_shrinkage, causal=False),
    "exponential_filter": partial(series.exponential_filter, alpha=0.2, causal=False),
    "wiener": partial(series.wiener, width=25, causal=False),
    "median_filter": partial(series.median_filter, width=15, causal=False),
}


@pytest.mark.parametrize("name", CLEANERS)
def test_noise_goes(name: str) -> None:
    """On a sine with noise of half its size each filter at least halves the mean squared error."""
    clean = np.sin(np.arange(1000) / 30)
    noisy = clean + np.random.default_rng(5).normal(0, 0.5, 1000)
    found = CLEANERS[name](noisy[None, :, None])[0, :, 0]
    assert ((found - clean) ** 2).mean() < 0.5 * ((noisy - clean) ** 2).mean()


@given(values=windows, seed=st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_pchip_of_all_series_at_once_equals_scipy_one_by_one(values: Values, seed: int) -> None:
    steps = np.random.default_rng(seed).integers(1, 5, size=values.shape[:2])
    times = 1.7e9 + np.cumsum(steps, axis=1).astype(np.float64)
    found = series.interpolate(values, method="pchip", edges="leave", times=times)
    for n in range(values.shape[0]):
        for f in range(values.shape[2]):
            known = np.flatnonzero(~np.isnan(values[n, :, f]))
            expected = values[n, :, f].copy()
            if len(known) > 1:
                curve = PchipInterpolator(times[n, known] - times[n, 0], values[n, known, f])
                gaps = [t for t in range(known[0], known[-1]) if t not in known]
                expected[gaps] = curve(times[n, gaps] - times[n, 0])
            np.testing.assert_allclose(found[n, :, f], expected, rtol=1e-9, atol=1e-9)


def test_interpolation_by_time() -> None:
    values = one([0.0, None, None, 9.0])
    times = np.array([[0.0, 1.0, 8.0, 9.0]])
    found = series.interpolate(values, method="time", times=times)[0, :, 0]
    np.testing.assert_allclose(found, [0, 1, 8, 9])
    bent = one([0.0, 1.0, None, 64.0, 100.0])
    times = np.array([[0.0, 1.0, 5.0, 8.0, 10.0]])
    for method in ("pchip", "spline"):
        found = series.interpolate(bent, method=method, times=times)[0, :, 0]  # type: ignore[arg-type]
        assert abs(found[2] - 25) < 3, "the curve runs over time, where the values are its square"
    exact = series.interpolate(bent, method="spline", times=times)[0, 2, 0]
    assert exact == pytest.approx(25.0, rel=1e-9)


@given(values=windows)
@settings(max_examples=30, deadline=None)
def test_blocks_of_time_give_the_same_bits(values: Values) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole = [ALL[name](values) for name in ("median_filter", "wiener", "centred_hampel", "wavelet_shrinkage")]
        patch.setattr("groundup.data.series.windowed.MOST_AT_ONCE", 7)
        patch.setattr("groundup.data.series.wavelets.MOST_AT_ONCE", 7)
        parts = [ALL[name](values) for name in ("median_filter", "wiener", "centred_hampel", "wavelet_shrinkage")]
    for one_, other in zip(whole, parts, strict=True):
        assert np.array_equal(one_, other, equal_nan=True)


@pytest.mark.parametrize("width", [5, 33, 200])
def test_a_series_has_the_same_bits_alone_and_among_others(width: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 79, 3)) * 1e-3
    values[rng.random(values.shape) < 0.1] = np.nan
    for step in (
        partial(series.moving_average, width=width),
        partial(series.wiener, width=width),
        partial(series.wiener, width=width + 1 - width % 2, causal=False),
        partial(series.gaussian_filter, sigma=width / 4),
    ):
        whole = step(values)
        for n in range(5):
            for f in range(3):
                alone = step(values[n : n + 1, :, f : f + 1])[0, :, 0]
                assert np.array_equal(alone, whole[n, :, f], equal_nan=True)
