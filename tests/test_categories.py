"""Categories without OneHot: down the whole river, with a model that learns a vector for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import groundup
from groundup import DataRecipe, Recipe, Training, Use, terminal
from groundup.core.errors import RecipeError
from groundup.core.recipe import Evaluation


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with terminal.quiet():
        yield


def _recipe(folder: Path, model: Use, **data: Any) -> Recipe:
    draw = np.random.default_rng(0)
    colour, size = draw.choice(["red", "green", "blue"], 400), draw.normal(size=400)
    price = np.where(colour == "red", size, np.where(colour == "green", -size, 2.0)) + 0.1 * draw.normal(size=400)
    pl.DataFrame({"colour": colour, "size": size, "price": price}).write_csv(folder / "table.csv")
    return Recipe(
        name="colours",
        data=DataRecipe(
            source=Use("csv", path=str(folder / "table.csv")),
            split=Use("random"),
            samples=Use("Rows", target="price"),
            **data,
        ),
        model=model,
        training=Training(
            objective=Use("supervised", loss="mse"), optimizer=Use("AdamW", lr=3e-3), epochs=40, compile="off"
        ),
        evaluation=Evaluation(metrics=[Use("r2")], baselines=[Use("linear")]),
    )


def test_a_run_learns_a_vector_for_each_category(tmp_path: Path) -> None:
    model = Use("FTTransformer", features=16, blocks=2, num_heads=2, dropout=0.0)
    run = groundup.run(_recipe(tmp_path, model), out=tmp_path / "run")
    report = groundup.evaluate(run)
    assert report.metrics["r2"].value > 0.8
    assert report.baselines["linear"]["r2"].value < 0.7, "colour and size act together"
    known, strange = groundup.predict(run, [{"colour": "red", "size": 1.0}, {"colour": "pink", "size": 1.0}])
    assert known["value"] == pytest.approx(1.0, abs=0.4)
    assert "colour" in str(strange["new"])


def test_a_model_that_takes_numbers_refuses_an_index(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.model: MLP takes numbers, and there is category: colour"):
        groundup.check(_recipe(tmp_path, Use("MLP", hidden=[8])))
    assert groundup.check(_recipe(tmp_path, Use("MLP", hidden=[8]), prepare=(Use("OneHot"),))).passed
    assert groundup.check(_recipe(tmp_path, Use("TableResNet"), prepare=(Use("OneHot"),))).passed
