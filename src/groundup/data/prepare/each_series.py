"""Filters and fills along the series of a whole table, one series for each key."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.preprocessing import step_name
from groundup.core.use import Use, make
from groundup.data.prepare.columns import choose, numbers
from groundup.data.prepare.groups import AlongTime, Groups, groups_of, refuse_equal_times
from groundup.data.series.ahead import looks_ahead, reach

Values = npt.NDArray[np.float64]
Step = Callable[..., Values]


@dataclasses.dataclass(frozen=True)
class EachSeries:
    """Steps along time (``groundup.data.series``) over every series of a table, one for each value of ``by``.

    Rows stand in order of the ``time`` column, of the only one of kind time where none is named, or as they were read
    where there is none. ``columns`` are numbers, all of them when not given; where a value is missing a filter leaves
    it so. Nothing is learned. It looks ahead where one of its steps does, and is then refused before a split by time
    and in a forecast; ``causal = true``, each filter's default, does not. Only whole series may be handed to it.
    """

    CONTRACT: ClassVar = "keyed"

    steps: Sequence[Step]
    columns: Sequence[str] | None = None
    by: Sequence[str] = ()
    time: str | None = None
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        # A bare name is one of our own steps; a list of what was made is as good as what was written.
        made = [make(Use(s), "steps", trusted=("groundup",)) if isinstance(s, str) else s for s in self.steps]
        if not made:
            raise ValueError("steps: read none, expected at least one, such as { use = 'median_filter', width = 5 }.")
        object.__setattr__(self, "steps", tuple(made))
        for i, step in enumerate(made):
            try:
                step(np.zeros((1, 1000, 1)))
            except (TypeError, ValueError) as error:
                raise ValueError(f"steps[{i}]: {step_name(step)}: {error}") from error

    @property
    def halo(self) -> tuple[int, int] | None:
        """How many rows before and behind decide what a row becomes; None where that is not limited, or not in order.

        One long series without a key may be taken in stretches with so many rows around each.
        """
        reaches = [reach(step) for step in self.steps]
        if self.time is not None or None in reaches:
            return None
        known = [one for one in reaches if one is not None]
        return sum(one[0] for one in known), sum(one[1] for one in known)

    @property
    def looks_ahead(self) -> bool | None:
        """Whether what becomes of a row may depend on rows behind it; None where a step does not say."""
        said = [looks_ahead(step) for step in self.steps]
        return True if True in said else None if None in said else False

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns with every step carried out, float64; how many cells were changed and filled is noted."""
        names = choose(dataset, self.columns, (*self.exclude, *self.by), ("number",), "EachSeries")
        groups = groups_of(dataset, self.by, self.time, "EachSeries")
        before = np.stack([numbers(dataset, n, "EachSeries").fill_null(np.nan).to_numpy() for n in names], axis=1)
        _refuse_endless(dataset, before, names)
        steps = [self._along_time(step, groups, dataset) for step in self.steps]
        after = groups.over(before, *steps)
        changed = {name: pl.Series(name, after[:, i]).fill_nan(None) for i, name in enumerate(names)}
        notes = [line for i, name in enumerate(names) for line in _said(name, before[:, i], after[:, i])]
        return dataset.with_frame(dataset.frame.with_columns(**changed)).note(*notes)

    def _along_time(self, step: Step, groups: Groups, dataset: Dataset) -> tuple[str, AlongTime]:
        """A step with its name, as it is carried out over series. Raises DataError where equal times forbid it."""
        name = f"EachSeries: {step_name(step)}"
        if "times" not in inspect.signature(getattr(step, "func", step)).parameters:
            return name, partial(_without_times, step)
        if groups.times is not None and getattr(step, "keywords", {}).get("method") not in (None, "linear"):
            refuse_equal_times(groups, dataset, name)
        return name, partial(_with_times, step)


def _with_times(step: Step, values: Values, times: Values | None) -> Values:
    return step(values, times=times)


def _without_times(step: Step, values: Values, times: Values | None) -> Values:
    return step(values)


def _refuse_endless(dataset: Dataset, values: Values, names: Sequence[str]) -> None:
    endless = np.isinf(values)
    if endless.any():
        row, column = (int(i) for i in np.argwhere(endless)[0])
        raise DataError(
            f"EachSeries: column {names[column]!r} is infinite at {dataset.row_names()[row]} ({int(endless.sum())} "
            "such values). Declare such cells as missing, or clean them first."
        )


def _said(name: str, before: Values, after: Values) -> list[str]:
    """What became of a column, for the ledger."""
    was, is_ = np.isnan(before), np.isnan(after)
    told = [
        (int((before != after)[~was & ~is_].sum()), "values changed"),
        (int((was & ~is_).sum()), "gaps filled"),
        (int((~was & is_).sum()), "values blanked"),
    ]
    return [f"{name}: {count} {what}" for count, what in told if count]
