"""Rows are cut out of bytes alike by the exact way and the fast one, however a file is cut, and none is lost."""

from __future__ import annotations

import csv as csv_files
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.data.sources import records
from groundup.data.sources.files import TextFile
from groundup.data.sources.records import SPACES, Chunk, Layout, chunks, split

Row = tuple[int, tuple[str, ...], bytes]

PIECES = st.sampled_from([
    ",", ",", ",", "\n", "\n", "\r\n", "\r", '"', '"', '""', '","', '"\n', "'", "a", "b", "é", "中", " ", "\t", "#",
    "\\", "\ufeff", "\x00", "1", "a,b\n", '"x\ny",z\n', "name,value\n",
])  # fmt: skip
ODD_BYTES = st.sampled_from([b"\xff", b"\xc3", b"\x80", b"\xef\xbb\xbf"])
texts = st.lists(PIECES, max_size=40).map(lambda parts: "".join(parts).encode())
bytes_ = st.lists(st.one_of(PIECES.map(str.encode), ODD_BYTES), max_size=40).map(b"".join)


def rows_of(found: list[Chunk]) -> tuple[list[Row], list[tuple[int | None, bytes, str]], tuple[int, int]]:
    """Rows, rejected ones with their place among the rows, and the counts of what is neither."""
    rows: list[Row] = []
    rejected: list[Any] = []
    for chunk in found:
        before = len(rows)
        for i, cells in enumerate(chunk.cells.iter_rows()):
            rows.append((int(chunk.lines[i]), cells, chunk.raw(i)))
        places = [before + place for place in chunk.rejected_before]
        rejected += [(one.line, one.raw, one.reason, place) for one, place in zip(chunk.rejected, places, strict=True)]
    return rows, rejected, (sum(c.blank for c in found), sum(c.comments for c in found))


def read(path: Path, layout: Layout, size: int, *, fast: bool, encoding: str = "utf-8") -> Any:
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(records, "_fast", lambda *arguments: None)
        if size < 1000:
            patch.setattr(records, "EXACT_BYTES", size)
            patch.setattr(records, "MAX_RECORD_BYTES", 64)
        else:
            patch.setattr(records, "MAX_RECORD_BYTES", 64)
        return rows_of(list(chunks(TextFile(path, encoding, ""), layout, 0, 1, size)))


@given(st.one_of(texts, bytes_), st.sampled_from([1, 2, 3]), st.sampled_from(['"', "'", ""]), st.integers(1, 30))
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_ways_and_all_cuts_give_the_same(tmp_path: Path, data: bytes, width: int, quote: str, size: int) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    layout = Layout(",", quote, width=width, header=("name", "value") if width == 2 else (), comment="#")
    sure = read(path, layout, 1 << 20, fast=False)
    assert read(path, layout, 1 << 20, fast=True) == sure
    assert read(path, layout, size, fast=False) == sure
    assert read(path, layout, size, fast=True) == sure


@given(texts, st.sampled_from(["cp1252", "gb18030", "utf-8"]), st.integers(1, 30))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_other_encodings_give_the_same_rows_and_their_own_bytes(
    tmp_path: Path, data: bytes, encoding: str, size: int
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data.decode().encode(encoding, errors="ignore"))
    layout = Layout(",", width=2)
    sure = read(path, layout, 1 << 20, fast=False, encoding=encoding)
    assert read(path, layout, 1 << 20, fast=True, encoding=encoding) == sure
    assert read(path, layout, size, fast=True, encoding=encoding) == sure


@given(bytes_)
@settings(max_examples=300)
def test_every_line_is_a_row_rejected_blank_or_a_comment(data: bytes) -> None:
    """Counted by lines: what rows span, and one for each that was rejected, passed over or skipped."""
    found = split(data, True, Layout(",", comment="#"), "utf-8")
    total = len(list(records._LINE.finditer(data)))
    spanned = sum(len(list(records._LINE.finditer(data[begin:end]))) or 1 for begin, end in found.spans)
    assert spanned + len(found.rejected) + found.blank + found.comments == total
    assert found.used == len(data)
    assert found.next_line == total + 1


cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=["Cs"]), max_size=6)


@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=8)),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([csv_files.QUOTE_ALL, csv_files.QUOTE_MINIMAL]),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_python_writes_is_read_as_it_was(
    tmp_path: Path, rows: list[list[str]], newline: str, separator: str, quoting: Any
) -> None:
    if quoting == csv_files.QUOTE_MINIMAL:  # which puts no marks around a lone CR
        rows = [[cell.replace("\r", " ") for cell in row] for row in rows]
    buffer = io.StringIO()
    csv_files.writer(buffer, delimiter=separator, lineterminator=newline, quoting=quoting).writerows(rows)
    path = tmp_path / "table.csv"
    path.write_bytes(buffer.getvalue().encode())
    for fast in (True, False):
        found, rejected, _ = read(path, Layout(separator, width=len(rows[0])), 1 << 20, fast=fast)
        assert [list(cells) for _, cells, _ in found] == rows
        assert not rejected


@given(texts.filter(lambda data: b"\x00" not in data))
@settings(max_examples=300)
def test_rows_are_those_of_pythons_own_reader_where_it_reads_all(data: bytes) -> None:
    text = data.decode()
    try:
        expected = [row for row in csv_files.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv_files.Error:
        return
    if '" ' in text or ' "' in text or "\r\r" in text:
        return  # blanks around quotation marks are no part of a cell here
    found = split(data, True, Layout(","), "utf-8")
    assert found.rows == expected
    assert not found.rejected


def test_one_stray_mark_costs_one_line() -> None:
    data = b'a,b\n"open,1\nc,2\nd,3\n'
    found = split(data, True, Layout(",", width=2), "utf-8")
    assert found.rows == [["a", "b"], ["c", "2"], ["d", "3"]]
    assert [(one.line, one.raw) for one in found.rejected] == [(2, b'"open,1')]


def test_many_stray_marks_take_time_in_proportion_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b'"a\n' * 200_000 + b"a,b\n" * 10)
    rows, rejected, _ = rows_of(list(chunks(TextFile(path, "utf-8", ""), Layout(",", width=2), 0, 1)))
    assert len(rows) + len(rejected) == 200_010


@pytest.mark.parametrize(
    ("line", "layout", "expected"),
    [
        (' "a, b" ,"c"', Layout(","), ["a, b", "c"]),
        (r'"say \"no\"",b\c', Layout(",", escape=True), ['say "no"', r"b\c"]),
        ('a "b" c,d', Layout(","), ['a "b" c', "d"]),
        ("'a,b','it''s'", Layout(",", "'"), ["a,b", "it's"]),
        ("  1   2\t3 ", Layout(SPACES), ["1", "2", "3"]),
        ("a::b::", Layout("::"), ["a", "b", ""]),
        ('"a::b"::"c"', Layout("::"), ["a::b", "c"]),
    ],
)
def test_cells(line: str, layout: Layout, expected: list[str]) -> None:
    assert split(line.encode(), True, layout, "utf-8").rows == [expected]
