"""What a folder of results was made from: a recipe's data, and the files and code that lay beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from groundup.core.recipe import Recipe
from groundup.core.report import machine


def identity(recipe: Recipe) -> dict[str, Any]:
    """All that the result of cleaning depends on, as plain values; who does the work is no part of it."""
    data = {name: value for name, value in recipe.to_dict()["data"].items() if name not in ("runner", "augment")}
    read = [path for path in _paths(data, recipe.folder) if path.is_file()]
    read += [path for path in _paths(data["source"], recipe.folder) if path.is_dir()]
    return {
        "recipe.data": data,
        "recipe.seed": recipe.seed,
        "groundup": machine().get("groundup", ""),
        "a file it reads": {path.as_posix(): _stamp(path) for path in sorted(set(read))},
        "code beside the recipe": {path.name: _stamp(path) for path in sorted(recipe.folder.glob("*.py"))},
    }


def _paths(value: Any, folder: Path) -> list[Path]:
    """Where each string would lie, if it named a file."""
    return [folder / Path(text).expanduser() for text in _texts(value) if "\n" not in text and len(text) < 1000]


def _texts(value: Any) -> list[str]:
    """Every string in the recipe's tables: some of them name files."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def _stamp(path: Path) -> list[int]:
    """Size and time of change; of a folder, how many files there are, their size, and the latest change."""
    if path.is_file():
        about = path.stat()
        return [about.st_size, about.st_mtime_ns]
    files = [one.stat() for one in path.rglob("*") if one.is_file()]
    return [len(files), sum(one.st_size for one in files), max((one.st_mtime_ns for one in files), default=0)]
