"""Numbers brought to another distribution, even or normal, that was learned on train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.contract import State
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.prepare.columns import choose, learned_columns, merged, numbers, through, undone, with_columns
from groundup.data.prepare.powers import TRANSFORMS, best_power
from groundup.data.prepare.scaling import known_sketches, merge_sketches, sketches

Values = npt.NDArray[np.float64]

RIM = 1e-7
"""Nearer than so to 0 or 1 a share counts as the end; the normal distribution would answer without bound there."""


@dataclasses.dataclass(frozen=True)
class PowerScale:
    """The power of each column that makes train most like a normal distribution, then mean 0 and deviation 1.

    ``yeo_johnson`` takes any number, ``box_cox`` positive ones alone. The power is that of most likelihood (formulas
    and sources in ``groundup.data.prepare.powers``); of more than 32,768 rows it is found on a sketch of their values
    in order. ``standardize = false`` leaves out the last step. A constant column is centred and not scaled, and that is
    noted. Missing values stay missing. Without ``columns`` all number columns.
    """

    columns: Sequence[str] | None = None
    method: Literal["yeo_johnson", "box_cox"] = "yeo_johnson"
    standardize: bool = True
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def fit(self, train: Dataset) -> Self:
        """Learn each column's power, and the mean and deviation that it leads to."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """A sketch of each column's values in order."""
        return sketches(shard, choose(shard, self.columns, self.exclude, ("number",), "PowerScale"), "PowerScale")

    def merge(self, one: State, other: State) -> State:
        """Sketches of both together."""
        return merged(one, other, merge_sketches)

    def finish(self, state: State) -> Self:
        """Power, mean and deviation of each column. Raises DataError when all values are missing, or one is not > 0."""
        columns = {}
        for name, sketch in known_sketches(state, "PowerScale").items():
            smallest = float(sketch.at(0.0)[0])
            if self.method == "box_cox" and not smallest > 0:
                raise DataError(
                    f"PowerScale: box_cox needs positive values, and column {name!r} goes down to {smallest:.6g} in "
                    'train. Take method = "yeo_johnson".'
                )
            power, mean, deviation = best_power(sketch, self.method)
            columns[name] = {"power": power, "mean": mean, "deviation": deviation}
        return dataclasses.replace(self, learned={"rows": state["rows"], "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns on the new scale, float64. Raises DataError where Box-Cox meets what is not positive."""
        changed, notes = {}, []
        for name, entry in learned_columns(self.learned, dataset, "PowerScale").items():
            values = numbers(dataset, name, "PowerScale")
            if self.method == "box_cox":
                _refuse_low(dataset, values)
            if self.standardize and not entry["deviation"]:
                notes.append(f"{name}: constant in train, so it is centred and not scaled")
            changed[name] = through(values, self._there, entry)
        return with_columns(dataset, changed, notes)

    def inverse(self, dataset: Dataset) -> Dataset:
        """The columns as they were, those that the dataset has; what no value could have become is missing."""
        return undone(self.learned, dataset, "PowerScale", lambda values, entry: through(values, self._back, entry))

    def _there(self, values: Values, entry: Mapping[str, Any]) -> Values:
        mean, deviation = self._line(entry)
        return (TRANSFORMS[self.method][0](values, entry["power"]) - mean) / deviation

    def _back(self, values: Values, entry: Mapping[str, Any]) -> Values:
        mean, deviation = self._line(entry)
        return TRANSFORMS[self.method][1](values * deviation + mean, entry["power"])

    def _line(self, entry: Mapping[str, Any]) -> tuple[float, float]:
        return (entry["mean"], entry["deviation"] or 1.0) if self.standardize else (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class QuantileScale:
    """Each value becomes its place among train's values in order: even from 0 to 1, or as a normal distribution's.

    The shares of ``quantiles`` values of train, or of all where there are fewer, are kept, and what lies between two of
    them is interpolated; equal values get the middle of their shares. Later values beyond train's ends get the ends,
    and are counted in the notes. For ``normal`` the place goes through the inverse of the normal distribution, up to
    5.2 deviations. Missing values stay missing. Without ``columns`` all number columns. Equal to scikit-learn's
    QuantileTransformer without its subsample; of more than 32,768 rows the quantiles are those of a sketch.
    """

    columns: Sequence[str] | None = None
    quantiles: int = 1000
    distribution: Literal["uniform", "normal"] = "uniform"
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.quantiles < 2:
            raise ValueError(f"quantiles: read {self.quantiles}, expected at least 2.")

    def fit(self, train: Dataset) -> Self:
        """Learn the quantiles of each column."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """A sketch of each column's values in order."""
        return sketches(shard, choose(shard, self.columns, self.exclude, ("number",), "QuantileScale"), "QuantileScale")

    def merge(self, one: State, other: State) -> State:
        """Sketches of both together."""
        return merged(one, other, merge_sketches)

    def finish(self, state: State) -> Self:
        """The quantiles of each column. Raises DataError when all of its values are missing."""
        columns = {}
        for name, sketch in known_sketches(state, "QuantileScale").items():
            shares = np.linspace(0, 1, max(2, min(self.quantiles, sketch.count)))
            columns[name] = {"quantiles": np.maximum.accumulate(sketch.at(shares)).tolist()}
        return dataclasses.replace(self, learned={"rows": state["rows"], "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns on the new scale, float64."""
        changed, notes = {}, []
        for name, entry in learned_columns(self.learned, dataset, "QuantileScale").items():
            values, known = numbers(dataset, name, "QuantileScale"), np.array(entry["quantiles"])
            outside = int(((values < known[0]) | (values > known[-1])).sum())
            if outside:
                notes.append(f"{name}: {outside} values outside train's {known[0]:.6g} to {known[-1]:.6g}")
            if known[0] == known[-1]:
                notes.append(f"{name}: constant in train ({known[0]:.6g}), so it has no order")
            changed[name] = through(values, self._place, known)
        return with_columns(dataset, changed, notes)

    def inverse(self, dataset: Dataset) -> Dataset:
        """The columns as they were, within train's range; those that the dataset has."""
        return undone(
            self.learned,
            dataset,
            "QuantileScale",
            lambda values, entry: through(values, self._value, np.array(entry["quantiles"])),
        )

    def _place(self, values: Values, known: Values) -> Values:
        shares = np.linspace(0, 1, len(known))
        # From both sides, so that equal values get the middle of their shares.
        found = 0.5 * (np.interp(values, known, shares) - np.interp(-values, -known[::-1], -shares[::-1]))
        found = np.where(values >= known[-1], 1.0, found)
        found = np.where(values <= known[0], 0.0, found)
        if self.distribution == "normal":
            from scipy.special import ndtri  # type: ignore[import-untyped]

            found = ndtri(np.clip(found, RIM, 1 - RIM))
        return np.where(np.isnan(values), np.nan, found)

    def _value(self, places: Values, known: Values) -> Values:
        if self.distribution == "normal":
            from scipy.special import ndtr

            places, rim = ndtr(places), RIM * (1 + 1e-6)  # what was drawn in to the rim stood at the end
            places = np.where(places <= rim, 0.0, np.where(places >= 1 - rim, 1.0, places))
        return np.where(np.isnan(places), np.nan, np.interp(places, np.linspace(0, 1, len(known)), known))


def _refuse_low(dataset: Dataset, values: pl.Series) -> None:
    low = (values <= 0).fill_null(False).arg_true()
    if len(low):
        row = int(low[0])
        raise DataError(
            f"PowerScale: box_cox needs positive values; column {values.name!r} is {values[row]:.6g} at "
            f"{dataset.row_names()[row]} of {dataset.split or 'the data'} ({len(low)} such rows)."
        )
