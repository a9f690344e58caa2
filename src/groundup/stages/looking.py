"""Data looked at before anything is trained on them: a page about them, and what differs between two versions."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from groundup import terminal
from groundup.core.dataset import Dataset, Splits
from groundup.core.preprocessing import Preprocessing
from groundup.core.recipe import Recipe
from groundup.core.run import Run
from groundup.core.use import make
from groundup.data.augmentation import before_and_after
from groundup.data.pages import Inspected, inspect_dataset, recipe_sections
from groundup.data.versions import read_version
from groundup.stages import preparing


def is_recipe(data: str | Path | Recipe) -> bool:
    """Whether this is a recipe, or a run that has one."""
    if not isinstance(data, (str, Path)):
        return True
    place = Path(data)
    return (place.suffix in (".toml", ".py") and place.is_file()) or (place / "run.json").is_file()


def recipe_of(data: str | Path | Recipe, overrides: tuple[str, ...] = ()) -> Recipe:
    """A recipe, or the one that a run was started with."""
    if isinstance(data, (str, Path)) and (Path(data) / "run.json").is_file():
        return preparing.as_recipe(Run.open(data).recipe(), overrides)
    return preparing.as_recipe(data, overrides)


def version(data: str | Path) -> Dataset:
    """One version of data; of a recipe or a run, what its steps leave before the split."""
    if not is_recipe(data):
        return read_version(data)
    recipe = recipe_of(data)
    shop = preparing.workshop(recipe)
    with terminal.quiet(), contextlib.closing(shop.executor):
        _, cleaned = preparing.read_and_clean(recipe, shop)
    return dataclasses.replace(cleaned, origin=str(data))


def inspect_recipe(data: str | Path | Recipe, overrides: tuple[str, ...], target: str | None) -> tuple[str, Inspected]:
    """The page of what a recipe makes of its data."""
    recipe = recipe_of(data, overrides)
    asked = recipe.data.samples.arguments.get("target")
    target = target or (asked if isinstance(asked, str) else None)
    shop = preparing.workshop(recipe)
    with contextlib.closing(shop.executor):
        source, cleaned = preparing.read_and_clean(recipe, shop)
        splits, leaks = preparing.split(recipe, cleaned, source, shop)
    assert isinstance(splits, Splits)
    samples = make(recipe.data.samples, "samples", where="recipe.data.samples")
    preprocessing, prepared = Preprocessing.fit(preparing.steps(recipe.data), samples, splits)
    extra = recipe_sections(splits, leaks, target, preprocessing, _augmented(recipe, preprocessing, prepared.train))
    return recipe.name, inspect_dataset(cleaned, recipe.name, target, recipe=recipe.to_toml(), extra=extra)


def _augmented(recipe: Recipe, preprocessing: Preprocessing, train: Dataset) -> list[Any]:
    """Some samples of train before and after each step of augmentation."""
    steps = preparing.augmentation(recipe)
    if not steps:
        return []
    return before_and_after(preprocessing.samples.encode(train), steps, count=4, seed=recipe.seed)
