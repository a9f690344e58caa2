"""Text with one document, or one labelled sentence, a line."""

from __future__ import annotations

import bisect
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import polars as pl

from groundup.core.dataset import Dataset, Entry, Kind
from groundup.core.errors import DataError
from groundup.core.quarantine import MAX_REJECTED, SHOWN, Rejected, demand_few
from groundup.data.sources.files import TextFile, open_text
from groundup.data.sources.records import Layout, safe_end, split
from groundup.data.sources.shards import Piece, joined, sharded

_SEPARATOR = "\x00"
"""No text holds it, so that a line is one cell."""


@dataclasses.dataclass(frozen=True)
class text_lines:
    """A row for each line of a text file, packed by gzip or not: the column ``text``.

    ``label`` "first" takes each line's first word, "last" its last one, for the category ``label``; the text is the
    rest. The ``encoding`` is found as by ``csv`` when not given. Blank lines are passed over and counted. A line whose
    bytes are no text, or that has nothing beside its label, goes to the quarantine with its number, its bytes and the
    reason. Raises DataError when more than ``max_rejected`` (below 1 a share, else a count) do, and for a file that is
    not there or is empty.
    """

    path: str | Path
    label: Literal["none", "first", "last"] = "none"
    encoding: str | None = None
    max_rejected: float = MAX_REJECTED
    folder: Path = Path()

    def __call__(self) -> Dataset:
        """All lines."""
        file, entry = _scan(self)
        return joined((piece for piece, _ in _pieces(self, file)), self.kinds, entry, str(file.path))

    def shards(self, rows_at_once: int) -> Iterator[Dataset]:
        """The same ``rows_at_once`` at a time; the file is gone through twice."""
        file, entry = _scan(self)
        return sharded((piece for piece, _ in _pieces(self, file)), self.kinds, entry, str(file.path), rows_at_once)

    @property
    def kinds(self) -> dict[str, Kind]:
        """Column -> kind."""
        return {"text": "text"} if self.label == "none" else {"label": "category", "text": "text"}


def _scan(source: text_lines) -> tuple[TextFile, Entry]:
    file = open_text(source.folder / Path(source.path).expanduser(), source.encoding)
    accepted = rejected = blank = 0
    first: list[Rejected] = []
    for piece, passed_over in _pieces(source, file):
        accepted, rejected = accepted + piece.frame.height, rejected + len(piece.rejected)
        blank += passed_over
        first += piece.rejected[: SHOWN - len(first)]
    read = accepted + rejected
    if not read:
        raise DataError(f"{file.path}: there is no line with text.")
    demand_few(rejected, read, source.max_rejected if accepted else 0, first, str(file.path))
    notes = [f"{read} lines read = {accepted} accepted + {rejected} rejected, {file.said}"]
    notes += [f"{blank} blank lines passed over"] if blank else []
    return file, Entry("text_lines", None, read, accepted, notes=tuple(notes))


def _pieces(source: text_lines, file: TextFile) -> Iterator[tuple[Piece, int]]:
    rest, number = b"", 1
    blocks = file.blocks(1 << 22)
    block = next(blocks, None)
    while block is not None:
        following = next(blocks, None)
        found = _lines(rest + block, following is None, file, number)
        rest, number, block = found.rest, found.next_number, following
        yield _piece(source, file, found), found.blank


@dataclasses.dataclass(frozen=True)
class _Lines:
    """Lines with their numbers and bytes, those that are no text, and how many were blank."""

    texts: list[str]
    numbers: list[int]
    raw: list[bytes] | None
    """None where the bytes are the text encoded anew."""
    rejected: list[tuple[int, Rejected]]
    """Each with the number of lines before it."""
    blank: int
    rest: bytes
    next_number: int


def _lines(data: bytes, last: bool, file: TextFile, number: int) -> _Lines:
    end = len(data) if last else safe_end(data)
    try:
        text = data[:end].decode(file.encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text and file.encoding in ("utf-8", "cp1252", "latin-1"):
        lines = re.split(r"\r\n|\r|\n", text)
        lines = lines[:-1] if not lines[-1] else lines
        numbers = [number + i for i, line in enumerate(lines) if line]
        texts = [line for line in lines if line]
        return _Lines(texts, numbers, None, [], len(lines) - len(texts), data[end:], number + len(lines))
    found = split(data, last, Layout(_SEPARATOR, quote=""), file.encoding, number)
    raw = [data[begin:behind] for begin, behind in found.spans]
    rejected = list(zip(found.rejected_before, found.rejected, strict=True))
    texts = [row[0] for row in found.rows]
    return _Lines(texts, found.lines, raw, rejected, found.blank, data[found.used :], found.next_line)


def _piece(source: text_lines, file: TextFile, found: _Lines) -> Piece:
    pairs = [_parted(line, source.label) for line in found.texts]
    bare = [i for i, (_, text) in enumerate(pairs) if not text.strip()]
    reason = "no text: only blanks" if source.label == "none" else "no text: nothing beside the label"
    rejected = list(found.rejected)
    for i in bare:
        raw = found.texts[i].encode(file.encoding) if found.raw is None else found.raw[i]
        rejected.append((i, Rejected(reason, raw, found.numbers[i])))
    rejected.sort(key=lambda pair: pair[1].line or 0)
    gone = set(bare)
    kept = [pair for i, pair in enumerate(pairs) if i not in gone] if gone else pairs
    places = tuple(at - bisect.bisect_left(bare, at) for at, _ in rejected)
    told = tuple(dataclasses.replace(one, raw=file.raw(one.raw)) for _, one in rejected)
    columns = {"label": [label for label, _ in kept], "text": [text for _, text in kept]}
    frame = pl.DataFrame(
        {name: columns[name] for name in source.kinds}, schema=dict.fromkeys(source.kinds, pl.String())
    )
    return Piece(frame, told, places)


def _parted(line: str, label: str) -> tuple[str, str]:
    if label == "none":
        return "", line
    words = line.strip().split(None, 1) if label == "first" else line.strip().rsplit(None, 1)
    if len(words) < 2:
        return line, ""
    return (words[0], words[1]) if label == "first" else (words[1], words[0])
