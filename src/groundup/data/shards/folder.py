"""Rows as a folder of Parquet shards: a value like a dataset, of any size, of which one shard is in memory at a time.

A shard is written under another name, renamed, and then vouched for by a small JSON file beside it that holds its
checksum; so one that is half written, damaged or of other content is found and made again. ``shards.json`` comes last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from groundup.core.dataset import MOST_LISTED, ROW, Dataset, Entry, Kind, Split, merge_entries
from groundup.core.errors import DataError, nearest
from groundup.core.expressions import learned
from groundup.data.shards.changes import Place
from groundup.data.shards.pending import Pending, carried_out, looked_at

MANIFEST = "shards.json"
ROW_GROUP_BYTES = 64_000_000
"""The most one row group holds in memory: a shard is one, unless a row or a step has made it larger."""

BLOCK_BYTES = 1 << 18
"""Of a file that are in memory while its checksum is made."""

SAMPLED_ROWS, SMALLEST_SAMPLE = 8192, 100_000
"""Rows that are compressed to see whether it pays, and the bytes below which it does not matter."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """One shard with what is still to be done to it: what a worker is handed."""

    path: Path
    kinds: Mapping[str, Kind]
    split: Split | None
    origin: str
    history: tuple[Entry, ...] = ()
    chain: tuple[Pending, ...] = ()

    def read(self, columns: Sequence[str] | None = None) -> Dataset:
        """The rows as they lie in the file."""
        with self._named():
            frame = pl.read_parquet(self.path, columns=None if columns is None else list(columns), memory_map=False)
        return self._of(frame)

    def seen(self) -> Dataset:
        """The rows as they are behind every pending step, to be looked at."""
        return looked_at(self.read(), self.chain)

    def done(self, place: Place | None = None) -> Dataset:
        """The rows behind every pending step, each booked in the ledger; what it changed is written down at a place."""
        return carried_out(self.read(), self.chain, place)

    def tells(self, step: Any) -> tuple[int, Any]:
        """How many rows there are behind every pending step, and what they tell a step that learns; None if none."""
        with self._named():
            like = self._of(pl.DataFrame(schema=pl.read_parquet_schema(self.path)))
        rows, state = learned(step, [one.step for one in self.chain], like, lambda names: self.read(names).frame)
        if rows and state is not None:
            return rows, state
        shard = self.seen()
        return len(shard), step.partial(shard) if len(shard) else None

    def _of(self, frame: pl.DataFrame) -> Dataset:
        kinds = {name: kind for name, kind in self.kinds.items() if name in frame.columns}
        return Dataset(frame, kinds, self.split, self.history, origin=self.origin)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{self.path}: cannot be read as a shard: {error}.") from error


@dataclasses.dataclass(frozen=True)
class ShardFile:
    """One file of a folder of shards."""

    name: str
    rows: int
    size_bytes: int
    """Of its rows in memory."""
    crc32: str
    """Of the file: what tells damage, in a third of the time that SHA-256 takes where a processor has it built in."""


@dataclasses.dataclass(frozen=True)
class Shards:
    """Rows in files; ``chain`` holds row-local steps that are carried out when the rows are next read.

    Its length, columns and kinds are those of the files: ``carry.written`` carries a chain out.
    """

    folder: Path
    files: tuple[ShardFile, ...]
    schema: Mapping[str, str]
    """Column -> type, ``_row`` included."""
    kinds: Mapping[str, Kind]
    split: Split | None = None
    history: tuple[Entry, ...] = ()
    origin: str = ""
    chain: tuple[Pending, ...] = ()
    rejected: int = 0
    """Rows that the source could not take, of those that it read."""

    def __len__(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def size_bytes(self) -> int:
        """Of all rows in memory."""
        return sum(file.size_bytes for file in self.files)

    @property
    def columns(self) -> list[str]:
        """Every column but ``_row``."""
        return [name for name in self.schema if name != ROW]

    @property
    def starts(self) -> np.ndarray[Any, Any]:
        """Position of each shard's first row, and the number of rows behind the last [N + 1]."""
        return np.concatenate([[0], np.cumsum([file.rows for file in self.files], dtype=np.int64)])

    def of_kind(self, *kinds: Kind) -> list[str]:
        """The columns of these kinds, in order."""
        return [name for name in self.columns if self.kinds.get(name) in kinds]

    def need(self, *names: str, by: str = "") -> None:
        """Raises DataError, with the nearest name, unless these columns exist."""
        for name in names:
            if name not in self.schema:
                asked = f"{by}: " if by else ""
                raise DataError(
                    f"{asked}{self.origin or 'the data'} has no column {name!r}.{nearest(name, self.columns)}"
                )

    def pieces(self) -> list[Piece]:
        """Each shard as a worker is handed it."""
        return [
            Piece(self.folder / file.name, self.kinds, self.split, self.origin, self.history, self.chain)
            for file in self.files
        ]

    def within(self, columns: Sequence[str]) -> Dataset:
        """These columns of all rows, in memory."""
        return self._joined([piece.read(columns) for piece in self.pieces()])

    def whole(self) -> Dataset:
        """All rows behind every pending step, in memory; the steps are not booked."""
        return self._joined([piece.seen() for piece in self.pieces()])

    def _joined(self, parts: list[Dataset]) -> Dataset:
        return parts[0].with_frame(pl.concat([part.frame for part in parts]))

    def booked(self, step: str, rows_before: int) -> Shards:
        """The same rows with a line in their ledger that says what part of how many rows they are."""
        entry = Entry(step, self.split, len(self), len(self), notes=(f"{len(self):,} of {rows_before:,} rows",))
        return dataclasses.replace(self, history=(*self.history, entry))

    def then(self, name: str, step: Any, learned_from: Mapping[str, int] | None = None) -> Shards:
        """The same rows with one more row-local step to be carried out."""
        return dataclasses.replace(self, chain=(*self.chain, Pending(name, step, dict(learned_from or {}))))

    def without(self, columns: Sequence[str]) -> Shards:
        """The same with columns left out of what is told of them; a pending step takes them from the rows."""
        schema = {name: kind for name, kind in self.schema.items() if name not in columns}
        return dataclasses.replace(self, schema=schema)

    def save(self) -> Shards:
        """Write ``shards.json``, by which the folder can be opened again."""
        assert not self.chain
        about = dataclasses.asdict(self)
        about = {name: value for name, value in about.items() if name not in ("folder", "chain")}
        write_text(self.folder / MANIFEST, json.dumps(about, ensure_ascii=False, indent=1))
        return self


