"""The type of a column of strings, from pieces of it: the narrowest that holds all its values, never a guess."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.dataset import Kind
from groundup.core.statistics import merge_counts

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""What stands for a missing value unless a source says otherwise; the empty cell always does."""

Missing = Sequence[str | int | float]

Numbers = Literal["1234.5", "1234,5", "1,234.5", "1.234,5", "1 234,5", "1'234.5"]
"""How the number 1234.5 is written."""

Type = Literal["missing", "whole", "number", "boolean", "string", "prose"]

DISTINCT = 1 << 17
"""Distinct values up to which they are counted exactly; beyond, they are estimated."""

PROSE = 40
"""Mean characters above which cells are text, whose white space may mean something."""


@dataclasses.dataclass(frozen=True)
class Distinct:
    """How many different values there are: exact up to DISTINCT, then from the smallest hashes, within about 1%.

    Bar-Yossef et al.: Counting distinct elements in a data stream, 2002, algorithm 1.
    """

    hashes: npt.NDArray[np.uint64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.uint64))

    @classmethod
    def of(cls, values: pl.Series) -> Self:
        """Of values that are all there."""
        return cls(np.unique(values.hash().to_numpy())[:DISTINCT])

    def merge(self, other: Self) -> Self:
        """Of both together."""
        return dataclasses.replace(self, hashes=np.union1d(self.hashes, other.hashes)[:DISTINCT])

    @property
    def count(self) -> float:
        """Different values."""
        if len(self.hashes) < DISTINCT:
            return float(len(self.hashes))
        return (DISTINCT - 1) * 2.0**64 / float(self.hashes[-1])


@dataclasses.dataclass(frozen=True)
class Wording:
    """What tells a column of texts from one of categories: how long its values are, and how many different ones."""

    present: int = 0
    characters: int = 0
    distinct: Distinct = Distinct()

    @classmethod
    def of(cls, column: pl.Series) -> Self:
        """Of strings, some of them missing."""
        values = column.drop_nulls()
        return cls(len(values), int(values.str.len_chars().sum() or 0), Distinct.of(values))

    def merge(self, other: Self) -> Self:
        """Of both together."""
        distinct = self.distinct.merge(other.distinct)
        return dataclasses.replace(
            self, present=self.present + other.present, characters=self.characters + other.characters, distinct=distinct
        )

    def kind(self, rows: int) -> Kind:
        """What the column most likely means among so many rows, as ``infer_kind`` tells it from the whole column."""
        different = self.distinct.count + (self.present < rows)
        return "text" if self.characters > PROSE * self.present or different > max(50, 0.5 * rows) else "category"


@dataclasses.dataclass(frozen=True)
class Reading:
    """How cells are read: what stands for a missing value, and how numbers are written."""

    missing: tuple[str, ...]
    missing_numbers: tuple[float, ...] = ()
    decimal_comma: Literal["yes", "no", "likely", "sure"] = "no"
    """"likely" where nothing else speaks against it, "sure" only where the digits cannot be thousands."""
    thousands: str = ""

    @classmethod
    def of(cls, missing: Missing, numbers: Numbers | None, separator: str) -> Self:
        """As a person gives it; a decimal comma is looked for where the comma does not separate cells."""
        words = (*(m for m in missing if isinstance(m, str)), "")
        values = tuple(float(m) for m in missing if not isinstance(m, str))
        if numbers is not None:
            return cls(words, values, "yes" if ",5" in numbers else "no", numbers[1] if numbers[1] in ",.' " else "")
        return cls(words, values, "no" if separator == "," else "likely" if separator == ";" else "sure")

    def bare(self, cells: pl.Series) -> tuple[pl.Series, pl.Series]:
        """Cells without blanks around them, missing ones null; and as numbers, null where they are none."""
        bare = cells.str.strip_chars()
        bare = pl.select(pl.when(~bare.is_in(list(self.missing))).then(bare)).to_series().alias(cells.name)
        numbers = self.plain(bare).cast(pl.Float64, strict=False)
        if self.missing_numbers:
            there = ~numbers.is_in(list(self.missing_numbers)).fill_null(False)
            bare, numbers = bare.set(~there, None), numbers.set(~there, None)
        return bare, numbers

    def plain(self, bare: pl.Series) -> pl.Series:
        """Numbers as Python writes them, where thousands are set apart or the decimal comma was declared."""
        if self.thousands:
            mark, point = re.escape(self.thousands), "," if self.decimal_comma == "yes" else r"\."
            grouped = bare.str.contains(rf"^[+-]?\d{{1,3}}({mark}\d{{3}})+({point}\d+)?$").fill_null(False)
            bare = bare.str.replace_all(self.thousands, "", literal=True).zip_with(grouped, bare)
        return self.point(bare) if self.decimal_comma == "yes" else bare

    def point(self, bare: pl.Series) -> pl.Series:
        """Numbers with a decimal comma with a point instead; all else as it is."""
        comma = bare.str.contains(_COMMA).fill_null(False)
        return bare.str.replace(",", ".", literal=True).zip_with(comma, bare)


