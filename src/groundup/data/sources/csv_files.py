"""Text tables: how they are written is found out and said; a row that cannot be read is kept aside, never lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset, Entry, Kind
from groundup.core.errors import DataError, nearest
from groundup.core.quarantine import MAX_REJECTED, SHOWN, Rejected, demand_few
from groundup.data.sources.column_types import MISSING, Facts, Missing, Numbers, Reading, Type, typed
from groundup.data.sources.dialect import Dialect, clean_names, detect
from groundup.data.sources.files import TextFile, open_text
from groundup.data.sources.records import Chunk, chunks
from groundup.data.sources.shards import Piece, joined, sharded
from groundup.data.sources.times import ADVICE, Times


@dataclasses.dataclass(frozen=True)
class csv:
    """A table from a text file, packed by gzip or not, with one row a line; quoted cells hold anything.

    The separator is found among comma, semicolon, tab, bar and runs of blanks, the ``quote`` between " and ', the
    ``encoding`` among UTF-8, UTF-16, GB18030, Big5, Shift-JIS, Windows-1252 and Latin-1; whether there is a header, by
    holding the first row against those beneath it. What is given is not looked for: ``header`` true or false, or the
    names of the columns of a file that has no header line. Lines at the beginning with a # are comments; with
    ``comment`` all that begin with it. ``numbers`` says how 1234.5 is written; without it a comma is a decimal point
    where it does not separate cells and cannot set thousands apart.

    ``missing`` lists what stands for a missing value, beside the empty cell: words as they are written, numbers by
    their value; as a table, one list a column, "*" for all others. ``columns`` keeps only these. ``time`` is a column
    to be read as date and time, or columns that hold year, month, day, hour, minute, second in this order and make a
    new column ``time`` (they stay beside it).

    A column becomes whole numbers, numbers, true/false or strings, whichever holds all its values; nothing is guessed
    from a part of it. The ledger says how the file was read and what was read as missing. A row with a wrong number of
    cells, a mark left open, bytes that are no text, a time that is none, or the header once more goes to the quarantine
    with its line, its bytes and the reason: accepted + rejected = read. Raises DataError when more than
    ``max_rejected`` (below 1 a share, else a count) go there; and for a file that is not there, is empty, or has a
    header alone.

    ``csv(path)()`` gives the whole, ``csv(path).shards(rows)`` the same piece by piece in bounded memory.
    """

    path: str | Path
    separator: str | None = None
    missing: Missing | Mapping[str, Missing] = MISSING
    columns: Sequence[str] | None = None
    header: bool | Sequence[str] | None = None
    time: str | Sequence[str] | None = None
    quote: str | None = None
    encoding: str | None = None
    numbers: Numbers | None = None
    comment: str | None = None
    max_rejected: float = MAX_REJECTED
    folder: Path = Path()

    def __post_init__(self) -> None:
        if self.separator == "":
            raise ValueError("separator: read an empty one; name a character, or leave it out to have it found.")
        if self.quote is not None and len(self.quote) > 1:
            raise ValueError(f"quote: read {self.quote!r}, expected one character, or none at all for no quotation.")

    def __call__(self) -> Dataset:
        """The whole table."""
        scan = _scan(self, keep=True)
        return joined(_pieces(scan), scan.kinds, scan.entry, scan.opened.where)

    def shards(self, rows_at_once: int) -> Iterator[Dataset]:
        """The same rows, types, kinds and row numbers, ``rows_at_once`` at a time; the file is gone through twice."""
        scan = _scan(self, keep=False)
        return sharded(_pieces(scan), scan.kinds, scan.entry, scan.opened.where, rows_at_once)


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A file, how it is written, and which of its columns are read how."""

    source: csv
    file: TextFile
    dialect: Dialect
    places: Mapping[str, int]
    """Column that is read -> its place in the file."""
    readings: Mapping[str, Reading]
    notes: tuple[str, ...]

    @property
    def where(self) -> str:
        return str(self.file.path)

    def chunks(self) -> Iterator[Chunk]:
        return chunks(self.file, self.dialect.layout, self.dialect.skip, self.dialect.line)

    def cells(self, chunk: Chunk, name: str) -> pl.Series:
        return chunk.cells[str(self.places[name])]

    def bare(self, chunk: Chunk, names: Sequence[str]) -> list[pl.Series]:
        return [self.readings[name].bare(self.cells(chunk, name))[0] for name in names]


