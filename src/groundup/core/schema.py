"""What train's columns are: learned once, shown, saved, and held against everything that comes later."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.novelty import DECLARED_NOTHING, New, OnNew
from groundup.core.statistics import CAPACITY, Moments, Quantiles, merge_counts

MOST_CATEGORIES = 1000
"""A column with more categories than this is not held against them: it names rows rather than groups them."""

_TYPES: Mapping[Kind, str] = {
    "number": "a number",
    "boolean": "true or false",
    "category": "a category",
    "text": "text",
    "id": "a name",
    "time": "a time",
    "image": "an image",
    "list": "a list",
}


@dataclasses.dataclass(frozen=True)
class Column:
    """What one column was in train."""

    kind: Kind
    dtype: str
    missing: float
    """Share of missing values."""
    low: float | None = None
    high: float | None = None
    """Of the numbers that are there and finite; of times in seconds since 1970."""
    typical: float | str | bool | None = None
    """The median of numbers, the most frequent of categories and booleans."""
    categories: tuple[str, ...] | None = None
    """The most frequent first; None for other kinds, and for more than MOST_CATEGORIES."""

    def said(self) -> str:
        """Range or categories, for people."""
        if self.low is not None and self.high is not None:
            if self.kind == "time":
                moments = [datetime.datetime.fromtimestamp(s, datetime.UTC) for s in (self.low, self.high)]
                return " to ".join(f"{moment:%Y-%m-%d %H:%M}" for moment in moments)
            return f"{self.low:.6g} to {self.high:.6g}"
        if self.categories is not None:
            shown = ", ".join(self.categories[:6])
            return f"{shown}{f', and {len(self.categories) - 6} more' if len(self.categories) > 6 else ''}"
        return ""


@dataclasses.dataclass(frozen=True, eq=False)
class Schema(Mapping[str, Kind]):
    """Column -> kind, as a mapping; ``columns`` has the rest: type, range or categories, missing share."""

    columns: Mapping[str, Column]
    rows: int = 0
    on_new: OnNew = DECLARED_NOTHING

    def __getitem__(self, name: str) -> Kind:
        return self.columns[name].kind

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    @classmethod
    def of(cls, train: Dataset, on_new: OnNew = DECLARED_NOTHING) -> Self:
        """What these rows of train are. Raises DataError for any other split, which would leak."""
        if train.split != "train":
            raise DataError(f"schema: fitting on {train.split or 'data that is not yet split'} would leak.")
        return cls.finish(cls.partial(train), on_new)

    @staticmethod
    def partial(shard: Dataset) -> dict[str, Any]:
        """What some rows tell: ``finish(merge(partial(a), partial(b)))`` is ``of`` both.

        Only the median is of at most CAPACITY evenly spaced rows of each shard.
        """
        columns = {name: _facts(shard.frame[name], shard.kinds[name]) for name in shard.columns}
        return {"rows": len(shard), "columns": columns}

    @staticmethod
    def merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
        """What both tell together; they have the same columns."""
        columns = {name: _merged(facts, other["columns"][name]) for name, facts in one["columns"].items()}
        return {"rows": one["rows"] + other["rows"], "columns": columns}

    @classmethod
    def finish(cls, state: Mapping[str, Any], on_new: OnNew = DECLARED_NOTHING) -> Self:
        """The schema."""
        columns = {name: _column(facts, state["rows"]) for name, facts in state["columns"].items()}
        return cls(columns, state["rows"], on_new)

    def without(self, *names: str) -> Self:
        """The same without some columns, such as the target."""
        kept = {name: column for name, column in self.columns.items() if name not in names}
        return dataclasses.replace(self, columns=kept)

    def to_dict(self) -> dict[str, Any]:
        """Plain tables."""
        columns = {name: dataclasses.asdict(column) for name, column in self.columns.items()}
        return {"rows": self.rows, "on_new": dataclasses.asdict(self.on_new), "columns": columns}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """Read back. Raises KeyError or TypeError for tables that are none."""
        columns = {}
        for name, given in table["columns"].items():
            categories = None if given["categories"] is None else tuple(given["categories"])
            columns[name] = Column(**{**given, "categories": categories})
        return cls(columns, int(table["rows"]), OnNew(**table["on_new"]))

    # ------------------------------------------------------------------------------------------ later data

    def check_types(self, dataset: Dataset) -> None:
        """Raises DataError that names column, row and value where a column is of another type than it was in train."""
        for name, column in self.columns.items():
            if name in dataset.frame.columns:
                _demand_type(dataset, name, column.kind)

    def find_new(self, dataset: Dataset) -> tuple[New, ...]:
        """What these rows have that train did not; nothing is changed."""
        found = [_new(dataset, name, column) for name, column in self.columns.items() if name in dataset.frame.columns]
        return tuple(one for cases in found for one in cases)

    def enforce(self, dataset: Dataset) -> Dataset:
        """The rows with ``on_new`` carried out: each case stands in ``new``, and in the notes.

        Raises DataError for a wrong type, and for what is to be refused, with column, row and value.
        """
        self.check_types(dataset)
        names = dataset.row_names()
        changed: dict[str, pl.Series] = {}
        done: list[New] = list(dataset.new)
        absent = {one.column for one in done}
        for one in self.find_new(dataset):
            if one.column in absent:
                continue
            action = getattr(self.on_new, one.case.replace(" ", "_"))
            if action == "refuse":
                raise DataError(_refused(dataset, self.columns[one.column], one, names))
            done.append(dataclasses.replace(one, done=action))
            if action != "pass":
                series = changed.get(one.column, dataset.frame[one.column])
                changed[one.column] = _mended(series, self.columns[one.column], one, action)
        lines = [one.said(names) for one in done]
        with_changes = dataset.with_frame(dataset.frame.with_columns(**changed)) if changed else dataset
        return dataclasses.replace(with_changes, new=tuple(done)).note(*lines)

    def absent_column(self, name: str, rows: int) -> tuple[pl.Series, New]:
        """A column that a prediction lacks, as ``on_new.missing_column`` says, and what is to be told of it."""
        column = self.columns[name]
        dtype = _FRESH.get(column.kind, pl.String())
        value = None
        if self.on_new.missing_column == "fill":
            value = typical(column, dtype)
            if value is None:
                raise DataError(_no_typical(name, column))
        series = pl.Series(name, [value] * rows, dtype=dtype)
        return series, New("missing column", name, tuple(range(rows)), "", self.on_new.missing_column)


_FRESH: Mapping[str, pl.DataType] = {
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "time": pl.Datetime("us"),
    "image": pl.Binary(),
}


def _refused(dataset: Dataset, column: Column, one: New, names: Sequence[str]) -> str:
    had = {
        "missing value": "train had no missing value there",
        "new category": f"train had {column.said()}",
        "out of range": f"train had {column.said()}",
    }[one.case]
    read = one.example or "a missing value"
    return (
        f"{dataset.origin or 'the data'}: {names[one.rows[0]]}, column {one.column!r}: read {read}, but {had} "
        f"({len(one.rows)} such rows). recipe.data.on_new.{one.case.replace(' ', '_')} says to refuse it."
    )


def _mended(series: pl.Series, column: Column, one: New, action: str) -> pl.Series:
    if action == "clip":
        return series.clip(column.low, column.high)
    positions = pl.Series(one.rows, dtype=pl.UInt32)
    if action == "missing":
        return series.scatter(positions, None)
    filled = typical(column, series.dtype)
    if filled is None:
        raise DataError(_no_typical(one.column, column))
    if isinstance(filled, float) and series.dtype.is_integer():
        series = series.cast(pl.Float64)
    return series.scatter(positions, filled)


def _no_typical(name: str, column: Column) -> str:
    return (
        f"column {name!r} of kind {column.kind} has no typical value to fill in; choose another in recipe.data.on_new."
    )


def typical(column: Column, dtype: pl.DataType) -> Any:
    """Train's median or most frequent value, as a column of this type holds it; None where there is none."""
    if column.kind == "boolean" and column.typical is not None:
        return column.typical if dtype == pl.Boolean else float(column.typical is True)
    return column.typical


