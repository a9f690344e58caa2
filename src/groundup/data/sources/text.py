"""Text from files: one document a row, named by its path; a file that cannot be read as text is reported, not fatal."""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import io
import os
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import polars as pl

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.quarantine import Quarantine, Rejected
from groundup.data.sources.archives import is_archive, members
from groundup.data.sources.encodings import detect_encoding
from groundup.data.sources.files import GZIP, read_whole

__all__ = ["standard_library", "text_files"]

FOREIGN = frozenset({"site-packages", "dist-packages", "__pycache__"})
"""Folders beneath the standard library that are no part of it."""

TESTS = frozenset({"test", "tests", "idle_test"})
"""Names of the folders in which the standard library keeps its tests."""


def standard_library(tests: bool = False, limit_bytes: int | None = None) -> Dataset:
    """The Python sources that every machine has: those of the interpreter's own standard library.

    Columns: ``path`` (kind id, relative to the library, sorted) and ``text`` (kind text). ``tests`` takes the
    library's own tests in. ``limit_bytes`` keeps about so many bytes: whole files, drawn by the SHA-256 of their
    paths, so that the choice is the same everywhere and is no alphabetical corner. Files that cannot be decoded,
    and empty ones, are left out and noted. Raises DataError when the library has no source files beside it.
    """
    library = Path(sysconfig.get_path("stdlib"))
    left_out = FOREIGN if tests else FOREIGN | TESTS
    found = [path for path in _walk(library, left_out) if path.suffix == ".py"]
    if not found:
        raise DataError(
            f"standard_library: no .py files below {library}. This Python keeps its library without sources (a zip "
            "or a stripped build); use source = { use = 'text_files', path = ... } on sources of your own."
        )
    if limit_bytes is not None:
        found = _drawn(found, library, limit_bytes)
    return _read_all(found, library, "standard_library", str(library))


def text_files(path: Path, pattern: str = "**/*", encoding: str | None = None, folder: Path = Path()) -> Dataset:
    """One text file, or the files of a folder or archive (tar, zip) that match ``pattern``, one a row.

    Columns: ``path`` (kind id, relative to the folder, sorted) and ``text`` (kind text). A relative ``path``
    starts at ``folder``, the recipe's own. Files are UTF-8, or what a byte order mark or a PEP 263 cookie in their
    first two lines says; ``encoding`` names another, and "detect" has it found in each file, Chinese, Japanese and
    Western ones among them. A file may be packed by gzip. In a folder or archive, hidden files, empty files and those
    that are no text are left out, noted, and stand in the quarantine; so do members of an archive that are links or
    lead out of it. A single file that is missing, empty or no text raises DataError with the full path that was tried.
    """
    place = (folder / path).expanduser().resolve()
    if place.is_file():
        if is_archive(place):
            return _read_archive(place, pattern, encoding)
        return _read_all([place], place.parent, "text_files", str(place), encoding)
    if not place.is_dir():
        raise DataError(f"text_files: there is no file or folder {place}.{_nearest_folder(place)}")
    try:
        found = [file for file in place.glob(pattern) if file.is_file()]
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"text_files: the pattern {pattern!r} cannot be used: {error}.") from error
    shown = [file for file in found if not any(part.startswith(".") for part in file.relative_to(place).parts)]
    if not shown:
        hidden = f" ({len(found)} hidden ones are left out)" if found else ""
        raise DataError(f"text_files: no file below {place} matches {pattern!r}{hidden}.")
    dataset = _read_all(shown, place, "text_files", str(place), encoding)
    return dataset.note(f"{len(found) - len(shown)} hidden files left out") if len(found) > len(shown) else dataset


def _nearest_folder(place: Path) -> str:
    """Up to where the path does exist, which is mostly where the misspelling begins."""
    for parent in place.parents:
        if parent.is_dir():
            return f" {parent} exists; {parent.name or parent}/{place.relative_to(parent).parts[0]} does not."
    return ""


