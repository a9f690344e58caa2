"""k-fold: the rows dealt into folds, each of which is held out once while the others are learned from."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset, Splits
from groundup.core.errors import DataError
from groundup.data.splitting import ways

Array = np.ndarray[Any, Any]
Way = Literal["random", "stratified", "grouped", "by_time", "by_hash"]


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
    """One fold as positions of rows: those held out, and those that a model may learn from meanwhile."""

    number: int
    train: Array
    held_out: Array

    def cut(self, dataset: Dataset) -> tuple[Dataset, Dataset]:
        """The rows to learn from as split "train", and those held out as split "test"."""
        return dataset.take(self.train, "train"), dataset.take(self.held_out, "test")


def cut_folds(
    dataset: Dataset, count: int = 5, way: Way = "random", column: str | None = None, seed: int = 0
) -> list[Fold]:
    """``count`` folds; each row is held out exactly once, but for the earliest rows of ``by_time``.

    - ``random``: dealt by chance; sizes differ by a row at most
    - ``stratified``: each class of ``column``, and the folds as a whole, in equal shares to within a row
    - ``grouped``: all rows with one value of ``column`` in one fold; the largest groups go first, each to the
      fold with fewest rows
    - ``by_time``: rolling origin. The rows in order of ``column`` are cut into ``count`` + 1 blocks, of which the first
      takes the remainder; fold i holds out block i + 1 and learns from all before it. Rows of one time stay together
    - ``by_hash``: by the SHA-256 of the value in ``column``: a row stays in its fold however the data grows

    Out-of-fold predictions of each row, by models that have not seen it:

    >>> for fold in cut_folds(train, 5, "stratified", "label"):
    ...     learned, held_out = fold.cut(train)
    ...     predictions[fold.held_out] = answers(fitted(learned), held_out)

    Raises DataError for fewer than two folds, fewer rows (of a class), groups or times than folds, a column that is
    missing, and missing values in it.
    """
    if count < 2:
        raise DataError(f"k_fold: read folds = {count}, expected at least 2.")
    if way not in get_args(Way):
        raise DataError(f"k_fold: read way = {way!r}, expected one of {', '.join(get_args(Way))}.")
    if (column is None) != (way == "random"):
        needs = "takes no column" if column is not None else "needs a column"
        raise DataError(f"k_fold: way = {way!r} {needs}; read column = {column!r}.")
    if len(dataset) < count + (way == "by_time"):
        raise DataError(f"k_fold: {dataset.origin or 'the data'} has {len(dataset)} rows, too few for {count} folds.")
    if column is not None and way == "by_time":
        return _rolling(dataset, column, count)
    if column is None:
        number = np.empty(len(dataset), dtype=np.int64)
        number[np.random.default_rng(seed).permutation(len(dataset))] = np.arange(len(dataset)) % count
    else:
        values = ways.complete(dataset, column, "k_fold")
        number = _DEALERS[way](values, column, count, seed)
    everything = np.arange(len(dataset))
    return [Fold(i, everything[number != i], everything[number == i]) for i in range(count)]


def k_fold(
    dataset: Dataset,
    folds: int = 5,
    fold: int | None = None,
    way: Way = "random",
    column: str | None = None,
    valid: float = 0.1,
    seed: int = 0,
) -> Splits:
    """Fold number ``fold`` (from 0) of ``folds`` is the test part; of the other rows the share ``valid`` is held out.

    A recipe that leaves ``fold`` open is run once for each fold, and its report has the mean over all of them; called
    from Python the first fold is taken. ``way`` is one of random, stratified, grouped, by_time (rolling origin:
    learned from what lies before the fold, the latest of it for validation) and by_hash, by ``column``; the validation
    rows are taken in the same way. ``groundup.data.splitting.folds.cut_folds`` gives the folds as values. Raises
    DataError as it does, and for a fold that does not exist.
    """
    if fold is not None and not 0 <= fold < folds:
        raise DataError(f"k_fold: read fold = {fold}, expected 0 to {folds - 1}.")
    chosen = cut_folds(dataset, folds, way, column, seed)[fold or 0]
    rest, held_out = chosen.cut(dataset)
    # The hash that chose the fold must not choose the validation rows too.
    drawn = _hash(f"valid of {seed}") % 2**32 if way == "by_hash" else seed
    split: Callable[..., Splits] = getattr(ways, way)
    options = {} if column is None else {"column": column}
    parts = split(dataclasses.replace(rest, split=None), **options, valid=valid, test=0.0, seed=drawn)
    return Splits(parts.train, parts.valid, held_out)


def _stratified(values: pl.Series, column: str, count: int, seed: int) -> Array:
    draw = np.random.default_rng(seed)
    order = []
    for value, positions in ways.groups(values):
        if len(positions) < count:
            raise DataError(
                f"k_fold: the class {value!r} of {column!r} has {len(positions)} rows, fewer than the {count} folds. "
                "Gather rare classes into one, take fewer folds, or way = 'random'."
            )
        order.append(draw.permutation(positions))
    number = np.empty(len(values), dtype=np.int64)
    # Dealt on from class to class, so that the folds as a whole differ by a row at most.
    number[np.concatenate(order)] = np.arange(len(values)) % count
    return number


def _grouped(values: pl.Series, column: str, count: int, seed: int) -> Array:
    found = [positions for _, positions in ways.groups(values)]
    if len(found) < count:
        raise DataError(f"k_fold: {column!r} has {len(found)} distinct values, fewer than the {count} folds.")
    shuffled = np.random.default_rng(seed).permutation(len(found)).tolist()
    number = np.empty(len(values), dtype=np.int64)
    load = np.zeros(count, dtype=np.int64)
    for index in sorted(shuffled, key=lambda index: -len(found[index])):
        lightest = int(np.argmin(load))
        number[found[index]] = lightest
        load[lightest] += len(found[index])
    return number


def _by_hash(values: pl.Series, column: str, count: int, seed: int) -> Array:
    number = np.empty(len(values), dtype=np.int64)
    for value, positions in ways.groups(values):
        number[positions] = _hash(f"fold of {seed}:{value}") * count >> 64
    empty = sorted(set(range(count)) - set(number.tolist()))
    if empty:
        raise DataError(
            f"k_fold: none of the {values.n_unique()} values of {column!r} came to fold {empty[0]} of {count}. Take "
            "fewer folds, a column with more values, or another way."
        )
    return number


_DEALERS: dict[str, Callable[[pl.Series, str, int, int], Array]] = {
    "stratified": _stratified,
    "grouped": _grouped,
    "by_hash": _by_hash,
}


def _rolling(dataset: Dataset, column: str, count: int) -> list[Fold]:
    order, cut = ways.times(dataset, column, "k_fold")
    size = len(dataset) // (count + 1)
    cuts = [cut(len(dataset) - size * (count - i)) for i in range(count + 1)]
    if cuts[0] == 0 or len(set(cuts)) < len(cuts):
        raise DataError(
            f"k_fold: {column!r} has too few distinct times for {count} folds, since rows of one time stay together."
        )
    return [Fold(i, order[: cuts[i]], order[cuts[i] : cuts[i + 1]]) for i in range(count)]


def _hash(text: str) -> int:
    """The first 64 bits of SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
