"""Filters that look at the steps around each step: averages, medians, fitted polynomials, outliers."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from groundup.data.series.ahead import declares, need, within
from groundup.data.series.gaps import bridged

Values = npt.NDArray[np.float64]

GAUSSIAN = 1.4826
"""Median absolute deviation times this is the standard deviation of a normal distribution."""

WIDEST_NETWORK = 16
"""Values that are sorted by a network of comparisons; its work grows faster than the number of values."""

MOST_AT_ONCE = 100000
"""Neighbours of all steps that are looked at in one go; beyond it a long series is taken in blocks of time."""


@declares("unless causal", lambda options: within(options["width"], options["causal"]))
def moving_average(values: Values, width: int, causal: bool = True) -> Values:
    """Mean of the values that are known among the last ``width`` steps (centred: around each step).

    At the ends of the series there are fewer of them. A centred ``width`` is odd.
    """
    mean = _over_neighbourhoods(values, width, causal, "moving_average", _mean)
    return np.where(np.isnan(values), np.nan, mean)


@declares("unless causal", lambda options: within(options["width"], options["causal"]))
def median_filter(values: Values, width: int, causal: bool = True) -> Values:
    """Median of the values that are known among the last ``width`` steps (centred: around each step, ``width`` odd)."""
    median = _over_neighbourhoods(values, width, causal, "median_filter", _median)
    return np.where(np.isnan(values), np.nan, median)


@declares(
    "unless causal", lambda options: (_reach(options["sigma"]), 0 if options["causal"] else _reach(options["sigma"]))
)
def gaussian_filter(values: Values, sigma: float, causal: bool = True) -> Values:
    """Mean of the known values around each step, weighted by exp(-d^2 / (2 sigma^2)), d steps away, up to 4 sigma.

    Causal: of the last steps alone, by the same weights. ``sigma`` is in steps.
    """
    need(sigma > 0, "gaussian_filter.sigma", sigma, "more than 0")
    reach = _reach(sigma)
    steps = values.shape[1]
    missing = np.isnan(values)
    known = np.where(missing, 0.0, values)
    total, weight = np.zeros_like(values), np.zeros_like(values)
    for away in range(max(-reach, 1 - steps), (0 if causal else min(reach, steps - 1)) + 1):
        here, there = slice(max(0, -away), min(steps, steps - away)), slice(max(0, away), min(steps, steps + away))
        share = np.exp(-0.5 * (away / sigma) ** 2)
        total[:, here] += share * known[:, there]
        weight[:, here] += share * ~missing[:, there]
    return np.where(missing, np.nan, total / np.where(missing, 1.0, weight))


@declares("unless causal")
def savitzky_golay(values: Values, width: int = 7, degree: int = 2, causal: bool = True) -> Values:
    """The value at each step of the polynomial that fits best (least squares) the ``width`` steps up to or around it.

    Causal: of the last ``width`` steps, of which the first steps have fewer, for a lower degree. Centred: within half
    a ``width`` of the series' ends the polynomial of the outermost steps is used. Gaps are bridged by lines for the
    fit and stay missing. Savitzky and Golay, Analytical Chemistry 36, 1964.
    """
    need(width % 2 == 1 and width > degree >= 0, "savitzky_golay", (width, degree), "an odd width above the degree")
    if causal:
        smooth = _end_of_fit(bridged(values), width, degree)
    else:
        from scipy.signal import savgol_filter  # type: ignore[import-untyped]  # 0.7 s to import

        steps = values.shape[1]
        need(width <= steps, "savitzky_golay.width", width, f"at most the series' {steps} steps")
        smooth = savgol_filter(bridged(values), width, degree, axis=1, mode="interp")
    return np.where(np.isnan(values), np.nan, smooth)


@declares(
    "unless causal",
    lambda options: None if options["noise"] is None else within(options["width"], options["causal"]),
)
def wiener(values: Values, width: int, noise: float | None = None, causal: bool = True) -> Values:
    """m + (v - noise) / v (x - m) where v > noise, else m: m and v are mean and variance of the ``width`` steps.

    The neighbourhood is the known of the last ``width`` steps (centred: around the step, ``width`` odd). Without
    ``noise``, the variance of the noise, it is the mean of v over the series (causal: over the series so far).
    Lim, Two-Dimensional Signal and Image Processing, 1990, p. 548.
    """
    need(noise is None or noise >= 0, "wiener.noise", noise, "at least 0")
    mean = _over_neighbourhoods(values, width, causal, "wiener", _mean)
    variance = _over_neighbourhoods(values, width, causal, "wiener", _variance)
    missing = np.isnan(values)
    level: Values | float
    if noise is not None:
        level = noise
    else:
        # Added up step by step: the order of a sum depends on how many series lie side by side.
        so_far = np.cumsum(np.where(missing, 0.0, variance), axis=1) / np.maximum(np.cumsum(~missing, axis=1), 1)
        level = so_far if causal else so_far[:, -1:]
    lively = variance > level
    share = np.where(lively, (variance - level) / np.where(lively, variance, 1.0), 0.0)
    return np.where(missing, np.nan, mean + share * (values - mean))


@declares("unless causal", lambda options: within(options["width"], options["causal"]))
def hampel(values: Values, width: int = 7, k: float = 3.0, causal: bool = True) -> Values:
    """Replace a value by the median of its neighbourhood where |x - median| > k 1.4826 MAD.

    The neighbourhood is the last ``width`` steps (centred: around the step, ``width`` odd), the value itself included;
    MAD is its median |x - median|. Where more than half of it is equal, MAD is 0 and any other value is an
    outlier: for series that stand still and then step, choose a short ``width`` or another filter. Hampel, J. Amer.
    Stat. Assoc. 69, 1974; Pearson, IEEE Trans. Control Systems Technology 10, 2002.
    """
    need(k >= 0, "hampel.k", k, "at least 0")
    median = local_median(values, width, causal)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values - median) > k * local_spread(values, width, causal), median, values)


def local_median(values: Values, width: int, causal: bool) -> Values:
    """Median of the known values of each step's neighbourhood, at missing steps too."""
    return _over_neighbourhoods(values, width, causal, "hampel", _median)


