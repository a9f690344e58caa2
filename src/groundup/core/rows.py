"""Python values and foreign frames as a polars frame, one type a column; JSON, iterables and Arrow come by here."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from groundup.core.errors import DataError
from groundup.core.quarantine import MAX_REJECTED, Quarantine, Rejected, demand_few

DEEPEST = 64
"""Levels of nesting that a row may have."""

Types = Mapping[str, pl.DataType | None]
"""Column -> the narrowest type that holds its values so far; None where all are missing; Object for mixed ones."""

_WHOLE, _LONG, _MIXED = pl.Int64(), pl.Int128(), pl.Object()
_EXACT = 2**53


class UnfitError(ValueError):
    """A value, or a row, that no column can hold; the message says why."""


@dataclasses.dataclass(frozen=True)
class Made:
    """A frame, what could not be taken into it, and what a person should know."""

    frame: pl.DataFrame
    quarantine: Quarantine
    notes: tuple[str, ...] = ()


def frame_of(rows: Any, origin: str) -> Made:
    """Rows as a frame.

    A polars frame, a pandas frame or an Arrow table keeps its columns. A numpy array [N, F] becomes ``column 1``, ...,
    a uint8 array [N, H, W] or [N, H, W, C] the column ``image``, one of N values ``value``; a pair (x, y) of arrays
    gets the column ``label``. Of an iterable each item is a row: a dict (nested ones get dotted names: ``a.b``), a pair
    (x, y) of a dict, text, image or vector and its ``label``, or a single value. Raises DataError for what is none.
    """
    whole = _whole(rows, origin)
    if whole is not None:
        frame, notes = plain_frame(whole, origin)
        return Made(frame, Quarantine(frame.height, frame.height), notes)
    if isinstance(rows, (str, bytes, np.ndarray)) or not isinstance(rows, Iterable):
        raise DataError(
            f"{origin}: read {type(rows).__name__}, expected a frame, arrays, or an iterable of dicts or (x, y) pairs."
        )
    return made_of(((number, item) for number, item in enumerate(rows, start=1)), origin, MAX_REJECTED)


def made_of(items: Iterable[tuple[int, Any]], origin: str, max_rejected: float, sort: type | None = None) -> Made:
    """Numbered items, each of them a row, and of this sort where one is given.

    Raises DataError when there are none, or too many that can be no row.
    """
    taken: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    types: dict[str, pl.DataType | None] = {}
    for number, item in items:
        try:
            if sort is not None and not isinstance(item, sort):
                raise UnfitError(f"of another sort than most: {type(item).__name__}, not {sort.__name__}")
            row = flat(row_of(item))
            types = merged(types, types_of(row))
        except UnfitError as error:
            rejected.append(Rejected(str(error), repr(item)[:1000].encode(errors="backslashreplace"), line=number))
            continue
        taken.append(row)
    read = len(taken) + len(rejected)
    if not read:
        raise DataError(f"{origin}: there are no rows.")
    demand_few(len(rejected), read, max_rejected if taken else 0, rejected, origin)
    if not types:
        raise DataError(f"{origin}: the {len(taken)} rows have no values.")
    return Made(columns_of(taken, types), Quarantine(read, len(taken), tuple(rejected)), tuple(said_of(types)))


def _whole(rows: Any, origin: str) -> pl.DataFrame | None:
    """What has columns already, as a frame."""
    library = type(rows).__module__.partition(".")[0]
    try:
        if isinstance(rows, pl.LazyFrame):
            return rows.collect()
        if isinstance(rows, pl.DataFrame):
            return rows
        if library in ("pandas", "pyarrow"):
            made: Any = pl.from_pandas(rows) if library == "pandas" else pl.from_arrow(rows)
            return made if isinstance(made, pl.DataFrame) else made.to_frame()
    except (TypeError, ValueError, ImportError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{origin}: this {type(rows).__name__} cannot be read: {error}.") from error
    if isinstance(rows, np.ndarray):
        return _array_frame(rows, origin)
    if isinstance(rows, tuple) and len(rows) == 2 and all(isinstance(part, np.ndarray) for part in rows):
        inputs, labels = _array_frame(rows[0], origin), rows[1]
        if labels.ndim != 1 or len(labels) != inputs.height:
            raise DataError(f"{origin}: {inputs.height} rows, but labels of shape {list(labels.shape)}.")
        return inputs.with_columns(_array_frame(labels, origin)["value"].alias("label"))
    if isinstance(rows, Mapping):
        lengths = {len(v) for v in rows.values() if isinstance(v, (Sequence, np.ndarray)) and not isinstance(v, str)}
        if len(lengths) != 1 or any(isinstance(v, str) or not hasattr(v, "__len__") for v in rows.values()):
            raise DataError(f"{origin}: read a dict, expected columns of one length; for a single row give [row].")
        try:
            items = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
        except TypeError as error:
            raise DataError(f"{origin}: a column cannot be gone through: {error}.") from error
        return frame_of(items, origin).frame
    return None


def _array_frame(array: np.ndarray[Any, Any], origin: str) -> pl.DataFrame:
    if array.dtype.names is not None:
        return pl.DataFrame({name: np.ascontiguousarray(array[name]) for name in array.dtype.names})
    if array.dtype.kind not in "biufUM" or array.ndim == 0:
        raise DataError(f"{origin}: an array of {array.dtype}, shape {list(array.shape)}, is no table of plain values.")
    if array.ndim > 2:
        if array.dtype != np.uint8 or array.ndim > 4:
            raise DataError(
                f"{origin}: read an array of {array.dtype} and shape {list(array.shape)}; images are uint8 values of "
                "shape [number, height, width] or [number, height, width, channels]."
            )
        return pl.DataFrame({"image": pl.Series(array, dtype=pl.Array(pl.UInt8, array.shape[1:]))})
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.ndim == 1:
        return pl.DataFrame({"value": np.ascontiguousarray(array)})
    return pl.DataFrame({f"column {i + 1}": np.ascontiguousarray(column) for i, column in enumerate(array.T)})


def row_of(item: Any) -> Mapping[str, Any]:
    """One item of an iterable as a row. Raises UnfitError for what is none."""
    if isinstance(item, Mapping):
        return item
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    if hasattr(item, "_asdict"):
        found: Mapping[str, Any] = item._asdict()
        return found
    if isinstance(item, tuple) and len(item) == 2:
        return {**_inputs(item[0]), "label": item[1]}
    if isinstance(item, (list, tuple)):
        return {f"column {i + 1}": value for i, value in enumerate(item)}
    return _inputs(item)


def _inputs(item: Any) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        return item
    if isinstance(item, np.ndarray) and item.ndim in (2, 3):
        return {"image": item}
    if isinstance(item, (list, tuple)) or (isinstance(item, np.ndarray) and item.ndim == 1):
        return {f"column {i + 1}": value for i, value in enumerate(item)}
    if isinstance(item, bytes):
        return {"image": item}
    return {"text" if isinstance(item, str) else "value": item}


def flat(row: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested dicts as dotted names; lists stay as they are. Raises UnfitError for names that clash or are too deep."""
    if depth > DEEPEST:
        raise UnfitError(f"nested too deeply: more than {DEEPEST} levels")
    found: dict[str, Any] = {}
    for key, value in row.items():
        if not isinstance(key, str):
            raise UnfitError(f"a name that is no string: {key!r:.60}")
        name = _encodable(f"{prefix}{key}")
        if not key:
            raise UnfitError("an empty name")
        inner = {name: value}
        if isinstance(value, Mapping):
            inner = flat(value, f"{name}.", depth + 1) if value else {name: None}
        for one, content in inner.items():
            if one in found:
                raise UnfitError(f"two values for one name: {one!r:.60}")
            found[one] = content
    if "_row" in found:
        raise UnfitError("the name '_row' is taken: rows are numbered by it")
    return found


