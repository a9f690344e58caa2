"""Steps written as Polars expressions: several of them go over the rows together, and read only what they need.

A step whose call is row-local may offer ``expressed(columns)``, and one that learns ``asked(columns)``; either may give
None where its options do not allow it. Its call and its ``partial`` are made of the same (``carried``, ``ask``), so
that there is one definition, whether a table is in memory or in shards.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import polars as pl

from groundup.core.dataset import ROW, Dataset, Entry, Kind, apply
from groundup.core.errors import DataError

Counts = Mapping[str, Any]
"""Values that were counted while steps were carried out, by names that begin with these."""
_SUM, _COUNT, _CELLS = "groundup sum of ", "groundup count ", "groundup cells "

T = TypeVar("T")

ENGINE: Literal["in-memory"] = "in-memory"
"""Sums do not depend on the number of threads, and a column stays in one piece."""

Book = tuple[str, Mapping[str, int]]
"""How a step is booked: its name, and split -> rows that its statistics were learned from."""


@dataclasses.dataclass(frozen=True)
class Expressed:
    """What a step makes of rows that all stay where they are."""

    columns: Mapping[str, pl.Expr]
    """Name -> its new values, of the columns as the step finds them; null, never NaN, where one is missing."""
    kinds: Mapping[str, Kind] = dataclasses.field(default_factory=dict)
    """Of columns that are new, or that another kind is given."""
    counts: Mapping[str, pl.Expr] = dataclasses.field(default_factory=dict)
    """How many rows are such and such, as the step finds them: what its notes tell of."""
    notes: Callable[[Mapping[str, int]], Sequence[str]] = lambda counts: ()
    """Lines for the ledger, from the counts."""
    changed: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Column of float64 -> the counts that add up to its changed cells; of others cells are compared."""
    whole: Collection[str] = ()
    """Columns that it makes in which no value is missing."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a step that learns asks of some rows of train."""

    values: Mapping[str, pl.Expr]
    """Each gives one value of all rows."""
    told: Callable[[int, Mapping[str, Any]], Any]
    """From the number of rows and these values to the step's state; None where they do not settle it."""


class Columns:
    """What a step is told of the rows that it will be given: their columns, and nothing of their values."""

    def __init__(self, like: Dataset, nan: Collection[str] = ()) -> None:
        self.like = like
        """The columns and kinds, without rows."""
        self.trusted: set[str] = set()
        """Columns as they were read that are taken to hold no NaN, unless ``nan`` says that they do."""
        self.whole: set[str] = set()
        """Columns of which a step has said that no value is missing."""
        self._nan, self._made = nan, set[str]()
        self._types: Mapping[str, pl.DataType] = like.frame.schema

    def number(self, name: str, by: str) -> pl.Expr:
        """A column as float64 in which every missing value, NaN included, is null.

        Raises DataError for a column that holds no numbers.
        """
        kind = self._types[name]
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            raise DataError(f"{by}: column {name!r} of {self.like.origin or 'the data'} holds {kind}, not numbers.")
        column = pl.col(name) if kind == pl.Float64 else pl.col(name).cast(pl.Float64)
        if not kind.is_float() or name in self._made:
            return column
        if name in self._nan:
            return column.fill_nan(None)
        self.trusted.add(name)
        return column

    def exact(self, name: str) -> bool:
        """Whether ``number`` of a column is the column itself."""
        return self._types.get(name) == pl.Float64 and name not in self._nan

    def behind(self, made: Expressed) -> frozenset[str]:
        """From here on the columns are those behind that step; gives those that are new, or of another type."""
        before, frame = self._types, self.like.frame.with_columns(**made.columns)
        self.like, self._types = self.like.with_frame(frame, made.kinds), frame.schema
        self._made |= set(made.columns)
        self.whole = self.whole.difference(made.columns).union(made.whole)
        return frozenset(name for name in made.columns if before.get(name) != self._types[name])


@dataclasses.dataclass(frozen=True)
class Level:
    """One step of a plan."""

    made: Expressed
    unlike: frozenset[str]
    """Columns that are new, or of another type than they were: all of their cells count as changed."""
    compared: tuple[str, ...]
    """Columns whose changed cells are not told by counts."""

    def cells_changed(self, rows: int, counts: Counts, place: int) -> dict[str, int]:
        """Column -> how many of its cells are no longer what they were, where any is."""
        compared = {name: counts[f"{_CELLS}{place}:{name}"] for name in self.compared}
        told = {n: sum(counts[f"{_COUNT}{place}:{key}"] for key in keys) for n, keys in self.made.changed.items()}
        changed = {**told, **compared, **dict.fromkeys(self.unlike, rows)}
        return {name: int(changed[name]) for name in self.made.columns if changed[name]}

    def notes(self, counts: Counts, place: int) -> Sequence[str]:
        """Lines for the ledger."""
        return self.made.notes({key: int(counts[f"{_COUNT}{place}:{key}"] or 0) for key in self.made.counts})


