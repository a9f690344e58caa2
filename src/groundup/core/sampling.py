"""A sample of rows that depends on nothing but the rows' numbers and a seed: the same for any order and any shards."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from groundup.core.dataset import ROW, Dataset

Hashes = npt.NDArray[np.uint64]


def row_hashes(rows: npt.NDArray[np.integer], seed: int) -> Hashes:
    """A hash [N] of each row's number and the seed: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    step = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        mixed = (rows.astype(np.uint64) + np.uint64(1)) * step + np.uint64(seed % 2**63) * np.uint64(0xD1342543DE82EF95)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: Hashes = mixed ^ (mixed >> np.uint64(31))
    return found


def reservoir(dataset: Dataset, size: int, seed: int = 0) -> Dataset:
    """At most ``size`` rows, those whose numbers hash lowest, in order of their numbers.

    The reservoir of two datasets together is the reservoir of their reservoirs put together.
    """
    rows = dataset.frame[ROW].to_numpy()
    lowest = np.arange(len(rows))
    if len(rows) > size:
        lowest = np.argpartition(row_hashes(rows, seed), size - 1)[:size]
    order = lowest[np.argsort(rows[lowest], kind="stable")]
    return dataset.take(order)


def merged_reservoir(pieces: list[Dataset], size: int, seed: int = 0) -> Dataset:
    """The reservoir of all pieces together."""
    return reservoir(pieces[0].with_frame(pl.concat([piece.frame for piece in pieces])), size, seed)