def types_of(row: Mapping[str, Any]) -> dict[str, pl.DataType | None]:
    """The type of each value of a flat row. Raises UnfitError for a value that no column can hold."""
    return {name: type_of(value) for name, value in row.items()}


def type_of(value: Any, depth: int = 0) -> pl.DataType | None:
    """The narrowest type that holds a value; None for a missing one."""
    if value is None:
        return None
    if isinstance(value, str):
        _encodable(value)
        return pl.String()
    if isinstance(value, (bool, np.bool_)):
        return pl.Boolean()
    if isinstance(value, (int, np.integer)):
        return _WHOLE if abs(int(value)) <= _EXACT else _LONG if -(2**63) <= int(value) < 2**63 else _MIXED
    if isinstance(value, (float, np.floating)):
        return pl.Float64()
    if isinstance(value, bytes):
        return pl.Binary()
    if isinstance(value, (datetime.datetime, datetime.date)):
        return pl.Datetime("us")
    if depth > DEEPEST:
        raise UnfitError(f"nested too deeply: more than {DEEPEST} levels")
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        inner: pl.DataType | None = None
        for item in value:
            inner = merged_type(inner, type_of(item, depth + 1))
        return pl.List(inner or pl.Null())
    if isinstance(value, Mapping):
        fields = {str(name): type_of(inner, depth + 1) or pl.Null() for name, inner in value.items()}
        return pl.Struct(fields)
    raise UnfitError(f"a value of type {type(value).__name__}, which no column can hold")


