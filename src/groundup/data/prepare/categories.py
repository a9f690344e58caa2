"""Categories as numbers, by the categories that train had."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import polars as pl

from groundup.core.contract import State
from groundup.core.dataset import Dataset, Kind
from groundup.core.errors import DataError, RecipeError
from groundup.data.prepare.columns import choose, learned_columns, merged, need_some, pieces, spellings, with_columns

_KINDS: tuple[Kind, ...] = ("category", "boolean", "number")
_SHOWN = 5

Distinct = dict[str, Any]
"""Category as a string -> what it is sorted by."""


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
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """The distinct values of each column. Raises DataError as soon as there are more than ``limit``."""
        kinds = _KINDS if self.columns is not None else ("category",)
        chosen = choose(shard, self.columns, self.exclude, kinds, "OneHot")
        beside = shard.columns
        return {
            **pieces(shard, chosen, lambda name: self._within(name, distinct(shard.frame[name]))),
            "beside": [column for column in beside if any(column.startswith(f"{name}=") for name in chosen)],
        }

    def merge(self, one: State, other: State) -> State:
        """The distinct values of both together."""
        both = merged(one, other, merge_distinct)
        for name, values in both["columns"].items():
            self._within(name, values)
        return {**both, "beside": one["beside"]}

    def finish(self, state: State) -> Self:
        """The categories of each column, in order. Raises DataError when all of its values are missing."""
        columns = {}
        for name, values in state["columns"].items():
            need_some(len(values), state["rows"], name, "OneHot")
            columns[name] = {"categories": in_order_of_value(values)}
            clash = [c for c in columns[name]["categories"] if f"{name}={c}" in state["beside"]]
            if clash:
                raise DataError(f"OneHot: there is a column {f'{name}={clash[0]}'!r} already; rename it.")
        return dataclasses.replace(self, learned={"rows": state["rows"], "columns": columns})

    def _within(self, name: str, values: Distinct) -> Distinct:
        if len(values) > self.limit:
            raise DataError(
                f"OneHot: column {name!r} has {len(values)} categories in train, more than limit = {self.limit}: "
                f"{', '.join(map(repr, in_order_of_value(values)[:3]))}, ... Drop the column or raise limit."
            )
        return values

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

    def inverse(self, dataset: Dataset) -> Dataset:
        """The categories as strings in place of their boolean columns; missing where all of these are false."""
        if self.learned is None:
            raise DataError("OneHot: has learned nothing yet; call fit(train) first.")
        new: dict[str, pl.Series] = {}
        drop: list[str] = []
        for name, entry in self.learned["columns"].items():
            columns = {f"{name}={category}": category for category in entry["categories"]}
            dataset.need(*columns, by="OneHot")
            found = pl.Series(name, [None] * len(dataset), dtype=pl.String)
            for column, category in columns.items():
                found = found.set(dataset.frame[column].cast(pl.Boolean).fill_null(False), category)
            new[name] = found
            drop += columns
        return dataset.with_frame(dataset.frame.drop(drop).with_columns(**new), dict.fromkeys(new, "category"))


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
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """The distinct values of each column."""
        kinds = _KINDS if self.columns is not None else ("category",)
        chosen = choose(shard, self.columns, self.exclude, kinds, "Ordinal")
        for name in self.order or {}:
            if name not in chosen:
                raise RecipeError(f"Ordinal.order: names {name!r}, which is not among its columns {', '.join(chosen)}.")
        return pieces(shard, chosen, lambda name: distinct(shard.frame[name]))

    def merge(self, one: State, other: State) -> State:
        """The distinct values of both together."""
        return merged(one, other, merge_distinct)

    def finish(self, state: State) -> Self:
        """The categories of each column, in order. Raises DataError when all of its values are missing."""
        columns = {}
        for name, values in state["columns"].items():
            need_some(len(values), state["rows"], name, "Ordinal")
            found = in_order_of_value(values)
            given = list((self.order or {}).get(name, found))
            left_out = [category for category in found if category not in given]
            if left_out:
                raise DataError(
                    f"Ordinal.order.{name}: leaves out {', '.join(map(repr, left_out[:_SHOWN]))}, which train has."
                )
            columns[name] = {"categories": given}
        return dataclasses.replace(self, learned={"rows": state["rows"], "columns": columns})

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

    def inverse(self, dataset: Dataset) -> Dataset:
        """The categories as strings in place of their numbers; missing where a number is nobody's place."""
        columns = learned_columns(self.learned, dataset, "Ordinal", some=True)
        changed = {}
        for name, entry in columns.items():
            places = {float(place): category for place, category in enumerate(entry["categories"])}
            values = dataset.frame[name].cast(pl.Float64)
            changed[name] = values.replace_strict(places, default=None, return_dtype=pl.String)
        named = with_columns(dataset, changed)
        return named.with_frame(named.frame, dict.fromkeys(changed, "category"))


def distinct(column: pl.Series) -> Distinct:
    """The categories of a column, each with what it is sorted by: numbers by value, an Enum by its own order."""
    values = (column.fill_nan(None) if column.dtype.is_float() else column).drop_nulls().unique()
    keys = values.to_physical() if values.dtype == pl.Enum else values.cast(pl.String, strict=False)
    keys = values if values.dtype.is_numeric() or values.dtype == pl.Boolean else keys
    return dict(zip(spellings(values).to_list(), keys.to_list(), strict=True))


def merge_distinct(one: Distinct, other: Distinct) -> Distinct:
    """The categories of both together."""
    return {**one, **other}


def in_order_of_value(values: Distinct) -> list[str]:
    """The categories as strings."""
    return sorted(values, key=lambda category: values[category])


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
