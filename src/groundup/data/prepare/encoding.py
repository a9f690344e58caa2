"""Categories as numbers where there are many: by what the target is in each, and by hashing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.contract import State
from groundup.core.dataset import ROW, Dataset, Kind
from groundup.core.errors import DataError
from groundup.core.statistics import Moments, merge_counts
from groundup.data.prepare.categories import unknown
from groundup.data.prepare.columns import choose, learned_columns, merged, numbers, pieces, spellings

Values = npt.NDArray[np.float64]

_KINDS: tuple[Kind, ...] = ("category", "boolean", "number", "text")


@dataclasses.dataclass(frozen=True)
class TargetEncode:
    """Each category becomes the mean of the target over its rows of train, drawn to the mean over all.

    With n rows of mean m in a category and M the mean over all of train, the encoding is (n m + s M) / (n + s), s being
    ``smoothing``; or with "auto" s = (variance of the target in the category) / (variance over all), as an empirical
    Bayes estimate (Micci-Barreca, SIGKDD Explorations 3, 2001). A category that train did not have gets M; missing
    values are a category of their own where train had them.

    **Out of fold**: the rows of train fall into ``folds`` by their number and ``seed``, and a row of train is encoded
    by the rows of the other folds alone, so that its own target never enters (nor does it enter M). What validation,
    test and prediction get is learned on all of train.

    ``target`` is the samples' own unless it is named. A target of numbers is taken as it is (``task = "classify"``
    takes its values as classes); of two classes the mean is the share of the second, in sorted order; of more, each
    class gets a column ``COLUMN~CLASS``. Without ``columns`` all category columns. Equal to scikit-learn's
    TargetEncoder on the same folds.
    """

    columns: Sequence[str] | None = None
    target: str | None = None
    smoothing: float | Literal["auto"] = "auto"
    folds: int = 5
    task: Literal["auto", "classify", "regress"] = "auto"
    seed: int = 0
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"folds: read {self.folds}, expected at least 2.")
        if self.smoothing != "auto" and not self.smoothing >= 0:
            raise ValueError(f"smoothing: read {self.smoothing}, expected 0 or more, or 'auto'.")

    def fit(self, train: Dataset) -> Self:
        """Learn the target's mean in each category, without each fold and over all."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """Of each category and fold how many rows, and their target's mean and squared deviations, or its classes."""
        target = self._target(shard)
        kinds = _KINDS if self.columns is not None else ("category",)
        chosen = choose(shard, self.columns, [*self.exclude, target], kinds, "TargetEncode")
        values = shard.frame[target]
        gone = values.is_null() | values.is_nan() if values.dtype.is_float() else values.is_null()
        if gone.any():
            row = shard.row_names()[int(gone.arg_true()[0])]
            raise DataError(
                f"TargetEncode.target: column {target!r} is missing at {row} ({int(gone.sum())} such rows)."
            )
        classes = self.task == "classify" or (self.task == "auto" and shard.kinds[target] != "number")
        answer = spellings(values) if classes else numbers(shard, target, "TargetEncode.target")
        fold = pl.Series(fold_of_rows(shard.frame[ROW].to_numpy(), self.folds, self.seed))
        told = _told_classes if classes else _told_numbers
        return {
            **pieces(shard, chosen, lambda name: told(spellings(shard.frame[name]), fold, answer, self.folds)),
            "classes": classes,
        }

    def merge(self, one: State, other: State) -> State:
        """Both together, category by category and fold by fold."""
        add = merge_counts if one["classes"] else _merge_moments
        return {**merged(one, other, lambda here, there: _merge_tables(here, there, add)), "classes": one["classes"]}

    def finish(self, state: State) -> Self:
        """The encodings of each category: one without each fold, and one of all. Raises DataError without rows."""
        if not state["rows"]:
            raise DataError("TargetEncode: train has no rows.")
        columns: dict[str, Any] = {}
        classes = _classes(state) if state["classes"] else None
        outputs = [None] if classes is None else classes[1:] if len(classes) == 2 else classes
        for name, table in state["columns"].items():
            categories = sorted(table["known"])
            told = [table["known"][category] for category in categories] + table["missing"]
            views = [self._views(told, output) for output in outputs]
            columns[name] = {
                "categories": categories,
                "missing": bool(table["missing"]),
                "encodings": [encodings.tolist() for encodings, _ in views],
                "means": [means.tolist() for _, means in views],
            }
        return dataclasses.replace(self, learned={"rows": state["rows"], "classes": classes, "columns": columns})

    def __call__(self, dataset: Dataset) -> Dataset:
        """The columns as numbers, float64; train's out of fold."""
        columns = learned_columns(self.learned, dataset, "TargetEncode")
        assert self.learned is not None
        rows = dataset.frame[ROW].to_numpy()
        everything = np.full(len(dataset), self.folds)
        view = fold_of_rows(rows, self.folds, self.seed) if dataset.split == "train" else everything
        new: dict[str, pl.Series] = {}
        notes: list[str] = []
        for name, entry in columns.items():
            values = spellings(dataset.frame[name])
            seen = values.drop_nulls() if entry["missing"] else values
            notes += unknown(name, seen, entry["categories"], "encoded as the mean over all")
            places = {category: place for place, category in enumerate(entry["categories"])}
            # Behind the categories stands what missing values are encoded as, last what is not known.
            place = values.replace_strict(places, default=len(places) + entry["missing"], return_dtype=pl.Int64)
            chosen = place.set(values.is_null(), len(places)).to_numpy()
            for i, (encodings, means) in enumerate(zip(entry["encodings"], entry["means"], strict=True)):
                label = name if len(entry["means"]) == 1 else f"{name}~{self.learned['classes'][i]}"
                new[label] = pl.Series(label, np.array([*encodings, means])[chosen, view])
        drop = [name for name in columns if name not in new]
        frame = dataset.frame.drop(drop).with_columns(**new)
        return dataset.with_frame(frame, dict.fromkeys(new, "number")).note(*notes)

    def _target(self, shard: Dataset) -> str:
        if self.target is None:
            raise DataError('TargetEncode.target: none was named; give the column that is predicted as target = "...".')
        shard.need(self.target, by="TargetEncode.target")
        return self.target

    def _views(self, tables: list[list[Any]], output: str | None) -> tuple[Values, Values]:
        """(encodings [categories, folds + 1], means over all [folds + 1]); the last ones are of every fold."""
        told = np.array([[_of_output(entry, output) for entry in table] for table in tables])  # [C, K, 3]
        kept = 1 - np.eye(self.folds, self.folds + 1)  # [K, K + 1], which folds a view sees
        counts = told[:, :, 0] @ kept
        means = _divided((told[:, :, 0] * told[:, :, 1]) @ kept, counts)
        apart = told[:, :, 0, None] * (told[:, :, 1, None] - means[:, None, :]) ** 2
        squares = told[:, :, 2] @ kept + (apart * kept).sum(1)
        overall = _divided((counts * means).sum(0), counts.sum(0))
        variance = _divided((squares + counts * (means - overall) ** 2).sum(0), counts.sum(0))
        if self.smoothing == "auto":
            own = _divided(squares, counts)
            share = _divided(variance * counts, variance * counts + own)
        else:
            share = _divided(counts, counts + self.smoothing)
        return share * means + (1 - share) * overall, overall


