"""Which documents may be nearly the same, by banded min-wise hashes, and how alike they are, by counting.

Broder: On the resemblance and containment of documents, 1997; Broder et al.: Min-wise independent permutations, 2000.
Everything is done for all documents at once; nothing is done twice for the same pair.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import rensa  # type: ignore[import-untyped]

from groundup.core.errors import DataError
from groundup.data.cleaning.clusters import Measure
from groundup.data.cleaning.shingles import PLACE_VALUES, hashed_runs

Array = np.ndarray[Any, Any]

NUM_HASHES = 128
RECALL = 0.9999
"""How likely a pair just at the asked similarity must be to become a candidate."""

SEED = 0x5EED
PAIRS_AT_ONCE = 500_000
RUNS_AT_ONCE = 2_000_000
"""Runs of tokens that are looked at together, so that memory stays bounded."""

Bands = list[tuple[Array, Array]]
"""For each band the members of its buckets, and where each bucket begins."""


@dataclasses.dataclass(frozen=True)
class Sets:
    """The shingles of some documents, sorted and distinct, one document behind the other."""

    hashes: Array
    offsets: Array

    @classmethod
    def of(cls, sets: Sequence[Array]) -> Sets:
        """From one array of sorted distinct hashes a document."""
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in sets], dtype=np.int64)])
        return cls(np.concatenate([*sets, np.empty(0, dtype=np.uint64)]), offsets)

    def each(self) -> Iterator[Array]:
        """One document's hashes after another's."""
        borders = self.offsets.tolist()
        return (self.hashes[a:b] for a, b in itertools.pairwise(borders))

    def resemblance(self, one: Array, other: Array) -> Array:
        """|A & B| / |A | B| of pairs of documents."""
        sizes = np.diff(self.offsets)
        both = sizes[one] + sizes[other]
        shared = np.zeros(len(one), dtype=np.int64)
        borders = np.searchsorted(np.cumsum(both), np.arange(RUNS_AT_ONCE, both.sum(), RUNS_AT_ONCE))
        for part in np.split(np.arange(len(one)), borders):
            shared[part] = self._shared(one[part], other[part])
        return np.divide(shared, both - shared, out=np.zeros(len(one)), where=both > shared)

    def _shared(self, one: Array, other: Array) -> Array:
        """How many hashes stand in both sets of each pair: those that have an equal neighbour once all are sorted."""
        rows = np.concatenate([one, other])
        starts, sizes = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        ends = np.cumsum(sizes)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + sizes, sizes)
        # A hash gives way to the number of its pair by as many bits as that needs: by 21 at most, where sets are small.
        bits = np.uint64(max(1, (len(one) - 1).bit_length()))
        pair = np.repeat(np.tile(np.arange(len(one), dtype=np.uint64), 2), sizes)
        keys = np.sort((pair << (np.uint64(64) - bits)) | (self.hashes[places] >> bits))
        twice = keys[1:][keys[1:] == keys[:-1]] >> (np.uint64(64) - bits)
        return np.bincount(twice.astype(np.int64), minlength=len(one))


def signatures(texts: Sequence[str]) -> tuple[Array, Array]:
    """Min-wise hashes [documents, NUM_HASHES] uint32, and the hash of each document's tokens in order (0: none)."""
    rows: list[Array] = []
    sequences: list[Array] = []
    for runs in hashed_runs(texts):
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            runs.hashes, runs.offsets.astype(np.uint64), NUM_HASHES, SEED
        )
        rows.append(np.array(matrix.to_rows(), dtype=np.uint32))
        sequences.append(runs.sequences)
    empty = np.empty((0, NUM_HASHES), dtype=np.uint32), np.empty(0, dtype=np.uint64)
    return np.concatenate([empty[0], *rows]), np.concatenate([empty[1], *sequences])


