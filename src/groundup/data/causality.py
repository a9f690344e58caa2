"""Proof that nothing a forecast is made from has seen what came after its origin, and that nothing of the held-out rows
reaches those of train before the split; what would is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.contract import contract_of, declared
from groundup.core.dataset import ROW, Dataset
from groundup.core.errors import DataError, RecipeError
from groundup.core.preprocessing import step_name
from groundup.core.report import Check
from groundup.data.prepare.columns import in_order
from groundup.data.series.ahead import looks_ahead

MOST_LOOKED_AT = 20_000
"""Rows, from the first in time, on which a step that declares nothing is tried out."""


def refuse_look_ahead(step: Any, where: str, dataset: object = None) -> None:
    """Raises RecipeError for a step over the table that makes rows from rows behind them.

    It goes by what the step declares. Where that is nothing, and the step sees all rows at once, it is tried out on
    ``dataset``, where that is in memory: rows behind an origin are changed, and those before it must come out the same.
    """
    ahead = looks_ahead(step)
    if ahead:
        raise RecipeError(
            f"{where}: {step_name(step)} looks ahead: what it makes of a row depends on rows behind it. Before a split "
            f"by time, or for a forecast, that gives the answer away, and scores come out too good. {_instead(step)}"
        )
    tried = ahead is None and contract_of(step) in ("whole", "keyed")
    if tried and isinstance(dataset, Dataset) and len(dataset) > 1:
        some = dataset.take(in_order(dataset)[:MOST_LOOKED_AT])
        check = step_look_ahead(step, some, origins=1)
        if not check.passed:
            raise RecipeError(f"{where}: {step_name(step)} looks ahead: {check.saw}. {_instead(step)}")


def step_look_ahead(step: Callable[[Dataset], Dataset], dataset: Dataset, origins: int = 3, seed: int = 0) -> Check:
    """Change every row behind an origin, and demand that a step makes the same of all rows up to it, bit for bit.

    ``step`` is any step over a table, fitted where it learns; ``dataset`` is what it is handed. It is done for several
    origins in order of time. Of columns that only one of both has it says so.
    """
    before = step(dataset).frame
    order = dataset.frame[ROW].to_numpy()[in_order(dataset)]
    rng = np.random.default_rng([seed, len(dataset)])
    chosen = np.unique(np.linspace(0, len(order) - 1, origins + 2).astype(int)[1:-1])
    for position in chosen.tolist():
        past = pl.Series(order[: position + 1])
        after = step(_with_other_future(dataset, int(order[position]), rng)).frame
        ours, theirs = (part.filter(pl.col(ROW).is_in(past.implode())) for part in (before, after))
        if not ours[ROW].equals(theirs[ROW]):
            saw = f"with rows behind row {order[position]} changed, other rows before it are left"
            return Check("no look-ahead", False, saw, _MEND)
        for name in before.columns:
            if name not in after.columns or not ours[name].equals(theirs[name], null_equal=True):
                saw = f"{name!r} in rows up to row {order[position]} changes with rows behind it"
                return Check("no look-ahead", False, saw, _MEND)
    saw = f"rows before {len(chosen)} origins stay the same when all behind is changed"
    return Check("no look-ahead", True, saw)


def is_apart(step: Any) -> bool:
    """Whether a step declares that rows do not change one another, but for what several of them have in common."""
    return contract_of(step) in ("row-local", "pairwise") or declared(step, "compares", False) is True


def refuse_across_split(
    steps: Sequence[tuple[str, Any]], dataset: Dataset, train: npt.NDArray[Any], held_out: npt.NDArray[Any]
) -> None:
    """Raises RecipeError for a step before the split that carries values of held-out rows into those of train.

    ``steps`` are pairs of where each stands and the step, in order; ``dataset`` is what the first is handed; ``train``
    and ``held_out`` are numbers of its rows. Every value of the held-out rows is changed, and the rows of train must
    come out the same, bit for bit: a mean, a fill or a filter over all rows cannot help but show. Columns by whose
    values a step says that rows belong together (``by``) stay. At most 20,000 rows take part. Which rows are removed
    may depend on others, as that of duplicates does.
    """
    if len(dataset) > MOST_LOOKED_AT:
        dataset = dataset.take(np.linspace(0, len(dataset) - 1, MOST_LOOKED_AT).astype(np.int64))
    numbers = dataset.frame[ROW].to_numpy()
    held = np.flatnonzero(np.isin(numbers, np.setdiff1d(held_out, train)))
    if not len(held) or len(held) == len(dataset):
        return
    kept = pl.Series(numbers[np.isin(numbers, train)])
    last = max((i for i, (_, step) in enumerate(steps) if not is_apart(step)), default=-1)
    keys = {name for _, step in steps for name in declared(step, "by") or ()}
    ours, theirs = dataset, _with_others(dataset, held, keys, np.random.default_rng(len(dataset)))
    for where, step in steps[: last + 1]:
        ours, theirs = step(ours), step(theirs)
        if is_apart(step):
            continue
        one, other = (part.frame.filter(pl.col(ROW).is_in(kept.implode())) for part in (ours, theirs))
        one = one.join(other.select(ROW), on=ROW, how="semi", maintain_order="left")
        other = one.select(ROW).join(other, on=ROW, how="left", maintain_order="left")
        for name in one.columns:
            if name not in other.columns or not one[name].equals(other[name], null_equal=True):
                raise RecipeError(
                    f"{where}: {step_name(step)} carries values across the split: {name!r} in rows of train changes "
                    "with rows of validation and test. Put it under prepare, where it is fitted on train alone or sees "
                    "each part by itself; or split so that rows which belong together stay in one part (by_time, "
                    "grouped)."
                )


def _with_others(
    dataset: Dataset, positions: npt.NDArray[Any], keys: Collection[str], rng: np.random.Generator
) -> Dataset:
    """The dataset with all columns but ``keys``, times, ids and images changed at these positions."""
    changed: dict[str, pl.Series] = {}
    for name in (name for name in dataset.columns if name not in keys):
        column, kind = dataset.frame[name], dataset.kinds[name]
        if column.dtype.is_numeric() and kind == "number":
            values = column.cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
            known = values[np.isfinite(values)]
            reach = 10 * (np.ptp(known) if len(known) else 1.0) + 1
            values[positions] = rng.uniform(-reach, reach, size=len(positions))
            drawn = pl.Series(values).fill_nan(None)
            changed[name] = drawn.round().cast(column.dtype, strict=False) if column.dtype.is_integer() else drawn
        elif column.dtype == pl.String and kind == "text":
            changed[name] = column.clone().scatter(positions, column[positions].fill_null("") + " 0")
        elif kind in ("category", "boolean") and len(known_values := column.value_counts(sort=True).drop_nulls()):
            changed[name] = column.clone().scatter(positions, known_values[name][-1])
    return dataclasses.replace(dataset, frame=dataset.frame.with_columns(**changed))


def _instead(step: Any) -> str:
    """What to write in place of a step that looks ahead."""
    made = getattr(step, "func", step)
    inner = [one for one in getattr(step, "steps", ()) if looks_ahead(one)]
    if any(getattr(getattr(one, "func", one), "AHEAD", None) == "unless causal" for one in inner):
        return f"Set causal = true in {step_name(inner[0])}; it then sees the last rows alone."
    if inner:
        return f"In place of {step_name(inner[0])} take forward_fill, or fill inside the window (steps of Windows)."
    if hasattr(made, "causal"):
        return "Set causal = true; it then sees the last rows alone."
    if hasattr(made, "method"):
        return 'Take method = "forward", or fill inside the window (steps of Windows).'
    return "Filter and fill inside the window instead (steps of Windows), or from the last rows alone."


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
