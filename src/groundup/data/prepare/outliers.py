"""Values far from the rest, drawn in to bounds that were learned on train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np

from groundup.core.dataset import Dataset
from groundup.data.prepare.columns import choose, learned_columns, numbers, present_numbers, with_columns

_DEFAULT_K = {"iqr": 1.5, "k_sigma": 3.0, "mad": 3.5, "quantile": 0.01}


@dataclasses.dataclass(frozen=True)
class ClipOutliers:
    """Values outside learned bounds become the bound; how many is noted, column by column.

    The bounds, from train's values that are there (quantiles interpolated linearly):

    - ``iqr``: [q25 - k IQR, q75 + k IQR], IQR = q75 - q25, k = 1.5 (Tukey, Exploratory Data Analysis, 1977)
    - ``k_sigma``: mean +- k deviations (population), k = 3
    - ``mad``: median +- k 1.4826 MAD, MAD = median |x - median|, k = 3.5; 1.4826 makes it the deviation of
      a normal distribution (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993)
    - ``quantile``: [quantile k, quantile 1 - k], k = 0.01

    A column whose spread is 0 by that measure (more than half of its values equal, say) tells nothing of
    outliers: it is left as it is, and that is noted. Without ``columns`` all number columns.
    """

    columns: Sequence[str] | None = None
    method: Literal["iqr", "k_sigma", "mad", "quantile"] = "iqr"
    k: float | None = None
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        limit = 0.5 if self.method == "quantile" else np.inf
        if self.k is not None and not 0 < self.k < limit:
            raise ValueError(f"k: read {self.k}, expected more than 0 and less than {limit} for {self.method}.")

    def fit(self, train: Dataset) -> Self:
        """Learn each column's bounds; None where it has no spread."""
        k = _DEFAULT_K[self.method] if self.k is None else self.k
        columns = {}
        for name in choose(train, self.columns, self.exclude, ("number",), "ClipOutliers"):
            low, high = bounds(present_numbers(train, name, "ClipOutliers"), self.method, k)
            columns[name] = {"low": low, "high": high} if low < high else {"low": None, "high": None}
        return dataclasses.replace(self, learned={"rows": len(train), "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns within their bounds, float64."""
        changed, notes = {}, []
        for name, entry in learned_columns(self.learned, dataset, "ClipOutliers").items():
            values = numbers(dataset, name, "ClipOutliers")
            low, high = entry["low"], entry["high"]
            if low is None:
                notes.append(f"{name}: no spread by {self.method} in train, so it is not clipped")
            else:
                below, above = int((values < low).sum()), int((values > high).sum())
                if below or above:
                    notes.append(f"{name}: {below} values below {low:.6g} and {above} above {high:.6g} clipped")
                values = values.clip(low, high)
            changed[name] = values
        return with_columns(dataset, changed, notes)


def bounds(values: np.ndarray[Any, Any], method: str, k: float) -> tuple[float, float]:
    """The range of values [n] that are no outliers; both ends equal when there is no spread."""
    if method == "quantile":
        low, high = np.quantile(values, [k, 1 - k])
        return float(low), float(high)
    if method == "k_sigma":
        centre, reach = np.mean(values), k * np.std(values)
    elif method == "mad":
        centre = np.median(values)
        reach = k * 1.4826 * np.median(np.abs(values - centre))
    else:
        low, high = np.quantile(values, [0.25, 0.75])
        return float(low - k * (high - low)), float(high + k * (high - low))
    return float(centre - reach), float(centre + reach)