def rows_per_band(similarity: float) -> int:
    """The most hashes a band may have so that a pair at ``similarity`` shares one with probability RECALL.

    With b bands of r hashes that is 1 - (1 - s^r)^b (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4).
    Raises DataError for a similarity outside (0, 1].
    """
    if not 0 < similarity <= 1:
        raise DataError(f"similarity is {similarity}; expected more than 0, and at most 1 (the same).")
    fitting = [r for r in range(1, NUM_HASHES + 1) if 1 - (1 - similarity**r) ** (NUM_HASHES // r) >= RECALL]
    return max(fitting, default=1)


def buckets(minhash: Array, similarity: float) -> Iterator[tuple[Array, Array]]:
    """For each band (members, borders): the documents of each bucket with two and more, one bucket behind the other."""
    size = rows_per_band(similarity)
    if len(minhash) < 2:
        return
    for start in range(0, NUM_HASHES - size + 1, size):
        keys = np.zeros(len(minhash), dtype=np.uint64)
        for k in range(size):
            keys = (keys ^ minhash[:, start + k]) * PLACE_VALUES[1 + k]
            keys ^= keys >> np.uint64(29)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        same = np.concatenate([[False], keys[1:] == keys[:-1], [False]])
        within = same[:-1] | same[1:]
        members = order[within]
        begins = np.flatnonzero(~same[:-1][within])
        yield members, np.append(begins, len(members))


def in_company(minhash: Array, similarity: float) -> Array:
    """Whether each document shares a bucket with another one: only such have to be looked at."""
    found = np.zeros(len(minhash), dtype=bool)
    for members, _ in buckets(minhash, similarity):
        found[members] = True
    return found


def similar_pairs(
    minhash: Array, similarity: float, measure: Measure, groups: Callable[[], Array]
) -> Iterator[tuple[int, int, float]]:
    """Pairs of positions with a resemblance of at least ``similarity``, the smaller position first; each pair once.

    Pairs of one group are passed over. ``groups()`` numbers the documents [n] and is asked anew when pairs that were
    given may have changed it: first each bucket's members are held against its first, then against one another.
    A pair just at ``similarity`` is missed 1 in 10,000 times.
    """
    looked_at = np.empty(0, dtype=np.int64)
    bands = list(buckets(minhash, similarity))
    for pairs in itertools.chain(_stars(bands), _others(bands, groups)):
        label = groups()
        one, other = _apart(pairs)
        pairs = np.setdiff1d(pairs[label[one] != label[other]], looked_at, assume_unique=True)
        looked_at = np.union1d(looked_at, pairs)
        one, other = _apart(pairs)
        values = measure(one, other)
        near = values >= similarity
        yield from zip(one[near].tolist(), other[near].tolist(), values[near].tolist(), strict=True)


def _apart(pairs: Array) -> tuple[Array, Array]:
    return pairs >> 32, pairs & 0xFFFFFFFF


def _stars(bands: Bands) -> Iterator[Array]:
    """The first member of each bucket with each other one, as first * 2^32 + other."""
    found = [np.empty(0, dtype=np.int64)]
    for members, borders in bands:
        first = np.repeat(members[borders[:-1]], np.diff(borders))
        found.append(np.unique((first << 32 | members)[first != members]))
    yield np.unique(np.concatenate(found))


def _others(bands: Bands, groups: Callable[[], Array]) -> Iterator[Array]:
    """The other pairs of each bucket whose members are not all of one group, some at a time."""
    found: list[Array] = []
    count = 0
    for members, borders in bands:
        if np.diff(borders).max(initial=0) < 3:
            continue
        label = groups()
        of = label[members]
        mixed = np.minimum.reduceat(of, borders[:-1]) != np.maximum.reduceat(of, borders[:-1])
        for b in np.flatnonzero(mixed & (np.diff(borders) > 2)).tolist():
            bucket = members[borders[b] : borders[b + 1]]
            for k in range(1, len(bucket) - 1):
                behind = bucket[k + 1 :]
                found.append(bucket[k] << 32 | behind[label[behind] != label[bucket[k]]])
                count += len(found[-1])
                if count >= PAIRS_AT_ONCE:
                    yield np.unique(np.concatenate(found))
                    found, count = [], 0
    if count:
        yield np.unique(np.concatenate(found))
