"""What columns have to do with one another and with the target: what tells it, what repeats, what is missing with what.

How much a column tells is measured out of sample: fitted on one half of the rows, seen on the other, and the other way
round. A column of chance then tells nothing, however many values it has.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.dataset import ROW, Dataset
from groundup.data.cleaning.duplicates import drop_exact_duplicates
from groundup.data.inspection.columns import Column
from groundup.data.prepare.columns import spellings
from groundup.data.samples.targets import learn_target

Values = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

MOST_ROWS = 20_000
"""Rows on which relations are measured, drawn by a seed."""

MOST_BINS = 24
MOST_CORRELATED = 24
ROWS_PER_BIN = 20
SEED = 0


@dataclasses.dataclass(frozen=True)
class Target:
    """What is to be predicted, as samples of the kind ``Rows`` would take it."""

    name: str
    task: Literal["classify", "regress"]
    missing: int
    classes: tuple[Any, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def commonest_share(self) -> float:
        """The share of the commonest class: what is right when one always says it."""
        return max(self.counts) / sum(self.counts) if self.counts else 0.0


@dataclasses.dataclass(frozen=True)
class Told:
    """How much of the target one column tells by itself."""

    column: str
    share: float
    """Classes: share of their entropy that goes (out of sample); numbers: share of their variance. 0 to 1."""
    alone: float
    """Classes: share of rows told right; numbers: |Spearman's rank correlation|."""
    leaks: bool
    """It gives the target away: practically nothing remains to be learned."""


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Rows that stand in the data more than once, ids set aside."""

    rows: int
    """How many there are beside the first of each."""
    examples: tuple[tuple[str, str], ...] = ()
    """(the row, the one that it equals)."""


@dataclasses.dataclass(frozen=True)
class Correlations:
    """Spearman's rank correlation of number columns, each pair over the rows that have both."""

    names: tuple[str, ...]
    matrix: Values
    """[C, C], NaN where a pair has too few rows or no spread."""


@dataclasses.dataclass(frozen=True)
class Gaps:
    """Where values are missing: by block of rows, and which columns lack together."""

    names: tuple[str, ...]
    blocks: Values
    """[columns, blocks]: share of missing values."""
    patterns: tuple[tuple[tuple[str, ...], int], ...] = ()
    """(columns that are missing together, on how many rows), the commonest first."""


def find_target(dataset: Dataset, name: str) -> Target:
    """Its task and classes, over the rows that have it. Raises DataError where nothing can be learned from it."""
    dataset.need(name, by="target")
    there = ~_absent(dataset.frame[name])
    missing = len(dataset) - int(there.sum())
    kind = dataset.kinds[name]
    known = dataset.with_frame(dataset.frame.filter(there), {name: "category" if kind in ("text", "id") else kind})
    learned = learn_target(dataclasses.replace(known, split="train"), name, "auto", "target")
    return Target(name, learned["task"], missing, tuple(learned.get("classes", ())), tuple(learned.get("counts", ())))


def find_duplicates(dataset: Dataset) -> Duplicates:
    """Exact copies of rows, over all columns but ids."""
    if all(dataset.kinds[name] == "id" for name in dataset.columns):
        return Duplicates(0)
    # Under plain names, for polars takes a column called "*" or "^...$" for a pattern.
    plain = {name: f"column {i}" for i, name in enumerate(dataset.columns)}
    frame = pl.DataFrame({ROW: dataset.frame[ROW], **{new: dataset.frame.get_column(n) for n, new in plain.items()}})
    kinds = {new: dataset.kinds[name] for name, new in plain.items()}
    gone = drop_exact_duplicates()(dataclasses.replace(dataset, frame=frame, kinds=kinds, pending=())).pending
    return Duplicates(len(gone), tuple((name, reason.partition(" of ")[2]) for name, reason in gone[:5]))


