"""Proof that nothing a forecast is made from has seen what came after its origin."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.report import Check
from groundup.data.prepare.columns import in_order


def look_ahead(
    samples: Any,
    dataset: Dataset,
    prepare: Callable[[Dataset], Dataset] | None = None,
    origins: int = 3,
    seed: int = 0,
) -> Check:
    """Change every row behind a forecast origin, and demand that all inputs up to it stay the same bit for bit.

    ``samples`` is a fitted ``Windows``; ``dataset`` one split as it was before preparation, and ``prepare`` the
    fitted steps (a ``Preprocessing``). It is done for several origins. Numbers behind the origin are drawn anew, gaps
    among them filled and booleans and categories shuffled, so that a filter, a fill or a scale over the whole table
    cannot help but show.
    """
    steps = prepare or (lambda part: part)
    before = samples.encode(steps(dataset))
    if not len(before):
        raise DataError("look_ahead: there is no window to check.")
    rng = np.random.default_rng([seed, len(before)])
    chosen = np.unique(np.linspace(0, len(before) - 1, origins + 2).astype(int)[1:-1])
    compared = 0
    for position in chosen.tolist():
        after = samples.encode(steps(_with_other_future(dataset, int(before.origins[position]), rng)))
        # A gap in the targets may be filled now, so windows are matched by their first row, not by their place.
        ours = {int(row): i for i, row in enumerate(before.rows[: position + 1])}
        theirs = {int(row): i for i, row in enumerate(after.rows) if int(row) in ours}
        absent = [row for row in ours if row not in theirs]
        if absent:
            return Check(
                "no look-ahead",
                False,
                f"the window from row {absent[0]} is gone once the rows behind it are changed",
                _MEND,
            )
        shared = sorted(ours)[-256:]
        inputs, _ = before.batch(np.array([ours[row] for row in shared]))
        others, _ = after.batch(np.array([theirs[row] for row in shared]))
        for name, value in inputs.items():
            same = (value == others[name]).flatten(1)
            if not same.all():
                window = int((~same.all(dim=1)).nonzero()[0])
                saw = f"{name} of the window from row {shared[window]} changes with rows behind its forecast origin"
                return Check("no look-ahead", False, saw, _MEND)
        compared += len(shared)
    return Check(
        "no look-ahead",
        True,
        f"{compared} windows before {len(chosen)} origins stay the same when all behind is changed",
    )


_MEND = "Some step works on the whole table; filter and fill inside the window instead (steps of the samples)."


def _with_other_future(dataset: Dataset, origin: int, rng: np.random.Generator) -> Dataset:
    """The dataset with all columns but times and ids changed in the rows behind ``origin``, a row's number."""
    order = in_order(dataset)
    numbers = dataset.frame["_row"].to_numpy()
    behind = order[int(np.flatnonzero(numbers[order] == origin)[0]) + 1 :]
    changed: dict[str, pl.Series] = {}
    for name in dataset.columns:
        column, kind = dataset.frame[name], dataset.kinds[name]
        if kind == "number":
            values = column.cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
            known = values[np.isfinite(values)]
            reach = 10 * (np.ptp(known) if len(known) else 1.0) + 1
            values[behind] = rng.uniform(-reach, reach, size=len(behind))
            changed[name] = pl.Series(values).fill_nan(None)
        elif kind in ("category", "boolean"):
            positions = np.arange(len(dataset))
            positions[behind] = rng.permutation(behind)
            changed[name] = column[positions]
    return dataclasses.replace(dataset, frame=dataset.frame.with_columns(**changed))
