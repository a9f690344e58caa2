"""Rows that are alike, linked to groups of which the first stays: what one table and any number of shards go through.

Rows that have a key in common are held against one another: in each bucket of a key first its first row against every
other one, then rows that are still of different groups. Where a million rows are like their first, that is a million
pairs. What is looked at in a bucket depends on the groups after all first looks and on nothing else, so buckets may be
taken in any order, and anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from groundup.core.contract import ByLikeness, State
from groundup.core.dataset import Dataset

Array = np.ndarray[Any, Any]

PAIRS_AT_ONCE = 100_000
"""Pairs that are looked at together; what is found in them may spare the next."""

Pairs = Array
"""[m] uint64: the position of one row times 2^32, and that of a later one."""

Measure = Callable[[Pairs], Array]
"""How alike the rows of each pair are [m], above 0 up to 1; 0 where they do not count as alike."""

Look = Callable[[Array], tuple[Array, Array]]
"""The evidence of rows at these positions, as ``ByLikeness.evidence`` gives it."""


class Near(NamedTuple):
    """Pairs that are alike."""

    pairs: Pairs
    values: Array

    @classmethod
    def of(cls, pairs: Pairs, measure: Measure) -> Near:
        """Those of the pairs that are."""
        values = measure(pairs) if len(pairs) else np.zeros(0)
        return cls(pairs[values > 0], values[values > 0])

    @classmethod
    def joined(cls, parts: Iterable[Near]) -> Near:
        """All of them, each pair once."""
        some = [cls(np.zeros(0, np.uint64), np.zeros(0)), *parts]
        pairs, at = np.unique(np.concatenate([one.pairs for one in some]), return_index=True)
        return cls(pairs, np.concatenate([one.values for one in some])[at])


class Links(NamedTuple):
    """Rows that go."""

    rows: Array
    """Their positions, rising."""
    likes: Array
    """The position of the row that each is like."""
    values: Array
    """How alike."""


class Buckets(NamedTuple):
    """Rows that have a key in common, in buckets of two and more, one behind the other."""

    rows: Array
    """Positions, rising in each bucket."""
    borders: Array
    """[buckets + 1]: where each begins, and the last ends."""
    tags: Array
    """[rows] uint64, or [0] where rows have none."""

    @classmethod
    def of(cls, keys: Array, rows: Array, tags: Array) -> Buckets:
        """From a key for each row, rows rising."""
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        same = np.zeros(len(keys) + 1, dtype=bool)  # as the one before
        same[1:-1] = keys[1:] == keys[:-1]
        within = same[:-1] | same[1:]
        members = order[within]
        begins = np.flatnonzero(~same[:-1][within])
        return cls(rows[members], np.append(begins, len(members)), tags[members] if len(tags) else tags)

    def pairs(self, step: ByLikeness, one: Array, other: Array) -> Pairs:
        """Of places in ``rows``; those that tags tell apart are left out."""
        if len(self.tags):
            may_be = step.screen(self.tags[one], self.tags[other])  # type: ignore[attr-defined]
            one, other = one[may_be], other[may_be]
        one, other = self.rows[one], self.rows[other]
        return packed(np.minimum(one, other), np.maximum(one, other))

    def stars(self, step: ByLikeness) -> Pairs:
        """The first row of each bucket with every other one."""
        first = np.repeat(self.borders[:-1], np.diff(self.borders))
        other = np.flatnonzero(first != np.arange(len(first)))
        return np.unique(self.pairs(step, first[other], other))

    def others(self, step: ByLikeness, label: Array, measure: Measure, grouped: bool = True) -> Iterator[Near]:
        """What else is alike in each bucket, of rows with different labels [rows].

        In a large bucket rows that are found alike have one label from there on, unless they are not to be ``grouped``.
        """
        waiting: list[Pairs] = []
        count = 0
        for b in self._mixed(label):
            places = np.arange(self.borders[b] + 1, self.borders[b + 1])  # the first was held against all of them
            of = label[places]
            while len(places):
                one, other, left = across(of)
                pairs = self.pairs(step, places[one], places[other])
                if not len(left):
                    waiting.append(pairs)
                    count += len(pairs)
                    break
                found = Near.of(pairs, measure)
                yield found
                if grouped:
                    of = merged(of, *(np.searchsorted(self.rows[places], rows) for rows in apart(found.pairs)))
                places, of = places[left], of[left]
            if count >= PAIRS_AT_ONCE:
                yield Near.of(np.unique(np.concatenate(waiting)), measure)
                waiting, count = [], 0
        if count:
            yield Near.of(np.unique(np.concatenate(waiting)), measure)

    def _mixed(self, label: Array) -> list[int]:
        """The buckets of three and more whose rows do not all have one label."""
        if not len(self.rows):
            return []
        begins = self.borders[:-1]
        mixed = np.minimum.reduceat(label, begins) != np.maximum.reduceat(label, begins)
        found: list[int] = np.flatnonzero(mixed & (np.diff(self.borders) > 2)).tolist()
        return found


def packed(one: Array, other: Array) -> Pairs:
    """Pairs of positions, each one number."""
    return one.astype(np.uint64) << np.uint64(32) | other.astype(np.uint64)


def apart(pairs: Pairs) -> tuple[Array, Array]:
    """Both positions of each pair."""
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def across(of: Array) -> tuple[Array, Array, Array]:
    """Places of pairs with different labels ``of``, about PAIRS_AT_ONCE, and the places that are left for another time.

    Those of the smallest groups come first, each with all of larger groups: few rows are then held against many.
    """
    _, group, counts = np.unique(of, return_inverse=True, return_counts=True)
    by_size = np.argsort(counts, kind="stable")
    rank = np.empty(len(counts), dtype=np.int64)
    rank[by_size] = np.arange(len(counts))
    order = np.argsort(rank[group], kind="stable")
    behind = np.cumsum(counts[by_size])[rank[group][order]]  # where those of larger groups begin
    count = len(of) - behind
    ends = np.cumsum(count)
    taken = max(1, int(np.searchsorted(ends, PAIRS_AT_ONCE, side="right")))
    one = np.repeat(np.arange(taken), count[:taken])
    other = np.arange(len(one)) - np.repeat(ends[:taken] - count[:taken], count[:taken]) + behind[one]
    left = order[taken:] if count[taken:].any() else order[:0]
    return order[one], order[other], np.sort(left)


def merged(of: Array, one: Array, other: Array) -> Array:
    """Labels in which those of each pair of places are one."""
    names, group = np.unique(of, return_inverse=True)
    edges = coo_array((np.ones(len(one), np.int8), (group[one], group[other])), shape=(len(names), len(names)))
    found: Array = connected_components(edges, directed=False)[1][group]
    return found


class Clusters:
    """Union-find whose root is the smallest member: four bytes a row."""

    def __init__(self, size: int) -> None:
        self.parent: Array = np.arange(size, dtype=np.uint32)

    def join(self, near: Near) -> None:
        """Make the clusters of each pair one."""
        parent = self.parent.data  # by numbers of Python, which are quicker one by one
        for i, j in zip(*(rows.tolist() for rows in apart(near.pairs)), strict=True):
            while parent[i] != i:
                parent[i] = i = parent[parent[i]]
            while parent[j] != j:
                parent[j] = j = parent[parent[j]]
            parent[max(i, j)] = min(i, j)

    def roots(self) -> Array:
        """[rows] uint32: the smallest member of each row's cluster."""
        while not np.array_equal(self.parent, further := self.parent[self.parent]):
            self.parent = further
        return self.parent.copy()


