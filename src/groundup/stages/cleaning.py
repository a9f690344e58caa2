"""What ``groundup clean`` leaves: a folder that is begun once, goes on where it was stopped, and holds the result."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundup.core.dataset import Dataset
from groundup.core.errors import RecipeError
from groundup.core.preprocessing import what_was_learned, written_down
from groundup.core.recipe import Recipe
from groundup.data.any_size import Data, Parts
from groundup.data.shards import Room, Workshop, check_runner, cleaned_page, identity, parse_bytes
from groundup.data.undoing import MOST_BYTES
from groundup.stages.preparing import ledger, ledger_lines


def worked_by(recipe: Recipe, runner: str | None, memory: str | None, folder: Path) -> Recipe:
    """The recipe with its runner, and its memory spelled out: as given, as begun with, or half of what is free."""
    data = recipe.data
    if runner is not None:
        data = dataclasses.replace(data, runner=check_runner(runner, "runner"))
    if memory is not None:
        parse_bytes(memory, "memory")
        data = dataclasses.replace(data, memory=memory)
    if data.memory is None and (folder / "begun.json").is_file():
        begun = json.loads((folder / "begun.json").read_text(encoding="utf-8"))
        data = dataclasses.replace(data, memory=begun["recipe.data"]["memory"])
    if data.memory is None:
        data = dataclasses.replace(data, memory=Room.of().spelled)
    return dataclasses.replace(recipe, data=data)


def begun(recipe: Recipe, folder: Path) -> bool:
    """Whether the folder holds the finished result of this very recipe; one of another is refused.

    What was begun and stopped goes on, unless the files that it was read from, or code beside the recipe, changed.
    """
    mark, mine = folder / "begun.json", identity(recipe)
    if not folder.exists():
        folder.mkdir(parents=True)
    if not mark.is_file():
        if any(folder.iterdir()):
            raise RecipeError(f"{folder}: is not empty, and not the result of cleaning; name another folder by out.")
        mark.write_text(json.dumps(mine, indent=1), encoding="utf-8")
        return False
    found = json.loads(mark.read_text(encoding="utf-8"))
    if found != mine:
        changed = ", ".join(sorted(name for name in mine if found.get(name) != mine[name]))
        raise RecipeError(
            f"{folder}: holds what was made before {changed} changed. Remove it, or name another folder by out."
        )
    return (folder / "data.json").is_file()


def is_recorded(wanted: bool | None, source: Data, shop: Workshop) -> bool:
    """Whether what each step changes is written down: of small data in memory by default."""
    if wanted is not None:
        return wanted
    most = min(MOST_BYTES, shop.room.memory_bytes // 8)
    return isinstance(source, Dataset) and source.frame.estimated_size() <= most


def write_cleaned(folder: Path, recipe: Recipe, splits: Parts, steps: Sequence[Any], told: Mapping[str, Any]) -> None:
    """The ledger, what was fitted and from what, the fingerprint, and a page that shows it all."""

    def write(name: str, text: str) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    entries = ledger(splits)
    write("ledger.jsonl", ledger_lines(entries))
    write("preprocessing.json", written_down(steps, recipe.data.samples, told["schema"]))
    learned = what_was_learned(steps, entries)
    write("statistics.json", json.dumps(learned, ensure_ascii=False, indent=1))
    write("recipe.toml", recipe.to_toml())
    rows = {name: len(part) for name, part in splits.parts().items()}
    about = {"fingerprint": told["fingerprint"], **told["read"], "rows": rows, "rows_in_two_splits": told["leaks"]}
    write("report.html", cleaned_page(recipe.name, recipe.to_toml(), rows, entries, learned))
    write("data.json", json.dumps(about, indent=1))  # last, since it says that all is there
