"""Members of tar and zip archives, read in memory: nothing is unpacked to disk, links lead nowhere, bombs end."""

from __future__ import annotations

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from groundup.core.errors import DataError
from groundup.core.quarantine import Rejected
from groundup.data.sources.files import GZIP, demand_no_bomb, find_file, open_binary, read_start

MAX_MEMBERS = 5_000_000

MAX_MEMBER_BYTES = 512 << 20
"""More than any image or document; a larger member is rejected unread."""

BZIP, XZ, ZIP = b"BZh", b"\xfd7zXZ\x00", b"PK"

_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, struct.error,
    NotImplementedError, RuntimeError, OverflowError, UnicodeError, KeyError, IndexError, MemoryError,
)  # fmt: skip

Member = tuple[str, bytes]


def is_archive(path: Path) -> bool:
    """Whether a file is a tar (also packed by gzip) or zip archive, by its content."""
    start = read_start(path, 8)
    if start.startswith(ZIP):
        return True
    if start.startswith((BZIP, XZ)):
        return path.name.lower().endswith((".tar.bz2", ".tbz2", ".tar.xz", ".txz"))
    try:
        with open_binary(path) as file:
            block = file.read(512)
    except (OSError, EOFError, zlib.error):
        return False
    return _is_tar_header(block)


def _is_tar_header(block: bytes) -> bool:
    """Whether the checksum of a tar header is right; the sum counts its own field as blanks."""
    if len(block) < 512:
        return False
    try:
        stated = int(block[148:156].replace(b"\0", b" ").split()[0], 8)
    except (ValueError, IndexError):
        return False
    return stated == sum(block[:148]) + 8 * 32 + sum(block[156:])


def members(path: Path) -> Iterator[Member | Rejected]:
    """The files of an archive in their order, name and bytes; what cannot or must not be read as rejected.

    Links, devices, names that are absolute or lead upward, a second file of one name, encrypted and oversized ones are
    rejected. Raises DataError for an archive that is damaged, or unfolds to more than a bomb may.
    """
    find_file(path)
    seen: set[str] = set()
    total = number = 0
    length = path.stat().st_size
    try:
        for found in _zip_members(path) if read_start(path, 2) == ZIP else _tar_members(path):
            number += 1
            if number > MAX_MEMBERS:
                raise DataError(f"{path}: more than {MAX_MEMBERS:,} members; it is taken for an attack.")
            if isinstance(found, tuple):
                total += len(found[1])
                demand_no_bomb(total, length, str(path))
                fault = _unsafe(found[0]) or ("a second file of this name" if found[0] in seen else "")
                seen.add(found[0])
                found = Rejected(fault, name=found[0]) if fault else found
            yield found
    except _DAMAGED as error:
        raise DataError(f"{path}: cannot be read as an archive behind member {number}: {error}.") from error
    if not number:
        raise DataError(f"{path}: an archive without members.")


def _unsafe(name: str) -> str:
    parts = PurePosixPath(name).parts
    if name.startswith(("/", "\\")) or ":" in name[:3] or ".." in parts or "\\" in name or "\0" in name or not parts:
        return "unsafe name: it leads out of the archive's own folder"
    return ""


def _tar_members(path: Path) -> Iterator[Member | Rejected]:
    packed = read_start(path, 6)
    if packed.startswith((BZIP, XZ)):
        opened = tarfile.open(path, "r:*")  # noqa: SIM115 (closed below)
    else:
        opened = tarfile.open(fileobj=cast("IO[bytes]", _Measured(path)), mode="r|")  # noqa: SIM115 (closed below)
    with opened as archive:
        for member in archive:
            if member.isdir():
                continue
            if not member.isreg():
                kind = "a link" if member.issym() or member.islnk() else "no plain file"
                yield Rejected(f"unsafe member: {kind}", name=member.name)
            elif member.size > MAX_MEMBER_BYTES:
                yield Rejected(f"too large: {member.size:,} bytes", name=member.name)
            else:
                content = archive.extractfile(member)
                data = b"" if content is None else content.read()
                if len(data) != member.size:
                    raise DataError(f"{path}: ends within {member.name!r}; the archive is cut off.")
                yield member.name, data


class _Measured:
    """A tar's bytes, unpacked where it is gzip, with an end to what a bomb may unfold to."""

    def __init__(self, path: Path) -> None:
        self.path, self.length, self.total = path, path.stat().st_size, 0
        self.packed = read_start(path, 2) == GZIP
        self.file = open_binary(path)

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.total += len(data)
        if self.packed:
            demand_no_bomb(self.total, self.length, str(self.path))
        return data

    def close(self) -> None:
        self.file.close()


def _zip_members(path: Path) -> Iterator[Member | Rejected]:
    with zipfile.ZipFile(path) as archive:
        if len(archive.infolist()) > MAX_MEMBERS:
            raise DataError(f"{path}: more than {MAX_MEMBERS:,} members; it is taken for an attack.")
        for member in archive.infolist():
            mode = member.external_attr >> 16
            if member.is_dir():
                continue
            if (mode & 0o170000) not in (0, 0o100000):
                yield Rejected("unsafe member: a link or no plain file", name=member.filename)
            elif member.flag_bits & 1:
                yield Rejected("encrypted", name=member.filename)
            elif member.file_size > MAX_MEMBER_BYTES:
                yield Rejected(f"too large: {member.file_size:,} bytes", name=member.filename)
            else:
                demand_no_bomb(member.file_size, max(member.compress_size, 1), f"{path}, {member.filename}")
                try:
                    with archive.open(member) as content:
                        data = content.read(member.file_size + 1)
                except zipfile.BadZipFile as error:
                    yield Rejected(f"damaged: {error}", name=member.filename)
                    continue
                if len(data) != member.file_size:
                    yield Rejected("damaged: not as long as it says", name=member.filename)
                else:
                    yield member.filename, data
