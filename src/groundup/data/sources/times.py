"""Columns of text, or of year, month and day, as date and time; year first, since 03/04 is read two ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import polars as pl

from groundup.core.errors import DataError

TIME_PARTS = ("year", "month", "day", "hour", "minute", "second")

FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y%m%d", "%Y-%m",
)  # fmt: skip

ADVICE = "Write the year first, as in 2024-03-31 or 2024-03-31 17:00:00"


@dataclasses.dataclass(frozen=True)
class Times:
    """The columns that hold the time, and how each format does on the rows so far."""

    names: tuple[str, ...]
    combined: bool
    """Whether parts of a time are put together in a new column."""
    failures: tuple[int, ...] = (0,) * len(FORMATS)

    @classmethod
    def of(cls, time: str | Sequence[str]) -> Times:
        """As a recipe gives it. Raises DataError for more parts than there are."""
        if isinstance(time, str):
            return cls((time,), False)
        if not 0 < len(time) <= len(TIME_PARTS):
            raise DataError(f"time: read {list(time)}, expected one to six columns: {', '.join(TIME_PARTS)}.")
        return cls(tuple(time), True)

    @property
    def name(self) -> str:
        """The column that holds the time in the end."""
        return "time" if self.combined else self.names[0]

    @property
    def best(self) -> int:
        """The format that fails least, the first of several."""
        return min(range(len(FORMATS)), key=lambda i: (self.failures[i], i))

    @property
    def num_wrong(self) -> int:
        """Rows whose time cannot be read."""
        return self.failures[self.best]

    def seen(self, bare: Sequence[pl.Series]) -> Times:
        """The same with the failures on these cells added; once a format reads all of a piece, others are not tried."""
        rows = len(bare[0])
        leading = self.read(bare, self.best).null_count()
        if self.combined or not leading:
            added = [rows] * len(FORMATS)
            added[self.best] = leading
        else:
            added = [self.read(bare, i).null_count() for i in range(len(FORMATS))]
        return dataclasses.replace(self, failures=tuple(a + b for a, b in zip(self.failures, added, strict=True)))

    def read(self, bare: Sequence[pl.Series], form: int | None = None) -> pl.Series:
        """Date and time in microseconds; null where there is none."""
        if self.combined:
            return _combined(bare).alias(self.name)
        texts = bare[0].str.replace(r"(Z|\+00:?00)$", "")
        chosen = FORMATS[self.best if form is None else form]
        if chosen == "%Y-%m":
            parsed = (texts + "-01").str.to_datetime("%Y-%m-%d", strict=False, time_unit="us")
        else:
            parsed = texts.str.to_datetime(chosen, strict=False, time_unit="us")
        return parsed.alias(self.name)

    def said(self) -> str:
        """For the ledger."""
        if self.combined:
            return f"column 'time': put together from {', '.join(self.names)}"
        return f"column {self.name!r}: read as times of the form {FORMATS[self.best]}"

    def fault(self, cells: Sequence[str | None]) -> str:
        """Why a row with these cells has no time."""
        name, shown = "+".join(self.names), "-".join(str(cell) for cell in cells)
        return f"no time: column {name!r} holds {shown!r:.60}, which is no time"


def _combined(parts: Sequence[pl.Series]) -> pl.Series:
    numbers = [part.cast(pl.Int64, strict=False) for part in parts]
    starts = (0, 1, 1, 0, 0, 0)
    digits = [number.cast(pl.String).str.zfill(4 if i == 0 else 2) for i, number in enumerate(numbers)]
    digits += [pl.Series([f"{starts[i]:02}"] * len(parts[0])) for i in range(len(parts), 6)]
    text = digits[0] + "-" + digits[1] + "-" + digits[2] + " " + digits[3] + ":" + digits[4] + ":" + digits[5]
    return text.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
