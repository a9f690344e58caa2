"""Tables from files: read tolerantly where the meaning is clear, refused by file and line where it is not."""

from __future__ import annotations

import csv as csv_files
import dataclasses
import datetime
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset, Entry, Kind
from groundup.core.errors import DataError, nearest

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""What stands for a missing value unless a source says otherwise; the empty cell always does."""

TIME_PARTS = ("year", "month", "day", "hour", "minute", "second")

_SEPARATORS = (",", ";", "\t", "|")
_CHUNK_ROWS = 50_000
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class _Table:
    """Cells as they stand in the file, with the line that each row begins on."""

    path: Path
    names: list[str]
    cells: pl.DataFrame
    lines: np.ndarray[Any, Any]
    notes: tuple[str, ...]

    def at(self, row: int) -> str:
        return f"{self.path}, line {self.lines[row]}"


def csv(
    path: str | Path,
    separator: str | None = None,
    missing: Sequence[str] = MISSING,
    columns: Sequence[str] | None = None,
    header: Sequence[str] | None = None,
    time: str | Sequence[str] | None = None,
    folder: Path = Path(),
) -> Dataset:
    """A table from a text file with one row a line; quoted cells may hold separators and line breaks.

    ``separator`` is found among comma, semicolon, tab and bar when not given, and the encoding among UTF-8 (with or
    without a mark), UTF-16 with a mark, Windows-1252 and Latin-1. ``missing`` lists the cells that stand for a missing
    value, beside the empty one. ``columns`` keeps only these. ``header`` names the columns of a file that has no header
    line. ``time`` is a column to be read as date and time, or columns that hold year, month, day, hour, minute, second
    in this order and make a new column ``time`` (they stay beside it).

    A column becomes whole numbers, numbers, true/false or strings, whichever holds all its values; nothing is guessed
    from a part of it. The ledger says what was read as missing. Raises DataError, with file and line, for
    rows with a wrong number of cells, quotes that do not end, bytes that cannot be decoded, times that are none;
    and for a file that is not there, is empty, or has a header alone.
    """
    source = folder / Path(path).expanduser()
    text, encoding = _decode(_read_bytes(source), source)
    separator = separator or _find_separator(text)
    table = _split_rows(text, separator, list(header) if header else None, source)
    notes = [
        f"{table.cells.height} rows of {len(table.names)} cells, {encoding}, separator {separator!r}",
        *table.notes,
    ]
    markers = [*missing, ""]
    typed: dict[str, pl.Series] = {}
    for name in table.names:
        typed[name], said = _type_column(table, name, markers, decimal_comma=separator == ";")
        notes += said
    frame = pl.DataFrame(typed)
    kinds: dict[str, Kind] = {}
    if time is not None:
        frame, kinds = _with_time(table, frame, time)
    if columns is not None:
        kept = [*columns, *(name for name in kinds if name not in columns)]
        for name in kept:
            _need(source, frame.columns, name, "columns")
        frame = frame.select(kept)
    entry = Entry("csv", None, table.cells.height, frame.height, notes=tuple(notes))
    return dataclasses.replace(Dataset.of(frame, kinds, origin=str(source)), history=(entry,))


def scikit_learn(dataset: Literal["digits", "iris", "wine", "breast_cancer", "diabetes"]) -> Dataset:
    """A small data set that comes with scikit-learn, in its own units; nothing is downloaded.

    ``digits``: 1,797 images of 8 x 8 pixels in the column ``image`` and a category ``label``, "0" to "9". Its grey
    values 0 to 16 are spread over 0 to 255 (rounded, so no level is lost), as in an image file. ``iris``, ``wine`` and
    ``breast_cancer``: numbers, and a category ``label``. ``diabetes``: numbers, and the number ``progression`` to be
    predicted.
    """
    # Slow to import, and only this source needs it.
    from sklearn import datasets as bundled  # type: ignore[import-untyped]

    known = ("digits", "iris", "wine", "breast_cancer", "diabetes")
    if dataset not in known:
        raise DataError(f"scikit_learn: there is no data set {dataset!r} here.{nearest(dataset, known)}")
    origin = f"scikit-learn {dataset}"
    if dataset == "digits":
        loaded = bundled.load_digits()
        pixels = np.rint(loaded.images * (255 / 16)).astype(np.uint8)
        label = pl.Series([str(digit) for digit in loaded.target])
        frame = pl.DataFrame({"image": pl.Series(pixels, dtype=pl.Array(pl.UInt8, (8, 8))), "label": label})
        kinds: dict[str, Kind] = {"image": "image", "label": "category"}
    else:
        loaded = bundled.load_diabetes(scaled=False) if dataset == "diabetes" else getattr(bundled, f"load_{dataset}")()
        frame = pl.DataFrame(
            {str(name): column for name, column in zip(loaded.feature_names, loaded.data.T, strict=True)}
        )
        kinds = dict.fromkeys(frame.columns, "number")
        if dataset == "diabetes":
            frame, kinds["progression"] = frame.with_columns(progression=pl.Series(loaded.target)), "number"
        else:
            names = pl.Series([str(loaded.target_names[i]) for i in loaded.target])
            frame, kinds["label"] = frame.with_columns(label=names), "category"
    entry = Entry("scikit_learn", None, frame.height, frame.height)
    return dataclasses.replace(Dataset.of(frame, kinds, origin=origin), history=(entry,))


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file in it.")
    if not path.is_file():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(path.name, beside) if beside else f" There is no folder {path.parent} either."
        raise DataError(f"{path}: there is no such file.{hint} A relative path starts at the recipe's folder.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}.") from error
    if not data.strip():
        raise DataError(f"{path}: the file is empty.")
    return data


def _decode(data: bytes, path: Path) -> tuple[str, str]:
    """The text and its encoding's name. Raises DataError for what is no text, or damaged UTF-8."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16"), "UTF-16"
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: begins as UTF-16 but is damaged at byte {error.start}.") from error
    if b"\x00" in data:
        line = data.count(b"\n", 0, data.index(b"\x00")) + 1
        raise DataError(f"{path}, line {line}: holds a zero byte, so it is no text file (is it compressed?).")
    try:
        marked = data.startswith(b"\xef\xbb\xbf")
        return data.decode("utf-8-sig"), "UTF-8 with a mark" if marked else "UTF-8"
    except UnicodeDecodeError as error:
        # Damaged UTF-8 still has well-formed characters beyond ASCII; a file in a one-byte encoding hardly ever has.
        whole = sum(character > "\x7f" for character in data.decode("utf-8", errors="ignore"))
        broken = data.decode("utf-8", errors="replace").count("�")
        if whole >= broken:
            line = data.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{path}, line {line}: byte {data[error.start]:#04x} is not valid UTF-8, as the rest of the file is. "
                "Mend that line, or save the file anew as UTF-8."
            ) from error
    try:
        return data.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "Latin-1"