def _encodable(text: str) -> str:
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:
        raise UnfitError("half of a surrogate pair: no character, so it cannot be written as UTF-8") from None
    return text


MOST_COLUMNS = 20_000


def merged(one: Types, other: Types) -> dict[str, pl.DataType | None]:
    """The types that hold the values of both, in order of first appearance."""
    if all(name in one and one[name] == kind for name, kind in other.items()):
        return one if isinstance(one, dict) else dict(one)
    found = dict(one)
    for name, kind in other.items():
        found[name] = merged_type(found.get(name), kind)
    if len(found) > MOST_COLUMNS:
        raise DataError(f"the rows have more than {MOST_COLUMNS:,} different names; their names are rather values.")
    return found


def merged_type(one: pl.DataType | None, other: pl.DataType | None) -> pl.DataType | None:
    """The narrowest type for the values of both; Object, which becomes text, where they are of different sorts."""
    if one == other or other is None or other == pl.Null:
        return one
    if one is None or one == pl.Null:
        return other
    pair = {repr(one), repr(other)}
    if pair == {"Int64", "Int128"}:
        return _LONG
    if pair == {"Int64", "Float64"}:
        return pl.Float64()
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        return pl.List(merged_type(_made(one.inner), _made(other.inner)) or pl.Null())
    if isinstance(one, pl.Struct) and isinstance(other, pl.Struct):
        fields = {field.name: _made(field.dtype) for field in one.fields}
        for field in other.fields:
            fields[field.name] = merged_type(fields.get(field.name), _made(field.dtype)) or pl.Null()
        return pl.Struct(fields)
    return _MIXED


def _made(kind: Any) -> pl.DataType:
    made: pl.DataType = kind if isinstance(kind, pl.DataType) else kind()
    return made


def said_of(types: Types) -> list[str]:
    """What a person should know of the types that were settled on."""
    mixed = [name for name, kind in types.items() if kind is not None and "Object" in repr(kind)]
    empty = [name for name, kind in types.items() if kind is None]
    sorts = "values of different sorts, or whole numbers beyond 64 bits"
    notes = [f"column {name!r}: {sorts}; all are kept as text" for name in mixed]
    return notes + [f"column {name!r}: every value is missing" for name in empty]


def columns_of(rows: Sequence[Mapping[str, Any]], types: Types) -> pl.DataFrame:
    """Flat rows as a frame with columns of these types; what a row does not have is missing, and so is NaN."""
    return pl.DataFrame([_series(name, [row.get(name) for row in rows], kind) for name, kind in types.items()])


