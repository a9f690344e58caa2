"""Samples of shards: the same as in memory, in an order that reads few shards at a time and resumes exactly."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.batch import Bookmark
from groundup.core.dataset import Dataset
from groundup.core.errors import DataError
from groundup.core.preprocessing import fit_step
from groundup.data.augmentation import CutMix, Flip, MixUp, RowNoise, Smote
from groundup.data.loading import batches, once, times_before
from groundup.data.samples import Images, Rows, Windows
from groundup.data.samples.rows import EncodedRows
from groundup.data.sampling import balanced
from groundup.data.shards import EncodedShards, Local, Room, Workshop, encode_shards, fit
from groundup.data.shards.carry import cut
from groundup.data.shards.encoded import EpochOrder

ROOM = Room(10**9, 1)


def rows(count: int = 1000) -> Dataset:
    draw = np.random.default_rng(0)
    frame = pl.DataFrame({"a": draw.normal(size=count), "b": draw.normal(size=count), "y": draw.normal(size=count)})
    return dataclasses.replace(Dataset.of(frame), split="train")


def images(count: int = 60) -> Dataset:
    draw = np.random.default_rng(0)
    pixels = pl.Series(draw.integers(0, 256, (count, 6, 5)).astype(np.uint8), dtype=pl.Array(pl.UInt8, (6, 5)))
    frame = pl.DataFrame({"image": pixels, "label": [f"c{value}" for value in draw.integers(0, 3, count)]})
    return dataclasses.replace(Dataset.of(frame, {"image": "image", "label": "category"}), split="train")


def both(samples: Any, dataset: Dataset, folder: Path, count: int = 7) -> tuple[Any, EncodedShards]:
    """The same samples in memory and in shards."""
    fitted = fit_step(samples, dataset)
    shop = Workshop(Local(1), ROOM, folder / "work")
    (folder / "in").mkdir()
    shards = cut(dataset, folder / "in", int(dataset.frame.estimated_size()) // count)
    assert len(shards.files) >= count
    again, seen = fit(shop, samples, shards, "fit")
    assert seen == {"train": len(dataset)}
    assert again.sizes() == fitted.sizes()
    return fitted.encode(dataset), encode_shards(shop, again, shards, "samples")


@pytest.mark.parametrize(
    ("samples", "dataset"), [(Rows("y"), rows()), (Images("image", "label"), images())], ids=["rows", "images"]
)
def test_samples_of_shards_are_those_of_the_table(samples: Any, dataset: Dataset, tmp_path: Path) -> None:
    memory, shards = both(samples, dataset, tmp_path)
    assert len(shards) == len(memory)
    assert shards.rows.tolist() == memory.rows.tolist()
    chosen = np.random.default_rng(1).permutation(len(memory))[:50]
    for one, other in zip(memory.batch(chosen), shards.batch(chosen), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.allclose(one[name], other[name], rtol=1e-6) for name in one)
    assert len(shards.held) <= shards.at_once
    for one, other in zip(once(memory, 32), once(shards, 32), strict=True):
        assert torch.allclose(one.inputs["inputs"], other.inputs["inputs"], rtol=1e-6)
    for one, other in zip(memory.arrays(), shards.arrays(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_an_epoch_hands_out_each_sample_once_and_reads_each_shard_once(tmp_path: Path) -> None:
    _, shards = both(Rows("y"), rows(), tmp_path, 11)
    read: list[int] = []
    counted = dataclasses.replace(shards)
    encode = counted._shard

    def shard(number: int) -> Any:
        if number not in counted.held:
            read.append(number)
        return encode(number)

    object.__setattr__(counted, "_shard", shard)
    seen = [batch.rows for batch in islice(batches(counted, 32, seed=3), 32)]
    assert sorted(np.concatenate([one for one in seen if one is not None]).tolist()) == list(range(1000))
    assert sorted(read) == list(range(len(counted.pieces)))
    assert np.concatenate(seen).tolist() != list(range(1000))  # type: ignore[arg-type]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 5), st.integers(0, 3), st.integers(1, 7))
def test_the_order_is_a_permutation_whatever_the_shards(sizes: list[int], seed: int, epoch: int, size: int) -> None:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    order = EpochOrder(starts, seed, epoch)
    cut = [order[start : start + size] for start in range(0, len(order), size)]
    assert sorted(np.concatenate([np.zeros(0, np.int64), *cut]).tolist()) == list(range(sum(sizes)))
    assert order[0 : len(order)].tolist() == EpochOrder(starts, seed, epoch)[0 : len(order)].tolist()


def test_a_stream_goes_on_bit_for_bit_from_any_bookmark(tmp_path: Path) -> None:
    _, shards = both(Rows("y"), rows(300), tmp_path, 9)
    whole = list(islice(batches(shards, 16, seed=5), 50))
    for place in (1, 7, 18, 19, 33):
        resumed = islice(batches(shards, 16, seed=5, bookmark=Bookmark(*whole[place - 1].bookmark)), 50 - place)
        for one, other in zip(whole[place:], resumed, strict=True):
            assert one.bookmark == other.bookmark
            assert torch.equal(one.inputs["inputs"], other.inputs["inputs"])


def test_samples_that_go_across_rows_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shards = cut(rows(), tmp_path / "in", 4000)
    shop = Workshop(Local(1), ROOM, tmp_path / "work")
    with pytest.raises(DataError, match=r"Windows: its samples are made of all rows together"):
        encode_shards(shop, Windows("y", length=3, horizon=1), shards, "samples")


def test_more_than_a_baseline_may_hold_is_refused(tmp_path: Path) -> None:
    _, shards = both(Rows("y"), rows(), tmp_path)
    with pytest.raises(DataError, match=r"a baseline sees all 1,000 samples at once"):
        dataclasses.replace(shards, memory_bytes=1000).arrays()


def labelled(count: int = 1000) -> Dataset:
    draw = np.random.default_rng(4)
    label = np.where(draw.uniform(size=count) < 0.1, "rare", "usual")
    frame = pl.DataFrame({"a": draw.normal(size=count), "b": draw.normal(size=count), "y": label})
    return dataclasses.replace(Dataset.of(frame, {"a": "number", "b": "number", "y": "category"}), split="train")


@pytest.mark.parametrize(
    ("samples", "dataset", "augment"),
    [
        (Rows("y"), rows(), [RowNoise(0.1), MixUp(0.4)]),
        (Rows("y"), labelled(), [Smote(probability=1.0), MixUp(0.4)]),
        (Images("image", "label"), images(), [Flip(), MixUp(0.4), CutMix()]),
    ],
    ids=["noise", "smote", "images"],
)
def test_a_sample_of_shards_is_mixed_with_any_of_train_as_in_memory(
    samples: Any, dataset: Dataset, augment: list[Any], tmp_path: Path
) -> None:
    memory, shards = both(samples, dataset, tmp_path)
    chosen = np.random.default_rng(1).permutation(len(memory))[:50]
    plain = shards.batch(chosen)[0]["inputs"]
    for one, other in zip(memory.batch(chosen, augment, 3, 1), shards.batch(chosen, augment, 3, 1), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name])
    assert not torch.equal(plain, shards.batch(chosen, augment, 3, 1)[0]["inputs"])
    alone = torch.cat([shards.batch(np.array([i]), augment, 3, 1)[0]["inputs"] for i in chosen])
    assert torch.equal(alone, shards.batch(chosen, augment, 3, 1)[0]["inputs"])


def test_samples_of_shards_are_drawn_by_weight(tmp_path: Path) -> None:
    _, shards = both(Rows("y"), labelled(), tmp_path, 9)
    weights = balanced(shards)
    order = shards.order(5, 0, weights)
    drawn = order[0 : len(order)]
    rare = shards.targets[drawn] == 0  # type: ignore[index]
    assert len(drawn) == len(shards)
    assert 0.4 < rare.mean() < 0.6  # of 1,000 draws 500 in the mean, the deviation is 16
    assert len(np.unique(drawn[rare])) > 90
    again = order.times_before(slice(0, len(order)))
    assert again.tolist() == times_before(drawn).tolist()
    # few shards are read at a time, and what weighs nothing never comes
    shard = np.searchsorted(shards.starts, drawn, side="right") - 1
    assert len(np.unique(shard[:50])) <= 2 * shards.at_once
    none = shards.order(5, 0, np.where(np.asarray(shards.targets) == 0, 1.0, 0.0))
    assert (np.asarray(shards.targets)[none[0 : len(none)]] == 0).all()


def test_a_weighted_and_mixed_stream_of_shards_goes_on_from_any_bookmark(tmp_path: Path) -> None:
    _, shards = both(Rows("y"), labelled(300), tmp_path, 9)
    stream: dict[str, Any] = {"seed": 5, "augment": [MixUp(0.4)], "weights": balanced(shards)}
    whole = list(islice(batches(shards, 16, **stream), 50))
    for place in (1, 18, 19, 33):
        resumed = islice(batches(shards, 16, bookmark=Bookmark(*whole[place - 1].bookmark), **stream), 50 - place)
        for one, other in zip(whole[place:], resumed, strict=True):
            assert one.bookmark == other.bookmark
            assert torch.equal(one.inputs["inputs"], other.inputs["inputs"])
            assert torch.equal(one.targets["targets"], other.targets["targets"])


def test_samples_that_do_not_say_what_may_lie_in_files_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, shards = both(Rows("y"), labelled(), tmp_path)
    monkeypatch.delattr(EncodedRows, "ON_DISK")
    with pytest.raises(DataError, match="Rows: its samples lie in shards and do not say by ON_DISK"):
        shards.batch(np.arange(3), [MixUp(0.4)])