def open_shards(folder: Path) -> Shards:
    """A folder that was written earlier. Raises DataError where it is none, is unfinished, or lacks a file."""
    path = folder / MANIFEST
    if not path.is_file():
        what = "a folder of shards that was not finished" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: {what}; there is no {MANIFEST} in it.")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        files = tuple(ShardFile(**file) for file in about.pop("files"))
        history = tuple(entry_from(entry) for entry in about.pop("history"))
        shards = Shards(folder, files, history=history, **about)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read: {error!r}.") from error
    missing = [file.name for file in files if not (folder / file.name).is_file()]
    if missing:
        raise DataError(f"{folder}: {len(missing)} of {len(files)} shards are gone, the first {missing[0]}.")
    return shards


def verify(shards: Shards) -> None:
    """Raises DataError for the first shard whose content is not what was written."""
    for file in shards.files:
        if crc32_of(shards.folder / file.name) != file.crc32:
            raise DataError(f"{shards.folder / file.name}: the shard is damaged: its checksum is not what was written.")


def entry_from(saved: Mapping[str, Any]) -> Entry:
    """A line of the ledger, read back from JSON."""
    removed = tuple((str(name), str(reason)) for name, reason in saved["removed"])
    return Entry(**{**saved, "removed": removed, "notes": tuple(saved["notes"])})