def _find_separator(text: str) -> str:
    """The separator by which the first lines fall into the same number of cells, the more the better."""
    sample = text[:65536]
    if len(sample) < len(text):
        sample = sample[: sample.rfind("\n") + 1] or sample
    best, found = (0.0, 1), ","
    for separator in _SEPARATORS:
        try:
            counts = [len(row) for row in csv_files.reader(io.StringIO(sample, newline=""), delimiter=separator) if row]
        except csv_files.Error:
            continue
        if counts and counts[0] > 1:
            alike = sum(count == counts[0] for count in counts) / len(counts)
            if (alike, counts[0]) > best:
                best, found = (alike, counts[0]), separator
    return found


def _split_rows(text: str, separator: str, header: list[str] | None, path: Path) -> _Table:
    """Every row of the file, whole. Raises DataError that names the lines that are not."""
    return _split_plain(text, separator, header, path) or _split_any(text, separator, header, path)


def _split_plain(text: str, separator: str, header: list[str] | None, path: Path) -> _Table | None:
    """The fast way, for a file where each line is a row and all are alike; None for any other."""
    if '"' in text or not separator.isascii() or text.count("\r") != text.count("\r\n"):
        return None
    newline = "\r\n" if "\r" in text else "\n"
    data = (text.removesuffix(newline) + newline).encode()
    characters = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    separators = np.diff(np.searchsorted(np.flatnonzero(characters == ord(separator)), ends), prepend=0)
    blank = np.diff(ends, prepend=-1) <= len(newline)
    first, _, body = data.partition(b"\n")
    names = header or first.decode().rstrip("\r").split(separator)
    body = data if header else body
    if not body or blank.any() or (separators != len(names) - 1).any():
        return None
    cells = pl.read_csv(io.BytesIO(body), has_header=False, separator=separator, quote_char=None, infer_schema=False)
    if cells.shape != (len(ends) - (0 if header else 1), len(names)):
        return None
    names, notes = _clean_names(names, path, given=header is not None)
    cells.columns = names
    return _Table(path, names, cells.fill_null(""), np.arange(cells.height) + (1 if header else 2), tuple(notes))


