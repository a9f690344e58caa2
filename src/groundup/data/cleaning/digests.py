"""Sixteen bytes for each row that stand for its content: equal rows have equal ones, on every machine."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import polars as pl

from groundup.core.dataset import ROW
from groundup.data.cleaning.shingles import PLACE_VALUES

Array = np.ndarray[Any, Any]

BLANK = b"\0" * 16

MISSING = PLACE_VALUES[200:202]
"""What stands for a missing value."""


def row_digests(frame: pl.DataFrame) -> Array:
    """[rows, 2] uint64 of the columns in their order; ``_row`` is none of them.

    Texts, bytes and lists go through SHA-256, cut to 16 bytes; numbers are mixed as they are. Missing values are equal
    to one another, as are NaN, and 0.0 and -0.0. Among a billion unlike rows any two share a digest with a chance of
    10^-21.
    """
    digests = np.zeros((frame.height, 2), dtype=np.uint64)
    for place, name in enumerate(name for name in frame.columns if name != ROW):
        column = frame[name]
        values = _column_digests(column)
        values[column.is_null().to_numpy()] = MISSING
        for half in range(2):
            salt = PLACE_VALUES[place % 100 + 100 * half]
            digests[:, half] = _stirred(_stirred(digests[:, half] ^ salt) + values[:, half])
    return digests


def first_equal(digests: Array) -> Array:
    """For each row [n, 2] the position of the first row that has the same digest."""
    keys = pl.DataFrame({"one": digests[:, 0], "other": digests[:, 1]}).with_row_index("position")
    first = keys.select(pl.col("position").first().over("one", "other"))
    return first.to_series().to_numpy().astype(np.int64)


def _column_digests(column: pl.Series) -> Array:
    kind = column.dtype
    if kind.is_float():
        numbers = column.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0  # -0.0 becomes 0.0
        return _of_numbers(np.where(np.isnan(numbers), np.nan, numbers).view(np.uint64))
    if kind.is_integer() or kind == pl.Boolean:
        wide = pl.UInt64 if kind == pl.UInt64 else pl.Int64
        return _of_numbers(column.cast(wide).fill_null(0).to_numpy().view(np.uint64))
    if kind.is_temporal():
        return _of_numbers(column.to_physical().cast(pl.Int64).fill_null(0).to_numpy().view(np.uint64))
    if kind in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if isinstance(kind, pl.Array):
        rows = np.ascontiguousarray(column.to_numpy())
        column = pl.Series([None if row is None else row.tobytes() for row in rows], dtype=pl.Binary)
    values = column.to_list() if column.dtype in (pl.String, pl.Binary) else column
    digests = [BLANK if value is None else hashlib.sha256(_content(value)).digest()[:16] for value in values]
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2).copy()


def _content(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    if isinstance(value, pl.Series) and value.dtype.is_numeric() and not value.null_count():
        return value.to_numpy().tobytes()
    return repr(value.to_list() if isinstance(value, pl.Series) else value).encode()


def _of_numbers(values: Array) -> Array:
    return np.stack([_stirred(values + PLACE_VALUES[210]), _stirred(values ^ PLACE_VALUES[211])], axis=1)


def _stirred(values: Array) -> Array:
    """A step of MurmurHash3's finish (Appleby 2011) with splitmix64's factors: one to one, each bit depends on all."""
    values = (values ^ (values >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = values ^ (values >> np.uint64(32))
    return mixed
