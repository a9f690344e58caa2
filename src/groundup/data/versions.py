"""Two versions of data side by side: rows that came, went or changed, cells by column, how distributions moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError
from groundup.data.inspection.columns import describe_column
from groundup.data.inspection.drift import Drift, drifts
from groundup.data.inspection.relations import find_duplicates
from groundup.data.inspection.roles import is_id
from groundup.data.opening import open_data

EXAMPLES = 5
PARTS = ("train", "valid", "test")

POSITION = "\0position"
"""Rows are told apart by where they stand."""


@dataclasses.dataclass(frozen=True)
class CellsChanged:
    """What became of one column on the rows that both versions have."""

    column: str
    count: int
    examples: tuple[tuple[str, str, str], ...]
    """(row, before, after)."""


@dataclasses.dataclass(frozen=True)
class RowsChanged:
    """What became of the rows."""

    before: int
    after: int
    matched_by: str
    """By what rows were told apart, for people."""
    added: int
    removed: int
    changed: int
    """Rows that both have, with another value in some column; 0 where rows are told apart by all they hold."""
    moved: bool
    """Whether rows that both have stand in another order."""
    added_examples: tuple[str, ...] = ()
    removed_examples: tuple[str, ...] = ()
    duplicates: tuple[int, int] = (0, 0)
    """Copies of rows, ids set aside, before and after."""


@dataclasses.dataclass(frozen=True)
class ColumnsChanged:
    """What became of the columns."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()
    """(column, type and kind before, after)."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """What differs from the first version to the second."""

    first: str
    second: str
    rows: RowsChanged
    columns: ColumnsChanged
    cells: tuple[CellsChanged, ...] = ()
    drift: tuple[Drift, ...] = ()
    """Columns whose distribution moved at all, the furthest first."""

    @property
    def differs(self) -> bool:
        """Whether anything does, the order of rows included."""
        rows = self.rows.added or self.rows.removed or self.rows.changed or self.rows.moved
        columns = self.columns.added or self.columns.removed or self.columns.retyped
        return bool(rows or columns or self.cells)

    def to_dict(self) -> dict[str, Any]:
        """Plain tables and scalars, for JSON."""
        drift = [{**dataclasses.asdict(one), "moved": one.moved} for one in self.drift]
        return {"differs": self.differs, **dataclasses.asdict(self), "drift": drift}


def read_version(path: str | Path) -> Dataset:
    """A file, or a folder of cleaned data in Parquet. Raises DataError for what is neither.

    Rows of a folder whose files lie under ``train``, ``valid`` and ``test`` get a column ``split`` that says so.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        shards = sorted(file for file in place.rglob("*.parquet") if "changes" not in file.relative_to(place).parts)
        if shards:
            return _read_shards(place, shards)
    return open_data(place).dataset


def _read_shards(place: Path, shards: Sequence[Path]) -> Dataset:
    frames = []
    for file in shards:
        try:
            frame = pl.read_parquet(file, hive_partitioning=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{file}: cannot be read as Parquet: {error}.") from error
        named = [part for part in PARTS if file.relative_to(place).as_posix().startswith(part)]
        if named and "split" not in frame.columns:
            frame = frame.with_columns(split=pl.lit(named[0]))
        frames.append(frame)
    try:
        frame = pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{place}: its Parquet files do not go together: {error}.") from error
    return Dataset.of(frame, origin=str(place))


def compare(first: Dataset, second: Dataset, key: Sequence[str] = ()) -> Difference:
    """What became of the first version in the second.

    Rows are told apart by ``key``; without one by a column that names the rows of both, by ``_row`` where rows of
    either carry numbers from an earlier reading, by where they stand if most are the same there, else by all that they
    hold. Raises DataError for a key that is missing, or that does not name each row of either once.
    """
    names, said = _matching(first, second, list(key))
    common = [n for n in first.columns if n in second.frame.columns]
    plain = {name: f"column {i}" for i, name in enumerate([*common, *(n for n in names if n not in common)])}
    one, other = _comparable(first, second, plain)
    keys = [plain[name] for name in names]
    cells: list[CellsChanged] = []
    changed = 0
    if not keys:
        removed, added = _without(one, other), _without(other, one)
        moved = not len(removed) and not len(added) and not one.equals(other, null_equal=True)
    else:
        removed, added = one.join(other, on=keys, how="anti"), other.join(one, on=keys, how="anti")
        left = one.join(other.select(keys), on=keys, how="semi", maintain_order="left")
        both = left.select(keys).join(other, on=keys, how="left", maintain_order="left")
        cells, changed = _cells(left, both, keys, {n: plain[n] for n in common if n not in names})
        right = other.join(one, on=keys, how="semi", maintain_order="left")
        moved = not left.select(keys).equals(right.select(keys))
    shown = [key for key, name in zip(keys, names, strict=True) if name != POSITION]
    rows = RowsChanged(
        before=len(first),
        after=len(second),
        matched_by=said,
        added=added.height,
        removed=removed.height,
        changed=changed,
        moved=moved,
        added_examples=_named(added, shown),
        removed_examples=_named(removed, shown),
        duplicates=(_duplicates(first), _duplicates(second)),
    )
    drift = tuple(one for one in drifts(first, second, common) if one.stability > 1e-9 or one.new)
    return Difference(first.origin, second.origin, rows, _columns(first, second, common), tuple(cells), drift)


def _columns(first: Dataset, second: Dataset, common: Sequence[str]) -> ColumnsChanged:
    retyped = tuple(
        (n, f"{first.frame[n].dtype}, {first.kinds[n]}", f"{second.frame[n].dtype}, {second.kinds[n]}")
        for n in common
        if first.frame[n].dtype != second.frame[n].dtype or first.kinds[n] != second.kinds[n]
    )
    came = tuple(n for n in second.columns if n not in common)
    return ColumnsChanged(came, tuple(n for n in first.columns if n not in common), retyped)


def _matching(first: Dataset, second: Dataset, key: list[str]) -> tuple[list[str], str]:
    """The columns that tell rows apart, none where all do; and what is said of it."""
    if key:
        for dataset in (first, second):
            dataset.need(*key, by="diff")
            if pl.DataFrame({n: dataset.frame.get_column(n) for n in key}).n_unique() < len(dataset):
                raise DataError(
                    f"diff: {', '.join(key)} does not name each row of {dataset.origin or 'the data'} once; "
                    "name more columns, or leave the key out."
                )
        return key, f"by {', '.join(key)}"
    for name in first.columns:
        if name in second.frame.columns and _names_rows(first, name) and _names_rows(second, name):
            return [name], f"by {name}, which names each row"
    if _numbered(first, second):
        return [ROW], "by the number that each row was read with"
    common = [n for n in first.columns if n in second.frame.columns]
    if len(first) == len(second) and common:
        one, other = _comparable(first, second, {name: f"column {i}" for i, name in enumerate(common)})
        same = pl.select(pl.all_horizontal(*(one[n].eq_missing(other[n]) for n in one.columns))).to_series()
        share = float(same.mean() or 0.0) if len(same) else 1.0  # type: ignore[arg-type]
        if share >= 0.5:
            return [POSITION], f"by where they stand ({share:.0%} of the rows are the same there)"
    return [], "by all that they hold: no column names the rows; give a key to see which changed"


def _names_rows(dataset: Dataset, name: str) -> bool:
    column = dataset.frame[name]
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object) or column.null_count():
        return False
    return column.n_unique() == len(column) and is_id(describe_column(dataset, name))