@dataclasses.dataclass(frozen=True)
class _Scan:
    """What the first pass over a file settles."""

    opened: _Opened
    types: Mapping[str, tuple[Type, Reading]]
    times: Times | None
    kinds: Mapping[str, Kind]
    entry: Entry
    kept: tuple[Chunk, ...] | None
    """The rows, where they were held on to."""


def _open(source: csv) -> _Opened:
    path = source.folder / Path(source.path).expanduser()
    file = open_text(path, source.encoding)
    dialect = detect(file, source.separator, source.quote, source.comment, source.header)
    names, notes = clean_names(dialect.names, str(path))
    times = [] if source.time is None else list(Times.of(source.time).names)
    for argument, asked in (("columns", source.columns or ()), ("time", times)):
        for name in asked:
            if name not in names:
                raise DataError(
                    f"{path}: {argument} names {name!r}, but there is no such column.{nearest(name, names)}"
                )
    if len(times) > 1 and "time" in names and "time" not in times:
        raise DataError(f"{path}: has a column 'time' already, so {times} cannot be combined into one of that name.")
    # As the columns lie, and not as they are named: what is derived of them stands behind them.
    wanted = names if source.columns is None else [*source.columns, *(n for n in times if n not in source.columns)]
    places = {name: names.index(name) for name in wanted}
    readings = {name: _reading(source, name, dialect.layout.separator) for name in wanted}
    return _Opened(source, file, dialect, places, readings, tuple(notes))


def _reading(source: csv, name: str, separator: str) -> Reading:
    missing = source.missing
    if isinstance(missing, Mapping):
        missing = missing.get(name, missing.get("*", MISSING))
    return Reading.of(missing, source.numbers, separator)


class _Counts:
    """Sums over the file while it is gone through."""

    def __init__(self, dialect: Dialect) -> None:
        self.accepted = self.rejected = 0
        self.blank, self.comments = dialect.blank, dialect.comments
        self.first: list[Rejected] = []
        self.reasons: dict[str, int] = {}
        self.refuse(dialect.rejected)

    def refuse(self, rejected: Sequence[Rejected]) -> None:
        self.rejected += len(rejected)
        self.first += rejected[: SHOWN - len(self.first)]
        for one in rejected:
            self.reason(one.reason.partition(":")[0], 1)

    def reason(self, kind: str, count: int) -> None:
        self.reasons[kind] = self.reasons.get(kind, 0) + count

    def add(self, chunk: Chunk) -> None:
        self.accepted += chunk.cells.height
        self.blank += chunk.blank
        self.comments += chunk.comments
        self.refuse(chunk.rejected)


def _scan(source: csv, *, keep: bool) -> _Scan:
    opened = _open(source)
    times = None if source.time is None else Times.of(source.time)
    counts, facts = _Counts(opened.dialect), dict.fromkeys(opened.places, Facts())
    kept: list[Chunk] | None = []
    for number, chunk in enumerate(opened.chunks()):
        counts.add(chunk)
        facts = _merged(opened, facts, chunk)
        times = None if times is None else times.seen(opened.bare(chunk, times.names))
        if kept is not None:
            kept = [*kept, chunk] if keep or not number else None  # one piece is held on to in any case
    types: dict[str, tuple[Type, Reading]] = {}
    notes: list[str] = []
    for name, fact in facts.items():
        settled, reading, said = fact.settle(name, opened.readings[name])
        types[name] = (settled, reading)
        notes += said
    uncounted = [n for n, fact in facts.items() if types[n][0] in ("string", "prose") and fact.distinct is None]
    if uncounted:  # numbers in one piece, words in another
        facts = {**facts, **_distinct(opened, uncounted, kept)}
    kinds: dict[str, Kind] = {name: fact.kind(types[name][0]) for name, fact in facts.items()}
    if times is not None:
        kinds[times.name] = "time"
        notes = [*(note for note in notes if not note.startswith(f"column {times.name!r}")), times.said()]
        _refuse_times(opened, times, counts, kept)
    read = counts.accepted + counts.rejected
    if not counts.accepted and not counts.rejected:
        raise DataError(f"{opened.where}: there is a header, but no row beneath it.")
    limit = source.max_rejected if counts.accepted else 0
    advice = ADVICE if counts.reasons.get("no time") else "Mend those lines, name another separator"
    demand_few(counts.rejected, read, limit, counts.first, opened.where, advice)
    entry = Entry("csv", None, read, counts.accepted, notes=(*_how(opened, counts), *opened.notes, *notes))
    return _Scan(opened, types, times, kinds, entry, None if kept is None else tuple(kept))


