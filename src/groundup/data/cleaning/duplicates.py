"""Duplicates, exact and near, dropped within a dataset; what is compared of a row is short, so that any number fits.

Near means a high resemblance in Broder's sense ("On the resemblance and containment of documents", 1997): with
S(A) the set of all runs of five consecutive tokens of A (its shingles), r(A, B) = |S(A) & S(B)| / |S(A) | S(B)|.
Candidates come from banded min-wise hashes (Broder et al. 2000); each is then verified by its exact r, so a
pair that is reported is one.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from groundup.core.contract import Contract, State
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.cleaning.clusters import Clusters, Links, Measure, Names, without
from groundup.data.cleaning.digests import first_equal, row_digests
from groundup.data.cleaning.minhash import Sets, in_company, rows_per_band, signatures, similar_pairs
from groundup.data.cleaning.shingles import shingles
from groundup.data.cleaning.text import text_column

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class drop_exact_duplicates:
    """Keeps the first of all rows that are equal in ``columns``: all but the id columns when not given.

    Missing values count as equal, as do NaN and 0.0 and -0.0. Rows are compared by a 16-byte digest of their content
    (SHA-256 of texts and bytes, cut); of rows in shards those are never all in memory.
    Raises DataError for a column that is not there, or when there is none but ids.
    """

    columns: Sequence[str] | None = None

    CONTRACT: ClassVar[Contract] = "pairwise"

    def __post_init__(self) -> None:
        refuse_data(self.columns, "drop_exact_duplicates")

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without the later ones of equal rows."""
        return without(dataset, self.removed([self.signature(dataset)])[0])

    def signature(self, shard: Dataset) -> State:
        """``digests`` [n, 2] uint64 and the rows' ``names``."""
        return {"digests": self.keys(shard), "names": shard.row_names()}

    def removed(self, signatures: list[State]) -> list[dict[int, str]]:
        """For each shard: position -> "exact duplicate: of ...", the row that stays."""
        first = first_equal(np.concatenate([one["digests"] for one in signatures]))
        names = Names([one["names"] for one in signatures])
        gone = np.flatnonzero(first != np.arange(len(first)))
        return names.by_shard({i: self.reason(names[int(first[i])]) for i in gone.tolist()})

    def keys(self, shard: Dataset) -> Array:
        """[rows, 2] uint64, the digest of each row."""
        return row_digests(shard.frame.select(compared_columns(shard, self.columns, "drop_exact_duplicates")))

    def reason(self, first: str) -> str:
        """Why a row goes that equals the row of this name."""
        return f"exact duplicate: of {first}"


@dataclasses.dataclass(frozen=True)
class drop_near_duplicates:
    """Keeps the first of each group of documents that are linked by a resemblance of at least ``similarity``.

    Resemblance is Broder's r(A, B) = |S(A) & S(B)| / |S(A) | S(B)| over runs of five tokens (Broder 1997), exact;
    white space does not count. Links are transitive: of A like B like C, A alone stays. Documents without a token
    are left alone. A pair just at ``similarity`` is missed 1 in 10,000 times. Of each document 128 min-wise hashes
    are held (512 bytes), and of those alone that share a band with another one the shingles.
    Raises DataError for a similarity outside (0, 1].
    """

    column: str = "text"
    similarity: float = 0.8

    CONTRACT: ClassVar[Contract] = "pairwise"

    def __post_init__(self) -> None:
        refuse_data(self.column, "drop_near_duplicates")
        rows_per_band(self.similarity)

    def __call__(self, dataset: Dataset) -> Dataset:
        """The dataset without those that are like an earlier one."""
        found = [self.signature(dataset)]
        evidence = [self.evidence(dataset, positions) for positions in self.doubtful(found)]
        return without(dataset, self.removed(found, evidence)[0])

    def signature(self, shard: Dataset) -> State:
        """``minhash`` [n, 128] uint32, ``sequences`` [n] uint64 (0 for a document without a token), ``names``."""
        texts = [text or "" for text in text_column(shard, self.column, "drop_near_duplicates")]
        minhash, sequences = signatures(texts)
        return {"minhash": minhash, "sequences": sequences, "names": shard.row_names()}

    def doubtful(self, signatures: list[State]) -> list[Array]:
        """For each shard the positions of documents that may be like another one; their rows are read once more."""
        sequences = np.concatenate([one["sequences"] for one in signatures])
        minhash = np.concatenate([one["minhash"] for one in signatures])
        found = _doubtful(minhash, sequences, self.similarity)
        ends = np.cumsum([len(one["sequences"]) for one in signatures])
        parts = np.split(found, np.searchsorted(found, ends[:-1]))
        return [part - end + len(one["sequences"]) for part, end, one in zip(parts, ends, signatures, strict=True)]

    def evidence(self, shard: Dataset, positions: Array) -> State:
        """The shingles of the documents at these positions: ``positions``, ``hashes`` sorted, ``lengths``."""
        texts = shard.frame[self.column][positions].to_list()
        sets = Sets.of(shingles([text or "" for text in texts]))
        return {"positions": positions, "hashes": sets.hashes, "lengths": np.diff(sets.offsets)}

    def removed(self, signatures: list[State], evidence: list[State] | None = None) -> list[dict[int, str]]:
        """For each shard: position -> "near duplicate: 0.93 like ..." of each document that goes.

        With the ``evidence`` of the ``doubtful`` ones resemblance is exact. Without it, it is the share of the 128
        min-wise hashes that agree, whose standard error at r is sqrt(r (1 - r) / 128): 0.035 at 0.8.
        """
        names = Names([one["names"] for one in signatures])
        sequences = np.concatenate([one["sequences"] for one in signatures])
        minhash = np.concatenate([one["minhash"] for one in signatures])
        if evidence is None:
            rows = _first_of(sequences)
            found = Alike(rows, minhash[rows], _agreement(minhash[rows]), _keys(minhash[rows]), self.similarity)
        else:
            rows = np.concatenate([e["positions"] + start for e, start in zip(evidence, names.starts, strict=True)])
            sets = Sets(
                np.concatenate([e["hashes"] for e in evidence]),
                np.concatenate([[0], np.cumsum(np.concatenate([e["lengths"] for e in evidence]))]),
            )
            found = Alike(rows, minhash[rows], sets.resemblance, _keys(sets.each()), self.similarity)
        gone = found.linked(sequences)
        return names.by_shard({i: f"near duplicate: {r:.2f} like {names[j]}" for i, (r, j) in gone.items()})