@dataclasses.dataclass(frozen=True)
class HashEncode:
    """Each category becomes +1 or -1 in one of ``buckets`` columns ``COLUMN#NUMBER``, 0 in the others, by its hash.

    Nothing is learned, so categories that train did not have are no surprise and none need be kept; two categories may
    share a column. MurmurHash3 of "COLUMN=CATEGORY" chooses column and sign, as in scikit-learn's FeatureHasher
    (Weinberger et al. 2009). A missing value is 0 everywhere, and is counted in the notes. Without ``columns`` all
    category columns.
    """

    columns: Sequence[str] | None = None
    buckets: int = 16
    exclude: Sequence[str] = ()
    learned: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.buckets <= 4096:
            raise ValueError(f"buckets: read {self.buckets}, expected 1 to 4096.")

    def fit(self, train: Dataset) -> Self:
        """Settle which columns are hashed."""
        return self.finish(self.partial(train))

    def partial(self, shard: Dataset) -> State:
        """The columns; nothing is learned of their values."""
        kinds = _KINDS if self.columns is not None else ("category",)
        return pieces(shard, choose(shard, self.columns, self.exclude, kinds, "HashEncode"), lambda name: {})

    def merge(self, one: State, other: State) -> State:
        """Both together."""
        return merged(one, other)

    def finish(self, state: State) -> Self:
        """The columns that are hashed."""
        return dataclasses.replace(self, learned=state)

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset with columns of -1, 0 and 1 in place of the categories; they stand last."""
        from sklearn.utils import murmurhash3_32  # type: ignore[import-untyped]

        columns = learned_columns(self.learned, dataset, "HashEncode")
        new: dict[str, pl.Series] = {}
        notes: list[str] = []
        for name in columns:
            values = spellings(dataset.frame[name])
            if missing := values.null_count():
                notes.append(f"{name}: {missing} missing, 0 in all its columns")
            known = values.drop_nulls().unique()
            hashes = {value: int(murmurhash3_32(f"{name}={value}".encode("utf-8", "surrogatepass"))) for value in known}
            bucket = values.replace_strict({v: abs(h) % self.buckets for v, h in hashes.items()}, return_dtype=pl.Int64)
            sign = values.replace_strict(
                {v: 1.0 if h >= 0 else -1.0 for v, h in hashes.items()}, return_dtype=pl.Float64
            )
            for i in range(self.buckets):
                new[f"{name}#{i}"] = sign.zip_with((bucket == i).fill_null(False), pl.Series([0.0]))
        clash = [name for name in new if name in dataset.frame.columns]
        if clash:
            raise DataError(f"HashEncode: there is a column {clash[0]!r} already; rename it.")
        frame = dataset.frame.drop(list(columns)).with_columns(**new)
        return dataset.with_frame(frame, dict.fromkeys(new, "number")).note(*notes)


def fold_of_rows(rows: npt.NDArray[Any], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each row by its number alone, so that it is the same in any shard (SplitMix64's finaliser)."""
    with np.errstate(over="ignore"):
        mixed = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed += np.uint64(seed % 2**63) * np.uint64(0xD1342543DE82EF95)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(folds)).astype(np.int64)


