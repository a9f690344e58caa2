"""Pictures of columns as inline SVG: distributions, categories, gaps, correlations, values over time."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from groundup.core.charts import TEXT_WIDTH, Axis, format_number, grid, svg
from groundup.data.inspection.columns import Histogram, Numbers
from groundup.data.inspection.relations import Correlations, Gaps

CARD = 300
"""Pixels of a chart in the card of one column."""

MOST_SHOWN = 12


def distribution(numbers: Numbers, name: str, width: int = CARD, height: int = 130) -> str:
    """A histogram with its median, and what lies beyond Tukey's fences in another colour."""
    found = numbers.histogram
    left, right, top, bottom = 44, 12, 14, 34
    x_axis = _along(found, left, width - right)
    y_axis = Axis(0.0, max(1.0, float(max(found.counts))), height - bottom, top)
    parts = _y_rules(y_axis, left, width - right)
    for low, high, count in zip(found.edges[:-1], found.edges[1:], found.counts, strict=True):
        if count:
            x, end, y = x_axis.place(low), x_axis.place(high), y_axis.place(count)
            centre = (low + high) / 2
            far = numbers.outliers and not found.log and (centre < numbers.low or centre > numbers.high)
            kind = "bin far" if far else "bin"
            told = f"{count:,} from {format_number(low)} to {format_number(high)}"
            box = f'x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(0.8, end - x - 1):.1f}"'
            bar = f'<rect class="{kind}" {box} height="{max(0.8, y_axis.start - y):.1f}" rx="1.5">'
            parts.append(f"{bar}<title>{told}</title></rect>")
    parts += _x_marks(x_axis, found, height - bottom)
    if found.edges[0] <= numbers.median <= found.edges[-1]:
        at = x_axis.place(numbers.median)
        told = f"median {format_number(numbers.median)}"
        line = f'<path class="median" d="M{at:.1f} {top - 4}V{height - bottom}"/>'
        parts.append(f"<g><title>{told}</title>{line}</g>")
    for count, place, anchor in ((found.below, left, ""), (found.above, width - right, " end")):
        if count:
            word = "below" if not anchor else "above"
            parts.append(f'<text class="tick{anchor}" x="{place}" y="{top - 3}">{count:,} {word}</text>')
    told = (
        f"median {format_number(numbers.median)}, {format_number(numbers.smallest)} to {format_number(numbers.largest)}"
    )
    return svg(f"Distribution of {name}", told, parts, width, height)


def spark(counts: Sequence[int], width: int = 108, height: int = 26) -> str:
    """A histogram so small that it stands in a table's cell."""
    most = max(counts, default=0)
    if not most:
        return ""
    step = width / len(counts)
    bars = "".join(
        f'<rect class="bin" x="{i * step + 0.4:.1f}" y="{height - h:.1f}" width="{max(0.7, step - 0.8):.1f}" '
        f'height="{h:.1f}"/>'
        for i, count in enumerate(counts)
        if (h := max(0.8, (height - 2) * count / most)) and count
    )
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg class="chart spark" {size} aria-hidden="true">{bars}</svg>'


def categories(top: Sequence[tuple[str, int]], rows: int, name: str, distinct: int, width: int = CARD) -> str:
    """The most frequent values as bars, with their share of the rows that have a value."""
    shown = list(top[:MOST_SHOWN])
    rest = rows - sum(count for _, count in shown)
    if rest > 0 and distinct > len(shown):
        shown.append((f"{distinct - len(shown):,} others", rest))
    labels = [_cut(label, 22) for label, _ in shown]
    left = 12 + TEXT_WIDTH * min(22, max((len(label) for label in labels), default=0))
    row, most = 20, max((count for _, count in shown), default=1)
    parts = []
    for i, ((label, count), short) in enumerate(zip(shown, labels, strict=True)):
        y = 4 + row * i
        reach = (width - left - 84) * count / most
        others = rest > 0 and i == len(shown) - 1 and distinct > len(shown) - 1
        kind = "bin quiet" if others else "bin"
        told = escape(f"{label}: {count:,} rows, {count / max(1, rows):.1%}")
        parts.append(f'<text class="tick end" x="{left - 8:.1f}" y="{y + 13}">{escape(short)}</text>')
        box = f'x="{left:.1f}" y="{y + 2}" width="{max(1.0, reach):.1f}" height="15" rx="2.5"'
        parts.append(f'<rect class="{kind}" {box}><title>{told}</title></rect>')
        share = f"{count:,} · {count / max(1, rows):.0%}" if count / max(1, rows) >= 0.005 else f"{count:,}"
        parts.append(f'<text class="tick" x="{left + reach + 6:.1f}" y="{y + 13}">{share}</text>')
    told = ", ".join(f"{label} {count:,}" for label, count in shown[:5])
    return svg(f"Values of {name}", told, parts, width, 10 + row * len(shown))


