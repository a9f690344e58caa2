"""Cleaned data are given back as they were before any of their steps, and nothing is given back that was not."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from groundup import workflow
from groundup.core.dataset import ROW, Dataset, Splits, apply
from groundup.core.errors import DataError
from groundup.core.preprocessing import fit_steps, step_name
from groundup.core.recipe import DataRecipe, Recipe, Training
from groundup.core.use import Use, make
from groundup.data.shards import open_shards
from groundup.data.undoing import go_back, read_record


def recipe(folder: Path) -> Recipe:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "id": range(120),
            "age": [None if i % 7 == 0 else float(a) for i, a in enumerate(rng.integers(1, 90, 120))],
            "town": rng.choice(["A", "B", "C"], 120),
            "y": rng.integers(0, 2, 120),
        }
    )
    pl.concat([frame, frame.head(6)]).write_csv(folder / "people.csv")
    return Recipe(
        name="people",
        folder=folder,
        data=DataRecipe(
            source=Use("csv", path="people.csv"),
            clean=(Use("drop_exact_duplicates"), Use("drop_columns", columns=["id"])),
            split=Use("stratified", column="y", valid=0.2, test=0.2),
            prepare=(
                Use("Fill", columns=["age"], indicator=True),
                Use("TargetEncode", columns=["town"]),
                Use("Standardize", columns=["age"]),
            ),
            samples=Use("Rows", target="y"),
        ),
        model=Use("MLP", hidden=[4]),
        training=Training(steps=1),
    )


@pytest.fixture
def cleaned(tmp_path: Path) -> Path:
    return workflow.clean(recipe(tmp_path), out=tmp_path / "cleaned")


def versions(folder: Path) -> list[dict[str, Dataset]]:
    """The data before each step, worked out without any record."""
    wanted = recipe(folder)
    dataset: Dataset = make(wanted.data.source, "source", folder=folder)()
    found = []
    for use in wanted.data.clean:
        found.append({"data": dataset})
        dataset = apply(make(use, "clean"), dataset, use.target)
    found.append({"data": dataset})
    splits: Splits = make(wanted.data.split, "split", seed=wanted.seed)(dataset)
    for use in wanted.data.prepare:
        found.append(dict(splits.parts()))
        _, splits = fit_steps([make(use, "prepare", exclude=["y"], target="y")], splits)
    return found


def test_undo_of_each_step_restores_the_fingerprint(cleaned: Path, tmp_path: Path) -> None:
    recorded = read_record(cleaned)
    expected = versions(tmp_path)
    names = ["drop_exact_duplicates", "drop_columns", "split", "Fill", "TargetEncode", "Standardize"]
    assert [done.name for done in recorded.steps()] == names
    for number, version in enumerate(expected, 1):
        back = go_back(recorded, number)
        assert {name: data.fingerprint() for name, data in back.items()} == {
            name: data.fingerprint() for name, data in version.items()
        }, names[number - 1]


def test_the_list_of_steps_counts_cells_and_rows(cleaned: Path) -> None:
    steps = {done.name: done for done in read_record(cleaned).steps()}
    assert steps["drop_exact_duplicates"].rows == 6
    assert steps["Fill"].cells == 18
    assert steps["split"].rows == steps["split"].cells == 0


def test_the_verb_writes_beside_and_leaves_the_cleaned_data(cleaned: Path, tmp_path: Path) -> None:
    before = {part: open_shards(cleaned / part).whole().fingerprint() for part in ("train", "valid", "test")}
    folder = workflow.undo(cleaned, before="Fill")
    assert folder == tmp_path / "cleaned-before-4"
    train = pl.read_parquet(folder / "train" / "part-00000.parquet")
    assert train["age"].null_count() > 0
    whole = workflow.undo(cleaned, out=tmp_path / "raw")
    raw = pl.read_parquet(whole / "data.parquet").drop(ROW)
    assert raw.equals(pl.read_csv(tmp_path / "people.csv"))
    assert {part: open_shards(cleaned / part).whole().fingerprint() for part in before} == before
    assert not workflow.diff(tmp_path / "people.csv", whole).differs
    with pytest.raises(DataError, match="never overwritten"):
        workflow.undo(cleaned, out=tmp_path / "raw")


def test_what_cannot_be_undone_is_told(cleaned: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Did you mean 'Fill'"):
        workflow.undo(cleaned, before="Fil")
    with pytest.raises(DataError, match="no step '9'"):
        workflow.undo(cleaned, before="9")
    bare = workflow.clean(recipe(tmp_path), out=tmp_path / "bare", record=False)
    assert not (bare / "changes").exists()
    with pytest.raises(DataError, match="was not recorded"):
        workflow.undo(bare)
    shard = next((cleaned / "train").glob("*.parquet"))
    frame = pl.read_parquet(shard)
    frame.with_columns(age=pl.col("age") + 1).write_parquet(shard)
    with pytest.raises(DataError, match="is not what this step made"):
        workflow.undo(cleaned, before="Standardize")


COUNTED = """
from groundup.core.contract import contract

calls = []

@contract("row-local")
def seen(dataset):
    calls.append((dataset.split, len(dataset)))
    return dataset

def failing(dataset):
    raise ValueError("as planted")
"""


def test_no_step_is_carried_out_twice_and_what_fails_leaves_no_record(tmp_path: Path) -> None:
    (tmp_path / "counted_steps.py").write_text(COUNTED, encoding="utf-8")
    known = recipe(tmp_path)
    seen = (Use("counted_steps:seen"),)
    data = dataclasses.replace(known.data, clean=known.data.clean + seen, prepare=known.data.prepare + seen)
    folder = workflow.clean(dataclasses.replace(known, data=data), out=tmp_path / "cleaned")
    parts = [(part, len(open_shards(folder / part))) for part in ("train", "valid", "test")]
    assert importlib.import_module("counted_steps").calls == [(None, 120), *parts]
    assert [done.name for done in read_record(folder).steps()][2::5] == ["seen", "seen"]
    data = dataclasses.replace(data, prepare=(*data.prepare, Use("counted_steps:failing")))
    with pytest.raises(ValueError, match="as planted"):
        workflow.clean(dataclasses.replace(known, data=data), out=tmp_path / "failed")
    assert {path.name for path in (tmp_path / "failed").iterdir()} == {"begun.json"}


def test_steps_have_their_names(cleaned: Path) -> None:
    assert read_record(cleaned).parts["train"][0].step == step_name(make(Use("Fill"), "prepare"))
