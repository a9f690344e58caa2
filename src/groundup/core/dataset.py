"""Data as a value: a table with a schema, the split it belongs to, and the history of what was done to it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from groundup.core.errors import DataError, nearest
from groundup.core.novelty import New
from groundup.core.quarantine import Quarantine
from groundup.core.rows import frame_of

Kind = Literal["number", "category", "boolean", "text", "image", "time", "id", "list"]
Split = Literal["train", "valid", "test", "serve"]

ROW = "_row"
"""The column that numbers each row as it was read; it never changes, so a row can always be named."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of the ledger: what one step did to one split."""

    step: str
    split: str | None
    rows_before: int
    rows_after: int
    cells_changed: Mapping[str, int] = dataclasses.field(default_factory=dict)
    removed: tuple[tuple[str, str], ...] = ()
    """(name of the row, reason), one for each removed row, or the first of them where ``removals`` counts them all."""
    notes: tuple[str, ...] = ()
    removals: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Kind of reason -> rows, where there are too many to be listed here; each stands in the file of its shard."""
    learned_from: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Split -> rows that the step's statistics were learned from; empty for a step that learns nothing."""

    @property
    def num_removed(self) -> int:
        """Rows that went."""
        return sum(self.removals.values()) if self.removals else len(self.removed)

    def reasons(self) -> dict[str, int]:
        """How many rows went for which kind of reason (the words before the first colon)."""
        if self.removals:
            return dict(self.removals)
        counts: dict[str, int] = {}
        for _, reason in self.removed:
            kind = reason.partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
        return counts


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Rows of columns, as polars holds them.

    ``frame`` has the column ``_row`` beside those in ``kinds`` (column -> what it means). Images are
    Binary (an encoded file) or Array/List columns of bytes; a column of kind "id" names the row to people; one of kind
    "list" holds a list a row, such as the messages of a conversation or tags, which no step touches unless it is named.
    ``pending`` holds removals and notes that a step has made and the runner has not yet booked.
    """

    frame: pl.DataFrame
    kinds: Mapping[str, Kind]
    split: Split | None = None
    history: tuple[Entry, ...] = ()
    pending: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    origin: str = ""
    """Where the rows came from, for messages: a file or folder."""
    quarantine: Quarantine = Quarantine()
    """What the source read and could not take; it travels along unchanged."""
    new: tuple[New, ...] = ()
    """What these rows, given to predict on, have that train did not."""

    def __len__(self) -> int:
        return self.frame.height

    @classmethod
    def of(cls, frame: pl.DataFrame, kinds: Mapping[str, Kind] | None = None, *, origin: str = "") -> Dataset:
        """A dataset from a polars frame; kinds that are not given are inferred, rows are numbered."""
        if ROW not in frame.columns:
            frame = frame.with_row_index(ROW)
        given = dict(kinds or {})
        for name in given:
            if name not in frame.columns:
                raise DataError(f"{origin or 'data'}: there is no column {name!r}.{nearest(name, frame.columns)}")
        inferred = {n: given.get(n) or infer_kind(frame[n]) for n in frame.columns if n != ROW}
        return cls(frame=frame, kinds=inferred, origin=origin)

    @classmethod
    def of_rows(cls, rows: Any, kinds: Mapping[str, Kind] | None = None, *, origin: str = "") -> Dataset:
        """A dataset from Python values: dicts, (x, y) pairs, a polars or pandas frame, numpy arrays.

        What cannot be taken, and why, stands in ``quarantine``; see ``groundup.core.rows`` for how values are read.
        Raises DataError when there is nothing, or nothing that can be taken.
        """
        made = frame_of(rows, origin or "rows")
        dataset = cls.of(made.frame, kinds, origin=origin)
        return dataclasses.replace(dataset, quarantine=made.quarantine).note(*made.notes)

    @property
    def columns(self) -> list[str]:
        """Every column but ``_row``."""
        return [name for name in self.frame.columns if name != ROW]

    def of_kind(self, *kinds: Kind) -> list[str]:
        """The columns of these kinds, in order."""
        return [name for name in self.columns if self.kinds.get(name) in kinds]

    def need(self, *names: str, by: str = "") -> None:
        """Raises DataError, with the nearest name, unless these columns exist."""
        for name in names:
            if name not in self.frame.columns:
                asked = f"{by}: " if by else ""
                raise DataError(
                    f"{asked}{self.origin or 'the data'} has no column {name!r}.{nearest(name, self.columns)}"
                )

    def row_names(self) -> list[str]:
        """A name for each row that a person can find it by: its id column, or origin and row number."""
        ids = self.of_kind("id")
        if ids:
            return [str(value) for value in self.frame[ids[0]].to_list()]
        return [f"row {row}" for row in self.frame[ROW].to_list()]

    def with_frame(self, frame: pl.DataFrame, kinds: Mapping[str, Kind] | None = None) -> Dataset:
        """The same dataset with other columns or values; kinds of new columns are given or inferred."""
        known = {**self.kinds, **(kinds or {})}
        inferred = {n: known.get(n) or infer_kind(frame[n]) for n in frame.columns if n != ROW}
        return dataclasses.replace(self, frame=frame, kinds=inferred)

    def keep(self, mask: np.ndarray[Any, Any] | pl.Series, reasons: Mapping[int, str] | str) -> Dataset:
        """The rows where ``mask`` is true; each other one goes into the ledger with its reason.

        ``reasons`` is one reason for all, or a mapping from position (not row number) to reason, for
        instance ``"near duplicate: 0.93 like json/decoder.py"``.
        """
        kept = np.asarray(mask, dtype=bool)
        if kept.shape != (len(self),):
            raise ValueError(f"mask of shape {kept.shape} for {len(self)} rows")
        names = self.row_names()
        gone = [(names[i], reasons if isinstance(reasons, str) else reasons[i]) for i in np.flatnonzero(~kept).tolist()]
        return dataclasses.replace(self, frame=self.frame.filter(pl.Series(kept)), pending=(*self.pending, *gone))

    def note(self, *lines: str) -> Dataset:
        """The same dataset with lines for the ledger: what a step saw that a person should know.

        Lines of the form ``NAME: COUNT words`` or ``COUNT words`` are added up where data are taken in pieces.
        """
        return dataclasses.replace(self, notes=(*self.notes, *lines))

    def booked(self, step: str, rows_before: int) -> Dataset:
        """The same dataset with a line in its ledger that says what part of how many rows it is."""
        entry = Entry(step, self.split, len(self), len(self), notes=(f"{len(self):,} of {rows_before:,} rows",))
        return dataclasses.replace(self, history=(*self.history, entry))

    def take(self, positions: np.ndarray[Any, Any], split: Split | None = None) -> Dataset:
        """The rows at these positions, in this order, as a split."""
        return dataclasses.replace(self, frame=self.frame[positions], split=split or self.split)

    def fingerprint(self) -> str:
        """SHA-256 over the rows in order and the kinds; equal values give equal digests however they lie in memory."""
        return fingerprint_of(iter([self]), self.kinds)


BLOCK_ROWS = 1 << 16
"""Rows that a fingerprint takes together, so that it can be had of rows that are not in memory at once."""


def fingerprint_of(pieces: Iterator[Dataset], kinds: Mapping[str, Kind]) -> str:
    """The fingerprint of rows that come in pieces; it does not depend on where they are cut."""
    digests = [_block_digest(block, kinds) for block in _blocks(pieces)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _blocks(pieces: Iterator[Dataset]) -> Iterator[pl.DataFrame]:
    """The rows BLOCK_ROWS at a time; one empty block where there are none."""
    rest: pl.DataFrame | None = None
    given = False
    for piece in pieces:
        rest = piece.frame if rest is None or not rest.height else pl.concat([rest, piece.frame])
        start = 0
        while rest.height - start > BLOCK_ROWS:
            yield rest[start : start + BLOCK_ROWS]
            start, given = start + BLOCK_ROWS, True
        rest = rest[start:]
    if rest is not None and (rest.height or not given):
        yield rest


def _block_digest(frame: pl.DataFrame, kinds: Mapping[str, Kind]) -> str:
    import pyarrow as pa  # type: ignore[import-untyped]

    digest = hashlib.sha256(repr(sorted(kinds.items())).encode())
    for column in frame.iter_columns():  # one by one, so that only one is copied at a time
        digest.update(repr(column.dtype).encode() + np.packbits(column.is_null().to_numpy()).tobytes())
        buffer = io.BytesIO()
        values = column.drop_nulls().rechunk()  # what lies under a null, or behind the last bit, is arbitrary
        values = values.cast(pl.UInt8) if values.dtype == pl.Boolean else values
        table = values.to_frame().to_arrow(compat_level=pl.CompatLevel.oldest())
        with pa.ipc.new_stream(buffer, table.schema) as stream:  # Arrow's own writer keeps no trace of the layout
            stream.write_table(table)
        digest.update(buffer.getbuffer())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three parts of a dataset; each knows which it is, so that nothing can be fitted on the wrong one."""

    train: Dataset
    valid: Dataset
    test: Dataset

    def map(self, function: Callable[[Dataset], Dataset]) -> Splits:
        """The same function over each part."""
        return Splits(function(self.train), function(self.valid), function(self.test))

    def parts(self) -> dict[str, Dataset]:
        """By name, in order."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def infer_kind(column: pl.Series) -> Kind:
    """What a column most likely means, from its type and values."""
    kind = column.dtype
    if kind == pl.Boolean:
        return "boolean"
    if kind.is_numeric():
        return "number"
    if kind.is_temporal():
        return "time"
    if kind == pl.Binary or (isinstance(kind, (pl.Array, pl.List)) and _innermost(kind) == pl.UInt8):
        return "image"
    if isinstance(kind, (pl.Array, pl.List)):
        return "list"
    if kind == pl.String:
        lengths = column.drop_nulls().str.len_chars()
        distinct = column.n_unique()
        wordy = len(lengths) > 0 and float(lengths.mean() or 0) > 40  # type: ignore[arg-type]
        many = distinct > max(50, 0.5 * len(column))
        return "text" if wordy or many else "category"
    return "category"


def _innermost(kind: pl.DataType) -> pl.DataType:
    while isinstance(kind, (pl.Array, pl.List)):
        kind = kind.inner if isinstance(kind.inner, pl.DataType) else kind.inner()
    return kind


def apply(
    step: Callable[[Dataset], Dataset], dataset: Dataset, name: str, learned_from: Mapping[str, int] | None = None
) -> Dataset:
    """Run one step and book it in the ledger: rows and cells before and after, removals with reasons.

    ``learned_from`` says which split, and how many rows of it, the step's statistics come from.
    Raises DataError when rows vanish without a reason, or vanish at all outside train once the data is
    split: validation, test and served rows may be flagged, never dropped. Rows are told apart by ``_row``,
    so that one dropped and another doubled is seen.
    """
    after = step(dataset)
    if not isinstance(after, Dataset):
        raise DataError(f"{name}: a step gives a Dataset back; this one gave {type(after).__name__}.")
    if after.split != dataset.split:
        raise DataError(
            f"{name}: turned data of split {dataset.split} into split {after.split}; use Dataset.with_frame."
        )
    gone = _rows_gone(dataset, after, name)
    if gone > 0 and dataset.split in ("valid", "test", "serve"):
        raise DataError(
            f"{name}: removed {gone} rows of the {dataset.split} split. Rows may be removed from train alone; "
            "flag or fill them instead, or remove them before the split."
        )
    reasons = len(after.pending) - len(dataset.pending)
    if gone != reasons:
        raise DataError(f"{name}: {gone} rows vanished, {reasons} were removed with a reason. Use Dataset.keep.")
    entry = Entry(
        step=name,
        split=dataset.split,
        rows_before=len(dataset),
        rows_after=len(after),
        cells_changed=_cells_changed(dataset, after),
        removed=after.pending,
        notes=after.notes,
        learned_from=dict(learned_from or {}),
    )
    return dataclasses.replace(after, history=(*dataset.history, entry), pending=(), notes=())


def _rows_gone(before: Dataset, after: Dataset, name: str) -> int:
    """How many rows of ``before`` are no longer there, counted by row number, copies included."""
    if ROW not in after.frame.columns:
        raise DataError(f"{name}: lost the column {ROW!r}, by which rows are named; keep it through the step.")
    if before.frame[ROW].equals(after.frame[ROW]):
        return 0
    were = before.frame.group_by(ROW).len("were")
    are = after.frame.group_by(ROW).len("are").with_columns(pl.col(ROW).cast(before.frame.schema[ROW]))
    lost = pl.col("were").cast(pl.Int64) - pl.col("are").fill_null(0).cast(pl.Int64)
    return int(were.join(are, on=ROW, how="left").select(lost.clip(lower_bound=0).sum()).item())


def _cells_changed(before: Dataset, after: Dataset) -> dict[str, int]:
    """Per column that both have: how many cells of the rows that stayed are not what they were."""
    old = before.frame
    if not old[ROW].equals(after.frame[ROW]):
        rows = after.frame.select(pl.col(ROW).cast(old.schema[ROW]))
        old = rows.join(old, on=ROW, how="left", maintain_order="left")
    if old.height != after.frame.height:
        return {}
    counts: dict[str, int] = {}
    for name in after.columns:
        if name not in old.columns or old[name].dtype != after.frame[name].dtype:
            counts[name] = after.frame.height
        elif changed := _num_changed(old[name], after.frame[name]):
            counts[name] = changed
    return counts


def _num_changed(old: pl.Series, new: pl.Series) -> int:
    if old.dtype.is_nested():
        return 0 if old.equals(new, null_equal=True) else int(old.ne_missing(new).sum())
    changed = int((old != new).sum())  # where one is missing this tells nothing, and is told by the masks
    if old.null_count() or new.null_count():
        changed += int((old.is_null() ^ new.is_null()).sum())
    return changed


MOST_LISTED = 1000
"""Removed rows and distinct notes that a merged entry still lists."""


def merge_entries(entries: Sequence[Entry]) -> Entry:
    """What one step did to several pieces of one split, as one line of the ledger.

    Counts add up. Notes of the form ``NAME: COUNT words`` that differ in their count alone are added up too; of the
    others each stands once. Of removed rows the first ``MOST_LISTED`` are listed, all are counted.
    """
    first = entries[0]
    cells: dict[str, int] = {}
    removals: dict[str, int] = {}
    for entry in entries:
        for name, count in entry.cells_changed.items():
            cells[name] = cells.get(name, 0) + count
        for reason, count in entry.reasons().items():
            removals[reason] = removals.get(reason, 0) + count
    removed = tuple(itertools.islice((one for entry in entries for one in entry.removed), MOST_LISTED))
    return dataclasses.replace(
        first,
        rows_before=sum(entry.rows_before for entry in entries),
        rows_after=sum(entry.rows_after for entry in entries),
        cells_changed=cells,
        removed=removed,
        notes=merge_notes([entry.notes for entry in entries]),
        removals=removals if sum(removals.values()) > len(removed) else {},
    )


_COUNTED = re.compile(r"((?:.*?: )?)(\d[\d,]*)( .*)", re.DOTALL)


def merge_notes(pieces: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The notes of several pieces as those of all: counts in ``NAME: COUNT words`` or ``COUNT words`` add up."""
    counts: dict[tuple[str, str], int] = {}
    for notes in pieces:
        for note in notes:
            found = _COUNTED.fullmatch(note)
            key = (found[1], found[3]) if found else (note, "")
            counts[key] = counts.get(key, 0) + (int(found[2].replace(",", "")) if found else 0)
    merged = [f"{before}{count}{behind}" if behind else before for (before, behind), count in counts.items()]
    more = len(merged) - MOST_LISTED
    return (*merged[:MOST_LISTED], f"and {more:,} further notes") if more > 0 else tuple(merged)
