"""Rows of a text table, cut out of its bytes piece by piece: exact for any input, fast for the usual one."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from groundup.core.quarantine import Rejected
from groundup.data.sources.files import BLOCK_BYTES, TextFile

SPACES = "spaces"
"""The separator that stands for any run of blanks and tabs."""

MAX_RECORD_BYTES = 8 << 20
"""A quotation mark that is not closed within so many bytes is taken for one that was left open."""

EXACT_BYTES = 2 << 20
"""What is taken at once by the exact way, which holds each cell as an object."""

LEFT_OPEN = "a quotation mark is left open"

UNFINISHED = f"{LEFT_OPEN} to the end"

_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a line falls into cells."""

    separator: str
    quote: str = '"'
    """The mark around cells that hold separators and line breaks, doubled inside them; "" where there is none."""
    escape: bool = False
    """Whether a backslash inside such marks takes the next character as it is."""
    comment: str = ""
    """Lines that begin with this are no rows."""
    width: int | None = None
    """Cells of a row; None takes each row as wide as it is."""
    header: tuple[str, ...] = ()
    """The header's own cells, so that a row which repeats them is seen."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Whole rows in their order, as strings, and what lay between them that is none."""

    cells: pl.DataFrame
    lines: np.ndarray[Any, Any]
    """The line that each row begins on."""
    spans: np.ndarray[Any, Any]
    """Where each row begins and ends in ``data`` [n, 2]."""
    data: bytes
    rejected: tuple[Rejected, ...] = ()
    blank: int = 0
    comments: int = 0
    rejected_before: tuple[int, ...] = ()
    """For each rejected one, how many rows of the chunk stand before it."""
    encoded: str = ""
    """The codec of the file where ``data`` is UTF-8 instead."""

    def raw(self, row: int) -> bytes:
        """A row's own bytes, as they stand in the file."""
        begin, end = self.spans[row]
        data = self.data[begin:end]
        return data.decode().encode(self.encoded) if self.encoded else data

    def told(self, encoded: str) -> Chunk:
        """The same, of a file that was turned from this codec into UTF-8."""
        rejected = tuple(dataclasses.replace(one, raw=one.raw.decode().encode(encoded)) for one in self.rejected)
        return dataclasses.replace(self, rejected=rejected, encoded=encoded)


@dataclasses.dataclass(frozen=True)
class Records:
    """What the exact way finds: rows as lists of cells, each with its line and its place."""

    rows: list[list[str]]
    lines: list[int]
    spans: list[tuple[int, int]]
    rejected: list[Rejected]
    rejected_before: list[int]
    blank: int
    comments: int
    used: int
    """Bytes that were taken; the rest is an unfinished row."""
    next_line: int


def chunks(file: TextFile, layout: Layout, skip: int, line: int, size: int = BLOCK_BYTES) -> Iterator[Chunk]:
    """The rows behind the first ``skip`` bytes, which end before line ``line``; what a chunk is depends on size alone.

    However the file is cut, the rows, their lines and what is rejected are the same.
    """
    rest = b""
    blocks = _skipped(file.blocks(size), skip)
    block = next(blocks, None)
    while block is not None:
        following = next(blocks, None)
        data, last, block = rest + block, following is None, following
        window = EXACT_BYTES
        while data:
            found = _fast(data, last, layout, file.encoding, line)
            if found is None:
                found = _exact(data[:window], last and len(data) <= window, layout, file.encoding, line)
            chunk, used, line = found
            if not used and len(data) <= window:
                break  # one row that goes on in the next block
            window = EXACT_BYTES if used else 2 * window
            data = data[used:]
            if chunk.cells.height or chunk.rejected or chunk.blank or chunk.comments:
                yield chunk.told(file.original) if file.original else chunk
            if used and not last and len(data) < MAX_RECORD_BYTES:
                break
        rest = data


def _skipped(blocks: Iterator[bytes], skip: int) -> Iterator[bytes]:
    for block in blocks:
        if skip < len(block):
            yield block[skip:]
        skip = max(skip - len(block), 0)


# ---------------------------------------------------------------------------------------------- the exact way