def _series(name: str, values: list[Any], kind: pl.DataType | None) -> pl.Series:
    final = _final(kind)
    if isinstance(final, pl.List) and all(
        isinstance(v, np.ndarray) and v.dtype == np.uint8 for v in values if v is not None
    ):
        shapes = {v.shape for v in values if v is not None}
        if len(shapes) == 1 and not any(value is None for value in values):
            return pl.Series(name, np.stack(values), dtype=pl.Array(pl.UInt8, shapes.pop()))
    return pl.Series(name, [None if value is None else _fitted(value, kind) for value in values], dtype=final)


def _final(kind: pl.DataType | None) -> pl.DataType:
    if kind is None or kind == pl.Null:
        return pl.Float64()
    if kind == _MIXED:
        return pl.String()
    if kind == _LONG:
        return pl.Int64()
    if isinstance(kind, pl.List):
        inner = _made(kind.inner)
        return pl.List(pl.String() if inner == pl.Null else _final(inner))
    if isinstance(kind, pl.Struct):
        fields = {field.name: _final(_made(field.dtype)) for field in kind.fields}
        return pl.Struct(fields) if fields else pl.String()
    return kind


def _fitted(value: Any, kind: pl.DataType | None) -> Any:
    """A value as a column of this type takes it."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or kind is None or kind == pl.Null:
        return None
    if kind == pl.Float64:
        number = float(value)
        return None if number != number else number
    if kind == _MIXED or (isinstance(kind, pl.Struct) and not kind.fields):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if kind == pl.Datetime:
        return _moment(value)
    if isinstance(kind, pl.List):
        return [_fitted(item, _made(kind.inner)) for item in value]
    if isinstance(kind, pl.Struct):
        return {field.name: _fitted(value.get(field.name), _made(field.dtype)) for field in kind.fields}
    return value


def _moment(value: datetime.date) -> datetime.datetime:
    if not isinstance(value, datetime.datetime):
        return datetime.datetime(value.year, value.month, value.day)
    return value if value.tzinfo is None else value.astimezone(datetime.UTC).replace(tzinfo=None)


def plain_frame(frame: pl.DataFrame, origin: str) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """A frame in the types that the rest of the river knows, and what was changed for it.

    Categories become strings, decimals float64, times UTC without a zone in microseconds, structs columns with dotted
    names, NaN missing, a column without values float64. Raises DataError for columns of Python objects, and for names
    that are given twice by taking structs apart.
    """
    notes: list[str] = []
    columns: dict[str, pl.Series] = {}
    for column in frame.iter_columns():
        for one in _unnested(column, notes):
            if one.name in columns:
                raise DataError(f"{origin}: there are two columns {one.name!r}; rename one.")
            columns[one.name] = _plain_column(one, notes, origin)
    return pl.DataFrame(list(columns.values())), tuple(notes)


def _unnested(column: pl.Series, notes: list[str]) -> list[pl.Series]:
    if not isinstance(column.dtype, pl.Struct):
        return [column]
    notes.append(f"column {column.name!r}: taken apart into its parts, named {column.name}.PART")
    parts = [part.alias(f"{column.name}.{part.name}") for part in column.struct.unnest().iter_columns()]
    return [one for part in parts for one in _unnested(part, notes)]


def _plain_column(column: pl.Series, notes: list[str], origin: str) -> pl.Series:
    kind, name = column.dtype, column.name
    if kind == pl.Object:
        raise DataError(f"{origin}: column {name!r} holds Python objects; make it of numbers, strings or times.")
    if kind == pl.Null:
        notes.append(f"column {name!r}: every value is missing")
        return column.cast(pl.Float64)
    if kind in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if kind.is_decimal():
        notes.append(f"column {name!r}: decimals read as float64")
        return column.cast(pl.Float64)
    if kind.is_float():
        undefined = int(column.is_nan().sum() or 0)
        if undefined:
            notes.append(f"column {name!r}: not-a-number read as missing, {undefined} times")
        return column.fill_nan(None) if undefined else column
    if isinstance(kind, pl.Datetime):
        if kind.time_zone is not None:
            notes.append(f"column {name!r}: times in {kind.time_zone} turned into UTC")
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return column.cast(pl.Datetime("us"))
    return column
