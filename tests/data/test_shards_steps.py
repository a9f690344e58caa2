"""Every step that a recipe can name gives over shards what it gives on a table in memory."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_step import CLEAN, ELSEWHERE, PREPARE, TABLE, WHOLE

from groundup.core.dataset import Dataset, Splits, apply
from groundup.core.preprocessing import fit_steps
from groundup.core.use import Use, make
from groundup.data import cleaning, prepare, splitting
from groundup.data.shards import Local, Room, Shards, Workshop, carry_out, fit_and_carry, split_shards, written
from groundup.data.shards.carry import cut
from groundup.data.shards.removed import gather_removed

ROOM = Room(10**9, 2)


def test_no_step_is_left_out() -> None:
    assert {name.partition(",")[0] for name in PREPARE} | set(WHOLE) == set(prepare.__all__)
    assert set(CLEAN) | ELSEWHERE == set(cleaning.__all__)


def sharded(dataset: Dataset, folder: Path, count: int = 6) -> Shards:
    folder.mkdir(parents=True)
    return cut(dataset, folder, int(dataset.frame.estimated_size()) // count)


def same(found: Shards, expected: Dataset) -> None:
    """Values, kinds and the last line of the ledger; what is learned of pieces is so to 12 digits."""
    frame = found.whole().frame
    assert frame.columns == expected.frame.columns
    for name in frame.columns:
        one, other = frame[name], expected.frame[name]
        assert one.dtype == other.dtype, name
        if one.dtype.is_float():
            assert one.is_null().equals(other.is_null()), name
            np.testing.assert_allclose(one.fill_null(0), other.fill_null(0), rtol=1e-10, atol=1e-12, err_msg=name)
        else:
            assert one.equals(other), name
    assert found.kinds == expected.kinds
    entry, known = found.history[-1], expected.history[-1]
    assert (entry.rows_before, entry.rows_after) == (known.rows_before, known.rows_after)
    assert entry.reasons() == known.reasons()
    assert set(entry.removed) <= set(known.removed)
    assert len(entry.removed) == min(1000, len(known.removed))
    assert entry.learned_from == known.learned_from
    assert entry.cells_changed.keys() == known.cells_changed.keys()
    for name, count in known.cells_changed.items():  # a cell that is the same but for its last digit has changed
        assert abs(entry.cells_changed[name] - count) <= 0.01 * count + 1, name


@pytest.mark.parametrize("name", PREPARE)
def test_a_step_of_preparation(name: str, tmp_path: Path) -> None:
    splits = splitting.random(TABLE, valid=0.2, test=0.2)
    use = PREPARE[name]
    step = make(use, "prepare", exclude=["y"])
    (fitted,), expected = fit_steps([step], splits)
    shop = Workshop(Local(2), ROOM, tmp_path / "work")
    parts = {part: sharded(dataset, tmp_path / part) for part, dataset in splits.parts().items()}
    again, parts = fit_and_carry(shop, make(use, "prepare", exclude=["y"]), parts, "step")
    for part, dataset in expected.parts().items():
        same(written(shop, parts[part], f"end-{part}"), dataset)
    if hasattr(fitted, "learned"):
        assert again.learned.keys() == fitted.learned.keys()
        assert again.learned.get("rows") == fitted.learned.get("rows")


@pytest.mark.parametrize("name", CLEAN)
def test_a_step_of_cleaning(name: str, tmp_path: Path) -> None:
    step = make(CLEAN[name], "clean")
    expected = apply(step, TABLE, name)
    shop = Workshop(Local(2), ROOM, tmp_path / "work")
    found = written(shop, carry_out(shop, step, sharded(TABLE, tmp_path / "in"), name), "end")
    same(found, expected)
    gather_removed([tmp_path / "work"], tmp_path / "removed.jsonl")
    if expected.history[-1].removed:
        lines = [json.loads(line) for line in (tmp_path / "removed.jsonl").read_text().splitlines()]
        assert sorted((one["row"], one["reason"]) for one in lines) == sorted(expected.history[-1].removed)
    if name.startswith("drop_") and name not in ("drop_columns", "drop_generated", "drop_rare"):
        assert expected.history[-1].num_removed > 0


SPLITS: dict[str, Any] = {
    "by_hash": partial(splitting.by_hash, column="text"),
    "by_time": partial(splitting.by_time, column="when"),
    "contiguous": splitting.contiguous,
    "given": partial(splitting.given, column="flag", names={"train": ["false"], "test": ["true"]}),
    "grouped": partial(splitting.grouped, column="site", valid=0.2, test=0.2),
    "k_fold": partial(splitting.k_fold, fold=1, way="stratified", column="y"),
    "random": splitting.random,
    "stratified": partial(splitting.stratified, column="y"),
}


@pytest.mark.parametrize("name", splitting.__all__)
def test_a_way_to_split(name: str, tmp_path: Path) -> None:
    expected: Splits = SPLITS[name](TABLE)
    shop = Workshop(Local(2), Room(2_000_000, 2), tmp_path / "work")
    assert not shop.room.fits(int(TABLE.frame.estimated_size()) * 4)
    found = split_shards(shop, SPLITS[name], sharded(TABLE, tmp_path / "in"), name, "split")
    for part, dataset in expected.parts().items():
        frame = found[part].whole().frame
        assert frame.equals(dataset.frame)
        assert found[part].split == part
        assert found[part].kinds == dataset.kinds
        assert found[part].columns == dataset.columns


def test_the_steps_of_a_whole_recipe_one_after_another(tmp_path: Path) -> None:
    uses = [Use("Fill", method="mean"), Use("Outliers"), Use("OneHot", columns=["site"]), Use("Standardize")]
    splits = splitting.random(TABLE)
    _, expected = fit_steps([make(use, "prepare", exclude=["y"]) for use in uses], splits)
    shop = Workshop(Local(2), ROOM, tmp_path / "work")
    parts = {part: sharded(dataset, tmp_path / part) for part, dataset in splits.parts().items()}
    for number, use in enumerate(uses):
        _, parts = fit_and_carry(shop, make(use, "prepare", exclude=["y"]), parts, f"{number}")
    for part, dataset in expected.parts().items():
        found = written(shop, parts[part], f"end-{part}")
        same(found, dataset)
        assert len(found.history) == len(uses)
        assert dataclasses.replace(found.history[0], notes=(), cells_changed={}) == dataclasses.replace(
            dataset.history[0], notes=(), cells_changed={}
        )