def _doubtful(minhash: Array, sequences: Array, similarity: float) -> Array:
    """Positions of the documents that share a band with another one, but for copies token by token."""
    alone = _first_of(sequences)
    doubtful: Array = alone[in_company(minhash[alone], similarity)]
    return doubtful


@dataclasses.dataclass(frozen=True)
class Alike:
    """Documents that may be like one another, with all that is known of them."""

    rows: Array
    """Their positions among all documents, rising."""
    minhash: Array
    measure: Measure
    """Of two of them, by their place in ``rows``."""
    keys: list[bytes]
    """Equal where the documents' sets are."""
    similarity: float

    def linked(self, sequences: Array) -> Links:
        """Position of each document that is linked to an earlier one -> (resemblance, position of what it is like).

        ``sequences`` are the hashes of all documents; where they are equal, only the first is among ``rows``.
        """
        clusters = Clusters(len(sequences))
        for i, j, value in self._pairs(clusters):
            clusters.join(int(self.rows[i]), int(self.rows[j]), value)
        first = _first_copies(sequences)
        for copy in np.flatnonzero(first != np.arange(len(first))).tolist():
            clusters.join(copy, int(first[copy]), 1.0)
        place = np.zeros(len(first), dtype=np.int64)
        place[self.rows] = np.arange(len(self.rows))

        def measure(one: Array, other: Array) -> Array:
            values = np.ones(len(one))
            unlike = first[one] != first[other]
            values[unlike] = self.measure(place[first[one[unlike]]], place[first[other[unlike]]])
            return values

        return clusters.later_ones(measure, self.similarity)

    def _pairs(self, clusters: Clusters) -> Iterator[tuple[int, int, float]]:
        """Pairs of places that are alike; of equal sets each with their first, and that one alone with others."""
        first_of: dict[bytes, int] = {}
        alone = []
        for place, key in enumerate(self.keys):
            first = first_of.setdefault(key, place)
            if first == place:
                alone.append(place)
            else:
                yield first, place, 1.0
        chosen = np.array(alone, dtype=np.int64)
        for i, j, value in similar_pairs(
            self.minhash[chosen],
            self.similarity,
            lambda one, other: self.measure(chosen[one], chosen[other]),
            lambda: np.array([clusters.find(i) for i in self.rows[chosen].tolist()], dtype=np.int64),
        ):
            yield alone[i], alone[j], value


def _agreement(minhash: Array) -> Measure:
    """The share of min-wise hashes that two documents have in common."""

    def measure(one: Array, other: Array) -> Array:
        pieces = 1 + len(one) // 10_000
        parts = [
            np.mean(minhash[a] == minhash[b], axis=1)
            for a, b in zip(np.array_split(one, pieces), np.array_split(other, pieces), strict=True)
        ]
        return np.concatenate(parts)

    return measure


def _keys(sets: Iterable[Array]) -> list[bytes]:
    return [hashlib.sha256(one.tobytes()).digest() for one in sets]


def _first_copies(sequences: Array) -> Array:
    """For each document the first with the same tokens in the same order; one without a token stands alone."""
    first = np.arange(len(sequences))
    some = np.flatnonzero(sequences)
    _, at, inverse = np.unique(sequences[some], return_index=True, return_inverse=True)
    first[some] = some[at[inverse]]
    return first


def _first_of(sequences: Array) -> Array:
    """Positions of the documents that have tokens, and other ones than any before."""
    return np.flatnonzero((_first_copies(sequences) == np.arange(len(sequences))) & (sequences != 0))


def refuse_data(option: Any, step: str) -> None:
    """Raises DataError where a step is called with data before it has its options."""
    if isinstance(option, Dataset):
        raise DataError(f"{step}: is made with its options first, then called with data: {step}()(dataset).")


def compared_columns(dataset: Dataset, columns: Sequence[str] | None, by: str) -> list[str]:
    """The columns that are compared: those given, or all but ids."""
    if columns is None:
        names = [name for name in dataset.columns if dataset.kinds.get(name) != "id"]
    else:
        names = [columns] if isinstance(columns, str) else list(columns)
        dataset.need(*names, by=by)
    if not names:
        raise DataError(f"{by}: {dataset.origin or 'the data'} has no column to compare but its ids.")
    return names
