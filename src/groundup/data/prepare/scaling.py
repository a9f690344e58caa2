"""Numbers brought to a scale that was learned on train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset
from groundup.data.prepare.columns import choose, learned_columns, numbers, present_numbers, with_columns


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
        columns = {}
        for name in choose(train, self.columns, self.exclude, ("number",), "Standardize"):
            mean, deviation = moments(present_numbers(train, name, "Standardize"))
            columns[name] = {"mean": mean, "deviation": deviation}
        return dataclasses.replace(self, learned={"rows": len(train), "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns as z-scores, float64."""
        changed, notes = {}, []
        for name, entry in learned_columns(self.learned, dataset, "Standardize").items():
            values = numbers(dataset, name, "Standardize") - entry["mean"]
            if entry["deviation"] > 0:
                values = values / entry["deviation"]
            else:
                notes.append(f"{name}: constant in train ({entry['mean']:.6g}), so it is centred and not scaled")
            changed[name] = values
        return with_columns(dataset, changed, notes)


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
        columns = {}
        for name in choose(train, self.columns, self.exclude, ("number",), "MinMax"):
            values = present_numbers(train, name, "MinMax")
            columns[name] = {"min": float(values.min()), "max": float(values.max())}
        return dataclasses.replace(self, learned={"rows": len(train), "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns on the new scale, float64."""
        changed, notes = {}, []
        for name, entry in learned_columns(self.learned, dataset, "MinMax").items():
            values = numbers(dataset, name, "MinMax")
            outside = int(((values < entry["min"]) | (values > entry["max"])).sum())
            if outside:
                notes.append(f"{name}: {outside} values outside train's {entry['min']:.6g} to {entry['max']:.6g}")
            width = entry["max"] - entry["min"]
            if not width:
                notes.append(f"{name}: constant in train ({entry['min']:.6g}), so it is moved and not scaled")
            changed[name] = self.low + (values - entry["min"]) * (
                (self.high - self.low) / (width or (self.high - self.low))
            )
        return with_columns(dataset, changed, notes)


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
        chosen = choose(train, self.columns, self.exclude, ("number",), "LogScale")
        return dataclasses.replace(self, learned={"rows": len(train), "columns": {name: {} for name in chosen}})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns on the new scale, float64."""
        changed: dict[str, pl.Series] = {}
        for name in learned_columns(self.learned, dataset, "LogScale"):
            values = numbers(dataset, name, "LogScale")
            changed[name] = values.sign() * values.abs().log1p()
        return with_columns(dataset, changed)


def moments(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Mean and population deviation of float64 values; a deviation that is rounding error is given as 0."""
    mean, deviation = float(np.mean(values)), float(np.std(values))
    rounding = 10 * np.finfo(np.float64).eps * max(abs(mean), float(np.max(np.abs(values))))
    return mean, deviation if deviation > rounding else 0.0
