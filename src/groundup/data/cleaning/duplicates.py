"""Duplicates, exact and near, dropped within a dataset; of rows in shards few bytes are ever in memory together.

Near means a high resemblance in Broder's sense ("On the resemblance and containment of documents", 1997): with
S(A) the set of all runs of five consecutive tokens of A (its shingles), r(A, B) = |S(A) & S(B)| / |S(A) | S(B)|.
Candidates come from banded min-wise hashes (Broder et al. 2000); each is then verified by its exact r, so a
pair that is reported is one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from groundup.core.contract import Contract, State
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.data.cleaning.clusters import links_of
from groundup.data.cleaning.digests import first_equal, row_digests
from groundup.data.cleaning.minhash import Sets, rows_per_band, signatures
from groundup.data.cleaning.removing import Names, without
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
    white space does not count. Links are transitive: of A like B like C, A alone stays, and of C, which may be unlike
    it, the most alike among those that it was held against is named. Documents without a token are left alone. A pair
    just at ``similarity`` is missed 1 in 10,000 times. Of documents in shards 20 bytes each are in memory together;
    keys and shingles (8 bytes a token) of those that share one go through files.
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
        return without(dataset, links_of(self, dataset))

    def signature(self, shard: Dataset) -> State:
        """``same`` [n] uint64, of all tokens in their order (0 for none), and ``keys`` [n, bands] uint64."""
        texts = [text or "" for text in text_column(shard, self.column, "drop_near_duplicates")]
        keys, sequences = signatures(texts, self.similarity)
        return {"same": sequences, "keys": keys}

    def evidence(self, shard: Dataset, positions: Array) -> tuple[Array, Array]:
        """The shingles of the documents at these positions, each one's sorted, and how many each has."""
        texts = shard.frame[self.column][positions].to_list()
        sets = Sets.of(shingles([text or "" for text in texts]))
        return sets.hashes, np.diff(sets.offsets)

    def likeness(self, values: Array, offsets: Array, one: Array, other: Array) -> Array:
        """Resemblance of pairs of documents, by their place in the evidence; 0 where it is less than is asked for."""
        found = Sets(values, offsets).resemblance(one, other)
        return np.where(found >= self.similarity, found, 0.0)

    def reason(self, first: str, likeness: float) -> str:
        """Why a document goes that is like the one of this name."""
        return f"near duplicate: {likeness:.2f} like {first}"


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