def _merged(opened: _Opened, facts: Mapping[str, Facts], chunk: Chunk, counted: Sequence[str] = ()) -> dict[str, Facts]:
    return {
        name: fact.merge(
            Facts.of(opened.cells(chunk, name), chunk.lines, opened.readings[name], distinct=name in counted)
        )
        if chunk.cells.height
        else fact
        for name, fact in facts.items()
    }


def _distinct(opened: _Opened, names: Sequence[str], kept: Sequence[Chunk] | None) -> dict[str, Facts]:
    facts = dict.fromkeys(names, Facts())
    for chunk in opened.chunks() if kept is None else kept:
        facts = _merged(opened, facts, chunk, names)
    return facts


def _refuse_times(opened: _Opened, times: Times, counts: _Counts, kept: Sequence[Chunk] | None) -> None:
    """Count the rows without a time among the rejected, and find the first of them."""
    if not times.num_wrong:
        return
    counts.accepted -= times.num_wrong
    counts.rejected += times.num_wrong
    counts.reason("no time", times.num_wrong)
    for chunk in opened.chunks() if kept is None else kept:
        counts.first = sorted([*counts.first, *_without_time(opened, times, chunk)[1]], key=lambda one: one.line or 0)
        if len(counts.first) >= SHOWN:
            break


def _without_time(opened: _Opened, times: Times, chunk: Chunk) -> tuple[pl.Series, list[Rejected]]:
    """The times of a piece, and its rows that have none."""
    bare = opened.bare(chunk, times.names)
    read = times.read(bare)
    wrong = [
        Rejected(times.fault([opened.cells(chunk, name)[i] for name in times.names]), chunk.raw(i), int(chunk.lines[i]))
        for i in read.is_null().arg_true().to_list()
    ]
    return read, wrong


def _how(opened: _Opened, counts: _Counts) -> list[str]:
    """How the file was read, for the ledger."""
    file, width = opened.file, opened.dialect.layout.width
    packed = f", packed by {file.unpacked}" if file.unpacked else ""
    lines = [f"{counts.accepted} rows of {width} cells, {file.said}{packed}, {'; '.join(opened.dialect.notes)}"]
    if counts.rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.reasons.items())
        read = counts.accepted + counts.rejected
        lines.append(f"{read} rows read = {counts.accepted} accepted + {counts.rejected} rejected: {reasons}")
    if counts.blank:
        lines.append(f"{counts.blank} blank lines passed over")
    if counts.comments:
        lines.append(f"{counts.comments} lines of comment passed over")
    return lines


def _pieces(scan: _Scan) -> Iterator[Piece]:
    """The table in the types that were settled on; rows without a time go to the rejected."""
    opened, times = scan.opened, scan.times
    before = opened.dialect.rejected
    if before:
        empty = pl.DataFrame(schema=_schema(scan))
        yield Piece(empty, before, (0,) * len(before))
    for chunk in opened.chunks() if scan.kept is None else scan.kept:
        frame = pl.DataFrame([typed(opened.cells(chunk, n), *scan.types[n]).alias(n) for n in opened.places])
        rejected, places = list(chunk.rejected), list(chunk.rejected_before)
        if times is not None:
            read, wrong = _without_time(opened, times, chunk)
            frame = frame.with_columns(read)
            rows = read.is_null().arg_true().to_list()
            there = read.is_not_null()
            left = np.concatenate([[0], np.cumsum(there.to_numpy())])
            both = [*zip(places, rejected, strict=True), *zip(rows, wrong, strict=True)]
            both.sort(key=lambda pair: pair[1].line or 0)
            rejected, places = [one for _, one in both], [int(left[place]) for place, _ in both]
            frame = frame.filter(there)
        yield Piece(_kept_columns(scan, frame), tuple(rejected), tuple(places))


def _kept_columns(scan: _Scan, frame: pl.DataFrame) -> pl.DataFrame:
    """The columns that were asked for, and the time."""
    source = scan.opened.source
    if source.columns is None:
        return frame
    time = [] if scan.times is None or scan.times.name in source.columns else [scan.times.name]
    return frame.select([*source.columns, *time])


def _schema(scan: _Scan) -> dict[str, pl.DataType]:
    empty = pl.Series([], dtype=pl.String)
    schema = {name: typed(empty, *scan.types[name]).dtype for name in scan.opened.places}
    if scan.times is not None:
        schema[scan.times.name] = pl.Datetime("us")
    frame = pl.DataFrame(schema=schema)
    return dict(_kept_columns(scan, frame).schema)
