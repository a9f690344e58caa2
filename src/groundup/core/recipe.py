"""One experiment as a value: read strictly from TOML or Python, equal values have equal digests."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
import sys
import tomllib
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from groundup.core.coerce import coerce, read_table
from groundup.core.errors import GroundupError, RecipeError
from groundup.core.novelty import OnNew
from groundup.core.use import Use, check, resolve, signature_of, with_defaults


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """From raw files to batches: each field is one bank of the river, in its order."""

    source: Use
    clean: tuple[Use, ...] = ()
    split: Use = Use("random")
    leaks: Literal["refuse", "report"] = "refuse"
    """What becomes of rows that stand in two splits: no run, or figures for clean and for leaked rows apart."""
    prepare: tuple[Use, ...] = ()
    samples: Use = Use("Rows")
    augment: tuple[Use, ...] = ()
    sampling: Use | None = None
    """How often each sample of train is drawn; by default each once in an epoch."""
    on_new: OnNew = OnNew()
    """What is done at prediction with what train did not have."""
    runner: Literal["local", "processes", "ray"] = "local"
    """Who carries the steps out where data do not fit in memory: this process, a pool of processes, a Ray cluster."""
    memory: str | None = None
    """What data may take in all, such as "2GB"; by default half of what is free. Larger data go through files.

    Python and its libraries take 0.2 GB beside it, 0.4 GB with torch, whatever the size of the data.
    """


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
    """Steps between two looks at the validation split; by default a tenth of the budget."""
    evaluate_batches: int | None = None
    """How many batches of it are looked at while training; by default all."""
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


_POSITIVE = ("batch_size", "accumulate", "clip_norm", "log_every", "evaluate_every", "evaluate_batches", "save_every")


def _demand_positive(value: float | None, where: str) -> None:
    if value is not None and not value > 0:
        raise RecipeError(f"{where}: read {value}, expected more than 0.")
    if value == float("inf"):
        raise RecipeError(f"{where}: read {value}, expected a number that can be reached.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment: data, model, training, evaluation and, if wanted, fine-tuning."""

    name: str
    data: DataRecipe
    model: Use = Use("Published")
    """The network; with ``start`` it may be left out, and is then the one that lies there."""
    training: Training
    start: str | None = None
    """Where weights come from that are not learned here: a folder in the published format or one that ``convert``
    wrote, from the recipe's own folder, or org/name of a hub."""
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
                raise RecipeError(
                    f"{where}: exactly one of steps, epochs and minutes sets the budget; read {said}. "
                    f"One that a recipe gives is taken back with {where.removeprefix('recipe.')}.NAME=false."
                )
            for name in (*_POSITIVE, *given):
                _demand_positive(getattr(training, name), f"{where}.{name}")
        _demand_positive(self.evaluation.seeds, "recipe.evaluation.seeds")
        home, _, kind = self.model.target.rpartition(":")
        if self.start is None and kind == "Published" and home.partition(".")[0] in ("", __package__.partition(".")[0]):
            raise RecipeError("recipe.model: this field is required and is not there, unless start names weights.")
        if self.seed < 0:
            raise RecipeError(f"recipe.seed: read {self.seed}, expected 0 or more.")
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise RecipeError(
                f"recipe.name: read {self.name!r}, expected letters, digits, '-', '_': it names a folder."
            )

    def _trainings(self) -> list[tuple[str, Training]]:
        found = [("recipe.training", self.training)]
        if self.finetune is not None:
            found.append(("recipe.finetune.training", self.finetune.training))
        return found

    def runs(self) -> list[tuple[str, Recipe]]:
        """(folder, recipe) of each run that this recipe stands for: its seeds, or the folds of a split that names none.

        Empty for a single run. A split has folds where it takes ``folds`` and ``fold``, and ``fold`` is left open.
        """
        first, many = self.seed, self.evaluation.seeds
        if many > 1:
            once = dataclasses.replace(self.evaluation, seeds=1)
            return [
                (f"seed-{n}", dataclasses.replace(self, seed=n, evaluation=once)) for n in range(first, first + many)
            ]
        split = self.data.split
        parameters, _ = signature_of(resolve(split.target, "split", where="recipe.data.split"))
        if not {"fold", "folds"} <= parameters.keys() or split.arguments.get("fold") is not None:
            return []
        found: list[tuple[str, Recipe]] = []
        for fold in range(split.arguments.get("folds", parameters["folds"].default)):
            data = dataclasses.replace(self.data, split=split.with_arguments(fold=fold))
            found.append((f"fold-{fold}", dataclasses.replace(self, data=data)))
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
        """Plain tables, lists and scalars. None is left out, or false where leaving it out would mean a default."""
        plain = _plain(self, "recipe")
        assert isinstance(plain, dict)
        return plain

    def digest(self) -> str:
        """SHA-256 over the resolved recipe in canonical JSON, so that spelling does not matter."""
        table = self.resolved().to_dict()
        text = json.dumps(table, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
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
        beside = path.parent if recipe.folder == Path() else recipe.folder
        return override_recipe(dataclasses.replace(recipe, folder=beside), overrides)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text (byte {error.start}).") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}.") from error
    return _overridden(table, overrides, path.parent)


