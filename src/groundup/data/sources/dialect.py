"""How a text table is written: separator, marks, comments, header; decided from its beginning, and said why."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Sequence

from groundup.core.errors import DataError
from groundup.core.quarantine import Rejected
from groundup.data.sources.files import TextFile
from groundup.data.sources.records import SPACES, Layout, Records, split

HEAD_BYTES = (1 << 16, 1 << 20, 1 << 24)
"""What is looked at to decide how a file is written; more only where the first rows are longer than that."""

MOST_ROWS = 2000

_SEPARATORS = (",", ";", "\t", "|")
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", SPACES: "runs of blanks"}
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?([ T]\d{1,2}:.*)?|\d{1,2}:\d{2}.*")
_NO_NAMES = ("?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How the file is read, where its rows begin, and what stands before them."""

    layout: Layout
    names: list[str]
    skip: int
    """Bytes before the first row."""
    line: int
    """The line of the first row."""
    rejected: tuple[Rejected, ...]
    """What stands before the table and is no row of it."""
    comments: int
    """Lines of comment before the first row."""
    blank: int
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Tried:
    """How the beginning looks when it is read one way."""

    layout: Layout
    records: Records
    width: int
    alike: float
    """Share of the lines that stand in rows of this width."""


def detect(
    file: TextFile, separator: str | None, quote: str | None, comment: str | None, header: bool | Sequence[str] | None
) -> Dialect:
    """Decide what was not given. Raises DataError for a file without rows."""
    for size in HEAD_BYTES:
        head, whole = file.head(size)
        if not whole:
            head = head[: head.rfind(b"\n") + 1] or head
        lines = head.split(b"\n", MOST_ROWS)
        if len(lines) > MOST_ROWS:
            head, whole = head[: len(head) - len(lines[-1])], False
        found = _detect(file, head, whole, (separator, quote, comment), header)
        if whole or len(found.tried.records.rows) > 1:
            break
    return _with_header(file, head, found, header)


@dataclasses.dataclass(frozen=True)
class _Found:
    """How the beginning of a file is best read, and where in it the table begins."""

    tried: _Tried
    lead: int
    """Bytes of comments before the table."""
    comments: int
    notes: tuple[str, ...]


def _detect(
    file: TextFile,
    head: bytes,
    whole: bool,
    given: tuple[str | None, str | None, str | None],
    header: bool | Sequence[str] | None,
) -> _Found:
    separator, quote, comment = given
    notes: list[str] = []
    lead, comments, marked = _leading_comments(head, comment)
    tried = _best(head[lead:], whole, file, (separator, quote, comment or ""), comments)
    if marked:
        names = split(head[:lead], True, dataclasses.replace(tried.layout, comment=""), file.encoding).rows
        if names and len(names[-1]) == tried.width > 1 and header is None:
            lead, comments = _start_of_last_line(head[:lead]), comments - 1  # a header that is written as a comment
            tried = _best(head[lead:], whole, file, (separator, quote, comment or ""), comments)
    width = len(header) if isinstance(header, (list, tuple)) else tried.width
    said = _NAMES.get(tried.layout.separator, repr(tried.layout.separator))
    notes.append(f"separator {said}" if width > 1 or separator else "one column")
    if quote is None and tried.layout.quote == "'":
        notes.append("quotation mark '")
    if tried.layout.escape:
        notes.append("a backslash takes the next character as it is")
    return _Found(tried, lead, comments, tuple(notes))


def _leading_comments(head: bytes, comment: str | None) -> tuple[int, int, bool]:
    """Bytes and lines at the beginning that are comments; whether that was found rather than given."""
    mark = (comment or "#").encode()
    at = lines = 0
    for found in re.finditer(rb"[^\r\n]*(?:\r\n|\r|\n)", head):
        if not found[0].startswith(mark):
            break
        at, lines = found.end(), lines + 1
    return (at, lines, comment is None) if lines and head[at:].strip() else (0, 0, False)


def _start_of_last_line(data: bytes) -> int:
    return max(data.rstrip(b"\r\n").rfind(b"\n"), data.rstrip(b"\r\n").rfind(b"\r")) + 1


