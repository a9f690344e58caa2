"""Steps over columns, and over rows by what their columns lack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from groundup.core.contract import contract
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError, RecipeError
from groundup.data.prepare.filling import sparse_rows


@contract("row-local")
def drop_columns(dataset: Dataset, columns: Sequence[str]) -> Dataset:
    """The dataset without these columns. Raises DataError, with the nearest name, for one that is not there."""
    names = [columns] if isinstance(columns, str) else list(columns)
    dataset.need(*names, by="drop_columns")
    if not set(dataset.columns) - set(names):
        raise DataError("drop_columns: these are all the columns there are; nothing would be left.")
    kinds = {name: kind for name, kind in dataset.kinds.items() if name not in names}
    return dataset.with_frame(dataset.frame.drop(names), kinds).note(f"dropped {', '.join(names)}")


@contract("row-local")
def drop_missing(dataset: Dataset, columns: Sequence[str] | None = None, share: float = 0.0) -> Dataset:
    """Drops rows in which more than ``share`` of ``columns`` (all when not given) are missing, NaN included.

    With ``share`` 0 a row goes for one missing value. It works before the split, on all rows alike; ``DropMissing``
    under ``prepare`` drops from train alone. Raises DataError for a column that is not there.
    """
    if not 0 <= share < 1:
        raise RecipeError(f"drop_missing.share: read {share}, expected at least 0 and less than 1.")
    dataset.need(*(columns or ()), by="drop_missing")
    reasons = sparse_rows(dataset, dataset.columns if columns is None else list(columns), share)
    kept = np.ones(len(dataset), dtype=bool)
    kept[list(reasons)] = False
    return dataset.keep(kept, reasons)
