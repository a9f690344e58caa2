"""Rows that stand in two splits: refused by default, or measured apart, through the whole river."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import groundup
from groundup import DataRecipe, Recipe, Training, Use
from groundup.core.errors import ProofError
from groundup.core.recipe import Evaluation
from groundup.core.report import Report
from groundup.core.run import Run


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A table with a running number, in which 40 of 300 rows stand twice; noise that only memory can predict."""
    draw = np.random.default_rng(0)
    columns = {f"x{i}": draw.normal(size=300) for i in range(8)}
    frame = pl.DataFrame({**columns, "label": draw.choice(["a", "b"], 300)})
    frame = pl.concat([frame, frame.head(60)]).sample(fraction=1, shuffle=True, seed=1).with_row_index("number")
    frame.write_csv(tmp_path / "table.csv")
    return Recipe(
        name="leaky",
        data=DataRecipe(
            source=Use("csv", path="table.csv"),
            split=Use("random", valid=0.1, test=0.3),
            prepare=(Use("Standardize"),),
            samples=Use("Rows", target="label"),
        ),
        model=Use("MLP", hidden=[256]),
        training=Training(
            objective=Use("supervised", loss="cross_entropy"), optimizer=Use("AdamW", lr=1e-2), epochs=40
        ),
        evaluation=Evaluation(metrics=(Use("accuracy"),)),
        folder=tmp_path,
    )


def test_a_running_number_hides_no_copy_and_leaks_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ProofError, match="rows stand in two splits"):
        groundup.train(recipe, out=tmp_path / "run")


def test_reported_leaks_show_how_much_they_flatter(recipe: Recipe, tmp_path: Path) -> None:
    reported = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, leaks="report"))
    run = Run.open(groundup.train(reported, out=tmp_path / "run"))
    report = Report.from_dict(run.read_json("report.json"))
    whole, clean, leaked = (
        report.metrics["accuracy"],
        report.leaks["clean"]["accuracy"],
        report.leaks["leaked"]["accuracy"],
    )
    assert clean.n + leaked.n == whole.n
    assert clean.value * clean.n + leaked.value * leaked.n == pytest.approx(whole.value * whole.n)
    assert leaked.value > clean.value + 0.2, "noise is only known by heart"
    assert "stand in an earlier split as well" in (run.folder / "report.html").read_text("utf-8")
    again = groundup.evaluate(run.folder)
    assert again.leaks == report.leaks


def test_texts_that_leak_are_measured_apart(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    documents = [" ".join(draw.choice(words, 60)) for _ in range(60)]
    for i, text in enumerate([*documents, *documents[:12]]):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{i:03d}.txt").write_text(text + "\n")
    recipe = Recipe(
        name="texts",
        data=DataRecipe(
            source=Use("text_files", path="texts"),
            split=Use("random", valid=0.2, test=0.2),
            samples=Use("PackedText", length=32, tokenizer=Use("BytePairEncoding", vocab_size=300)),
            leaks="report",
        ),
        model=Use("Llama", hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64),
        training=Training(objective=Use("language_modelling"), steps=3, batch_size=4),
        evaluation=Evaluation(metrics=(Use("loss"),)),
        folder=tmp_path,
    )
    report = groundup.evaluate(groundup.train(recipe, out=tmp_path / "run"))
    assert report.leaks["leaked"]["loss"].n + report.leaks["clean"]["loss"].n == pytest.approx(
        report.metrics["loss"].n, rel=0.02
    )
