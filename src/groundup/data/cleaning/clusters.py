"""Groups of rows that are linked by being alike, of which the first stays; and the names of rows in several shards."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from groundup.core.dataset import Dataset

Array = np.ndarray[Any, Any]

Measure = Callable[[Array, Array], Array]
"""(positions [m], positions [m]) -> how alike these are [m], from 0 to 1."""

Links = dict[int, tuple[float, int]]
"""Position of a row -> (how alike, position of the row that it is like)."""


@dataclasses.dataclass
class Clusters:
    """Union-find whose root is the smallest member; of each member its strongest link is kept."""

    size: int

    def __post_init__(self) -> None:
        self.parent = list(range(self.size))
        self.links: Links = {}

    def find(self, i: int) -> int:
        """The smallest member of the cluster of ``i``."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int, value: float) -> None:
        """Make two clusters one, since these two are alike."""
        one, other = sorted((self.find(i), self.find(j)))
        self.parent[other] = one
        for here, there in ((i, j), (j, i)):
            if value > self.links.get(here, (0.0, there))[0]:
                self.links[here] = value, there

    def later_ones(self, measure: Measure, at_least: float) -> Links:
        """Each member but the first of its cluster, with how it is like that one; where less, its strongest link."""
        going = np.array([i for i in sorted(self.links) if self.find(i) != i], dtype=np.int64)
        first = np.array([self.find(i) for i in going.tolist()], dtype=np.int64)
        found = {i: self.links[i] for i in going.tolist()}
        for i, j, value in zip(going.tolist(), first.tolist(), measure(going, first).tolist(), strict=True):
            if value >= at_least:
                found[i] = value, j
        return found


@dataclasses.dataclass(frozen=True)
class Names:
    """The names of rows in several shards, by their position in all of them."""

    shards: list[list[str]]

    @functools.cached_property
    def starts(self) -> list[int]:
        """Where each shard begins."""
        return [0, *itertools.accumulate(map(len, self.shards))][:-1]

    def __getitem__(self, position: int) -> str:
        shard = bisect.bisect_right(self.starts, position) - 1
        return self.shards[shard][position - self.starts[shard]]

    def by_shard(self, reasons: Mapping[int, str]) -> list[dict[int, str]]:
        """The same reasons, for each shard by the position in it."""
        found: list[dict[int, str]] = [{} for _ in self.shards]
        for position, reason in reasons.items():
            shard = bisect.bisect_right(self.starts, position) - 1
            found[shard][position - self.starts[shard]] = reason
        return found


def without(dataset: Dataset, reasons: Mapping[int, str]) -> Dataset:
    """The dataset without these positions; each goes into the ledger with its reason."""
    mask = np.ones(len(dataset), dtype=bool)
    mask[list(reasons)] = False
    return dataset.keep(mask, reasons)
