"""Through whole recipes: folds as runs, parts from files of their own, and what helps a rare class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import groundup
from groundup import workflow
from groundup.core.errors import DataError, RecipeError
from groundup.core.recipe import Recipe, read_recipe
from groundup.core.run import Run
from groundup.evaluation import over_seeds

TOML = """
name = "table"
[data]
source = { use = "csv", path = "table.csv" }
split = { use = "k_fold", folds = 3, way = "stratified", column = "label", valid = 0.2 }
prepare = [{ use = "TargetEncode" }, { use = "RobustScale", columns = ["x"] }, { use = "PowerScale", columns = ["y"] }]
samples = { use = "Rows", target = "label" }
[model]
use = "MLP"
hidden = [8]
[training]
objective = { use = "supervised", loss = "cross_entropy" }
optimizer = { use = "AdamW", lr = 1e-2 }
batch_size = 32
epochs = 2
[evaluation]
metrics = ["accuracy", "recall"]
baselines = ["logistic_regression"]
"""


def frame(rows: int, seed: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=rows), draw.lognormal(size=rows)
    rare = x + draw.normal(size=rows) > 1.8
    city = np.where(draw.random(rows) < 0.8, np.where(rare, "a", "b"), draw.choice(list("cdefgh"), rows))
    return pl.DataFrame({"x": x, "y": y, "city": city, "label": np.where(rare, "rare", "common")})


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    frame(300).write_csv(tmp_path / "table.csv")
    path = tmp_path / "table.toml"
    path.write_text(TOML)
    return path


def metrics(folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((folder / "report.json").read_text())["metrics"]
    return found


def test_a_recipe_over_folds_is_a_run_for_each(recipe: Path, tmp_path: Path) -> None:
    folder = groundup.train(recipe, out=tmp_path / "run")
    parts = [folder / f"fold-{number}" for number in range(3)]
    rows = [json.loads((part / "data.json").read_text())["rows"] for part in parts]
    assert [row["test"] for row in rows] == [100, 100, 100]
    assert all(sum(row.values()) == 300 for row in rows)
    values = [metrics(part)["accuracy"]["value"] for part in parts]
    found = metrics(folder)["accuracy"]
    wanted = over_seeds(values, overlap=1 / 2)
    assert (found["value"], found["low"], found["high"], found["n"]) == (wanted.value, wanted.low, wanted.high, 3)
    assert [Run.open(part).recipe().data.split.arguments["fold"] for part in parts] == [0, 1, 2]
    assert groundup.evaluate(folder).metrics["accuracy"].value == found["value"]
    assert groundup.predict(folder, {"x": 1.0, "y": 2.0, "city": "a"})[0]["label"] in ("common", "rare")
    page = (folder / "report.html").read_text()
    assert "accuracy" in page


@pytest.mark.slow
def test_a_run_over_folds_goes_on_where_it_stopped(recipe: Path, tmp_path: Path) -> None:
    whole = groundup.train(recipe, out=tmp_path / "whole")
    cut = groundup.train(recipe, out=tmp_path / "cut")
    for path in (cut / "report.json", cut / "chosen.json", cut / "fold-1" / "report.json", cut / "fold-2"):
        path.rename(tmp_path / f"gone-{path.parent.name}-{path.name}")
    groundup.train(resume=cut)
    assert metrics(cut) == metrics(whole)


@pytest.mark.slow
def test_seeds_of_folds_are_runs_within_runs(recipe: Path, tmp_path: Path) -> None:
    folder = groundup.train(recipe, "evaluation.seeds=2", "training.epochs=1", out=tmp_path / "run")
    of_seeds = [metrics(folder / f"seed-{seed}")["accuracy"]["value"] for seed in (0, 1)]
    assert metrics(folder)["accuracy"]["value"] == pytest.approx(np.mean(of_seeds))
    assert (folder / "seed-1" / "fold-2" / "report.json").is_file()
    (folder / "report.json").unlink()
    (folder / "seed-1" / "report.json").unlink()
    (folder / "seed-1" / "fold-2" / "report.json").unlink()
    before = (folder / "seed-1" / "fold-1" / "report.json").stat().st_mtime_ns
    groundup.train(resume=folder)
    assert metrics(folder)["accuracy"]["value"] == pytest.approx(np.mean(of_seeds))
    assert (folder / "seed-1" / "fold-1" / "report.json").stat().st_mtime_ns == before, "what was done stays"


def test_one_fold_alone(recipe: Path, tmp_path: Path) -> None:
    one = read_recipe(recipe, ["data.split.fold=1"])
    assert one.runs() == []
    assert [name for name, _ in read_recipe(recipe).runs()] == ["fold-0", "fold-1", "fold-2"]
    assert [name for name, _ in read_recipe(recipe, ["evaluation.seeds=2", "seed=5"]).runs()] == ["seed-5", "seed-6"]
    folder = groundup.train(one, out=tmp_path / "run")
    assert not list(folder.glob("fold-*"))
    assert metrics(folder)["accuracy"]["n"] == 100


def test_parts_from_files_of_their_own(recipe: Path, tmp_path: Path) -> None:
    frame(200, 1).write_csv(tmp_path / "train.csv")
    leaked = frame(200, 1)[:3]
    pl.concat([frame(50, 2), leaked]).write_csv(tmp_path / "test.csv")
    text = TOML.replace(
        '{ use = "csv", path = "table.csv" }',
        '{ use = "parts", train = { use = "csv", path = "train.csv" }, test = { use = "csv", path = "test.csv" } }',
    )
    text = "\n".join(
        'split = { use = "given", valid = 0.2 }' if line.startswith("split") else line for line in text.splitlines()
    )
    recipe.write_text(text)
    prepared = workflow.prepare(recipe)
    assert [len(part) for part in prepared.splits.parts().values()] == [160, 40, 53]
    assert "split" not in prepared.splits.train.columns
    assert 1 <= len([leak for leak in prepared.leaks if leak.split == "test"]) <= 3, "seen, though the part differs"


def trained(recipe: Path, out: Path, *overrides: str) -> float:
    folder = groundup.train(recipe, "data.split.fold=0", "training.epochs=8", *overrides, out=out)
    return metrics(folder)["recall"]["value"]


@pytest.mark.slow
def test_what_helps_a_rare_class_is_named_in_a_recipe(recipe: Path, tmp_path: Path) -> None:
    plain = trained(recipe, tmp_path / "plain")
    weighted = trained(recipe, tmp_path / "weighted", 'training.objective.class_weights="balanced"')
    sampled = trained(recipe, tmp_path / "sampled", "data.sampling=balanced")
    made = trained(recipe, tmp_path / "made", "data.sampling=balanced", 'data.augment=["Smote", "RowNoise", "MixUp"]')
    assert min(weighted, sampled, made) > plain
    saved = Run.open(tmp_path / "weighted").recipe().training.objective
    assert saved.arguments["class_weights"] == "balanced"
    assert "class_counts" not in saved.arguments


def test_validation_and_test_are_never_augmented(recipe: Path) -> None:
    overrides = ["data.sampling=balanced", 'data.augment=["Smote", "RowNoise", "MixUp"]', "data.split.fold=0"]
    plain, other = workflow.prepare(recipe, "data.split.fold=0"), workflow.prepare(recipe, *overrides)
    for split in ("valid", "test"):
        for one, two in zip(plain.once(split, 16), other.once(split, 16), strict=True):
            assert all(one.inputs[name].equal(two.inputs[name]) for name in one.inputs)
            assert all(one.targets[name].equal(two.targets[name]) for name in one.targets)
    assert len(other.encoded["train"]) == len(plain.encoded["train"]), "no row is added for good"


def test_what_does_not_fit_is_refused(recipe: Path) -> None:
    fold = "data.split.fold=0"
    with pytest.raises(DataError, match="have no classes"):
        groundup.check(
            recipe,
            fold,
            "data.sampling=balanced",
            "data.samples.target=x",
            "data.prepare=[]",
            'data.samples.inputs=["y"]',
        )
    with pytest.raises(RecipeError, match="has no change_row"):
        groundup.check(recipe, fold, 'data.augment=["Jitter"]')
    with pytest.raises(RecipeError, match=r"there is no 'balancd' in groundup\.data\.sampling"):
        Recipe.checked(read_recipe(recipe, ["data.sampling=balancd"]))
