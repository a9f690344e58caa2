"""What every step of the preparation asks of its columns: which they are, and that they hold what it needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from groundup.core.contract import State
from groundup.core.dataset import ROW, Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.expressions import Asked, Columns
from groundup.core.schema import spellings
from groundup.core.statistics import Moments

__all__ = [
    "choose", "in_order", "learned_columns", "numbers", "present_numbers", "said", "spellings", "with_columns",
]  # fmt: skip


def choose(
    dataset: Dataset, columns: Sequence[str] | None, exclude: Sequence[str], kinds: Sequence[Kind], by: str
) -> list[str]:
    """The columns a step works on: those named, or all of these kinds without the excluded ones.

    Raises DataError for a name that is not there, of another kind, or excluded; and when nothing is left.
    """
    if columns is None:
        found = [name for name in dataset.of_kind(*kinds) if name not in exclude]
        if not found:
            raise DataError(f"{by}: there is no column of kind {' or '.join(kinds)}. There is {said(dataset.kinds)}.")
        return found
    dataset.need(*columns, by=by)
    for name in columns:
        if name in exclude:
            raise DataError(
                f"{by}: column {name!r} is the target or excluded, and is not changed; take it from columns."
            )
        if dataset.kinds[name] not in kinds:
            raise DataError(f"{by}: column {name!r} is of kind {dataset.kinds[name]}, it needs {' or '.join(kinds)}.")
    return list(columns)


def said(kinds: Mapping[str, Kind]) -> str:
    """Columns by kind, for messages: ``number: a, b; category: c``."""
    grouped: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        grouped.setdefault(kind, []).append(name)
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in grouped.items()) or "no column at all"


def learned_columns(learned: Mapping[str, Any] | None, dataset: Dataset, by: str, some: bool = False) -> dict[str, Any]:
    """What a fitted step knows of each of its columns, or with ``some`` of those that are there.

    Raises DataError when it is not fitted, when a column is missing, or with ``some`` all are.
    """
    if learned is None:
        raise DataError(f"{by}: has learned nothing yet; call fit(train) first.")
    columns: dict[str, Any] = learned["columns"]
    there = [name for name in columns if name in dataset.frame.columns]
    if some and there:
        return {name: columns[name] for name in there}
    dataset.need(*columns, by=by)
    return columns


def numbers(dataset: Dataset, name: str, by: str) -> pl.Series:
    """A column as float64 in which every missing value, NaN included, is null. Raises DataError for other columns."""
    return _numbers(dataset, name, by)[0]


def _numbers(dataset: Dataset, name: str, by: str) -> tuple[pl.Series, bool]:
    """The same, and whether it is known that no value is infinite: where the sum is finite, each value is."""
    column = _floats(dataset, name, by)
    finite = math.isfinite(column.sum() or 0.0)
    return (column, True) if finite else (column.fill_nan(None), False)


def _floats(dataset: Dataset, name: str, by: str) -> pl.Series:
    """A column as float64, missing values as they are. Raises DataError for one that holds no numbers."""
    column = dataset.frame[name]
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise DataError(f"{by}: column {name!r} of {dataset.origin or 'the data'} holds {column.dtype}, not numbers.")
    return column.cast(pl.Float64)


def _finite(dataset: Dataset, name: str, by: str) -> pl.Series:
    """A column as ``numbers`` gives it. Raises DataError when a value is infinite."""
    column, finite = _numbers(dataset, name, by)
    endless = [] if finite else column.is_infinite().fill_null(False).arg_true().to_list()
    if endless:
        raise DataError(
            f"{by}: column {name!r} is infinite at {dataset.row_names()[endless[0]]} ({len(endless)} such "
            "values); nothing can be learned from it. Declare such cells as missing, or clean them before the split."
        )
    return column


def known_numbers(dataset: Dataset, name: str, by: str) -> np.ndarray[Any, Any]:
    """The values of a column that are there, to learn from; perhaps none. Raises DataError when one is infinite."""
    return _finite(dataset, name, by).drop_nulls().to_numpy()


def known_moments(dataset: Dataset, name: str, by: str) -> Moments:
    """Of the values of a column that are there. Raises DataError when one is infinite."""
    return Moments.of(known_numbers(dataset, name, by))


def asked_moments(
    columns: Columns,
    chosen: Sequence[str],
    by: str,
    state: Callable[[int, dict[str, Moments]], State],
    ends: bool = False,
) -> Asked:
    """Moments of each column as expressions, with their ends if asked; ``state`` makes the step's of rows and moments.

    Where a value may be infinite they leave it open.
    """

    def told(rows: int, values: Mapping[str, Any]) -> State:
        found = {name: _told_moments(values, name) for name in chosen}
        known = {name: one for name, one in found.items() if one is not None}
        return state(rows, known) if len(known) == len(found) else None

    return Asked({key: one for n in chosen for key, one in _moments_of(columns, n, by, ends).items()}, told)


def _moments_of(columns: Columns, name: str, by: str, ends: bool) -> dict[str, pl.Expr]:
    values = columns.number(name, by)
    asked = {"known": values.count(), "mean": values.mean(), "variance": values.var(ddof=0)}
    if ends:
        asked |= {"smallest": values.min(), "largest": values.max()}
    return {f"{name}:{what}": expression for what, expression in asked.items()}


def _told_moments(values: Mapping[str, Any], name: str) -> Moments | None:
    """Of the values of a column that are there; None where some may be infinite: where the mean is finite, each is."""
    known, mean, variance = (values[f"{name}:{what}"] for what in ("known", "mean", "variance"))
    if not known:
        return Moments()
    ends = {what: values[key] for what in ("smallest", "largest") if (key := f"{name}:{what}") in values}
    return Moments(known, mean, variance * known, **ends) if math.isfinite(mean) else None


def present_numbers(dataset: Dataset, name: str, by: str) -> np.ndarray[Any, Any]:
    """The values of a column that are there, to learn from. Raises DataError when none is, or one is infinite."""
    values = known_numbers(dataset, name, by)
    need_some(len(values), len(dataset), name, by)
    return values


def need_some(known: int, rows: int, name: str, by: str) -> None:
    """Raises DataError when not one of a column's values is there, so that nothing can be learned of it."""
    if not known:
        raise DataError(f"{by}: all {rows} values of column {name!r} are missing; drop the column.")


