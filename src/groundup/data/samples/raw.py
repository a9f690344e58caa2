"""Raw input as a person gives it, read against the columns that the model was trained on."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from groundup.core.dataset import ROW, Dataset, Kind
from groundup.core.errors import DataError, nearest
from groundup.core.schema import Schema, spellings
from groundup.data.sources.column_types import MISSING
from groundup.data.sources.columnar import arrow, parquet
from groundup.data.sources.csv_files import csv
from groundup.data.sources.json_files import json_lines


def read_rows(raw: Any, schema: Mapping[str, Kind], required: Collection[str], by: str) -> Dataset:
    """Rows to predict on, as a dataset of split "serve" with the kinds of ``schema``.

    ``raw`` is a dict, a list of dicts, a polars frame, the path of a CSV, JSON, JSON lines, Parquet or Arrow file, or
    JSON text. A value may be missing (None, an empty string, NaN); a ``required`` column may be absent only where a
    ``Schema`` says what is done then. Columns that ``schema`` does not have are left out, with a note. Raises DataError
    that names the row and column of what cannot be read; no row of a file may be rejected, for each is to be answered.
    """
    frame, origin = _frame(raw, by, schema)
    absent = [name for name in required if name not in frame.columns]
    made = []
    if absent and isinstance(schema, Schema) and schema.on_new.missing_column != "refuse":
        made = [schema.absent_column(name, frame.height) for name in absent]
    elif absent:
        hints = "".join(nearest(name, frame.columns) for name in absent[:1])
        raise DataError(
            f"{by}: {origin} lacks the columns {', '.join(map(repr, absent))}, which the model was trained on.{hints}"
        )
    known = [name for name in schema if name in frame.columns]
    extra = [name for name in frame.columns if name not in schema and name != ROW]
    columns = [_cast(frame[name], schema[name], f"{by}: {origin}") for name in known]
    columns += [series for series, _ in made]
    kinds = {column.name: schema[column.name] for column in columns}
    dataset = Dataset.of(pl.DataFrame(columns), kinds, origin=origin)
    notes = [f"columns that were not there in training are left out: {', '.join(extra)}"] if extra else []
    return dataclasses.replace(dataset, split="serve", new=tuple(new for _, new in made)).note(*notes)


def without(schema: Mapping[str, Kind], *names: str) -> Mapping[str, Kind]:
    """A schema, or plain kinds, without some columns."""
    if isinstance(schema, Schema):
        return schema.without(*names)
    return {name: kind for name, kind in schema.items() if name not in names}


def _frame(raw: Any, by: str, names: Collection[str]) -> tuple[pl.DataFrame, str]:
    if isinstance(raw, pl.DataFrame):
        frame, origin = raw, "the frame"
    elif isinstance(raw, Mapping):
        frame, origin = _from_rows([raw], by), "the row"
    elif isinstance(raw, (str, Path)):
        frame, origin = _from_text(raw, by, names)
    elif isinstance(raw, Sequence) and raw and all(isinstance(row, Mapping) for row in raw):
        frame, origin = _from_rows(raw, by), "the rows"
    else:
        raise DataError(
            f"{by}: read {_shown(raw)}, expected a row as a dict, a list of such, a polars frame, or a CSV file."
        )
    if frame.is_empty():
        raise DataError(f"{by}: {origin} has no rows.")
    return frame, origin


def _from_file(path: Path, names: Collection[str]) -> pl.DataFrame:
    """The rows of a table; none may be rejected, for each is to be answered."""
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".arrow", ".feather"):
        return (parquet(path) if suffix == ".parquet" else arrow(path))().frame.drop(ROW)
    if suffix == ".jsonl":
        return json_lines(path, max_rejected=0)().frame.drop(ROW)
    frame = csv(path, max_rejected=0)().frame
    if not any(name in frame.columns for name in names):
        # What looks like a row from its cells alone may be the header that training knew.
        named = csv(path, header=True, max_rejected=0)().frame
        frame = named if any(name in named.columns for name in names) else frame
    return frame.drop(ROW)


def _from_text(raw: str | Path, by: str, names: Collection[str]) -> tuple[pl.DataFrame, str]:
    text = str(raw).strip()
    if not text.startswith(("{", "[")):
        path = Path(raw)
        if path.suffix.lower() != ".json":
            return _from_file(path, names), str(path)
        if not path.is_file():
            raise DataError(f"{path}: there is no such file.")
        text, origin = path.read_text(encoding="utf-8"), str(path)
    else:
        origin = "the JSON text"
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{by}: {origin} is not valid JSON: {error}.") from error
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{by}: {origin} must be one object or a list of objects.")
    return _from_rows(rows, by), origin


def _from_rows(rows: Sequence[Mapping[str, Any]], by: str) -> pl.DataFrame:
    names = list(dict.fromkeys(name for row in rows for name in row))
    for number, row in enumerate(rows):
        absent = [name for name in names if name not in row]
        if absent:
            raise DataError(
                f"{by}: row {number} lacks the columns {', '.join(map(repr, absent))}, which other rows have."
            )
    return pl.DataFrame([pl.Series(name, [row[name] for row in rows], dtype=pl.Object) for name in names])


def _cast(column: pl.Series, kind: Kind, where: str) -> pl.Series:
    """A column as its kind asks. Typed columns are cast whole; what a person wrote is read value by value."""
    if kind == "number" and column.dtype.is_numeric():
        return column.cast(pl.Float64)
    if kind in ("category", "text", "id") and (column.dtype == pl.String or column.dtype.is_numeric()):
        return _without_markers(spellings(column))
    if kind in ("image", "list") or column.dtype == {"boolean": pl.Boolean, "time": pl.Datetime}.get(kind):
        return column
    read, dtype = _READERS[kind]
    values = []
    for row, value in enumerate(column):
        try:
            values.append(None if _is_missing(value) else read(value))
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{where}: row {row}, column {column.name!r}: read {_shown(value)}, expected {error}."
            ) from None
    return pl.Series(column.name, values, dtype=dtype)


def _without_markers(column: pl.Series) -> pl.Series:
    return column.set(column.str.strip_chars().is_in(list(MISSING)).fill_null(False), None)


def _is_missing(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, float) and value != value)
        or (isinstance(value, str) and value.strip() in MISSING)
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError("a number") from None


def _boolean(value: Any) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
    try:
        return known[str(value).strip().lower()]
    except KeyError:
        raise ValueError("true or false") from None


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, (str, int, float)):
        raise ValueError("a string")
    return str(value)


def _time(value: Any) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise ValueError("a time such as 2024-03-31 17:00:00") from None
    return moment if moment.tzinfo is None else moment.astimezone(datetime.UTC).replace(tzinfo=None)


_READERS: Mapping[str, tuple[Callable[[Any], Any], Any]] = {
    "number": (_number, pl.Float64),
    "boolean": (_boolean, pl.Boolean),
    "category": (_string, pl.String),
    "text": (_string, pl.String),
    "id": (_string, pl.String),
    "time": (_time, pl.Datetime("us")),
}


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
