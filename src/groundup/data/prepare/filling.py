"""Missing values: filled with what train taught, flagged, or their rows dropped from train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset, Kind
from groundup.core.errors import DataError
from groundup.data.prepare.columns import choose, in_order, learned_columns, numbers, present_numbers, spellings

Method = Literal["mean", "median", "mode", "constant", "forward", "backward", "linear"]

_NUMBER_METHODS = ("mean", "median", "linear")


@dataclasses.dataclass(frozen=True)
class Fill:
    """Fill missing values, NaN included, with a value learned on train, or from the neighbouring rows.

    ``mean``, ``median`` and ``mode`` (the most frequent value, the smallest of several) are of train's values that are
    there; ``constant`` is ``value``. ``forward`` takes the last row's value before the gap, ``backward`` the next
    row's behind it, and ``linear`` draws a line between both, in order of the time column (without one: as read); what
    they cannot reach is filled with train's median, or mode. ``backward`` and ``linear`` look ahead: not for
    forecasting, where gaps are filled inside the window (``groundup.data.series``).

    Without ``columns`` all number columns are filled; by ``mode``, ``forward`` and ``backward`` categories and booleans
    too; by ``constant`` those that ``value`` fits. With ``indicator`` a column that had gaps in train gets a
    boolean column ``NAME_missing`` beside it. Gaps where train had none are filled as well, and noted.
    Raises DataError when all of a column's values are missing in train.
    """

    columns: Sequence[str] | None = None
    method: Method = "median"
    value: float | str | bool | None = None
    indicator: bool = False
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if (self.method == "constant") != (self.value is not None):
            raise ValueError(f"value belongs to method 'constant'; read method {self.method!r}, value {self.value!r}.")

    @property
    def looks_ahead(self) -> bool:
        """Whether a filled value may depend on rows behind it."""
        return self.method in ("backward", "linear")

    def fit(self, train: Dataset) -> Self:
        """Learn the value for each column, and whether train had gaps in it."""
        chosen = choose(train, self.columns, self.exclude, self._kinds(), "Fill")
        columns: dict[str, Any] = {}
        for name in chosen:
            kind = train.kinds[name]
            missing = _plain(train, name, kind).null_count()
            columns[name] = {"kind": kind, "value": self._learn(train, name, kind), "missing": missing}
            if self.indicator and columns[name]["missing"] and f"{name}_missing" in train.frame.columns:
                raise DataError(
                    f"Fill: the indicator {name + '_missing'!r} would replace a column of that name; rename it."
                )
        return dataclasses.replace(self, learned={"rows": len(train), "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without gaps in these columns; numbers become float64."""
        changed: dict[str, pl.Series] = {}
        kinds: dict[str, Kind] = {}
        notes: list[str] = []
        for name, entry in learned_columns(self.learned, dataset, "Fill").items():
            column = _plain(dataset, name, entry["kind"])
            missing = column.is_null()
            if count := int(missing.sum()):
                surprise = "" if entry["missing"] else "; train had none"
                notes.append(f"{name}: {count} missing, filled by {self.method} ({_shown(entry['value'])}){surprise}")
            changed[name], kinds[name] = self._filled(dataset, column, entry["value"]), entry["kind"]
            if self.indicator and entry["missing"]:
                changed[f"{name}_missing"] = missing
                kinds[f"{name}_missing"] = "boolean"
        return dataset.with_frame(dataset.frame.with_columns(**changed), kinds).note(*notes)

    def _kinds(self) -> tuple[Kind, ...]:
        if self.method in _NUMBER_METHODS:
            return ("number",)
        if self.method != "constant":
            return ("number", "category", "boolean")
        if isinstance(self.value, bool):
            return ("boolean",)
        return ("category", "text") if isinstance(self.value, str) else ("number",)

    def _learn(self, train: Dataset, name: str, kind: Kind) -> Any:
        if self.method == "constant":
            return self.value
        if kind == "number":
            present = present_numbers(train, name, "Fill")
            if self.method == "mode":
                distinct, counts = np.unique(present, return_counts=True)
                return float(distinct[np.argmax(counts)])
            return float(np.mean(present) if self.method == "mean" else np.median(present))
        values = _plain(train, name, kind).drop_nulls()
        if not len(values):
            raise DataError(f"Fill: all {len(train)} values of column {name!r} are missing; drop the column.")
        distinct_values = values.value_counts().sort(["count", name], descending=[True, False])
        return distinct_values[name][0]

    def _filled(self, dataset: Dataset, column: pl.Series, value: Any) -> pl.Series:
        if self.method in ("forward", "backward", "linear"):
            order = in_order(dataset)
            sorted_column = column[order]
            if self.method == "linear":
                sorted_column = sorted_column.interpolate()
            else:
                sorted_column = sorted_column.fill_null(strategy=self.method)
            column = sorted_column[np.argsort(order)]
        return column.fill_null(value)


@dataclasses.dataclass(frozen=True)
class DropMissing:
    """Drop rows of train with a missing value in ``columns`` (all when not given); elsewhere count and flag them.

    Validation, test and served rows stay, for a model must answer for each of them: a later step or the
    samples must be able to take their missing values.
    """

    columns: Sequence[str] | None = None
    learned: Mapping[str, Any] | None = None

    def fit(self, train: Dataset) -> Self:
        """Settle which columns must be there."""
        train.need(*(self.columns or ()), by="DropMissing")
        columns = train.columns if self.columns is None else list(self.columns)
        counts = {name: {"missing": _absent(train.frame[name]).sum()} for name in columns}
        return dataclasses.replace(self, learned={"rows": len(train), "columns": counts})

    def __call__(self, dataset: Dataset) -> Dataset:
        """Train without the rows that lack a value; any other split as it is, with a note."""
        if self.learned is None:
            raise DataError("DropMissing: has learned nothing yet; call fit(train) first.")
        names = [name for name in self.learned["columns"] if name in dataset.frame.columns]
        first: dict[int, str] = {}
        for name in names:
            for position in _absent(dataset.frame[name]).arg_true():
                first.setdefault(position, name)
        if dataset.split == "train":
            kept = np.ones(len(dataset), dtype=bool)
            kept[list(first)] = False
            return dataset.keep(kept, {i: f"missing value: {name}" for i, name in first.items()})
        lines = [f"{len(first)} rows with a missing value stay, since this is not train"] if first else []
        return dataset.note(*lines)


def _absent(column: pl.Series) -> pl.Series:
    return column.is_null() | column.is_nan() if column.dtype.is_float() else column.is_null()


def _plain(dataset: Dataset, name: str, kind: Kind) -> pl.Series:
    """The column as it is filled: numbers as float64, categories as strings; gaps are null."""
    if kind == "number":
        return numbers(dataset, name, "Fill")
    column = dataset.frame[name]
    return column.cast(pl.Boolean) if kind == "boolean" else spellings(column)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
