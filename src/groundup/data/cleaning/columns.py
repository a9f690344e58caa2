"""Steps over whole columns."""

from __future__ import annotations

from collections.abc import Sequence

from groundup.core.contract import contract
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError


@contract("row-local")
def drop_columns(dataset: Dataset, columns: Sequence[str]) -> Dataset:
    """The dataset without these columns. Raises DataError, with the nearest name, for one that is not there."""
    names = [columns] if isinstance(columns, str) else list(columns)
    dataset.need(*names, by="drop_columns")
    if not set(dataset.columns) - set(names):
        raise DataError("drop_columns: these are all the columns there are; nothing would be left.")
    kinds = {name: kind for name, kind in dataset.kinds.items() if name not in names}
    return dataset.with_frame(dataset.frame.drop(names), kinds).note(f"dropped {', '.join(names)}")
