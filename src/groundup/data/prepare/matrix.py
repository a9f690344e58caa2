"""Number columns as one standardised matrix: what steps that look at whole rows learn from and work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.prepare.columns import numbers, present_numbers

Values = npt.NDArray[np.float64]


def learn_scales(train: Dataset, names: Sequence[str], by: str) -> dict[str, dict[str, float]]:
    """Each column's mean, deviation (1 where it is constant) and median, of the values that are there."""
    learned = {}
    for name in names:
        values = present_numbers(train, name, by)
        deviation = float(np.std(values))
        learned[name] = {
            "mean": float(np.mean(values)),
            "deviation": deviation if deviation > 0 else 1.0,
            "median": float(np.median(values)),
        }
    return learned


def standardised(dataset: Dataset, columns: Mapping[str, Any], by: str) -> Values:
    """These columns [N, F], (x - mean) / deviation, NaN where a value is missing. Raises DataError for infinity."""
    found = np.empty((len(dataset), len(columns)))
    for i, (name, entry) in enumerate(columns.items()):
        values = numbers(dataset, name, by).fill_null(np.nan).to_numpy()
        endless = np.flatnonzero(np.isinf(values))
        if len(endless):
            row = dataset.row_names()[int(endless[0])]
            raise DataError(
                f"{by}: column {name!r} is infinite at {row} ({len(endless)} such values); declare such cells as "
                "missing, or clip them first."
            )
        found[:, i] = (values - entry["mean"]) / entry["deviation"]
    return found


def listed(matrix: Values) -> list[list[float | None]]:
    """A matrix as JSON can hold it: null for NaN."""
    return [[None if np.isnan(value) else value for value in row] for row in matrix.tolist()]


def unlisted(rows: Sequence[Sequence[float | None]], width: int) -> Values:
    """Such a matrix read back [N, width]."""
    return np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=np.float64).reshape(-1, width)
