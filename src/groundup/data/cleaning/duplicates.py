"""Duplicates, exact and near: dropped within a dataset, and looked for across splits, where they would be leaks.

Near means a high resemblance in Broder's sense ("On the resemblance and containment of documents", 1997): with
S(A) the set of all runs of five consecutive tokens of A (its shingles), r(A, B) = |S(A) & S(B)| / |S(A) | S(B)|.
Candidates come from banded min-wise hashes (Broder et al. 2000); each is then verified by its exact r, so a
pair that is reported is one.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import rensa  # type: ignore[import-untyped]

from groundup.core.dataset import Dataset, Splits
from groundup.core.errors import DataError
from groundup.data.cleaning.shingles import shingles
from groundup.data.cleaning.text import text_column

Array = np.ndarray[Any, Any]

NUM_HASHES = 128
RECALL = 0.9999
"""How likely a pair just at the asked similarity must be to become a candidate."""

SEED = 0x5EED
ROWS_AT_ONCE = 20_000


class Leak(NamedTuple):
    """A row of ``split`` that an earlier split (train, then valid) has too, or has nearly."""

    split: str
    name: str
    like: str
    """The row it is like, as ``"train: json/decoder.py"``."""
    similarity: float


def drop_exact_duplicates(dataset: Dataset, columns: Sequence[str] | None = None) -> Dataset:
    """Keeps the first of all rows that are equal in ``columns``: all but the id columns when not given.

    Missing values count as equal. Images and lists are compared by the SHA-256 of their content.
    """
    names = _compared(dataset, columns, "drop_exact_duplicates")
    first = _first_equal(dataset.frame.select(names))
    positions = np.arange(len(dataset))
    known = dataset.row_names()
    reasons = {int(i): f"exact duplicate: of {known[first[i]]}" for i in np.flatnonzero(first != positions)}
    return dataset.keep(first == positions, reasons)


def drop_near_duplicates(dataset: Dataset, column: str = "text", similarity: float = 0.8) -> Dataset:
    """Keeps the first of each group of documents that are linked by a resemblance of at least ``similarity``.

    Resemblance is Broder's r(A, B) = |S(A) & S(B)| / |S(A) | S(B)| over runs of five tokens (Broder 1997), exact;
    white space does not count. Links are transitive: of A like B like C, A alone stays. Documents without a token
    are left alone. Raises DataError for a similarity outside (0, 1].
    """
    sets = shingles([text or "" for text in text_column(dataset, column, "drop_near_duplicates")])
    clusters = _Clusters(len(sets))
    links: dict[int, tuple[float, int]] = {}
    for i, j in candidate_pairs(sets, similarity):
        if clusters.find(i) == clusters.find(j):
            continue
        found = resemblance(sets[i], sets[j], similarity)
        if found >= similarity:
            clusters.join(i, j)
            for one, other in ((i, j), (j, i)):
                links[one] = max(links.get(one, (0.0, other)), (found, other), key=lambda link: link[0])
    kept = np.array([clusters.find(i) == i for i in range(len(sets))], dtype=bool)
    known = dataset.row_names()
    reasons = {
        int(i): f"near duplicate: {links[int(i)][0]:.2f} like {known[links[int(i)][1]]}" for i in np.flatnonzero(~kept)
    }
    return dataset.keep(kept, reasons)


def find_leaks(splits: Splits, columns: str | Sequence[str] | None = None, similarity: float = 0.8) -> list[Leak]:
    """Rows of valid and test that an earlier split has too; an empty list proves that there are none.

    One column of text is compared by resemblance, as in ``drop_near_duplicates``, so that exact and near copies are
    found. Several columns, or one of another kind, are compared for equal values in all of them; ``None`` is every
    column but the ids. One leak a row: its most similar one.
    """
    parts = splits.parts()
    names = [columns] if isinstance(columns, str) else columns
    compared = _compared(splits.train, names, "find_leaks")
    part_of = np.concatenate([np.full(len(part), i) for i, part in enumerate(parts.values())])
    if len(compared) == 1 and splits.train.kinds.get(compared[0]) == "text":
        texts = [text or "" for part in parts.values() for text in text_column(part, compared[0], "find_leaks")]
        found = _near_leaks(shingles(texts), part_of, similarity)
    else:
        first = _first_equal(pl.concat([part.frame.select(compared) for part in parts.values()]))
        across = np.flatnonzero(part_of[first] != part_of)
        found = {int(i): (1.0, int(first[i])) for i in across}
    if not found:
        return []
    labels = list(parts)
    rows = [name for part in parts.values() for name in part.row_names()]
    return [
        Leak(labels[part_of[i]], rows[i], f"{labels[part_of[j]]}: {rows[j]}", round(value, 4))
        for i, (value, j) in sorted(found.items())
    ]


def _near_leaks(sets: Sequence[Array], part_of: Array, similarity: float) -> dict[int, tuple[float, int]]:
    """Position -> (similarity, the earlier split's position) of the most similar pair across splits."""
    found: dict[int, tuple[float, int]] = {}
    twins: dict[bytes, list[int]] = {}
    for i, one in enumerate(sets):
        if len(one):
            twins.setdefault(_digest(one), []).append(i)

    def book(i: int, j: int, value: float) -> None:
        i, j = (i, j) if part_of[i] > part_of[j] else (j, i)
        if part_of[i] != part_of[j] and value > found.get(i, (0.0, 0))[0]:
            found[i] = (value, j)

    for group in twins.values():
        for i in group[1:]:
            book(i, group[0], 1.0)
    for i, j in candidate_pairs(sets, similarity):
        groups = twins[_digest(sets[i])], twins[_digest(sets[j])]
        if groups[0] is groups[1] or len({part_of[k] for group in groups for k in group}) == 1:
            continue
        value = resemblance(sets[i], sets[j], similarity)
        if value >= similarity:
            for these, those in (groups, groups[::-1]):
                earliest = those[0]  # positions run from train to test, so this is the earliest split's
                for k in these:
                    book(k, earliest, value)
    return found


def _compared(dataset: Dataset, columns: Sequence[str] | None, by: str) -> list[str]:
    if columns is None:
        names = [name for name in dataset.columns if dataset.kinds.get(name) != "id"]
    else:
        names = [columns] if isinstance(columns, str) else list(columns)
        dataset.need(*names, by=by)
    if not names:
        raise DataError(f"{by}: {dataset.origin or 'the data'} has no column to compare but its ids.")
    return names


def _first_equal(frame: pl.DataFrame) -> Array:
    """For each row the position of the first row that equals it."""
    keys = frame.with_columns(
        pl.Series(name, _hashed(frame[name])) for name in frame.columns if not _groups(frame[name].dtype)
    )
    numbered = keys.with_row_index("position of the row")
    first = numbered.select(pl.col("position of the row").first().over(keys.columns))
    return first.to_series().to_numpy().astype(np.int64)


def _groups(kind: pl.DataType) -> bool:
    """Whether polars can group by it."""
    return not (kind.is_nested() or kind in (pl.Binary, pl.Object))


def _hashed(column: pl.Series) -> list[bytes | None]:
    contents = (None if value is None else _content(value) for value in column)
    return [None if content is None else hashlib.sha256(content).digest() for content in contents]


def _content(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return repr(value.to_list() if isinstance(value, pl.Series) else value).encode()


def resemblance(one: Array, other: Array, at_least: float = 0.0) -> float:
    """|A & B| / |A | B| of two sorted arrays of distinct shingles (Broder 1997); 0 where it is below ``at_least``
    by their sizes alone."""
    small, large = sorted((len(one), len(other)))
    if large == 0 or small < at_least * large:
        return 0.0
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (small + large - shared)


def candidate_pairs(sets: Sequence[Array], similarity: float) -> Iterator[tuple[int, int]]:
    """Pairs of positions, the smaller first, that may be this similar; a pair that is so is missed 1 in 10,000 times.

    Equal sets are each paired with the first of them alone, and that one with the others. Raises DataError for a
    similarity outside (0, 1].
    """
    if not 0 < similarity <= 1:
        raise DataError(f"similarity is {similarity}; expected more than 0, and at most 1 (the same).")
    first_of: dict[bytes, int] = {}
    alone: list[int] = []
    for i, one in enumerate(sets):
        if len(one) == 0:
            continue
        first = first_of.setdefault(_digest(one), i)
        if first == i:
            alone.append(i)
        else:
            yield first, i
    if len(alone) > 1 and similarity < 1:
        yield from _banded(_signatures([sets[i] for i in alone]), np.array(alone), similarity)


def _digest(one: Array) -> bytes:
    return hashlib.sha256(one.tobytes()).digest()


def _signatures(sets: Sequence[Array]) -> Array:
    """[documents, NUM_HASHES] of min-wise hashes, as uint32."""
    rows: list[Array] = []
    for start in range(0, len(sets), ROWS_AT_ONCE):
        part = sets[start : start + ROWS_AT_ONCE]
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in part])]).astype(np.uint64)
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(part), offsets, NUM_HASHES, SEED)
        rows.append(np.array(matrix.to_rows(), dtype=np.uint32))
    return np.concatenate(rows)