_COMMA = r"^[+-]?[0-9]*,?[0-9]+([eE][+-]?[0-9]+)?$"
_COMMA_SURELY = r"^[+-]?(0*,[0-9]+|[0-9]*,([0-9]{1,2}|[0-9]{4,}))([eE][+-]?[0-9]+)?$"


@dataclasses.dataclass(frozen=True)
class Forms:
    """How many values are written in which way."""

    numbers: int = 0
    undefined: int = 0
    """Numbers that are NaN."""
    whole: int = 0
    zeros: int = 0
    """Whole numbers with leading zeros."""
    long: int = 0
    """Whole numbers that 64 bits do not hold."""
    commas: int = 0
    commas_surely: int = 0
    booleans: int = 0

    def __add__(self, other: Forms) -> Forms:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Forms(*(one + more for one, more in pairs))


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the cells of a column are, counted."""

    rows: int = 0
    present: int = 0
    markers: Mapping[str, int] = dataclasses.field(default_factory=dict)
    forms: Forms = Forms()
    characters: int = 0
    odd: tuple[str, int] | None = None
    """The first value that is no number, and its line."""
    distinct: Distinct | None = Distinct()

    @classmethod
    def of(cls, cells: pl.Series, lines: npt.NDArray[Any], reading: Reading, *, distinct: bool) -> Self:
        """Of some cells, none null, and their lines."""
        bare, numbers = reading.bare(cells)
        gone = bare.is_null()
        present = bare.drop_nulls()
        count, num_numbers = len(present), len(numbers) - numbers.null_count()
        markers: dict[str, int] = {}
        if count < len(cells):
            stripped = cells.filter(gone).str.strip_chars()
            markers = dict(stripped.filter(stripped != "").value_counts(sort=True).iter_rows())
        facts = cls(len(cells), count, markers, characters=int(present.str.len_chars().sum() or 0))
        if num_numbers == count:
            forms = _numeric(present, numbers, reading)
            return dataclasses.replace(facts, forms=forms, distinct=_of(present, distinct))
        first = int((numbers.is_null() & ~gone).arg_max() or 0)
        commas = _matches(present, _COMMA) if reading.decimal_comma in ("likely", "sure") else 0
        forms = Forms(
            numbers=num_numbers,
            commas=commas,
            commas_surely=_matches(present, _COMMA_SURELY) if commas == count else 0,
            booleans=int(present.str.to_lowercase().is_in(["true", "false"]).sum()),
        )
        different = _of(present, distinct or commas != count)
        return dataclasses.replace(facts, forms=forms, odd=(bare[first], int(lines[first])), distinct=different)

    def merge(self, other: Self) -> Self:
        """Of both together, in their order."""
        both = None
        if self.distinct is not None and other.distinct is not None:
            both = self.distinct.merge(other.distinct)
        return dataclasses.replace(
            self,
            rows=self.rows + other.rows,
            present=self.present + other.present,
            markers=merge_counts(dict(self.markers), dict(other.markers)),
            forms=self.forms + other.forms,
            characters=self.characters + other.characters,
            odd=self.odd or other.odd,
            distinct=both,
        )

    def settle(self, name: str, reading: Reading) -> tuple[Type, Reading, list[str]]:
        """The type that holds all values, how they are read for it, and what a person should know."""
        order = sorted(self.markers.items(), key=lambda pair: (-pair[1], pair[0]))
        notes = [f"column {name!r}: {marker!r} read as missing, {count} times" for marker, count in order]
        if not self.present:
            return "missing", reading, [*notes, f"column {name!r}: every value is missing"]
        if self.forms.numbers == self.forms.whole == self.present:
            if self.forms.zeros:
                notes.append(f"column {name!r}: numbers with leading zeros; kept as strings, as codes are")
                return "string", reading, notes
            if not self.forms.long:
                return "whole", reading, notes
            notes.append(f"column {name!r}: whole numbers too large for 64 bits; kept as strings")
            return "string", reading, notes
        if self.forms.numbers == self.present:
            if self.forms.undefined:
                notes.append(f"column {name!r}: not-a-number read as missing, {self.forms.undefined} times")
            return "number", reading, notes
        # A piece of nothing but plain whole numbers has counted no commas; it may stand beside one that has.
        believed = reading.decimal_comma == "likely" or self.forms.commas_surely
        if believed and self.forms.commas + self.forms.whole >= self.present:
            notes.append(f"column {name!r}: the comma read as decimal point")
            return "number", dataclasses.replace(reading, decimal_comma="yes"), notes
        if self.forms.booleans == self.present:
            return "boolean", reading, notes
        notes += self._nearly_numbers(name)
        return ("prose" if self.characters > PROSE * self.present else "string"), reading, notes

    def _nearly_numbers(self, name: str) -> list[str]:
        assert self.odd is not None
        if self.forms.numbers < 0.5 * self.present:
            return []
        return [
            f"column {name!r} stays text: {self.present - self.forms.numbers} values are no number, the first "
            f"{self.odd[0]!r} at line {self.odd[1]}; if they stand for missing values, list them under missing"
        ]

    def kind(self, settled: Type) -> Kind:
        """What the column most likely means, as ``infer_kind`` tells it from the whole column."""
        if settled in ("missing", "whole", "number"):
            return "number"
        if settled == "boolean":
            return "boolean"
        if self.characters > PROSE * self.present:
            return "text"
        assert self.distinct is not None
        return Wording(self.present, self.characters, self.distinct).kind(self.rows)


def _of(present: pl.Series, wanted: bool) -> Distinct | None:
    return Distinct.of(present) if wanted or present.is_empty() else None


def _matches(present: pl.Series, pattern: str) -> int:
    return int(present.str.contains(pattern).sum())


def _numeric(present: pl.Series, numbers: pl.Series, reading: Reading) -> Forms:
    """Of values that are all numbers."""
    plain = reading.plain(present)
    digits = plain.filter(plain.str.contains(r"^[+-]?[0-9]+$"))
    return Forms(
        numbers=len(present),
        undefined=int(numbers.is_nan().sum() or 0),
        whole=len(digits),
        zeros=_matches(digits, r"^[+-]?0[0-9]"),
        long=digits.cast(pl.Int64, strict=False).null_count(),
    )


def typed(cells: pl.Series, settled: Type, reading: Reading) -> pl.Series:
    """Cells in the type that was settled on; missing ones null."""
    if settled in ("string", "prose"):
        bare, _ = reading.bare(cells)
        return bare if settled == "string" else pl.select(pl.when(bare.is_not_null()).then(cells)).to_series()
    bare, numbers = reading.bare(cells)
    if settled == "whole":
        return reading.plain(bare).cast(pl.Int64)
    if settled == "boolean":
        return bare.str.to_lowercase() == "true"
    return numbers.fill_nan(None) if settled == "number" else bare.cast(pl.Float64)