def shares(values: Sequence[tuple[str, float, str]], title: str, width: int = 620) -> str:
    """(name, share from 0 to 1, what is told) as bars on a scale to 1."""
    labels = [_cut(name, 30) for name, _, _ in values]
    left, row = 14 + TEXT_WIDTH * max((len(label) for label in labels), default=0), 24
    parts = []
    for i, ((name, share, told), short) in enumerate(zip(values, labels, strict=True)):
        y = 4 + row * i
        reach = (width - left - 60) * min(1.0, max(0.0, share))
        parts.append(f'<text class="tick end" x="{left - 8:.1f}" y="{y + 15}">{escape(short)}</text>')
        track = f'x="{left:.1f}" y="{y + 4}" width="{width - left - 60:.1f}" height="15" rx="3"'
        parts.append(f'<rect class="track" {track}/>')
        box = f'x="{left:.1f}" y="{y + 4}" width="{max(1.0, reach):.1f}" height="15" rx="3"'
        parts.append(f'<rect class="bin" {box}><title>{escape(name)}: {escape(told)}</title></rect>')
        parts.append(f'<text class="value" x="{width - 52}" y="{y + 16}">{share:.1%}</text>')
    return svg(
        title, "; ".join(f"{name} {share:.1%}" for name, share, _ in values), parts, width, 10 + row * len(values)
    )


def gap_chart(gaps: Gaps, rows: int, width: int = 900) -> str:
    """Where values are missing: columns from top to bottom, rows of the data from left to right."""
    labels = [_cut(name, 24) for name in gaps.names]
    left, row, top = 14 + TEXT_WIDTH * max(len(label) for label in labels), 20, 6
    across = gaps.blocks.shape[1]
    cell = (width - left - 8) / across
    parts = []
    for i, label in enumerate(labels):
        y = top + row * i
        parts.append(f'<text class="tick end" x="{left - 8:.1f}" y="{y + 14}">{escape(label)}</text>')
        parts.append(f'<rect class="track" x="{left:.1f}" y="{y + 2}" width="{width - left - 8:.1f}" height="16"/>')
        for j, share in enumerate(gaps.blocks[i].tolist()):
            if share > 0:
                first, last = round(rows * j / across), round(rows * (j + 1) / across) - 1
                told = f"{share:.0%} missing from row {first:,} to {last:,}"
                box = f'x="{left + cell * j:.2f}" y="{y + 2}" width="{cell + 0.2:.2f}" height="16"'
                parts.append(
                    f'<rect class="gap" {box} style="opacity:{0.15 + 0.85 * share:.2f}"><title>{told}</title></rect>'
                )
    bottom = top + row * len(labels)
    parts.append(f'<text class="tick" x="{left:.1f}" y="{bottom + 16}">first row</text>')
    parts.append(f'<text class="tick end" x="{width - 8}" y="{bottom + 16}">last row</text>')
    told = "; ".join(f"{name} {share:.1%}" for name, share in zip(gaps.names, gaps.blocks.mean(axis=1), strict=True))
    return svg("Where values are missing", told, parts, width, bottom + 24)