def what_tells(dataset: Dataset, target: Target, columns: Sequence[Column]) -> list[Told]:
    """How much each column tells of the target, the most telling first."""
    rows = dataset.frame.filter(~_absent(dataset.frame[target.name]))
    rows = _drawn(rows, MOST_ROWS)
    if rows.height < 20:
        return []
    halves = np.random.default_rng(SEED).permutation(rows.height) % 2 == 0
    classes = _codes(rows[target.name])[0] if target.task == "classify" else None
    values = rows[target.name].cast(pl.Float64).to_numpy() if target.task == "regress" else None
    found = []
    for column in columns:
        if column.name == target.name or column.kind in ("image", "time") or not column.present:
            continue
        feature = rows[column.name]
        if feature.dtype.is_nested() or feature.dtype in (pl.Binary, pl.Object):
            continue
        codes, size = _binned(feature)
        if classes is not None:
            found.append(_tells_classes(column.name, codes, size, classes, halves))
        else:
            assert values is not None
            found.append(_tells_numbers(column.name, feature, codes, size, values, halves))
    return sorted(found, key=lambda told: -told.share)


def correlate(dataset: Dataset, columns: Sequence[Column]) -> Correlations | None:
    """Rank correlations of the number columns, at most 24; None for fewer than two."""
    names = [c.name for c in columns if c.kind in ("number", "boolean") and c.distinct > 1][:MOST_CORRELATED]
    if len(names) < 2 or len(dataset) < 3:
        return None
    rows = _drawn(pl.DataFrame({name: dataset.frame.get_column(name) for name in names}), 5000)
    numbers = [rows[name].cast(pl.Float64).fill_nan(None) for name in names]
    numbers = [pl.select(pl.when(one.is_finite()).then(one)).to_series() for one in numbers]
    ranks = np.stack([one.rank().cast(pl.Float64).fill_null(np.nan).to_numpy() for one in numbers])
    matrix = np.eye(len(names))
    for i in range(len(names)):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = _correlation(ranks[i], ranks[j])
    return Correlations(tuple(names), matrix)


def find_twins(dataset: Dataset, columns: Sequence[Column], correlations: Correlations | None) -> list[tuple[str, str]]:
    """Pairs of columns that say the same in other words: ranks that agree to 0.9995, or categories one to one."""
    found: list[tuple[str, str]] = []
    names = correlations.names if correlations is not None else ()
    for i, first in enumerate(names):
        for j, second in enumerate(names[i + 1 :], i + 1):
            assert correlations is not None
            if abs(correlations.matrix[i, j]) >= 0.9995:
                found.append((first, second))
    grouping = [c for c in columns if c.kind in ("category", "boolean", "number") and 1 < c.distinct <= 200]
    rows = _drawn(dataset.frame, MOST_ROWS)
    for i, one in enumerate(grouping):
        for other in grouping[i + 1 :]:
            both_numbers = one.kind == other.kind == "number"
            if both_numbers or one.distinct != other.distinct or one.missing != other.missing:
                continue
            both = pl.DataFrame({"one": rows.get_column(one.name), "other": rows.get_column(other.name)})
            if rows.height >= 5 * one.distinct and both.n_unique() <= one.distinct + 1:
                found.append((one.name, other.name))
    return found


def find_gaps(dataset: Dataset, columns: Sequence[Column], num_blocks: int = 60) -> Gaps | None:
    """Where values are missing in the columns that lack any, at most 30; None where nothing is missing."""
    names = [c.name for c in columns if c.missing][:30]
    if not names:
        return None
    absent = np.stack([_absent(dataset.frame[name]).to_numpy() for name in names])
    cuts = np.linspace(0, absent.shape[1], min(num_blocks, absent.shape[1]) + 1).astype(int)
    blocks = np.stack([absent[:, a:b].mean(axis=1) for a, b in itertools.pairwise(cuts.tolist())], axis=1)
    some = absent[:, absent.any(axis=0)]
    distinct, counts = np.unique(some.T, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:6]
    patterns = tuple(
        (tuple(names[i] for i in np.flatnonzero(distinct[k]).tolist()), int(counts[k])) for k in order.tolist()
    )
    return Gaps(tuple(names), blocks, patterns)


def _absent(column: pl.Series) -> pl.Series:
    return column.is_null() | column.is_nan().fill_null(False) if column.dtype.is_float() else column.is_null()


def _drawn(frame: pl.DataFrame, most: int) -> pl.DataFrame:
    """At most so many rows, drawn by the seed, in their order."""
    if frame.height <= most:
        return frame
    chosen = np.sort(np.random.default_rng(SEED).choice(frame.height, most, replace=False))
    return frame[chosen]


