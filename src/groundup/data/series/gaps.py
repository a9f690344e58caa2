"""Missing values of a series, filled from its own known ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from groundup.data.series.ahead import declares, need

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@declares("always", lambda options: _near(options) if options["method"] not in ("pchip", "spline") else None)
def interpolate(
    values: Values,
    method: Literal["linear", "time", "nearest", "pchip", "spline"] = "linear",
    limit: int | None = None,
    edges: Literal["hold", "leave"] = "hold",
    times: Values | None = None,
) -> Values:
    """Fill gaps between known values; a gap longer than ``limit`` steps is left whole.

    ``linear`` draws a line over steps of equal length, ``time`` one over ``times``, ``nearest`` takes the closer value
    (the earlier of two), ``pchip`` a curve that does not overshoot (Fritsch and Carlson, SIAM J. Numer. Anal. 17,
    1980), ``spline`` a cubic one (not-a-knot); both run over ``times``. These [N, T], rising, are given where a table
    has a time column; else steps are equally far apart. A gap at the series' end or beginning has one known side:
    ``hold`` repeats its value, ``leave`` leaves it. It looks ahead: what fills a gap depends on the value behind it.
    """
    need(limit is None or limit >= 1, "interpolate.limit", limit, "at least 1")
    filled = values.copy()
    steps = values.shape[1]
    n, t, f, before, after = _gaps(values)
    fillable = (after - before - 1 <= limit) if limit is not None else np.ones(len(t), dtype=bool)
    between = fillable & (before >= 0) & (after < steps)
    here, start, end = ((n[between], time[between], f[between]) for time in (t, before, after))
    left, right = values[start], values[end]
    if method == "nearest":
        filled[here] = np.where(here[1] - start[1] <= end[1] - here[1], left, right)
    elif method == "pchip":
        filled[here] = _monotone(values, times)[here]
    else:
        by_clock = method == "time" and times is not None
        now, first, last = ((times[place[:2]] if by_clock else place[1]) for place in (here, start, end))  # type: ignore[index]
        filled[here] = left + (right - left) * ((now - first) / np.where(last > first, last - first, 1))
    if method == "spline":
        where = np.zeros(values.shape, dtype=bool)
        where[here] = True
        _fill_splines(values, filled, where, times)
    if edges == "hold":
        for one_sided, known in ((before >= 0) & (after == steps), before), ((before < 0) & (after < steps), after):
            edge = fillable & one_sided
            filled[n[edge], t[edge], f[edge]] = values[n[edge], known[edge], f[edge]]
    return filled


@declares("never", lambda options: None if options["limit"] is None else (options["limit"], 0))
def forward_fill(values: Values, limit: int | None = None) -> Values:
    """Repeat the last known value over a gap, at most ``limit`` times; what comes before the first stays missing."""
    need(limit is None or limit >= 1, "forward_fill.limit", limit, "at least 1")
    before, _ = known_neighbours(values)
    reach = np.arange(values.shape[1])[None, :, None] - before
    known = (before >= 0) & ((reach <= limit) if limit is not None else True)
    return np.where(known, np.take_along_axis(values, np.maximum(before, 0), axis=1), values)


@declares("always", lambda options: None if options["limit"] is None else (0, options["limit"]))
def backward_fill(values: Values, limit: int | None = None) -> Values:
    """Put the next known value into a gap, at most ``limit`` steps back; what comes after the last stays missing."""
    need(limit is None or limit >= 1, "backward_fill.limit", limit, "at least 1")
    return forward_fill(values[:, ::-1], limit)[:, ::-1]


@declares("never", lambda options: (0, 0))
def fill_constant(values: Values, value: float = 0.0) -> Values:
    """Put one value, in the column's own units, wherever one is missing."""
    return np.where(np.isnan(values), value, values)


def bridged(values: Values) -> Values:
    """For filters that cannot stand gaps: lines over them, 0 where nothing is known.

    A filter whose answer is taken at known steps alone stays causal over it, for a line ends at or before such a step.
    """
    return fill_constant(interpolate(values))


def known_neighbours(values: Values) -> tuple[Places, Places]:
    """For each step the nearest known one at or before it (-1: none), and at or after it (T: none)."""
    steps = values.shape[1]
    time = np.broadcast_to(np.arange(steps)[None, :, None], values.shape)
    missing = np.isnan(values)
    before = np.maximum.accumulate(np.where(missing, -1, time), axis=1)
    after = np.minimum.accumulate(np.where(missing, steps, time)[:, ::-1], axis=1)[:, ::-1]
    return before, after


def _gaps(values: Values) -> tuple[Places, Places, Places, Places, Places]:
    """Series, step and feature of each missing value, and the steps of the known ones before (-1) and behind it (T)."""
    n, f, t = np.nonzero(np.ascontiguousarray(np.isnan(values).transpose(0, 2, 1)))
    begins = np.ones(len(t) + 1, dtype=bool)
    begins[1:-1] = (np.diff(t) != 1) | (np.diff(f) != 0) | (np.diff(n) != 0)
    edges = np.flatnonzero(begins)
    lengths = np.diff(edges)
    return n, t, f, np.repeat(t[edges[:-1]] - 1, lengths), np.repeat(t[edges[1:] - 1] + 1, lengths)


