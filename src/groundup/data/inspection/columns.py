"""One column at a time: what it holds, what is missing, how it is distributed, what stands far out."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.dataset import Dataset, Kind
from groundup.data.cleaning.words import SPACELESS
from groundup.data.prepare.outliers import bounds

Values = npt.NDArray[np.float64]

MOST_BINS = 40
MOST_VALUES = 12
"""How many of a column's most frequent values are kept."""

SENTINELS = (-1.0, -9.0, -99.0, -200.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0)
"""Numbers that often stand for a missing value, when they lie far from all the others."""


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Counts between edges; what lies beyond them is counted apart, so that a few far values do not flatten it."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int = 0
    above: int = 0
    log: bool = False
    """The bins are equally wide on a logarithmic scale."""


@dataclasses.dataclass(frozen=True)
class Fences:
    """Tukey's, q25 - 1.5 IQR and q75 + 1.5 IQR."""

    low: float
    high: float
    beyond: int
    """How many lie outside; 0 where more than half of the values are equal."""


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What is known of the numbers of a column that are there and finite."""

    count: int
    mean: float
    deviation: float
    quantiles: tuple[float, ...]
    """At 0, 1, 5, 25, 50, 75, 95, 99 and 100 percent."""
    skew: float
    """Fisher's moment coefficient g1 = m3 / m2^1.5; 0 where there is no spread."""
    zeros: int
    endless: int
    whole: bool
    fences: Fences
    histogram: Histogram
    sentinel: tuple[float, int] | None = None
    """A number that seems to stand for a missing value, and how often."""
    ceiling: tuple[float, int] | None = None
    """The largest value, and how often, where so many rows pile up at it that what lay beyond was cut off."""

    @property
    def low(self) -> float:
        """The lower fence."""
        return self.fences.low

    @property
    def high(self) -> float:
        """The upper fence."""
        return self.fences.high

    @property
    def outliers(self) -> int:
        """How many lie beyond a fence."""
        return self.fences.beyond

    @property
    def median(self) -> float:
        """The middle one."""
        return self.quantiles[4]

    @property
    def smallest(self) -> float:
        """The smallest."""
        return self.quantiles[0]

    @property
    def largest(self) -> float:
        """The largest."""
        return self.quantiles[-1]


@dataclasses.dataclass(frozen=True)
class Times:
    """What is known of a column of times."""

    first: datetime.datetime
    last: datetime.datetime
    ordered: bool
    """Whether the rows stand in order of time."""
    step_s: float
    """The commonest distance between neighbours in time, in seconds; 0 where all times are equal."""
    regular: float
    """The share of neighbours that lie so far apart."""
    gaps: int
    """How many neighbours lie further apart than half as much again."""
    repeated: int
    """How many rows share their time with an earlier one."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column as it was read."""

    name: str
    kind: Kind
    dtype: str
    rows: int
    missing: int
    distinct: int
    """Different values that are there."""
    top: tuple[tuple[str, int], ...] = ()
    """The most frequent values with their counts; none for numbers with many values, times and images."""
    numbers: Numbers | None = None
    lengths: Numbers | None = None
    """Characters of each value, where the column holds strings."""
    words: float = 0.0
    """Mean number of words of a string."""
    times: Times | None = None
    spellings: tuple[tuple[str, str], ...] = ()
    """Values that differ by case or white space alone, such as ("Male", "male ")."""

    @property
    def present(self) -> int:
        """Rows that have a value."""
        return self.rows - self.missing

    @property
    def missing_share(self) -> float:
        """Share of the rows without a value."""
        return self.missing / self.rows if self.rows else 0.0

    @property
    def top_share(self) -> float:
        """Share of the commonest value among those that are there; 0 where it was not counted."""
        return self.top[0][1] / self.present if self.top and self.present else 0.0


