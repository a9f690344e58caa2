"""From a recipe to its three parts and what was fitted on train: read, cleaned, split, prepared."""

from __future__ import annotations

import atexit
import dataclasses
import json
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from groundup import terminal
from groundup.core.contract import refuse_before_split
from groundup.core.dataset import Dataset, Entry
from groundup.core.errors import DataError
from groundup.core.preprocessing import Preprocessing
from groundup.core.recipe import DataRecipe, Recipe, override_recipe, read_recipe
from groundup.core.use import Use, make, resolve
from groundup.data import any_size
from groundup.data.any_size import Data, Parts
from groundup.data.causality import MOST_LOOKED_AT, is_apart, refuse_across_split, refuse_look_ahead
from groundup.data.shards import Room, Workshop, executor
from groundup.data.undoing import Recorder


def as_recipe(recipe: str | Path | Recipe, overrides: tuple[str, ...] = ()) -> Recipe:
    """A recipe, from its file if need be, with some fields set anew."""
    if isinstance(recipe, Recipe):
        return override_recipe(recipe, overrides)
    return read_recipe(recipe, overrides)


def short(use: Use) -> str:
    """The name that a call goes by, without its module."""
    return use.target.rpartition(":")[2]


def workshop(recipe: Recipe, folder: Path | None = None) -> Workshop:
    """Who works on data that do not fit in memory, and the folder of its files, by default for this process's life.

    Its executor is to be closed.
    """
    room = Room.of(recipe.data.memory)
    if folder is None:
        folder = Path(tempfile.gettempdir()) / f"groundup-{uuid.uuid4().hex}"  # made when it is first needed
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Workshop(executor(recipe.data.runner, room), room, folder)


def settled(recipe: Recipe, source: Data, shop: Workshop) -> Recipe:
    """The recipe with its memory spelled out where data lie in shards: a resume then cuts the same ones."""
    if isinstance(source, Dataset) or recipe.data.memory is not None:
        return recipe
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, memory=shop.room.spelled))


def read(recipe: Recipe, shop: Workshop) -> Data:
    """What the source gives."""
    use = recipe.data.source
    terminal.stage("sources", short(use))
    source = make(use, "source", where="recipe.data.source", folder=recipe.folder)
    with terminal.busy(f"reading {short(use)}"):
        data = any_size.read(shop, source, short(use))
    terminal.source(data, shop.room.memory_bytes)
    return any_size.booked(data, short(use))


def clean(recipe: Recipe, data: Data, shop: Workshop, recorder: Recorder | None = None) -> Data:
    """Every cleaning step, booked in the ledger; one that would carry values across the split is refused."""
    if not recipe.data.clean:
        return data
    by_time = in_time(recipe.data)
    terminal.stage("clean", "every removal goes into the ledger with its reason")
    for i, use in enumerate(recipe.data.clean):
        where, name = f"recipe.data.clean[{i}]", short(use)
        step = make(use, "clean", where=where, folder=recipe.folder)
        if by_time:
            refuse_look_ahead(step, where, data)
        refuse_before_split(step, name, where)
        with terminal.busy(name):
            data = any_size.carry_out(shop, step, data, name, f"{i}-{name}", recorder)
    with terminal.busy("carrying out what takes shards one by one"):
        data = any_size.written(shop, data, "cleaned")
    terminal.ledger(data.history)
    return data


def read_and_clean(recipe: Recipe, shop: Workshop) -> tuple[Dataset, Dataset]:
    """The data as they were read, and as the recipe's steps leave them, in memory."""
    source = read(recipe, shop)
    cleaned = clean(recipe, source, shop)
    if not isinstance(source, Dataset) or not isinstance(cleaned, Dataset):
        raise DataError(
            "recipe.data: these data do not fit in memory as a whole, which looking at them asks for. Raise "
            "recipe.data.memory, or look at one of their files: groundup inspect FILE."
        )
    return source, cleaned