Table = dict[str, Any]
"""``known``: category -> what each fold tells of it; ``missing``: a list with the same for missing values, or empty.

A fold tells {class: rows}, or [rows, mean, sum of squared deviations] of a target of numbers.
"""


def _told_classes(categories: pl.Series, fold: pl.Series, answer: pl.Series, folds: int) -> Table:
    frame = pl.DataFrame({"category": categories, "fold": fold, "answer": answer})
    table: Table = {"known": {}, "missing": []}
    for category, number, value, count in (
        frame.group_by("category", "fold", "answer", maintain_order=True).len().iter_rows()
    ):
        _entry(table, category, [{} for _ in range(folds)])[number][value] = count
    return table


def _told_numbers(categories: pl.Series, fold: pl.Series, answer: pl.Series, folds: int) -> Table:
    frame = pl.DataFrame({"category": categories, "fold": fold, "answer": answer})
    table: Table = {"known": {}, "missing": []}
    means, spread = pl.col("answer").mean().alias("mean"), pl.col("answer").var(ddof=0).alias("variance")
    for category, number, count, mean, variance in (
        frame.group_by("category", "fold", maintain_order=True).agg(pl.len(), means, spread).iter_rows()
    ):
        _entry(table, category, [[0, 0.0, 0.0] for _ in range(folds)])[number] = [count, mean, variance * count]
    return table


def _entry(table: Table, category: str | None, empty: list[Any]) -> list[Any]:
    """What the folds tell of a category, begun where there is nothing yet."""
    if category is not None:
        found: list[Any] = table["known"].setdefault(category, empty)
        return found
    if not table["missing"]:
        table["missing"].append(empty)
    found = table["missing"][0]
    return found


def _merge_tables(one: Table, other: Table, add: Callable[[Any, Any], Any]) -> Table:
    known = dict(one["known"])
    for category, told in other["known"].items():
        known[category] = list(map(add, known[category], told)) if category in known else told
    missing = one["missing"] or other["missing"]
    if one["missing"] and other["missing"]:
        missing = [list(map(add, one["missing"][0], other["missing"][0]))]
    return {"known": known, "missing": missing}


def _merge_moments(one: list[Any], other: list[Any]) -> list[Any]:
    here, there = (Moments(*told) for told in (one, other))
    both = here.merge(there)
    return [both.count, both.mean, both.squares]


def _classes(state: State) -> list[str]:
    """The classes of the target, sorted. Raises DataError for a single one."""
    table = next(iter(state["columns"].values()))
    told = [entry for entries in (*table["known"].values(), *table["missing"]) for entry in entries]
    classes = sorted({value for entry in told for value in entry})
    if len(classes) < 2:
        raise DataError(f"TargetEncode.target: all {state['rows']} rows of train have the class {classes[0]!r}.")
    return classes


def _of_output(told: Any, output: str | None) -> tuple[float, float, float]:
    """(rows, mean, sum of squared deviations) of a target of numbers, or of being of the class ``output``."""
    if output is None:
        count, mean, squares = told
        return count, mean, squares
    count, of_class = sum(told.values()), told.get(output, 0)
    share = of_class / count if count else 0.0
    return count, share, count * share * (1 - share)


def _divided(above: Any, below: Any) -> Values:
    """The quotient, 0 where there is nothing to divide by."""
    quotient: Values = np.divide(
        above, below, out=np.zeros_like(np.asarray(above, dtype=np.float64)), where=np.asarray(below) > 0
    )
    return quotient
