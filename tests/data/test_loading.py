"""Streams of batches: each sample once an epoch, the same from any bookmark."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.core.batch import Batch, Bookmark
from groundup.core.errors import DataError
from groundup.data.loading import batches, num_batches, once


@dataclasses.dataclass
class Noise:
    """An augmentation as the contract has it: drawn from (seed, epoch, row)."""

    scale: float = 1.0

    def __call__(self, value: np.ndarray[Any, Any], generator: np.random.Generator) -> np.ndarray[Any, Any]:
        return value + self.scale * generator.normal(size=value.shape)


@dataclasses.dataclass
class Numbers:
    """Samples that say which they are."""

    size: int

    def __post_init__(self) -> None:
        self.rows = np.arange(self.size) + 1000

    def __len__(self) -> int:
        return self.size

    def batch(
        self, positions: np.ndarray[Any, Any], augment: Sequence[Any] = (), seed: int = 0, epoch: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        values = np.repeat(positions[:, None].astype(np.float64), 3, axis=1)
        for step in augment:
            for i, position in enumerate(positions.tolist()):
                values[i] = step(values[i], np.random.default_rng([seed, epoch, position]))
        return {"inputs": torch.from_numpy(values)}, {"targets": torch.from_numpy(positions.copy())}


def equal(one: Batch, other: Batch) -> bool:
    return (
        one.bookmark == other.bookmark
        and all(torch.equal(one.inputs[name], other.inputs[name]) for name in one.inputs)
        and all(torch.equal(one.targets[name], other.targets[name]) for name in one.targets)
        and np.array_equal(one.rows, other.rows)  # type: ignore[arg-type]
    )


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5), st.booleans())
@settings(max_examples=80, deadline=None)
def test_each_epoch_hands_out_each_sample_once(size: int, batch_size: int, seed: int, shuffle: bool) -> None:
    data = Numbers(size)
    per_epoch = num_batches(data, batch_size)
    stream = batches(data, batch_size, seed=seed, shuffle=shuffle)
    orders = []
    for epoch in range(3):
        taken = list(itertools.islice(stream, per_epoch))
        assert [batch.num_samples for batch in taken[:-1]] == [batch_size] * (per_epoch - 1)
        order = torch.cat([batch.targets["targets"] for batch in taken]).tolist()
        assert sorted(order) == list(range(size))
        assert taken[-1].bookmark == Bookmark(epoch + 1, 0)
        assert np.concatenate([batch.rows for batch in taken]).tolist() == [i + 1000 for i in order]
        orders.append(order)
    if not shuffle:
        assert orders[0] == list(range(size))
    elif size > 12:
        assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("batch_size", [1, 4, 5, 17, 100])
def test_going_on_from_every_bookmark_is_bit_identical(batch_size: int) -> None:
    data = Numbers(17)
    steps = [Noise(0.5)]
    whole = list(itertools.islice(batches(data, batch_size, seed=3, augment=steps), 3 * num_batches(data, batch_size)))
    for i, batch in enumerate(whole):
        saved = Bookmark(*json.loads(json.dumps(list(batch.bookmark))))
        resumed = batches(Numbers(17), batch_size, seed=3, bookmark=saved, augment=[Noise(0.5)])
        assert all(equal(one, other) for one, other in zip(whole[i + 1 :], resumed, strict=False))


def test_a_bookmark_within_a_batch_goes_on_from_there_in_any_batch_size() -> None:
    data = Numbers(23)
    order = torch.cat([b.targets["targets"] for b in itertools.islice(batches(data, 5, seed=1), 10)]).tolist()
    for position in range(24):
        rest = batches(data, 7, seed=1, bookmark=Bookmark(0, position))
        taken = torch.cat([b.targets["targets"] for b in itertools.islice(rest, 3)]).tolist()
        assert taken == order[position : position + len(taken)]


def test_epochs_and_seeds_differ_and_augmentation_follows_them() -> None:
    data = Numbers(50)

    def first(seed: int, epoch: int) -> Batch:
        return next(batches(data, 50, seed=seed, bookmark=Bookmark(epoch, 0), augment=[Noise()]))

    seen = {tuple(first(seed, epoch).targets["targets"].tolist()) for seed in range(3) for epoch in range(3)}
    assert len(seen) == 9
    noise = [
        (b.inputs["inputs"][:, 0] - b.targets["targets"])[b.targets["targets"].argsort()]
        for b in (first(0, 0), first(0, 1))
    ]
    assert not torch.equal(noise[0], noise[1])


def test_once_is_in_order_and_whole() -> None:
    data = Numbers(10)
    taken = list(once(data, 4))
    assert [batch.num_samples for batch in taken] == [4, 4, 2]
    assert torch.cat([batch.targets["targets"] for batch in taken]).tolist() == list(range(10))
    assert num_batches(data, 4) == 3


def test_what_is_refused_is_refused_at_once() -> None:
    data = Numbers(10)
    for call in (batches, lambda *a, **k: once(*a), lambda *a, **k: num_batches(*a)):
        with pytest.raises(DataError, match="batch size is 0"):
            call(data, 0, seed=0)
        with pytest.raises(DataError, match="no samples"):
            call(Numbers(0), 4, seed=0)
    with pytest.raises(DataError, match="seed is -1"):
        batches(data, 4, seed=-1)
    for bookmark in (Bookmark(0, 11), Bookmark(-1, 0), Bookmark(0, -1)):
        with pytest.raises(DataError, match="outside"):
            batches(data, 4, seed=0, bookmark=bookmark)
    assert next(batches(data, 4, seed=0, bookmark=Bookmark(0, 10))).bookmark == Bookmark(1, 4)


def test_the_random_state_of_the_caller_is_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    list(itertools.islice(batches(Numbers(9), 2, seed=0, augment=[Noise()]), 9))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]