def _best(head: bytes, whole: bool, file: TextFile, given: tuple[str | None, str | None, str], before: int) -> _Tried:
    """The way by which the first lines fall into the same number of cells, the more the better."""
    separator, quote, comment = given
    quotes = (quote,) if quote is not None else ('"',)
    escapes = (False, True) if b'\\"' in head else (False,)
    tried = []
    for one in (separator,) if separator else _SEPARATORS:
        for mark in quotes:
            for escape in escapes:
                tried.append(_try(head, whole, file, Layout(one, mark, escape, comment), before))
    best = max(tried, key=_rank)
    if separator is None and (best.width == 1 or best.alike < 0.5):
        best = _one_column_or_blanks(head, whole, file, Layout(",", quotes[0], False, comment), before, best)
    if quote is None and _in_single_marks(best):
        best = _try(head, whole, file, dataclasses.replace(best.layout, quote="'"), before)
    return best


def _try(head: bytes, whole: bool, file: TextFile, layout: Layout, before: int) -> _Tried:
    records = split(head, whole, layout, file.encoding, before + 1)
    widths = collections.Counter(len(row) for row in records.rows)
    width = max(widths, key=lambda one: (widths[one], one)) if widths else 1
    total = sum(1 for line in re.split(rb"\r\n|\r|\n", head) if line) - records.comments
    behind = [*records.lines[1:], records.next_line][: len(records.lines)]
    spans = zip(records.rows, records.lines, behind, strict=True)
    alike = sum(1 if one - line < 1 else one - line for row, line, one in spans if len(row) == width)
    return _Tried(layout, records, width, min(alike / max(total, 1), 1.0))


def _rank(tried: _Tried) -> tuple[bool, float, bool, int, bool]:
    """Fewest odd lines first; then cells that are numbers with a decimal comma; then the most cells."""
    decimal = tried.layout.separator != "," and any(
        all(re.fullmatch(r"[+-]?\d+,\d+", row[i].strip()) for row in tried.records.rows[1:] if len(row) == tried.width)
        for i in range(tried.width)
    )
    sure = len(tried.records.rows) > 1 and decimal and tried.width > 1
    return tried.width > 1, round(tried.alike, 3), sure, tried.width, not tried.layout.escape


def _one_column_or_blanks(
    head: bytes, whole: bool, file: TextFile, layout: Layout, before: int, best: _Tried
) -> _Tried:
    blanks = _try(head, whole, file, dataclasses.replace(layout, separator=SPACES), before)
    rows = [row for row in blanks.records.rows if len(row) == blanks.width]
    numbers = any(all(_NUMBER.fullmatch(row[i]) for row in rows[1:]) for i in range(blanks.width))
    if blanks.width > 1 and blanks.alike >= 0.95 and len(rows) >= 3 and numbers:
        return blanks
    if best.width > 1:
        return best
    unseen = next((one for one in (*_SEPARATORS, "\x1f") if one.encode() not in head), ",")
    return _try(head, whole, file, dataclasses.replace(layout, separator=unseen), before)


def _in_single_marks(tried: _Tried) -> bool:
    """Whether the cells of a column all stand in marks of the other sort."""
    rows = [row for row in tried.records.rows if len(row) == tried.width]
    if len(rows) < 2 or any('"' in cell for row in rows for cell in row):
        return False
    for i in range(tried.width):
        cells = [row[i].strip() for row in rows if row[i].strip() not in ("", "?")]
        marked = [cell for cell in cells if len(cell) > 1 and cell[0] == cell[-1] == "'"]
        if len(marked) >= 2 and len(marked) >= 0.95 * (len(cells) - 1):
            return True
    return False