def pieces(shard: Dataset, columns: Sequence[str], learn: Callable[[str], Any]) -> dict[str, Any]:
    """The state of a step that learns column by column: how many rows it saw, and what each column told."""
    return {"rows": len(shard), "columns": {name: learn(name) for name in columns}}


def merged(
    one: Mapping[str, Any], other: Mapping[str, Any], merge: Callable[[Any, Any], Any] = lambda one, _: one
) -> dict[str, Any]:
    """Two such states as one, each column by ``merge``; without it there is nothing to add up but rows."""
    columns = {name: merge(state, other["columns"][name]) for name, state in one["columns"].items()}
    return {"rows": one["rows"] + other["rows"], "columns": columns}


def undone(
    learned: Mapping[str, Any] | None, dataset: Dataset, by: str, back: Callable[[pl.Series, Any], pl.Series]
) -> Dataset:
    """The dataset with those of a fitted step's columns that it has given back by ``back(values, learned of it)``.

    Raises DataError when the step is not fitted, or the dataset has none of its columns.
    """
    known = learned_columns(learned, dataset, by, some=True)
    return with_columns(dataset, {name: back(numbers(dataset, name, by), known[name]) for name in known})


def through(values: pl.Series, function: Callable[..., np.ndarray[Any, Any]], *given: Any) -> pl.Series:
    """A column of numbers through ``function(x, *given)``, x float64 [N] with NaN where one is missing."""
    return pl.Series(values.name, function(values.fill_null(np.nan).to_numpy(), *given)).fill_nan(None)


def with_columns(dataset: Dataset, changed: Mapping[str, pl.Series], notes: Collection[str] = ()) -> Dataset:
    """The dataset with these columns set, of the kinds they had."""
    frame = dataset.frame.with_columns(**changed)
    return dataset.with_frame(frame).note(*notes)


def in_order(dataset: Dataset) -> np.ndarray[Any, Any]:
    """Positions of the rows in order of time where there is one time column, else as they were read."""
    times = dataset.of_kind("time")
    key = times[0] if len(times) == 1 else ROW
    return dataset.frame[key].arg_sort().to_numpy()
