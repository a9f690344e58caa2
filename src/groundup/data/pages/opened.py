"""From a path to its page, and what a recipe adds to one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundup.core.dataset import Splits
from groundup.core.errors import DataError
from groundup.core.page import Section, ledger_table
from groundup.core.preprocessing import Preprocessing
from groundup.data.drafting import draft_recipe
from groundup.data.opening import open_data
from groundup.data.pages.page import MADE, Inspected, inspect_dataset
from groundup.data.pages.splits import augmented_section, fitted_section, ledger_section, split_sections


def inspect_path(path: str | Path, target: str | None = None) -> tuple[str, Inspected]:
    """A short name and the page of a file or folder, with the recipe that would be drafted for it where one fits."""
    opened = open_data(path)
    try:
        recipe = draft_recipe(opened, target, Path()).to_toml()
    except DataError:  # nothing can be learned from it, or no target was named: it can still be looked at
        recipe = ""
    read = [entry for entry in opened.dataset.history if entry.notes or entry.removed]
    extra = [Section("How it was read", ledger_table(read))] if read else []
    return opened.name, inspect_dataset(
        opened.dataset, opened.name, target, recipe=recipe, said=opened.said, behind=extra
    )


def recipe_sections(
    splits: Splits, leaks: Sequence[Any], target: str | None, preprocessing: Preprocessing, augmented: Sequence[Any]
) -> list[Section]:
    """What a recipe adds to a page: the parts, drift, leaks, statistics, augmentation and the ledger."""
    sections = split_sections(splits, leaks, target)
    fitted = fitted_section(preprocessing.prepare, preprocessing.samples)
    shown = augmented_section(augmented)
    before = [entry for entry in splits.train.history if entry.split is None]
    return [*sections, *(s for s in (fitted, shown) if s is not None), ledger_section(before)]


def write_page(html: str, file: Path) -> Path:
    """Write a page; one of ours is written over, any other file is not. Raises DataError where it cannot be written."""
    if file.exists() and (not file.is_file() or MADE not in file.read_text(encoding="utf-8", errors="replace")):
        raise DataError(f"{file}: exists already, and is no page of {MADE}. Choose another name with out.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(html, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file}: cannot be written: {error}.") from error
    return file