def linked(step: ByLikeness, told: State, look: Look | None = None) -> Links:
    """What goes of rows whose signature is ``told``; ``look`` gives the evidence of some, unless that is told too."""
    first = first_copies(told["same"])
    bands = bands_of(told, np.flatnonzero((first == np.arange(len(first))) & (told["same"] != 0)))
    measure = measured(step, *evidence_of(told, bands, look))
    clusters = Clusters(len(first))
    near = [Near.of(all_stars(step, bands), measure)]
    clusters.join(near[0])
    label = clusters.roots()
    for band in bands:
        for found in band.others(step, label[band.rows], measure):
            clusters.join(found)
            near.append(found)
    links = to_first(np.arange(len(first)), clusters.roots()[first], first, measure)
    chained = links.rows[links.values == 0]
    fill_in(links, [strongest_of(one, chained) for one in near])
    return links


def bands_of(told: State, rows: Array) -> list[Buckets]:
    """The buckets of each band, of these rows."""
    tags = told["tags"][rows] if "tags" in told else np.zeros(0, np.uint64)
    return [Buckets.of(keys, rows, tags) for keys in told["keys"][rows].T]


def similar_pairs(step: ByLikeness, bands: Sequence[Buckets], label: Array, measure: Measure) -> Near:
    """All pairs that are alike, of rows with different labels [all rows]."""
    one, other = apart(stars := all_stars(step, bands))
    found = [Near.of(stars[label[one] != label[other]], measure)]
    for band in bands:
        found += band.others(step, label[band.rows], measure, grouped=False)
    return Near.joined(found)


