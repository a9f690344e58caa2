"""One experiment as a value: read strictly from TOML or Python, equal values have equal digests."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from groundup.core.coerce import read_table
from groundup.core.errors import RecipeError
from groundup.core.use import Use, check, with_defaults


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """From raw files to batches: each field is one bank of the river, in its order."""

    source: Use
    clean: tuple[Use, ...] = ()
    split: Use = Use("random")
    prepare: tuple[Use, ...] = ()
    samples: Use = Use("Rows")
    augment: tuple[Use, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters whose names match ``where``, with their own learning rate and weight decay."""

    where: str
    lr: float | None = None
    lr_scale: float = 1.0
    weight_decay: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How the model learns. Exactly one of steps, epochs and minutes is the budget."""

    objective: Use = Use("supervised")
    optimizer: Use = Use("AdamW")
    schedule: Use | None = None
    batch_size: int = 32
    accumulate: int = 1
    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    clip_norm: float | None = 1.0
    groups: tuple[Group, ...] = ()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    device: str = "auto"
    log_every: int = 10
    evaluate_every: int | None = None
    save_every: int | None = None
    keep: Literal["last", "best"] = "last"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is measured on the held-out part, beside which baselines, over how many seeds."""

    metrics: tuple[Use, ...] = ()
    baselines: tuple[Use, ...] = ()
    seeds: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune:
    """A second training that starts from the first one's weights: a method, samples of its own, a budget."""

    method: Use = Use("lora")
    samples: Use | None = None
    training: Training = Training(steps=100)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Swap:
    """Replace every module whose place matches ``where`` by what ``with`` makes of it."""

    where: str
    with_: Use


@dataclasses.dataclass(frozen=True, kw_only=True)
class Init:
    """Initialise the parameters whose names match ``where`` by one function."""

    where: str
    init: Use


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment: data, model, training, evaluation and, if wanted, fine-tuning."""

    name: str
    data: DataRecipe
    model: Use
    training: Training
    seed: int = 0
    init: tuple[Init, ...] = ()
    swap: tuple[Swap, ...] = ()
    evaluation: Evaluation = Evaluation()
    finetune: Finetune | None = None
    prompts: tuple[str, ...] = ()
    folder: Path = dataclasses.field(default=Path(), compare=False)
    """Where relative paths in the recipe start; the recipe file's own folder. No part of the digest."""

    def __post_init__(self) -> None:
        for where, training in self._trainings():
            given = [n for n in ("steps", "epochs", "minutes") if getattr(training, n) is not None]
            if len(given) != 1:
                said = " and ".join(given) or "none of them"
                raise RecipeError(f"{where}: exactly one of steps, epochs and minutes sets the budget; read {said}.")
            for name in ("batch_size", "accumulate", "log_every", *given):
                if getattr(training, name) <= 0:
                    raise RecipeError(f"{where}.{name}: read {getattr(training, name)}, expected more than 0.")

    def _trainings(self) -> list[tuple[str, Training]]:
        found = [("recipe.training", self.training)]
        if self.finetune is not None:
            found.append(("recipe.finetune.training", self.finetune.training))
        return found

    def checked(self) -> Recipe:
        """The same recipe with every call resolved to its import path and its arguments checked."""
        checked = _map_uses(self, lambda use, slot, where: check(use, slot, where), "recipe")
        assert isinstance(checked, Recipe)
        return checked

    def resolved(self) -> Recipe:
        """The same recipe with every call resolved and every default spelled out: what a run saves."""
        spelled = _map_uses(self.checked(), lambda use, slot, where: with_defaults(use, slot), "recipe")
        assert isinstance(spelled, Recipe)
        return spelled

    def to_dict(self) -> dict[str, Any]:
        """Plain tables, lists and scalars; fields that are None are left out."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain

    def digest(self) -> str:
        """SHA-256 over the resolved recipe in canonical JSON, so that spelling does not matter."""
        text = json.dumps(self.resolved().to_dict(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_toml(self) -> str:
        """The recipe as TOML that reads back to an equal recipe."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from ``.toml`` or ``.py``, with ``dotted.path=value`` overrides whose values are TOML.

    Raises RecipeError with the path of the field, what was read, and the nearest name.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"{path}: there is no such recipe file.")
    if path.suffix == ".py":
        recipe = _read_python(path)
        table = recipe.to_dict() if overrides else None
    else:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path}: not UTF-8 text (byte {error.start}).") from error
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{path}: not valid TOML: {error}.") from error
    if table is not None:
        for override in overrides:
            _override(table, override)
        recipe = recipe_from_dict(table, folder=path.parent)
    return recipe.checked()


def recipe_from_dict(table: Mapping[str, Any], folder: Path = Path()) -> Recipe:
    """A recipe from plain tables, as TOML and JSON give them."""
    if "folder" in table:
        raise RecipeError("recipe.folder: no such field.")
    recipe = read_table(Recipe, table, "recipe")
    assert isinstance(recipe, Recipe)
    return dataclasses.replace(recipe, folder=folder)


def _read_python(path: Path) -> Recipe:
    import runpy

    found = runpy.run_path(str(path)).get("recipe")
    if not isinstance(found, Recipe):
        raise RecipeError(f"{path}: expected a line `recipe = Recipe(...)`, found {type(found).__name__}.")
    return found if found.folder != Path() else dataclasses.replace(found, folder=path.parent)


def _override(table: dict[str, Any], text: str) -> None:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f"override {text!r}: expected dotted.path=value, such as training.optimizer.lr=1e-4.")
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a bare word is the string it looks like
    place: Any = table
    *parents, last = name.strip().split(".")
    for i, part in enumerate(parents):
        place = _descend(place, part, ".".join(parents[: i + 1]), create=True)
    if isinstance(place, list):
        place[_index(place, last, name)] = parsed
    elif isinstance(place, dict):
        place[last] = parsed
    else:
        raise RecipeError(f"override {name}: {'.'.join(parents)} is {place!r}, not a table.")


def _descend(place: Any, part: str, where: str, *, create: bool) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, where)]
    if not isinstance(place, dict):
        raise RecipeError(f"override {where}: its parent is {place!r}, not a table.")
    if create:
        return place.setdefault(part, {})
    return place[part]


def _index(place: list[Any], part: str, where: str) -> int:
    if not part.isdigit() or int(part) >= len(place):
        raise RecipeError(f"override {where}: expected an index below {len(place)}, read {part!r}.")
    return int(part)


SLOTS = {"with_": "with"}


def _map_uses(value: Any, function: Any, where: str, slot: str = "") -> Any:
    """The same value with ``function(use, slot, where)`` applied to each outermost Use in it."""
    if isinstance(value, Use):
        return function(value, slot, where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {
            field.name: _map_uses(
                getattr(value, field.name),
                function,
                f"{where}.{field.name.removesuffix('_')}",
                SLOTS.get(field.name, field.name),
            )
            for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(_map_uses(item, function, f"{where}[{i}]", slot) for i, item in enumerate(value))
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Use):
        arguments = {name: _plain(inner) for name, inner in value.arguments.items() if inner is not None}
        return {"use": value.target, **arguments}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name.removesuffix("_"): _plain(inner)
            for field in dataclasses.fields(value)
            if field.compare and (inner := getattr(value, field.name)) is not None
        }
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    return value