def read_call(target: str, arguments: Sequence[str] = ()) -> Use:
    """A call from its name or import path and ``name=value`` arguments, as a command line has them."""
    table: dict[str, Any] = {"use": target}
    for argument in arguments:
        _override(table, argument)
    return Use(target, **{name: value for name, value in table.items() if name != "use"})


def call_to_toml(use: Use, slot: str) -> str:
    """A call as TOML, every default spelled out; ``read_call_file`` reads it back."""
    import tomli_w

    return tomli_w.dumps(_plain(with_defaults(use, slot), slot))


def read_call_file(path: Path, slot: str) -> Use:
    """A call from a TOML file of its own. Raises RecipeError for a file that is damaged or holds none."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: not valid TOML: {error}.") from error
    found = coerce(table, Use, str(path))
    assert isinstance(found, Use)
    return found


def override_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The same recipe, read as strictly as one from a file, with ``dotted.path=value`` fields set anew."""
    return _overridden(recipe.to_dict(), overrides, recipe.folder)


def _overridden(table: dict[str, Any], overrides: Sequence[str], folder: Path) -> Recipe:
    for override in overrides:
        _override(table, override)
    return recipe_from_dict(table, folder=folder).checked()


def recipe_from_dict(table: Mapping[str, Any], folder: Path = Path()) -> Recipe:
    """A recipe from plain tables, as TOML and JSON give them; modules in a ``folder`` that is given can be named."""
    if "folder" in table:
        raise RecipeError("recipe.folder: no such field.")
    beside = str(folder.resolve())
    if folder != Path() and beside not in sys.path:
        sys.path.append(beside)
    recipe = read_table(Recipe, table, "recipe")
    assert isinstance(recipe, Recipe)
    return dataclasses.replace(recipe, folder=folder)


def _read_python(path: Path) -> Recipe:
    import runpy

    beside = str(path.parent.resolve())
    if beside not in sys.path:
        sys.path.append(beside)
    try:
        found = runpy.run_path(str(path)).get("recipe")
    except GroundupError:
        raise
    except Exception as error:  # whatever the file does wrong is the recipe's own fault, and is told as such
        line = error.lineno if isinstance(error, SyntaxError) else _line_within(error, path)
        raise RecipeError(f"{path}, line {line}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Recipe):
        raise RecipeError(f"{path}: expected a line `recipe = Recipe(...)`, found {type(found).__name__}.")
    return found


def _line_within(error: Exception, path: Path) -> int | None:
    """The last line of the file that was being carried out."""
    lines = [
        number for frame, number in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)
    ]
    return lines[-1] if lines else None


def _override(table: dict[str, Any], text: str) -> None:
    name, equals, value = text.partition("=")
    # Messages say recipe.data.clean[0].columns, so that may be typed here too.
    parts = re.sub(r"\[(\d+)\]", r".\1", name.strip().removeprefix("recipe.")).split(".")
    if not equals or not all(parts):
        raise RecipeError(f"override {text!r}: expected dotted.path=value, such as training.optimizer.lr=1e-4.")
    place: Any = table
    for i, part in enumerate(parts[:-1]):
        place = _descend(place, part, ".".join(parts[: i + 1]))
    key = _index(place, parts[-1], name) if isinstance(place, list) else parts[-1]
    place[key] = _value(value.strip(), name)


def _value(text: str, name: str) -> Any:
    """A TOML value; a bare word is the string that it looks like."""
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if text[:1] in ("[", "{", '"', "'"):
            raise RecipeError(f"override {name}: {text!r} is not a TOML value: {error}.") from error
        return text
    if len(read) != 1:
        raise RecipeError(f"override {name}: read {text!r}, expected one value.")
    return read["value"]


def _descend(place: Any, part: str, where: str) -> Any:
    """What lies at ``part``: a table or list. A call written as its bare name becomes a table that can take more."""
    key: Any = _index(place, part, where) if isinstance(place, list) else part
    found = place[key] if isinstance(place, list) else place.setdefault(key, {})
    if isinstance(found, str):
        found = place[key] = {"use": found}
    if not isinstance(found, (dict, list)):
        raise RecipeError(f"override {where}: it is {found!r}, not a table.")
    return found


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


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Use):
        return {"use": value.target, **_plain(value.arguments, where)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        table = {}
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            if field.compare and not (inner is None and field.default is None):
                name = field.name.removesuffix("_")
                table[name] = _plain(inner, f"{where}.{name}")
        return table
    if isinstance(value, Mapping):
        return {name: _plain(inner, f"{where}.{name}") for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Path):
        return value.as_posix()
    if value is None:
        return False
    if isinstance(value, (bool, int, float, str, datetime.date, datetime.time)):
        return value
    raise RecipeError(
        f'{where}: read {value!r}, which cannot be written down. Name it: Use("package.module:Name", argument=...).'
    )
