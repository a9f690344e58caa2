"""Cleaned data that do not fit in memory are given back as they were before any step, a shard at a time."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from groundup import Recipe, Training, Use, workflow
from groundup.core.dataset import ROW, Dataset, Splits, apply
from groundup.core.errors import DataError
from groundup.core.preprocessing import fit_steps
from groundup.core.recipe import DataRecipe
from groundup.core.use import make
from groundup.data.shards import open_shards
from groundup.data.undoing import read_record
from groundup.stages.preparing import steps

ROWS = 40_000
CLEAN = (
    Use("drop_exact_duplicates"),
    Use("drop_missing", columns=["b"]),
    Use("EachSeries", steps=[Use("moving_average", width=5)], columns=["a"], by=["site"]),
    Use("drop_columns", columns=["c"]),
)
PREPARE = (
    Use("Fill", columns=["a"], method="mean", indicator=True),
    Use("OneHot", columns=["colour"]),
    Use("Standardize"),
)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the least memory that is else allowed."""
    monkeypatch.setattr("groundup.data.shards.memory.SMALLEST_SHARD", 400_000)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(0)
    gap = pl.Series(draw.random(ROWS) < 0.1)
    frame = pl.DataFrame(
        {
            "when": pl.Series(draw.permutation(ROWS) * 60).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%d %H:%M:%S"),
            "site": draw.integers(0, 40, ROWS),
            "a": pl.Series(draw.normal(size=ROWS)).set(gap, None),
            "b": pl.Series(draw.normal(size=ROWS)).set(pl.Series(draw.random(ROWS) < 0.01), None),
            "c": draw.integers(0, 9, ROWS),
            "colour": draw.choice(["red", "green"], ROWS),
            "y": draw.choice(["no", "yes"], ROWS),
        }
    )
    path = tmp_path_factory.mktemp("table") / "table.csv"
    pl.concat([frame, frame.head(50)]).write_csv(path)
    return path


def recipe(path: Path, split: Use, clean: tuple[Use, ...]) -> Recipe:
    return Recipe(
        name="large",
        data=DataRecipe(
            source=Use("csv", path=str(path), time="when"),
            clean=clean,
            split=split,
            prepare=PREPARE,
            samples=Use("Rows", target="y"),
            memory="6.4MB",
        ),
        model=Use("MLP", hidden=[4]),
        training=Training(steps=1),
    )


def versions(wanted: Recipe) -> list[dict[str, Dataset]]:
    """The data before each step, worked out in memory."""
    dataset: Dataset = make(wanted.data.source, "source")()
    found = []
    for use in wanted.data.clean:
        found.append({"data": dataset})
        dataset = apply(make(use, "clean"), dataset, use.target)
    found.append({"data": dataset})
    splits: Splits = make(wanted.data.split, "split", seed=wanted.seed)(dataset)
    for step in steps(wanted.data):
        found.append(dict(splits.parts()))
        _, splits = fit_steps([step], splits)
    return found


def read(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in sorted(folder.glob("part-*.parquet"))])


def same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Fitted values are learned shard by shard, so that they agree to the last digits but one."""
    numbers = [name for name in one.columns if one[name].dtype.is_float()]
    assert one.columns == other.columns
    return one.drop(numbers).equals(other.drop(numbers)) and all(
        one[name].is_null().equals(other[name].is_null())
        and np.allclose(one[name].fill_null(0), other[name].fill_null(0), rtol=1e-9, atol=1e-12)
        for name in numbers
    )


@pytest.mark.parametrize("way", ["random", "by_time"])
def test_every_step_is_undone(way: str, table: Path, tmp_path: Path) -> None:
    split = Use("random") if way == "random" else Use("by_time", column="when")
    clean = CLEAN if way == "by_time" else (*CLEAN[:2], CLEAN[3])
    wanted = recipe(table, split, clean)
    folder = workflow.clean(wanted, out=tmp_path / "cleaned", record=True)
    before = {part: read(folder / part) for part in ("train", "valid", "test")}
    assert len(open_shards(folder / "train").files) > 3
    recorded = read_record(folder)
    expected = versions(wanted)
    assert len(recorded.steps()) == len(expected)
    told = {done.name: done for done in recorded.steps()}
    assert told["drop_exact_duplicates"].rows == 50
    assert told["split"].rows == 0
    assert told["Fill"].cells > 1_000
    for number, version in enumerate(expected, 1):
        back = workflow.undo(folder, before=str(number), out=tmp_path / f"before-{number}")
        assert {path.name for path in back.iterdir()} == set(version)
        for name, dataset in version.items():
            assert same(read(back / name), dataset.frame), (number, name)
        shutil.rmtree(back)
    assert all(read(folder / part).equals(frame) for part, frame in before.items())


def test_a_shard_that_was_changed_since_is_told(table: Path, tmp_path: Path) -> None:
    folder = workflow.clean(recipe(table, Use("random"), ()), out=tmp_path / "cleaned", record=True)
    shard = sorted((folder / "valid").glob("part-*.parquet"))[-1]
    frame = pl.read_parquet(shard)
    frame.with_columns(a=pl.col("a") + 1).write_parquet(shard)
    with pytest.raises(DataError, match="is not what this step made"):
        workflow.undo(folder, before="Standardize")
    assert not (tmp_path / "cleaned-before-4").exists()


def test_what_was_begun_without_a_record_cannot_end_with_one(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(table, Use("random"), CLEAN[1:2])
    with monkeypatch.context() as patched:
        patched.setattr("groundup.data.any_size.fit_steps", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            workflow.clean(wanted, out=tmp_path / "cleaned")
    with pytest.raises(DataError, match=r"drop_missing changed is written down for 0 of .* begun without record"):
        workflow.clean(wanted, out=tmp_path / "cleaned", record=True)


def test_what_was_stopped_goes_on_with_its_record(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = recipe(table, Use("random"), CLEAN[:2])
    with monkeypatch.context() as patched:
        patched.setattr("groundup.data.any_size.fit_steps", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            workflow.clean(wanted, out=tmp_path / "cleaned", record=True)
    folder = workflow.clean(wanted, out=tmp_path / "cleaned", record=True)
    back = workflow.undo(folder)
    raw = read(back / "data")
    assert raw.drop(ROW, "when").equals(pl.read_csv(table).drop("when"))
    bare = workflow.clean(dataclasses.replace(wanted, name="bare"), out=tmp_path / "bare")
    with pytest.raises(DataError, match="clean --record"):
        workflow.undo(bare)