def correlation_chart(found: Correlations) -> str:
    """Rank correlations, one colour for those that rise together and another for those that go against each other."""
    labels = [_cut(name, 20) for name in found.names]
    size = len(labels)
    longest = TEXT_WIDTH * max(len(label) for label in labels)
    cell = min(44.0, max(20.0, 560 / size))
    left, top = 12 + longest, 10 + 0.71 * longest
    parts = []
    for i, label in enumerate(labels):
        y = top + cell * i
        parts.append(f'<text class="tick end" x="{left - 6:.1f}" y="{y + cell / 2 + 4:.1f}">{escape(label)}</text>')
        turn = f"translate({left + cell * (i + 0.5) + 3:.1f} {top - 5:.1f}) rotate(-45)"
        parts.append(f'<text class="tick" transform="{turn}">{escape(label)}</text>')
        for j in range(size):
            value = float(found.matrix[i, j])
            edge = f"{cell - 1:.1f}"
            box = f'x="{left + cell * j + 0.5:.1f}" y="{y + 0.5:.1f}" width="{edge}" height="{edge}" rx="2"'
            parts.append(f'<rect class="track" {box}/>')
            if i == j or not math.isfinite(value):
                continue
            told = escape(f"{found.names[i]} and {found.names[j]}: {value:.2f}")
            kind = "with" if value > 0 else "against"
            parts.append(f'<rect class="{kind}" {box} style="opacity:{abs(value):.2f}"><title>{told}</title></rect>')
            if cell >= 30 and abs(value) >= 0.1:
                tone = "count light" if abs(value) > 0.6 else "count"
                place = f'x="{left + cell * (j + 0.5):.1f}" y="{y + cell / 2 + 4:.1f}"'
                parts.append(f'<text class="{tone}" {place}>{value:.1f}</text>')
    strongest = sorted(
        ((abs(found.matrix[i, j]), i, j) for i in range(size) for j in range(i) if math.isfinite(found.matrix[i, j])),
        reverse=True,
    )[:3]
    told = "; ".join(f"{found.names[i]} and {found.names[j]} {found.matrix[i, j]:.2f}" for _, i, j in strongest)
    width = int(left + cell * size + 16 + 0.71 * longest)
    return svg("Rank correlations", told or "none", parts, width, int(top + cell * size + 10))


def over_time(
    stamps: npt.NDArray[np.datetime64], values: npt.NDArray[np.float64], name: str, width: int = 900, height: int = 150
) -> str:
    """Values in order of time: the mean of each pixel's rows, with the range between its smallest and largest."""
    seconds = stamps.astype("datetime64[ms]").astype(np.int64) / 1000.0
    left, right, top, bottom = 58, 12, 12, 26
    first, last = float(seconds[0]), float(seconds[-1])
    x_axis = Axis(first, last if last > first else first + 1, left, width - right)
    bins = min(420, len(values))
    place = np.minimum(((seconds - x_axis.low) / (x_axis.high - x_axis.low) * bins).astype(int), bins - 1)
    low, high, mean = (np.full(bins, np.nan) for _ in range(3))
    for b in np.unique(place):
        inside = values[place == b]
        inside = inside[np.isfinite(inside)]
        if len(inside):
            low[b], high[b], mean[b] = inside.min(), inside.max(), inside.mean()
    y_axis = Axis.over([float(v) for v in np.concatenate([low, high]) if np.isfinite(v)], height - bottom, top)
    parts = _y_rules(y_axis, left, width - right)
    parts += [_band(low, high, x_axis, y_axis, bins), _line(mean, x_axis, y_axis, bins)]
    parts += _dates(x_axis, height - bottom)
    told = f"{_date(first, last - first)} to {_date(last, last - first)}"
    return svg(f"{name} over time", told, parts, width, height)


def lag_chart(values: npt.NDArray[np.float64], name: str, width: int = 900) -> str:
    """Autocorrelation by lag: how much a value is like the one so many rows before."""
    height, left, top, bottom = 150, 58, 22, 44
    x_axis = Axis(0.0, float(len(values)), left, width - 12)
    y_axis = Axis(min(0.0, float(np.nanmin(values))) - 0.02, 1.0, height - bottom, top)
    parts = grid(x_axis, y_axis, "rows before", "", height)
    zero = y_axis.place(0.0)
    for i, value in enumerate(values.tolist(), 1):
        if math.isfinite(value):
            x, y = x_axis.place(i), y_axis.place(value)
            thick = max(1.0, min(8.0, 0.7 * (width - left - 12) / len(values)))
            bar = f'<path class="lag" style="stroke-width:{thick:.1f}" d="M{x:.1f} {zero:.1f}V{y:.1f}">'
            parts.append(f"{bar}<title>{i} rows before: {value:.2f}</title></path>")
    return svg(f"Autocorrelation of {name}", f"largest beyond the first at lag {_peak(values)}", parts, width, height)