def local_spread(values: Values, width: int, causal: bool) -> Values:
    """1.4826 MAD of each step's neighbourhood."""
    return GAUSSIAN * _over_neighbourhoods(values, width, causal, "hampel", _spread)


def _reach(sigma: float) -> int:
    """Steps away at which a Gaussian's weight is taken for 0, as in SciPy."""
    return int(4 * sigma + 0.5)


def _over_neighbourhoods(
    values: Values, width: int, causal: bool, by: str, measure: Callable[[Values], Values]
) -> Values:
    """``measure`` of the steps that a filter sees at each step: [..., width] -> [...], NaN beyond the series' ends."""
    need(width >= 1, f"{by}.width", width, "at least 1")
    need(causal or width % 2 == 1, f"{by}.width", width, "an odd number where causal = false")
    left = width - 1 if causal else width // 2
    padded = np.pad(values, ((0, 0), (left, width - 1 - left), (0, 0)), constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)
    found = np.empty_like(values)
    steps = max(1, MOST_AT_ONCE // max(1, values.shape[0] * values.shape[2] * width))
    for start in range(0, values.shape[1], steps):
        found[:, start : start + steps] = measure(around[:, start : start + steps])
    return found


def _mean(around: Values) -> Values:
    """Mean over the last axis of the values that are known; 0 where none is."""
    known = ~np.isnan(around)
    # Laid out anew: the order in which numpy adds follows the layout, and that of a view the number of series.
    total = np.ascontiguousarray(np.where(known, around, 0.0)).sum(axis=-1)
    mean: Values = total / np.maximum(known.sum(axis=-1), 1)
    return mean


def _variance(around: Values) -> Values:
    """Population variance over the last axis of the values that are known; 0 where none is."""
    squares = (around - _mean(around)[..., None]) ** 2
    return _mean(squares)


def _median(around: Values) -> Values:
    """Median over the last axis of the values that are known; NaN where none is."""
    width = around.shape[-1]
    ordered = np.array(np.moveaxis(around, -1, 0), order="C")
    missing = np.isnan(ordered)
    if width > WIDEST_NETWORK:
        ordered = np.moveaxis(np.sort(around, axis=-1), -1, 0)  # NaN goes last
    else:
        np.copyto(ordered, np.inf, where=missing)
        _put_in_order(ordered)
    median: Values = (ordered[(width - 1) // 2] + ordered[width // 2]) / 2
    fewer = np.flatnonzero(missing.any(axis=0))
    count = width - missing.reshape(width, -1)[:, fewer].sum(axis=0)
    ranked = ordered.reshape(width, -1)
    low, high = ranked[np.maximum(count - 1, 0) // 2, fewer], ranked[np.minimum(count // 2, width - 1), fewer]
    np.put(median, fewer, np.where(count > 0, (low + high) / 2, np.nan))
    return median


def _put_in_order(values: Values) -> None:
    """Sort [W, ...] along its first axis, in place, by a network that takes all neighbourhoods at once.

    For a few values numpy does that many times faster than sorts of a few each. Batcher's odd-even merge sort: Knuth,
    The Art of Computer Programming 3, 5.2.2, algorithm M.
    """
    smaller = np.empty(values.shape[1:])
    for i, j in _comparators(len(values)):
        np.minimum(values[i], values[j], out=smaller)
        np.maximum(values[i], values[j], out=values[j])
        values[i] = smaller


@functools.cache
def _comparators(width: int) -> tuple[tuple[int, int], ...]:
    """Pairs of places whose values are put in order one after another, by which any ``width`` values get sorted."""
    found = []
    top = 1 << max(0, (width - 1).bit_length() - 1)
    p = top
    while p:
        q, r, d = top, 0, p
        while d:
            found += [(i, i + d) for i in range(width - d) if i & p == r]
            q, r, d = q // 2, p, q - p
        p //= 2
    return tuple(found)


def _spread(around: Values) -> Values:
    """Median distance from the median over the last axis."""
    return _median(np.abs(around - _median(around)[..., None]))


def _end_of_fit(values: Values, width: int, degree: int) -> Values:
    """At each step the last point of the polynomial that fits the last ``width`` steps, or as many as there are."""
    smooth = np.empty_like(values)
    for count in range(1, min(width, values.shape[1] + 1)):
        smooth[:, count - 1] = 0.0
        for k, weight in enumerate(_weights_of_end(count, degree).tolist()):
            smooth[:, count - 1] += weight * values[:, k]
    if width <= values.shape[1]:
        smooth[:, width - 1 :] = 0.0
        for k, weight in enumerate(_weights_of_end(width, degree).tolist()):
            smooth[:, width - 1 :] += weight * values[:, k : values.shape[1] - width + 1 + k]
    return smooth


def _weights_of_end(count: int, degree: int) -> Values:
    """How each of ``count`` steps counts for the last point of the polynomial that fits them best."""
    powers = np.arange(1 - count, 1)[:, None] ** np.arange(min(degree, count - 1) + 1)
    weights: Values = np.linalg.pinv(powers.astype(np.float64))[0]
    return weights