def rows_per_band(similarity: float) -> int:
    """The most hashes a band may have so that a pair at ``similarity`` shares one with probability RECALL.

    With b bands of r hashes that is 1 - (1 - s^r)^b (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4).
    """
    fitting = [r for r in range(1, NUM_HASHES + 1) if 1 - (1 - similarity**r) ** (NUM_HASHES // r) >= RECALL]
    return max(fitting, default=1)


def _banded(signatures: Array, names: Array, similarity: float) -> Iterator[tuple[int, int]]:
    size = rows_per_band(similarity)
    seen: set[tuple[int, int]] = set()
    for start in range(0, NUM_HASHES - size + 1, size):
        band = np.ascontiguousarray(signatures[:, start : start + size])
        _, inverse = np.unique(band.view(f"V{band.itemsize * size}").ravel(), return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1):
            for k in range(1, len(bucket)):
                for j in bucket[:k]:
                    pair = int(names[j]), int(names[bucket[k]])
                    if pair not in seen:
                        seen.add(pair)
                        yield pair


@dataclasses.dataclass
class _Clusters:
    """Union-find whose root is the smallest member."""

    size: int

    def __post_init__(self) -> None:
        self.parent = list(range(self.size))

    def find(self, i: int) -> int:
        """The smallest member of the cluster of ``i``."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Make two clusters one."""
        one, other = sorted((self.find(i), self.find(j)))
        self.parent[other] = one
