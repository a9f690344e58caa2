"""Rows taken out with a reason each, and the names of rows in several shards."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Mapping

import numpy as np

from groundup.core.dataset import Dataset


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
