"""Images from folders and archives, one folder a class; by a table that names them; from IDX files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset, Entry, Kind
from groundup.core.errors import DataError, nearest
from groundup.core.quarantine import MAX_REJECTED, Quarantine, Rejected, demand_few
from groundup.data.pixels import open_image
from groundup.data.sources.archives import Member, is_archive, members
from groundup.data.sources.column_types import MISSING, Missing
from groundup.data.sources.csv_files import csv
from groundup.data.sources.files import find_file, read_whole

PARTS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
"""Names of folders that are parts of the data, not classes."""

IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""Third byte of an IDX file -> what its numbers are. LeCun, Cortes, Burges: The MNIST database, file formats."""

MAX_IDX_BYTES = 8 << 30


def image_folder(path: str | Path, pattern: str = "**/*", folder: Path = Path()) -> Dataset:
    """The images below ``path``, a folder or an archive, in the columns ``path`` (id), ``image`` (bytes), ``label``.

    The label, a category, is the first folder below ``path``, or below the one folder that holds everything; where all
    images lie there itself there is none. Folders named train, valid (val, dev) and test are no classes: they become
    the column ``part``, and the label is the folder below. ``pattern`` is as in a shell. Hidden files are passed over.
    An archive (tar, also packed, or zip) is read where it is; links, names that lead out of it and bombs are refused.

    Each image is decoded once here, so that a file that is none, is cut off, or has more pixels than any camera's
    picture is named with its reason in the ledger and the quarantine, and left out. Raises DataError when ``path`` is
    not there or holds no image, or when some images have a folder and others do not.
    """
    root = folder / Path(path).expanduser()
    if root.is_file():
        if not is_archive(root):
            raise DataError(f"{root}: is neither a folder nor an archive of images (tar or zip).")
        found = _of_archive(root, pattern)
    else:
        found = _of_folder(root, pattern)
    names: list[str] = []
    images: list[bytes] = []
    rejected: list[Rejected] = []
    for item in found:
        one = item if isinstance(item, Rejected) else _checked(*item)
        if isinstance(one, Rejected):
            rejected.append(one)
        else:
            names.append(one[0])
            images.append(one[1])
    read = len(names) + len(rejected)
    if not names:
        tried = (
            f"{read} files match {pattern!r}, and none is an image: {rejected[0].name}"
            if rejected
            else f"no file matches {pattern!r}"
        )
        raise DataError(f"{root}: {tried}.")
    frame = pl.DataFrame({"path": names, "image": images}).hstack(_labels(names, str(root)))
    kinds: dict[str, Kind] = {"path": "id", "image": "image", "label": "category", "part": "category"}
    removed = tuple((one.name, one.reason) for one in rejected)
    notes = (f"{read} files, {len(names)} images, {len(rejected)} that are none",)
    entry = Entry("image_folder", None, read, len(names), removed=removed, notes=notes)
    dataset = Dataset.of(frame, {name: kinds[name] for name in frame.columns}, origin=str(root))
    return dataclasses.replace(dataset, history=(entry,), quarantine=Quarantine(read, len(names), tuple(rejected)))


def image_table(
    path: str | Path,
    image: str = "path",
    images: str | Path | None = None,
    missing: Missing = MISSING,
    max_rejected: float = MAX_REJECTED,
    folder: Path = Path(),
) -> Dataset:
    """Images that a text table names: its column ``image`` holds their paths, its other columns stay beside them.

    Paths start at the folder ``images``, by default the table's own. The table is read as by ``csv``; in the end
    ``path`` (id) is what the table says and ``image`` the file's bytes. A row whose path leads out of the folder, whose
    file is not there or is no image goes to the quarantine with its reason. Raises DataError when more than
    ``max_rejected`` (below 1 a share, else a count) do.
    """
    table = csv(path, missing=missing, max_rejected=max_rejected, folder=folder)()
    table.need(image, by="image_table")
    root = folder / Path(images).expanduser() if images is not None else Path(table.origin).parent
    kept: list[int] = []
    content: list[bytes] = []
    rejected = list(table.quarantine.rejected)
    names = table.frame[image].cast(pl.String).to_list()
    for row, name in enumerate(names):
        one = Rejected("no path: the cell is empty") if name is None else _named(root, name)
        if isinstance(one, Rejected):
            rejected.append(one)
            continue
        kept.append(row)
        content.append(one[1])
    read = table.quarantine.read
    demand_few(len(rejected), read, max_rejected if kept else 0, rejected, table.origin, "Mend those paths")
    taken = table.frame[kept].drop("_row")
    others = [name for name in taken.columns if name not in (image, "path", "image")]
    frame = pl.DataFrame([taken[image].cast(pl.String).alias("path"), pl.Series("image", content), *taken[others]])
    kinds: dict[str, Kind] = {"path": "id", "image": "image", **{name: table.kinds[name] for name in others}}
    notes = (*table.history[0].notes, f"{len(kept)} images of {len(names)} rows")
    entry = Entry("image_table", None, read, len(kept), notes=notes)
    dataset = Dataset.of(frame, kinds, origin=table.origin)
    quarantine = Quarantine(read, len(kept), tuple(rejected))
    return dataclasses.replace(dataset, history=(entry,), quarantine=quarantine)


