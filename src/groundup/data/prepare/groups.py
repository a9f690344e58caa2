"""The rows of a table as series: one for each key, in order of time, worked on many at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError, GroundupError

Values = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
AlongTime = Callable[[Values, Values | None], Values]
"""(values [N, T, F], times [N, T] in seconds, if there are any) -> values of the same shape."""

CELLS_AT_ONCE = 1 << 17
"""Values that go through the steps together, so that what is in between stays in the processor's cache."""


@dataclasses.dataclass(frozen=True)
class Groups:
    """Where the rows of each series stand: ``order`` sorts the table by key and time, each series a stretch of it."""

    order: Positions
    """Positions in the table [R]."""
    starts: Positions
    """Where each series begins within ``order`` [G]."""
    lengths: Positions
    """How many rows each has [G]."""
    times: Values | None
    """Seconds [R] in this order; None where there is no time column."""
    keys: pl.DataFrame
    """The key of each series, for messages."""

    def of_equal_length(self, at_once: int) -> Iterator[Positions]:
        """Places within ``order`` [N, T] of series that have the same length T, longest last; about so many in all.

        There are at most sqrt(2 R) different lengths in R rows.
        """
        for length in np.unique(self.lengths):
            starts = self.starts[self.lengths == length]
            num = max(1, at_once // int(length))
            for i in range(0, len(starts), num):
                yield starts[i : i + num, None] + np.arange(length)

    def over(self, columns: Values, *steps: tuple[str, AlongTime]) -> Values:
        """Every series of ``columns`` [R, F], the table's rows, through each of the steps, which are named."""
        found = np.empty_like(columns)
        for places in self.of_equal_length(max(1, CELLS_AT_ONCE // max(1, columns.shape[1]))):
            rows = self.order[places]
            values = columns[rows]
            times = None if self.times is None else self.times[places]
            for by, function in steps:
                try:
                    after = function(values, times)
                except GroundupError as error:
                    first = int(np.flatnonzero(self.starts == places[0, 0])[0])
                    raise DataError(f"{by}: {self._said(first)} of {places.shape[1]} rows: {error}") from error
                if after.shape != values.shape:
                    raise DataError(f"{by}: a step gave shape {after.shape} for {values.shape}.")
                values = after
            found[rows] = values
        return found

    def _said(self, group: int) -> str:
        row = self.keys.row(group, named=True) if self.keys.width else {}
        return "the series " + ", ".join(f"{n}={v}" for n, v in row.items()) if row else "the series"


def groups_of(dataset: Dataset, keys: Sequence[str], time: str | None, by: str) -> Groups:
    """The series of a table: one for each value of ``keys`` (all rows are one without), in order of time.

    ``time`` names the column; without it the only one of kind time, or the order in which the rows were read where
    there is none. Rows of equal time keep that order. Raises DataError for several time columns, and for a row
    without a time.
    """
    dataset.need(*keys, by=by)
    clock = time_column(dataset, time, by)
    columns = list(keys) + ([clock] if clock else [])
    frame = dataset.frame.select(*columns, ROW)
    if clock and frame[clock].null_count():
        names, gone = dataset.row_names(), frame[clock].is_null().arg_true()
        raise DataError(f"{by}: column {clock!r} has no time at {names[gone[0]]} ({len(gone)} such rows).")
    by_columns = (
        list(keys) if all(frame[name].is_sorted() for name in (*columns[len(keys) :], ROW)) else [*columns, ROW]
    )
    order = _order(frame, by_columns)
    chosen = frame.select(*keys, ROW)[order]
    begins = np.ones(len(order), dtype=bool)
    if len(order):
        begins[1:] = False
        for name in keys:
            column = chosen[name]
            begins[1:] |= column[1:].ne_missing(column[:-1]).to_numpy()
    starts = np.flatnonzero(begins).astype(np.int64)
    lengths = np.diff(np.append(starts, len(order))).astype(np.int64)
    times = _seconds(dataset.frame[clock], by)[order] if clock else None
    return Groups(order, starts, lengths, times, chosen.drop(ROW)[starts] if keys else pl.DataFrame())


def _order(frame: pl.DataFrame, columns: Sequence[str]) -> Positions:
    """Positions that sort the rows by these columns; equal rows stay in their order."""
    if not columns:
        return np.arange(frame.height)
    return frame.select(pl.arg_sort_by(columns, maintain_order=True)).to_series().to_numpy().astype(np.int64)


def time_column(dataset: Dataset, time: str | None, by: str) -> str | None:
    """The column that orders the rows: the one that is named, or the only one of kind time; None without one."""
    if time is not None:
        dataset.need(time, by=by)
        return time
    found = dataset.of_kind("time")
    if len(found) > 1:
        raise DataError(
            f"{by}: there are {len(found)} time columns, {', '.join(found)}; name the one that orders rows."
        )
    return found[0] if found else None


def _seconds(column: pl.Series, by: str) -> Values:
    """A column of times, or of numbers that stand for time, as float64."""
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).to_numpy()
    if column.dtype in (pl.Date, pl.Datetime):
        seconds: Values = column.cast(pl.Datetime("us")).dt.epoch("us").to_numpy() / 1e6
        return seconds
    raise DataError(f"{by}: column {column.name!r} holds {column.dtype}, which has no order in time.")


def refuse_equal_times(groups: Groups, dataset: Dataset, by: str) -> None:
    """Raises DataError where two rows of one series have the same time, which a curve over time cannot pass through."""
    if groups.times is None or not len(groups.order):
        return
    same = np.diff(groups.times) == 0
    same[groups.starts[1:] - 1] = False
    if same.any():
        first = int(np.argmax(same))
        names = dataset.row_names()
        one, other = (names[int(groups.order[i])] for i in (first, first + 1))
        raise DataError(
            f"{by}: {one} and {other} have the same time ({int(same.sum())} such pairs). Name the columns that tell "
            "the series apart (by), or remove duplicates first."
        )
