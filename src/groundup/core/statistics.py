"""Statistics of columns from pieces: what is learned of shards is merged into what one would learn of all rows.

Each is a value with ``of`` (some rows), ``merge`` (two pieces, in order) and the answers. ``state`` gives plain
lists, numbers and arrays, ``from_state`` takes them back.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

CAPACITY = 1 << 15
"""Values that one level of a quantile sketch may hold; up to so many in all, quantiles are exact."""


@dataclasses.dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations, merged without loss of digits.

    Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of (x - mean)^2."""
    smallest: float = float("inf")
    """Infinite, as ``largest`` is, where no value was seen, or the ends were not asked."""
    largest: float = float("-inf")

    @classmethod
    def of(cls, values: Values) -> Self:
        """Of values [n] that are all there."""
        if not len(values):
            return cls()
        mean = float(np.mean(values))
        apart = values - mean
        squares = float(np.sum(np.multiply(apart, apart, out=apart)))
        return cls(len(values), mean, squares, float(np.min(values)), float(np.max(values)))

    def merge(self, other: Self) -> Self:
        """Of both together."""
        if not self.count or not other.count:
            return other if not self.count else self
        count = self.count + other.count
        apart = other.mean - self.mean
        return dataclasses.replace(
            self,
            count=count,
            mean=self.mean + apart * (other.count / count),
            squares=self.squares + other.squares + apart**2 * (self.count * other.count / count),
            smallest=min(self.smallest, other.smallest),
            largest=max(self.largest, other.largest),
        )

    @property
    def deviation(self) -> float:
        """The population's, sqrt(mean((x - mean)^2)); one that is rounding error is given as 0.

        Where it is that small, every value is as large as the mean.
        """
        if not self.count:
            return 0.0
        deviation = float(np.sqrt(self.squares / self.count))
        return deviation if deviation > 10 * np.finfo(np.float64).eps * abs(self.mean) else 0.0

    @property
    def state(self) -> list[Any]:
        """Plain numbers."""
        return list(dataclasses.astuple(self))

    @classmethod
    def from_state(cls, state: list[Any]) -> Self:
        """Read back."""
        return cls(*state)


@dataclasses.dataclass(frozen=True)
class Mean:
    """Count and mean, where nothing else is asked."""

    count: int = 0
    mean: float = 0.0

    @classmethod
    def of(cls, values: Values) -> Self:
        """Of values [n] that are all there."""
        return cls(len(values), float(np.mean(values))) if len(values) else cls()

    def merge(self, other: Self) -> Self:
        """Of both together."""
        if not self.count or not other.count:
            return other if not self.count else self
        count = self.count + other.count
        return dataclasses.replace(self, count=count, mean=self.mean + (other.mean - self.mean) * (other.count / count))

    @property
    def state(self) -> list[Any]:
        """Plain numbers."""
        return [self.count, self.mean]

    @classmethod
    def from_state(cls, state: list[Any]) -> Self:
        """Read back."""
        return cls(*state)


@dataclasses.dataclass(frozen=True)
class Quantiles:
    """A sketch of sorted order: exact up to CAPACITY values, then within n log2(n / CAPACITY) / (2 CAPACITY) ranks.

    Levels of compactors as in Karnin, Lang, Liberty: Optimal quantile approximation in streams, 2016, with halves kept
    by turns instead of by chance, so that the same pieces in the same order give the same answer. An item of level i
    stands for 2^i values.
    """

    levels: tuple[Values, ...] = ()
    turns: tuple[int, ...] = ()

    @classmethod
    def of(cls, values: Values) -> Self:
        """Of values [n] that are all there."""
        return cls._compacted([np.sort(values)], [0])

    def merge(self, other: Self) -> Self:
        """Of both together."""
        depth = max(len(self.levels), len(other.levels))
        empty = np.empty(0)
        levels = [
            np.sort(np.concatenate([one[i] if i < len(one) else empty for one in (self.levels, other.levels)]))
            for i in range(depth)
        ]
        turns = [sum(one[i] if i < len(one) else 0 for one in (self.turns, other.turns)) % 2 for i in range(depth)]
        return self._compacted(levels, turns)

    @classmethod
    def _compacted(cls, levels: list[Values], turns: list[int]) -> Self:
        level = 0
        while level < len(levels):
            items = levels[level]
            if len(items) > CAPACITY:
                left = len(items) % 2  # an odd one stays behind, so that weights add up to the count
                kept, halved = items[:left], items[left + turns[level] :: 2]
                turns[level] ^= 1
                levels[level] = kept
                if level + 1 == len(levels):
                    levels.append(np.empty(0))
                    turns.append(0)
                levels[level + 1] = np.sort(np.concatenate([levels[level + 1], halved]))
            level += 1
        return cls(tuple(levels), tuple(turns))

    @property
    def count(self) -> int:
        """How many values were seen."""
        return sum(len(items) << i for i, items in enumerate(self.levels))

    @property
    def items(self) -> tuple[Values, npt.NDArray[np.int64]]:
        """The values that are kept, and for how many each stands; of small data every value, standing for itself."""
        weights = np.repeat([1 << i for i in range(len(self.levels))], [len(items) for items in self.levels])
        return np.concatenate([np.empty(0), *self.levels]), weights.astype(np.int64)

    def at(self, shares: float | list[float] | Values) -> Values:
        """The quantiles at these shares from 0 to 1, interpolated linearly between ranks, as numpy does by default.

        Raises ValueError when nothing was seen.
        """
        if not self.count:
            raise ValueError("quantiles of no values")
        values, weights = self.items
        order = np.argsort(values, kind="stable")
        values, ends = values[order], np.cumsum(weights[order])
        place = np.atleast_1d(np.asarray(shares, dtype=np.float64)) * (self.count - 1)
        below = np.floor(place)
        low = values[np.searchsorted(ends, below, side="right")]
        high = values[np.searchsorted(ends, np.minimum(below + 1, self.count - 1), side="right")]
        between = place - below
        # Numpy's own order of operations, so that small data give the same bits.
        found: Values = np.where(between < 0.5, low + (high - low) * between, high - (high - low) * (1 - between))
        return found

    @property
    def state(self) -> dict[str, Any]:
        """Plain lists and arrays."""
        return {"levels": list(self.levels), "turns": list(self.turns)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Read back."""
        return cls(tuple(np.asarray(level, dtype=np.float64) for level in state["levels"]), tuple(state["turns"]))


def merge_counts(one: dict[Any, int], other: dict[Any, int]) -> dict[Any, int]:
    """How often each value stands in both together; in order of first appearance."""
    merged = dict(one)
    for value, count in other.items():
        merged[value] = merged.get(value, 0) + count
    return merged