def _exact(data: bytes, last: bool, layout: Layout, encoding: str, line: int) -> tuple[Chunk, int, int]:
    found = split(data, last, layout, encoding, line)
    assert layout.width is not None
    columns = zip(*found.rows, strict=True) if found.rows else ([] for _ in range(layout.width))
    cells = pl.DataFrame([pl.Series(str(i), column, dtype=pl.String) for i, column in enumerate(columns)])
    spans = np.array(found.spans, dtype=np.int64).reshape(-1, 2)
    lines = np.array(found.lines, dtype=np.int64)
    told, before = tuple(found.rejected), tuple(found.rejected_before)
    chunk = Chunk(cells, lines, spans, data, told, found.blank, found.comments, before)
    return chunk, found.used, found.next_line


def split(data: bytes, last: bool, layout: Layout, encoding: str, line: int = 1) -> Records:
    """Every row of ``data``, one by one; ``last`` says that nothing follows it.

    A row ends at CR LF, LF or CR outside quotation marks. One that cannot be read is rejected by its first line, and
    reading goes on behind that, so that one stray mark costs one line.
    """
    places = [match.span() for match in _LINE.finditer(data, 0, len(data) if last else safe_end(data))]
    decoded = [_decoded(data[begin:end], encoding) for begin, end in places]
    scanner = _Scanner(decoded, layout)
    records = Records([], [], [], [], [], 0, 0, 0, line)
    blank = comments = index = 0
    while index < len(places):
        begin, end = places[index]
        raw = data[begin:end].rstrip(b"\r\n")
        if not raw or (layout.separator == SPACES and not raw.strip()):
            blank, index = blank + 1, index + 1
            continue
        if layout.comment and decoded[index][0].startswith(layout.comment):
            comments, index = comments + 1, index + 1
            continue
        cells, behind, fault = scanner.record(index)
        if fault == UNFINISHED and not last:
            break  # it may go on in the next block
        fault = fault or scanner.fault(cells, index, behind)
        if fault:
            records.rejected.append(Rejected(fault, raw, line + index))
            records.rejected_before.append(len(records.rows))
            index += 1
            continue
        records.rows.append(cells)
        records.lines.append(line + index)
        records.spans.append((begin, begin + len(data[begin : places[behind - 1][1]].rstrip(b"\r\n"))))
        index = behind
    used = places[index][0] if index < len(places) else (places[-1][1] if places else 0)
    return dataclasses.replace(records, blank=blank, comments=comments, used=used, next_line=line + index)


def safe_end(data: bytes) -> int:
    """Behind the last line that surely ends here: a CR at the very end may be half of a CR LF."""
    end = data.rfind(b"\n") + 1
    return end or data.rfind(b"\r", 0, max(len(data) - 1, 0)) + 1


def _decoded(line: bytes, encoding: str) -> tuple[str, str]:
    """A line's text, and what is wrong with its bytes; separators and marks are seen all the same."""
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError as error:
        place = f"{line[error.start]:#04x} at byte {error.start + 1}"
        said = f"bytes that are no text: {place} is not valid {encoding.upper()}"
        return line.decode("ascii", errors="replace"), said
    if "\0" in text:
        return text, "bytes that are no text: a zero byte, as in a binary file (is it compressed?)"
    return text, ""


