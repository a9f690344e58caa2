"""Rows that stand in two splits, exactly or nearly: what makes a test score better than the model is."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from groundup.core.contract import ByLikeness
from groundup.core.dataset import ROW, Dataset, Splits
from groundup.data.cleaning.clusters import apart, bands_of, evidence_of, measured, similar_pairs
from groundup.data.cleaning.digests import first_equal, row_digests
from groundup.data.cleaning.duplicates import compared_columns, drop_near_duplicates
from groundup.data.cleaning.pictures import drop_near_images
from groundup.data.cleaning.words import is_spaceless

Array = np.ndarray[Any, Any]


class Leak(NamedTuple):
    """A row of ``split`` that an earlier split (train, then valid) has too, or has nearly."""

    split: str
    name: str
    like: str
    """The row it is like, as ``"train: json/decoder.py"``."""
    similarity: float
    row: int
    """The row's number in the column ``_row``."""


TELLS_APART = 0.5


Found = dict[int, tuple[float, int]]
"""Position of a row among those of all splits -> (similarity, position of the earlier split's row that it is like)."""


def find_leaks(splits: Splits, columns: str | Sequence[str] | None = None, similarity: float = 0.8) -> list[Leak]:
    """Rows of valid and test that an earlier split has too; an empty list proves that there are none.

    One column of text is compared by resemblance, as in ``drop_near_duplicates``, so that exact and near copies are
    found; one of images by what they show, as in ``drop_near_images``. Several columns, or one of another kind, are
    compared for equal values in all of them; ``None`` is every column but the ids and ``running_numbers``. One leak a
    row: its most similar one.
    """
    parts = splits.parts()
    names = [columns] if isinstance(columns, str) else columns
    compared = compared_columns(splits.train, names, "find_leaks")
    if columns is None:
        numbers = running_numbers(splits)
        compared = [name for name in compared if name not in numbers] or compared
    part_of = np.concatenate([np.full(len(part), i) for i, part in enumerate(parts.values())])
    kind = splits.train.kinds.get(compared[0]) if len(compared) == 1 else None
    if kind == "text":
        found = _near(drop_near_duplicates(compared[0], similarity), list(parts.values()), part_of)
    elif kind == "image":
        found = _near(drop_near_images(compared[0]), list(parts.values()), part_of)
    else:
        digests = [row_digests(part.frame.select(compared)) for part in parts.values()]
        first = first_equal(np.concatenate(digests))
        found = {int(i): (1.0, int(first[i])) for i in np.flatnonzero(part_of[first] != part_of)}
    return _leaks(parts, part_of, found)


def _leaks(parts: dict[str, Dataset], part_of: Array, found: Found) -> list[Leak]:
    if not found:
        return []
    labels = list(parts)
    names = [name for part in parts.values() for name in part.row_names()]
    rows = np.concatenate([part.frame[ROW].to_numpy() for part in parts.values()])
    return [
        Leak(labels[part_of[i]], names[i], f"{labels[part_of[j]]}: {names[j]}", round(value, 4), int(rows[i]))
        for i, (value, j) in sorted(found.items())
    ]


def content_column(dataset: Dataset) -> str | None:
    """The column that a row's content stands in: the first of texts that are sentences, or else the first of images.

    Names and codes are no content: two people may share one. Sentences have 40 characters in the mean, 20 in Chinese
    and Japanese. None for a table, whose rows are compared as a whole.
    """
    for name in dataset.of_kind("text"):
        some = dataset.frame[name].drop_nulls().head(1000).to_list()
        if some and np.mean([len(text) for text in some]) >= (20 if is_spaceless("".join(some)) else 40):
            return name
    return next(iter(dataset.of_kind("image")), None)


