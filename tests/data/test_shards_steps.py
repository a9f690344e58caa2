"""Every step that a recipe can name gives over shards what it gives on a table in memory."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from groundup.core.dataset import Dataset, Splits, apply
from groundup.core.preprocessing import fit_steps
from groundup.core.use import Use, make
from groundup.data import cleaning, prepare, splitting
from groundup.data.shards import Local, Room, Shards, Workshop, carry_out, fit_and_carry, split_shards, written
from groundup.data.shards.carry import cut
from groundup.data.shards.removed import gather_removed

ROWS = 3000
ROOM = Room(10**9, 2)


def table() -> Dataset:
    draw = np.random.default_rng(5)
    place = np.arange(ROWS)
    number = pl.Series("a", draw.normal(3, 2, ROWS)).set(pl.Series(draw.random(ROWS) < 0.1), None)
    skewed = pl.Series("b", draw.exponential(4, ROWS)).set(pl.Series(draw.random(ROWS) < 0.01), 900.0)
    site = pl.Series("site", [f"s{value}" for value in draw.integers(0, 9, ROWS)])
    colour = pl.Series("colour", draw.choice(["red", "green", "blue"], ROWS)).set(
        pl.Series(draw.random(ROWS) < 0.05), None
    )
    words = np.array(["the", "house", "is", "not", "far", "from", "a", "garden,", "and", "we", "walk.", "<b>there</b>"])
    text = pl.Series(
        "text", [" ".join(words[draw.integers(0, len(words), size)]) for size in draw.integers(1, 60, ROWS)]
    )
    frame = pl.DataFrame(
        [
            number, skewed, pl.Series("c", draw.integers(0, 50, ROWS)), site, colour,
            pl.Series("flag", draw.random(ROWS) < 0.3), pl.Series("when", place * 60).cast(pl.Datetime("us")),
            text, pl.Series("y", draw.choice(["no", "yes"], ROWS)),
        ]
    )  # fmt: skip
    frame = pl.concat([frame, frame[:40]])
    kinds: Any = {
        "a": "number", "b": "number", "c": "number", "site": "category", "colour": "category", "flag": "boolean",
        "when": "time", "text": "text", "y": "category",
    }  # fmt: skip
    return Dataset.of(frame, kinds, origin="made")


TABLE = table()

PREPARE: dict[str, Use] = {
    "ClipOutliers": Use("ClipOutliers", method="k_sigma"),
    "DropMissing": Use("DropMissing", columns=["a"]),
    "DropSparseColumns": Use("DropSparseColumns", share=0.03),
    "EachSeries": Use("EachSeries", steps=[{"use": "median_filter", "width": 5}], columns=["a", "b"], by=["site"]),
    "Fill": Use("Fill"),
    "Fill, by mean with a flag": Use("Fill", method="mean", indicator=True),
    "Fill, by mode": Use("Fill", method="mode"),
    "Fill, by group": Use("Fill", columns=["a"], by=["site"]),
    "Fill, along time by site": Use("Fill", columns=["a"], method="linear", by=["site"], time="when"),
    "Fill, along time within reach": Use("Fill", columns=["a"], method="forward", limit=3),
    "FillIterative": Use("FillIterative", sample_rows=500),
    "FillNearest": Use("FillNearest", columns=["a"], sample_rows=200),
    "HashEncode": Use("HashEncode", columns=["site"], buckets=4),
    "LogScale": Use("LogScale"),
    "MinMax": Use("MinMax"),
    "OneHot": Use("OneHot", columns=["site", "colour"]),
    "Ordinal": Use("Ordinal", columns=["colour"]),
    "OutlierRows": Use("OutlierRows", columns=["b", "c"], sample_rows=500),
    "Outliers": Use("Outliers"),
    "Outliers, dropped": Use("Outliers", columns=["b"], method="k_sigma", action="drop"),
    "Outliers, hampel": Use("Outliers", columns=["b"], method="hampel", width=9),
    "Outliers, hampel by site": Use("Outliers", columns=["b"], method="hampel", width=9, by=["site"]),
    "PowerScale": Use("PowerScale", columns=["b"]),
    "QuantileScale": Use("QuantileScale", columns=["a", "b"]),
    "RobustScale": Use("RobustScale"),
    "Standardize": Use("Standardize"),
    "TargetEncode": Use("TargetEncode", columns=["site"], target="y"),
}

WHOLE = {"DropLabelErrors": "asks a model of its own about all of train"}
"""Steps of which shards are refused, unless all rows fit in memory."""

CLEAN: dict[str, Use] = {
    "EachSeries": Use("EachSeries", steps=[{"use": "median_filter", "width": 5}], columns=["a", "b"], by=["site"]),
    "collapse_repeats": Use("collapse_repeats"),
    "drop_columns": Use("drop_columns", columns=["c"]),
    "drop_exact_duplicates": Use("drop_exact_duplicates"),
    "drop_generated": Use("drop_generated"),
    "drop_missing": Use("drop_missing", columns=["colour"]),
    "drop_near_duplicates": Use("drop_near_duplicates"),
    "drop_rare": Use("drop_rare", column="site", at_least=320),
    "drop_short": Use("drop_short"),
    "drop_without": Use("drop_without", columns=["colour"]),
    "c4_quality": Use("c4_quality", min_words_per_line=2, min_sentences=1),
    "fineweb_quality": Use("fineweb_quality"),
    "gopher_quality": Use("gopher_quality"),
    "gopher_repetition": Use("gopher_repetition"),
    "mask_personal": Use("mask_personal"),
    "normalise_unicode": Use("normalise_unicode"),
    "repair_text": Use("repair_text"),
    "strip_boilerplate": Use("strip_boilerplate"),
    "strip_controls": Use("strip_controls"),
    "strip_html": Use("strip_html"),
}
IMAGES = {name for name in cleaning.__all__ if "image" in name}
ELSEWHERE = {*IMAGES, "drop_contaminated"}
"""Steps whose own tests hold shards against a table."""


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