class _Scanner:
    """Cells of rows that may go over several lines."""

    def __init__(self, lines: Sequence[tuple[str, str]], layout: Layout) -> None:
        self.lines, self.layout = lines, layout
        quote, separator = re.escape(layout.quote), re.escape(layout.separator)
        behind = rf"({separator}|\r\n|\r|\n|\Z)"
        other = rf"[^{separator}\r\n]" if len(layout.separator) == 1 else rf"(?:(?!{separator})[^\r\n])"
        self.plain = re.compile(rf"({other}*){behind}")
        self.opening = re.compile(rf" *{quote}" if layout.quote else r"(?!)")
        inner = rf"[^{quote}]*(?:{quote}{quote}[^{quote}]*)*" if layout.quote else ""
        if layout.escape:
            inner = rf"[^{quote}\\]*(?:(?:\\.|{quote}{quote})[^{quote}\\]*)*"
        self.inside = re.compile(inner, re.DOTALL)
        self.behind = re.compile(rf" *{behind}")

    def record(self, index: int) -> tuple[list[str], int, str]:
        """The cells of the row that begins on a line, the line behind it, and why it is no row."""
        line, layout = self.lines[index][0], self.layout
        if layout.separator == SPACES:
            return line.split(), index + 1, ""
        if not layout.quote or layout.quote not in line:
            return line.rstrip("\r\n").split(layout.separator), index + 1, ""
        cells: list[str] = []
        at = 0
        while True:
            opened = self.opening.match(line, at)
            if opened is None:
                found = self.plain.match(line, at)
                assert found is not None
                cells.append(found[1])
            else:
                cell, line, at, index = self._quoted(line, opened.end(), index)
                if cell is None:
                    return [], index, UNFINISHED if index == len(self.lines) else LEFT_OPEN
                found = self.behind.match(line, at)
                if found is None:
                    return [], index + 1, "text stands behind a closing quotation mark"
                cells.append(cell)
            at = found.end()
            if found[found.re.groups] != layout.separator:
                return cells, index + 1, ""

    def _quoted(self, line: str, at: int, index: int) -> tuple[str | None, str, int, int]:
        """A quoted cell from behind its opening mark; line and place behind its closing one, which may be missing."""
        parts: list[str] = []
        size = 0
        while True:
            inside = self.inside.match(line, at)
            assert inside is not None
            parts.append(inside[0])
            at = inside.end()
            if at < len(line):
                return self._bare("".join(parts)), line, at + 1, index
            index, size = index + 1, size + len(line)
            if index == len(self.lines) or size > MAX_RECORD_BYTES:
                return None, line, at, index
            line, at = self.lines[index][0], 0

    def _bare(self, cell: str) -> str:
        quote = self.layout.quote
        if self.layout.escape:
            return re.sub(rf"\\(.)|{quote}{quote}", lambda found: found[1] or quote, cell, flags=re.DOTALL)
        return cell.replace(quote * 2, quote)

    def fault(self, cells: list[str], index: int, behind: int) -> str:
        """Why these lines are no row of the table; "" where they are one."""
        layout = self.layout
        for _, said in self.lines[index:behind]:
            if said:
                return said
        if layout.width is not None and len(cells) != layout.width:
            return f"wrong number of cells: has {len(cells)}, the table has {layout.width} cells a row"
        return "the header once more" if layout.header and tuple(cells) == layout.header else ""


# ---------------------------------------------------------------------------------------------- the fast way


def _fast(data: bytes, last: bool, layout: Layout, encoding: str, line: int) -> tuple[Chunk, int, int] | None:
    """The same rows by whole arrays, for data in which every quotation mark stands where it should; None otherwise."""
    if encoding == "utf-8":
        return _fast_utf8(data, last, layout, line)
    whole = data if last else data[: data.rfind(b"\n") + 1]
    try:
        text = whole.decode(encoding)
        if not whole or text.encode(encoding) != whole:  # else a rejected row could not be given back to the byte
            return None
        found = _fast_utf8(text.encode(), True, layout, line)
    except UnicodeError:
        return None
    return None if found is None else (found[0].told(encoding), len(whole), found[2])


def _fast_utf8(data: bytes, last: bool, layout: Layout, line: int) -> tuple[Chunk, int, int] | None:
    if layout.separator == SPACES or not layout.separator.isascii() or layout.escape or layout.width is None:
        return None
    if len(layout.separator) != 1 or b"\0" in data or (layout.comment and not layout.comment.isascii()):
        return None
    if not _is_utf8(data, last):
        return None
    if last and not data.endswith(b"\n"):
        if data.endswith(b"\r"):
            return None
        data += b"\n"
    if data.count(b"\r") != data.count(b"\r\n"):
        return None
    array = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(array == 10)
    marks = np.flatnonzero(array == ord(layout.quote)) if layout.quote else np.zeros(0, np.int64)
    ends = newlines[np.searchsorted(marks, newlines) % 2 == 0]
    if not len(ends):
        return None
    used = int(ends[-1]) + 1
    if last and used < len(data):
        return None
    array, marks = array[:used], marks[marks < used]
    separators = np.flatnonzero(array == ord(layout.separator))
    if len(marks):
        separators = separators[np.searchsorted(marks, separators) % 2 == 0]
        if not _well_placed(array, marks, ord(layout.separator)):
            return None
    return _cut(data, newlines[newlines < used], ends, separators, layout, line)


