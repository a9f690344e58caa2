"""Steps inside one window of a series: gaps, noise and outliers, seen from the forecast origin back.

Each is a function of ``values`` [N, T, F] float64 with NaN where a value is missing (N windows, T steps of time, F
features; every series [n, :, f] on its own) and gives the same shape. A window ends at its forecast origin, so nothing
here can look beyond it; ``causal`` steps do not even look ahead within the window. A filter never invents a value:
what was missing stays missing, and filling is a step of its own.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline, PchipInterpolator  # type: ignore[import-untyped]
from scipy.signal import lfilter, savgol_filter  # type: ignore[import-untyped]

from groundup.core.errors import RecipeError

__all__ = [
    "exponential_filter",
    "fill_constant",
    "forward_fill",
    "hampel",
    "interpolate",
    "median_filter",
    "moving_average",
    "savitzky_golay",
]

Values = npt.NDArray[np.float64]

GAUSSIAN = 1.4826
"""Median absolute deviation times this is the standard deviation of a normal distribution."""


def interpolate(
    values: Values,
    method: Literal["linear", "nearest", "pchip", "spline"] = "linear",
    limit: int | None = None,
    edges: Literal["hold", "leave"] = "hold",
) -> Values:
    """Fill gaps between known values; a gap longer than ``limit`` steps is left whole.

    ``linear`` draws a line, ``nearest`` takes the closer value (the earlier of two), ``pchip`` a curve that
    does not overshoot (Fritsch and Carlson, SIAM J. Numer. Anal. 17, 1980), ``spline`` a cubic one (not-a-knot). A gap
    at the window's end or beginning has one known side: ``hold`` repeats its value, ``leave`` leaves it.
    """
    _need(limit is None or limit >= 1, "interpolate.limit", limit, "at least 1")
    before, after = _known_neighbours(values)
    steps = values.shape[1]
    gap = after - before - 1
    missing = np.isnan(values)
    fillable = missing & ((gap <= limit) if limit is not None else True)
    inside = (before >= 0) & (after < steps)
    time = np.arange(steps)[None, :, None]
    left = np.take_along_axis(values, np.maximum(before, 0), axis=1)
    right = np.take_along_axis(values, np.minimum(after, steps - 1), axis=1)
    if method == "nearest":
        between = np.where(time - before <= after - time, left, right)
    else:
        between = left + (right - left) * ((time - before) / np.maximum(after - before, 1))
    filled = np.where(fillable & inside, between, values)
    if method in ("pchip", "spline"):
        _fill_curves(values, filled, fillable & inside, method)
    if edges == "hold":
        filled = np.where(fillable & ~inside & (before >= 0), left, filled)
        filled = np.where(fillable & ~inside & (before < 0) & (after < steps), right, filled)
    return filled


def forward_fill(values: Values, limit: int | None = None) -> Values:
    """Repeat the last known value over a gap, at most ``limit`` times; what comes before the first stays missing."""
    _need(limit is None or limit >= 1, "forward_fill.limit", limit, "at least 1")
    before, _ = _known_neighbours(values)
    reach = np.arange(values.shape[1])[None, :, None] - before
    known = (before >= 0) & ((reach <= limit) if limit is not None else True)
    return np.where(known, np.take_along_axis(values, np.maximum(before, 0), axis=1), values)


def fill_constant(values: Values, value: float = 0.0) -> Values:
    """Put one value, in the column's own units, wherever one is missing."""
    return np.where(np.isnan(values), value, values)


def moving_average(values: Values, width: int, causal: bool = True) -> Values:
    """Mean of the values that are known among the last ``width`` steps (centred: around each step).

    At the ends of the window there are fewer of them. A centred ``width`` is odd.
    """
    around = _neighbourhood(values, width, causal, "moving_average")
    known = ~np.isnan(around)
    total = np.where(known, around, 0.0).sum(axis=-1)
    return np.where(np.isnan(values), np.nan, total / np.maximum(known.sum(axis=-1), 1))


def exponential_filter(values: Values, alpha: float) -> Values:
    """s[t] = alpha x[t] + (1 - alpha) s[t-1], from s = the first known value; causal.

    At a missing step s is kept and the output is missing. ``alpha`` lies in (0, 1]; 1 changes nothing.
    """
    _need(0 < alpha <= 1, "exponential_filter.alpha", alpha, "more than 0 and at most 1")
    # The known values of each series, moved together, are filtered in one go and put back in their places.
    missing = np.isnan(values)
    order = np.argsort(missing, axis=1, kind="stable")
    packed = np.take_along_axis(np.where(missing, 0.0, values), order, axis=1)
    start = packed[:, :1] * (1 - alpha)
    smooth, _ = lfilter([alpha], [1.0, alpha - 1.0], packed, axis=1, zi=start)
    result = np.empty_like(values)
    np.put_along_axis(result, order, smooth, axis=1)
    return np.where(missing, np.nan, result)


