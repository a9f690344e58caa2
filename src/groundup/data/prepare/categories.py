"""Categories as numbers, by the categories that train had."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import polars as pl

from groundup.core.dataset import Dataset, Kind
from groundup.core.errors import DataError, RecipeError
from groundup.data.prepare.columns import choose, learned_columns, spellings, with_columns

_KINDS: tuple[Kind, ...] = ("category", "boolean", "number")
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class OneHot:
    """Each category of train becomes a boolean column ``COLUMN=CATEGORY``; the column itself goes.

    A missing value, or a category that train did not have, is false in all of them, and is counted in the notes.
    Without ``columns`` all category columns; boolean and number columns may be named too (3 and 3.0 are one category).
    Raises DataError for more than ``limit`` categories: such a column names its rows rather than groups them.
    """

    columns: Sequence[str] | None = None
    limit: int = 100
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def fit(self, train: Dataset) -> Self:
        """Learn each column's categories, in order."""
        kinds = _KINDS if self.columns is not None else ("category",)
        columns = {}
        for name in choose(train, self.columns, self.exclude, kinds, "OneHot"):
            categories = distinct(train, name, "OneHot")
            if len(categories) > self.limit:
                raise DataError(
                    f"OneHot: column {name!r} has {len(categories)} categories in train, more than "
                    f"limit = {self.limit}: {', '.join(map(repr, categories[:3]))}, ... Drop the column or raise limit."
                )
            clash = [c for c in categories if f"{name}={c}" in train.frame.columns]
            if clash:
                raise DataError(f"OneHot: there is a column {f'{name}={clash[0]}'!r} already; rename it.")
            columns[name] = {"categories": categories}
        return dataclasses.replace(self, learned={"rows": len(train), "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset with boolean columns in place of the categories; they stand last."""
        new: dict[str, pl.Series] = {}
        notes: list[str] = []
        columns = learned_columns(self.learned, dataset, "OneHot")
        for name, entry in columns.items():
            values = spellings(dataset.frame[name])
            notes += unknown(name, values, entry["categories"], "all its columns false")
            for category in entry["categories"]:
                new[f"{name}={category}"] = (values == category).fill_null(False)
        frame = dataset.frame.drop(list(columns)).with_columns(**new)
        return dataset.with_frame(frame, dict.fromkeys(new, "boolean")).note(*notes)


@dataclasses.dataclass(frozen=True)
class Ordinal:
    """Each category becomes its place in an order: 0, 1, 2, ...

    ``order`` gives the categories of a column from low to high; a column without one is sorted (numbers by value).
    A missing value, or a category without a place, becomes a missing number, and is counted in the notes: a ``Fill``
    behind this step can take it. Without ``columns`` all category columns.
    """

    columns: Sequence[str] | None = None
    order: Mapping[str, Sequence[str]] | None = None
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def fit(self, train: Dataset) -> Self:
        """Learn each column's categories, in order. Raises DataError when ``order`` leaves out one that train has."""
        kinds = _KINDS if self.columns is not None else ("category",)
        chosen = choose(train, self.columns, self.exclude, kinds, "Ordinal")
        for name in self.order or {}:
            if name not in chosen:
                raise RecipeError(f"Ordinal.order: names {name!r}, which is not among its columns {', '.join(chosen)}.")
        columns = {}
        for name in chosen:
            found = distinct(train, name, "Ordinal")
            given = list((self.order or {}).get(name, found))
            left_out = [category for category in found if category not in given]
            if left_out:
                raise DataError(
                    f"Ordinal.order.{name}: leaves out {', '.join(map(repr, left_out[:_SHOWN]))}, which train has."
                )
            columns[name] = {"categories": given}
        return dataclasses.replace(self, learned={"rows": len(train), "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns as numbers, float64."""
        changed: dict[str, pl.Series] = {}
        notes: list[str] = []
        for name, entry in learned_columns(self.learned, dataset, "Ordinal").items():
            values = spellings(dataset.frame[name])
            notes += unknown(name, values, entry["categories"], "now a missing number")
            places = {category: float(place) for place, category in enumerate(entry["categories"])}
            changed[name] = values.replace_strict(places, default=None, return_dtype=pl.Float64)
        numbers = with_columns(dataset, changed, notes)
        return numbers.with_frame(numbers.frame, dict.fromkeys(changed, "number"))


def distinct(train: Dataset, name: str, by: str) -> list[str]:
    """The categories of a column as strings, in order: by value for numbers. Raises DataError when there is none."""
    column = train.frame[name]
    values = (column.fill_nan(None) if column.dtype.is_float() else column).drop_nulls().unique().sort()
    if not len(values):
        raise DataError(f"{by}: all {len(train)} values of column {name!r} are missing; drop the column.")
    return list(dict.fromkeys(spellings(values)))


def unknown(name: str, values: pl.Series, categories: Sequence[str], becomes: str) -> list[str]:
    """Notes on values that are missing or no known category."""
    notes = []
    if missing := values.null_count():
        notes.append(f"{name}: {missing} missing, {becomes}")
    strange = values.drop_nulls().filter(~values.drop_nulls().is_in(list(categories)))
    if len(strange):
        seen = strange.unique(maintain_order=True).to_list()
        shown = ", ".join(map(repr, seen[:_SHOWN])) + (", ..." if len(seen) > _SHOWN else "")
        notes.append(f"{name}: {len(strange)} values of categories that train did not have ({shown}), {becomes}")
    return notes
