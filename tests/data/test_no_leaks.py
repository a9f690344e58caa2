"""A leak is planted in every kind of step, and refused; no step lets a value of validation or test reach train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from every_step import CLEAN, PREPARE, TABLE, WHOLE

import groundup
from groundup import DataRecipe, Recipe, Training, Use
from groundup.core.contract import contract, refuse_before_split
from groundup.core.dataset import ROW, Dataset, Splits
from groundup.core.errors import DataError, RecipeError
from groundup.core.preprocessing import fit_step, fit_steps, step_name
from groundup.core.use import make
from groundup.data import samples, splitting
from groundup.data.causality import refuse_across_split
from groundup.data.shards import Local, Room, Workshop, fit
from groundup.data.shards.carry import cut

SPLITS = splitting.random(TABLE, valid=0.2, test=0.2)

USES = {
    **{name: (use, "prepare") for name, use in PREPARE.items()},
    **{name: (Use(name), "prepare") for name in WHOLE},
    "Rows": (Use("Rows", target="y", inputs=["c", "flag"]), "samples"),
    "LabelledText": (Use("LabelledText", target="y"), "samples"),
    "Windows": (Use("Windows", target="c", length=4, horizon=1, inputs=["c"]), "samples"),
    "PackedText": (Use("PackedText", length=16, tokenizer=Use("BytePairEncoding", vocab_size=280)), "samples"),
    "FunctionBodies": (Use("FunctionBodies"), "samples"),
    "TextPairs": (Use("TextPairs", source="text", target="colour", tokenizer=Use("Characters")), "samples"),
    "Images": (Use("Images", image="image"), "samples"),
}
LEARN_NOTHING = {"EachSeries"}


def step_of(name: str) -> Any:
    use, slot = USES[name]
    supplied: dict[str, Any] = {"exclude": ["y"], "target": "y"} if slot == "prepare" else {}
    return make(use, slot, where=name, **supplied)


def altered(part: Dataset) -> Dataset:
    """The same rows with other values, a hundred times as large, and other words."""
    numbers = [pl.col(name) * -100 + 7 for name in ("a", "b", "c")]
    others = [(pl.col(name) + "x").alias(name) for name in ("site", "colour", "text")]
    return part.with_frame(part.frame.with_columns(*numbers, *others, ~pl.col("flag")))


def test_every_builder_of_samples_is_here() -> None:
    assert set(samples.__all__) <= set(USES)


@pytest.mark.parametrize("name", sorted(set(USES) - LEARN_NOTHING))
def test_fitting_on_anything_but_train_is_refused(name: str, tmp_path: Path) -> None:
    step = step_of(name)
    for part in (SPLITS.valid, SPLITS.test, TABLE, dataclasses.replace(TABLE, split="serve")):
        with pytest.raises(DataError, match="only the train split may be fitted on"):
            fit_step(step, part)
    shop = Workshop(Local(1), Room(10**9, 1), tmp_path / "work")
    (tmp_path / "valid").mkdir()
    shards = cut(SPLITS.valid, tmp_path / "valid", 10**6)
    with pytest.raises(DataError, match="only the train split may be fitted on"):
        fit(shop, step, shards, "step")
    with pytest.raises(DataError, match="learns from the rows it sees, and before the split"):
        refuse_before_split(step, step_name(step), "recipe.data.clean[0]")


@pytest.mark.parametrize("name", sorted(set(PREPARE) | (set(WHOLE) & set(USES))))
def test_what_is_learned_and_made_of_train_knows_no_other_part(name: str) -> None:
    whole, other = (
        fit_steps([step_of(name)], splits)
        for splits in (SPLITS, Splits(SPLITS.train, altered(SPLITS.valid), altered(SPLITS.test)))
    )
    assert getattr(whole[0][0], "learned", None) == getattr(other[0][0], "learned", None)
    assert whole[1].train.frame.equals(other[1].train.frame)


def numbers(part: Dataset) -> Any:
    return part.frame[ROW].to_numpy()


def refuse(step: Any, splits: Splits = SPLITS) -> None:
    held_out = np.concatenate([numbers(splits.valid), numbers(splits.test)])
    refuse_across_split([("recipe.data.clean[0]", step)], TABLE, numbers(splits.train), held_out)


@pytest.mark.parametrize("name", CLEAN)
def test_cleaning_before_the_split_carries_nothing_across_it(name: str) -> None:
    step = make(CLEAN[name], "clean")
    if name == "EachSeries":  # the last rows of a site are in other parts
        with pytest.raises(RecipeError, match="EachSeries carries values across the split: 'a' in rows of train"):
            refuse(step)
        refuse(step, splitting.by_time(TABLE, "when"))
        refuse(step, splitting.grouped(TABLE, "site", valid=0.2, test=0.2))
    else:
        refuse(step)


def expression(change: pl.Expr) -> Callable[[Dataset], Dataset]:
    def planted(dataset: Dataset) -> Dataset:
        return dataset.with_frame(dataset.frame.with_columns(change))

    return planted


@contract("keyed", by=("site",))
def site_mean(dataset: Dataset) -> Dataset:
    """Says what it needs, and leaks all the same."""
    return dataset.with_frame(dataset.frame.with_columns(pl.col("a").fill_null(pl.col("a").mean().over("site"))))


@dataclasses.dataclass(frozen=True)
class Scale:
    """Learns when it is called, and hides that it does."""

    def __call__(self, dataset: Dataset) -> Dataset:
        mean, deviation = pl.col("b").mean(), pl.col("b").std()
        return dataset.with_frame(dataset.frame.with_columns((pl.col("b") - mean) / deviation))


PLANTED: dict[str, Any] = {
    "a mean over all rows": expression(pl.col("a").fill_null(pl.col("a").mean())),
    "a mode over all rows": expression(pl.col("colour").fill_null(pl.col("colour").drop_nulls().mode().first())),
    "a range over whole numbers": expression((pl.col("c") / pl.col("c").max()).alias("c")),
    "the row before": expression(pl.col("a").forward_fill()),
    "a count of words": expression(pl.col("text").count().over("text").alias("same")),
    "the target of others": expression((pl.col("y") == "yes").mean().over("site").alias("encoded")),
    "keyed": site_mean,
    "an object": Scale(),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe.data.clean\[0\]: .* carries values across the split"):
        refuse(PLANTED[name])


def test_the_culprit_is_named_among_honest_steps() -> None:
    steps = [("first", make(Use("drop_exact_duplicates"), "clean")), ("second", PLANTED["a mean over all rows"])]
    held_out = np.concatenate([numbers(SPLITS.valid), numbers(SPLITS.test)])
    with pytest.raises(RecipeError, match=r"second: planted carries values"):
        refuse_across_split(steps, TABLE, numbers(SPLITS.train), held_out)
    before = TABLE.fingerprint()
    refuse_across_split(steps[:1], TABLE, numbers(SPLITS.train), held_out)
    assert TABLE.fingerprint() == before


@pytest.mark.parametrize("memory", ["1GB", "6.4MB"])
def test_a_leak_is_refused_by_the_whole_river(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.data.shards.memory.SMALLEST_SHARD", 400_000)
    rows = 70_000
    draw = np.random.default_rng(0)
    frame = pl.DataFrame({"site": draw.integers(0, 50, rows), "a": draw.normal(size=rows), "y": draw.normal(size=rows)})
    frame.write_csv(tmp_path / "table.csv")
    smooth = Use("EachSeries", steps=[Use("moving_average", width=5)], columns=["a"], by=["site"])
    recipe = Recipe(
        name="planted",
        data=DataRecipe(
            source=Use("csv", path="table.csv"),
            clean=(smooth,),
            split=Use("random"),
            samples=Use("Rows", target="y"),
            memory=memory,
        ),
        model=Use("MLP"),
        training=Training(objective=Use("supervised", loss="mse"), optimizer=Use("AdamW"), steps=1),
        folder=tmp_path,
    )
    with pytest.raises(RecipeError, match="EachSeries carries values across the split: 'a' in rows of train"):
        groundup.clean(recipe, out=tmp_path / "out")


def test_a_step_behind_the_last_that_may_carry_values_is_not_tried() -> None:
    called = []

    @contract("row-local")
    def apart(dataset: Dataset) -> Dataset:
        called.append(len(dataset))
        return dataset

    steps = [("one", apart), ("two", lambda dataset: dataset), ("three", apart)]
    refuse_across_split(steps, TABLE, numbers(SPLITS.train), numbers(SPLITS.valid))
    assert called == [len(TABLE), len(TABLE)]  # the first step, for what was and for what was changed