def running_numbers(splits: Splits) -> list[str]:
    """Columns that only number the rows, so that a copy has another value there: they hide copies.

    Whole numbers, or words without white space that each have a digit, no two rows alike. None is named where rows
    could be equal without them by chance: where, with the columns independent, one pair or more would be (n^2 / 2
    times the product of each one's chance that two rows agree), or where fewer than half of the rows would differ.
    """
    frames = [part.frame.select(splits.train.columns) for part in splits.parts().values() if len(part)]
    if len({tuple(frame.schema.items()) for frame in frames}) != 1:
        return []
    frame = pl.concat(frames)
    kinds = splits.train.kinds
    found = [name for name in frame.columns if kinds.get(name) != "id" and _numbers_rows(frame[name])]
    left = [name for name in frame.columns if name not in found and kinds.get(name) != "id"]
    if not found or not left:
        return []
    first = first_equal(row_digests(frame.select(left)))
    distinct = frame.filter(pl.Series(first == np.arange(len(first))))
    by_chance = len(frame) ** 2 / 2 * math.prod(_chance_of_equal(distinct[name]) for name in left)
    return found if by_chance < 1 and len(distinct) >= TELLS_APART * len(frame) else []


def _chance_of_equal(column: pl.Series) -> float:
    """That two rows drawn at random agree in it."""
    counts = np.bincount(first_equal(row_digests(column.to_frame())))
    return float(np.sum(counts * (counts - 1.0)) / max(1, len(column) * (len(column) - 1)))


def _numbers_rows(column: pl.Series) -> bool:
    if column.dtype == pl.String:
        alike = column.str.contains(r"^\S*\d\S*$").all()  # null where nothing is there
        return bool(alike) and column.null_count() == 0 and column.is_unique().all()
    return column.dtype.is_integer() and column.null_count() == 0 and column.is_unique().all()


def _near(step: ByLikeness, parts: Sequence[Dataset], part_of: Array) -> Found:
    """The most similar pair across splits for each row that has one."""
    each = [step.signature(part) for part in parts]
    told = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
    starts = np.searchsorted(part_of, range(len(parts)))

    def look(rows: Array) -> tuple[Array, Array]:
        found = [step.evidence(part, rows[part_of[rows] == n] - starts[n]) for n, part in enumerate(parts)]
        return np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found])

    evidence = evidence_of(told, bands_of(told, np.flatnonzero(told["same"])), look)
    members: dict[bytes, list[int]] = {}
    rows, values, lengths = evidence
    for i, end, length in zip(rows.tolist(), np.cumsum(lengths).tolist(), lengths.tolist(), strict=True):
        if told["same"][i]:
            members.setdefault(hashlib.sha256(values[end - length : end].tobytes()).digest(), []).append(i)
    groups = list(members.values())
    firsts = np.array([group[0] for group in groups], dtype=np.int64)
    label = np.zeros(len(part_of), dtype=np.int64)
    label[firsts] = [_label({int(part_of[i]) for i in group}, n) for n, group in enumerate(groups)]
    near = similar_pairs(step, bands_of(told, firsts), label, measured(step, *evidence))
    pairs = (np.searchsorted(firsts, rows).tolist() for rows in apart(near.pairs))
    return _across(groups, zip(*pairs, near.values.tolist(), strict=True), part_of)


def _label(parts: set[int], number: int) -> int:
    """Equal for groups that lie in one and the same split alone: between such there is no leak."""
    return min(parts) if len(parts) == 1 else 3 + number


def _across(groups: list[list[int]], pairs: Iterable[tuple[int, int, float]], part_of: Array) -> Found:
    """The best link to an earlier split of each row, from groups of equal rows and pairs of groups that are alike."""
    found: Found = {}

    def book(i: int, j: int, value: float) -> None:
        if part_of[i] > part_of[j] and value > found.get(i, (0.0, 0))[0]:
            found[i] = (value, j)

    for group in groups:
        for i in group[1:]:
            book(i, group[0], 1.0)  # positions run from train to test, so the first is of the earliest split
    for one, other, value in pairs:
        for these, those in ((groups[one], groups[other]), (groups[other], groups[one])):
            for k in these:
                book(k, those[0], value)
    return found