def _split_any(text: str, separator: str, header: list[str] | None, path: Path) -> _Table:
    reader = csv_files.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    names, chunk, chunks, lines = header, [], [], []
    wrong: list[tuple[int, int]] = []
    blank, begins = 0, 1
    try:
        for row in reader:
            line, begins = begins, reader.line_num + 1
            if not row:
                blank += 1
            elif names is None:
                names = row
            elif len(row) != len(names):
                wrong.append((line, len(row)))
            else:
                chunk.append(row)
                lines.append(line)
                if len(chunk) == _CHUNK_ROWS:
                    chunks.append(_strings(chunk))
                    chunk = []
    except csv_files.Error as error:
        raise DataError(
            f"{path}, line {begins}: cannot be read as a row: {error}. Is a quotation mark left open?"
        ) from error
    assert names is not None
    if wrong:
        shown = "; ".join(f"line {line} has {count}" for line, count in wrong[:_SHOWN])
        more = f"; and {len(wrong) - _SHOWN} more lines" if len(wrong) > _SHOWN else ""
        raise DataError(
            f"{path}: each row must have {len(names)} cells, as the header has: {shown}{more} "
            f"(separator {separator!r}; {len(lines)} rows are whole). Mend those lines, or name another separator."
        )
    if chunk:
        chunks.append(_strings(chunk))
    if not chunks:
        raise DataError(f"{path}: there is a header, but no row beneath it.")
    names, notes = _clean_names(names, path, given=header is not None)
    if blank:
        notes.append(f"{blank} blank lines passed over")
    cells = pl.concat(chunks)
    cells.columns = names
    return _Table(path, names, cells, np.array(lines), tuple(notes))


def _strings(rows: list[list[str]]) -> pl.DataFrame:
    columns = zip(*rows, strict=True)
    return pl.DataFrame([pl.Series(str(i), column, dtype=pl.String) for i, column in enumerate(columns)])


def _clean_names(names: list[str], path: Path, *, given: bool) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    clean = [name.strip() for name in names]
    for i, name in enumerate(clean):
        if not name:
            clean[i] = f"column {i + 1}"
            notes.append(f"the header's cell {i + 1} is empty; the column is called {clean[i]!r}")
    doubled = sorted({name for name in clean if clean.count(name) > 1})
    if doubled:
        raise DataError(
            f"{path}: the header has {', '.join(map(repr, doubled[:_SHOWN]))} more than once; names must differ. "
            "If the file has no header line, give header = [names]."
        )
    numeric = [name for name in clean if _is_number(name)]
    if numeric and not given:
        notes.append(
            f"the header holds numbers ({', '.join(map(repr, numeric[:3]))}): if the file has no header line, "
            "its first row was taken for one; then give header = [names]"
        )
    return clean, notes


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _type_column(
    table: _Table, name: str, markers: Sequence[str], *, decimal_comma: bool
) -> tuple[pl.Series, list[str]]:
    """The column in the narrowest type that holds all its values, and what a person should know of it."""
    notes: list[str] = []
    cells = table.cells[name]
    bare = cells.str.strip_chars()
    gone = bare.is_in(list(markers))
    for marker, count in bare.filter(gone & (bare != "")).value_counts(sort=True).iter_rows():
        notes.append(f"column {name!r}: {marker!r} read as missing, {count} times")
    values = pl.select(pl.when(~gone).then(bare)).to_series().alias(name)
    present = values.drop_nulls()
    if present.is_empty():
        notes.append(f"column {name!r}: every value is missing")
        return values.cast(pl.Float64), notes
    if present.str.contains(r"^[+-]?\d+$").all():
        if present.str.contains(r"^[+-]?0\d").any():
            notes.append(f"column {name!r}: numbers with leading zeros; kept as strings, as codes are")
            return values, notes
        whole = values.cast(pl.Int64, strict=False)
        if whole.null_count() == values.null_count():
            return whole, notes
        notes.append(f"column {name!r}: whole numbers too large for 64 bits; kept as strings")
        return values, notes
    if decimal_comma and present.str.contains(r"^[+-]?\d*,?\d+([eE][+-]?\d+)?$").all():
        notes.append(f"column {name!r}: the comma read as decimal point")
        values = values.str.replace(",", ".", literal=True)
    numbers = values.cast(pl.Float64, strict=False)
    if numbers.null_count() == values.null_count():
        if undefined := int(numbers.is_nan().sum()):
            notes.append(f"column {name!r}: not-a-number read as missing, {undefined} times")
        return numbers.fill_nan(None), notes
    if present.str.to_lowercase().is_in(["true", "false"]).all():
        return (values.str.to_lowercase() == "true").alias(name), notes
    notes += _note_nearly_numbers(table, name, values, numbers)
    return pl.select(pl.when(~gone).then(cells if _is_prose(present) else bare)).to_series().alias(name), notes


