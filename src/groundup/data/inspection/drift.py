"""How far apart two samples of one column lie: what moved between train and test, or between two versions of data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import chi2  # type: ignore[import-untyped]

from groundup.core.dataset import Dataset
from groundup.data.prepare.columns import spellings

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

BINS = 10
STEADY, MOVED = 0.1, 0.25
"""Population stability index: below 0.1 nothing to speak of, above 0.25 another population (Siddiqi 2006)."""


@dataclasses.dataclass(frozen=True)
class Drift:
    """How a column's distribution moved from one sample to another."""

    column: str
    stability: float
    """Population stability index: sum of (q - p) ln(q / p) over the first's deciles, or over categories."""
    distance: float | None
    """Kolmogorov and Smirnov's: the largest gap between the two distribution functions; None for categories."""
    missing: tuple[float, float]
    """The share of missing values in either."""
    means: tuple[float, float] | None
    chance: float = 0.0
    """The index that two samples of one population of these sizes stay below in 999 cases of 1,000.

    Of two such samples it is chi-squared with B - 1 degrees of freedom, times 1/n + 1/m (Yurdakul 2018).
    """
    new: tuple[str, ...] = ()
    """Categories that the second has and the first has not."""

    @property
    def moved(self) -> bool:
        """Whether it is another population by the usual measure, and not by chance."""
        return self.stability >= max(MOVED, self.chance)

    @property
    def stirred(self) -> bool:
        """Whether it moved a little or more, and not by chance."""
        return self.stability >= max(STEADY, self.chance)


def drifts(first: Dataset, second: Dataset, columns: Sequence[str] | None = None) -> list[Drift]:
    """For each column that both have and that holds numbers or categories, the furthest moved first."""
    names = columns if columns is not None else [name for name in first.columns if name in second.frame.columns]
    found = [drift(first.frame[name], second.frame[name]) for name in names if _comparable(first, second, name)]
    return sorted(found, key=lambda one: -one.stability)


def drift(first: pl.Series, second: pl.Series) -> Drift:
    """Of one column: numbers by deciles of the first, all else by its values."""
    lacking = _lacking(first), _lacking(second)
    if first.dtype.is_numeric() and second.dtype.is_numeric() and first.n_unique() > BINS:
        one, other = _finite(first), _finite(second)
        edges = np.unique(np.quantile(one, np.linspace(0, 1, BINS + 1)[1:-1])) if len(one) else np.zeros(0)
        p = np.bincount(np.searchsorted(edges, one, side="right"), minlength=len(edges) + 1)
        q = np.bincount(np.searchsorted(edges, other, side="right"), minlength=len(edges) + 1)
        means = (float(one.mean()), float(other.mean())) if len(one) and len(other) else None
        distance = _distance(one, other) if len(one) and len(other) else None
        return Drift(first.name, stability(p, q), distance, lacking, means, by_chance(p, q))
    one_counts, other_counts = _counts(first), _counts(second)
    values = sorted({*one_counts, *other_counts})
    p = np.array([one_counts.get(value, 0) for value in values])
    q = np.array([other_counts.get(value, 0) for value in values])
    new = tuple(value for value in values if value not in one_counts)
    return Drift(first.name, stability(p, q), None, lacking, None, by_chance(p, q), new)


def stability(first: Counts, second: Counts) -> float:
    """sum((q - p) ln(q / p)) of two lists of counts, half a count added to each so that empty bins stay finite.

    0 where either has no counts at all.
    """
    if not first.sum() or not second.sum():
        return 0.0
    p = (first + 0.5) / (first + 0.5).sum()
    q = (second + 0.5) / (second + 0.5).sum()
    return float(((q - p) * np.log(q / p)).sum())


def by_chance(first: Counts, second: Counts) -> float:
    """What the index of two samples of one population stays below in 999 cases of 1,000; 0 for fewer than two bins."""
    bins = int(((first + second) > 0).sum())
    if bins < 2 or not first.sum() or not second.sum():
        return 0.0
    return float(chi2.ppf(0.999, bins - 1)) * (1 / float(first.sum()) + 1 / float(second.sum()))


def _distance(one: Values, other: Values) -> float:
    """sup |F - G| of the two empirical distribution functions."""
    places = np.concatenate([one, other])
    first = np.searchsorted(np.sort(one), places, side="right") / len(one)
    second = np.searchsorted(np.sort(other), places, side="right") / len(other)
    return float(np.abs(first - second).max())


def _comparable(first: Dataset, second: Dataset, name: str) -> bool:
    one, other = first.frame[name], second.frame[name]
    kinds = {first.kinds.get(name), second.kinds.get(name)}
    if kinds & {"image", "id", "time"} or one.dtype.is_nested() or other.dtype.is_nested():
        return False
    if "text" in kinds:
        return False
    return one.dtype not in (pl.Binary, pl.Object) and other.dtype not in (pl.Binary, pl.Object)


def _counts(column: pl.Series) -> dict[str, int]:
    texts = spellings(column).drop_nulls().alias("value")
    return {str(value): int(count) for value, count in texts.value_counts(name="rows counted").iter_rows()}


def _finite(column: pl.Series) -> Values:
    values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    found: Values = values[np.isfinite(values)]
    return found


def _lacking(column: pl.Series) -> float:
    if not len(column):
        return 0.0
    absent = column.is_null() | column.is_nan().fill_null(False) if column.dtype.is_float() else column.is_null()
    return float(absent.mean() or 0.0)  # type: ignore[arg-type]
