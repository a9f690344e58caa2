"""The same questions of the same rows, in memory and in shards, have the same answers."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from groundup.core.dataset import Dataset, Splits
from groundup.core.errors import DataError
from groundup.core.novelty import DECLARED_NOTHING
from groundup.core.preprocessing import Preprocessing
from groundup.data import any_size, splitting
from groundup.data.prepare import Fill, Standardize
from groundup.data.samples import Rows
from groundup.data.shards import Local, Room, Shards, ShardSplits, Workshop
from groundup.data.shards.carry import cut

ROWS = 1200


def table() -> Dataset:
    draw = np.random.default_rng(3)
    age = pl.Series("age", draw.integers(1, 90, ROWS)).set(pl.Series(draw.random(ROWS) < 0.1), None)
    frame = pl.DataFrame(
        [age, pl.Series("x", draw.normal(size=ROWS)), pl.Series("y", draw.choice(["no", "yes"], ROWS))]
    )
    twins = pl.concat([frame, frame[:40]])
    return Dataset.of(twins, {"age": "number", "x": "number", "y": "category"}, origin="made")


TABLE = table()


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(Local(1), Room(10**9, 1), tmp_path / "work")


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    (tmp_path / "in").mkdir()
    made = cut(TABLE, tmp_path / "in", int(TABLE.frame.estimated_size()) // 6)
    assert len(made.files) >= 6
    return made


def split(shop: Workshop, data: Any) -> tuple[Any, tuple[Any, ...]]:
    return any_size.split(shop, partial(splitting.random, seed=1), data, data, "random")


def test_each_split_lies_where_its_rows_did(shop: Workshop, shards: Shards) -> None:
    (here, leaks), (there, others) = split(shop, TABLE), split(shop, shards)
    assert isinstance(here, Splits)
    assert isinstance(there, ShardSplits)
    for name, part in here.parts().items():
        assert there.parts()[name].whole().frame.equals(part.frame)
        assert any_size.fingerprint(there.parts()[name]) == any_size.fingerprint(part)
    assert leaks
    assert {(leak.split, leak.row) for leak in leaks} == {(leak.split, leak.row) for leak in others}
    assert {leak[:4] for leak in leaks} == {leak[:4] for leak in others}


def test_rows_are_marked_and_taken_by_their_numbers(shop: Workshop, shards: Shards) -> None:
    wanted = {3, 700, ROWS + 5}
    here, there = any_size.marked(TABLE, wanted), any_size.marked(shards, wanted)
    assert np.flatnonzero(here).tolist() == sorted(wanted)
    assert (here == there).all()
    positions = np.flatnonzero(here)[::-1]
    some = any_size.take(shop, shards, positions, "some")
    assert isinstance(some, Shards)
    assert some.whole().frame.equals(any_size.whole(shop, any_size.take(shop, TABLE, positions, "same"), "us").frame)


def test_all_rows_are_given_only_where_they_fit(shop: Workshop, shards: Shards) -> None:
    assert any_size.whole(shop, shards, "labels").frame.equals(TABLE.frame)
    assert any_size.whole(shop, TABLE, "labels") is TABLE
    small = dataclasses.replace(shop, room=Room(1000, 1))
    with pytest.raises(DataError, match="labels: must see all 1,240 rows"):
        any_size.whole(small, shards, "labels")


def test_what_is_fitted_and_encoded_is_the_same(shop: Workshop, shards: Shards) -> None:
    fitted, encoded = [], []
    for data in (TABLE, shards):
        splits, _ = split(shop, data)
        schema, noted = any_size.learn_schema(shop, splits, DECLARED_NOTHING)
        steps, prepared = any_size.fit_steps(shop, [Fill(columns=["age"], indicator=True), Standardize(["x"])], noted)
        samples = any_size.fit_samples(shop, Rows("y"), prepared)
        fitted.append(Preprocessing(steps, samples, schema))
        encoded.append(any_size.encode_all(shop, samples, any_size.all_written(shop, prepared)))
        again = any_size.carry_out_fitted(shop, fitted[0], splits)
        for name, part in any_size.all_written(shop, again).parts().items():
            assert any_size.whole(shop, part, "us").columns == ["age", "x", "y", "age_missing"], name
    assert fitted[0].samples.sizes() == fitted[1].samples.sizes()
    for name, here in encoded[0].items():
        there = encoded[1][name]
        assert (here.rows == there.rows).all()
        positions = np.arange(len(here))
        for one, other in zip(here.batch(positions), there.batch(positions), strict=True):
            for key, values in one.items():
                assert (values - other[key]).abs().max() <= 1e-6, (name, key)


def test_a_step_is_shown_to_who_watches(shop: Workshop) -> None:
    seen: list[tuple[int, int, str, str | None]] = []

    def watch(before: Dataset, after: Dataset, step: str) -> None:
        seen.append((before.frame["age"].null_count(), after.frame["age"].null_count(), step, after.split))

    any_size.carry_out(shop, lambda data: data, TABLE, "nothing", "0", watch)
    splits, _ = split(shop, TABLE)
    any_size.fit_steps(shop, [Fill(columns=["age"])], splits, watch)
    gaps = TABLE.frame["age"].null_count()
    assert seen[0] == (gaps, gaps, "nothing", None)
    assert [one[1:] for one in seen[1:]] == [(0, "Fill", name) for name in ("train", "valid", "test")]
    assert sum(one[0] for one in seen[1:]) == gaps
