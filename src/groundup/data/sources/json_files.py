"""JSON documents and JSON lines as tables: nested objects become dotted names, lists stay lists."""

from __future__ import annotations

import collections
import dataclasses
import json as json_text
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from groundup.core.dataset import Dataset, Entry, Kind
from groundup.core.errors import DataError, nearest
from groundup.core.quarantine import MAX_REJECTED, SHOWN, Rejected, demand_few
from groundup.core.rows import (
    UnfitError,
    columns_of,
    flat,
    made_of,
    merged,
    said_of,
    types_of,
)
from groundup.data.sources.column_types import Missing, Wording
from groundup.data.sources.files import TextFile, open_text
from groundup.data.sources.shards import Piece, joined, sharded

CHUNK_LINES = 20_000

MAX_LINE_BYTES = 256 << 20

MOST_BYTES = 2 << 30
"""A document is read whole, so there is a limit to it; JSON lines have none."""

MANY = 1000
"""Values of one sort from which an object is read as rows of ``key`` and ``value``, not as one row."""


@dataclasses.dataclass(frozen=True)
class json_lines:
    """A table from a text file with one JSON object a line, packed by gzip or not.

    Nested objects become columns with dotted names (``a.b``); a list, such as the messages of a conversation, stays
    as it is, in a column of kind "list". A column takes the narrowest type that holds all its values; what is of
    different sorts is kept as text, and said. A name that a line does not have is a missing value there, and so is NaN;
    ``missing`` lists further ones, words and numbers. ``columns`` keeps only these.

    A line that is no JSON object, holds a name twice, half a surrogate pair or bytes that are no text goes to the
    quarantine with its number, its bytes and the reason. Raises DataError when more than ``max_rejected`` (below 1 a
    share, else a count) go there; and for a file that is not there or is empty.
    """

    path: str | Path
    missing: Missing = ()
    columns: Sequence[str] | None = None
    encoding: str | None = None
    max_rejected: float = MAX_REJECTED
    folder: Path = Path()

    def __call__(self) -> Dataset:
        """The whole table."""
        scan = _scan(self)
        return joined(_pieces(self, scan), scan.kinds, scan.entry, str(scan.file.path))

    def shards(self, rows_at_once: int) -> Iterator[Dataset]:
        """The same rows, types, kinds and row numbers, ``rows_at_once`` at a time; the file is gone through twice."""
        scan = _scan(self)
        return sharded(_pieces(self, scan), scan.kinds, scan.entry, str(scan.file.path), rows_at_once)


@dataclasses.dataclass(frozen=True)
class json:
    """A table from one JSON document, packed by gzip or not; it is read whole.

    An array gives a row for each item: an object, an array of cells, or a single value (``text`` or ``value``). An
    object of equally long arrays of plain values gives its columns; one of other arrays gives their items as rows, with
    the array's name in the column ``part``; one of objects that are alike a row for each, with its name in ``key``; any
    other object is one row, or, with more than 1,000 values of one sort, rows of ``key`` and ``value``. ``at`` is the
    dotted path of the part of the document that is meant. Values are read as by ``json_lines``; an item of another sort
    than most goes to the quarantine. Raises DataError for what is no JSON, with line and column.
    """

    path: str | Path
    at: str | None = None
    missing: Missing = ()
    columns: Sequence[str] | None = None
    encoding: str | None = None
    max_rejected: float = MAX_REJECTED
    folder: Path = Path()

    def __call__(self) -> Dataset:
        """The whole table."""
        path = self.folder / Path(self.path).expanduser()
        document, file = read_document(path, self.encoding)
        for name in self.at.split(".") if self.at else ():
            if not isinstance(document, Mapping) or name not in document:
                beside = nearest(name, document) if isinstance(document, Mapping) else ""
                raise DataError(f"{path}: at names {self.at!r}, but there is no {name!r}.{beside}")
            document = document[name]
        items, said = rows_of_document(document, str(path))
        gone = _Gone.of(self.missing)
        sorts = collections.Counter(type(item) for item in items) if isinstance(items, list) else None
        sort = sorts.most_common(1)[0][0] if sorts and {dict, list} & set(sorts) else None
        rows = ((i, _alike(item, gone)) for i, item in enumerate(items, start=1))
        made = made_of(rows, str(path), self.max_rejected, sort)
        frame = _selected(made.frame, self.columns, str(path))
        notes = (f"{made.quarantine}, {file.said}, {said}", *gone.notes(), *made.notes)
        entry = Entry("json", None, made.quarantine.read, frame.height, notes=notes)
        dataset = Dataset.of(frame, origin=str(path))
        return dataclasses.replace(dataset, history=(entry,), quarantine=made.quarantine)

    def shards(self, rows_at_once: int) -> Iterator[Dataset]:
        """The same in slices; a document cannot be read piece by piece, so all of it is held."""
        whole = self()
        rejected = tuple(whole.quarantine.rejected)
        pieces = [Piece(whole.frame.drop("_row"), rejected, (len(whole),) * len(rejected))]
        return sharded(pieces, whole.kinds, whole.history[0], whole.origin, rows_at_once)


