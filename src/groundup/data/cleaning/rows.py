"""Steps that remove whole rows before the split: those without a label, and those of classes too rare to be learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from groundup.core.contract import contract
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.prepare.columns import spellings


@contract("row-local")
def drop_without(dataset: Dataset, columns: Sequence[str]) -> Dataset:
    """Keeps the rows that have a value in each of ``columns``; a target is never invented. NaN is no value."""
    names = [columns] if isinstance(columns, str) else list(columns)
    dataset.need(*names, by="drop_without")
    reasons: dict[int, str] = {}
    for name in names:
        column = dataset.frame[name]
        absent = column.is_null() | column.is_nan() if column.dtype.is_float() else column.is_null()
        for position in absent.arg_true().to_list():
            reasons.setdefault(position, f"no value in {name}")
    kept = np.ones(len(dataset), dtype=bool)
    kept[list(reasons)] = False
    return dataset.keep(kept, reasons)


@contract("whole")
def drop_rare(dataset: Dataset, column: str, at_least: int = 5) -> Dataset:
    """Keeps the rows whose value in ``column`` stands on ``at_least`` rows or more, and those without a value.

    A class on two or three rows can be neither learned nor measured. Raises DataError when nothing would be left.
    """
    if at_least < 1:
        raise DataError(f"drop_rare: at_least is {at_least}; expected 1 or more.")
    dataset.need(column, by="drop_rare")
    values = spellings(dataset.frame[column]).alias("value")
    sizes = values.to_frame().select(pl.len().over("value")).to_series().to_numpy()
    kept = (sizes >= at_least) | values.is_null().to_numpy()
    if len(values) and not kept.any():
        raise DataError(f"drop_rare: no value of {column!r} stands on {at_least} rows or more; nothing would be left.")
    reasons = {int(i): f"rare {column}: {values[int(i)]!r} on {int(sizes[i])} rows" for i in np.flatnonzero(~kept)}
    return dataset.keep(kept, reasons)
