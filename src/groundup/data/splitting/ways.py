"""Train, validation and test: which rows go where, always drawn the same from the same seed.

Every function takes the fractions ``valid`` and ``test`` (train is the rest) and raises DataError when a part that
was asked for would be empty. A fraction of 0.0 asks for no such part.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from groundup.core.dataset import Dataset, Split, Splits
from groundup.core.errors import DataError

Array = np.ndarray[Any, Any]

PARTS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)


def random(dataset: Dataset, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Splits:
    """Each row by chance, in exact proportion; within a part the rows keep their order."""
    _check_fractions("random", dataset, valid, test)
    order = np.random.default_rng(seed).permutation(len(dataset))
    part = np.full(len(dataset), TRAIN)
    num_valid, num_test = _counts(len(dataset), valid, test)
    part[order[:num_test]] = TEST
    part[order[num_test : num_test + num_valid]] = VALID
    return _taken("random", dataset, part, valid, test)


def stratified(dataset: Dataset, column: str, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Splits:
    """Each class of ``column`` in the same proportion in every part, to within a row, and in every part at least once.

    Raises DataError for a missing value, and for a class with fewer rows than there are parts.
    """
    _check_fractions("stratified", dataset, valid, test)
    values = complete(dataset, column, "stratified")
    num_parts = 1 + (valid > 0) + (test > 0)
    generator = np.random.default_rng(seed)
    part = np.full(len(dataset), TRAIN)
    owed_valid = owed_test = 0.0
    # In order of first appearance, so that the draw does not depend on how classes sort.
    for value, positions in groups(values):
        if len(positions) < num_parts:
            raise DataError(
                f"stratified: the class {value!r} of {column!r} has {len(positions)} rows, fewer than the {num_parts} "
                f"parts. Gather rare classes into one before the split, or use 'random'; {column!r} has "
                f"{values.n_unique()} distinct values (a column of measurements has no classes)."
            )
        size = len(positions)
        # What rounding took from one class is given to the next, so that the totals come out right too.
        owed_valid, owed_test = owed_valid + size * valid, owed_test + size * test
        num_test = _whole(owed_test, 1, size - num_parts + 1) if test else 0
        num_valid = _whole(owed_valid, 1, size - num_test - 1) if valid else 0
        owed_valid, owed_test = owed_valid - num_valid, owed_test - num_test
        drawn = generator.permutation(positions)
        part[drawn[:num_test]] = TEST
        part[drawn[num_test : num_test + num_valid]] = VALID
    return _taken("stratified", dataset, part, valid, test)


def by_hash(dataset: Dataset, column: str, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Splits:
    """By the SHA-256 of the value in ``column`` and the seed: a row stays in its part however the data grows.

    Equal values share a part. The proportions hold on average, so few distinct values can leave a part empty, which
    raises DataError; so does a missing value.
    """
    _check_fractions("by_hash", dataset, valid, test)
    values = complete(dataset, column, "by_hash")
    part = np.full(len(dataset), TRAIN)
    for value, positions in groups(values):
        digest = hashlib.sha256(f"{seed}:{value}".encode("utf-8", "surrogatepass")).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        part[positions] = TEST if place < test else VALID if place < test + valid else TRAIN
    return _taken("by_hash", dataset, part, valid, test)


def by_time(dataset: Dataset, column: str, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Splits:
    """The earliest rows to train, then valid, the latest to test; each part sorted by time.

    Rows of one time stay together, so a part may be a little smaller or larger than asked. ``seed`` has no effect:
    nothing is drawn. Raises DataError for a missing time, and for a column that holds neither times nor numbers.
    """
    _check_fractions("by_time", dataset, valid, test)
    order, cut = times(dataset, column, "by_time")
    num_valid, num_test = _counts(len(dataset), valid, test)
    first, second = cut(len(dataset) - num_test - num_valid), cut(len(dataset) - num_test)
    pieces = (order[:first], order[first:second], order[second:])
    return _checked("by_time", dataset, pieces, valid, test)


def contiguous(
    dataset: Dataset, column: str | None = None, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> Splits:
    """What comes first to train, then valid, then test.

    With a ``column`` of text each document is cut by characters into up to three pieces, so that one long document
    can be split; other columns go with each piece. Without a column the rows are cut where they stand. ``seed`` has
    no effect: nothing is drawn.
    """
    _check_fractions("contiguous", dataset, valid, test, rows_are_cut=column is not None)
    if column is None:
        num_valid, num_test = _counts(len(dataset), valid, test)
        order = np.arange(len(dataset))
        first, second = len(order) - num_valid - num_test, len(order) - num_test
        return _checked("contiguous", dataset, (order[:first], order[first:second], order[second:]), valid, test)
    texts = complete(dataset, column, "contiguous")
    if texts.dtype != pl.String:
        raise DataError(
            f"contiguous: the column {column!r} holds {texts.dtype}, and only text is cut. To cut the rows where they "
            "stand name no column; to cut by time use 'by_time'."
        )
    pieces: tuple[list[str], ...] = ([], [], [])
    for text in texts.to_list():
        first, second = int(len(text) * (1 - valid - test)), int(len(text) * (1 - test))
        for piece, cut in zip(pieces, (text[:first], text[first:second], text[second:]), strict=True):
            piece.append(cut)
    parts = [_cut(dataset, column, piece) for piece in pieces]
    for name, share, part in zip(PARTS, (1.0, valid, test), parts, strict=True):
        if share > 0 and len(part) == 0:
            raise DataError(f"contiguous: the text in {column!r} is too short to give {name} a piece.")
    train, held, last = parts
    return Splits(_whole_part(train, "train"), _whole_part(held, "valid"), _whole_part(last, "test"))


def grouped(dataset: Dataset, column: str, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Splits:
    """All rows with one value of ``column`` (a patient, a site, an author) to one part, as near the shares as may be.

    Groups are drawn in random order, each to the part that lacks most rows. Raises DataError for a missing value, and
    for fewer groups than parts.
    """
    _check_fractions("grouped", dataset, valid, test)
    found = [positions for _, positions in groups(complete(dataset, column, "grouped"))]
    num_parts = 1 + (valid > 0) + (test > 0)
    if len(found) < num_parts:
        raise DataError(
            f"grouped: {column!r} has {len(found)} distinct values, fewer than the {num_parts} parts; "
            "cut rows with 'random', or ask for fewer parts by test = 0.0."
        )
    lacking = np.array([1 - valid - test, valid, test]) * len(dataset)
    lacking[1:][np.array([valid, test]) == 0] = -np.inf
    part = np.full(len(dataset), TRAIN)
    order = np.random.default_rng(seed).permutation(len(found))
    empty = set(np.flatnonzero(np.isfinite(lacking)).tolist())
    for number, index in enumerate(order.tolist()):
        # The last groups go to the parts that have none yet.
        choices = sorted(empty) if len(order) - number <= len(empty) else range(3)
        chosen = max(choices, key=lambda choice: lacking[choice])
        part[found[index]] = chosen
        lacking[chosen] -= len(found[index])
        empty.discard(chosen)
    return _taken("grouped", dataset, part, valid, test)


NAMES = {
    "train": ("train", "training", "learn"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing", "holdout"),
}
"""What the parts are called where data come split already."""


def given(
    dataset: Dataset,
    column: str = "split",
    valid: float = 0.1,
    names: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> Splits:
    """The parts as ``column`` names them, such as train, valid and test, in whatever case; the column itself goes.

    ``names`` says what each part is called where it is not one of the usual ways (``{ train = ["a", "b"], test = ["c"]
    }``). Where no row is of the valid part, the share ``valid`` of train's rows is drawn for it by chance. Raises
    DataError for a missing or unknown name, and for a train part without rows.
    """
    values = complete(dataset, column, "given").cast(pl.String)
    strange = sorted(set(names or ()) - set(PARTS))
    if strange:
        raise DataError(f"given.names: read {strange[0]!r}, expected {', '.join(PARTS)}.")
    known = {name.lower(): number for number, part in enumerate(PARTS) for name in (names or NAMES).get(part, ())}
    found = values.str.strip_chars().str.to_lowercase()
    unknown = values.filter(~found.is_in(list(known))).unique(maintain_order=True).to_list()
    if unknown:
        raise DataError(
            f"given: {column!r} holds {unknown[0]!r}, which names no part. Known are {', '.join(known)}; say others by "
            f'names = {{ train = ["{unknown[0]}"], ... }}.'
        )
    part = found.replace_strict(known, return_dtype=pl.Int64).to_numpy().copy()
    dataset = dataset.with_frame(dataset.frame.drop(column))
    dataset = dataclasses.replace(dataset, kinds={n: kind for n, kind in dataset.kinds.items() if n != column})
    train = np.flatnonzero(part == TRAIN)
    if not (part == VALID).any():
        _check_fractions("given", dataset, valid, 0.0)
        num_valid, _ = _counts(len(train), valid, 0.0)
        part[np.random.default_rng(seed).permutation(train)[:num_valid]] = VALID
    if not (part == TRAIN).any():
        raise DataError(f"given: no row of {column!r} is left to train on.")
    pieces = [np.flatnonzero(part == number) for number in range(3)]
    return Splits(*(dataset.take(piece, name) for piece, name in zip(pieces, _NAMED, strict=True)))


_NAMED: tuple[Split, ...] = ("train", "valid", "test")


def _check_fractions(name: str, dataset: Dataset, valid: float, test: float, rows_are_cut: bool = False) -> None:
    for what, fraction in (("valid", valid), ("test", test)):
        if not 0 <= fraction < 1:
            raise DataError(f"{name}: {what} is {fraction}; expected a fraction of the rows, from 0.0 to below 1.0.")
    if valid + test >= 1:
        raise DataError(f"{name}: valid {valid} and test {test} make {valid + test:g}; nothing would be left to train.")
    num_parts = 1 if rows_are_cut else 1 + (valid > 0) + (test > 0)
    if len(dataset) < num_parts:
        raise DataError(
            f"{name}: {dataset.origin or 'the data'} has {len(dataset)} rows, too few for {num_parts} parts. One long "
            "text is cut by split = { use = 'contiguous', column = ... }."
        )


def _counts(size: int, valid: float, test: float) -> tuple[int, int]:
    """Rows of valid and test: rounded, but one at least where any was asked for, and one left to train."""
    num_test = _whole(size * test, 1, size - 1 - (valid > 0)) if test else 0
    num_valid = _whole(size * valid, 1, size - 1 - num_test) if valid else 0
    return num_valid, num_test


def _whole(amount: float, low: int, high: int) -> int:
    return max(low, min(round(amount), high))


def times(dataset: Dataset, column: str, by: str) -> tuple[Array, Callable[[int], int]]:
    """Positions in order of time, and the nearest place to a wanted one where two different times meet.

    Raises DataError for a missing time, and for a column that holds neither times nor numbers.
    """
    values = complete(dataset, column, by)
    if not (values.dtype.is_temporal() or values.dtype.is_numeric()):
        raise DataError(
            f"{by}: the column {column!r} holds {values.dtype}, which has no order in time. Have the source read "
            "it as a time (the csv source takes time = [...]), or name another column."
        )
    order = values.arg_sort().to_numpy().astype(np.int64)
    ordered = values[order.tolist()]
    # The place of the first row with the same time: where a cut may be made.
    starts = np.flatnonzero(np.concatenate([[True], (ordered != ordered.shift(1)).to_numpy()[1:]]))
    possible = np.append(starts, len(dataset))
    return order, lambda wanted: int(possible[np.argmin(np.abs(possible - wanted))])


def complete(dataset: Dataset, column: str, by: str) -> pl.Series:
    """A column to split by. Raises DataError that names rows without a value."""
    dataset.need(column, by=by)
    values = dataset.frame[column]
    if values.null_count():
        missing = np.flatnonzero(values.is_null().to_numpy())
        rows = ", ".join(dataset.row_names()[i] for i in missing[:3].tolist())
        raise DataError(
            f"{by}: {len(missing)} rows have no value in {column!r} ({rows}{', ...' if len(missing) > 3 else ''}). "
            "Remove or fill them before the split."
        )
    return values


def groups(values: pl.Series) -> list[tuple[Any, Array]]:
    """(value, positions) in order of first appearance."""
    found = (
        pl.DataFrame({"value": values})
        .with_row_index("position")
        .group_by("value", maintain_order=True)
        .agg(pl.col("position"))
    )
    return [(value, np.asarray(positions, dtype=np.int64)) for value, positions in found.iter_rows()]


def _taken(name: str, dataset: Dataset, part: Array, valid: float, test: float) -> Splits:
    train, held, last = (np.flatnonzero(part == number) for number in range(3))
    return _checked(name, dataset, (train, held, last), valid, test)


def _checked(name: str, dataset: Dataset, pieces: tuple[Array, Array, Array], valid: float, test: float) -> Splits:
    for what, share, positions in zip(PARTS, (1.0, valid, test), pieces, strict=True):
        if share > 0 and len(positions) == 0:
            raise DataError(
                f"{name}: of {len(dataset)} rows none came to {what}, which asks for {min(share, 1 - valid - test):g} "
                "of them. Take another way to split ('random' is exact), larger fractions or another seed; "
                "test = 0.0 asks for no test part."
            )
    train, held, last = pieces
    return Splits(dataset.take(train, "train"), dataset.take(held, "valid"), dataset.take(last, "test"))


def _whole_part(part: Dataset, split: Split) -> Dataset:
    return dataclasses.replace(part, split=split)


def _cut(dataset: Dataset, column: str, texts: list[str]) -> Dataset:
    """The dataset with these texts instead; rows whose piece is empty are not there."""
    frame = dataset.frame.with_columns(pl.Series(column, texts, dtype=pl.String))
    return dataset.with_frame(frame.filter(pl.col(column) != ""))