def read_document(path: Path, encoding: str | None = None) -> tuple[Any, TextFile]:
    """One JSON document. Raises DataError with line and column for what is none."""
    file = _open(path, encoding)
    pieces: list[bytes] = []
    for block in file.blocks():
        pieces.append(block)
        if sum(map(len, pieces)) > MOST_BYTES:
            raise DataError(f"{path}: more than {MOST_BYTES:,} bytes in one document; write it as JSON lines.")
    try:
        return _parsed(b"".join(pieces).decode(file.encoding)), file
    except json_text.JSONDecodeError as error:
        extra = " If each line is a document, it is JSON lines." if error.msg == "Extra data" else ""
        raise DataError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}.{extra}"
        ) from error
    except (UnfitError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {_why(error)}.") from error


def _open(path: Path, encoding: str | None) -> TextFile:
    """The file; JSON is UTF-8 (RFC 8259, section 8.1), so a Western encoding is never guessed from odd bytes."""
    file = open_text(path, encoding)
    if encoding is None and file.encoding in ("cp1252", "latin-1"):
        return dataclasses.replace(file, encoding="utf-8", said="UTF-8, damaged in places")
    return file


def _parsed(text: str) -> Any:
    return json_text.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise UnfitError(f"a name twice in one object: {next(n for n in names if names.count(n) > 1)!r:.60}")
    return made


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are no text: {error.object[error.start]:#04x} at byte {error.start + 1}"
    return str(error) if isinstance(error, UnfitError) else f"not valid JSON: {error}"


def rows_of_document(document: Any, where: str) -> tuple[Iterable[Any], str]:
    """The rows of a document, and how it was taken apart."""
    if isinstance(document, list):
        return document, "an array of rows"
    if not isinstance(document, dict) or not document:
        raise DataError(f"{where}: the document is {document!r:.40}, expected an array or an object with values.")
    values = list(document.values())
    if all(isinstance(value, list) for value in values):
        lengths = {len(value) for value in values}
        plain = not any(isinstance(item, (list, dict)) for value in values for item in value)
        if len(lengths) == 1 and plain and lengths != {0}:
            rows = (dict(zip(document, row, strict=True)) for row in zip(*values, strict=True))
            return rows, "an object of columns"
        return _parts(document), "an object of arrays, named in 'part'"
    if len(values) > 1 and all(isinstance(value, dict) for value in values) and _are_alike(values):
        return ({"key": name, **value} for name, value in document.items()), "an object of rows, named in 'key'"
    if len(values) > MANY and len({type(value) for value in values}) == 1:
        return ({"key": name, "value": value} for name, value in document.items()), "an object of values"
    return [document], "one object, one row"


def _parts(document: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for name, items in document.items():
        for item in items:
            if isinstance(item, dict):
                yield {"part": name, **item}
            elif isinstance(item, list):
                yield {"part": name, **{f"column {i + 1}": cell for i, cell in enumerate(item)}}
            else:
                yield {"part": name, "text" if isinstance(item, str) else "value": item}


def _are_alike(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether objects have at least half of their names in common."""
    shared = set(rows[0])
    for row in rows[1:]:
        shared &= set(row)
    return 2 * len(shared) >= max(len(row) for row in rows) > 0


# ---------------------------------------------------------------------------------------------- missing values


@dataclasses.dataclass
class _Gone:
    """What stands for a missing value, and how often it was seen."""

    words: frozenset[str]
    numbers: frozenset[float]
    seen: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, missing: Missing) -> _Gone:
        words = frozenset(m for m in missing if isinstance(m, str))
        return cls(words, frozenset(float(m) for m in missing if not isinstance(m, str)))

    def without(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A flat row with None for what stands for a missing value."""
        found = dict(row)
        for name, value in row.items():
            if isinstance(value, str):
                gone = value in self.words
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                gone = value in self.numbers or value != value
            else:
                continue
            if gone:
                found[name] = None
                self.seen[name, str(value)] = self.seen.get((name, str(value)), 0) + 1
        return found

    def notes(self) -> list[str]:
        return [f"column {name!r}: {value!r} read as missing, {n} times" for (name, value), n in self.seen.items()]


def _alike(item: Any, gone: _Gone) -> Any:
    """An item of a document with what stands for missing values replaced; faults are found when it becomes a row."""
    try:
        return gone.without(flat(item)) if isinstance(item, dict) else item
    except UnfitError:
        return item


def _selected(frame: pl.DataFrame, columns: Sequence[str] | None, where: str) -> pl.DataFrame:
    for name in columns or ():
        if name not in frame.columns:
            raise DataError(f"{where}: columns names {name!r}, but there is none.{nearest(name, frame.columns)}")
    return frame if columns is None else frame.select(columns)


# ---------------------------------------------------------------------------------------------- lines


@dataclasses.dataclass(frozen=True)
class _Scan:
    file: TextFile
    types: Mapping[str, pl.DataType | None]
    kinds: Mapping[str, Kind]
    entry: Entry


@dataclasses.dataclass(frozen=True)
class _Lines:
    """Rows of some lines, those that are none, and how many were blank."""

    rows: list[dict[str, Any]]
    types: Mapping[str, pl.DataType | None]
    rejected: list[Rejected]
    places: list[int]
    blank: int


def _scan(source: json_lines) -> _Scan:
    path = source.folder / Path(source.path).expanduser()
    file = _open(path, source.encoding)
    gone = _Gone.of(source.missing)
    types: dict[str, pl.DataType | None] = {}
    words: dict[str, Wording] = {}
    first: list[Rejected] = []
    reasons: dict[str, int] = {}
    accepted = rejected = blank = 0
    for lines in _read(file, gone):
        types = merged(types, lines.types)
        for name, kind in lines.types.items():
            if kind is not None and kind in (pl.String, pl.Object):
                column = columns_of(lines.rows, {name: kind})[name]
                words[name] = words.get(name, Wording()).merge(Wording.of(column))
        accepted, rejected, blank = accepted + len(lines.rows), rejected + len(lines.rejected), blank + lines.blank
        first += lines.rejected[: SHOWN - len(first)]
        for one in lines.rejected:
            reason = one.reason.partition(":")[0]
            reasons[reason] = reasons.get(reason, 0) + 1
    advice = "Is it one JSON document (then use json)? Mend those lines"
    limit = source.max_rejected if accepted else 0
    demand_few(rejected, accepted + rejected, limit, first, str(path), advice)
    if not types:
        raise DataError(f"{path}: the {accepted} rows have no values.")
    types = dict(_chosen(types, source.columns, str(path)))
    notes = [f"{accepted} rows from JSON lines, {file.said}{', packed by gzip' if file.unpacked else ''}"]
    if rejected:
        said = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        notes.append(f"{accepted + rejected} rows read = {accepted} accepted + {rejected} rejected: {said}")
    notes += [f"{blank} blank lines passed over"] if blank else []
    kinds = _kinds(file, source, types, words, accepted)
    entry = Entry("json_lines", None, accepted + rejected, accepted, notes=(*notes, *gone.notes(), *said_of(types)))
    return _Scan(file, types, kinds, entry)


def _chosen(types: Mapping[str, Any], columns: Sequence[str] | None, where: str) -> Mapping[str, Any]:
    for name in columns or ():
        if name not in types:
            raise DataError(f"{where}: columns names {name!r}, but there is none.{nearest(name, types)}")
    return types if columns is None else {name: types[name] for name in columns}


def _kinds(
    file: TextFile, source: json_lines, types: Mapping[str, Any], words: dict[str, Wording], rows: int
) -> dict[str, Kind]:
    """What each column means; columns that became text only by values of several sorts are looked at again."""
    mixed = [name for name, kind in types.items() if kind == pl.Object]
    if mixed:
        words = {**words, **dict.fromkeys(mixed, Wording())}
        for lines in _read(file, _Gone.of(source.missing)):
            frame = columns_of(lines.rows, {name: types[name] for name in mixed})
            words = {**words, **{name: words[name].merge(Wording.of(frame[name])) for name in mixed}}
    empty = columns_of([], types)
    kinds: dict[str, Kind] = {}
    for name in types:
        wording = words.get(name)
        is_text = empty[name].dtype == pl.String and wording is not None
        kinds[name] = wording.kind(rows) if is_text and wording else Dataset.of(empty.select(name)).kinds[name]
    return kinds


def _pieces(source: json_lines, scan: _Scan) -> Iterator[Piece]:
    for lines in _read(scan.file, _Gone.of(source.missing)):
        yield Piece(columns_of(lines.rows, scan.types), tuple(lines.rejected), tuple(lines.places))


def _read(file: TextFile, gone: _Gone) -> Iterator[_Lines]:
    """The lines of a file in pieces of CHUNK_LINES."""
    number, lines = 1, []
    for line in _lines(file):
        lines.append(line)
        if len(lines) == CHUNK_LINES:
            yield _taken(lines, number, file, gone)
            number, lines = number + len(lines), []
    if lines:
        yield _taken(lines, number, file, gone)


def _lines(file: TextFile) -> Iterator[bytes]:
    rest: list[bytes] = []
    size = 0
    for block in file.blocks(1 << 20):
        head, *others = block.split(b"\n")
        rest.append(head)
        size += len(head)
        if size > MAX_LINE_BYTES:
            raise DataError(f"{file.path}: a line of more than {MAX_LINE_BYTES:,} bytes; is it JSON lines?")
        if others:
            yield b"".join(rest)
            yield from others[:-1]
            rest, size = [others[-1]], len(others[-1])
    if size:
        yield b"".join(rest)


def _taken(lines: Sequence[bytes], number: int, file: TextFile, gone: _Gone) -> _Lines:
    found = _Lines([], {}, [], [], 0)
    types: Mapping[str, pl.DataType | None] = {}
    blank = 0
    for at, line in enumerate(lines, start=number):
        raw = line.rstrip(b"\r")
        if not raw.strip():
            blank += 1
            continue
        try:
            value = _parsed(raw.decode(file.encoding))
            if not isinstance(value, dict):
                raise UnfitError(f"not an object: {type(value).__name__}")
            row = gone.without(flat(value))
            types = merged(types, types_of(row))
        except (ValueError, RecursionError) as error:
            found.rejected.append(Rejected(_why(error), file.raw(raw), at))
            found.places.append(len(found.rows))
            continue
        found.rows.append(row)
    return dataclasses.replace(found, types=types, blank=blank)
