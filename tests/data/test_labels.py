"""Confident learning against its definition written out, the authors' own figures, and labels that were made wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import groundup
from groundup import DataRecipe, Recipe, Training, Use
from groundup.core.dataset import Dataset, apply
from groundup.core.errors import DataError, RecipeError
from groundup.core.preprocessing import fit_step
from groundup.data import splitting
from groundup.data.cleaning.labels import (
    confident_joint,
    find_label_errors,
    folds_of,
    label_errors,
    margins,
    out_of_fold,
)
from groundup.data.prepare import DropLabelErrors


def planted(seed: int = 7, n: int = 600, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Given labels of which 15% were made wrong, and probabilities that know the true ones fairly well."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, classes, n)
    labels = np.where(draw.random(n) < 0.15, (true + draw.integers(1, classes, n)) % classes, true)
    logits = draw.normal(size=(n, classes)) + 2.5 * np.eye(classes)[true]
    probabilities = np.exp(logits)
    return labels, probabilities / probabilities.sum(1, keepdims=True)


def test_the_figures_are_those_of_the_authors_own_implementation() -> None:
    labels, probabilities = planted()
    # cleanlab 2.9.0 on the same arrays: compute_confident_joint and find_label_issues.
    assert confident_joint(labels, probabilities, calibrated=False).tolist() == [
        [77, 6, 5, 9], [8, 86, 3, 7], [10, 5, 97, 4], [13, 3, 10, 105],
    ]  # fmt: skip
    assert confident_joint(labels, probabilities).tolist() == [
        [109, 8, 7, 13], [11, 115, 4, 9], [14, 7, 130, 5], [17, 4, 13, 134],
    ]  # fmt: skip
    found = label_errors(labels, probabilities)
    assert (len(found), found.sum(), sorted(found)[:8]) == (107, 36769, [8, 18, 21, 25, 26, 28, 37, 39])
    assert found[:8].tolist() == [51, 463, 124, 261, 423, 443, 18, 8]
    found = label_errors(labels, probabilities, "confident_joint")
    assert (len(found), found.sum(), sorted(found)[:8]) == (83, 28996, [8, 18, 21, 25, 26, 39, 51, 52])


def test_a_joint_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    first = np.array([0.9, 0.8, 0.1, 0.2, 0.1, 0.7])
    probabilities = np.stack([first, 1 - first], axis=1)
    # t_0 = mean(0.9, 0.8, 0.1) = 0.6 and t_1 = mean(0.8, 0.9, 0.3) = 2/3, so rows 2 and 5 are of the other class.
    assert confident_joint(labels, probabilities).tolist() == [[2, 1], [1, 2]]
    assert label_errors(labels, probabilities).tolist() == [2, 5]
    assert margins(labels, probabilities).round(6).tolist() == [0.8, 0.6, -0.8, 0.6, 0.8, -0.4]


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(10, 80))
@settings(max_examples=60, deadline=None)
def test_joint_and_errors_are_those_of_the_definition(seed: int, classes: int, n: int) -> None:
    labels, probabilities = planted(seed, n, classes)
    thresholds = [
        np.mean([p[j] for p, y in zip(probabilities, labels, strict=True) if y == j]) if j in labels else 9
        for j in range(classes)
    ]
    counts = np.zeros((classes, classes), dtype=int)
    for p, y in zip(probabilities, labels, strict=True):
        sure = [j for j in range(classes) if p[j] >= thresholds[j] - 1e-6]
        if sure:
            counts[y, sure[0] if len(sure) == 1 else int(np.argmax(p))] += 1
    for j in range(classes):
        counts[j, j] = max(counts[j, j], 1)
    assert np.array_equal(confident_joint(labels, probabilities, calibrated=False), counts)
    joint = confident_joint(labels, probabilities)
    assert joint.sum(axis=1).tolist() == np.bincount(labels, minlength=classes).tolist()
    for method in ("noise_rate", "confident_joint"):
        found = label_errors(labels, probabilities, method)  # type: ignore[arg-type]
        assert (margins(labels, probabilities)[found] < 0).all()
        assert set(np.unique(labels)) == set(np.delete(labels, found)), "a row of each class stays"


def table(n: int = 600, noise: float = 0.1, apart: float = 2.0) -> tuple[Dataset, np.ndarray]:
    """Three classes in numbers, a category and a text, some labels made wrong; and which these are."""
    draw = np.random.default_rng(1)
    true = draw.integers(0, 3, n)
    wrong = draw.random(n) < noise
    labels = np.where(wrong, (true + draw.integers(1, 3, n)) % 3, true)
    numbers = draw.normal(size=(n, 2)) + apart * np.eye(3)[true][:, :2]
    numbers[::17, 0] = np.nan
    words = [["apple", "pear"], ["stone", "sand"], ["cat", "dog"]]
    frame = pl.DataFrame(
        {
            "name": [f"row-{i}" for i in range(n)],
            "a": numbers[:, 0],
            "b": numbers[:, 1],
            "colour": [
                None if i % 11 == 0 else ["red", "green", "blue"][t] if i % 3 else "red" for i, t in enumerate(true)
            ],
            "text": [f"some words and a {draw.choice(words[t] if draw.random() < 0.8 else words[0])}" for t in true],
            "label": [None if i == 5 else "xyz"[label] for i, label in enumerate(labels)],
        }
    ).with_columns(pl.col("a").fill_nan(None))
    return Dataset.of(frame, {"name": "id", "text": "text", "colour": "category", "label": "category"}), wrong


def test_labels_made_wrong_are_found_by_cross_validation() -> None:
    dataset, wrong = table()
    found = find_label_errors(dataset, "label")
    wrong = np.delete(wrong, 5)  # has no label
    hits = wrong[found.positions].sum()
    assert hits / wrong.sum() > 0.85
    assert hits / len(found.positions) > 0.75
    assert wrong[found.positions[:20]].mean() > 0.9, "the likeliest come first"
    names = [name for i, name in enumerate(dataset.row_names()) if i != 5]
    first = found.rows(names)[0]
    assert first["row"] == names[found.positions[0]]
    assert first["label"] != first["suggested"]
    assert find_label_errors(dataset, "label").positions.tolist() == found.positions.tolist()


def test_a_row_is_answered_for_by_what_has_not_seen_it() -> None:
    draw = np.random.default_rng(0)
    frame = pl.DataFrame({"category": [f"own {i // 2}" for i in range(120)], "label": draw.integers(0, 2, 120)})
    dataset = Dataset.of(frame, {"category": "category", "label": "category"})
    probabilities = out_of_fold(dataset, "label", frame["label"].to_numpy())
    accuracy = (probabilities.argmax(1) == frame["label"].to_numpy()).mean()
    assert 0.3 < accuracy < 0.7, "chance: a category that only its own rows have tells nothing"
    fold = folds_of(np.repeat([0, 1, 2], [50, 10, 7]), 5)
    assert all(np.ptp(np.bincount(fold[a:b], minlength=5)) <= 1 for a, b in ((0, 50), (50, 60), (60, 67)))


def test_the_step_drops_from_train_alone() -> None:
    dataset, wrong = table()
    dataset = dataset.with_frame(dataset.frame.filter(pl.col("label").is_not_null()))
    wrong = np.delete(wrong, 5)
    splits = splitting.random(dataset, 0.2, 0.2)
    step = fit_step(DropLabelErrors("label"), splits.train)
    train = apply(step, splits.train, "DropLabelErrors")
    gone = dict(train.history[-1].removed)
    assert 20 < len(gone) < 80
    assert all(reason.startswith("label error: '") for reason in gone.values())
    position = {name: i for i, name in enumerate(dataset.row_names())}
    assert np.mean([wrong[position[name]] for name in gone]) > 0.7
    for part in (splits.valid, splits.test):
        assert apply(step, part, "DropLabelErrors").frame.equals(part.frame)
    again = type(step)(**json.loads(json.dumps({"target": "label", "learned": step.learned})))
    assert again(splits.train).frame.equals(train.frame), "it comes back from JSON"
    told = apply(fit_step(DropLabelErrors("label", action="report"), splits.train), splits.train, "told")
    assert len(told) == len(splits.train)
    assert f"{len(gone)} of {len(splits.train)} labels are likely wrong" in told.history[-1].notes
    few = fit_step(DropLabelErrors("label", most=0.02), splits.train)(splits.train)
    assert len(few) == len(splits.train) - int(0.02 * len(splits.train))
    with pytest.raises(DataError, match="only the train split"):
        fit_step(DropLabelErrors("label"), splits.test)


def test_what_cannot_be_judged_is_refused() -> None:
    dataset, _ = table(60)
    for target, message in (("name", "60 classes"), ("nolabel", "no column 'nolabel'")):
        with pytest.raises(DataError, match=message):
            find_label_errors(dataset, target)
    with pytest.raises(DataError, match="no column beside 'label'"):
        find_label_errors(Dataset.of(dataset.frame.select("label"), {"label": "category"}), "label")
    with pytest.raises(DataError, match="2 or more"):
        find_label_errors(dataset, "label", folds=1)
    with pytest.raises(DataError, match="one row of two or more classes"):
        label_errors(np.array([0, 1]), np.zeros((3, 2)))
    with pytest.raises(DataError, match="between 0 and 1"):
        label_errors(np.array([0, 1]), np.full((2, 2), 2.0))


@pytest.mark.parametrize("by", ["logistic_regression", "recipe"])
def test_the_verb_finds_them_by_either_model(by: str, tmp_path: Path) -> None:
    dataset, wrong = table(400, apart=5.0)
    frame = dataset.frame.select("a", "b", "label").with_columns(pl.col("a").fill_null(0.0))
    frame.filter(pl.col("label").is_not_null()).write_csv(tmp_path / "table.csv")
    recipe = Recipe(
        name="labels",
        data=DataRecipe(
            source=Use("csv", path="table.csv"),
            split=Use("stratified", column="label", valid=0.1, test=0.2),
            prepare=(Use("Standardize"),),
            samples=Use("Rows", target="label"),
        ),
        model=Use("MLP", hidden=[16]),
        training=Training(
            objective=Use("supervised", loss="cross_entropy"), optimizer=Use("AdamW", lr=1e-2), epochs=30
        ),
        folder=tmp_path,
    )
    found = groundup.labels(recipe, by=by, into=tmp_path / "found.jsonl")
    lines: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert len(lines) == len(found.positions) > 20
    assert {line["split"] for line in lines} == {"train", "valid", "test"}
    assert all(re.fullmatch(r"[a-z]+\d* -?[\d.e-]+(, [a-z]+\d* -?[\d.e-]+)*", line["content"]) for line in lines)
    wrong = np.delete(wrong, 5)
    assert np.mean([wrong[int(line["row"].removeprefix("row "))] for line in lines[:20]]) >= 0.85
    with pytest.raises(RecipeError, match="expected logistic_regression or recipe"):
        groundup.labels(recipe, by="guess")


def test_a_recipe_without_classes_has_no_wrong_ones(tmp_path: Path) -> None:
    pl.DataFrame({"a": np.arange(60.0), "b": np.arange(60.0) ** 2 + 0.5}).write_csv(tmp_path / "table.csv")
    recipe = Recipe(
        name="values",
        data=DataRecipe(source=Use("csv", path="table.csv"), samples=Use("Rows", target="b")),
        model=Use("MLP"),
        training=Training(objective=Use("supervised", loss="mse"), epochs=1),
        folder=tmp_path,
    )
    with pytest.raises(RecipeError, match="task is regress"):
        groundup.labels(recipe)
