"""Filters that carry a state from step to step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from groundup.data.series.ahead import declares, need
from groundup.data.series.gaps import bridged

Values = npt.NDArray[np.float64]


@declares("unless causal")
def exponential_filter(values: Values, alpha: float, causal: bool = True) -> Values:
    """s[t] = alpha x[t] + (1 - alpha) s[t-1], from s = the first known value.

    At a missing step s is kept and the output is missing. ``alpha`` lies in (0, 1]; 1 changes nothing. Centred:
    once forward and, over what that gave, once backward, so that nothing is delayed.
    """
    need(0 < alpha <= 1, "exponential_filter.alpha", alpha, "more than 0 and at most 1")
    smooth = _exponential(values, alpha)
    return smooth if causal else _exponential(smooth[:, ::-1], alpha)[:, ::-1]


def _exponential(values: Values, alpha: float) -> Values:
    from scipy.signal import lfilter  # type: ignore[import-untyped]  # 0.7 s to import

    # The known values of each series, moved together, are filtered in one go and put back in their places.
    missing = np.isnan(values)
    order = np.argsort(missing, axis=1, kind="stable")
    packed = np.take_along_axis(np.where(missing, 0.0, values), order, axis=1)
    start = packed[:, :1] * (1 - alpha)
    smooth, _ = lfilter([alpha], [1.0, alpha - 1.0], packed, axis=1, zi=start)
    result = np.empty_like(values)
    np.put_along_axis(result, order, smooth, axis=1)
    return np.where(missing, np.nan, result)


@declares("unless causal")
def butterworth(values: Values, cutoff: float, order: int = 2, causal: bool = True) -> Values:
    """Low-pass filter, |H(f)|^2 = 1 / (1 + tan(pi f / 2)^2n / tan(pi cutoff / 2)^2n), n the ``order``.

    ``cutoff`` and f are shares of half the sampling rate, 0 to 1: there half the power passes, and 1 / cutoff steps are
    half a period. Causal: one pass, delayed, begun as if the first value had always been there. Centred: forward and
    backward, without delay, |H|^4 in all. Gaps are bridged by lines and stay missing. Butterworth, Wireless Engineer
    7, 1930; second-order sections.
    """
    from scipy.signal import butter, sosfilt, sosfilt_zi, sosfiltfilt  # 0.7 s to import

    need(0 < cutoff < 1, "butterworth.cutoff", cutoff, "more than 0 and less than 1, a share of half the sampling rate")
    need(order >= 1, "butterworth.order", order, "at least 1")
    sections = butter(order, cutoff, output="sos")
    given = bridged(values)
    if causal:
        rest = sosfilt_zi(sections)[:, None, :, None] * given[None, :, :1]
        smooth, _ = sosfilt(sections, given, axis=1, zi=rest)
    else:
        first_order = min((sections[:, 2] == 0).sum(), (sections[:, 5] == 0).sum())
        usual = 3 * (2 * len(sections) + 1 - first_order)  # SciPy's own
        smooth = sosfiltfilt(sections, given, axis=1, padlen=min(usual, values.shape[1] - 1))
    return np.where(np.isnan(values), np.nan, smooth)


@declares("unless causal")
def kalman(values: Values, ratio: float, causal: bool = True) -> Values:
    """The level of x[t] = level[t] + noise, level[t] = level[t-1] + drift, as the values tell it.

    ``ratio`` is the drift's variance to the noise's: the smaller, the smoother. Causal: from the values up to t
    (Kalman, J. Basic Engineering 82, 1960), P the level's variance in units of the noise's:
    P' = P + ratio, level += P' / (P' + 1) (x - level), P = P' / (P' + 1), where x is missing only P' grows.
    Centred: from all values (Rauch, Tung, Striebel, AIAA Journal 3, 1965). The level begins at the first known
    value; missing steps stay missing.
    """
    need(0 < ratio < np.inf, "kalman.ratio", ratio, "more than 0")
    missing = np.isnan(values)
    level = np.zeros(values[:, 0].shape)
    variance = np.full(level.shape, np.inf)
    levels, variances = np.empty_like(values), np.empty_like(values)
    for t in range(values.shape[1]):
        predicted = variance + ratio
        # 1 / (1 + 1/P) is P / (P + 1), and 1 where nothing is known yet.
        gain = np.where(missing[:, t], 0.0, 1 / (1 + 1 / predicted))
        level = level + gain * (np.where(missing[:, t], 0.0, values[:, t]) - level)
        variance = np.where(missing[:, t], predicted, gain)
        levels[:, t], variances[:, t] = level, variance
    if not causal:
        for t in range(values.shape[1] - 2, -1, -1):
            # P / (P + ratio); where the level was not yet known it is what comes later.
            share = 1 / (1 + ratio / variances[:, t])
            levels[:, t] += share * (levels[:, t + 1] - levels[:, t])
    return np.where(missing, np.nan, levels)
