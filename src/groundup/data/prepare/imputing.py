"""Missing numbers told from the other columns of the same row: by similar rows, or by regression."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.dataset import Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.sampling import reservoir
from groundup.data.prepare.columns import choose, learned_columns
from groundup.data.prepare.matrix import learn_scales, listed, standardised, unlisted

Values = npt.NDArray[np.float64]

DISTANCES_AT_ONCE = 250_000


@dataclasses.dataclass(frozen=True)
class FillNearest:
    """Fill a missing number with the mean of that column over the ``neighbours`` most similar rows of train.

    Similar by the distance over the columns that both rows have, sqrt(F / known sum (x - y)^2), in deviations of
    train (Troyanskaya et al., Bioinformatics 17, 2001). ``weights`` "distance" weighs a neighbour by 1 / distance. A
    row that shares no known column with any gets train's mean. The neighbours are ``sample_rows`` rows of train, drawn
    by ``seed``; they are kept in the checkpoint. Without ``columns`` all number columns are filled from one another;
    ``features`` names further ones to compare rows by. ``indicator`` as in ``Fill``. On standardised columns it
    equals scikit-learn's KNNImputer.
    """

    CONTRACT: ClassVar = "sampled"

    columns: Sequence[str] | None = None
    neighbours: int = 5
    weights: Literal["uniform", "distance"] = "uniform"
    features: Sequence[str] = ()
    indicator: bool = False
    sample_rows: int = 5000
    seed: int = 0
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _at_least_one({"neighbours": self.neighbours, "sample_rows": self.sample_rows})

    def fit(self, train: Dataset) -> Self:
        """Keep the sample, standardised, and each column's mean and deviation."""
        learned, matrix = _learn(self, train)
        return dataclasses.replace(self, learned={**learned, "sample": listed(matrix)})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without gaps in these columns, float64."""
        columns = learned_columns(self.learned, dataset, "FillNearest")
        assert self.learned is not None
        matrix = standardised(dataset, columns, "FillNearest")
        sample = unlisted(self.learned["sample"], len(columns))
        lacking = np.flatnonzero(np.isnan(matrix).any(axis=1))
        filled = matrix.copy()
        at_once = max(1, DISTANCES_AT_ONCE // max(1, len(sample)))
        for start in range(0, len(lacking), at_once):
            rows = lacking[start : start + at_once]
            filled[rows] = self._from_neighbours(matrix[rows], sample)
        return _with_filled(self, dataset, columns, matrix, filled, f"{self.neighbours} nearest rows")

    def _from_neighbours(self, rows: Values, sample: Values) -> Values:
        """The rows [N, F] with each gap filled from the sample [S, F]."""
        distances = gap_distances(rows, sample)
        filled = rows.copy()
        for f in np.flatnonzero(np.isnan(rows).any(axis=0)):
            gaps, donors = np.flatnonzero(np.isnan(rows[:, f])), np.flatnonzero(~np.isnan(sample[:, f]))
            apart = distances[np.ix_(gaps, donors)]
            count = min(self.neighbours, len(donors))
            if not count:
                filled[gaps, f] = 0.0
                continue
            near = np.argpartition(apart, count - 1, axis=1)[:, :count]
            far = np.take_along_axis(apart, near, axis=1)
            weights = self._weights(far)
            values = sample[donors, f][near]
            total = weights.sum(axis=1)
            # 0 is train's mean.
            filled[gaps, f] = np.where(total > 0, (weights * values).sum(axis=1) / np.where(total > 0, total, 1), 0.0)
        return filled

    def _weights(self, far: Values) -> Values:
        if self.weights == "uniform":
            return np.where(np.isnan(far), 0.0, 1.0)
        same = far == 0
        with np.errstate(divide="ignore"):
            weights = np.where(np.isnan(far), 0.0, 1 / far)
        return np.where(same.any(axis=1, keepdims=True), same.astype(np.float64), weights)


@dataclasses.dataclass(frozen=True)
class FillIterative:
    """Fill missing numbers by ridge regression on the other columns, column after column, round after round.

    Gaps begin as train's mean; then each column, the one with fewest gaps first, is regressed on all others over
    the rows that have it, w = argmin sum (y - w x)^2 + ``penalty`` |w|^2 in deviations of train, and its gaps are set
    anew. It ends after ``rounds``, or when no row moved by ``tolerance`` times the largest value in all. Every
    round's coefficients are kept and are carried out again on new rows (van Buuren and Groothuis-Oudshoorn, J.
    Statistical Software 45, 2011, with means in place of draws). Learned from ``sample_rows`` rows of train, drawn by
    ``seed``. Without ``columns`` all number columns are filled from one another; ``features`` names further ones to
    predict from. ``indicator`` as in ``Fill``. On standardised columns it equals scikit-learn's IterativeImputer
    with Ridge.
    """

    CONTRACT: ClassVar = "sampled"

    columns: Sequence[str] | None = None
    rounds: int = 10
    penalty: float = 1.0
    tolerance: float = 1e-3
    features: Sequence[str] = ()
    indicator: bool = False
    sample_rows: int = 100_000
    seed: int = 0
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _at_least_one({"rounds": self.rounds, "sample_rows": self.sample_rows})
        if self.penalty < 0 or self.tolerance < 0:
            raise ValueError(f"penalty and tolerance: read {self.penalty} and {self.tolerance}, expected at least 0.")

    def fit(self, train: Dataset) -> Self:
        """Learn the regressions of each round."""
        learned, matrix = _learn(self, train)
        if matrix.shape[1] < 2:
            raise DataError("FillIterative: there is one number column; it needs another to predict from.")
        missing = np.isnan(matrix)
        order = np.argsort(missing.mean(axis=0), kind="stable")
        filled = np.where(missing, 0.0, matrix)
        largest = np.abs(matrix[~missing]).max(initial=0.0)
        rounds = []
        for _ in range(self.rounds):
            before = filled.copy()
            regressions = []
            for f in order.tolist():
                weights = _ridge(filled[~missing[:, f]], f, self.penalty)
                _predict(filled, missing, f, weights)
                regressions.append([f, *weights.tolist()])
            rounds.append(regressions)
            if np.abs(filled - before).sum(axis=1).max(initial=0.0) < self.tolerance * largest:
                break
        return dataclasses.replace(self, learned={**learned, "rounds": rounds})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without gaps in these columns, float64."""
        columns = learned_columns(self.learned, dataset, "FillIterative")
        assert self.learned is not None
        matrix = standardised(dataset, columns, "FillIterative")
        missing = np.isnan(matrix)
        filled = np.where(missing, 0.0, matrix)
        for regressions in self.learned["rounds"]:
            for f, *weights in regressions:
                _predict(filled, missing, int(f), np.array(weights))
        how = f"regressions in {len(self.learned['rounds'])} rounds"
        return _with_filled(self, dataset, columns, matrix, filled, how)