# ---------------------------------------------------------------------------------------------- learning


def spellings(column: pl.Series) -> pl.Series:
    """Categories as strings by which equal values are equal, whatever type holds them: 3, 3.0 and "3" are "3"."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
        whole = (column == column.round(0)) & (column.abs() < 2.0**53)
        numerals = column.cast(pl.Int64, strict=False).cast(pl.String)
        return numerals.zip_with(whole.fill_null(True), column.cast(pl.String))
    if column.dtype == pl.Boolean:
        values = [None if value is None else str(value).lower() for value in column]
        return pl.Series(column.name, values, dtype=pl.String)
    return column.cast(pl.String)


def _absent(column: pl.Series) -> pl.Series:
    return column.is_null() | column.is_nan().fill_null(False) if column.dtype.is_float() else column.is_null()


def _values(column: pl.Series, kind: Kind) -> np.ndarray[Any, Any]:
    """Numbers, or times in seconds, that are there and finite."""
    if kind == "time":
        if not column.dtype.is_temporal():
            return np.zeros(0)
        return column.drop_nulls().cast(pl.Datetime("us")).dt.epoch("us").to_numpy() / 1e6
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        return np.zeros(0)
    numbers = column.drop_nulls().cast(pl.Float64).to_numpy()
    finite: np.ndarray[Any, Any] = numbers[np.isfinite(numbers)]
    return finite


def _facts(column: pl.Series, kind: Kind) -> dict[str, Any]:
    facts: dict[str, Any] = {"kind": kind, "dtype": str(column.dtype), "missing": int(_absent(column).sum())}
    if kind in ("number", "time"):
        values = _values(column, kind)
        some = values[:: max(1, -(-len(values) // CAPACITY))]
        quantiles = Quantiles.of(some).state if kind == "number" else None
        return {**facts, "moments": Moments.of(values).state, "quantiles": quantiles}
    if kind in ("category", "boolean"):
        counted = spellings(column).drop_nulls().value_counts(sort=True)
        pairs = counted.rows()[: 4 * MOST_CATEGORIES]
        return {**facts, "counts": dict(pairs), "many": counted.height > MOST_CATEGORIES}
    return facts


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = {**one, "missing": one["missing"] + other["missing"]}
    if "moments" in one:
        both["moments"] = Moments.from_state(one["moments"]).merge(Moments.from_state(other["moments"])).state
        if one["quantiles"] is not None:
            first, second = Quantiles.from_state(one["quantiles"]), Quantiles.from_state(other["quantiles"])
            both["quantiles"] = first.merge(second).state
    if "counts" in one:
        counts = merge_counts(one["counts"], other["counts"])
        both["many"] = one["many"] or other["many"] or len(counts) > MOST_CATEGORIES
        kept = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[: 4 * MOST_CATEGORIES]
        both["counts"] = dict(kept)
    return both


def _column(facts: Mapping[str, Any], rows: int) -> Column:
    column = Column(facts["kind"], facts["dtype"], facts["missing"] / rows if rows else 0.0)
    if "moments" in facts:
        moments = Moments.from_state(facts["moments"])
        if not moments.count:
            return column
        column = dataclasses.replace(column, low=moments.smallest, high=moments.largest)
        if facts["quantiles"] is not None:
            median = float(Quantiles.from_state(facts["quantiles"]).at(0.5)[0])
            column = dataclasses.replace(column, typical=median)
    if facts.get("counts"):
        ordered = [value for value, _ in sorted(facts["counts"].items(), key=lambda pair: (-pair[1], pair[0]))]
        usual: str | bool = ordered[0] == "true" if column.kind == "boolean" else ordered[0]
        known = None if facts["many"] or column.kind == "boolean" else tuple(ordered)
        column = dataclasses.replace(column, typical=usual, categories=known)
    return column


# ---------------------------------------------------------------------------------------------- what is new


def _demand_type(dataset: Dataset, name: str, kind: Kind) -> None:
    series = dataset.frame[name]
    fits = {
        "number": series.dtype.is_numeric() or series.dtype == pl.Boolean,
        "boolean": series.dtype == pl.Boolean or series.dtype.is_numeric(),
        "time": series.dtype.is_temporal(),
        "category": not series.dtype.is_nested() and series.dtype != pl.Binary,
        "text": series.dtype == pl.String,
    }.get(kind, True)
    if fits or series.dtype == pl.Null or series.null_count() == len(series):
        return
    position = _first_unfit(series, kind)
    value = series[position]
    raise DataError(
        f"{dataset.origin or 'the data'}: {dataset.row_names()[position]}, column {name!r}: read {value!r:.60}, "
        f"expected {_TYPES[kind]}, as in train (the column is {series.dtype} here)."
    )


def _first_unfit(series: pl.Series, kind: Kind) -> int:
    """The first value that is really of another type: a column of strings may hold numbers for the most part."""
    there = series.is_not_null()
    if series.dtype == pl.String and kind in ("number", "boolean"):
        wrong = there & series.str.strip_chars().cast(pl.Float64, strict=False).is_null()
        if wrong.any():
            return int(wrong.arg_max() or 0)
    return int(there.arg_max() or 0)


def _new(dataset: Dataset, name: str, column: Column) -> list[New]:
    series = dataset.frame[name]
    found: list[New] = []
    gone = _absent(series)
    if column.missing == 0 and gone.any() and column.kind not in ("id", "image", "list"):
        found.append(_case("missing value", name, gone, series))
    if column.kind == "number" and column.low is not None and (series.dtype.is_numeric() or series.dtype == pl.Boolean):
        values = series.cast(pl.Float64)
        beyond = ((values < column.low) | (values > column.high)).fill_null(False) & ~gone
        if beyond.any():
            found.append(_case("out of range", name, beyond, series))
    if column.categories is not None and not series.dtype.is_nested():
        strange = ~spellings(series).is_in(list(column.categories)).fill_null(True)
        if strange.any():
            found.append(_case("new category", name, strange, series))
    return found


def _case(case: Any, name: str, mask: pl.Series, series: pl.Series) -> New:
    positions = tuple(mask.arg_true().to_list())
    value = series[positions[0]]
    return New(case, name, positions, "" if case == "missing value" else f"{value!r:.60}", "")