def _is_prose(present: pl.Series) -> bool:
    """Whether cells are text, whose white space may mean something, rather than names of categories."""
    return float(present.str.len_chars().mean() or 0) > 40  # type: ignore[arg-type]


def _note_nearly_numbers(table: _Table, name: str, values: pl.Series, numbers: pl.Series) -> list[str]:
    odd = (values.is_not_null() & numbers.is_null()).arg_true()
    share = 1 - len(odd) / (len(values) - values.null_count())
    if share < 0.5:
        return []
    row = int(odd[0])
    return [
        f"column {name!r} stays text: {len(odd)} values are no number, the first {values[row]!r} at line "
        f"{table.lines[row]}; if they stand for missing values, list them under missing"
    ]


def _need(path: Path, names: Sequence[str], name: str, argument: str) -> None:
    if name not in names:
        raise DataError(f"{path}: {argument} names {name!r}, but there is no such column.{nearest(name, names)}")


def _with_time(table: _Table, frame: pl.DataFrame, time: str | Sequence[str]) -> tuple[pl.DataFrame, dict[str, Kind]]:
    names = [time] if isinstance(time, str) else list(time)
    for name in names:
        _need(table.path, frame.columns, name, "time")
    if isinstance(time, str):
        return frame.with_columns(_parse_times(table, frame[time])), {time: "time"}
    if not 0 < len(names) <= len(TIME_PARTS):
        raise DataError(f"time: read {names}, expected one to six columns: {', '.join(TIME_PARTS)}.")
    if "time" in frame.columns and "time" not in names:
        raise DataError(
            f"{table.path}: has a column 'time' already, so {names} cannot be combined into one of that name."
        )
    for name in names:
        _refuse_times(table, frame[name], frame[name].is_null().to_numpy())
    parts = [frame[name].cast(pl.Int64, strict=False) for name in names]
    combined = [_combine(values) for values in pl.DataFrame(parts).iter_rows()]
    column = pl.Series("time", combined, dtype=pl.Datetime("us"))
    shown = pl.Series("+".join(names), ["-".join(map(str, row)) for row in frame.select(names).iter_rows()])
    _refuse_times(table, shown, column.is_null().to_numpy())
    return frame.with_columns(column), {"time": "time"}


def _combine(parts: Sequence[int | None]) -> datetime.datetime | None:
    given = [part for part in parts if part is not None]
    if len(given) < len(parts):
        return None
    year, month, day, hour, minute, second = given + [0, 1, 1, 0, 0, 0][len(given) :]
    try:
        return datetime.datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None


_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y%m%d", "%Y-%m",
)  # fmt: skip


def _parse_times(table: _Table, column: pl.Series) -> pl.Series:
    """A column of strings as date and time; year first, since 03/04 is read two ways."""
    texts = column.cast(pl.String).str.replace(r"(Z|\+00:?00)$", "")
    best: pl.Series | None = None
    for form in _FORMATS:
        if form == "%Y-%m":
            parsed = (texts + "-01").str.to_datetime("%Y-%m-%d", strict=False, time_unit="us")
        else:
            parsed = texts.str.to_datetime(form, strict=False, time_unit="us")
        if best is None or parsed.null_count() < best.null_count():
            best = parsed
        if best.null_count() == 0:
            break
    assert best is not None
    _refuse_times(table, column, best.is_null().to_numpy())
    return best.alias(column.name)


def _refuse_times(table: _Table, column: pl.Series, wrong: np.ndarray[Any, Any]) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        row = int(rows[0])
        raise DataError(
            f"{table.at(row)}: column {column.name!r} holds {column[row]!r}, which is no time ({len(rows)} such rows). "
            "Write the year first, as in 2024-03-31 or 2024-03-31 17:00:00."
        )