def median_filter(values: Values, width: int, causal: bool = True) -> Values:
    """Median of the values that are known among the last ``width`` steps (centred: around each step, ``width`` odd)."""
    median = _median(_neighbourhood(values, width, causal, "median_filter"))
    return np.where(np.isnan(values), np.nan, median)


def savitzky_golay(values: Values, width: int = 7, degree: int = 2) -> Values:
    """The value at each step of the polynomial that fits the ``width`` steps around it best (least squares).

    Within half a ``width`` of the window's ends the polynomial of the outermost steps is used. Gaps are bridged by
    lines for the fit and stay missing. Savitzky and Golay, Analytical Chemistry 36, 1964.
    """
    _need(width % 2 == 1 and width > degree >= 0, "savitzky_golay", (width, degree), "an odd width above the degree")
    _need(width <= values.shape[1], "savitzky_golay.width", width, f"at most the window's {values.shape[1]} steps")
    bridged = fill_constant(interpolate(values))
    smooth = savgol_filter(bridged, width, degree, axis=1, mode="interp")
    return np.where(np.isnan(values), np.nan, smooth)


def hampel(values: Values, width: int = 7, k: float = 3.0, causal: bool = True) -> Values:
    """Replace a value by the median of its neighbourhood where |x - median| > k 1.4826 MAD.

    The neighbourhood is the last ``width`` steps (centred: around the step, ``width`` odd), the value itself included;
    MAD is its median |x - median|. Where more than half of it is equal, MAD is 0 and any other value is an
    outlier: for series that stand still and then step, choose a short ``width`` or another filter. Hampel, J. Amer.
    Stat. Assoc. 69, 1974; Pearson, IEEE Trans. Control Systems Technology 10, 2002.
    """
    _need(k >= 0, "hampel.k", k, "at least 0")
    around = _neighbourhood(values, width, causal, "hampel")
    median = _median(around)
    spread = GAUSSIAN * _median(np.abs(around - median[..., None]))
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values - median) > k * spread, median, values)


def _known_neighbours(values: Values) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """For each step the nearest known one at or before it (-1: none), and at or after it (T: none)."""
    steps = values.shape[1]
    time = np.broadcast_to(np.arange(steps)[None, :, None], values.shape)
    missing = np.isnan(values)
    before = np.maximum.accumulate(np.where(missing, -1, time), axis=1)
    after = np.minimum.accumulate(np.where(missing, steps, time)[:, ::-1], axis=1)[:, ::-1]
    return before, after


def _fill_curves(values: Values, filled: Values, where: npt.NDArray[np.bool_], method: str) -> None:
    """Overwrite the lines in ``filled`` by curves, series by series, where there are known values enough for one."""
    time = np.arange(values.shape[1])
    for n, f in zip(*np.nonzero(where.any(axis=1)), strict=True):
        series, gaps = values[n, :, f], where[n, :, f]
        known = ~np.isnan(series)
        curve: Any = PchipInterpolator if method == "pchip" else CubicSpline
        filled[n, gaps, f] = curve(time[known], series[known])(time[gaps])


def _neighbourhood(values: Values, width: int, causal: bool, by: str) -> Values:
    """[N, T, F, width]: the steps that a filter sees at each step, NaN beyond the window's ends."""
    _need(width >= 1, f"{by}.width", width, "at least 1")
    _need(causal or width % 2 == 1, f"{by}.width", width, "an odd number where causal = false")
    left = width - 1 if causal else width // 2
    padded = np.pad(values, ((0, 0), (left, width - 1 - left), (0, 0)), constant_values=np.nan)
    return np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)


def _median(around: Values) -> Values:
    """Median over the last axis of the values that are known; NaN where none is."""
    ordered = np.sort(around, axis=-1)  # NaN goes last
    count = (~np.isnan(ordered)).sum(axis=-1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, np.minimum(count // 2, np.maximum(count - 1, 0)), axis=-1)
    median: Values = ((low + high) / 2)[..., 0]
    return median


def _need(holds: bool, name: str, read: Any, expected: str) -> None:
    if not holds:
        raise RecipeError(f"{name}: read {read}, expected {expected}.")