def _peak(values: npt.NDArray[np.float64]) -> int:
    """The lag of the highest local top behind the first fall."""
    for i in range(1, len(values) - 1):
        if values[i] > values[i - 1] and values[i] >= values[i + 1] and values[i] == np.nanmax(values[i:]):
            return i + 1
    return 1


def _along(found: Histogram, start: float, end: float) -> Axis:
    low, high = found.edges[0], found.edges[-1]
    return Axis(low, high if high > low else low + 1.0, start, end, log=found.log)


def _y_rules(axis: Axis, left: float, right: float) -> list[str]:
    parts = []
    for value in axis.ticks(3):
        y = axis.place(value)
        parts.append(f'<path class="rule" d="M{left} {y:.1f}H{right}"/>')
        parts.append(f'<text class="tick end" x="{left - 6}" y="{y + 4:.1f}">{_short(value)}</text>')
    return parts


def _x_marks(axis: Axis, found: Histogram, y: float) -> list[str]:
    parts = [f'<path class="axis" d="M{axis.start:.0f} {y}H{axis.end:.0f}"/>']
    ticks = axis.ticks(4)
    if not found.log and len(ticks) > 7:
        ticks = ticks[:: -(-len(ticks) // 7)]
    for value in ticks:
        x = axis.place(value)
        if axis.start - 1 <= x <= axis.end + 1:
            parts.append(f'<path class="axis" d="M{x:.1f} {y}v4"/>')
            parts.append(f'<text class="tick middle" x="{x:.1f}" y="{y + 17}">{_short(value)}</text>')
    return parts


def _short(value: float) -> str:
    """A number for an axis: ``0.2``, ``1,500``, ``20k``, ``3M``."""
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) > 1e-12 else "0"


def _band(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], x: Axis, y: Axis, bins: int) -> str:
    pieces = []
    for b in np.flatnonzero(np.isfinite(low)).tolist():
        at = x.start + (b + 0.5) / bins * (x.end - x.start)
        pieces.append(f"M{at:.1f} {y.place(float(low[b])):.1f}V{y.place(float(high[b])) - 0.5:.1f}")
    wide = max(1.0, (x.end - x.start) / bins)
    return f'<path class="band" style="stroke-width:{wide:.1f}" d="{"".join(pieces)}"/>'


def _line(mean: npt.NDArray[np.float64], x: Axis, y: Axis, bins: int) -> str:
    steps, pen = [], "M"
    for b, value in enumerate(mean.tolist()):
        if not math.isfinite(value):
            pen = "M"
            continue
        steps.append(f"{pen}{x.start + (b + 0.5) / bins * (x.end - x.start):.1f} {y.place(value):.1f}")
        pen = "L"
    return f'<path class="line" style="stroke:var(--c1);stroke-width:1.2" d="{"".join(steps)}"/>'


def _dates(axis: Axis, y: float) -> list[str]:
    parts = [f'<path class="axis" d="M{axis.start:.0f} {y}H{axis.end:.0f}"/>']
    for share in np.linspace(0, 1, 6).tolist():
        x = axis.start + share * (axis.end - axis.start)
        anchor = "" if share == 0 else " end" if share == 1 else " middle"
        shown = _date(axis.low + share * (axis.high - axis.low), axis.high - axis.low)
        parts.append(f'<path class="axis" d="M{x:.1f} {y}v4"/>')
        parts.append(f'<text class="tick{anchor}" x="{x:.1f}" y="{y + 17}">{shown}</text>')
    return parts


def _date(seconds: float, span_s: float) -> str:
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    if span_s > 3 * 365 * 86_400:
        return moment.strftime("%Y-%m")
    return moment.strftime("%Y-%m-%d" if span_s > 3 * 86_400 else "%m-%d %H:%M")


def _cut(text: str, most: int) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= most else plain[: most - 1] + "…"