def all_stars(step: ByLikeness, bands: Sequence[Buckets]) -> Pairs:
    """Each pair of a bucket's first row with another one, once."""
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *(band.stars(step) for band in bands)]))


def in_company(bands: Sequence[Buckets]) -> Array:
    """The rows that share a key with another one: only such have to be looked at."""
    return np.unique(np.concatenate([np.zeros(0, np.int64), *(band.rows for band in bands)]))


def evidence_of(told: State, bands: Sequence[Buckets], look: Look | None) -> tuple[Array, Array, Array]:
    """Rows, values and lengths of what rows are compared by: of all where it is told, else of those in company."""
    if look is None or "values" in told:
        return np.arange(len(told["same"])), told["values"], told["lengths"]
    rows = in_company(bands)
    return rows, *look(rows)


def measured(step: ByLikeness, rows: Array, values: Array, lengths: Array) -> Measure:
    """By the evidence of these rows, which rise."""
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def measure(pairs: Pairs) -> Array:
        found: Array = step.likeness(values, offsets, *(np.searchsorted(rows, some) for some in apart(pairs)))
        return found

    return measure


def first_copies(same: Array) -> Array:
    """For each row the position of the first with the same value; one of 0 stands alone."""
    first = np.arange(len(same))
    some = np.flatnonzero(same)
    _, at, inverse = np.unique(same[some], return_index=True, return_inverse=True)
    first[some] = some[at[inverse]]
    return first


def to_first(rows: Array, root: Array, first: Array, measure: Measure) -> Links:
    """Of these rows those that go, and how each is like the first of its cluster.

    A row that is not like that one itself is a copy of its ``first``, or has the value 0.
    """
    going = root != rows
    rows, root, first = rows[going], root[going], first[going]
    values, likes = np.ones(len(rows)), root.copy()
    unlike = np.flatnonzero(first != root)
    pairs, at = np.unique(packed(root[unlike], first[unlike]), return_inverse=True)
    values[unlike] = measure(pairs)[at] if len(pairs) else 0.0
    copies = (values == 0) & (first != rows)
    values[copies], likes[copies] = 1.0, first[copies]
    return Links(rows, likes, values)


def strongest_of(near: Near, wanted: Array) -> Links:
    """For each of the ``wanted`` rows that is in a pair the one that it is most alike; of equal ones the first."""
    one, other = apart(near.pairs)
    rows, likes, values = np.append(one, other), np.append(other, one), np.append(near.values, near.values)
    there = np.isin(rows, wanted)
    order = np.lexsort((likes[there], -values[there], rows[there]))
    rows, likes, values = rows[there][order], likes[there][order], values[there][order]
    begins = np.append(True, rows[1:] != rows[:-1]) if len(rows) else np.zeros(0, bool)
    return Links(rows[begins], likes[begins], values[begins])


def fill_in(links: Links, found: Iterable[Links]) -> None:
    """Fill in, for rows of value 0, the strongest of what was ``found`` for each."""
    for some in found:
        at = np.searchsorted(links.rows, some.rows)
        value, like = links.values[at], links.likes[at]
        better = (some.values > value) | ((some.values == value) & (some.likes < like))
        links.values[at[better]], links.likes[at[better]] = some.values[better], some.likes[better]


def links_of(step: ByLikeness, dataset: Dataset) -> dict[int, str]:
    """Position of each row of a table that goes -> reason."""
    links = linked(step, step.signature(dataset), lambda rows: step.evidence(dataset, rows))
    names = dataset.row_names()
    return {
        row: step.reason(names[like], value)
        for row, like, value in zip(*(some.tolist() for some in links), strict=True)
    }
