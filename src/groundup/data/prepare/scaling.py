"""Numbers brought to a scale that was learned on train."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from groundup.core.contract import State
from groundup.core.dataset import Dataset
from groundup.core.expressions import Asked, Columns, Expressed, ask, need_carried
from groundup.core.statistics import Moments, Quantiles
from groundup.data.prepare.columns import (
    asked_moments,
    choose,
    known_moments,
    known_numbers,
    learned_columns,
    merged,
    need_some,
    pieces,
    through,
    undone,
)


@dataclasses.dataclass(frozen=True)
class Standardize:
    """Mean 0 and standard deviation 1 over train: z = (x - mean) / deviation.

    The deviation is the population's, sqrt(mean((x - mean)^2)), divided by n and not n - 1. A column that is
    constant in train has no scale: its values become x - mean, which is 0, and that is noted. Missing values stay
    missing. Without ``columns`` all number columns.
    """

    columns: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def fit(self, train: Dataset) -> Self:
        """Learn each column's mean and deviation from the values that are there."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """Moments of each column."""
        return ask(self, shard) or moments_of(shard, self._choose(shard), "Standardize")

    def asked(self, columns: Columns) -> Asked:
        """Moments of each column, as expressions."""
        return asked_moments(columns, self._choose(columns.like), "Standardize", moments_state)

    def _choose(self, dataset: Dataset) -> list[str]:
        return choose(dataset, self.columns, self.exclude, ("number",), "Standardize")

    def merge(self, one: State, other: State) -> State:
        """Moments of both together."""
        return merged(one, other, _merge_moments)

    def finish(self, state: State) -> Self:
        """Mean and deviation of each column. Raises DataError when all of its values are missing."""
        columns = {}
        for name, found in _moments(state, "Standardize").items():
            columns[name] = {"mean": found.mean, "deviation": found.deviation}
        return dataclasses.replace(self, learned={"rows": state["rows"], "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns as z-scores, float64."""
        return need_carried(self, dataset)

    def expressed(self, columns: Columns) -> Expressed:
        """The same as expressions."""
        changed, notes = {}, []
        for name, entry in learned_columns(self.learned, columns.like, "Standardize").items():
            changed[name] = columns.number(name, "Standardize") - entry["mean"]
            if entry["deviation"] > 0:
                changed[name] = changed[name] / entry["deviation"]
            else:
                notes.append(f"{name}: constant in train ({entry['mean']:.6g}), so it is centred and not scaled")
        return Expressed(changed, notes=lambda _: notes)

    def inverse(self, dataset: Dataset) -> Dataset:
        """The columns as they were: x = z deviation + mean; those that the dataset has."""
        return undone(
            self.learned,
            dataset,
            "Standardize",
            lambda values, entry: values * (entry["deviation"] or 1.0) + entry["mean"],
        )


@dataclasses.dataclass(frozen=True)
class RobustScale:
    """Median 0 and interquartile range 1 over train: y = (x - median) / (q75 - q25); a few far values change neither.

    ``low`` and ``high`` are the shares that bound the range. A column whose range is 0 has no scale: its values become
    x - median, and that is noted. Missing values stay missing. Without ``columns`` all number columns. Quantiles are
    interpolated linearly; of more than 32,768 rows they are those of a sketch (``groundup.core.statistics``).
    """

    columns: Sequence[str] | None = None
    low: float = 0.25
    high: float = 0.75
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low and high: read {self.low} and {self.high}, expected 0 <= low < high <= 1.")

    def fit(self, train: Dataset) -> Self:
        """Learn each column's median and range."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """A sketch of each column's values in order."""
        return sketches(shard, choose(shard, self.columns, self.exclude, ("number",), "RobustScale"), "RobustScale")

    def merge(self, one: State, other: State) -> State:
        """Sketches of both together."""
        return merged(one, other, merge_sketches)

    def finish(self, state: State) -> Self:
        """Median and range of each column. Raises DataError when all of its values are missing."""
        columns = {}
        for name, sketch in known_sketches(state, "RobustScale").items():
            low, median, high = sketch.at([self.low, 0.5, self.high]).tolist()
            columns[name] = {"median": median, "range": high - low}
        return dataclasses.replace(self, learned={"rows": state["rows"], "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns on the new scale, float64."""
        return need_carried(self, dataset)

    def expressed(self, columns: Columns) -> Expressed:
        """The same as expressions."""
        changed, notes = {}, []
        for name, entry in learned_columns(self.learned, columns.like, "RobustScale").items():
            if not entry["range"]:
                notes.append(f"{name}: no range in train around {entry['median']:.6g}, so it is centred and not scaled")
            changed[name] = (columns.number(name, "RobustScale") - entry["median"]) / (entry["range"] or 1.0)
        return Expressed(changed, notes=lambda _: notes)

    def inverse(self, dataset: Dataset) -> Dataset:
        """The columns as they were: x = y range + median; those that the dataset has."""
        return undone(
            self.learned,
            dataset,
            "RobustScale",
            lambda values, entry: values * (entry["range"] or 1.0) + entry["median"],
        )


@dataclasses.dataclass(frozen=True)
class MinMax:
    """Train's smallest value becomes ``low``, its largest ``high``: y = low + (x - min) / (max - min) * (high - low).

    Later values may lie outside; they go on along the same line and are counted in the notes. A column that is
    constant in train becomes x - min + low. Missing values stay missing. Without ``columns`` all number columns.
    """

    columns: Sequence[str] | None = None
    low: float = 0.0
    high: float = 1.0
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low must be below high; read low {self.low}, high {self.high}.")

    def fit(self, train: Dataset) -> Self:
        """Learn each column's smallest and largest value."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """Moments of each column, its ends among them."""
        return ask(self, shard) or moments_of(shard, self._choose(shard), "MinMax")

    def asked(self, columns: Columns) -> Asked:
        """Moments of each column, as expressions."""
        return asked_moments(columns, self._choose(columns.like), "MinMax", moments_state, ends=True)

    def _choose(self, dataset: Dataset) -> list[str]:
        return choose(dataset, self.columns, self.exclude, ("number",), "MinMax")

    def merge(self, one: State, other: State) -> State:
        """Moments of both together."""
        return merged(one, other, _merge_moments)

    def finish(self, state: State) -> Self:
        """The ends of each column. Raises DataError when all of its values are missing."""
        columns = {}
        for name, found in _moments(state, "MinMax").items():
            columns[name] = {"min": found.smallest, "max": found.largest}
        return dataclasses.replace(self, learned={"rows": state["rows"], "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns on the new scale, float64."""
        return need_carried(self, dataset)

    def expressed(self, columns: Columns) -> Expressed:
        """The same as expressions."""
        known = learned_columns(self.learned, columns.like, "MinMax")
        changed, outside = {}, {}
        for name, entry in known.items():
            values, width = columns.number(name, "MinMax"), entry["max"] - entry["min"]
            outside[name] = ((values < entry["min"]) | (values > entry["max"])).sum()
            scale = (self.high - self.low) / (width or (self.high - self.low))
            changed[name] = self.low + (values - entry["min"]) * scale

        def notes(counts: Mapping[str, int]) -> Iterator[str]:
            for name, entry in known.items():
                low, high = f"{entry['min']:.6g}", f"{entry['max']:.6g}"
                if counts[name]:
                    yield f"{name}: {counts[name]} values outside train's {low} to {high}"
                if entry["min"] == entry["max"]:
                    yield f"{name}: constant in train ({low}), so it is moved and not scaled"

        return Expressed(changed, counts=outside, notes=lambda counts: list(notes(counts)))

    def inverse(self, dataset: Dataset) -> Dataset:
        """The columns as they were: x = min + (y - low) (max - min) / (high - low); those that the dataset has."""
        span = self.high - self.low
        return undone(
            self.learned,
            dataset,
            "MinMax",
            lambda values, entry: (values - self.low) * (((entry["max"] - entry["min"]) or span) / span) + entry["min"],
        )


@dataclasses.dataclass(frozen=True)
class LogScale:
    """Long tails drawn in: y = sign(x) ln(1 + |x|), which is near x for small x and keeps sign and order.

    Without ``columns`` all number columns. Missing values stay missing.
    """

    columns: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def fit(self, train: Dataset) -> Self:
        """Settle which columns are scaled."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """The columns; nothing is learned of their values."""
        return pieces(shard, choose(shard, self.columns, self.exclude, ("number",), "LogScale"), lambda name: {})

    def merge(self, one: State, other: State) -> State:
        """Both together."""
        return merged(one, other)

    def finish(self, state: State) -> Self:
        """The columns that are scaled."""
        return dataclasses.replace(self, learned=state)

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns on the new scale, float64."""
        return need_carried(self, dataset)

    def expressed(self, columns: Columns) -> Expressed:
        """The same as expressions."""
        known = learned_columns(self.learned, columns.like, "LogScale")
        values = {name: columns.number(name, "LogScale") for name in known}
        return Expressed({name: value.sign() * value.abs().log1p() for name, value in values.items()})

    def inverse(self, dataset: Dataset) -> Dataset:
        """The columns as they were: x = sign(y) (e^|y| - 1); those that the dataset has."""
        return undone(
            self.learned,
            dataset,
            "LogScale",
            lambda values, _: through(values, lambda y: np.sign(y) * np.expm1(np.abs(y))),
        )


def moments(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Mean and population deviation of float64 values; a deviation that is rounding error is given as 0."""
    found = Moments.of(values)
    return found.mean, found.deviation


def sketches(shard: Dataset, columns: Sequence[str], by: str) -> State:
    """A sketch of each column's values in order."""
    return pieces(shard, columns, lambda name: Quantiles.of(known_numbers(shard, name, by)).state)


def merge_sketches(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Sketches of both together."""
    return Quantiles.from_state(one).merge(Quantiles.from_state(other)).state


def known_sketches(state: State, by: str) -> dict[str, Quantiles]:
    """The sketch of each column. Raises DataError for one that has no value."""
    found = {name: Quantiles.from_state(column) for name, column in state["columns"].items()}
    for name, column in found.items():
        need_some(column.count, state["rows"], name, by)
    return found


def moments_of(shard: Dataset, columns: Sequence[str], by: str) -> State:
    """Moments of each column. Raises DataError when a value is infinite."""
    return pieces(shard, columns, lambda name: known_moments(shard, name, by).state)


def moments_state(rows: int, found: Mapping[str, Moments]) -> State:
    """The same state of what was asked by expressions."""
    return {"rows": rows, "columns": {name: one.state for name, one in found.items()}}


def _merge_moments(one: list[Any], other: list[Any]) -> list[Any]:
    return Moments.from_state(one).merge(Moments.from_state(other)).state


def _moments(state: State, by: str) -> dict[str, Moments]:
    """What each column's values told. Raises DataError for one that has none."""
    found = {name: Moments.from_state(column) for name, column in state["columns"].items()}
    for name, column in found.items():
        need_some(column.count, state["rows"], name, by)
    return found
