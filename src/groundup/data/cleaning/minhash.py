"""Which documents may be nearly the same, by banded min-wise hashes, and how alike they are, by counting.

Broder: On the resemblance and containment of documents, 1997; Broder et al.: Min-wise independent permutations, 2000.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import rensa  # type: ignore[import-untyped]

from groundup.core.errors import DataError
from groundup.data.cleaning.shingles import PLACE_VALUES, hashed_runs

Array = np.ndarray[Any, Any]

NUM_HASHES = 128
RECALL = 0.9999
"""How likely a pair just at the asked similarity must be to become a candidate."""

SEED = 0x5EED
RUNS_AT_ONCE = 250_000
"""Runs of tokens that are looked at together, so that memory stays bounded."""


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


def signatures(texts: Sequence[str], similarity: float) -> tuple[Array, Array]:
    """Keys [documents, bands] uint64, and the hash of each document's tokens in order (0: none).

    Two documents at ``similarity`` share a key but once in 10,000 times. Raises DataError where it is out of range.
    """
    size = rows_per_band(similarity)
    keys = [np.empty((0, NUM_HASHES // size), dtype=np.uint64)]
    sequences = [np.empty(0, dtype=np.uint64)]
    for runs in hashed_runs(texts):
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            runs.hashes, runs.offsets.astype(np.uint64), NUM_HASHES, SEED
        )
        keys.append(_banded(np.array(matrix.to_rows(), dtype=np.uint32), size))
        sequences.append(runs.sequences)
    return np.concatenate(keys), np.concatenate(sequences)


def _banded(minhash: Array, size: int) -> Array:
    """Of min-wise hashes [documents, NUM_HASHES] those of each band as one, which no other band has."""
    bands = NUM_HASHES // size
    hashes = minhash[:, : bands * size].reshape(len(minhash), bands, size)
    keys = np.repeat(PLACE_VALUES[:bands][None], len(minhash), axis=0)
    for k in range(size):
        keys = (keys ^ hashes[:, :, k]) * PLACE_VALUES[128 + k]
        keys ^= keys >> np.uint64(29)
    return keys


def rows_per_band(similarity: float) -> int:
    """The most hashes a band may have so that a pair at ``similarity`` shares one with probability RECALL.

    With b bands of r hashes that is 1 - (1 - s^r)^b (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4).
    Raises DataError for a similarity outside (0, 1].
    """
    if not 0 < similarity <= 1:
        raise DataError(f"similarity is {similarity}; expected more than 0, and at most 1 (the same).")
    fitting = [r for r in range(1, NUM_HASHES + 1) if 1 - (1 - similarity**r) ** (NUM_HASHES // r) >= RECALL]
    return max(fitting, default=1)