def describe_column(dataset: Dataset, name: str) -> Column:
    """What one column holds; any column of any table can be described."""
    column, kind = dataset.frame[name], dataset.kinds[name]
    absent = column.is_null()
    if column.dtype.is_float():
        absent = absent | column.is_nan().fill_null(False)
    present = column.filter(~absent)
    found = Column(name, kind, str(column.dtype), len(column), int(absent.sum()), _distinct(present))
    if kind == "image" or not len(present):
        return found
    if kind == "time" and present.dtype.is_temporal():
        return dataclasses.replace(found, times=describe_times(present))
    if present.dtype.is_numeric() and present.dtype != pl.Boolean:
        numbers = describe_numbers(present.cast(pl.Float64).to_numpy())
        few = found.distinct <= MOST_VALUES
        return dataclasses.replace(found, numbers=numbers, top=_top(present) if few else _commonest(present))
    if present.dtype.is_nested() or present.dtype in (pl.Binary, pl.Object):
        return found
    texts = present.cast(pl.String)
    lengths = texts.str.len_chars().cast(pl.Float64).to_numpy()
    words = float(word_counts(texts).mean() or 0.0)  # type: ignore[arg-type]
    return dataclasses.replace(
        found,
        top=_top(present),
        lengths=describe_numbers(lengths) if present.dtype == pl.String else None,
        words=words,
        spellings=_spellings(texts) if kind == "category" else (),
    )


def word_counts(texts: pl.Series) -> pl.Series:
    """Words of each text: what stands between white space, and of Chinese and Japanese every two characters."""
    plain = texts.str.count_matches(r"\S+").cast(pl.Float64)
    characters = texts.str.count_matches(f"[{SPACELESS}]")
    return (texts.str.count_matches(rf"[^\W{SPACELESS}]+") + characters / 2).zip_with(characters > 0, plain)


def describe_numbers(values: Values) -> Numbers:
    """Of values [n] without NaN; infinite ones are counted and otherwise left out."""
    finite = values[np.isfinite(values)]
    endless = len(values) - len(finite)
    if not len(finite):
        empty = Histogram((0.0, 1.0), (0,))
        return Numbers(0, 0.0, 0.0, (0.0,) * 9, 0.0, 0, endless, False, Fences(0.0, 0.0, 0), empty)
    quantiles = np.quantile(finite, [0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1])
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(np.mean(finite)), float(np.std(finite))
        third = float(np.mean(((finite - mean) / deviation) ** 3)) if deviation > 0 else 0.0
        low, high = bounds(finite, "iqr", 1.5)
    whole = bool((finite == np.round(finite)).all())
    return Numbers(
        count=len(finite),
        mean=mean,
        deviation=deviation,
        quantiles=tuple(float(q) for q in quantiles),
        skew=third if np.isfinite(third) else 0.0,
        zeros=int((finite == 0).sum()),
        endless=endless,
        whole=whole,
        fences=Fences(low, high, int(((finite < low) | (finite > high)).sum()) if low < high else 0),
        histogram=histogram(finite, whole=whole),
        sentinel=_sentinel(finite),
        ceiling=_ceiling(finite),
    )


