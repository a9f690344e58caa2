"""Missing values: filled with what train taught or with what stands around them, flagged, or dropped."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import polars as pl

from groundup.core.contract import Contract
from groundup.core.dataset import Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.expressions import Asked, Columns, Expressed, ask, carried
from groundup.core.statistics import Mean, Quantiles
from groundup.data.prepare import weighted
from groundup.data.prepare.columns import (
    choose,
    known_numbers,
    learned_columns,
    need_some,
    numbers,
    spellings,
)
from groundup.data.prepare.groups import Groups, groups_of, refuse_equal_times
from groundup.data.series.gaps import backward_fill, forward_fill, interpolate

Method = Literal[
    "mean", "median", "mode", "constant", "forward", "backward", "linear", "time", "spline", "pchip"
]  # fmt: skip

BETWEEN = ("linear", "time", "spline", "pchip")
ORDERED = ("forward", "backward", *BETWEEN)
_NUMBER_METHODS = ("mean", "median", *BETWEEN)


@dataclasses.dataclass(frozen=True)
class Fill:
    """Fill missing values, NaN included, with a value learned on train, or from the neighbouring rows.

    ``mean``, ``median`` and ``mode`` (the most frequent value, the smallest of several) are of train's values that are
    there, of each group's where ``by`` names columns; a group that train did not have gets the whole's. ``constant``
    is ``value``. The others go along time, within each series that ``by`` tells apart: ``forward`` takes the last
    value before the gap, ``backward`` the next behind it, ``linear`` draws a line between both over rows, ``time``
    over time, ``pchip`` and ``spline`` curves as in ``interpolate`` (``groundup.data.series``). ``time`` names the
    column that orders rows; without it the only one of kind time, or the order in which they were read. ``limit``:
    ``forward`` and ``backward`` reach so many rows far, the others leave a longer gap. What they do not reach is
    filled with train's median, or mode, unless ``fallback`` is false. All but ``forward`` look ahead: not for
    forecasting, where gaps are filled inside the window (steps of ``Windows``).

    Without ``columns`` all number columns are filled; by ``mode``, ``forward`` and ``backward`` categories and booleans
    too; by ``constant`` those that ``value`` fits. With ``indicator`` a column that had gaps in train gets a
    boolean column ``NAME_missing`` beside it. Gaps where train had none are filled as well, and noted.
    Learned from pieces: medians are exact up to 32,768 values (2,048 distinct ones in a group), then near in rank.
    Raises DataError when all of a column's values are missing in train.
    """

    columns: Sequence[str] | None = None
    method: Method = "median"
    value: float | str | bool | None = None
    indicator: bool = False
    by: Sequence[str] = ()
    limit: int | None = None
    time: str | None = None
    fallback: bool = True
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if (self.method == "constant") != (self.value is not None):
            raise ValueError(f"value belongs to method 'constant'; read method {self.method!r}, value {self.value!r}.")
        if self.method == "constant" and self.by:
            raise ValueError("by: a constant is the same in every group; leave it out.")
        if self.limit is not None and (self.limit < 1 or self.method not in ORDERED):
            raise ValueError(f"limit: read {self.limit} for {self.method}; it is at least 1 row, for {_said(ORDERED)}.")
        if not self.fallback and self.method not in ORDERED and not self.by:
            raise ValueError(f"fallback: {self.method} without by leaves nothing unfilled; leave fallback out.")

    @property
    def CONTRACT(self) -> Contract:
        """What a call must see: whole series for the methods along time, else rows one by one."""
        return "keyed" if self.method in ORDERED else "fitted"

    @property
    def looks_ahead(self) -> bool:
        """Whether a filled value may depend on rows behind it."""
        return self.method == "backward" or self.method in BETWEEN

    @property
    def halo(self) -> tuple[int, int] | None:
        """How many rows before and behind decide what a row becomes, where that is limited and there is no key."""
        if self.limit is None or self.time is not None or self.method in ("spline", "pchip"):
            return None
        return {"forward": (self.limit, 0), "backward": (0, self.limit)}.get(self.method, (self.limit, self.limit))

    def fit(self, train: Dataset) -> Self:
        """Learn the value for each column, and whether train had gaps in it."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> dict[str, Any]:
        """What some rows of train tell of each column: gaps, and the pieces of its statistic."""
        found: dict[str, Any] | None = ask(self, shard)
        if found is not None:
            return found
        columns = {name: self._told(shard, name) for name in self._choose(shard)}
        return _with_clashes(self, {"rows": len(shard), "columns": columns}, shard)

    def asked(self, columns: Columns) -> Asked | None:
        """The same of numbers that are filled by their mean or a constant, as expressions."""
        chosen = self._choose(columns.like)
        if self.by or self.method not in ("mean", "constant") or not _all_numbers(columns.like.kinds, chosen):
            return None
        asked = {}
        for name in chosen:
            values = columns.number(name, "Fill")
            asked[f"{name}:missing"] = values.null_count()
            if self.method == "mean":
                asked[f"{name}:mean"] = values.mean()

        def state(rows: int, values: Mapping[str, Any]) -> dict[str, Any] | None:
            found: dict[str, Any] = {}
            for name in chosen:
                missing, mean = values[f"{name}:missing"], values.get(f"{name}:mean")
                if mean is not None and not math.isfinite(mean):  # where the mean is finite, each value is
                    return None
                whole = None if self.method == "constant" else Mean(rows - missing, mean or 0.0).state
                found[name] = {"kind": "number", "missing": missing, "whole": whole, "groups": None}
            return _with_clashes(self, {"rows": rows, "columns": found}, columns.like)

        return Asked(asked, state)

    def _choose(self, dataset: Dataset) -> list[str]:
        dataset.need(*self.by, by="Fill.by")
        return choose(dataset, self.columns, (*self.exclude, *self.by), _kinds(self.method, self.value), "Fill")

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """What both tell together."""
        columns = {}
        for name, first in one["columns"].items():
            second = other["columns"][name]
            both = {**first, "missing": first["missing"] + second["missing"]}
            if first["whole"] is not None:
                both["whole"] = _merge(first["whole"], second["whole"], self._statistic(first["kind"]))
            if first["groups"] is not None:
                both["groups"] = weighted.merge(first["groups"], second["groups"], self._statistic(first["kind"]))
            columns[name] = both
        return {"rows": one["rows"] + other["rows"], "columns": columns}

    def finish(self, state: dict[str, Any]) -> Self:
        """The step with each column's value, each group's too, and how many gaps train had."""
        columns: dict[str, Any] = {}
        for name, told in state["columns"].items():
            missing = told["missing"]
            if told.get("clash") and missing:
                raise DataError(
                    f"Fill: the indicator {name + '_missing'!r} would replace a column of that name; rename it."
                )
            value = self.value
            if told["whole"] is not None:
                need_some(state["rows"] - missing, state["rows"], name, "Fill")
                value = _finish(told["whole"], self._statistic(told["kind"]))
            columns[name] = {"kind": told["kind"], "value": value, "missing": missing}
            if told["groups"] is not None:
                groups = weighted.finish(told["groups"], self._statistic(told["kind"]))
                keys, values = groups.drop(weighted.VALUE), groups[weighted.VALUE]
                columns[name]["groups"] = {
                    "keys": [list(key) for key in keys.iter_rows()],
                    "values": values.to_list(),
                }
        return dataclasses.replace(self, learned={"rows": state["rows"], "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without gaps in these columns; numbers become float64."""
        found = carried(self, dataset)
        return found if found is not None else self._filled(dataset)

    def expressed(self, columns: Columns) -> Expressed | None:
        """The same of numbers that are filled by one value, as expressions."""
        known = learned_columns(self.learned, columns.like, "Fill")
        if self.by or self.method in ORDERED or any(entry["kind"] != "number" for entry in known.values()):
            return None
        changed, kinds, missing = {}, dict[str, Kind](), {}
        for name, entry in known.items():
            values = columns.number(name, "Fill")
            changed[name], kinds[name], missing[name] = values.fill_null(entry["value"]), "number", values.null_count()
            if self.indicator and entry["missing"]:
                changed[f"{name}_missing"], kinds[f"{name}_missing"] = values.is_null(), "boolean"

        def notes(counts: Mapping[str, int]) -> list[str]:
            return [line for name, entry in known.items() for line in _lines(self, name, entry, counts[name], 0)]

        return Expressed(changed, kinds, missing, notes, changed={name: [name] for name in known}, whole=known)

    def _filled(self, dataset: Dataset) -> Dataset:
        """The dataset filled by values of its groups, along time, or in columns that hold no numbers."""
        changed: dict[str, pl.Series] = {}
        kinds: dict[str, Kind] = {}
        notes: list[str] = []
        columns = learned_columns(self.learned, dataset, "Fill")
        groups = groups_of(dataset, self.by, self.time, "Fill") if self.method in ORDERED else None
        if groups is not None and self.method in ("time", "spline", "pchip"):
            refuse_equal_times(groups, dataset, "Fill")
        keys = weighted.key_columns(dataset.frame, self.by) if groups is None and self.by else []
        for name, entry in columns.items():
            column = _plain(dataset, name, entry["kind"])
            near = column
            if column.null_count():
                if groups is not None:
                    near = _along_time(self, column, groups)
                elif keys:
                    near = column.fill_null(_of_groups(keys, entry["groups"], column.dtype))
            changed[name] = near.fill_null(entry["value"]) if self.fallback else near
            kinds[name] = entry["kind"]
            notes += _lines(self, name, entry, column.null_count(), near.null_count())
            if self.indicator and entry["missing"]:
                changed[f"{name}_missing"] = column.is_null()
                kinds[f"{name}_missing"] = "boolean"
        return dataset.with_frame(dataset.frame.with_columns(**changed), kinds).note(*notes)

    def _statistic(self, kind: Kind) -> weighted.Statistic:
        """What is learned of a column of this kind; of those that are filled along time, for what is not reached."""
        if self.method in ("mean", "median", "mode"):
            return self.method
        return "median" if kind == "number" else "mode"

    def _told(self, shard: Dataset, name: str) -> dict[str, Any]:
        kind = shard.kinds[name]
        column = _plain(shard, name, kind)
        told: dict[str, Any] = {"kind": kind, "missing": column.null_count(), "whole": None, "groups": None}
        if self.method == "constant":
            return told
        statistic = self._statistic(kind)
        if statistic == "mean":
            told["whole"] = Mean.of(known_numbers(shard, name, "Fill")).state
        elif statistic == "mode":
            if kind == "number":
                known_numbers(shard, name, "Fill")  # refuses what is endless
            told["whole"] = weighted.most_frequent(column)
        else:
            told["whole"] = Quantiles.of(known_numbers(shard, name, "Fill")).state
        if self.by and self.method not in ORDERED:
            told["groups"] = weighted.tell(weighted.key_columns(shard.frame, self.by), column, statistic)
        return told


@dataclasses.dataclass(frozen=True)
class DropMissing:
    """Drop rows of train in which more than ``share`` of ``columns`` (all when not given) are missing; flag elsewhere.

    With ``share`` 0 a row goes for one missing value. Validation, test and served rows stay, for a model must answer
    for each of them: a later step or the samples must be able to take their missing values.
    """

    columns: Sequence[str] | None = None
    share: float = 0.0
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"share: read {self.share}, expected at least 0 and less than 1.")

    def fit(self, train: Dataset) -> Self:
        """Settle which columns must be there."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> dict[str, Any]:
        """How many values of each column are missing in some rows of train."""
        shard.need(*(self.columns or ()), by="DropMissing")
        columns = shard.columns if self.columns is None else list(self.columns)
        return _missing_counts(shard, columns)

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """Both together."""
        return _merge_counts(one, other)

    def finish(self, state: dict[str, Any]) -> Self:
        """The step with its columns settled."""
        return dataclasses.replace(self, learned=state)

    def __call__(self, dataset: Dataset) -> Dataset:
        """Train without the rows that lack values; any other split as it is, with a note."""
        if self.learned is None:
            raise DataError("DropMissing: has learned nothing yet; call fit(train) first.")
        names = [name for name in self.learned["columns"] if name in dataset.frame.columns]
        reasons = sparse_rows(dataset, names, self.share)
        if dataset.split == "train":
            kept = np.ones(len(dataset), dtype=bool)
            kept[list(reasons)] = False
            return dataset.keep(kept, reasons)
        what = "a missing value" if self.share == 0 else f"more than {self.share:.0%} missing"
        lines = [f"{len(reasons)} rows with {what} stay, since this is not train"] if reasons else []
        return dataset.note(*lines)


@dataclasses.dataclass(frozen=True)
class DropSparseColumns:
    """Drop the columns of which more than ``share`` is missing in train, from every split; each with its share noted.

    Without ``columns`` all are looked at. Raises DataError when nothing would be left.
    """

    share: float = 0.5
    columns: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"share: read {self.share}, expected at least 0 and less than 1.")

    def fit(self, train: Dataset) -> Self:
        """Learn which columns are mostly missing."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> dict[str, Any]:
        """How many values of each column are missing in some rows of train."""
        shard.need(*(self.columns or ()), by="DropSparseColumns")
        columns = shard.columns if self.columns is None else self.columns
        return _missing_counts(shard, [name for name in columns if name not in self.exclude])

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """Both together."""
        return _merge_counts(one, other)

    def finish(self, state: dict[str, Any]) -> Self:
        """The step with the columns to drop."""
        rows = max(state["rows"], 1)
        sparse = {
            name: {"missing": told["missing"] / rows}
            for name, told in state["columns"].items()
            if told["missing"] / rows > self.share
        }
        if len(sparse) == len(state["columns"]) and not self.exclude and self.columns is None:
            raise DataError(f"DropSparseColumns: more than {self.share:.0%} of every column is missing; none is left.")
        return dataclasses.replace(self, learned={"rows": state["rows"], "columns": sparse})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without those columns."""
        gone = learned_columns(self.learned, dataset, "DropSparseColumns")
        kinds = {name: kind for name, kind in dataset.kinds.items() if name not in gone}
        lines = [f"{name}: dropped, {entry['missing']:.1%} of it was missing in train" for name, entry in gone.items()]
        left = dataclasses.replace(dataset, frame=dataset.frame.drop(list(gone)), kinds=kinds)
        return left.note(*lines)


def sparse_rows(dataset: Dataset, names: Sequence[str], share: float) -> dict[int, str]:
    """Position of each row in which more than ``share`` of the columns are missing -> the reason."""
    if not names:
        return {}
    absent = np.stack([_absent(dataset.frame[name]).to_numpy() for name in names], axis=1)
    count = absent.sum(axis=1)
    gone = np.flatnonzero(count > share * len(names))
    if share == 0:
        first = absent[gone].argmax(axis=1)
        return {int(i): f"missing value: {names[int(f)]}" for i, f in zip(gone, first, strict=True)}
    return {int(i): f"missing values: {int(count[i])} of {len(names)}" for i in gone}


def _missing_counts(shard: Dataset, columns: Sequence[str]) -> dict[str, Any]:
    counts = {name: {"missing": int(_absent(shard.frame[name]).sum())} for name in columns}
    return {"rows": len(shard), "columns": counts}


def _merge_counts(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    columns = {n: {"missing": told["missing"] + other["columns"][n]["missing"]} for n, told in one["columns"].items()}
    return {"rows": one["rows"] + other["rows"], "columns": columns}


def _merge(one: Any, other: Any, statistic: weighted.Statistic) -> Any:
    if statistic == "mode":
        return weighted.merge(one, other, "mode")
    if statistic == "mean":
        return Mean.from_state(one).merge(Mean.from_state(other)).state
    return Quantiles.from_state(one).merge(Quantiles.from_state(other)).state


def _finish(state: Any, statistic: weighted.Statistic) -> Any:
    if statistic == "mode":
        return weighted.finish(state, "mode")[weighted.VALUE][0]
    if statistic == "mean":
        return Mean.from_state(state).mean
    return float(Quantiles.from_state(state).at(0.5)[0])


def _of_groups(keys: Sequence[pl.Series], groups: Mapping[str, Any], dtype: Any) -> pl.Series:
    """For each row what was learned of its group; null for a group that train did not have."""
    names = [key.name for key in keys]
    learned = pl.DataFrame(
        [
            *(pl.Series(n, [key[i] for key in groups["keys"]], dtype=pl.String) for i, n in enumerate(names)),
            pl.Series(weighted.VALUE, groups["values"], dtype=dtype),
        ]
    )
    rows = pl.DataFrame(list(keys))
    return rows.join(learned, on=names, how="left", nulls_equal=True, maintain_order="left")[weighted.VALUE]


def _absent(column: pl.Series) -> pl.Series:
    return column.is_null() | column.is_nan() if column.dtype.is_float() else column.is_null()


def _plain(dataset: Dataset, name: str, kind: Kind) -> pl.Series:
    """The column as it is filled: numbers as float64, categories as strings; gaps are null."""
    if kind == "number":
        return numbers(dataset, name, "Fill")
    column = dataset.frame[name]
    return column.cast(pl.Boolean) if kind == "boolean" else spellings(column)


def _kinds(method: Method, value: Any) -> tuple[Kind, ...]:
    """The kinds of column that are filled without being named."""
    if method in _NUMBER_METHODS:
        return ("number",)
    if method != "constant":
        return ("number", "category", "boolean")
    if isinstance(value, bool):
        return ("boolean",)
    return ("category", "text") if isinstance(value, str) else ("number",)


def _with_clashes(step: Fill, state: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """What was told, and of columns that may get an indicator whether one of its name is there."""
    if step.indicator:
        for name, told in state["columns"].items():
            told["clash"] = f"{name}_missing" in dataset.frame.columns
    return state


def _along_time(step: Fill, column: pl.Series, groups: Groups) -> pl.Series:
    """A column with gaps filled from the rows around them, as far as those reach."""
    if step.method in BETWEEN:
        method: Any = step.method
        values = column.fill_null(np.nan).to_numpy()[:, None]
        filled = groups.over(values, ("Fill", lambda v, times: interpolate(v, method, step.limit, "leave", times)))
        return pl.Series(column.name, filled[:, 0]).fill_nan(None)
    # Places of known values are moved instead of the values, so that one way serves every kind of column.
    fill = forward_fill if step.method == "forward" else backward_fill
    places = np.where(column.is_null().to_numpy(), np.nan, np.arange(len(column), dtype=np.float64))
    found = groups.over(places[:, None], ("Fill", lambda values, _: fill(values, step.limit)))[:, 0]
    return column.gather(pl.Series(found).fill_nan(None).cast(pl.UInt32)).alias(column.name)


def _lines(step: Fill, name: str, entry: Mapping[str, Any], count: int, rest: int) -> list[str]:
    """Lines for the ledger about a column with so many gaps, of which so many were out of reach."""
    if not count:
        return []
    surprise = "" if entry["missing"] else "; train had none"
    whole = _shown(entry["value"])
    if not step.by and step.method not in ORDERED:
        return [f"{name}: {count} missing, filled by {step.method} ({whole}){surprise}"]
    where = f" of {', '.join(step.by)}" if step.by else ""
    lines = [f"{name}: {count} missing, filled by {step.method}{where}{surprise}"]
    if rest:
        lines.append(f"{name}: {rest} out of its reach, " + (f"filled by {whole}" if step.fallback else "left"))
    return lines


def _all_numbers(kinds: Mapping[str, Kind], names: Sequence[str]) -> bool:
    return all(kinds[name] == "number" for name in names)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _said(methods: Sequence[str]) -> str:
    return f"{', '.join(methods[:-1])} and {methods[-1]}"
