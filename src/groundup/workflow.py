"""The whole river on one page: from raw files to something trained, fine-tuned, evaluated and used.

Each verb reads top to bottom and imports the parts it needs; the parts meet nowhere but here.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import dataclasses
import functools
import json
import math
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from groundup import terminal

if TYPE_CHECKING:
    import torch
    from torch import nn

    from groundup.core.batch import Batch, Bookmark, Loss, Step
    from groundup.core.checkpoint import Checkpoint
    from groundup.core.dataset import Dataset, Split, Splits
    from groundup.core.plan import Plan
    from groundup.core.preprocessing import Encoded, Preprocessing
    from groundup.core.recipe import DataRecipe, Finetune, Recipe, Training
    from groundup.core.report import Check, LayerSignal, Metric, Proof, Report
    from groundup.core.run import Run
    from groundup.core.schema import Schema
    from groundup.core.state import TrainState
    from groundup.core.structure import Layer
    from groundup.core.use import Use
    from groundup.data.cleaning.labels import LabelErrors
    from groundup.data.pages import Inspected
    from groundup.data.shards import Shards, Workshop
    from groundup.data.versions import Difference
    from groundup.evaluation import Outcome
    from groundup.models.start import Start
    from groundup.serving import Predictor

Objective = Callable[["nn.Module", "Batch"], "Loss"]

SIGNAL_SAMPLES = 64
"""Samples that the scale of a signal through the layers is measured on."""

MOST_CHECKED = 20_000
"""Samples whose targets are looked at before a run."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What stands between raw files and training: the splits, what was fitted on train, and the samples."""

    recipe: Recipe
    splits: Splits
    preprocessing: Preprocessing
    encoded: Mapping[str, Encoded]
    leaks: tuple[Any, ...]
    """Rows of valid and test that stand in train as well."""
    fingerprint: str
    """Of the cleaned data, before the split."""
    unprepared: Splits
    """The splits as they were before their preparation."""
    shop: Workshop
    """Where parts that do not fit in memory are worked on."""
    start: Start | None = None
    """The weights that a new model begins with, where the recipe names some."""

    @property
    def samples(self) -> Any:
        """The fitted builder of samples."""
        return self.preprocessing.samples

    @property
    def sizes(self) -> dict[str, Any]:
        """What a model's constructor may ask for."""
        found: dict[str, Any] = self.samples.sizes()
        return found

    def targets_of_some(self, split: str) -> Batch:
        """The targets of samples drawn from all over a split, the last one always among them, as one batch."""
        import numpy as np
        import torch

        from groundup.core.batch import Batch

        encoded = self.encoded[split]
        drawn = np.random.default_rng(self.recipe.seed).permutation(len(encoded))[:MOST_CHECKED]
        positions = np.union1d(drawn, [len(encoded) - 1])
        found = [encoded.batch(cut)[1]["targets"] for cut in np.array_split(positions, -(-len(positions) // 256))]
        return Batch({}, {"targets": torch.cat(found)}, rows=encoded.rows[positions])

    def first(self, split: str, most: int) -> Batch:
        """The first samples of a split as one batch, to look at."""
        return next(self.once(split, min(most, len(self.encoded[split]))))

    def sample(self) -> list[tuple[str, bool]]:
        """The first sample as the model sees it, token by token, and which are learned; empty where it is no text."""
        if self.samples.task != "generate":
            return []
        shown: list[tuple[str, bool]] = self.samples.describe(self.first("train", 1))
        return shown

    @property
    def held_out(self) -> str:
        """The split that figures are reported on: test, or valid where the recipe keeps no test rows."""
        return "test" if len(self.encoded["test"]) else "valid"

    def batches(self, training: Training, bookmark: Bookmark) -> Iterator[Batch]:
        """The endless, seeded, resumable stream of training batches."""
        from groundup.data.loading import batches

        seed, size = self.recipe.seed, training.batch_size
        train, augment = self.encoded["train"], self.augmentation()
        return batches(train, size, seed=seed, bookmark=bookmark, augment=augment, weights=self.weights)

    @property
    def class_counts(self) -> list[int] | None:
        """How many rows of train each class has, in the order of the classes; None where there are none."""
        target = (self.samples.learned or {}).get("target")
        return target.get("counts") if isinstance(target, Mapping) else None

    @functools.cached_property
    def weights(self) -> Any:
        """How often each sample of train is drawn [N], or None where each comes once in an epoch."""
        from groundup.core.errors import RecipeError
        from groundup.core.use import make

        use = self.recipe.data.sampling
        if use is None:
            return None
        if not _in_memory(self.splits.train):
            raise RecipeError(
                "recipe.data.sampling: samples are drawn from all of train, which does not fit in memory. Raise "
                "recipe.data.memory, or weigh the classes in the loss instead."
            )
        return make(use, "sampling", where="recipe.data.sampling")(self.encoded["train"])

    def augmentation(self) -> list[Any]:
        """The steps that change train's samples, made as the recipe describes them."""
        from groundup.core.use import make

        uses, folder = self.recipe.data.augment, self.recipe.folder
        return [make(use, "augment", where=f"recipe.data.augment[{i}]", folder=folder) for i, use in enumerate(uses)]

    def once(self, split: str, batch_size: int) -> Iterator[Batch]:
        """Each sample of a split once, in order, never augmented."""
        from groundup.data.loading import once

        return once(self.encoded[split], batch_size)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run that has a model: what the later verbs start from."""

    run: Run
    prepared: Prepared
    model: nn.Module
    training: Training
    objective: Objective
    report: Report | None = None
    """What was measured at its end."""


# ---------------------------------------------------------------------------------------------- the verbs


def run(recipe: str | Path | Recipe, *overrides: str, out: Path | None = None) -> Path:
    """The whole river: train and evaluate, then fine-tune and write samples where the recipe asks for it."""
    recipe = _recipe(recipe, overrides)
    trained = _train(recipe, out)
    tuned = _finetune(trained, recipe.finetune) if recipe.finetune is not None else trained
    if recipe.prompts:
        _write_samples(tuned)
    stages = terminal.stages()
    trained.run.write_json("stages.json", stages)
    terminal.spent(stages)
    _write_page(trained.run)
    terminal.say(f"\n[bold]Done.[/bold] Everything lies in [bold]{trained.run.folder}[/bold]; open report.html there.")
    return trained.run.folder


def train(
    recipe: str | Path | Recipe | None = None, *overrides: str, out: Path | None = None, resume: Path | None = None
) -> Path:
    """Prepare, prove, plan, train, evaluate; gives the run's folder.

    ``resume`` names a run instead of a recipe: it goes on from its newest checkpoint that verifies, and ends
    as an unbroken run would have.
    """
    from groundup.core.errors import RecipeError

    if resume is not None:
        if recipe is not None:
            raise RecipeError("train: a run that is resumed has its own recipe; give a recipe or resume, not both.")
        return _resume(resume).run.folder
    if recipe is None:
        raise RecipeError("train: give a recipe, or resume=RUN to go on with a run.")
    return _train(_recipe(recipe, overrides), out).run.folder


def finetune(run: str | Path, *overrides: str, out: Path | None = None) -> Path:
    """Fine-tune a run's model as its recipe's ``[finetune]`` says; lies in ``RUN/finetune`` unless told otherwise.

    One that was stopped there goes on from its newest checkpoint. Overrides may set ``finetune.*`` anew.
    """
    from groundup.core.errors import RecipeError
    from groundup.core.run import refuse_existing

    beside = [override for override in overrides if not override.removeprefix("recipe.").startswith("finetune.")]
    if beside:
        raise RecipeError(
            f"finetune: {beside[0]!r} would change what the model was trained on; only finetune.* can be set anew."
        )
    folder = out or Path(run) / "finetune"
    if (folder / "run.json").is_file() and not (folder / "report.json").is_file():
        return _resume(folder).run.folder
    refuse_existing(folder)
    trained = _reopen(run, overrides)
    recipe = trained.prepared.recipe
    if recipe.finetune is None:
        raise RecipeError('recipe.finetune: there is none. Add a table [finetune] with method = { use = "lora" }.')
    return _finetune(trained, recipe.finetune, out).run.folder


def evaluate(run: str | Path) -> Report:
    """Measure a run's model on the held-out part of its data, beside the recipe's baselines.

    In place of a run a recipe may be named that starts from weights: these are measured as they are, untrained.
    """
    from groundup.evaluation import over_runs

    if Path(run).is_file() and _is_recipe(run):
        return _evaluate_start(_recipe(run))
    parts = _parts_of(Path(run))
    if parts:
        return over_runs([evaluate(part) for part in parts], _overlap(parts))
    trained = _reopen(run)
    terminal.stage("evaluate", f"on {trained.prepared.held_out}")
    return _evaluate(trained)


def predict(run: str | Path, *inputs: Any) -> list[dict[str, Any]]:
    """Labels, values or text for raw input: a row, a CSV file, an image, a prompt.

    A run's folder is one's own and may name any code. For a checkpoint from elsewhere take ``Predictor.load``, which
    carries out names of groundup and torch alone.
    """
    from groundup.core.run import Run

    opened = Run.open(run)
    opened.recipe()  # what lies beside the recipe can be imported from here on
    predictor = _predictor(opened.checkpoint())
    return [line for raw in inputs for line in predictor.predict(raw)]


def check(recipe: str | Path | Recipe, *overrides: str) -> Proof:
    """Prepare the data, build the model, and prove both before anything is spent on training.

    In place of a recipe a layer may be named, by an import path or a name of ours: then what every layer promises is
    proved of it. ``input_shape=[6,8]`` says what sample it takes, and other words are its arguments.
    """
    if isinstance(recipe, (str, Path)) and not Path(recipe).is_file():
        name = str(recipe)
        if name.isidentifier() or (":" in name and Path(name).suffix not in (".toml", ".py")):
            return _check_layer(name, overrides)
    prepared = prepare(recipe, *overrides)
    terminal.stage("prove", "nothing is trained")
    model = design(prepared)
    proof = _prove(prepared, model, prepared.recipe.training) + _plan(prepared, model, prepared.recipe.training)[1]
    if all(check.passed for check in proof.checks):
        terminal.signals(_signal(prepared, model, prepared.recipe.training)[1])
    terminal.proof(proof)
    return proof.demand()


def _check_layer(target: str, arguments: tuple[str, ...]) -> Proof:
    from groundup import proof
    from groundup.core.recipe import read_call
    from groundup.core.use import check as checked

    use = read_call(target, arguments)
    shape = use.arguments.get("input_shape")
    rest = {name: value for name, value in use.arguments.items() if name != "input_shape"}
    layer = checked(type(use)(target, **rest), "layers", "layer")
    terminal.say(f"  what every layer promises, asked of {target}")
    found = proof.contract(layer, shape)
    terminal.proof(found)
    return found.demand()


def show(recipe: str | Path | Recipe, *overrides: str) -> Layer:
    """The model's structure as a tree, with shapes, parameters, operations and memory of each layer for one sample."""
    prepared = prepare(recipe, *overrides)
    terminal.stage("structure", "nothing is trained")
    outlined = _outline(prepared, design(prepared), prepared.recipe.training)
    terminal.structure(outlined)
    return outlined


def _outline(prepared: Prepared, model: nn.Module, training: Training) -> Layer:
    from groundup.planning import outline

    return outline(model, prepared.first("train", 2), _objective(training, prepared))


def plan(recipe: str | Path | Recipe, *overrides: str) -> Plan:
    """Memory and time of a training, part by part, with the assumptions, before it is started."""
    prepared = prepare(recipe, *overrides)
    terminal.stage("plan", "nothing is trained")
    planned, proof = _plan(prepared, design(prepared), prepared.recipe.training)
    terminal.plan(planned)
    proof.demand()
    return planned


def labels(
    recipe: str | Path | Recipe, *overrides: str, by: str = "logistic_regression", into: Path | None = None
) -> LabelErrors:
    """Rows of any split whose label is likely wrong, by confident learning; nothing is dropped.

    In five folds a model answers for rows that it has not seen: a logistic regression on the recipe's own prepared
    samples, or with ``by`` "recipe" the recipe's own model, trained anew for each fold. The likeliest are shown;
    ``into`` names a file for all of them, as JSON lines. The step DropLabelErrors drops them, from train alone.
    """
    from groundup.core.errors import RecipeError
    from groundup.data.cleaning import labels as checking

    if by not in ("logistic_regression", "recipe"):
        raise RecipeError(f"labels: by is {by!r}; expected logistic_regression or recipe.")
    prepared = prepare(recipe, *overrides)
    if prepared.samples.task != "classify":
        raise RecipeError(f"labels: classes can be wrong, and this recipe's task is {prepared.samples.task}.")
    together = _together(prepared.unprepared)
    given, classes = checking.given_labels(together, prepared.samples.target, "labels")
    terminal.stage("cross-validate", "each row is answered for by a model that has not seen it")
    probabilities = _out_of_fold(prepared, together, given, classes, by == "recipe")
    found = checking.judged(given, probabilities, classes)
    split_of = [name for name, part in prepared.unprepared.parts().items() for _ in range(len(part))]
    rows = [{"split": split_of[i]} for i in found.positions.tolist()]
    rows = [one | more for one, more in zip(rows, found.rows(together.row_names()), strict=True)]
    terminal.label_errors(rows, len(given))
    if into is not None:
        into.write_text("".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows), "utf-8")
    return found


# ---------------------------------------------------------------------------------------------- looking at data


def new(data: str | Path, *, target: str | None = None, out: Path | None = None) -> Path:
    """Write a commented recipe for data: a table, a series, a folder of images, or text. It trains as it is.

    Every choice has its reason beside it; what a person should look at stands at the top. ``target`` is the column to
    be predicted; images have their folders, and plain text needs none. Lies in ``NAME.toml`` unless told otherwise, and
    an existing file is never overwritten.
    """
    from groundup.core.recipe import read_recipe
    from groundup.data.drafting import draft_recipe, write_draft
    from groundup.data.opening import open_data

    terminal.begin("new", [str(data)])
    with terminal.busy("reading"):
        opened = open_data(data)
    terminal.source(opened.dataset)
    file = out or Path(f"{opened.name}.toml")
    with terminal.busy("looking at every column"):
        draft = draft_recipe(opened, target, file.parent)
    write_draft(draft, file, lambda path: read_recipe(path))
    terminal.code(draft.to_toml())
    terminal.say(f"\n[bold]{file}[/bold] is written. Next: groundup check {file}, then groundup train {file}")
    return file


def inspect(data: str | Path | Recipe, *overrides: str, target: str | None = None, out: Path | None = None) -> Path:
    """Write one HTML page on data: per column type, gaps, distribution, outliers, duplicates, leaks, what to do.

    ``data`` is a file or a folder; or a recipe or a run, and then the page also shows the parts, what moved between
    them, rows in two of them, what was fitted on which rows, and augmentation before and after. Lies in ``NAME.html``
    unless told otherwise.
    """
    from groundup.data.pages import inspect_path, write_page

    terminal.begin("inspect", [str(data) if isinstance(data, (str, Path)) else data.name])
    if isinstance(data, (str, Path)) and not _is_recipe(data):
        with terminal.busy("looking at every column"):
            name, found = inspect_path(data, target)
    else:
        name, found = _inspect_recipe(data, overrides, target)
    terminal.findings(found.findings)
    file = write_page(found.html, out or Path(f"{name}.html"))
    terminal.say(f"\n[bold]{file}[/bold] is written; open it in a browser.")
    return file


def diff(first: str | Path, second: str | Path, *, key: str | None = None, out: Path | None = None) -> Difference:
    """What differs between two versions of data: rows added, removed and changed, cells by column, distributions.

    Each is a file, a folder of cleaned data, a run or a recipe. Rows are told apart by ``key`` (columns, with commas
    between), else by what names or numbers them in both. ``out`` is a JSON file for all that was found. The command
    line ends with 0 when nothing differs, and with 3 when something does.
    """
    from groundup.data.versions import compare

    terminal.begin("diff", [str(first), str(second)])
    with terminal.busy("reading"):
        before, after = _version(first), _version(second)
    with terminal.busy("comparing"):
        found = compare(before, after, [name.strip() for name in key.split(",")] if key else [])
    terminal.difference(found)
    if out is not None:
        out.write_text(json.dumps(found.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")
    return found


def _is_recipe(data: str | Path | Recipe) -> bool:
    """Whether this is a recipe, or a run that has one."""
    if not isinstance(data, (str, Path)):
        return True
    place = Path(data)
    return (place.suffix in (".toml", ".py") and place.is_file()) or (place / "run.json").is_file()


def _recipe_of(data: str | Path | Recipe, overrides: tuple[str, ...] = ()) -> Recipe:
    """A recipe, or the one that a run was started with."""
    from groundup.core.run import Run

    if isinstance(data, (str, Path)) and (Path(data) / "run.json").is_file():
        return _recipe(Run.open(data).recipe(), overrides)
    return _recipe(data, overrides)


def _version(data: str | Path) -> Dataset:
    """One version of data; of a recipe or a run, what its steps leave before the split."""
    from groundup.data.versions import read_version

    if not _is_recipe(data):
        return read_version(data)
    with terminal.quiet():
        _, cleaned = _cleaned(_recipe_of(data))
    return dataclasses.replace(cleaned, origin=str(data))


def _inspect_recipe(data: str | Path | Recipe, overrides: tuple[str, ...], target: str | None) -> tuple[str, Inspected]:
    """The page of what a recipe makes of its data."""
    from groundup.core.preprocessing import Preprocessing
    from groundup.core.use import make
    from groundup.data.pages import inspect_dataset, recipe_sections

    recipe = _recipe_of(data, overrides)
    asked = recipe.data.samples.arguments.get("target")
    target = target or (asked if isinstance(asked, str) else None)
    cleaned, splits, leaks = _parted(recipe)
    samples = make(recipe.data.samples, "samples", where="recipe.data.samples")
    preprocessing, prepared = Preprocessing.fit(_steps(recipe.data), samples, splits)
    extra = recipe_sections(splits, leaks, target, preprocessing, _augmented(recipe, preprocessing, prepared.train))
    return recipe.name, inspect_dataset(cleaned, recipe.name, target, recipe=recipe.to_toml(), extra=extra)


def _augmented(recipe: Recipe, preprocessing: Preprocessing, train: Dataset) -> list[Any]:
    """Some samples of train before and after each step of augmentation."""
    from groundup.core.use import make
    from groundup.data.augmentation import before_and_after

    if not recipe.data.augment:
        return []
    uses, folder = recipe.data.augment, recipe.folder
    steps = [make(use, "augment", where=f"recipe.data.augment[{i}]", folder=folder) for i, use in enumerate(uses)]
    return before_and_after(preprocessing.samples.encode(train), steps, count=4, seed=recipe.seed)


# ---------------------------------------------------------------------------------------------- data


def clean(
    recipe: str | Path | Recipe,
    *overrides: str,
    out: Path | None = None,
    runner: str | None = None,
    memory: str | None = None,
    record: bool | None = None,
) -> Path:
    """Source, cleaning, split and preparation, fitted on train alone; writes the parts as Parquet shards.

    The folder (``cleaned/NAME`` unless told otherwise) gets train, valid and test, ``ledger.jsonl``,
    ``preprocessing.json``, ``statistics.json`` with the rows that each statistic was learned from, ``data.json`` with
    the fingerprint, ``removed.jsonl`` with every removed row where there are too many for the ledger, and
    ``report.html``. One that was stopped goes on where it was. ``runner`` and ``memory`` are those of the recipe's
    ``[data]``. What each step changed goes into ``changes``, for ``undo``: by default where the data take at most
    256 MiB, with ``record`` wherever they fit in memory.

    >>> clean("recipes/diabetes.toml", out=Path("cleaned/diabetes"))
    """
    from groundup.data.shards import gather_removed

    recipe = _recipe(recipe, overrides)
    folder = out or Path("cleaned") / recipe.name
    recipe = _worked_by(recipe, runner, memory, folder)
    if _begun(recipe, folder):
        terminal.say(f"  {folder} holds this already")
        return folder
    terminal.begin(recipe.name, [f"cleaned data for {folder}"])
    shop = _workshop(recipe, folder / "work")
    try:
        source = _read(recipe, shop)
        cleaned = _clean(recipe, source, shop)
        fingerprint = _fingerprint(cleaned)
        splits, leaks = _split(recipe, cleaned, source, shop)
        unprepared = splits
        terminal.stage("prepare", "fitted on train alone")
        with terminal.busy("fitting, and carrying out"):
            schema, splits = _learn_schema(recipe, splits, shop)
            steps, splits = _fit_steps(_steps(recipe.data), splits, shop)
            splits = _delivered(splits, shop, folder)
        if _recorded(record, source, shop):
            with terminal.busy("writing down how each step is undone"):
                _record(folder, recipe, source, unprepared, steps)
    finally:
        shop.executor.close()
    terminal.prepared(splits)
    if shop.folder.exists():
        gather_removed([shop.folder, *(folder / split for split in splits.parts())], folder / "removed.jsonl")
    read = _write_quarantine(folder, source, shop)
    told = {"schema": schema, "leaks": len(leaks), "fingerprint": fingerprint, "read": read}
    _write_cleaned(folder, recipe, splits, steps, told)
    shutil.rmtree(shop.folder, ignore_errors=True)
    terminal.say(f"\n[bold]Done.[/bold] Everything lies in [bold]{folder}[/bold]; open report.html there.")
    return folder


def undo(cleaned: str | Path, *, before: str | None = None, out: Path | None = None) -> Path:
    """Give back cleaned data as they were before a step: every cell, row and column, proved by their fingerprint.

    ``cleaned`` is a folder that ``clean`` wrote. ``before`` is the number or name of a step; without it all of them are
    undone, up to the data as they were read. The data lie in ``CLEANED-before-N`` unless told otherwise: train, valid
    and test, or ``data.parquet`` where the split is undone too. The cleaned data stay as they are.
    """
    from groundup.data.undoing import go_back, read_record, write_back

    place = Path(cleaned)
    terminal.begin("undo", [str(place)])
    recorded = read_record(place)
    number = recorded.place_of(before)
    terminal.undone(recorded.steps(), number)
    with terminal.busy("going back"):
        data = go_back(recorded, number)
    folder = write_back(data, out or place.with_name(f"{place.name}-before-{number}"))
    terminal.say(f"\n[bold]{folder}[/bold] holds the data as they were before step {number}.")
    return folder


def _recorded(wanted: bool | None, source: Dataset | Shards, shop: Workshop) -> bool:
    """Whether what each step changes is written down: for data in memory, small ones by default."""
    from groundup.core.dataset import Dataset
    from groundup.core.errors import RecipeError
    from groundup.data.undoing import MOST_BYTES

    if isinstance(source, Dataset):
        small = source.frame.estimated_size() <= min(MOST_BYTES, shop.room.memory_bytes // 8)
        return small if wanted is None else wanted
    if wanted:
        raise RecipeError("clean: what steps change is recorded for data that fit in memory; raise memory.")
    return False


def _record(folder: Path, recipe: Recipe, source: Any, splits: Splits, steps: tuple[Any, ...]) -> None:
    """Write down how each step is undone."""
    from groundup.core.preprocessing import step_name
    from groundup.core.use import make
    from groundup.data.undoing import record_steps

    made = [
        (_short(use), make(use, "clean", where=f"recipe.data.clean[{i}]", folder=recipe.folder))
        for i, use in enumerate(recipe.data.clean)
    ]
    record_steps(folder, source, made, splits, [(step_name(step), step) for step in steps])


def _worked_by(recipe: Recipe, runner: str | None, memory: str | None, folder: Path) -> Recipe:
    """The recipe with its runner, and its memory spelled out: as given, as begun with, or half of what is free."""
    from groundup.data.shards import Room, check_runner, parse_bytes

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


def _begun(recipe: Recipe, folder: Path) -> bool:
    """Whether the folder holds the finished result of this very recipe; one of another is refused.

    What was begun and stopped goes on, unless the files that it was read from, or code beside the recipe, changed.
    """
    from groundup.core.errors import RecipeError
    from groundup.data.shards import identity

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


def _delivered(splits: Splits, shop: Workshop, folder: Path) -> Splits:
    """The parts in shards in the folder that was asked for."""
    from groundup.core.dataset import Splits
    from groundup.data.shards import cut, delivered

    parts: dict[str, Any] = {}
    for split, part in splits.parts().items():
        if _in_memory(part):
            (folder / split).mkdir(exist_ok=True)
            parts[split] = cut(part, folder / split, shop.room.shard_bytes)
        else:
            parts[split] = delivered(shop, part, folder / split)  # type: ignore[arg-type]
    return Splits(**parts)


def _write_cleaned(
    folder: Path, recipe: Recipe, splits: Splits, steps: tuple[Any, ...], told: Mapping[str, Any]
) -> None:
    """The ledger, what was fitted and from what, the fingerprint, and a page that shows it all."""
    from groundup.core.preprocessing import what_was_learned, written_down
    from groundup.data.shards import cleaned_page

    def write(name: str, text: str) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    entries = _ledger(splits)
    write("ledger.jsonl", "".join(json.dumps(dataclasses.asdict(e), ensure_ascii=False) + "\n" for e in entries))
    write("preprocessing.json", written_down(steps, recipe.data.samples, told["schema"]))
    learned = what_was_learned(steps, entries)
    write("statistics.json", json.dumps(learned, ensure_ascii=False, indent=1))
    write("recipe.toml", recipe.to_toml())
    rows = {name: len(part) for name, part in splits.parts().items()}
    about = {"fingerprint": told["fingerprint"], **told["read"], "rows": rows, "rows_in_two_splits": told["leaks"]}
    write("report.html", cleaned_page(recipe.name, recipe.to_toml(), rows, entries, learned))
    write("data.json", json.dumps(about, indent=1))  # last, since it says that all is there


def _write_quarantine(folder: Path, data: Dataset | Shards, shop: Workshop) -> dict[str, int]:
    """What the source could not take, in a file of its own where there is any; and how much it read."""
    from groundup.data.shards import open_shards

    if _in_memory(data):
        quarantine = data.quarantine
        if quarantine.rejected:
            (folder / "quarantine.jsonl").write_text(quarantine.to_json_lines(), encoding="utf-8")
        return {"read": quarantine.read, "accepted": quarantine.accepted, "rejected": len(quarantine.rejected)}
    if not (shop.folder / "source" / "shards.json").is_file():  # a folder of shards is taken as it stands
        return {}
    source = open_shards(shop.folder / "source")
    if source.rejected:
        shutil.copy(shop.folder / "source" / "quarantine.jsonl", folder / "quarantine.jsonl")
    return {"read": len(source) + source.rejected, "accepted": len(source), "rejected": source.rejected}


def _ledger(splits: Splits) -> list[Any]:
    """Every line of the ledger once; what was done before the split stands in each part's history."""
    entries: list[Any] = []
    for part in splits.parts().values():
        entries += [entry for entry in part.history if entry not in entries]
    return entries


def prepare(recipe: str | Path | Recipe, *overrides: str, preprocessing: Preprocessing | None = None) -> Prepared:
    """Sources, cleaning, split, preprocessing fitted on train (or as given), samples.

    What does not fit in ``recipe.data.memory`` goes through files, a shard at a time; the steps are the same.
    """
    from groundup.core.errors import RecipeError
    from groundup.core.use import make

    recipe, fresh = _recipe(recipe, overrides), preprocessing is None
    shop = _workshop(recipe)
    source = _read(recipe, shop)
    recipe = _settled(recipe, source, shop)
    cleaned = _clean(recipe, source, shop)
    fingerprint = _fingerprint(cleaned)
    splits, leaks = _split(recipe, cleaned, source, shop)
    unprepared = splits
    terminal.stage("preprocess", "fitted on train alone" if preprocessing is None else "as it was fitted")
    with terminal.busy("fitting and encoding"):
        if preprocessing is None:
            samples = make(recipe.data.samples, "samples", where="recipe.data.samples")
            preprocessing, splits = _fit(recipe, samples, splits, shop)
        elif _in_memory(splits.train):
            splits = splits.map(preprocessing)
        else:
            splits = _carry_out_fitted(preprocessing.prepare, splits, shop)
        splits = _written(splits, shop)
        encoded = _encode(preprocessing.samples, splits, shop)
    shop.executor.close()
    terminal.preprocessing(preprocessing, splits, encoded)
    start = _start_of(recipe, preprocessing.samples) if fresh else None
    if start is not None:
        recipe = dataclasses.replace(recipe, model=start.model)
    if recipe.prompts and preprocessing.samples.task != "generate":
        raise RecipeError(f"recipe.prompts: this model writes no text; its task is {preprocessing.samples.task}.")
    return Prepared(recipe, splits, preprocessing, encoded, leaks, fingerprint, unprepared, shop, start)


def _workshop(recipe: Recipe, folder: Path | None = None) -> Workshop:
    """Who works on data that do not fit in memory, and the folder of its files, by default for this process's life."""
    from groundup.data.shards import Room, Workshop, executor

    room = Room.of(recipe.data.memory)
    if folder is None:
        folder = Path(tempfile.gettempdir()) / f"groundup-{uuid.uuid4().hex}"  # made when it is first needed
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Workshop(executor(recipe.data.runner, room), room, folder)


def _in_memory(data: object) -> TypeGuard[Dataset]:
    """Whether this part is a table in memory, and not shards."""
    from groundup.core.dataset import Dataset

    return isinstance(data, Dataset)


def _settled(recipe: Recipe, source: Dataset | Shards, shop: Workshop) -> Recipe:
    """The recipe with its memory spelled out where data lie in shards: a resume then cuts the same ones."""
    if _in_memory(source) or recipe.data.memory is not None:
        return recipe
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, memory=shop.room.spelled))


def _read(recipe: Recipe, shop: Workshop) -> Dataset | Shards:
    """What the source gives: in memory if it fits there, else in shards."""
    from groundup.core.dataset import Dataset, apply
    from groundup.core.use import make
    from groundup.data.shards import read

    use = recipe.data.source
    terminal.stage("sources", _short(use))
    source = make(use, "source", where="recipe.data.source", folder=recipe.folder)
    with terminal.busy(f"reading {_short(use)}"):
        data = read(source, _short(use), shop.room, shop.folder / "source")
    if not isinstance(data, Dataset):
        terminal.shards(data, shop.room.memory_bytes)
        return data
    terminal.source(data)
    return apply(lambda read: read, data, _short(use)) if data.notes else data  # what could not be read is booked too


def _clean(recipe: Recipe, data: Dataset | Shards, shop: Workshop) -> Dataset | Shards:
    """Every cleaning step, booked in the ledger; one that would carry values across the split is refused."""
    from groundup.core.contract import refuse_before_split
    from groundup.core.dataset import Dataset, apply
    from groundup.core.use import make
    from groundup.data.causality import refuse_look_ahead
    from groundup.data.shards import carry_out, written

    if not recipe.data.clean:
        return data
    in_time = _in_time(recipe.data)
    terminal.stage("clean", "every removal goes into the ledger with its reason")
    for i, use in enumerate(recipe.data.clean):
        where, name = f"recipe.data.clean[{i}]", _short(use)
        step = make(use, "clean", where=where, folder=recipe.folder)
        if in_time:
            refuse_look_ahead(step, where, data if isinstance(data, Dataset) else None)
        refuse_before_split(step, name, where)
        with terminal.busy(name):
            if isinstance(data, Dataset):
                data = apply(step, data, name)
            else:
                data = carry_out(shop, step, data, name, {}, f"{i}-{name}")
    if not isinstance(data, Dataset):
        with terminal.busy("carrying out what takes shards one by one"):
            data = written(shop, data, "cleaned")
    terminal.ledger(data.history)
    return data


def _fingerprint(data: Dataset | Shards) -> str:
    from groundup.core.dataset import Dataset
    from groundup.data.shards import fingerprint

    return data.fingerprint() if isinstance(data, Dataset) else fingerprint(data)


def _split(
    recipe: Recipe, data: Dataset | Shards, source: Dataset | Shards, shop: Workshop
) -> tuple[Splits, tuple[Any, ...]]:
    """The three parts, and the rows of valid and test that stand in an earlier one. Of shards, the parts are shards."""
    from groundup.core.dataset import Dataset, Splits
    from groundup.core.errors import DataError
    from groundup.core.use import make
    from groundup.data.shards import find_twins, split_shards

    use = recipe.data.split
    terminal.stage("split", _short(use))
    split = make(use, "split", where="recipe.data.split", seed=recipe.seed)
    if isinstance(data, Dataset) or isinstance(source, Dataset):
        assert isinstance(data, Dataset)
        assert isinstance(source, Dataset)
        splits: Splits = split(data)
        source = _without_gone(source, data, splits)
        splits = splits.map(lambda part: part.booked(f"split {_short(use)}", len(data)))
        with terminal.busy("looking for rows that stand in two splits"):
            leaks = _leaks(splits, source)
    else:
        with terminal.busy("splitting, and looking for rows that stand in two splits"):
            parts: Any = split_shards(shop, split, data, _short(use), "split")
            gone = [name for name in data.columns if name not in parts["train"].columns]
            leaks = tuple(find_twins(shop.executor, source, parts, gone))
            splits = Splits(**parts)
    terminal.splits(splits, leaks)
    if not len(splits.valid):
        raise DataError("recipe.data.split.valid: there are no validation rows, and training is watched on them.")
    return splits, leaks


def _fit(recipe: Recipe, samples: Any, splits: Splits, shop: Workshop) -> tuple[Preprocessing, Splits]:
    """The schema, the steps and the builder of samples, learned from train; and the parts as the steps leave them."""
    from groundup.core.preprocessing import Preprocessing

    if _in_memory(splits.train):
        return Preprocessing.fit(_steps(recipe.data), samples, splits, recipe.data.on_new)
    schema, splits = _learn_schema(recipe, splits, shop)
    steps, splits = _fit_steps(_steps(recipe.data), splits, shop)
    return Preprocessing(steps, _fit_samples(samples, splits, shop), schema), splits


def _learn_schema(recipe: Recipe, splits: Splits, shop: Workshop) -> tuple[Schema, Splits]:
    """What train's columns are, and the parts; in shards, what others have that train did not is noted on the way."""
    from groundup.core.dataset import Splits
    from groundup.core.preprocessing import noted
    from groundup.core.schema import Schema
    from groundup.data.shards import learn_schema

    if _in_memory(splits.train):
        learned = Schema.of(splits.train, recipe.data.on_new)
        return learned, splits.map(lambda part: part if part.split == "train" else noted(learned, part))
    schema, parts = learn_schema(shop, splits.parts(), recipe.data.on_new, "schema")  # type: ignore[arg-type]
    return schema, Splits(**parts)  # type: ignore[arg-type]


def _fit_steps(steps: list[Any], splits: Splits, shop: Workshop) -> tuple[tuple[Any, ...], Splits]:
    """Each step fitted on train and carried out on all parts."""
    from groundup.core.dataset import Splits
    from groundup.core.preprocessing import fit_steps, step_name
    from groundup.data.shards import fit_and_carry

    if _in_memory(splits.train):
        return fit_steps(steps, splits)
    fitted, parts = [], splits.parts()
    for i, step in enumerate(steps):
        step, parts = fit_and_carry(shop, step, parts, f"prepare-{i}-{step_name(step)}")  # type: ignore[arg-type, assignment]
        fitted.append(step)
    return tuple(fitted), Splits(**parts)


def _carry_out_fitted(steps: tuple[Any, ...], splits: Splits, shop: Workshop) -> Splits:
    """Steps that were fitted before, on all parts."""
    from groundup.core.dataset import Splits, apply
    from groundup.core.preprocessing import step_name
    from groundup.data.shards import carry_out

    parts: dict[str, Any] = dict(splits.parts())
    for i, step in enumerate(steps):
        name = step_name(step)
        for split, part in parts.items():
            stage = f"prepare-{i}-{name}-{split}"
            parts[split] = apply(step, part, name) if _in_memory(part) else carry_out(shop, step, part, name, {}, stage)
    return Splits(**parts)


def _written(splits: Splits, shop: Workshop) -> Splits:
    """Parts in shards with all that was put off carried out."""
    from groundup.core.dataset import Splits
    from groundup.data.shards import written

    if _in_memory(splits.train):
        return splits
    parts: Any = {split: written(shop, part, split) for split, part in splits.parts().items()}  # type: ignore[arg-type]
    return Splits(**parts)


def _fit_samples(samples: Any, splits: Splits, shop: Workshop) -> Any:
    """The builder of samples fitted on train."""
    from groundup.core.preprocessing import fit_step
    from groundup.data.shards import fit, written

    if _in_memory(splits.train):
        return fit_step(samples, splits.train)
    train: Any = written(shop, splits.train, "train")  # type: ignore[arg-type]
    return fit(shop, samples, train, "samples")[0]


def _encode(samples: Any, splits: Splits, shop: Workshop) -> dict[str, Any]:
    """The parts as samples; of shards, a few are in memory at a time."""
    from groundup.core.preprocessing import step_name
    from groundup.data.shards import encode_shards

    name = step_name(samples)
    return {
        split: samples.encode(part) if _in_memory(part) else encode_shards(shop, samples, part, f"{name}-{split}")  # type: ignore[arg-type]
        for split, part in splits.parts().items()
    }


def _parted(recipe: Recipe) -> tuple[Dataset, Splits, tuple[Any, ...]]:
    """Sources, cleaning and split: the cleaned data, its three parts, and the rows that stand in two of them."""
    shop = _workshop(recipe)
    source, cleaned = _cleaned(recipe)
    splits, leaks = _split(recipe, cleaned, source, shop)
    return cleaned, splits, leaks


def _cleaned(recipe: Recipe) -> tuple[Dataset, Dataset]:
    """The data as they were read, and as the recipe's steps leave them, in memory."""
    from groundup.core.dataset import Dataset
    from groundup.core.errors import DataError

    shop = _workshop(recipe)
    source = _read(recipe, shop)
    cleaned = _clean(recipe, source, shop)
    if not isinstance(source, Dataset) or not isinstance(cleaned, Dataset):
        raise DataError(
            "recipe.data: these data do not fit in memory as a whole, which looking at them asks for. Raise "
            "recipe.data.memory, or look at one of their files: groundup inspect FILE."
        )
    return source, cleaned


def _steps(data: DataRecipe) -> list[Any]:
    """The steps of preparation, which leave the target alone whatever else they are told to leave."""
    from groundup.core.use import make
    from groundup.data.causality import refuse_look_ahead

    target = data.samples.arguments.get("target")
    protected = [target] if isinstance(target, str) else []
    made = []
    for i, use in enumerate(data.prepare):
        where = f"recipe.data.prepare[{i}]"
        if "exclude" in use.arguments:
            use = use.with_arguments(exclude=[*use.arguments["exclude"], *protected])
        supplied = {"exclude": protected, "target": target} if protected else {"exclude": protected}
        made.append(make(use, "prepare", where=where, **supplied))
        if _in_time(data):
            refuse_look_ahead(made[-1], where)
    return made


def _in_time(data: DataRecipe) -> bool:
    """Whether the held-out rows are the later ones, so that no step may see what comes behind a row."""
    from groundup.core.use import resolve

    forecast = getattr(resolve(data.samples.target, "samples"), "task", None) == "forecast"
    return forecast or "by_time" in (resolve(data.split.target, "split").__name__, data.split.arguments.get("way"))


def _without_gone(source: Dataset, dataset: Dataset, splits: Splits) -> Dataset:
    """What was read without columns that the split took away: one that names the part makes no row another."""
    gone = [name for name in dataset.columns if name not in splits.train.columns and name in source.columns]
    return dataclasses.replace(
        source, frame=source.frame.drop(gone), kinds={n: kind for n, kind in source.kinds.items() if n not in gone}
    )


def _leaks(splits: Splits, source: Dataset) -> tuple[Any, ...]:
    """Rows of valid and test that stand in an earlier split as well: texts and images exactly or nearly, others equal.

    These are compared as they were read: rows that are equal only because columns were dropped are different rows.
    """
    from groundup.core.dataset import ROW
    from groundup.data.cleaning.leaks import content_column, find_leaks

    content = content_column(splits.train)
    if content is not None:
        return tuple(find_leaks(splits, content))
    return tuple(
        find_leaks(splits.map(lambda p: p.with_frame(p.frame.select(ROW).join(source.frame, on=ROW), source.kinds)))
    )


def _recipe(recipe: str | Path | Recipe, overrides: tuple[str, ...] = ()) -> Recipe:
    from groundup.core.recipe import Recipe, override_recipe, read_recipe

    if isinstance(recipe, Recipe):
        return override_recipe(recipe, overrides)
    return read_recipe(recipe, overrides)


# ---------------------------------------------------------------------------------------------- design, proof, plan


def design(prepared: Prepared) -> nn.Module:
    """The model as the recipe describes it: sizes taken from the data, swapped, initialised by the seed.

    Where it starts from weights that lie somewhere, it has these.
    """
    from groundup.core.use import make
    from groundup.nn.init import initialise
    from groundup.nn.swap import swap
    from groundup.training import seed_everything

    recipe = prepared.recipe
    seed_everything(recipe.seed)
    model: nn.Module
    if prepared.start is not None:
        model = prepared.start.read()
    else:
        model = make(recipe.model, "model", where="recipe.model", **prepared.sizes)
    for change in recipe.swap:
        swap(model, change.where, change.with_)
    rules = [
        (rule.where, make(rule.init, "init", where=f"recipe.init[{i}].init")) for i, rule in enumerate(recipe.init)
    ]
    if rules:
        initialise(model, rules)
    return model


def _start_of(recipe: Recipe, samples: Any) -> Start | None:
    """What the recipe's model begins with; a name that is no folder is fetched, unless that was done before."""
    from groundup.core.errors import RecipeError
    from groundup.data.tokenization import TokenizerFile
    from groundup.models.fetch import NAME
    from groundup.models.start import open_start

    if recipe.start is None:
        return None
    folder = recipe.folder / Path(recipe.start).expanduser()
    if not folder.exists() and NAME.fullmatch(recipe.start):
        fetched = Path("models") / recipe.start.partition("/")[2]
        if not (fetched / "config.json").is_file():
            terminal.say(f"  there is no folder {folder}, so {recipe.start} is looked for on the hub")
            fetch(recipe.start)
        folder = fetched
    terminal.stage("start", str(folder))
    published = (folder / "config.json").is_file()
    if samples.task == "generate":
        if published and not isinstance(samples.learned_tokenizer, TokenizerFile):
            raise RecipeError(
                "recipe.start: a model of text knows the tokens of its own tokenizer and no others. Take it: "
                f'data.samples.tokenizer = {{ use = "TokenizerFile", path = "{folder}" }}.'
            )
    elif published and "vocab_size" in samples.sizes():
        raise RecipeError(
            f"recipe.start: {_short(recipe.data.samples)} numbers words by a vocabulary of its own, which {folder} "
            "does not know; published encoders of text cannot be trained on labelled texts yet."
        )
    start = open_start(folder, recipe.model, samples.sizes())
    for note in start.notes:
        terminal.warn(note)
    return start


def _prove(prepared: Prepared, model: nn.Module, training: Training, *, fresh: bool = True) -> Proof:
    """What must hold before step 1; each check says what it saw. A model that is not fresh may know something."""
    from groundup import proof
    from groundup.core.batch import Bookmark
    from groundup.core.report import Proof
    from groundup.data.causality import look_ahead

    objective = _objective(training, prepared)
    batch = next(prepared.batches(training, Bookmark())).to("cpu")  # where the model is until it is trained
    _try_mixed_targets(prepared, model, batch, objective)
    some = prepared.targets_of_some("train")
    refuse = prepared.recipe.data.leaks == "refuse"
    checks = [proof.no_leaks(prepared.leaks, refuse=refuse), proof.masks([some])]
    if prepared.samples.task == "generate":
        checks.append(proof.end_of_text_learned(some, prepared.samples.learned_tokenizer.end_of_text))
    else:
        checks.append(proof.constant_target(some.targets["targets"], prepared.samples.target))
    if prepared.samples.task == "forecast":
        checks.append(look_ahead(prepared.samples, prepared.unprepared.valid, prepared.preprocessing))
    fresh = fresh and prepared.start is None and not getattr(model, "ANSWERS_FROM_INPUTS", False)
    expected = _expected_loss(prepared, training, batch) if fresh else None
    if expected is not None:
        tolerance = 0.1 if prepared.samples.task == "generate" else 0.5  # few samples and features scatter more
        checks.append(proof.initial_loss(_loss_of(model, batch, objective), expected, tolerance))
    checks.append(proof.gradients(model, objective, batch))
    if fresh:
        checks.append(_signal(prepared, model, training)[0])
    _try_metrics(prepared, model)
    return Proof(tuple(checks))


def _try_mixed_targets(prepared: Prepared, model: nn.Module, batch: Batch, objective: Objective) -> None:
    """Augmentation that mixes samples makes probabilities of classes: a loss that cannot take them is refused now."""
    from groundup.core.errors import RecipeError

    if prepared.samples.task != "classify" or not batch.targets["targets"].is_floating_point():
        return
    try:
        _loss_of(model, batch, objective)
    except Exception as error:  # whatever a loss of one's own says of targets that it does not know
        names = [type(step).__name__ for step in prepared.augmentation() if hasattr(step, "draw_mix")]
        raise RecipeError(
            f"recipe.data.augment: {' and '.join(names)}: mixing makes probabilities [B, classes] of classes, and the "
            f"objective does not take them ({type(error).__name__}: {error}). Use cross_entropy, or leave out "
            "the steps that mix."
        ) from error


def _signal(prepared: Prepared, model: nn.Module, training: Training) -> tuple[Check, tuple[LayerSignal, ...]]:
    from groundup import proof

    batch = prepared.first("train", min(SIGNAL_SAMPLES, training.batch_size))
    return proof.signal(model, _objective(training, prepared), batch)


def _try_metrics(prepared: Prepared, model: nn.Module) -> None:
    """Each metric once on the untrained model: one that does not fit the task is refused now, not at the end."""
    from groundup import evaluation
    from groundup.core.errors import DataError, RecipeError
    from groundup.core.use import make

    if prepared.samples.task == "generate":
        batches = [prepared.first(prepared.held_out, 2)]
    else:
        batches = [prepared.first(prepared.held_out, 1024)]
    outcome = evaluation.measure(model, batches, prepared.samples, prepared.encoded[prepared.held_out])
    for i, use in enumerate(prepared.recipe.evaluation.metrics):
        where = f"recipe.evaluation.metrics[{i}]"
        try:
            make(use, "metrics", where=where)(outcome.decoded, outcome.targets)
        except DataError as error:
            if "predictions" in str(error) or "expected" in str(error):  # not merely a class that few samples lack
                raise RecipeError(f"{where}: {error} The task is {prepared.samples.task}.") from error


def _expected_loss(prepared: Prepared, training: Training, batch: Batch) -> float | None:
    """Where theory puts the loss of a model that knows nothing: log of the classes, or the targets' mean square."""
    task, sizes = prepared.samples.task, prepared.sizes
    if task == "generate":
        return math.log(sizes["vocab_size"])
    loss = training.objective.arguments.get("loss")
    name = _short(loss) if loss is not None else "cross_entropy"
    if task == "classify" and name == "cross_entropy":
        return math.log(sizes["num_classes"])
    if task in ("regress", "forecast") and name == "mse":
        return float(batch.targets["targets"].square().mean())
    return None


def _loss_of(model: nn.Module, batch: Batch, objective: Objective) -> float:
    import torch

    with torch.no_grad():
        return float(objective(model, batch).total)


def _plan(prepared: Prepared, model: nn.Module, training: Training) -> tuple[Plan, Proof]:
    """Memory and time before anything is spent, and whether the memory is there."""
    from groundup import proof
    from groundup.core.batch import Bookmark
    from groundup.core.report import Proof
    from groundup.planning import hardware, measure_speed, plan_memory, plan_time
    from groundup.training import choose_device, choose_precision

    device = choose_device(training.device)
    precision = choose_precision(training.precision, device, sum(p.numel() for p in model.parameters()))
    batch = next(
        next(prepared.batches(training, Bookmark())).to("cpu").parts(-(-training.batch_size // training.accumulate))
    )
    planned = plan_memory(
        model, batch, _optimizer(model, training), _objective(training, prepared), precision.name, training.accumulate
    )
    planned = plan_time(planned, measure_speed(device.type), _steps_of(prepared, training), training.minutes)
    machine = hardware()
    room = machine.gpus[device.index or 0][1] if device.type == "cuda" else machine.available_bytes
    return planned, Proof((proof.fits_memory(planned, room),))


# ---------------------------------------------------------------------------------------------- training


def _train(recipe: Recipe, out: Path | None) -> Trained:
    from groundup.core.run import Run, refuse_existing

    if recipe.runs():
        return _train_several(recipe, out)
    refuse_existing(out)
    terminal.begin(recipe.name, [f"recipe {recipe.digest()[:12]}, seed {recipe.seed}"])
    prepared = prepare(recipe)
    terminal.stage("design", _short(recipe.model if prepared.start is None else prepared.start.call))
    model = design(prepared)
    terminal.model(model)
    terminal.stage("prove", "before the first step")
    proof = _prove(prepared, model, recipe.training)
    terminal.proof(proof)
    terminal.sample(prepared.sample())
    proof.demand()
    terminal.stage("plan", "memory and time, before they are spent")
    planned, fits = _plan(prepared, model, recipe.training)
    terminal.plan(planned)
    fits.demand()
    run = Run.create(prepared.recipe, out)
    with _not_without_a_checkpoint(run):
        _write_borders(run, prepared, proof + fits, planned)
        run.write_json("structure.json", _outline(prepared, model, recipe.training).to_dict())
        trained = Trained(run, prepared, model, recipe.training, _objective(recipe.training, prepared))
        terminal.stage("train", str(run.folder))
        _learn(trained, _begin(trained))
    return _conclude(trained)


@contextlib.contextmanager
def _not_without_a_checkpoint(run: Run) -> Iterator[None]:
    """A run that ends before its first checkpoint can neither be used nor resumed: its folder goes."""
    try:
        yield
    except BaseException:
        if not any(run.checkpoints.glob("step-*")):
            shutil.rmtree(run.folder, ignore_errors=True)
        raise


def _write_borders(run: Run, prepared: Prepared, proof: Proof, planned: Plan) -> None:
    """What is known before the first step: the ledger, what was fitted, the proof and the plan."""
    from groundup.core.preprocessing import step_name, what_was_learned
    from groundup.core.schema import Schema
    from groundup.data.shards import gather_removed

    entries = _ledger(prepared.splits)
    run.write(
        "ledger.jsonl", "".join(json.dumps(dataclasses.asdict(entry), ensure_ascii=False) + "\n" for entry in entries)
    )
    if prepared.shop.folder.exists():  # of data in shards the ledger lists the first removed rows alone
        gather_removed([prepared.shop.folder], run.folder / "removed.jsonl")
    run.write("preprocessing.json", prepared.preprocessing.to_json())
    samples = {"step": step_name(prepared.samples), "split": "train", "rows": prepared.samples.learned["rows"]}
    learned = what_was_learned(prepared.preprocessing.prepare, entries)
    run.write_json("statistics.json", [*learned, {**samples, "columns": []}])
    run.write_json("proof.json", dataclasses.asdict(proof))
    if prepared.start is not None:
        run.write_json("start.json", prepared.start.about())
    if prepared.sample():
        run.write_json("sample.json", prepared.sample())
    run.write_json("plan.json", planned.to_dict())
    rows = {name: len(part) for name, part in prepared.splits.parts().items()}
    read = _write_quarantine(run.folder, prepared.splits.train, prepared.shop)
    samples = {name: len(encoded) for name, encoded in prepared.encoded.items()}
    about = {"fingerprint": prepared.fingerprint, **read, "in_shards": not _in_memory(prepared.splits.train)}
    run.write_json("data.json", {**about, "rows": rows, "samples": samples})
    if isinstance(prepared.preprocessing.schema, Schema):
        run.write_json("schema.json", prepared.preprocessing.schema.to_dict())


def _begin(trained: Trained, *, measure: bool = True) -> TrainState:
    """A state at step 0, with the decisions that hold for the whole run: device, precision, compiling, steps."""
    from groundup.core.batch import Bookmark
    from groundup.core.state import TrainState
    from groundup.core.use import make
    from groundup.training import choose_device, keep_freed_memory, move, set_threads, settle

    training, prepared = trained.training, trained.prepared
    set_threads()
    keep_freed_memory()
    model = move(trained.model, choose_device(training.device))
    schedule = make(training.schedule, "schedule") if training.schedule is not None else None
    steps = _steps_of(prepared, training) or 0
    state = TrainState(model, _optimizer(model, training), schedule, total_steps=steps)
    if measure:
        settle(
            state,
            next(prepared.batches(training, Bookmark())),
            trained.objective,
            precision=training.precision,
            compile=training.compile,
            minutes=training.minutes,
            accumulate=training.accumulate,
        )
        terminal.decisions(state.decisions, state.total_steps)
    return state


def _optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    from groundup.core.use import make
    from groundup.optim import parameter_groups

    groups = parameter_groups(model, rules=training.groups)
    made: torch.optim.Optimizer = make(
        training.optimizer, "optimizer", where="recipe.training.optimizer", params=groups
    )
    return made


def _objective(training: Training, prepared: Prepared) -> Objective:
    from groundup.core.use import make

    counts = prepared.class_counts
    made: Objective = make(training.objective, "objective", where="recipe.training.objective", class_counts=counts)
    return made


def _steps_of(prepared: Prepared, training: Training) -> int | None:
    """The budget in steps, or None where it is given in minutes and has to be measured."""
    if training.steps is not None:
        return training.steps
    if training.epochs is None:
        return None
    a_pass = math.ceil(len(prepared.encoded["train"]) / training.batch_size)
    return max(1, round(training.epochs * a_pass))


def _learn(trained: Trained, state: TrainState) -> None:
    """The loop: step, log, evaluate, save; the periods are the recipe's own."""
    from groundup.core.errors import NonFiniteError
    from groundup.training import fit

    run, prepared, training = trained.run, trained.prepared, trained.training
    evaluating = training.evaluate_every or max(1, state.total_steps // 10)
    saving = training.save_every or evaluating
    stream = prepared.batches(training, state.bookmark)
    logged = run.logged()  # of what went before, if this is a resume
    started = time.monotonic() - (logged[-1]["time_s"] if logged else 0.0)
    unit = "tokens" if prepared.samples.task == "generate" else "samples"
    with terminal.bar("training", state.total_steps, unit) as bar:
        for step in fit(state, stream, trained.objective, clip_norm=training.clip_norm, accumulate=training.accumulate):
            bar.step(step)
            if step.every(training.log_every) or step.last:
                run.log(kind="train", step=step.number, time_s=time.monotonic() - started, **_values(step))
            improved = False
            if step.every(evaluating) or step.last:
                loss = _validate(trained, state)
                if not math.isfinite(loss):
                    raise NonFiniteError(f"step {step.number}: the loss on the validation split is {loss}; lower lr.")
                improved = loss < run.best()[1]
                run.log(kind="valid", step=step.number, loss=loss, time_s=time.monotonic() - started)
                bar.mark(f"valid {loss:.4f}")
            if step.every(saving) or step.last or (improved and training.keep == "best"):
                _save(trained, state)


def _validate(trained: Trained, state: TrainState) -> float:
    """Mean loss on the first batches of the validation split, as many as the recipe says."""
    from itertools import islice

    from groundup.evaluation import mean_loss
    from groundup.training import Precision

    training = trained.training
    batches = islice(trained.prepared.once("valid", training.batch_size), training.evaluate_batches)
    with Precision(**state.decisions["precision"]).autocast():
        return mean_loss(state.model, batches, trained.objective)


def _values(step: Step) -> dict[str, Any]:
    names = ("loss", "learning_rate", "gradient_norm", "samples", "tokens")
    return {name: getattr(step, name) for name in names} | dict(step.parts)


def _save(trained: Trained, state: TrainState) -> None:
    run, prepared, training = trained.run, trained.prepared, trained.training
    best_step = run.best()[0]
    run.save(
        state.step,
        {"model.safetensors": state.model.state_dict(), "training.safetensors": state.tensors()},
        {"state.json": state.to_json(), **_carried(prepared)},
        keep={best_step} if training.keep == "best" and best_step is not None else set(),
    )


def _carried(prepared: Prepared) -> dict[str, str]:
    """What a checkpoint carries beside its tensors, so that it can take raw input anywhere."""
    from groundup.core.report import machine

    about = {"digest": prepared.recipe.digest(), "data": prepared.fingerprint, "machine": machine()}
    return {
        "recipe.toml": prepared.recipe.resolved().to_toml(),
        "preprocessing.json": prepared.preprocessing.to_json(),
        "sizes.json": json.dumps(prepared.sizes),
        "provenance.json": json.dumps(about, indent=1),
    }


def _conclude(trained: Trained) -> Trained:
    """After the last step: choose the weights, prove that they read back, evaluate, write the report."""
    run, prepared = trained.run, trained.prepared
    checkpoint = _kept(trained)
    terminal.stage("evaluate", f"{checkpoint.folder.name} on {prepared.held_out}")
    _prove_same(trained, checkpoint)
    run.choose(checkpoint)
    report = _evaluate(trained)
    run.write_json("report.json", report.to_dict())
    _write_page(run)
    return dataclasses.replace(trained, report=report)


def _kept(trained: Trained) -> Checkpoint:
    """The checkpoint that the recipe keeps, the last or the best; the model is given its weights."""
    from groundup.core.checkpoint import Checkpoint

    run = trained.run
    best = run.best()[0] if trained.training.keep == "best" else None
    step = run.logged()[-1]["step"] if best is None else best
    checkpoint = Checkpoint.open(run.checkpoints / f"step-{step}")
    trained.model.load_state_dict(checkpoint.tensors("model.safetensors"))
    return checkpoint


def _write_page(run: Run) -> None:
    """``report.html``: everything the run's folder holds, on one page that needs no network."""
    from groundup.evaluation import run_page

    run.write("report.html", run_page(run))


def _prove_same(trained: Trained, checkpoint: Checkpoint, tolerance: float = 0.0) -> None:
    """What serves, made from the checkpoint's folder alone, gives the trained model's outputs."""
    from groundup import proof
    from groundup.core.report import Proof

    batch = trained.prepared.first(trained.prepared.held_out, 8)
    device = next(trained.model.parameters()).device
    served = _predictor(checkpoint).model.to(device)
    found = Proof((proof.same_outputs(trained.model, served, batch.to(device), tolerance),))
    terminal.proof(found)
    added = dataclasses.asdict(found)["checks"]
    names = [check["name"] for check in added]
    before = [check for check in trained.run.read_json("proof.json")["checks"] if check["name"] not in names]
    trained.run.write_json("proof.json", {"checks": [*before, *added]})
    found.demand()


# ---------------------------------------------------------------------------------------------- evaluation


def _evaluate(trained: Trained) -> Report:
    """Metrics on the held-out split with their intervals, beside the recipe's baselines on the same samples."""
    from groundup import evaluation
    from groundup.core.report import Report
    from groundup.core.use import make

    prepared, recipe = trained.prepared, trained.prepared.recipe
    split = prepared.held_out
    metrics = [make(use, "metrics") for use in recipe.evaluation.metrics]
    outcome = _measure(trained)
    found = {"model": evaluation.score(metrics, outcome, recipe.seed)}
    for use in recipe.evaluation.baselines:
        with terminal.busy(f"baseline {_short(use)}"):
            answers = make(use, "baselines")(prepared.encoded["train"], prepared.encoded[split])
        found[_short(use)] = evaluation.score_baseline(metrics, answers, outcome, recipe.seed)
    terminal.metrics(split, found)
    apart = _scores_apart(trained, outcome)
    if apart:
        terminal.metrics(f"{split}: leaked rows apart", {"all": found["model"], **apart})
    return Report(split, found.pop("model"), found, recipe.digest(), prepared.fingerprint, leaks=apart)


def _evaluate_start(recipe: Recipe) -> Report:
    """The figures of the weights that a recipe starts from, before anything is learned."""
    from groundup.core.errors import RecipeError
    from groundup.core.run import Run
    from groundup.training import choose_device, move

    if recipe.start is None:
        raise RecipeError(
            "recipe.start: it names no weights, so there is nothing to measure. Train first: groundup train."
        )
    terminal.begin(recipe.name, [f"the weights of {recipe.start}, untrained"])
    prepared = prepare(recipe)
    training = prepared.recipe.training
    model = move(design(prepared), choose_device(training.device))
    terminal.stage("evaluate", f"on {prepared.held_out}")
    return _evaluate(Trained(Run(Path()), prepared, model, training, _objective(training, prepared)))


def _scores_apart(trained: Trained, outcome: Outcome) -> dict[str, dict[str, Metric]]:
    """The metrics on rows that stand in an earlier split as well, and on the others; empty where none does."""
    from groundup import evaluation
    from groundup.core.dataset import ROW
    from groundup.core.use import make

    prepared, recipe = trained.prepared, trained.prepared.recipe
    split = prepared.held_out
    leaked = {leak.row for leak in prepared.leaks if leak.split == split}
    if not leaked or prepared.samples.task == "forecast":  # a window is of many rows
        return {}
    metrics = [make(use, "metrics") for use in recipe.evaluation.metrics]
    if prepared.samples.task != "generate":
        return evaluation.score_apart(metrics, outcome, leaked, recipe.seed)
    part = prepared.splits.parts()[split]
    found, marked = {}, part.frame[ROW].is_in(sorted(leaked))
    for name, rows in (("clean", ~marked), ("leaked", marked)):
        if rows.any():  # a text's windows may hold several texts, so these are cut anew
            encoded = prepared.samples.encode(part.take(rows.arg_true().to_numpy()))
            again = dataclasses.replace(prepared, encoded={**prepared.encoded, split: encoded})
            answers = _measure(dataclasses.replace(trained, prepared=again))
            found[name] = evaluation.score(metrics, answers, recipe.seed)
    return found


def _scores(trained: Trained) -> dict[str, Metric]:
    """The recipe's metrics of the model on the held-out split."""
    from groundup import evaluation
    from groundup.core.use import make

    metrics = [make(use, "metrics") for use in trained.prepared.recipe.evaluation.metrics]
    return dict(evaluation.score(metrics, _measure(trained), trained.prepared.recipe.seed))


def _measure(trained: Trained) -> Outcome:
    """The model's answers on the held-out split beside the truth."""
    from groundup import evaluation
    from groundup.training import choose_precision

    prepared, device = trained.prepared, next(trained.model.parameters()).device
    size = sum(p.numel() for p in trained.model.parameters())
    precision = choose_precision(trained.training.precision, device, size)
    batches = prepared.once(prepared.held_out, trained.training.batch_size)
    with terminal.busy("measuring"), precision.autocast():
        return evaluation.measure(trained.model, batches, prepared.samples, prepared.encoded[prepared.held_out])


def _train_several(recipe: Recipe, out: Path | None, parent: Run | None = None) -> Trained:
    """The same recipe once for each seed (split, initialisation and order) or fold, and the figures over all of them.

    With a ``parent`` that was stopped, parts that have their report stay as they are.
    """
    from groundup.core.report import Report
    from groundup.core.run import Run
    from groundup.evaluation import over_runs

    parent = parent or Run.create(recipe, out)
    folders: list[Path] = []
    for name, one in recipe.runs():
        folder = parent.folder / name
        if not (folder / "report.json").is_file():
            with terminal.quiet() if folders else contextlib.nullcontext():
                _train_or_resume(one, folder)
        folders.append(folder)
        terminal.say(f"  {name.replace('-', ' ')}: done")
    reports = [Report.from_dict(Run.open(folder).read_json("report.json")) for folder in folders]
    report = over_runs(reports, _overlap(folders))
    what = folders[0].name.partition("-")[0]
    terminal.stage(f"all {what}s", f"means over {len(reports)} {what}s, with 95% intervals")
    terminal.metrics(report.split, {"model": report.metrics, **report.baselines})
    parent.write_json("report.json", report.to_dict())
    first = Run.open(folders[0])
    parent.write_json(
        "chosen.json", {"checkpoint": f"{first.folder.name}/{first.read_json('chosen.json')['checkpoint']}"}
    )
    _write_page(parent)
    with terminal.quiet():
        return dataclasses.replace(_reopen(first.folder), run=parent, report=report)


def _train_or_resume(recipe: Recipe, folder: Path) -> None:
    if any((folder / "checkpoints").glob("step-*")) or (recipe.runs() and (folder / "run.json").is_file()):
        _resume(folder)
        return
    shutil.rmtree(folder, ignore_errors=True)  # killed before its first checkpoint
    _train(recipe, folder)


def _parts_of(folder: Path) -> list[Path]:
    """The runs of single seeds or folds inside a run over several."""
    found = [path for kind in ("seed", "fold") for path in folder.glob(f"{kind}-*") if (path / "run.json").is_file()]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def _overlap(folders: list[Path]) -> float:
    """Held-out rows for each row of train where the runs are folds, which share most of their training rows."""
    return 1 / (len(folders) - 1) if folders[0].name.startswith("fold-") else 0.0


def _together(splits: Splits) -> Dataset:
    """The rows of all splits, train first, as one dataset that is not split."""
    import polars as pl

    parts = list(splits.parts().values())
    return dataclasses.replace(parts[0], frame=pl.concat([part.frame for part in parts if len(part)]), split=None)


def _out_of_fold(
    prepared: Prepared, together: Dataset, given: Any, classes: list[Any], own_model: bool, folds: int = 5
) -> Any:
    """[n, K] probabilities for each row from what was fitted without its fold, preparation included."""
    import numpy as np

    from groundup.core.dataset import ROW, Splits
    from groundup.core.preprocessing import Preprocessing
    from groundup.core.use import make
    from groundup.data.cleaning.labels import folds_of
    from groundup.evaluation.baselines import logistic_regression

    data = prepared.recipe.data
    fold = folds_of(given, folds, prepared.recipe.seed)
    position = {row: i for i, row in enumerate(together.frame[ROW].to_list())}
    probabilities = np.zeros((len(given), len(classes)))
    for number in range(folds):
        with terminal.quiet():
            train, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            empty = together.take(np.empty(0, dtype=np.int64), "test")
            parts = Splits(together.take(train, "train"), together.take(held, "valid"), empty)
            samples = make(data.samples, "samples", where="recipe.data.samples")
            preprocessing, parts = Preprocessing.fit(_steps(data), samples, parts)
            encoded = {name: preprocessing.samples.encode(part) for name, part in parts.parts().items()}
            one = dataclasses.replace(prepared, splits=parts, preprocessing=preprocessing, encoded=encoded)
            answers = _answers(one) if own_model else logistic_regression(encoded["train"], encoded["valid"])
        columns = [classes.index(name) for name in preprocessing.samples.learned["target"]["classes"]]
        rows = [position[row] for row in encoded["valid"].rows.tolist()]
        probabilities[np.ix_(rows, columns[: answers.shape[1]])] = answers
        terminal.say(f"  fold {number + 1} of {folds}: {len(rows):,} rows")
    return probabilities


def _answers(prepared: Prepared) -> Any:
    """What the recipe's own model says of the validation split once it is trained; no folder is left."""
    from groundup.core.run import Run
    from groundup.training import fit

    training = prepared.recipe.training
    trained = Trained(Run(Path()), prepared, design(prepared), training, _objective(training, prepared))
    state = _begin(trained)
    stream = prepared.batches(training, state.bookmark)
    for _ in fit(state, stream, trained.objective, clip_norm=training.clip_norm, accumulate=training.accumulate):
        pass
    return _measure(trained).decoded


# ---------------------------------------------------------------------------------------------- later verbs


def _resume(folder: Path) -> Trained:
    """Everything as it was at the newest checkpoint that verifies; then the loop goes on."""
    from groundup.core.errors import CheckpointError
    from groundup.core.run import Run

    run = Run.open(folder)
    if run.recipe().runs() and not run.checkpoints.is_dir():
        return _train_several(run.recipe(), None, run)
    checkpoint, passed_over = run.newest()
    for line in passed_over:
        terminal.warn(f"passed over: {line}")
    trained = _opened(run, checkpoint, same_data=True)
    finetuned = (run.folder / "before.json").is_file()
    if finetuned:
        trained = _as_finetuned(trained)
    state = _begin(trained, measure=False)
    state.model.load_state_dict(checkpoint.tensors("model.safetensors"))
    state.restore(checkpoint.tensors("training.safetensors"), checkpoint.json("state.json"))
    here = next(state.model.parameters()).device.type
    if not str(state.decisions["device"]).startswith(here):
        raise CheckpointError(
            f"{folder}: started on {state.decisions['device']}; it goes on exactly there only, not on {here}."
        )
    run.rewind(state.step)
    terminal.stage("train", f"goes on behind step {state.step:,} of {state.total_steps:,}")
    _learn(trained, state)
    return _conclude_finetuned(trained) if finetuned else _conclude(trained)


def _as_finetuned(trained: Trained) -> Trained:
    """A run that was stopped while it was fine-tuned, with what the method adds to the model."""
    from groundup.core.use import make

    wanted = trained.prepared.recipe.finetune
    assert wanted is not None
    make(wanted.method, "method", where="recipe.finetune.method")(trained.model)
    prepared = trained.prepared if wanted.samples is None else _without_twins(trained.prepared)
    return dataclasses.replace(
        trained, prepared=prepared, training=wanted.training, objective=_objective(wanted.training, prepared)
    )


def _reopen(folder: str | Path, overrides: tuple[str, ...] = ()) -> Trained:
    """A finished run with the weights it chose."""
    from groundup.core.run import Run

    run = Run.open(folder)
    checkpoint = run.checkpoint()
    trained = _opened(run, checkpoint, overrides)
    trained.model.load_state_dict(checkpoint.tensors("model.safetensors"))
    return trained


def _opened(run: Run, checkpoint: Checkpoint, overrides: tuple[str, ...] = (), *, same_data: bool = False) -> Trained:
    """A run's data, prepared again by the preprocessing that was fitted then, and its model as designed."""
    from groundup.core.errors import DataError
    from groundup.core.preprocessing import Preprocessing
    from groundup.training import choose_device, move

    recipe = _recipe(run.recipe(), overrides)
    terminal.begin(recipe.name, [f"from {checkpoint.folder}"])
    preprocessing = Preprocessing.from_json(checkpoint.text("preprocessing.json"))
    prepared = prepare(recipe, preprocessing=preprocessing)
    if prepared.fingerprint != checkpoint.json("provenance.json")["data"]:
        changed = f"{recipe.data.source}: the data is no longer what the run was trained on"
        if same_data:
            raise DataError(f"{changed}; a resume must go on with the same. Restore it, or start a new run.")
        terminal.warn(f"{changed}; figures may differ for that reason")
    in_shards = not _in_memory(prepared.splits.train)
    if same_data and in_shards != run.read_json("data.json").get("in_shards", in_shards):
        raise DataError(
            f"{run.folder}: its data lay in {'memory' if in_shards else 'shards'} and do so no longer, since another "
            "part of the memory is free; batches would come in another order. Set data.memory as it was: a large one, "
            "such as data.memory=64GB, keeps data in memory."
        )
    model = move(design(prepared), choose_device(recipe.training.device))
    return Trained(run, prepared, model, recipe.training, _objective(recipe.training, prepared))


def _finetune(trained: Trained, wanted: Finetune, out: Path | None = None) -> Trained:
    """Another training from these weights: a method that says what is trained, samples and a budget of its own."""
    from groundup.core.run import Run, refuse_existing
    from groundup.core.use import make
    from groundup.training import seed_everything

    out = out or trained.run.folder / "finetune"
    refuse_existing(out)
    terminal.stage("fine-tune", _short(wanted.method))
    seed_everything(trained.prepared.recipe.seed)
    prepared = _prepared_for(trained.prepared, wanted)
    tuned = dataclasses.replace(
        trained, prepared=prepared, training=wanted.training, objective=_objective(wanted.training, prepared)
    )
    before = _scores(tuned)
    make(wanted.method, "method", where="recipe.finetune.method")(tuned.model)
    terminal.model(tuned.model)
    proof = _prove(prepared, tuned.model, wanted.training, fresh=False)
    terminal.proof(proof)
    terminal.sample(prepared.sample())
    proof.demand()
    planned, fits = _plan(prepared, tuned.model, wanted.training)
    terminal.plan(planned)
    fits.demand()
    base = trained.run.checkpoint()
    tuned = dataclasses.replace(tuned, run=Run.create(prepared.recipe, out))
    with _not_without_a_checkpoint(tuned.run):
        _write_borders(tuned.run, prepared, proof + fits, planned)
        tuned.run.write_json("before.json", {name: dataclasses.asdict(metric) for name, metric in before.items()})
        tuned.run.write_json("base.json", {"checkpoint": str(base.folder.resolve()), "sha256": base.digest()})
        _learn(tuned, _begin(tuned))
    return _conclude_finetuned(tuned)


def _prepared_for(prepared: Prepared, wanted: Finetune) -> Prepared:
    """The same splits as the samples that fine-tuning asks for, with the tokenizer that the model was trained with."""
    from groundup.core.use import make

    if wanted.samples is None:
        return prepared
    samples = make(wanted.samples, "samples", where="recipe.finetune.samples")
    if hasattr(samples, "with_tokenizer"):
        samples = samples.with_tokenizer(prepared.samples)
    with terminal.busy("encoding"):
        samples = _fit_samples(samples, prepared.splits, prepared.shop)
        encoded = _encode(samples, prepared.splits, prepared.shop)
    terminal.encoded(samples, encoded)
    preprocessing = dataclasses.replace(prepared.preprocessing, samples=samples)
    return _without_twins(dataclasses.replace(prepared, preprocessing=preprocessing, encoded=encoded))


def _without_twins(prepared: Prepared) -> Prepared:
    """Samples cut from the rows, of which none that has a twin in the held-out parts is learned from.

    Files are apart, but what is cut from them may be copied between files, as a short method is.
    """
    encoded: dict[str, Any] = dict(prepared.encoded)
    if not hasattr(encoded["train"], "unlearned"):
        return prepared
    twins = _twins({name: part.texts for name, part in encoded.items()})
    encoded["train"] = encoded["train"].unlearned(twins)
    terminal.say(f"  {len(twins)} texts of train have a twin in the held-out parts and are not learned from")
    return dataclasses.replace(prepared, encoded=encoded)


def _twins(texts: Mapping[str, list[str]]) -> list[int]:
    """The numbers of the training texts that stand nearly alike in validation or test."""
    import polars as pl

    from groundup.core.dataset import Dataset, Splits
    from groundup.data.cleaning.leaks import find_leaks

    def part(name: Split) -> Dataset:
        return dataclasses.replace(Dataset.of(pl.DataFrame({"text": texts[name]}), {"text": "text"}), split=name)

    # Held against each held-out part as if that came first: then every text of train that has a twin is told.
    held_out = [Splits(part(name), part("train"), part(name)) for name in ("valid", "test")]
    rows = [leak.name for splits in held_out for leak in find_leaks(splits) if leak.split == "valid"]
    return sorted({int(row.removeprefix("row ")) for row in rows})


def _conclude_finetuned(tuned: Trained) -> Trained:
    """Measure what fine-tuning changed, on held-out samples; fold it into plain weights; prove these equal."""
    from groundup.core.checkpoint import write_checkpoint
    from groundup.core.report import Metric, Report
    from groundup.finetune.lora import lora_layers, merge

    run, prepared = tuned.run, tuned.prepared
    terminal.stage("evaluate", f"before and after fine-tuning, on {prepared.held_out}")
    _kept(tuned)
    before = {name: Metric(**values) for name, values in run.read_json("before.json").items()}
    after = _scores(tuned)
    terminal.metrics(prepared.held_out, {"before": before, "after": after})
    report = Report(prepared.held_out, after, {"before": before}, prepared.recipe.digest(), prepared.fingerprint)
    model = merge(copy.deepcopy(tuned.model)) if lora_layers(tuned.model) else tuned.model
    shutil.rmtree(run.folder / "merged", ignore_errors=True)  # of a conclusion that was stopped
    merged = write_checkpoint(run.folder / "merged", {"model.safetensors": model.state_dict()}, _carried(prepared))
    _prove_same(tuned, merged, tolerance=1e-4)
    run.choose(merged)
    run.write_json("report.json", report.to_dict())
    _write_page(run)
    return dataclasses.replace(tuned, report=report)


def _write_samples(trained: Trained) -> None:
    """What the model writes after the recipe's prompts."""
    from groundup.serving import Sampling

    terminal.stage("write", "after prompts that it has not seen")
    predictor = _predictor(trained.run.checkpoint())
    written = []
    for prompt in trained.prepared.recipe.prompts:
        (answer,) = predictor.predict(prompt, max_new_tokens=120, sampling=Sampling(temperature=0.5, top_p=0.95))
        terminal.code(answer["completion"], prompt)
        written.append({"prompt": prompt, "completion": answer["completion"]})
    trained.run.write_json("samples.json", written)


def _predictor(checkpoint: Checkpoint) -> Predictor:
    from groundup.nn.swap import swap
    from groundup.serving import Predictor

    return Predictor.load(checkpoint.folder, trusted=None, swap=swap)


def _short(use: Use) -> str:
    """The name that a call goes by, without its module."""
    return use.target.rpartition(":")[2]


# ---------------------------------------------------------------------------------------------- published weights


def fetch(name: str, *, revision: str | None = None, out: Path | None = None) -> Path:
    """Download a published model, ``org/name``, from a hub: safetensors and the texts beside them, nothing else.

    ``revision`` is a branch, tag or commit. Lies in ``models/NAME`` unless told otherwise; a download that broke off
    goes on where it stopped. HF_TOKEN and HF_ENDPOINT are honoured. A recipe trains it further by ``start``.
    """
    from groundup.core.plan import format_bytes
    from groundup.models.fetch import fetch as download
    from groundup.models.start import said_of_folder

    terminal.begin("fetch", [name if revision is None else f"{name} at {revision}"])
    with terminal.busy("downloading"):
        folder = download(name, out, revision)
    size = format_bytes(sum(path.stat().st_size for path in folder.glob("*.safetensors")))
    terminal.say(f"  {size} of weights; {said_of_folder(folder)}")
    terminal.say(f'\n[bold]{folder}[/bold] holds it. A recipe begins with it by a line: start = "{folder.resolve()}"')
    return folder


def convert(
    file: str | Path, model: str | Path, *overrides: str, mapping: Path | None = None, out: Path | None = None
) -> Path:
    """Turn a foreign file of weights, torch's or safetensors, into a folder that a recipe can start from.

    ``model`` is what the weights are for: a name with its arguments (CifarResNet depth=20 num_classes=10), a recipe, or
    a folder with a config.json. Which tensor is which is shown, every one of both sides. Where a place is guessed, or a
    tensor has none, nothing is converted: the proposal is written as TOML, to be looked over and given back by
    ``mapping``. The folder is ``models/NAME`` unless told otherwise.

    >>> convert("resnet20.th", "CifarResNet", "depth=20", "num_classes=10")
    """
    from groundup.core.run import refuse_existing
    from groundup.models.convert import carry_over, propose, read_foreign, read_mapping, take_published
    from groundup.models.start import MAPPING, write_start

    folder = out or Path("models") / Path(file).stem
    refuse_existing(folder)
    terminal.begin("convert", [str(file)])
    given, unused = read_mapping(mapping) if mapping is not None else ({}, ())
    theirs = read_foreign(file)
    use, made = _model_for(model, overrides)
    found = take_published(theirs, made, Path(file)) if mapping is None else None
    if found is None:
        found = propose(theirs, made, given, unused)
        terminal.mapping(found.tables(), found.counts())
        if mapping is None and (found.guesses or not found.complete):
            _write_proposal(found.to_toml(), folder.with_name(f"{folder.name}-{MAPPING}"))
        carry_over(found, theirs, made)
    else:
        terminal.mapping(found.tables(), found.counts())
    write_start(made, use, folder, {MAPPING: found.to_toml()})
    terminal.say("  read back: every tensor is the one that was written")
    terminal.say(f'\n[bold]{folder}[/bold] is written. A recipe begins with it by a line: start = "{folder.resolve()}"')
    return folder


def _model_for(model: str | Path, overrides: tuple[str, ...]) -> tuple[Use, nn.Module]:
    """The call that makes a model, and the model: by a recipe, by a folder with a config.json, or by name."""
    from groundup.core.errors import RecipeError
    from groundup.core.recipe import read_call
    from groundup.core.use import check as checked
    from groundup.core.use import make
    from groundup.models.start import published_model, spelled

    if Path(model).is_file():
        prepared = prepare(model, *overrides)
        use = spelled(prepared.recipe.model, prepared.sizes)
        return use, make(use, "model", where="recipe.model")
    if Path(model).is_dir():
        if overrides:
            raise RecipeError(f"convert: {model} says what the model is by its config.json; read {overrides[0]!r} too.")
        return published_model(Path(model))
    use = checked(read_call(str(model), overrides), "model", "model")
    return use, make(use, "model")


def _write_proposal(text: str, file: Path) -> None:
    from groundup.core.errors import CheckpointError

    if file.exists():
        raise CheckpointError(f"{file}: lies there already. Give it back with --mapping {file}, or move it away.")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    terminal.warn(f"{file} is the proposal. Look it over, then run the same line again with --mapping {file}")