Imputer = FillNearest | FillIterative


def gap_distances(rows: Values, others: Values) -> Values:
    """Distance [N, S] over the columns that both have, scaled up to all; NaN where they share none.

    Dixon, IEEE Trans. Systems, Man and Cybernetics 9, 1979.
    """
    here, there = (~np.isnan(part) for part in (rows, others))
    x, y = np.where(here, rows, 0.0), np.where(there, others, 0.0)
    squares, apart = np.zeros((len(rows), len(others))), np.empty((len(rows), len(others)))
    # Column by column: a matrix product would add in an order that depends on how many rows there are.
    for f in range(rows.shape[1]):
        np.subtract(x[:, f, None], y[None, :, f], out=apart)
        apart *= apart
        if not there[:, f].all():
            apart *= there[None, :, f]
        if not here[:, f].all():
            apart *= here[:, f, None]
        squares += apart
    shared = here.astype(np.float64) @ there.T.astype(np.float64)  # whole numbers, exact in any order
    with np.errstate(divide="ignore", invalid="ignore"):
        squares *= np.where(shared > 0, rows.shape[1] / shared, np.nan)
    distances: Values = np.sqrt(squares, out=squares)
    return distances


def _learn(step: Imputer, train: Dataset) -> tuple[dict[str, Any], Values]:
    """What both learn: the columns with their scales and gaps; and the sample, standardised."""
    by = type(step).__name__
    kinds: tuple[Kind, ...] = ("number",)
    filled = choose(train, step.columns, step.exclude, kinds, by)
    further = [n for n in choose(train, step.features, step.exclude, kinds, by) if n not in filled]
    sample = reservoir(train, step.sample_rows, step.seed)
    columns = learn_scales(sample, [*filled, *further], by)
    counts = standardised(sample, columns, by)
    missing = np.isnan(counts).sum(axis=0)
    for name, count in zip(columns, missing.tolist(), strict=True):
        if step.indicator and count and name in filled and f"{name}_missing" in train.frame.columns:
            raise DataError(
                f"{by}: the indicator {name + '_missing'!r} would replace a column of that name; rename it."
            )
        columns[name]["missing"] = count
    return {"rows": len(sample), "columns": columns, "filled": filled}, counts


def _with_filled(
    step: Imputer, dataset: Dataset, columns: Mapping[str, Any], matrix: Values, filled: Values, how: str
) -> Dataset:
    """The dataset with gaps filled in its own units; what was known keeps its bits."""
    assert step.learned is not None
    changed: dict[str, pl.Series] = {}
    kinds: dict[str, Kind] = {}
    notes = []
    for i, (name, entry) in enumerate(columns.items()):
        if name not in step.learned["filled"]:
            continue
        missing = np.isnan(matrix[:, i])
        values = dataset.frame[name].cast(pl.Float64).fill_nan(None)
        told = pl.Series(name, filled[:, i] * entry["deviation"] + entry["mean"])
        changed[name], kinds[name] = values.fill_null(told), "number"
        if count := int(missing.sum()):
            surprise = "" if entry["missing"] else "; train had none"
            notes.append(f"{name}: {count} missing, filled from {how}{surprise}")
        if step.indicator and entry["missing"]:
            changed[f"{name}_missing"], kinds[f"{name}_missing"] = pl.Series(missing), "boolean"
    return dataset.with_frame(dataset.frame.with_columns(**changed), kinds).note(*notes)


def _ridge(rows: Values, target: int, penalty: float) -> Values:
    """Intercept and weights of the other columns [1 + F - 1] that predict the target column best."""
    others = np.delete(rows, target, axis=1)
    means, mean = others.mean(axis=0), rows[:, target].mean()
    x, y = others - means, rows[:, target] - mean
    gram = x.T @ x + penalty * np.eye(x.shape[1])
    weights = np.linalg.lstsq(gram, x.T @ y)[0]
    return np.concatenate([[mean - means @ weights], weights])


def _predict(filled: Values, missing: npt.NDArray[np.bool_], target: int, weights: Values) -> None:
    """Set the gaps of one column anew, in place."""
    gaps = np.flatnonzero(missing[:, target])
    told = np.full(len(gaps), weights[0])
    for weight, other in zip(weights[1:].tolist(), np.delete(np.arange(filled.shape[1]), target), strict=True):
        told += weight * filled[gaps, other]
    filled[gaps, target] = told


def _at_least_one(options: Mapping[str, int]) -> None:
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"{name}: read {value}, expected at least 1.")