def split(
    recipe: Recipe, data: Data, source: Data, shop: Workshop, recorder: Recorder | None = None
) -> tuple[Parts, tuple[Any, ...]]:
    """The three parts, and the rows of valid and test that stand in an earlier one."""
    use = recipe.data.split
    terminal.stage("split", short(use))
    how = make(use, "split", where="recipe.data.split", seed=recipe.seed)
    with terminal.busy("splitting, and looking for rows that stand in two splits"):
        splits, leaks = any_size.split(shop, how, data, source, short(use))
        _refuse_across_split(recipe, source, splits)
    if recorder is not None:
        recorder.split(data, splits)
    terminal.splits(splits, leaks)
    if not len(splits.valid):
        raise DataError("recipe.data.split.valid: there are no validation rows, and training is watched on them.")
    return splits, leaks


def _refuse_across_split(recipe: Recipe, source: Data, splits: Parts) -> None:
    """Where a cleaning step may carry values from row to row, the proof that it carries none across the split."""
    made = [
        (f"recipe.data.clean[{i}]", make(use, "clean", where=f"recipe.data.clean[{i}]", folder=recipe.folder))
        for i, use in enumerate(recipe.data.clean)
    ]
    if not all(is_apart(step) for _, step in made):
        numbers = {part: any_size.numbers(data) for part, data in splits.parts().items()}
        held_out = np.concatenate([numbers["valid"], numbers["test"]])
        refuse_across_split(made, any_size.some(source, MOST_LOOKED_AT), numbers["train"], held_out)


def fit(recipe: Recipe, splits: Parts, shop: Workshop) -> tuple[Preprocessing, Parts]:
    """The schema, the steps and the builder of samples, learned from train; and the parts as the steps leave them."""
    samples = make(recipe.data.samples, "samples", where="recipe.data.samples")
    schema, splits = any_size.learn_schema(shop, splits, recipe.data.on_new)
    fitted, splits = any_size.fit_steps(shop, steps(recipe.data), splits)
    return Preprocessing(fitted, any_size.fit_samples(shop, samples, splits), schema), splits


def steps(data: DataRecipe) -> list[Any]:
    """The steps of preparation, which leave the target alone whatever else they are told to leave."""
    target = data.samples.arguments.get("target")
    protected = [target] if isinstance(target, str) else []
    made = []
    for i, use in enumerate(data.prepare):
        where = f"recipe.data.prepare[{i}]"
        if "exclude" in use.arguments:
            use = use.with_arguments(exclude=[*use.arguments["exclude"], *protected])
        supplied = {"exclude": protected, "target": target} if protected else {"exclude": protected}
        made.append(make(use, "prepare", where=where, **supplied))
        if in_time(data):
            refuse_look_ahead(made[-1], where)
    return made


def in_time(data: DataRecipe) -> bool:
    """Whether the held-out rows are the later ones, so that no step may see what comes behind a row."""
    forecast = getattr(resolve(data.samples.target, "samples"), "task", None) == "forecast"
    return forecast or "by_time" in (resolve(data.split.target, "split").__name__, data.split.arguments.get("way"))


def augmentation(recipe: Recipe) -> list[Any]:
    """The steps that change train's samples, made as the recipe describes them."""
    uses, folder = recipe.data.augment, recipe.folder
    return [make(use, "augment", where=f"recipe.data.augment[{i}]", folder=folder) for i, use in enumerate(uses)]


def ledger(splits: Parts) -> list[Entry]:
    """Every line of the ledger once; what was done before the split stands in each part's history."""
    entries: list[Entry] = []
    for part in splits.parts().values():
        entries += [entry for entry in part.history if entry not in entries]
    return entries


def ledger_lines(entries: list[Entry]) -> str:
    """The ledger as JSON lines."""
    return "".join(json.dumps(dataclasses.asdict(entry), ensure_ascii=False) + "\n" for entry in entries)
