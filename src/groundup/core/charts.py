"""Charts as inline SVG: nothing to load, light and dark by the page's colours, and titles for those who cannot see.

Colours are the page's custom properties (``--ink``, ``--c1`` and so on; see ``groundup.core.page``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from html import escape

import numpy as np

from groundup.core.errors import DataError

WIDTH = 900
"""Pixels of a chart as wide as the page; half of it, less a gap, suits two side by side."""

MOST_POINTS = 600
COLOURS = 6
UNPRINTABLE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160), 65534, 65535), "�")
"""Characters that XML has no place for, and what is shown for each."""

TEXT_WIDTH = 7.2
"""Pixels that a letter of the charts' text takes, generously."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A named series of points in order of x; values that are not finite are gaps."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    smooth: bool = False
    """Draw the values faintly and their running mean over them, as suits a training loss."""
    dots: bool = False
    """Mark each point, as suits a few measurements."""


@dataclasses.dataclass(frozen=True)
class Bar:
    """One figure among several of its kind, with its interval where there is one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    ours: bool = False
    """Drawn in the accent colour; what it is compared with stays grey."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, *, log: bool = False, zero: bool = False) -> Axis:
        """An axis that holds these values with a little room, or that begins at 0."""
        finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
        if not finite:
            return cls(0.1 if log else 0.0, 1.0, start, end, log)
        low, high = min(finite), max(finite)
        if log:
            room = max((high / low) ** 0.04, 1.02)
            return cls(low / room, high * room, start, end, True)
        room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        low, high = low - room, high + room
        return cls(min(0.0, low) if zero else low, max(0.0, high) if zero else high, start, end)

    def place(self, value: float) -> float:
        """The pixel of a value."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values along the axis."""
        if self.log:
            return self._log_ticks(about)
        step = _round_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _log_ticks(self, about: int) -> list[float]:
        lowest, highest = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decades = range(lowest, highest + 1, max(1, (highest - lowest) // 6))
        for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):
            found = [f * 10.0**d for d in decades for f in factors if self.low <= f * 10.0**d <= self.high]
            if len(found) >= min(about, 4):
                return found
        return found if len(found) > 1 else dataclasses.replace(self, log=False).ticks(about)


def line_chart(
    lines: Sequence[Line],
    title: str,
    x_label: str,
    y_label: str,
    *,
    log_y: bool = False,
    log_x: bool = False,
    width: int = WIDTH,
) -> str:
    """Series over a common axis, each named at its end. Values of 0 and less are gaps on a log axis.

    A single line goes unnamed where ``y_label`` says what it is.
    """
    height, left, top, bottom = 180 + width // 6, 58, 34, 44
    shown = [_thinned(line) for line in lines]
    named = len(lines) > 1 or not y_label
    right = 24 + TEXT_WIDTH * max((len(line.name) for line in lines), default=0) if named else 16
    x_axis = Axis.over([x for line in shown for x in line.x], left, width - right, log=log_x)
    if not log_x:
        x_axis = dataclasses.replace(x_axis, low=_finite_min(shown), high=_finite_max(shown))
    y_axis = Axis.over([y for line in shown for y in line.y], height - bottom, top, log=log_y)
    parts = grid(x_axis, y_axis, x_label, y_label, height)
    ends: list[tuple[float, str, str]] = []
    for number, line in enumerate(shown):
        colour = f"var(--c{number % COLOURS + 1})"
        smoothed = _smoothed(line) if line.smooth else line
        if line.smooth:
            parts.append(_path(line, x_axis, y_axis, colour, "faint"))
        parts.append(_path(smoothed, x_axis, y_axis, colour, "line"))
        parts.extend(_dots(smoothed, x_axis, y_axis, colour, x_label))
        last = _last(smoothed, y_axis)
        if last is not None and named:
            ends.append((y_axis.place(last), line.name, colour))
    for y, name, colour in _apart(ends, 15, top, height - bottom):
        place = f'x="{width - right + 10:.0f}" y="{y + 4:.1f}"'
        parts.append(f'<text class="name" {place} style="fill:{colour}">{escape(name)}</text>')
    return svg(title, _told_lines(shown, x_label), parts, width, height)


def bar_chart(bars: Sequence[Bar], title: str, unit: str = "", better: str = "", width: int = 640) -> str:
    """Figures beside each other from 0 on, with whiskers for their intervals; ``better`` is "higher" or "lower"."""
    row, top = 34, 30
    height = top + row * len(bars) + 12
    left = 20 + TEXT_WIDTH * max((len(bar.name) for bar in bars), default=0)
    edges = [e for bar in bars for e in (bar.value, bar.low, bar.high) if e is not None]
    axis = Axis.over(edges, left, width - 90, zero=True)
    note = " · ".join(part for part in (unit, f"{better} is better" if better else "") if part)
    parts = [f'<text class="label" x="{left}" y="16">{escape(note)}</text>']
    zero = axis.place(0.0)
    for number, bar in enumerate(bars):
        y = top + row * number
        parts.append(f'<text class="tick end" x="{left - 10:.1f}" y="{y + 18}">{escape(bar.name)}</text>')
        if not math.isfinite(bar.value):
            parts.append(f'<text class="value" x="{zero + 8:.1f}" y="{y + 18}">not a number</text>')
            continue
        end = axis.place(bar.value)
        kind = "bar ours" if bar.ours else "bar"
        box = f'x="{min(zero, end):.1f}" y="{y + 2}" width="{max(1.0, abs(end - zero)):.1f}" height="22"'
        told = escape(f"{bar.name}: {_told(bar)}")
        parts.append(f'<rect class="{kind}" {box} rx="3"><title>{told}</title></rect>')
        edge = end
        if bar.low is not None and bar.high is not None:
            low, edge = axis.place(bar.low), max(end, axis.place(bar.high))
            whisker = f"M{low:.1f} {y + 13}H{axis.place(bar.high):.1f}M{low:.1f} {y + 9}v8"
            parts.append(f'<path class="whisker" d="{whisker}M{axis.place(bar.high):.1f} {y + 9}v8"/>')
        parts.append(f'<text class="value" x="{edge + 8:.1f}" y="{y + 18}">{format_number(bar.value)}</text>')
    parts.append(f'<path class="axis" d="M{zero:.1f} {top - 4}V{height - 8}"/>')
    return svg(title, "; ".join(f"{bar.name}: {_told(bar)}" for bar in bars) or "no values", parts, width, height)


def format_number(value: float) -> str:
    """Three or four digits: ``0.985``, ``1.37``, ``12.4``, ``1,250``, ``3.2M``."""
    if not math.isfinite(value):
        return "not a number"
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e9:.3g}G" if size >= 1e9 else f"{value / 1e6:.3g}M"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if size >= 1e-3 or value == 0 else f"{value:.2e}"