def drawn(dataset: Dataset, most: int) -> Dataset:
    """At most so many rows of a dataset, drawn by a seed, in their order."""
    return dataset if len(dataset) <= most else dataset.with_frame(_drawn(dataset.frame, most))


def _codes(column: pl.Series) -> tuple[Codes, int]:
    """Values as numbers 0, 1, ...; a missing one has a number too."""
    texts = spellings(column).fill_null("\0missing")
    codes = texts.cast(pl.Categorical).to_physical().cast(pl.Int64).to_numpy()
    _, dense = np.unique(codes, return_inverse=True)
    return dense.astype(np.int64), int(dense.max()) + 1


def _binned(column: pl.Series) -> tuple[Codes, int]:
    """Categories as they are, numbers in bins of about equal size with gaps apart."""
    if not column.dtype.is_numeric() or column.n_unique() <= MOST_BINS:
        return _codes(column)
    values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = np.isfinite(values)
    bins = max(2, min(MOST_BINS, int(known.sum()) // ROWS_PER_BIN))
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, bins + 1)[1:-1])) if known.any() else np.zeros(0)
    codes = np.where(known, np.searchsorted(edges, np.where(known, values, 0.0), side="right"), len(edges) + 1)
    return codes.astype(np.int64), len(edges) + 2


def _tells_classes(name: str, codes: Codes, size: int, classes: Codes, halves: npt.NDArray[np.bool_]) -> Told:
    """Theil's U = 1 - H(target | column) / H(target), and the share told right, both seen on the other half."""
    num_classes = int(classes.max()) + 1
    nats = prior_nats = right = prior_right = 0.0
    for seen in (halves, ~halves):
        prior = np.bincount(classes[seen], minlength=num_classes) + 0.5
        prior /= prior.sum()
        table = np.zeros((size, num_classes))
        np.add.at(table, (codes[seen], classes[seen]), 1.0)
        shares = (table + 2 * prior) / (table.sum(axis=1, keepdims=True) + 2)
        told = shares[codes[~seen]]
        truth = classes[~seen]
        nats -= float(np.log(told[np.arange(len(truth)), truth]).sum())
        prior_nats -= float(np.log(prior[truth]).sum())
        right += int((told.argmax(axis=1) == truth).sum())
        prior_right += int((truth == prior.argmax()).sum())
    rows = len(classes)
    better = (right - prior_right) / (rows - prior_right) if prior_right < rows else 0.0
    share = max(0.0, 1 - nats / prior_nats) if prior_nats > 0 else 0.0
    return Told(name, share, right / rows, leaks=better >= 0.995 and rows >= 50)


def _tells_numbers(
    name: str, feature: pl.Series, codes: Codes, size: int, values: Values, halves: npt.NDArray[np.bool_]
) -> Told:
    """1 - (squared error of the bins' means) / (variance), seen on the other half, and the rank correlation."""
    error = spread = 0.0
    for seen in (halves, ~halves):
        mean = float(values[seen].mean())
        sums = np.bincount(codes[seen], weights=values[seen] - mean, minlength=size)
        means = mean + sums / (np.bincount(codes[seen], minlength=size) + 2)
        error += float(((values[~seen] - means[codes[~seen]]) ** 2).sum())
        spread += float(((values[~seen] - mean) ** 2).sum())
    ranked = 0.0
    if feature.dtype.is_numeric():
        known = feature.cast(pl.Float64).fill_nan(None).is_finite().fill_null(False).to_numpy()
        one = pl.Series(feature.cast(pl.Float64).to_numpy()[known]).rank().to_numpy()
        other = pl.Series(values[known]).rank().to_numpy()
        ranked = abs(_correlation(one, other)) if known.mean() > 0.5 else 0.0
    share = max(0.0, 1 - error / spread) if spread > 0 else 0.0
    return Told(name, share, 0.0 if np.isnan(ranked) else ranked, leaks=ranked >= 0.9995 and len(values) >= 50)


def _correlation(one: Values, other: Values) -> float:
    """Pearson's, over the places that both have; NaN without spread or for fewer than three."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 3:
        return float("nan")
    a, b = one[both] - one[both].mean(), other[both] - other[both].mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")