def _is_utf8(data: bytes, last: bool) -> bool:
    if data.isascii():
        return True
    try:
        # The last character may go on in the next block; no row that is taken ends within it.
        (data if last else data[: data.rfind(b"\n") + 1]).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _well_placed(array: np.ndarray[Any, Any], marks: np.ndarray[Any, Any], separator: int) -> bool:
    """Whether each opening mark begins a cell and each closing one ends it, but for those doubled inside one."""
    quote = array[marks[0]]
    before = np.where(marks > 0, array[marks - 1], 10)[::2]
    opening = (before == separator) | (before == 10) | (before == quote)
    after = array[np.minimum(marks + 1, len(array) - 1)][1::2]
    closing = (after == separator) | (after == 10) | (after == 13) | (after == quote)
    return bool(opening.all() and closing.all())


def _cut(
    data: bytes,
    newlines: np.ndarray[Any, Any],
    ends: np.ndarray[Any, Any],
    separators: np.ndarray[Any, Any],
    layout: Layout,
    line: int,
) -> tuple[Chunk, int, int] | None:
    array = np.frombuffer(data, np.uint8)
    begins = np.concatenate([[0], ends[:-1] + 1])
    if (ends - begins).max() > MAX_RECORD_BYTES:
        return None
    returns = (ends > begins) & (array[ends - 1] == 13)
    spans = np.stack([begins, ends - returns], axis=1)
    widths = np.diff(np.searchsorted(separators, ends), prepend=0) + 1
    first_lines = np.searchsorted(newlines, begins)
    blank = spans[:, 0] == spans[:, 1]
    commented = np.zeros(len(ends), dtype=bool)
    if layout.comment:
        mark = np.frombuffer(layout.comment.encode(), np.uint8)
        at = begins[:, None] + np.arange(len(mark))
        commented = ~blank & (array[np.minimum(at, len(array) - 1)] == mark).all(axis=1)
    ragged = ~blank & ~commented & (widths != layout.width)
    several = np.diff(first_lines, append=len(newlines)) > 1
    if ((ragged | commented) & several).any():
        return None  # the exact way goes on behind the first line of such a row
    taken = np.flatnonzero(~(blank | commented | ragged))
    body = data[: int(ends[-1]) + 1]
    if len(taken) < len(ends):
        body = b"".join(data[begin : end + 1] for begin, end in zip(begins[taken], ends[taken], strict=True))
    cells = _parsed(body, layout)
    if cells is None or cells.height != len(taken):
        return None
    lines = line + first_lines
    cells, taken, repeated = _without_headers(cells, taken, layout)
    refused = sorted([*np.flatnonzero(ragged).tolist(), *repeated])
    rejected = [
        Rejected(
            f"wrong number of cells: has {widths[i]}, the table has {layout.width} cells a row"
            if ragged[i]
            else "the header once more",
            data[spans[i, 0] : spans[i, 1]],
            int(lines[i]),
        )
        for i in refused
    ]
    before = tuple(np.searchsorted(taken, refused).tolist())
    counts = int(blank.sum()), int(commented.sum())
    chunk = Chunk(cells, lines[taken].astype(np.int64), spans[taken], data, tuple(rejected), *counts, before)
    return chunk, int(ends[-1]) + 1, line + len(newlines)


def _parsed(body: bytes, layout: Layout) -> pl.DataFrame | None:
    """Cells as polars reads them, none null; None where it reads otherwise than expected."""
    if body.startswith(b"\xef\xbb\xbf"):  # polars would take it for a mark, and drop it
        return None
    if not body:
        return pl.DataFrame({str(i): pl.Series([], dtype=pl.String) for i in range(layout.width or 0)})
    quoted = layout.quote if layout.quote and layout.quote.encode() in body else None
    try:
        cells = pl.read_csv(
            io.BytesIO(body), has_header=False, separator=layout.separator, quote_char=quoted, infer_schema=False
        )
    except pl.exceptions.PolarsError:
        return None
    if cells.width != layout.width:
        return None
    cells.columns = [str(i) for i in range(cells.width)]
    return cells.fill_null("")


def _without_headers(
    cells: pl.DataFrame, taken: np.ndarray[Any, Any], layout: Layout
) -> tuple[pl.DataFrame, np.ndarray[Any, Any], list[int]]:
    """Without the rows that repeat the header, which stand in files that were put together."""
    if not layout.header:
        return cells, taken, []
    alike = cells["0"] == layout.header[0]
    for i, name in enumerate(layout.header[1:], start=1):
        if not alike.any():
            return cells, taken, []
        alike &= cells[str(i)] == name
    if not alike.any():
        return cells, taken, []
    again = alike.to_numpy()
    return cells.filter(~alike), taken[~again], taken[again].tolist()