def svg(title: str, told: str, parts: Sequence[str], width: int, height: int) -> str:
    """A whole chart of parts, with its title and description for those who cannot see it."""
    name = "f" + hashlib.sha256("".join([title, *parts]).encode()).hexdigest()[:10]
    least = 600 if width >= 800 else min(width, 340)  # on a narrow screen it scrolls rather than shrinks further
    drawn = (
        f'<svg class="chart" viewBox="0 0 {width} {height}" style="max-width:{width}px;min-width:{least}px" '
        f'role="img" aria-labelledby="{name}t {name}d">'
        f'<title id="{name}t">{escape(title)}</title><desc id="{name}d">{escape(told)}</desc>'
        + "".join(parts)
        + "</svg>"
    )
    return drawn.translate(UNPRINTABLE)


def grid(x_axis: Axis, y_axis: Axis, x_label: str, y_label: str, height: int) -> list[str]:
    """Rules, numbers and names of both axes."""
    parts: list[str] = []
    y_ticks, x_ticks = y_axis.ticks(), x_axis.ticks(6)
    for value, shown in zip(y_ticks, tick_labels(y_ticks), strict=True):
        y = y_axis.place(value)
        parts.append(f'<path class="rule" d="M{x_axis.start:.0f} {y:.1f}H{x_axis.end:.0f}"/>')
        parts.append(f'<text class="tick end" x="{x_axis.start - 8:.0f}" y="{y + 4:.1f}">{shown}</text>')
    for value, shown in zip(x_ticks, tick_labels(x_ticks), strict=True):
        x = x_axis.place(value)
        parts.append(f'<path class="axis" d="M{x:.1f} {y_axis.start:.0f}v4"/>')
        parts.append(f'<text class="tick middle" x="{x:.1f}" y="{y_axis.start + 18:.0f}">{shown}</text>')
    parts.append(f'<path class="axis" d="M{x_axis.start:.0f} {y_axis.start:.0f}H{x_axis.end:.0f}"/>')
    parts.append(f'<text class="label" x="{x_axis.start - 42:.0f}" y="16">{escape(y_label)}</text>')
    middle = (x_axis.start + x_axis.end) / 2
    parts.append(f'<text class="label middle" x="{middle:.0f}" y="{height - 6}">{escape(x_label)}</text>')
    return parts


def tick_labels(values: Sequence[float]) -> list[str]:
    """Labels of one axis, all with as many decimals as its step needs, or each on its own over many decades."""
    largest = max((abs(v) for v in values), default=0.0)
    if largest > 1e4 * min((abs(v) for v in values if v), default=largest):
        return [f"{v:.3g}" for v in values]
    scale, suffix = next(((s, u) for s, u in ((1e9, "G"), (1e6, "M"), (1e4, "k")) if largest >= s), (1.0, ""))
    scale = 1e3 if suffix == "k" else scale
    scaled = [v / scale for v in values]
    for digits in range(7):
        shown = [f"{v:.{digits}f}" for v in scaled]
        if all(abs(float(s) - v) <= 1e-6 * max(1e-12, abs(v)) for s, v in zip(shown, scaled, strict=True)):
            break
    return [s + (suffix if float(s) else "") for s in shown]


