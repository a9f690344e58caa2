"""Statistics from pieces against numpy over all values at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.statistics import CAPACITY, Moments, Quantiles, merge_counts

SHARES = [0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0]
NUMBERS = st.lists(st.floats(-1e6, 1e6), max_size=50)


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_moments_of_pieces_are_those_of_the_whole(pieces: list[list[float]]) -> None:
    merged = Moments()
    for piece in pieces:
        merged = merged.merge(Moments.of(np.array(piece)))
    values = np.array([value for piece in pieces for value in piece])
    assert merged.count == len(values)
    if len(values):
        scale = max(1.0, float(np.abs(values).max()))
        assert merged.mean == pytest.approx(values.mean(), abs=1e-12 * scale)
        assert merged.squares == pytest.approx(((values - values.mean()) ** 2).sum(), rel=1e-9, abs=1e-9 * scale)
        assert (merged.smallest, merged.largest) == (values.min(), values.max())
    assert Moments.from_state(merged.state) == merged


def test_a_large_offset_costs_no_digits() -> None:
    values = np.random.default_rng(0).normal(1e9, 1e-3, 100_000)
    merged = Moments()
    for piece in np.array_split(values, 7):
        merged = merged.merge(Moments.of(piece))
    assert merged.deviation == pytest.approx(values.std(), rel=1e-6)
    assert Moments.of(np.full(10, 0.1)).deviation == 0.0


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_quantiles_of_few_values_are_numpys_bit_for_bit(values: list[float]) -> None:
    pieces = np.array_split(np.array(values), 3)
    merged = Quantiles()
    for piece in pieces:
        merged = merged.merge(Quantiles.of(piece))
    assert merged.at(SHARES).tolist() == np.quantile(np.array(values), SHARES).tolist()


@pytest.mark.parametrize("order", ["random", "sorted"])
def test_quantiles_of_many_values_are_near_in_rank(order: str) -> None:
    values = np.random.default_rng(1).lognormal(0, 2, 1_000_003)
    if order == "sorted":
        values.sort()
    merged = Quantiles()
    for piece in np.array_split(values, 13):
        merged = merged.merge(Quantiles.of(piece))
    assert merged.count == len(values)
    assert sum(map(len, merged.levels)) < 6 * CAPACITY
    ranks = np.searchsorted(np.sort(values), merged.at(SHARES)) / len(values)
    assert np.abs(ranks - np.array(SHARES)).max() < 1e-4
    again = Quantiles.from_state(merged.state)
    assert again.at(SHARES).tolist() == merged.at(SHARES).tolist()


def test_counts_add_up() -> None:
    assert merge_counts({"a": 1, "b": 2}, {"b": 3, "c": 1}) == {"a": 1, "b": 5, "c": 1}
