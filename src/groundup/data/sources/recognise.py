"""Which source reads a file, told from its content: so that any data can be looked at before a recipe is written."""

from __future__ import annotations

import collections
import itertools
import re
from pathlib import Path

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.use import Use, make
from groundup.data.sources.archives import is_archive, members
from groundup.data.sources.column_types import MISSING, Missing
from groundup.data.sources.dialect import detect
from groundup.data.sources.files import GZIP, find_file, open_text, raw_blocks, read_start
from groundup.data.sources.iterables import as_dataset
from groundup.data.sources.records import SPACES

IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
"""What image files begin with."""

_JSON = re.compile(r'\{\s*["}]|\[\s*(?:[\[{"\]\d-]|true|false|null)')

_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Bytes that no text holds."""

FEWEST_LINES = 20

MOST_LABELS = 50


def any_file(path: str | Path, missing: Missing = MISSING, folder: Path = Path()) -> Dataset:
    """Whatever a file or folder holds, read by the source that its content calls for; see ``recognise``."""
    use, why = recognise(folder / Path(path).expanduser())
    if use.target in ("csv", "json", "json_lines"):
        use = use.with_arguments(missing=list(missing))
    dataset = as_dataset(make(use, "source")(), use.target)
    return dataset.note(f"read by {use.target}: {why}")


def recognise(path: Path) -> tuple[Use, str]:
    """The source that reads a file or folder, as a call for a recipe, and why.

    Raises DataError for what no source reads: an empty file, weights, a program.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    find_file(path)
    start = next(raw_blocks(path, 4096), b"")[:512]
    place = str(path)
    if read_start(path, 4) == b"PAR1":
        return Use("parquet", path=place), "it begins as Parquet"
    if read_start(path, 6) == b"ARROW1" or start[:4] == b"\xff\xff\xff\xff":
        return Use("arrow", path=place), "it begins as Arrow IPC"
    if start[:2] == b"\0\0" and len(start) > 4 and start[2] in (8, 9, 11, 12, 13, 14) and 1 <= start[3] <= 4:
        return Use("idx", path=place), "it begins as an IDX file"
    if is_archive(path):
        return _of_archive(path)
    if start.startswith(IMAGES):
        raise DataError(f"{path}: is a single image; name the folder that it lies in.")
    file = open_text(path)
    if not file.original and b"\0" in start:
        raise DataError(f"{path}: is neither text nor a table: it begins with {start[:8].hex(' ')}.")
    head, whole = file.head(1 << 16)
    text = head.decode(file.encoding, errors="replace").lstrip()
    if _JSON.match(text):
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) > 1 and all(line.strip().startswith("{") and line.strip().endswith("}") for line in lines[:-1]):
            return Use("json_lines", path=place), "each line is a JSON object"
        return Use("json", path=place), f"it begins with {text[0]}"
    return _of_text(path, text, whole)


def _of_text(path: Path, text: str, whole: bool) -> tuple[Use, str]:
    names = path.name.lower().removesuffix(".gz")
    lines = text.split("\n")[: None if whole else -1]
    filled = [line for line in lines if line.strip()]
    if names.endswith((".csv", ".tsv", ".tab")):
        return Use("csv", path=str(path)), f"its name ends with {Path(names).suffix}"
    blank = len(lines) - len(filled) - 1
    if len(filled) >= FEWEST_LINES and blank <= 0.01 * len(filled):
        dialect = detect(open_text(path), None, None, None, None)
        alike = len(dialect.rejected) <= 1 and (dialect.layout.width or 1) > 1
        if alike and dialect.layout.separator != SPACES and _all_have(filled, dialect.layout.separator):
            return Use("csv", path=str(path)), f"its lines fall into {dialect.layout.width} cells each"
        firsts = collections.Counter(line.split(None, 1)[0] for line in filled)
        if 1 < len(firsts) <= min(MOST_LABELS, 0.05 * len(filled)) and all(len(line.split()) > 1 for line in filled):
            return Use("text_lines", path=str(path), label="first"), f"each line begins with one of {len(firsts)} words"
        return Use("text_lines", path=str(path)), "lines without a gap between them"
    return Use("text_files", path=str(path), encoding="detect"), "text with paragraphs"


def _all_have(lines: list[str], separator: str) -> bool:
    return all(separator in line for line in lines)


def _of_archive(path: Path) -> tuple[Use, str]:
    seen = [one for one in itertools.islice(members(path), 20) if isinstance(one, tuple)]
    if any(content.startswith(IMAGES) for _, content in seen):
        return Use("image_folder", path=str(path)), "an archive with images"
    binary = [name for name, content in seen if _CONTROL.search(content[:4096])]
    if len(binary) > len(seen) / 2:
        raise DataError(f"{path}: an archive of neither images nor text, such as {binary[0]}.")
    return Use("text_files", path=str(path), encoding="detect"), "an archive without images"


def _of_folder(path: Path) -> tuple[Use, str]:
    for number, file in enumerate(sorted(p for p in path.rglob("*") if p.is_file())):
        if read_start(file, 4).startswith(IMAGES) and read_start(file, 2) != GZIP:
            return Use("image_folder", path=str(path)), "a folder with images"
        if number == 200:
            break
    return Use("text_files", path=str(path), encoding="detect"), "a folder without images"
