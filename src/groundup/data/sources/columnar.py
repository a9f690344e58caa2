"""Parquet and Arrow files: columns with types, read batch by batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from groundup.core.dataset import Dataset, Entry, Kind, infer_kind
from groundup.core.errors import DataError, nearest
from groundup.core.rows import plain_frame
from groundup.data.sources.column_types import Wording
from groundup.data.sources.files import find_file, read_start
from groundup.data.sources.shards import Piece, joined, sharded

BATCH_ROWS = 50_000


@dataclasses.dataclass(frozen=True)
class parquet:
    """A table from a Parquet file; ``columns`` keeps only these.

    Types are the file's own, but for those that ``groundup.core.rows.plain_frame`` turns into plain ones: categories
    into strings, decimals into numbers, times with a zone into UTC, structs into columns with dotted names. Raises
    DataError for a file that is not there, is damaged, or has no rows.
    """

    path: str | Path
    columns: Sequence[str] | None = None
    folder: Path = Path()

    def __call__(self) -> Dataset:
        """The whole table."""
        scan = _scan(self, "parquet")
        return joined(_pieces(scan), scan.kinds, scan.entry, str(scan.path))

    def shards(self, rows_at_once: int) -> Iterator[Dataset]:
        """The same rows, types, kinds and row numbers, ``rows_at_once`` at a time, batch by batch from the file."""
        scan = _scan(self, "parquet")
        return sharded(_pieces(scan), scan.kinds, scan.entry, str(scan.path), rows_at_once)


@dataclasses.dataclass(frozen=True)
class arrow:
    """A table from an Arrow file (IPC file, such as Feather 2, or IPC stream); else as ``parquet``."""

    path: str | Path
    columns: Sequence[str] | None = None
    folder: Path = Path()

    def __call__(self) -> Dataset:
        """The whole table."""
        scan = _scan(self, "arrow")
        return joined(_pieces(scan), scan.kinds, scan.entry, str(scan.path))

    def shards(self, rows_at_once: int) -> Iterator[Dataset]:
        """The same rows, types, kinds and row numbers, ``rows_at_once`` at a time, batch by batch from the file."""
        scan = _scan(self, "arrow")
        return sharded(_pieces(scan), scan.kinds, scan.entry, str(scan.path), rows_at_once)


@dataclasses.dataclass(frozen=True)
class _Scan:
    path: Path
    form: str
    columns: tuple[str, ...] | None
    kinds: Mapping[str, Kind]
    entry: Entry


def _scan(source: parquet | arrow, form: str) -> _Scan:
    """Go through the columns of strings once, to tell texts from categories; the other kinds follow from types."""
    path = find_file(source.folder / Path(source.path).expanduser())
    columns = None if source.columns is None else tuple(source.columns)
    words: dict[str, Wording] = {}
    kinds: dict[str, Kind] = {}
    notes: dict[str, None] = {}
    undefined: dict[str, int] = {}
    rows = 0
    for frame, said in _plain_batches(path, form, columns):
        rows += frame.height
        for line in said:
            name, found, count = line.partition(": not-a-number read as missing, ")
            if found:
                undefined[name] = undefined.get(name, 0) + int(count.split()[0])
            else:
                notes[line] = None
        for column in frame.iter_columns():
            if column.dtype == pl.String:
                words[column.name] = words.get(column.name, Wording()).merge(Wording.of(column))
            else:
                kinds.setdefault(column.name, infer_kind(column.head(0)))
    if not rows:
        raise DataError(f"{path}: holds no rows.")
    kinds = {**kinds, **{name: wording.kind(rows) for name, wording in words.items()}}
    lines = [f"{name}: not-a-number read as missing, {count} times" for name, count in undefined.items()]
    entry = Entry(form, None, rows, rows, notes=(f"{rows} rows of {len(kinds)} columns", *notes, *lines))
    return _Scan(path, form, columns, kinds, entry)


def _pieces(scan: _Scan) -> Iterator[Piece]:
    for frame, _ in _plain_batches(scan.path, scan.form, scan.columns):
        yield Piece(frame)


def _plain_batches(
    path: Path, form: str, columns: tuple[str, ...] | None
) -> Iterator[tuple[pl.DataFrame, tuple[str, ...]]]:
    import pyarrow as pa  # type: ignore[import-untyped]

    try:
        for batch in _parquet_batches(path, columns) if form == "parquet" else _arrow_batches(path, columns):
            frame: Any = pl.from_arrow(batch)
            yield plain_frame(frame, str(path))
    except (pa.ArrowException, OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read as {form}: {' '.join(str(error).split())[:300]}.") from error


def _parquet_batches(path: Path, columns: tuple[str, ...] | None) -> Iterator[Any]:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with pq.ParquetFile(path, memory_map=False) as file:
        _need(columns, file.schema_arrow.names, path)
        empty = file.schema_arrow.empty_table()
        yield empty if columns is None else empty.select(list(columns))
        yield from file.iter_batches(BATCH_ROWS, columns=None if columns is None else list(columns), use_threads=False)


def _arrow_batches(path: Path, columns: tuple[str, ...] | None) -> Iterator[Any]:
    import pyarrow as pa

    with pa.OSFile(str(path), "rb") as opened:
        whole = read_start(path, 6) == b"ARROW1"
        reader = pa.ipc.open_file(opened) if whole else pa.ipc.open_stream(opened)
        _need(columns, reader.schema.names, path)
        empty = reader.schema.empty_table()
        yield empty if columns is None else empty.select(list(columns))
        for batch in (reader.get_batch(i) for i in range(reader.num_record_batches)) if whole else reader:
            yield batch if columns is None else batch.select(list(columns))


def _need(columns: tuple[str, ...] | None, there: Sequence[str], path: Path) -> None:
    for name in columns or ():
        if name not in there:
            raise DataError(f"{path}: columns names {name!r}, but there is no such column.{nearest(name, there)}")
