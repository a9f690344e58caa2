"""Which recipe fits which data: a table, a series, images or text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.use import Use
from groundup.data.drafting.forecasts import draft_forecast, is_series
from groundup.data.drafting.images import draft_images
from groundup.data.drafting.tables import draft_table
from groundup.data.drafting.texts import draft_labelled_text, draft_language_model
from groundup.data.drafting.toml import Draft, Said
from groundup.data.inspection.images import describe_images
from groundup.data.inspection.table import Table, describe_table
from groundup.data.inspection.texts import describe_texts
from groundup.data.opening import Opened

LONG_TEXT = 20.0
"""Words in the mean, from which on a column of a table is taken for documents."""


def draft_recipe(opened: Opened, target: str | None, beside: Path) -> Draft:
    """A recipe for this data whose file will lie in the folder ``beside``. Raises DataError where none fits."""
    if not len(opened.dataset):
        raise DataError(f"{opened.path}: there are no rows to learn from.")
    if opened.form == "table":
        return _for_table(opened, target, beside)
    if opened.form == "images":
        return _for_images(opened, target, beside)
    return _for_text(opened, target, beside)


def write_draft(draft: Draft, file: Path, read: Callable[[Path], object]) -> None:
    """Write the recipe beside its place, have it ``read`` as strictly as any, and only then put it there.

    Raises DataError when there is a file of that name already, or it cannot be written.
    """
    if file.exists():
        raise DataError(f"{file}: exists already, and is never overwritten. Choose another name with out.")
    beside = file.with_name(f".{file.name}.new{file.suffix or '.toml'}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(draft.to_toml(), encoding="utf-8")
        try:
            read(beside)
            beside.rename(file)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{file}: cannot be written: {error}.") from error


def _for_table(opened: Opened, target: str | None, beside: Path) -> Draft:
    if target is None and (column := _only_text(opened.dataset)) is not None:
        return _language_model(opened, column, beside)
    if target is None:
        names = ", ".join(opened.dataset.columns[:30])
        raise DataError(f"{opened.path}: which column is to be predicted? Give --target COLUMN; there is {names}.")
    table = describe_table(opened.dataset, target)
    assert table.target is not None
    if is_series(table):
        head = f"Forecasts {target} from its own past and what was measured beside it: {table.rows:,} rows in time."
        return draft_forecast(opened.dataset, table, source_of(opened, beside), heading(opened, head, _noticed(table)))
    wordy = _text_that_tells(table)
    if wordy is not None:
        texts = describe_texts(opened.dataset, wordy)
        rest = [c.name for c in table.columns if c.name not in (wordy, target)]
        head = f"Tells {target} from the text in {wordy}: {table.rows:,} texts."
        return draft_labelled_text(table, texts, rest, source_of(opened, beside), heading(opened, head, []))
    what = f"one of {len(table.target.classes)} classes" if table.target.task == "classify" else "a number"
    head = (
        f"Predicts {target} ({what}) from {len(table.features)} of {len(table.columns)} columns, {table.rows:,} rows."
    )
    return draft_table(table, source_of(opened, beside), heading(opened, head, _noticed(table)))


def _text_that_tells(table: Table) -> str | None:
    """The column of free text, where there is hardly anything beside it to tell the target by."""
    texts = [drop.column for drop in table.drops if drop.kind == "text"]
    if not texts or len(table.features) > 2:
        return None
    return max(texts, key=lambda name: table.column(name).words)


def _for_images(opened: Opened, target: str | None, beside: Path) -> Draft:
    dataset = opened.dataset
    image = dataset.of_kind("image")[0]
    label = target or "label"
    if label not in dataset.columns:
        raise DataError(
            f"{opened.path}: the images have no column {label!r}; there is {', '.join(dataset.columns)}. "
            "Images of one class lie in a folder of its name."
        )
    images = describe_images(dataset, image, label)
    parts = f"; the column part says in which folder of {_listed(dataset, 'part')} each lay, and is not used"
    noticed = [f"{len(images.copies)} images are near copies of others; look at them with groundup inspect"]
    apart = parts if "part" in dataset.columns else ""
    head = f"Tells {len(images.classes)} classes of images apart, from {images.rows:,} images{apart}."
    return draft_images(
        images, image, label, source_of(opened, beside), heading(opened, head, noticed if images.copies else [])
    )


def _listed(dataset: Dataset, name: str) -> str:
    if name not in dataset.columns:
        return ""
    return ", ".join(sorted(map(str, dataset.frame.get_column(name).drop_nulls().unique())))


def _for_text(opened: Opened, target: str | None, beside: Path) -> Draft:
    if target is not None and target not in opened.dataset.columns:
        raise DataError(f"{opened.path}: these are plain texts, without a column {target!r}; leave --target out.")
    if target or "label" in opened.dataset.columns:
        return _for_table(opened, target or "label", beside)
    return _language_model(opened, "text", beside)


def _only_text(dataset: Dataset) -> str | None:
    """The one column of long texts, where there is one and no other."""
    long = [
        name
        for name in dataset.of_kind("text")
        if float(dataset.frame.get_column(name).cast(pl.String).str.count_matches(r"\S+").mean() or 0) >= LONG_TEXT  # type: ignore[arg-type]
    ]
    return long[0] if len(long) == 1 else None


def _language_model(opened: Opened, column: str, beside: Path) -> Draft:
    texts = describe_texts(opened.dataset, column)
    documents = f"{texts.rows:,} documents" if texts.rows > 1 else "one text"
    head = f"A language model of {documents}, {texts.total_characters:,} characters, {texts.languages[0][0]}."
    return draft_language_model(opened.dataset, texts, source_of(opened, beside), heading(opened, head, []))


def heading(opened: Opened, what: str, noticed: list[str]) -> tuple[str, ...]:
    """What stands at the top of a drafted recipe."""
    steps = (
        "Drafted from the data itself: every choice has its reason beside it, and every line may be changed.\n"
        f"groundup check {opened.name}.toml    proves data and model before anything is spent\n"
        f"groundup train {opened.name}.toml    trains, measures, and writes a report"
    )
    return (what, steps, *(["Noticed:\n" + "\n".join(f"- {line}" for line in noticed)] if noticed else []))


def source_of(opened: Opened, beside: Path) -> Mapping[str, Any]:
    """The recipe's name and its source, whose path starts at the folder that the recipe will lie in."""
    path, start = Path(os.path.abspath(opened.path)), Path(os.path.abspath(beside))
    # A path that climbs to the root says less than an absolute one.
    near = len(Path(os.path.commonpath([path, start])).parts) > 1
    shown = Path(os.path.relpath(path, start)).as_posix() if near else path.as_posix()
    use: Use = opened.source.with_arguments(path=shown)
    why = "; ".join(opened.said)
    return {"name": opened.name, "source": Said(use, f"{why[:1].upper()}{why[1:]}." if why else "")}


def _noticed(table: Table) -> list[str]:
    """What a person should look at, and the recipe does not settle."""
    found = [f"{one} and {other} say the same in other words; one of them would do" for one, other in table.twins[:5]]
    for column in table.features:
        if column.numbers is not None and column.numbers.sentinel is not None:
            value, count = column.numbers.sentinel
            found.append(
                f"{column.name} is {value:g} on {count:,} rows, far from the rest: if that stands for missing, "
                f'declare it in the source, missing = ["{value:g}"]'
            )
        if column.spellings:
            one, other = column.spellings[0]
            found.append(f"{column.name} has categories that differ by case or spaces alone: {one!r} and {other!r}")
    return found[:12]
