"""Duplicates among rows that are never all in memory, and what happens where what is compared does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from groundup.core.dataset import Dataset, Kind, apply
from groundup.core.errors import DataError
from groundup.data.cleaning import drop_exact_duplicates, drop_near_duplicates
from groundup.data.shards import Local, Room, Workshop, carry_out
from groundup.data.shards.carry import cut


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("key_bytes", [1, 200_000])
def test_equal_rows_are_found_in_buckets(
    named: bool, key_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundup.data.shards.equal_rows.KEY_BYTES", key_bytes)
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"a": rng.integers(0, 40, 3000), "b": rng.choice(["x", "y", None], 3000)}).with_columns(
        name=pl.Series([f"n{i}" for i in range(3000)])
    )
    kinds: dict[str, Kind] = {"a": "number", "b": "category", "name": "id" if named else "text"}
    dataset = Dataset.of(frame if named else frame.drop("name"), kinds if named else {"a": "number", "b": "category"})
    step = drop_exact_duplicates()
    expected = apply(step, dataset, "exact")
    (tmp_path / "in").mkdir()
    shards = cut(dataset, tmp_path / "in", int(dataset.frame.estimated_size()) // 7)
    found = carry_out(Workshop(Local(2), Room(10**9, 2), tmp_path / "out"), step, shards, "exact")
    assert found.whole().frame.equals(expected.frame)
    assert found.history[-1].num_removed == expected.history[-1].num_removed == 3000 - 120
    assert set(found.history[-1].removed) <= set(expected.history[-1].removed)


def test_signatures_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    texts = [" ".join(str(i * k) for k in range(20)) for i in range(400)]
    dataset = Dataset.of(pl.DataFrame({"text": texts}), {"text": "text"})
    (tmp_path / "in").mkdir()
    shards = cut(dataset, tmp_path / "in", int(dataset.frame.estimated_size()) // 4)
    small = Workshop(Local(1), Room(200_000, 1), tmp_path / "out")
    with pytest.raises(DataError, match=r"near: what is compared of the first 3 of 5 shards takes .* of a memory of"):
        carry_out(small, drop_near_duplicates(), shards, "near")