@dataclasses.dataclass(frozen=True)
class Plan:
    """Steps to be carried out together, and what is asked of the rows behind them."""

    levels: tuple[Level, ...]
    asked: Asked | None
    trusted: frozenset[str]

    def answers(self, read: Callable[[list[str]], pl.DataFrame]) -> tuple[tuple[int, Any], set[str]]:
        """The number of rows and the state that they tell, None where that does not settle it; of columns with NaN too.

        Only columns that it depends on are read.
        """
        assert self.asked is not None
        names, making = self._leading(self.asked.values)
        frame = read(names)
        rows, sums = frame.lazy(), self._sums(names)
        if making:
            rows = rows.with_columns(**_in_order({**making[0], **sums}))
            sums = {name: pl.col(name).first() for name in sums}
        for used in making[1:]:
            rows = rows.with_columns(**used)
        found = rows.select(**_in_order({**self.asked.values, **sums})).collect(engine=ENGINE)
        values = found.row(0, named=True) if found.width else {}
        nan = _with_nan({name: values.pop(name) for name in sums})
        return (frame.height, None if nan else self.asked.told(frame.height, values)), nan

    def over(self, frame: pl.DataFrame, counted: bool) -> tuple[tuple[pl.DataFrame, Counts], set[str]]:
        """The rows behind all steps, and what was counted on the way, if it was asked; and the columns with NaN."""
        rows, counters = frame.lazy(), self._sums(frame.columns)
        sums, names = list(counters), list[str]()
        for place, level in enumerate(self.levels):
            counters |= _counters(level, place) if counted else {}
            rows = rows.with_columns(**_in_order({**level.made.columns, **counters}))
            names, counters = [*names, *counters], {}
        behind = rows.collect(engine=ENGINE)
        values = behind.select(names).row(0, named=True) if behind.height and names else dict.fromkeys(names, 0)
        nan = _with_nan({name: values.pop(name) for name in sums})
        return (behind.drop(names), values), nan

    def _leading(self, asked: Mapping[str, pl.Expr]) -> tuple[list[str], list[dict[str, pl.Expr]]]:
        """What leads to what is asked: columns as they are read, and of each step the columns that it makes."""
        found = _roots(asked.values())
        making: list[dict[str, pl.Expr]] = []
        for level in reversed(self.levels):
            used = {name: made for name, made in level.made.columns.items() if name in found}
            found = found.difference(used) | _roots(used.values())
            making.append(used)
        return sorted(found or {ROW}), making[::-1]

    def _sums(self, names: Iterable[str]) -> dict[str, pl.Expr]:
        """By which it shows whether a column that was trusted holds NaN: where the sum is finite, each value is."""
        return {f"{_SUM}{name}": pl.col(name).sum() for name in names if name in self.trusted}


def _counters(level: Level, place: int) -> dict[str, pl.Expr]:
    """What is counted while a step is carried out; each is one value, which stands in every row."""
    made = level.made
    counted = {f"{_COUNT}{place}:{key}": expression for key, expression in made.counts.items()}
    cells = {name: made.columns[name].ne_missing(pl.col(name)) for name in level.compared}
    return counted | {f"{_CELLS}{place}:{name}": differ.sum() for name, differ in cells.items()}


def _in_order(expressions: Mapping[str, pl.Expr]) -> dict[str, pl.Expr]:
    """By the column that each looks at, so that what is done with one is done while it is at hand."""
    return dict(sorted(expressions.items(), key=lambda one: (one[1].meta.root_names() or [""])[0]))


def _with_nan(sums: Counts) -> set[str]:
    return {name.removeprefix(_SUM) for name, total in sums.items() if not math.isfinite(total or 0.0)}


def _roots(expressions: Iterable[pl.Expr]) -> set[str]:
    return {name for expression in expressions for name in expression.meta.root_names()}


