"""Files opened for reading piece by piece: found or named with their neighbour, unpacked within limits, as text."""

from __future__ import annotations

import codecs
import dataclasses
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from groundup.core.errors import DataError, nearest
from groundup.data.sources.encodings import detect_encoding

BLOCK_BYTES = 2 << 20
"""What is read at once."""

MAX_RATIO = 200
"""How many times its size a packed file may unfold to, once it is beyond ``FREE_BYTES``; text stays below 20."""

FREE_BYTES = 64 << 20

GZIP = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A text file that is there, and how it is read: ``unpacked`` is "gzip" or nothing."""

    path: Path
    encoding: str
    """A codec in which line ends and separators are the ASCII ones; UTF-16 is turned into UTF-8 while it is read."""
    said: str
    """The encoding's name for people."""
    mark: int = 0
    """Bytes of the byte order mark at its beginning."""
    unpacked: str = ""
    original: str = ""
    """The codec that the file is in, where it is another than ``encoding``."""

    def blocks(self, size: int = BLOCK_BYTES) -> Iterator[bytes]:
        """The bytes behind the mark, piece by piece. Raises DataError for what is damaged, or unfolds without end."""
        raw = raw_blocks(self.path, size, self.mark)
        if not self.original:
            yield from raw
            return
        decoder = codecs.getincrementaldecoder(self.original)()
        at = self.mark
        try:
            for block in raw:
                yield decoder.decode(block).encode()
                at += len(block)
            yield decoder.decode(b"", True).encode()
        except UnicodeError as error:
            place = at + (error.start if isinstance(error, UnicodeDecodeError) else 0)
            raise DataError(f"{self.path}: begins as {self.said} but is damaged near byte {place}.") from error

    def raw(self, data: bytes) -> bytes:
        """Bytes of a block as they stand in the file."""
        return data.decode(self.encoding).encode(self.original) if self.original else data

    def head(self, size: int) -> tuple[bytes, bool]:
        """The first bytes behind the mark, and whether they are the whole file."""
        found = b""
        for block in self.blocks(min(size, BLOCK_BYTES)):
            found += block
            if len(found) > size:
                return found[:size], False
        return found, True


def find_file(path: Path) -> Path:
    """The path of a file that is there. Raises DataError with the nearest name beside it."""
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name a file in it.")
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}.") from error
    hint = nearest(path.name, beside) if beside else f" There is no folder {path.parent} either."
    raise DataError(f"{path}: there is no such file.{hint} A relative path starts at the recipe's folder.")


def open_text(path: Path, encoding: str | None = None) -> TextFile:
    """A text file whose encoding is detected over all of it, or given. Raises DataError for one that is no text."""
    find_file(path)
    packed = "gzip" if read_start(path, 2) == GZIP else ""
    found = detect_encoding(raw_blocks(path), str(path), encoding)
    return TextFile(path, found.codec, found.said, found.mark, packed, found.original)


def read_start(path: Path, size: int) -> bytes:
    """The first bytes of a file as it lies there."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}.") from error


def raw_blocks(path: Path, size: int = BLOCK_BYTES, skip: int = 0) -> Iterator[bytes]:
    """The bytes of a file piece by piece, unpacked where it is gzip. Raises DataError for what cannot be unpacked."""
    total = 0
    try:
        packed = read_start(path, 2) == GZIP
        length = path.stat().st_size
        with open_binary(path) as file:
            if skip:
                file.read(skip)
            while block := file.read(size):
                total += len(block)
                if packed:
                    demand_no_bomb(total, length, str(path))
                yield block
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path}: cannot be read behind byte {total:,}: {error}.") from error


def open_binary(path: Path) -> IO[bytes]:
    """The file opened, unpacked where it is gzip."""
    if read_start(path, 2) == GZIP:
        return cast("IO[bytes]", gzip.GzipFile(path, "rb"))
    return path.open("rb")


def read_whole(path: Path, most: int | None = None) -> bytes:
    """All bytes of a file, unpacked where it is gzip. Raises DataError when there are more than ``most``."""
    pieces, total = [], 0
    for block in raw_blocks(find_file(path)):
        total += len(block)
        if most is not None and total > most:
            raise DataError(f"{path}: more than {most:,} bytes, which is too much for a file of its kind.")
        pieces.append(block)
    return b"".join(pieces)


def demand_no_bomb(unfolded: int, packed: int, where: str) -> None:
    """Raise DataError when what unfolds is out of all proportion to what was packed."""
    if unfolded > max(FREE_BYTES, MAX_RATIO * packed):
        raise DataError(
            f"{where}: unfolds to more than {MAX_RATIO} times its {packed:,} bytes; it is taken for an attack. "
            "If it is none, unpack it yourself and name the unpacked file."
        )