def _numbered(first: Dataset, second: Dataset) -> bool:
    """Whether rows carry numbers from an earlier reading, which are not just their places now in one of the two."""
    numbers = [dataset.frame[ROW].cast(pl.Int64) for dataset in (first, second)]
    if any(one.n_unique() < len(one) for one in numbers):
        return False
    return any(not one.equals(pl.Series(ROW, range(len(one)), dtype=pl.Int64)) for one in numbers)


def _comparable(first: Dataset, second: Dataset, plain: Mapping[str, str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both under plain names and in types that can be compared: polars takes "*" and "^...$" for patterns."""
    one: list[pl.Series] = []
    other: list[pl.Series] = []
    for name, new in plain.items():
        pair = _alike(_column(first, name), _column(second, name))
        one.append(pair[0].alias(new))
        other.append(pair[1].alias(new))
    return pl.DataFrame(one), pl.DataFrame(other)


def _column(dataset: Dataset, name: str) -> pl.Series:
    if name == POSITION:
        return pl.Series(name, range(len(dataset)), dtype=pl.Int64)
    column = dataset.frame.get_column(name)
    return column.cast(pl.Int64) if name == ROW else column


def _alike(one: pl.Series, other: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Two columns in a type in which they can be compared: numbers as numbers, pictures by their content."""
    if one.dtype == other.dtype and not one.dtype.is_nested() and one.dtype != pl.Object:
        return one, other
    if one.dtype.is_numeric() and other.dtype.is_numeric():
        return one.cast(pl.Float64), other.cast(pl.Float64)
    return _spelt(one), _spelt(other)


def _spelt(column: pl.Series) -> pl.Series:
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary):
        return pl.Series(column.name, [None if v is None else repr(v) for v in column.to_list()], dtype=pl.String)
    return column.cast(pl.String)


def _without(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Rows that ``one`` has more often than ``other``, so many times more."""
    if not one.width:
        return one

    def counted(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.int_range(pl.len()).over(frame.columns).alias("copy"))

    return counted(one).join(counted(other), on=[*one.columns, "copy"], how="anti", nulls_equal=True).drop("copy")


def _cells(
    left: pl.DataFrame, right: pl.DataFrame, keys: Sequence[str], compared: Mapping[str, str]
) -> tuple[list[CellsChanged], int]:
    """What changed column by column, and on how many rows."""
    found: list[CellsChanged] = []
    any_changed = pl.Series([False]).new_from_index(0, left.height)
    for name, plain in compared.items():
        differ = left[plain].ne_missing(right[plain])
        count = int(differ.sum())
        if count:
            any_changed = any_changed | differ
            places = differ.arg_true().head(EXAMPLES).to_list()
            examples = [(_row_name(left, keys, i), _shown(left[plain][i]), _shown(right[plain][i])) for i in places]
            found.append(CellsChanged(name, count, tuple(examples)))
    return sorted(found, key=lambda one: -one.count), int(any_changed.sum())


def _row_name(frame: pl.DataFrame, keys: Sequence[str], place: int) -> str:
    values = [frame[key][place] for key in keys]
    return f"row {values[0]}" if len(values) == 1 and isinstance(values[0], int) else ", ".join(map(_shown, values))


def _named(frame: pl.DataFrame, keys: Sequence[str]) -> tuple[str, ...]:
    rows = frame.select(list(keys or frame.columns)[:6]).head(EXAMPLES).iter_rows()
    return tuple(", ".join(map(_shown, row)) for row in rows)


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def _duplicates(dataset: Dataset) -> int:
    return find_duplicates(dataset).rows if dataset.columns else 0
