"""Values far from the rest of their column: drawn in, flagged, blanked, or their rows dropped from train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import polars as pl

from groundup.core.contract import Contract
from groundup.core.dataset import Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.expressions import Asked, Columns, Expressed, ask, carried
from groundup.core.statistics import Moments, Quantiles
from groundup.data.prepare.columns import (
    asked_moments,
    choose,
    known_moments,
    known_numbers,
    learned_columns,
    need_some,
    numbers,
)
from groundup.data.prepare.groups import Groups, groups_of
from groundup.data.series.windowed import local_median, local_spread

Action = Literal["clip", "flag", "blank", "drop"]

_DEFAULT_K = {"iqr": 1.5, "k_sigma": 3.0, "mad": 3.5, "quantile": 0.01, "hampel": 3.0}


@dataclasses.dataclass(frozen=True)
class Outliers:
    """Values outside bounds, column by column; ``action`` says what becomes of them, and how many is noted.

    The bounds, from train's values that are there (quantiles interpolated linearly):

    - ``iqr``: [q25 - k IQR, q75 + k IQR], IQR = q75 - q25, k = 1.5 (Tukey, Exploratory Data Analysis, 1977)
    - ``k_sigma``: mean +- k deviations (population), k = 3
    - ``mad``: median +- k 1.4826 MAD, MAD = median |x - median|, k = 3.5; 1.4826 makes it the deviation of
      a normal distribution (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993)
    - ``quantile``: [quantile k, quantile 1 - k], k = 0.01
    - ``hampel``: median +- k 1.4826 MAD of the last ``width`` rows of the same series (``causal`` false: of those
      around the row), k = 3; ``by`` tells series apart, ``time`` orders their rows as in ``Fill``. Nothing is learned.

    ``clip`` puts the bound in the value's place (hampel: the median), ``blank`` leaves it missing, to be filled;
    ``flag`` adds a boolean column ``NAME_outlier`` and changes nothing; ``drop`` drops the row from train, and
    elsewhere only counts it. A column whose spread is 0 by that measure (more than half of its values equal, say)
    tells nothing of outliers: it is left as it is, and that is noted. Without ``columns`` all number columns.
    Learned from pieces: exact up to 32,768 values, then quantiles are near in rank.
    """

    columns: Sequence[str] | None = None
    method: Literal["iqr", "k_sigma", "mad", "quantile", "hampel"] = "iqr"
    action: Action = "clip"
    k: float | None = None
    width: int = 25
    causal: bool = True
    by: Sequence[str] = ()
    time: str | None = None
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        limit = 0.5 if self.method == "quantile" else np.inf
        if self.k is not None and not 0 < self.k < limit:
            raise ValueError(f"k: read {self.k}, expected more than 0 and less than {limit} for {self.method}.")
        if self.width < 1 or not (self.causal or self.width % 2):
            raise ValueError(f"width: read {self.width}, expected at least 1, and odd where causal = false.")
        if self.by and self.method != "hampel":
            raise ValueError(f"by: {self.method} has the same bounds for all rows; only hampel goes by series.")

    @property
    def CONTRACT(self) -> Contract:
        """What a call must see: whole series for hampel, else rows one by one."""
        return "keyed" if self.method == "hampel" else "fitted"

    @property
    def looks_ahead(self) -> bool:
        """Whether what becomes of a row may depend on rows behind it."""
        return self.method == "hampel" and not self.causal

    @property
    def halo(self) -> tuple[int, int] | None:
        """How many rows before and behind decide what a row becomes, where there is no key."""
        if self.method != "hampel" or self.time is not None:
            return None
        return (self.width - 1, 0) if self.causal else (self.width // 2, self.width // 2)

    def fit(self, train: Dataset) -> Self:
        """Learn each column's bounds; None where it has no spread."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> dict[str, Any]:
        """What some rows of train tell of each column's spread."""
        found: dict[str, Any] | None = ask(self, shard)
        if found is not None:
            return found
        return {"rows": len(shard), "columns": {name: self._told(shard, name) for name in self._choose(shard)}}

    def asked(self, columns: Columns) -> Asked | None:
        """The same where it is known from moments, as expressions."""
        if self.method != "k_sigma":
            return None

        def state(rows: int, found: Mapping[str, Moments]) -> dict[str, Any]:
            told = {name: {"known": one.count, "told": one.state} for name, one in found.items()}
            return {"rows": rows, "columns": told}

        return asked_moments(columns, self._choose(columns.like), "Outliers", state)

    def _choose(self, dataset: Dataset) -> list[str]:
        chosen = choose(dataset, self.columns, (*self.exclude, *self.by), ("number",), "Outliers")
        for flag in (f"{name}_outlier" for name in chosen if self.action == "flag"):
            if flag in dataset.frame.columns:
                raise DataError(f"Outliers: the flag {flag!r} would replace a column of that name; rename it.")
        return chosen

    def _told(self, shard: Dataset, name: str) -> dict[str, Any]:
        """How many of a column's values are there, and how they lie."""
        if self.method == "k_sigma":
            moments = known_moments(shard, name, "Outliers")
            return {"known": moments.count, "told": moments.state}
        values = known_numbers(shard, name, "Outliers")
        return {"known": len(values), "told": None if self.method == "hampel" else Quantiles.of(values).state}

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """What both tell together."""
        learn: Any = Moments if self.method == "k_sigma" else Quantiles
        columns = {}
        for name, first in one["columns"].items():
            second = other["columns"][name]
            told = first["told"]
            if told is not None:
                told = learn.from_state(told).merge(learn.from_state(second["told"])).state
            columns[name] = {"known": first["known"] + second["known"], "told": told}
        return {"rows": one["rows"] + other["rows"], "columns": columns}

    def finish(self, state: dict[str, Any]) -> Self:
        """The step with its bounds."""
        k = _DEFAULT_K[self.method] if self.k is None else self.k
        columns: dict[str, Any] = {}
        for name, found in state["columns"].items():
            need_some(found["known"], state["rows"], name, "Outliers")
            columns[name] = {}
            if found["told"] is not None:
                low, high = bounds_of(found["told"], self.method, k)
                columns[name] = {"low": low, "high": high} if low < high else {"low": None, "high": None}
        return dataclasses.replace(self, learned={"rows": state["rows"], "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset with the action carried out; numbers become float64 where it changes them."""
        found = carried(self, dataset)
        return found if found is not None else self._acted(dataset)

    def expressed(self, columns: Columns) -> Expressed | None:
        """The same with learned bounds, where all rows stay, as expressions."""
        if self.method == "hampel" or self.action == "drop":
            return None
        known = learned_columns(self.learned, columns.like, "Outliers")
        changed, kinds, counts = {}, dict[str, Kind](), dict[str, pl.Expr]()
        for name, entry in known.items():
            values, low, high = columns.number(name, "Outliers"), entry["low"], entry["high"]
            far = pl.lit(False)
            if low is not None:
                below, above = values < low, values > high
                counts |= {f"{name}:below": below.sum(), f"{name}:above": above.sum()}
                far = (below | above).fill_null(False)
            if self.action == "flag":
                changed[f"{name}_outlier"], kinds[f"{name}_outlier"] = far, "boolean"
            elif low is None:
                changed[name], kinds[name] = values, "number"
            else:
                clipped = _clipped(values, low, high, name in columns.whole)
                changed[name] = clipped if self.action == "clip" else pl.when(~far).then(values)
                kinds[name] = "number"

        def notes(counts: Mapping[str, int]) -> list[str]:
            return [
                line
                for name, entry in known.items()
                for line in _lines(self, name, entry, counts.get(f"{name}:below", 0), counts.get(f"{name}:above", 0))
            ]

        told = {n: [f"{n}:below", f"{n}:above"] for n in changed if n in known and known[n]["low"] is not None}
        whole = columns.whole.intersection(changed) if self.action == "clip" else ()
        return Expressed(changed, kinds, counts, notes, told, whole)

    def _acted(self, dataset: Dataset) -> Dataset:
        """The dataset judged by neighbours, or with rows dropped."""
        changed: dict[str, pl.Series] = {}
        kinds: dict[str, Kind] = {}
        notes: list[str] = []
        outlying = np.zeros(len(dataset), dtype=bool)
        first: dict[int, str] = {}
        columns = learned_columns(self.learned, dataset, "Outliers")
        groups = groups_of(dataset, self.by, self.time, "Outliers") if self.method == "hampel" else None
        for name, entry in columns.items():
            values = numbers(dataset, name, "Outliers")
            if groups is None:
                far, instead, lines = _beyond(self, name, values, entry)
            else:
                far, instead, lines = _apart(self, name, values, groups)
            notes += lines
            if self.action == "clip":
                changed[name], kinds[name] = instead, "number"
            elif self.action == "blank":
                changed[name], kinds[name] = values.set(far, None), "number"
            elif self.action == "flag":
                changed[f"{name}_outlier"], kinds[f"{name}_outlier"] = far, "boolean"
            else:
                outlying |= far.to_numpy()
                for position in far.arg_true().to_list():
                    first.setdefault(position, f"outlier: {name} is {values[position]:.6g}")
        after = dataset.with_frame(dataset.frame.with_columns(**changed), kinds).note(*notes)
        if self.action == "drop" and outlying.any():
            if dataset.split == "train":
                return after.keep(~outlying, first)
            return after.note(f"{int(outlying.sum())} rows with outliers stay, since this is not train")
        return after


@dataclasses.dataclass(frozen=True)
class ClipOutliers:
    """Values outside learned bounds become the bound; how many is noted, column by column.

    The same as ``Outliers`` with ``action = "clip"``, where the bounds are explained. Without ``columns`` all number
    columns; one whose spread is 0 is left as it is, and that is noted.
    """

    columns: Sequence[str] | None = None
    method: Literal["iqr", "k_sigma", "mad", "quantile"] = "iqr"
    k: float | None = None
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self._step()

    def fit(self, train: Dataset) -> Self:
        """Learn each column's bounds; None where it has no spread."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> dict[str, Any]:
        """What some rows of train tell of each column's spread."""
        return self._step().partial(shard)

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """What both tell together."""
        return self._step().merge(one, other)

    def finish(self, state: dict[str, Any]) -> Self:
        """The step with its bounds."""
        return dataclasses.replace(self, learned=self._step().finish(state).learned)

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns within their bounds, float64."""
        return self._step()(dataset)

    def asked(self, columns: Columns) -> Asked | None:
        """What is asked of some rows of train, where it can be asked by expressions."""
        return self._step().asked(columns)

    def expressed(self, columns: Columns) -> Expressed | None:
        """The columns within their bounds, as expressions."""
        return self._step().expressed(columns)

    def _step(self) -> Outliers:
        return Outliers(self.columns, self.method, "clip", self.k, exclude=self.exclude, learned=self.learned)


_DONE = {"clip": "clipped", "blank": "blanked", "flag": "flagged", "drop": "found"}


def _lines(step: Outliers, name: str, entry: Mapping[str, Any], below: int, above: int) -> list[str]:
    """Lines for the ledger about values outside learned bounds."""
    if entry["low"] is None:
        return [f"{name}: no spread by {step.method} in train, so it is left as it is"]
    found = [(below, f"below {entry['low']:.6g}"), (above, f"above {entry['high']:.6g}")]
    return [f"{name}: {count} values {where} {_DONE[step.action]}" for count, where in found if count]


def _beyond(
    step: Outliers, name: str, values: pl.Series, entry: Mapping[str, Any]
) -> tuple[pl.Series, pl.Series, list[str]]:
    """Which values lie outside learned bounds, the values, and lines for the ledger."""
    if entry["low"] is None:
        return pl.Series([False] * len(values), dtype=pl.Boolean), values, _lines(step, name, entry, 0, 0)
    below, above = values < entry["low"], values > entry["high"]
    lines = _lines(step, name, entry, int(below.sum()), int(above.sum()))
    return (below | above).fill_null(False), values, lines


def _apart(step: Outliers, name: str, values: pl.Series, groups: Groups) -> tuple[pl.Series, pl.Series, list[str]]:
    """Which values lie far from their neighbours, what would stand in their place, and lines for the ledger."""
    column = values.fill_null(np.nan).to_numpy()[:, None]
    median = groups.over(column, ("Outliers", lambda v, _: local_median(v, step.width, step.causal)))[:, 0]
    spread = groups.over(column, ("Outliers", lambda v, _: local_spread(v, step.width, step.causal)))[:, 0]
    k = _DEFAULT_K["hampel"] if step.k is None else step.k
    with np.errstate(invalid="ignore"):
        beyond = np.abs(column[:, 0] - median) > k * spread
    instead = pl.Series(name, np.where(beyond, median, column[:, 0])).fill_nan(None)
    count = int(beyond.sum())
    lines = [f"{name}: {count} values far from their neighbours {_DONE[step.action]}"] if count else []
    return pl.Series(beyond), instead, lines


def _clipped(values: pl.Expr, low: float, high: float, whole: bool) -> pl.Expr:
    """Values within bounds; of columns where none is missing in half the time that ``clip`` takes, to the same bits."""
    if whole and low and high:
        return pl.min_horizontal(pl.max_horizontal(values, low), high)
    return values.clip(low, high)


def bounds_of(told: Any, method: str, k: float) -> tuple[float, float]:
    """The range of values that are no outliers, from the state of their statistic; both ends equal without spread."""
    if method == "k_sigma":
        moments = Moments.from_state(told)
        return moments.mean - k * moments.deviation, moments.mean + k * moments.deviation
    seen = Quantiles.from_state(told)
    if method == "mad":
        median = float(seen.at(0.5)[0])
        # Distances from the median stand for as many values as what they are distances of.
        apart = Quantiles(tuple(np.sort(np.abs(level - median)) for level in seen.levels), seen.turns)
        reach = k * 1.4826 * float(apart.at(0.5)[0])
        return median - reach, median + reach
    low, high = (float(v) for v in seen.at([k, 1 - k] if method == "quantile" else [0.25, 0.75]))
    if method == "quantile":
        return low, high
    return low - k * (high - low), high + k * (high - low)


def bounds(values: np.ndarray[Any, Any], method: str, k: float) -> tuple[float, float]:
    """The range of values [n] that are no outliers; both ends equal when there is no spread."""
    statistic = Moments if method == "k_sigma" else Quantiles
    return bounds_of(statistic.of(values).state, method, k)