def _near(options: Mapping[str, Any]) -> tuple[int, int] | None:
    """A gap that is filled has its known neighbours within ``limit`` steps; any other is seen to be longer."""
    return None if options["limit"] is None else (options["limit"], options["limit"])


def _fill_splines(values: Values, filled: Values, where: npt.NDArray[np.bool_], times: Values | None) -> None:
    """Overwrite the lines in ``filled`` by cubic splines, each of which is a system of equations of its own."""
    from scipy.interpolate import CubicSpline  # type: ignore[import-untyped]  # 0.4 s to import

    steps = np.arange(values.shape[1])
    for n, f in zip(*np.nonzero(where.any(axis=1)), strict=True):
        time = steps if times is None else times[n]
        series, gaps = values[n, :, f], where[n, :, f]
        known = ~np.isnan(series)
        filled[n, gaps, f] = CubicSpline(time[known], series[known])(time[gaps])


def _monotone(values: Values, times: Values | None) -> Values:
    """Between known neighbours the cubic with the slopes of PCHIP; all series at once."""
    steps = values.shape[1]
    before, after = known_neighbours(values)
    clock = np.arange(steps, dtype=np.float64)[None, :, None] if times is None else times[:, :, None]
    clock = np.broadcast_to(clock, values.shape)
    slopes = _slopes(values, clock)
    low, high = np.maximum(before, 0), np.minimum(after, steps - 1)
    start, y0, d0 = (np.take_along_axis(part, low, axis=1) for part in (clock, values, slopes))
    end, y1, d1 = (np.take_along_axis(part, high, axis=1) for part in (clock, values, slopes))
    wide = np.where(end > start, end - start, 1.0)
    s = (clock - start) / wide
    rise = y1 - y0
    curve: Values = y0 + s * (wide * d0 + s * (3 * rise - wide * (2 * d0 + d1) + s * (wide * (d0 + d1) - 2 * rise)))
    return curve


def _slopes(values: Values, clock: Values) -> Values:
    """The slope at each known step [N, T, F] by Fritsch and Butland's weighted harmonic mean; 0 elsewhere.

    Fritsch and Butland, SIAM J. Scientific and Statistical Computing 5, 1984; the ends as in Moler, Numerical
    Computing with MATLAB, 2004, 3.6, and in SciPy.
    """
    found = np.zeros_like(values)
    if values.shape[1] < 2:
        return found
    missing = np.isnan(values)
    # The known values of each series are moved together; what lies behind the last is no stretch between two.
    order = np.argsort(missing, axis=1, kind="stable")
    x, y = np.take_along_axis(clock, order, axis=1), np.take_along_axis(np.where(missing, 0.0, values), order, axis=1)
    count = (~missing).sum(axis=1, keepdims=True)
    real = np.arange(1, values.shape[1])[None, :, None] < count
    h = np.where(real, np.diff(x, axis=1), 1.0)
    m = np.where(real, np.diff(y, axis=1) / np.where(h == 0, 1.0, h), 0.0)
    packed = np.zeros_like(values)
    h0, h1, m0, m1 = h[:, :-1], h[:, 1:], m[:, :-1], m[:, 1:]
    same = m0 * m1 > 0
    w0, w1 = 2 * h1 + h0, h1 + 2 * h0
    mean = (w0 + w1) / (w0 / np.where(same, m0, 1.0) + w1 / np.where(same, m1, 1.0))
    packed[:, 1:-1] = np.where(same, mean, 0.0)
    last = np.maximum(count - 2, 0)
    one_before = np.maximum(count - 3, 0)
    ends = [np.take_along_axis(part, place, axis=1) for place in (last, one_before) for part in (h, m)]
    two = count == 2
    packed[:, :1] = np.where(two, m[:, :1], _end_slope(h[:, :1], h[:, 1:2], m[:, :1], m[:, 1:2]))
    behind = np.where(two, m[:, :1], _end_slope(ends[0], ends[2], ends[1], ends[3]))
    np.put_along_axis(packed, np.maximum(count - 1, 0), np.where(count >= 2, behind, 0.0), axis=1)
    np.put_along_axis(found, order, packed, axis=1)
    return found


def _end_slope(h0: Values, h1: Values, m0: Values, m1: Values) -> Values:
    """A parabola's slope at a series' end, kept from overshooting; of two stretches, the outer one first."""
    if not h1.shape[1]:
        return m0
    slope = ((2 * h0 + h1) * m0 - h0 * m1) / (h0 + h1)
    slope = np.where(np.sign(slope) != np.sign(m0), 0.0, slope)
    too_steep = (np.sign(m0) != np.sign(m1)) & (np.abs(slope) > 3 * np.abs(m0))
    return np.where(too_steep, 3 * m0, slope)