def _round_step(step: float) -> float:
    """The next of 1, 2, 2.5 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next((f * power for f in (1.0, 2.0, 2.5, 5.0) if f * power >= step * 0.999), 10 * power)


def _thinned(line: Line) -> Line:
    """At most 600 points, the last one kept. Raises DataError when x and y do not match."""
    if len(line.x) != len(line.y):
        raise DataError(f"line {line.name!r}: {len(line.x)} values of x, {len(line.y)} of y.")
    if len(line.x) <= MOST_POINTS:
        return line
    kept = np.unique(np.linspace(0, len(line.x) - 1, MOST_POINTS).round().astype(int)).tolist()
    return dataclasses.replace(line, x=[line.x[i] for i in kept], y=[line.y[i] for i in kept])


def _smoothed(line: Line) -> Line:
    """The mean over about a twentieth of the points around each one; fewer at the start, so that nothing lags."""
    values = np.asarray(line.y, dtype=np.float64)
    fine = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(fine, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(fine)])
    here = np.arange(len(values))
    reach = np.minimum(here, max(1, len(values) // 40))
    low, high = here - reach, np.minimum(here + reach + 1, len(values))
    with np.errstate(invalid="ignore"):
        means = (sums[high] - sums[low]) / (counts[high] - counts[low])
    return dataclasses.replace(line, y=means.tolist())


def _drawable(line: Line, y_axis: Axis, x_axis: Axis) -> list[bool]:
    return [
        math.isfinite(y) and math.isfinite(x) and not (y_axis.log and y <= 0) and not (x_axis.log and x <= 0)
        for x, y in zip(line.x, line.y, strict=True)
    ]


def _path(line: Line, x_axis: Axis, y_axis: Axis, colour: str, kind: str) -> str:
    steps: list[str] = []
    pen = "M"
    for x, y, fine in zip(line.x, line.y, _drawable(line, y_axis, x_axis), strict=True):
        if not fine:
            pen = "M"
            continue
        steps.append(f"{pen}{x_axis.place(x):.1f} {y_axis.place(y):.1f}")
        pen = "L"
    return f'<path class="{kind}" style="stroke:{colour}" d="{"".join(steps)}"/>'


def _dots(line: Line, x_axis: Axis, y_axis: Axis, colour: str, x_label: str) -> list[str]:
    """A mark on each point, or on some an unseen one that tells its value under the pointer."""
    fine = [i for i, drawable in enumerate(_drawable(line, y_axis, x_axis)) if drawable]
    if not line.dots:
        fine = fine[:: max(1, len(fine) // 40)]
    kind, radius = ("dot", 3.5) if line.dots else ("spot", 7.0)
    found: list[str] = []
    for i in fine:
        told = f"{line.name}: {format_number(line.y[i])} at {x_label} {format_number(line.x[i])}"
        place = f'cx="{x_axis.place(line.x[i]):.1f}" cy="{y_axis.place(line.y[i]):.1f}" r="{radius}"'
        found.append(f'<circle class="{kind}" {place} style="fill:{colour}"><title>{escape(told)}</title></circle>')
    return found


def _last(line: Line, y_axis: Axis) -> float | None:
    fine = [y for y in line.y if math.isfinite(y) and not (y_axis.log and y <= 0)]
    return fine[-1] if fine else None


def _finite_min(lines: Sequence[Line]) -> float:
    return min((x for line in lines for x in line.x if math.isfinite(x)), default=0.0)


def _finite_max(lines: Sequence[Line]) -> float:
    low = _finite_min(lines)
    high = max((x for line in lines for x in line.x if math.isfinite(x)), default=1.0)
    return high if high > low else low + 1.0


def _apart(
    ends: Sequence[tuple[float, str, str]], gap: float, top: float, bottom: float
) -> list[tuple[float, str, str]]:
    """Labels moved so far that none covers another, from the top down and then back from the bottom."""
    placed = sorted(ends)
    ys = [max(y, top) for y, _, _ in placed]
    for i in range(1, len(ys)):
        ys[i] = max(ys[i], ys[i - 1] + gap)
    for i in range(len(ys) - 1, -1, -1):
        ys[i] = min(ys[i], bottom - gap * (len(ys) - 1 - i))
    return [(y, name, colour) for y, (_, name, colour) in zip(ys, placed, strict=True)]


def _told(bar: Bar) -> str:
    interval = (
        "" if bar.low is None or bar.high is None else f" ({format_number(bar.low)} to {format_number(bar.high)})"
    )
    return format_number(bar.value) + interval


def _told_lines(lines: Sequence[Line], x_label: str) -> str:
    told: list[str] = []
    for line in lines:
        fine = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
        if fine:
            (x0, y0), (x1, y1) = fine[0], fine[-1]
            begin, end = format_number(y0), format_number(y1)
            told.append(f"{line.name}: {begin} at {x_label} {format_number(x0)}, {end} at {format_number(x1)}")
    return "; ".join(told) or "no values"