def plan(steps: Iterable[Any], like: Dataset, asking: Any = None, nan: Collection[str] = ()) -> Plan:
    """As many of the first steps as can be expressed, and behind all of them what another asks, if it can.

    ``like`` has the columns without rows. Raises DataError as the steps do for columns that they cannot take.
    """
    columns = Columns(like, nan)
    levels: list[Level] = []
    for step in steps:
        express = getattr(step, "expressed", None)
        made: Expressed | None = None if express is None else express(columns)
        if made is None:
            return Plan(tuple(levels), None, frozenset(columns.trusted))
        exact = {name for name in made.changed if columns.exact(name)}
        unlike = columns.behind(made)
        levels.append(Level(made, unlike, tuple(name for name in made.columns if name not in unlike | exact)))
    ask = getattr(asking, "asked", None)
    return Plan(tuple(levels), None if ask is None else ask(columns), frozenset(columns.trusted))


def _trusting(steps: Sequence[Any], like: Dataset, run: Callable[[Plan], tuple[T, set[str]]], asking: Any = None) -> T:
    """What a plan gives; where columns that it trusted hold NaN, it is made and run again without that trust."""
    found, nan = run(plan(steps, like, asking))
    return run(plan(steps, like, asking, nan))[0] if nan else found


def learned(
    asking: Any, steps: Sequence[Any], like: Dataset, read: Callable[[list[str]], pl.DataFrame]
) -> tuple[int, Any]:
    """How many rows there are, and what those behind all steps tell one that learns; None where it is not known so.

    ``like`` has the columns without rows; ``read`` gives the rows of some of them.
    """

    def run(made: Plan) -> tuple[tuple[int, Any], set[str]]:
        return ((0, None), set()) if made.asked is None else made.answers(read)

    return _trusting(steps, like, run, asking)


def ask(step: Any, shard: Dataset) -> Any:
    """What some rows of train tell a step; None where it does not ask by expressions, or they do not settle it."""
    return learned(step, [], _without_rows(shard), lambda names: shard.frame.select(names))[1]


def carried(step: Any, dataset: Dataset) -> Dataset | None:
    """One step over rows in memory, noted and not booked; None where it cannot be expressed."""
    found, made, counts = _carried([step], dataset, True)
    return found.note(*made.levels[0].notes(counts, 0)) if made.levels else None


def need_carried(step: Any, dataset: Dataset) -> Dataset:
    """The same of a step that can always be expressed."""
    found = carried(step, dataset)
    assert found is not None
    return found


def together(dataset: Dataset, steps: Sequence[Any], books: Sequence[Book] | None = None) -> tuple[Dataset, int]:
    """As many of the first steps as can be expressed over the rows at once, and how many these are.

    Each is booked as ``apply`` does it where ``books`` say how, one for each step; else the rows are only looked at.
    """
    found, made, counts = _carried(steps, dataset, books is not None)
    if books is None or not made.levels:
        return found, len(made.levels)
    rows, history = len(dataset), list(dataset.history)
    removed, notes = dataset.pending, dataset.notes
    for place, (level, (name, learned_from)) in enumerate(zip(made.levels, books[: len(made.levels)], strict=True)):
        cells, lines = level.cells_changed(rows, counts, place), (*notes, *level.notes(counts, place))
        entry = Entry(name, dataset.split, rows, rows, cells, removed, lines, learned_from=dict(learned_from))
        history.append(entry)
        removed, notes = (), ()
    return dataclasses.replace(found, history=tuple(history), pending=(), notes=()), len(made.levels)


def booked(dataset: Dataset, steps: Sequence[Any], books: Sequence[Book]) -> Dataset:
    """What ``apply`` gives, step by step; those that can be expressed go together, with what the ledger counts."""
    while steps:
        dataset, num = together(dataset, steps, books)
        if not num:
            dataset, num = apply(steps[0], dataset, *books[0]), 1
        steps, books = steps[num:], books[num:]
    return dataset


def _carried(steps: Sequence[Any], dataset: Dataset, counted: bool) -> tuple[Dataset, Plan, Counts]:
    """The rows behind as many of the first steps as can be expressed, the plan, and what was counted."""

    def run(made: Plan) -> tuple[tuple[Dataset, Plan, Counts], set[str]]:
        if not made.levels:
            return (dataset, made, {}), set()
        (frame, counts), nan = made.over(dataset.frame, counted)
        kinds = {name: kind for level in made.levels for name, kind in level.made.kinds.items()}
        return (dataset if nan else dataset.with_frame(frame, kinds), made, counts), nan

    return _trusting(steps, _without_rows(dataset), run)


def _without_rows(dataset: Dataset) -> Dataset:
    return dataclasses.replace(dataset, frame=dataset.frame.clear())