# ------------------------------------------------------------------------------------------------ one file


def write_shard(dataset: Dataset, path: Path, booked: Sequence[Entry] = ()) -> dict[str, Any]:
    """One shard, whole or not at all, and beside it what vouches for it, which is given back.

    ``booked`` are the lines of the ledger that led to these rows and to no others.
    """
    frame = dataset.frame if dataset.frame.n_chunks() == 1 else dataset.frame.rechunk()
    size = int(frame.estimated_size())
    rows_at_once = max(1, int(frame.height * ROW_GROUP_BYTES / max(size, ROW_GROUP_BYTES)))
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        codec: Any = "lz4" if _shrinks(frame) else "uncompressed"
        frame.write_parquet(partial, compression=codec, statistics=False, row_group_size=rows_at_once)
        checksum = crc32_of(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    vouched = {
        "name": path.name,
        "rows": frame.height,
        "size_bytes": size,
        "crc32": checksum,
        "kinds": dict(dataset.kinds),
        "schema": {name: str(kind) for name, kind in frame.schema.items()},
        "entries": [dataclasses.asdict(entry) for entry in booked],
    }
    write_text(_beside(path), json.dumps(vouched, ensure_ascii=False))
    return _told(vouched)


def _shrinks(frame: pl.DataFrame) -> bool:
    """Whether LZ4 makes rows from the middle smaller by a tenth; measured values fill their bits, and it costs time."""
    rows = frame.slice(frame.height // 2, SAMPLED_ROWS)
    plain, packed = (_ipc_bytes(rows, codec) for codec in ("uncompressed", "lz4"))
    return plain < SMALLEST_SAMPLE or packed < 0.9 * plain


def _ipc_bytes(frame: pl.DataFrame, codec: Any) -> int:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression=codec)
    return buffer.tell()


def finished(path: Path) -> dict[str, Any] | None:
    """What vouches for a shard, if it was written whole and has not changed since."""
    try:
        vouched: dict[str, Any] = json.loads(_beside(path).read_text(encoding="utf-8"))
        return _told(vouched) if crc32_of(path) == vouched["crc32"] else None
    except (OSError, ValueError, KeyError):
        return None


def _told(vouched: dict[str, Any]) -> dict[str, Any]:
    """The same without the names of all removed rows, which may be many: they stay in the file beside the shard."""
    entries = [merge_entries([entry_from(entry)]) for entry in vouched["entries"]]
    return {**vouched, "entries": [dataclasses.asdict(entry) for entry in entries]}


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def gathered(
    folder: Path, told: Iterable[Mapping[str, Any]], like: Shards | None, rows: int | None = None, **known: Any
) -> Shards:
    """The shards that were written to a folder as one value, its manifest written; ``told`` vouches for each.

    History is that of ``like`` and the entries booked on the way, merged over shards. ``known`` sets fields anew.
    There must be as many ``rows`` as is said, by default as the ledger says: none is lost, none doubled.
    Raises DataError where shards differ in columns or types in a way that loses something to mend.
    """
    vouched = list(_listed(told))
    schema = _mend_types(folder, vouched)
    fields: dict[str, Any] = {"kinds": kinds_of(vouched, schema)}
    if like is not None:
        fields |= {"split": like.split, "origin": like.origin, "history": like.history}
    fields |= known
    booked = [[entry_from(entry) for entry in one["entries"]] for one in vouched]
    merged = tuple(merge_entries(entries) for entries in zip(*booked, strict=True))
    fields["history"] = (*fields.get("history", ()), *merged)
    expected = rows if rows is not None else fields["history"][-1].rows_after if merged else None
    found = sum(one["rows"] for one in vouched)
    assert expected is None or found == expected, f"{folder}: {found} rows were written, there are {expected}"
    files = tuple(ShardFile(**{n: one[n] for n in ("name", "rows", "size_bytes", "crc32")}) for one in vouched)
    return Shards(folder, files, schema, **fields).save()


def _listed(vouched: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same with as many names of removed rows in all as a ledger lists: of many shards they would be too many."""
    left: dict[int, int] = {}
    for one in vouched:
        entries = []
        for place, entry in enumerate(one["entries"]):
            room = left.get(place, MOST_LISTED)
            if len(entry["removed"]) > room:
                entry = {**entry, "removals": entry_from(entry).reasons(), "removed": entry["removed"][:room]}
            left[place] = room - len(entry["removed"])
            entries.append(entry)
        yield {**one, "entries": entries}


def kinds_of(vouched: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, Kind]:
    """For each column the kind that most rows were given, since a step may have inferred it shard by shard."""
    kinds: dict[str, Kind] = {}
    for name in names:
        if name != ROW:
            rows: dict[Kind, int] = {}
            for one in vouched:
                kind = one["kinds"][name]
                rows[kind] = rows.get(kind, 0) + one["rows"]
            kinds[name] = max(rows, key=lambda kind: rows[kind])
    return kinds


def _mend_types(folder: Path, vouched: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The schema that all shards have, those rewritten that lacked values to tell a type by."""
    schemas = [one["schema"] for one in vouched]
    if all(schema == schemas[0] and list(schema) == list(schemas[0]) for schema in schemas):
        return dict(schemas[0])
    frames = [pl.DataFrame(schema=pl.read_parquet_schema(folder / one["name"])) for one in vouched]
    names = frames[0].columns
    for one, frame in zip(vouched, frames, strict=True):
        if set(frame.columns) != set(names):
            odd = sorted(set(frame.columns) ^ set(names))
            raise DataError(f"{folder / one['name']}: its columns are not those of the first shard: {odd[0]!r}.")
    target = {name: _type_of_all(name, [frame.schema[name] for frame in frames], folder) for name in names}
    for one, frame in zip(vouched, frames, strict=True):
        if dict(frame.schema) != target or frame.columns != names:
            path = folder / one["name"]
            dataset = Dataset(
                pl.read_parquet(path, memory_map=False).select(names).cast(pl.Schema(target)), one["kinds"]
            )
            entries = json.loads(_beside(path).read_text(encoding="utf-8"))["entries"]  # with every removed row
            written = write_shard(dataset, path, [entry_from(entry) for entry in entries])
            one.update(written | {"entries": one["entries"]})
    return {name: str(kind) for name, kind in target.items()}


def _type_of_all(name: str, types: Sequence[pl.DataType], folder: Path) -> pl.DataType:
    """The type that holds the values of all shards without loss: nothing gives way to anything, whole to broken."""
    found = list(dict.fromkeys(kind for kind in types if kind != pl.Null))
    if len(found) <= 1:
        return found[0] if found else pl.Null()
    if all(kind.is_integer() for kind in found):
        return pl.Int64()
    if all(kind.is_numeric() for kind in found):
        return pl.Float64()
    if all(isinstance(kind, pl.Datetime) for kind in found):
        return pl.Datetime("us")
    raise DataError(
        f"{folder}: column {name!r} is {' in some shards and '.join(map(str, found))} in others; "
        "have the source read it as one type."
    )


def write_text(path: Path, text: str) -> None:
    """A small file, whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def crc32_of(path: Path) -> str:
    """Of a file's content, in eight hexadecimal digits."""
    checksum, block = 0, bytearray(BLOCK_BYTES)
    view = memoryview(block)
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            checksum = zlib.crc32(view[:size], checksum)
    return f"{checksum:08x}"


def shard_names() -> Iterator[str]:
    """``part-00000.parquet`` and so on."""
    number = 0
    while True:
        yield f"part-{number:05d}.parquet"
        number += 1
