"""What a folder of results was made from: a recipe's data, and the files and code that lay beside it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from groundup.core.recipe import Recipe


def identity(recipe: Recipe) -> dict[str, Any]:
    """All that the result of cleaning depends on, as plain values; who does the work is no part of it."""
    data = {name: value for name, value in recipe.to_dict()["data"].items() if name not in ("runner", "augment")}
    source = data.get("source")
    arguments = source if isinstance(source, dict) else {}
    paths = [recipe.folder / Path(value).expanduser() for value in arguments.values() if isinstance(value, str)]
    return {
        "recipe.data": data,
        "recipe.seed": recipe.seed,
        "groundup": metadata.version("groundup"),
        "the source": {path.name: _stamp(path) for path in paths if path.exists()},
        "code beside the recipe": {path.name: _stamp(path) for path in sorted(recipe.folder.glob("*.py"))},
    }


def _stamp(path: Path) -> list[int]:
    """Size and time of change; of a folder, how many files there are, their size, and the latest change."""
    if path.is_file():
        about = path.stat()
        return [about.st_size, about.st_mtime_ns]
    files = [one.stat() for one in path.rglob("*") if one.is_file()]
    return [len(files), sum(one.st_size for one in files), max((one.st_mtime_ns for one in files), default=0)]
