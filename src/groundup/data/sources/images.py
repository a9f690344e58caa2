"""Images from folders, one folder a class."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl

from groundup.core.dataset import Dataset, Entry, Kind
from groundup.core.errors import DataError, nearest
from groundup.data.pixels import open_image


def image_folder(path: str | Path, pattern: str = "**/*", folder: Path = Path()) -> Dataset:
    """The images below ``path`` that match ``pattern``, in the columns ``path`` (id), ``image`` (bytes) and ``label``.

    The label, a category, is the first folder below ``path``; where all images lie in ``path`` itself there is none.
    Hidden files are passed over. Each image is decoded once here, so that a file that is none is named, with its
    reason, in the ledger, and left out. Raises DataError when the folder is not there or holds no image, or when some
    images have a folder and others do not.
    """
    root = folder / Path(path).expanduser()
    if not root.is_dir():
        beside = [p.name for p in root.parent.iterdir() if p.is_dir()] if root.parent.is_dir() else []
        raise DataError(
            f"{root}: there is no such folder.{nearest(root.name, beside)} "
            "A relative path starts at the recipe's folder."
        )
    found = sorted(p for p in root.glob(pattern) if p.is_file())
    found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    names: list[str] = []
    images: list[bytes] = []
    refused: list[tuple[str, str]] = []
    for file in found:
        name = file.relative_to(root).as_posix()
        try:
            data = file.read_bytes()
            open_image(data, name)
        except (OSError, DataError) as error:
            refused.append((name, f"not an image: {str(error).partition(': ')[2] or error}"))
            continue
        names.append(name)
        images.append(data)
    if not names:
        tried = (
            f"{len(found)} files match {pattern!r}, and none is an image: {refused[0][0]}"
            if found
            else f"no file matches {pattern!r}"
        )
        raise DataError(f"{root}: {tried}.")
    labels = [name.partition("/")[0] if "/" in name else None for name in names]
    loose = [name for name, label in zip(names, labels, strict=True) if label is None]
    if loose and len(loose) < len(names):
        raise DataError(
            f"{root}: {len(loose)} images lie beside the folders of classes, such as {loose[0]}; "
            "move them, or narrow the pattern."
        )
    kinds: dict[str, Kind] = {"path": "id", "image": "image"}
    frame = pl.DataFrame({"path": names, "image": images})
    if not loose:
        frame, kinds["label"] = frame.with_columns(label=pl.Series(labels)), "category"
    notes = (f"{len(found)} files, {len(names)} images, {len(refused)} that are none",)
    entry = Entry("image_folder", None, len(found), len(names), removed=tuple(refused), notes=notes)
    return dataclasses.replace(Dataset.of(frame, kinds, origin=str(root)), history=(entry,))