def idx(path: str | Path, labels: str | Path | None = None, folder: Path = Path()) -> Dataset:
    """Images, or other arrays, from an IDX file such as those of MNIST, packed by gzip or not.

    Bytes of two or three dimensions a row become the column ``image``, other rows the column ``values``, single values
    ``value``. ``labels`` is the IDX file of their labels, which become the category ``label``; without it the file of
    the same name with "labels-idx1" for "images-idx3" is taken where it lies beside. Raises DataError for a file that
    is none, or is not as long as it says.
    """
    place = find_file(folder / Path(path).expanduser())
    array = _idx_array(place)
    if array.ndim >= 3 and array.dtype == np.uint8:
        frame = pl.DataFrame({"image": pl.Series(array, dtype=pl.Array(pl.UInt8, array.shape[1:]))})
    else:
        rows = array.reshape(len(array), -1) if array.ndim > 1 else array
        frame = pl.DataFrame({"value" if array.ndim == 1 else "values": rows})
    kinds: dict[str, Kind] = {"image": "image"} if "image" in frame.columns else {}
    beside = place.with_name(place.name.replace("images-idx3", "labels-idx1"))
    answers = folder / Path(labels).expanduser() if labels is not None else beside
    notes = [f"an array of {array.dtype}, shape {list(array.shape)}"]
    if labels is not None or (answers != place and answers.is_file()):
        named = _idx_array(find_file(answers))
        if named.ndim != 1 or len(named) != len(array):
            raise DataError(f"{answers}: labels of shape {list(named.shape)} for {len(array)} rows of {place.name}.")
        frame, kinds["label"] = frame.with_columns(label=pl.Series(named.tolist()).cast(pl.String)), "category"
        notes.append(f"labels from {answers.name}")
    entry = Entry("idx", None, len(array), len(array), notes=tuple(notes))
    dataset = Dataset.of(frame, kinds, origin=str(place))
    quarantine = Quarantine(len(array), len(array))
    return dataclasses.replace(dataset, history=(entry,), quarantine=quarantine)


def _idx_array(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    data = read_whole(path, MAX_IDX_BYTES)
    kind, dimensions = (data[2], data[3]) if len(data) >= 4 else (0, 0)
    if data[:2] != b"\0\0" or kind not in IDX_TYPES or not 1 <= dimensions <= 4 or len(data) < 4 + 4 * dimensions:
        raise DataError(f"{path}: is no IDX file (it begins with {data[:4].hex(' ')}).")
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    dtype = np.dtype(IDX_TYPES[kind])
    start = 4 + 4 * dimensions
    if len(data) - start != math.prod(shape) * dtype.itemsize or not math.prod(shape):
        raise DataError(f"{path}: says it holds {shape} values and has {len(data) - start:,} bytes of them.")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _of_folder(root: Path, pattern: str) -> Iterator[Member | Rejected]:
    if not root.is_dir():
        beside = [p.name for p in root.parent.iterdir() if p.is_dir()] if root.parent.is_dir() else []
        raise DataError(
            f"{root}: there is no such folder.{nearest(root.name, beside)} "
            "A relative path starts at the recipe's folder."
        )
    try:
        found = sorted(p for p in root.glob(pattern) if p.is_file())
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"{root}: the pattern {pattern!r} cannot be used: {error}.") from error
    for file in found:
        name = file.relative_to(root).as_posix()
        if _is_hidden(name):
            continue
        try:
            yield name, file.read_bytes()
        except OSError as error:
            yield Rejected(f"not an image: {error}", name=name)


def _of_archive(path: Path, pattern: str) -> Iterator[Member | Rejected]:
    found = sorted(members(path), key=lambda one: one.name if isinstance(one, Rejected) else one[0])
    for one in found:
        name = one.name if isinstance(one, Rejected) else one[0]
        every = pattern in ("**/*", "**")
        if not _is_hidden(name) and (every or PurePosixPath(name).match(pattern.removeprefix("**/"))):
            yield one


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part != ".." for part in name.split("/"))


def _checked(name: str, data: bytes) -> Member | Rejected:
    try:
        open_image(data, name)
    except DataError as error:
        return Rejected(f"not an image: {str(error).partition(': ')[2] or error}", name=name)
    return name, data


def _named(root: Path, name: str) -> Member | Rejected:
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or not place.parts or ":" in name[:3]:
        return Rejected("unsafe path: it leads out of the folder of images", name=name)
    file = root / place
    try:
        if not file.resolve().is_relative_to(root.resolve()):
            return Rejected("unsafe path: a link leads out of the folder of images", name=name)
        return _checked(name, file.read_bytes())
    except (OSError, ValueError) as error:
        return Rejected(f"not there: {getattr(error, 'strerror', None) or error}", name=name)


def _labels(names: Sequence[str], root: str) -> list[pl.Series]:
    """Part and label by the folders of each image; none where all lie side by side."""
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    below = len(_shared(folders)) if len({f[:1] for f in folders}) == 1 and min(map(len, folders)) > 1 else 0
    folders = [one[below:] for one in folders]
    columns: list[pl.Series] = []
    parts = [one[0] if one else "" for one in folders]
    if all(part.lower() in PARTS for part in parts):
        columns.append(pl.Series("part", parts))
        folders = [one[1:] for one in folders]
    labels = [one[0] if one else None for one in folders]
    loose = [name for name, label in zip(names, labels, strict=True) if label is None]
    if loose and len(loose) < len(names):
        raise DataError(
            f"{root}: {len(loose)} images lie beside the folders of classes, such as {loose[0]}; "
            "move them, or narrow the pattern."
        )
    return columns if loose else [*columns, pl.Series("label", labels)]


def _shared(folders: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders that all have in common, but for the last one of any: that is a class, though there be only one."""
    shared: tuple[str, ...] | None = None
    for one in folders:
        if shared is None:
            shared = one[:-1]
        else:
            length = next((i for i, (a, b) in enumerate(zip(shared, one[:-1], strict=False)) if a != b), None)
            shared = shared[: min(len(shared), len(one) - 1)] if length is None else shared[:length]
    return shared or ()