def histogram(values: Values, *, whole: bool = False) -> Histogram:
    """Bins by the Freedman-Diaconis rule, at most 40 (Freedman and Diaconis 1981, width 2 IQR / n^(1/3)).

    Whole numbers with a small range get a bin each. Bins reach from the 0.5% to the 99.5% quantile where the range is
    more than 6 times as wide; positive values over three powers of ten or more, with a long upper tail, get bins of
    equal ratio.
    """
    values = np.clip(values, -1e300, 1e300)  # so that a range, and what is drawn around it, stay finite
    smallest, largest = float(values.min()), float(values.max())
    if smallest == largest:
        room = abs(smallest) * 0.05 or 0.5
        return Histogram((smallest - room, smallest + room), (len(values),))
    if whole and largest - smallest <= MOST_BINS:
        edges = np.arange(smallest - 0.5, largest + 1.0)
        return Histogram(tuple(edges.tolist()), tuple(np.histogram(values, edges)[0].tolist()))
    q25, q75 = np.quantile(values, [0.25, 0.75])
    if smallest > 0 and largest / smallest >= 1000 and np.median(values) - q25 < 0.5 * (q75 - np.median(values)):
        edges = np.geomspace(smallest, largest, min(MOST_BINS, 10 + len(values) // 20) + 1)
        counts = np.histogram(values, edges)[0]
        return Histogram(tuple(edges.tolist()), tuple(counts.tolist()), log=True)
    low, high = (float(q) for q in np.quantile(values, [0.005, 0.995]))
    if not low < high or largest - smallest <= 6 * (high - low):
        low, high = smallest, largest
    width = 2 * (q75 - q25) / len(values) ** (1 / 3)
    ideal = (high - low) / width if width > 0 else 20
    edges = np.linspace(low, high, int(min(MOST_BINS, max(8, np.ceil(ideal)))) + 1)
    if not (np.diff(edges) > 0).all():  # numbers too close for as many bins
        edges = np.array([low, high])
    inside = values[(values >= low) & (values <= high)]
    counts = np.histogram(inside, edges)[0]
    return Histogram(
        tuple(edges.tolist()), tuple(counts.tolist()), int((values < low).sum()), int((values > high).sum())
    )


def describe_times(column: pl.Series) -> Times:
    """Of times that are there, in the order of the rows."""
    stamps = column.cast(pl.Datetime("us")) if column.dtype != pl.Time else None
    if stamps is None:
        day = datetime.datetime(1970, 1, 1)
        stamps = pl.Series([datetime.datetime.combine(day, value) for value in column.to_list()])
    stamps = stamps.dt.replace_time_zone(None)
    micro = stamps.to_physical().to_numpy()
    ordered = bool((np.diff(micro) >= 0).all())
    steps = np.diff(np.sort(micro))
    repeated = int((steps == 0).sum())
    steps = steps[steps > 0]
    first, last = stamps.min(), stamps.max()
    assert isinstance(first, datetime.datetime)
    assert isinstance(last, datetime.datetime)
    if not len(steps):
        return Times(first, last, ordered, 0.0, 0.0, 0, repeated)
    distinct, counts = np.unique(steps, return_counts=True)
    usual = distinct[np.argmax(counts)]
    near = np.abs(steps - usual) <= 0.15 * usual  # months and leap days are not all of one length
    return Times(
        first, last, ordered, float(usual) / 1e6, float(near.mean()), int((steps > 1.5 * usual).sum()), repeated
    )


def _distinct(present: pl.Series) -> int:
    if present.dtype.is_nested() or present.dtype == pl.Object:
        return len({repr(value) for value in present.to_list()})
    return present.n_unique() if len(present) else 0


def _top(present: pl.Series) -> tuple[tuple[str, int], ...]:
    counts = present.alias("value").value_counts(name="rows counted")
    ordered = counts.sort(["rows counted", "value"], descending=[True, False]).head(MOST_VALUES)
    return tuple((_shown(value), int(count)) for value, count in ordered.iter_rows())


def _commonest(present: pl.Series) -> tuple[tuple[str, int], ...]:
    """The commonest number alone, where it stands on more than a tenth of the rows."""
    first = _top(present)[:1]
    return first if first and first[0][1] > 0.1 * len(present) else ()


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _spellings(texts: pl.Series) -> tuple[tuple[str, str], ...]:
    """Pairs of categories that are one when case and white space are set aside, at most five."""
    seen: dict[str, str] = {}
    found: list[tuple[str, str]] = []
    for value in texts.unique(maintain_order=True).head(2000).to_list():
        plain = " ".join(value.split()).casefold()
        if plain in seen:
            found.append((seen[plain], value))
        seen.setdefault(plain, value)
    return tuple(found[:5])


def _sentinel(finite: Values) -> tuple[float, int] | None:
    """A number such as -999 that is repeated and lies further from all the others than they reach among themselves."""
    for value in (float(finite.min()), float(finite.max())):
        count = int((finite == value).sum())
        rest = finite[finite != value]
        if value not in SENTINELS or count < 3 or len(rest) < 20:
            continue
        low, high = float(rest.min()), float(rest.max())
        if min(abs(value - low), abs(value - high)) > max(high - low, 1.0):
            return value, count
    return None


def _ceiling(finite: Values) -> tuple[float, int] | None:
    """The largest of many values where a hundredth of the rows or more have it, ten times as many as most others."""
    distinct, counts = np.unique(finite, return_counts=True)
    if len(distinct) < 30 or counts[-1] < max(5, 0.01 * len(finite)):
        return None
    if counts[-1] < 10 * np.quantile(counts[:-1], 0.9):
        return None
    return float(distinct[-1]), int(counts[-1])