def _walk(root: Path, left_out: frozenset[str]) -> Iterator[Path]:
    for here, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in left_out]
        yield from (Path(here, name) for name in files)


def _drawn(found: list[Path], root: Path, limit_bytes: int) -> list[Path]:
    if limit_bytes <= 0:
        raise DataError(f"standard_library: limit_bytes is {limit_bytes}; expected more than 0, or leave it out.")
    order = sorted(found, key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest())
    kept: list[Path] = []
    total = 0
    for path in order:
        total += path.stat().st_size
        if total > limit_bytes and kept:
            break
        kept.append(path)
    return kept


def _read_archive(place: Path, pattern: str, encoding: str | None) -> Dataset:
    every = pattern in ("**/*", "**")
    found: list[tuple[str, bytes | Rejected]] = []
    for one in members(place):
        name, content = (one.name, one) if isinstance(one, Rejected) else one
        if every or PurePosixPath(name).match(pattern.removeprefix("**/")):
            found.append((name, content))
    return _documents(sorted(found, key=lambda pair: pair[0]), "text_files", str(place), encoding)


def _read_all(found: Iterable[Path], root: Path, name: str, origin: str, encoding: str | None = None) -> Dataset:
    """Every file that is text, by relative path; the others as notes."""
    named = sorted((file.relative_to(root).as_posix(), file) for file in found)
    return _documents(((relative, _content(relative, file)) for relative, file in named), name, origin, encoding)


def _content(relative: str, file: Path) -> bytes | Rejected:
    try:
        data = file.read_bytes()
        return read_whole(file) if data.startswith(GZIP) else data
    except (OSError, DataError) as error:
        return Rejected(f"not readable as text: {error}", name=relative)


def _documents(found: Iterable[tuple[str, bytes | Rejected]], name: str, origin: str, encoding: str | None) -> Dataset:
    paths: list[str] = []
    texts: list[str] = []
    rejected: list[Rejected] = []
    num_empty = 0
    for relative, content in found:
        if isinstance(content, Rejected):
            rejected.append(content)
            continue
        try:
            text = _as_text(content, relative, encoding)
            text.encode()
        except (UnicodeError, SyntaxError, LookupError, DataError) as error:
            rejected.append(Rejected(f"not readable as text: {error}", name=relative))
            continue
        if text.strip():
            paths.append(relative)
            texts.append(text)
        else:
            num_empty += 1
            rejected.append(Rejected("empty", name=relative))
    notes = [f"left out, {one.reason.replace(': ', f': {one.name}: ', 1)}" for one in rejected if one.reason != "empty"]
    if num_empty:
        notes.append(f"{num_empty} empty files left out")
    if not texts:
        raise DataError(f"{name}: no text in {origin}: {'; '.join(notes[:3])}.")
    frame = pl.DataFrame({"path": paths, "text": texts}, schema={"path": pl.String, "text": pl.String})
    dataset = Dataset.of(frame, {"path": "id", "text": "text"}, origin=origin).note(*notes)
    quarantine = Quarantine(len(texts) + len(rejected), len(texts), tuple(rejected))
    return dataclasses.replace(dataset, quarantine=quarantine)


def _as_text(content: bytes, name: str, encoding: str | None) -> str:
    if encoding is None or not content.strip():
        return decode(content)
    found = detect_encoding([content], name, None if encoding == "detect" else encoding)
    if b"\0" in content and not found.original:
        raise UnicodeError(f"a null byte at {content.index(0)}: this is a binary file")
    return content[found.mark :].decode(found.original or found.codec)


def decode(content: bytes) -> str:
    """The text of a file: UTF-8, or as its byte order mark or PEP 263 cookie says; a null byte elsewhere is no text.

    Raises UnicodeError for bytes that do not fit, SyntaxError or LookupError for an encoding that does not exist.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    if b"\0" in content:
        raise UnicodeError(f"a null byte at {content.index(0)}: this is a binary file")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    except SyntaxError:
        # Its message tells less than the decoder's own about where UTF-8 breaks.
        content.decode("utf-8")
        raise
    return content.decode(encoding)