def _with_header(file: TextFile, head: bytes, found: _Found, header: bool | Sequence[str] | None) -> Dialect:
    tried, lead, comments, notes = found.tried, found.lead, found.comments, list(found.notes)
    records = tried.records
    width = len(header) if isinstance(header, (list, tuple)) else tried.width
    if header is True and records.rows:
        width = len(records.rows[0])
    first = next((i for i, row in enumerate(records.rows) if len(row) == width), len(records.rows))
    short = records.rows[0] if first == 1 else []
    rows = [row for row in records.rows[first:] if len(row) == width][:MOST_ROWS]
    named_rows = len(short) == width - 1 > 0 and header is None and not has_header(rows)[0]
    named_rows = named_rows and not any(_NUMBER.fullmatch(cell.strip()) for cell in short)
    if isinstance(header, (list, tuple)):
        names, has = [str(name) for name in header], False
    elif named_rows:
        first, names, has = 0, ["row name", *short], True
        notes.append("the header has one cell less than the rows: their first cell is called 'row name'")
    else:
        has, why = (bool(header), "as given") if header is not None else has_header(rows)
        names = list(rows[0]) if has and rows else [f"column {i + 1}" for i in range(width)]
        notes.append(f"{'the first row is the header' if has else 'no header line'}: {why}")
    begin = first + 1 if has else first
    skip = records.spans[begin][0] if begin < len(records.rows) else len(head) - lead
    line = records.lines[begin] if begin < len(records.rows) else records.next_line
    stands_before = tuple(
        dataclasses.replace(one, raw=file.raw(one.raw)) for one in records.rejected if (one.line or 0) < line
    )
    odd = tuple(
        Rejected(
            f"wrong number of cells: has {len(row)}, the table has {width} cells a row",
            file.raw(head[lead + at : lead + end]),
            number,
        )
        for row, number, (at, end) in list(zip(records.rows, records.lines, records.spans, strict=True))[:first]
    )
    rejected = tuple(sorted([*stands_before, *odd], key=lambda one: one.line or 0))
    again = (
        tuple(names)
        if has and width > 1 and not named_rows and not any("\n" in name or "\r" in name for name in names)
        else ()
    )
    layout = dataclasses.replace(tried.layout, width=width, header=again)
    before = split(head[lead : lead + skip], True, tried.layout, file.encoding)
    if comments or records.comments:
        notes.append("lines that begin with " + repr(tried.layout.comment or "#") + " are comments")
    comments += before.comments
    return Dialect(layout, names, lead + skip, line, rejected, comments, before.blank, tuple(notes))


def has_header(rows: Sequence[Sequence[str]]) -> tuple[bool, str]:
    """Whether the first row names the columns, and why: it differs from what stands beneath it, or is like it."""
    if not rows:
        return True, "there are no rows"
    first, rest = [cell.strip() for cell in rows[0]], rows[1:]
    years = [int(cell) for cell in first if re.fullmatch(r"[12]\d{3}", cell)]
    counted_up = len(years) >= 2 and all(b - a == 1 for a, b in itertools.pairwise(years))
    speaks_for: list[str] = []
    against: list[str] = []
    weak: list[str] = []
    for i, cell in enumerate(first):
        values = [row[i].strip() for row in rest if row[i].strip() and row[i].strip() not in _NO_NAMES]
        if cell in _NO_NAMES:
            against.append(f"{cell!r} is no name")
        elif cell and not (counted_up and re.fullmatch(r"[12]\d{3}", cell)):
            _vote(cell, values, speaks_for, against, weak)
    if len({cell for cell in first if cell}) < sum(1 for cell in first if cell):
        against.append("it holds a value twice")
    if counted_up and not against:
        return True, "its numbers are years that count up"
    if len(speaks_for) != len(against):
        return len(speaks_for) > len(against), (speaks_for if len(speaks_for) > len(against) else against)[0]
    if against:
        numbers = any(_NUMBER.fullmatch(cell) for cell in first)
        return not numbers, against[0] if numbers else speaks_for[0]
    if any(_NUMBER.fullmatch(cell) for cell in first):
        return False, "it holds numbers"
    return True, weak[0] if weak else "nothing speaks against it; if it is a row, give header = false"


def _vote(cell: str, values: list[str], speaks_for: list[str], against: list[str], weak: list[str]) -> None:
    for kind, pattern in (("numbers", _NUMBER), ("times", _TIME)):
        alike = sum(pattern.fullmatch(value) is not None for value in values)
        if values and alike >= 0.9 * len(values):
            if pattern.fullmatch(cell):
                against.append(f"{cell!r} is like the {kind} beneath it")
            else:
                speaks_for.append(f"{cell!r} stands over {kind}")
            return
    if _NUMBER.fullmatch(cell):
        against.append(f"{cell!r} is a number")
    elif cell in values:
        against.append(f"{cell!r} stands among the values beneath it")
    elif len(values) >= 5 and len(set(values)) <= max(2, 0.2 * len(values)):
        weak.append(f"{cell!r} is not among the few values beneath it")


def clean_names(names: Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """Names without blanks around them, empty ones numbered. Raises DataError for one that is there twice."""
    notes: list[str] = []
    clean = [name.strip() for name in names]
    for i, name in enumerate(clean):
        if not name:
            clean[i] = f"column {i + 1}"
            notes.append(f"the header's cell {i + 1} is empty; the column is called {clean[i]!r}")
    doubled = sorted({name for name in clean if clean.count(name) > 1})
    if doubled or "_row" in clean:
        raise DataError(
            f"{where}: the header has {', '.join(map(repr, doubled[:5] or ['_row']))} "
            f"{'more than once' if doubled else ', by which rows are numbered'}; names must differ. "
            "If the file has no header line, give header = [names]."
        )
    return clean, notes
