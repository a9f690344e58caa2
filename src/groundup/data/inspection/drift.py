"""How far apart two samples of one column lie: what moved between train and test, or between two versions of data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset
from groundup.data.prepare.columns import spellings

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
    new: tuple[str, ...] = ()
    """Categories that the second has and the first has not."""

    @property
    def moved(self) -> bool:
        """Whether it is another population by the usual measure."""
        return self.stability >= MOVED


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
        return Drift(first.name, stability(p, q), distance, lacking, means)
    one_counts, other_counts = _counts(first), _counts(second)
    values = sorted({*one_counts, *other_counts})
    p = np.array([one_counts.get(value, 0) for value in values])
    q = np.array([other_counts.get(value, 0) for value in values])
    new = tuple(value for value in values if value not in one_counts)
    return Drift(first.name, stability(p, q), None, lacking, None, new)


def stability(
    first: np.ndarray[tuple[int], np.dtype[np.int64]], second: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> float:
    """sum((q - p) ln(q / p)) of two lists of counts, half a count added to each so that empty bins stay finite.

    0 where either has no counts at all.
    """
    if not first.sum() or not second.sum():
        return 0.0
    p = (first + 0.5) / (first + 0.5).sum()
    q = (second + 0.5) / (second + 0.5).sum()
    return float(((q - p) * np.log(q / p)).sum())


def _distance(
    one: np.ndarray[tuple[int], np.dtype[np.float64]], other: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> float:
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


def _finite(column: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = values[np.isfinite(values)]
    return found


def _lacking(column: pl.Series) -> float:
    if not len(column):
        return 0.0
    absent = column.is_null() | column.is_nan().fill_null(False) if column.dtype.is_float() else column.is_null()
    return float(absent.mean() or 0.0)  # type: ignore[arg-type]
