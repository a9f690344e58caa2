"""The whole river on one page: from raw files to something trained, fine-tuned, evaluated and used.

Each verb reads top to bottom, and imports what it needs when it is called. What a stage does stands in ``stages``, one
module for each; the parts meet nowhere but here and there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundup import terminal

if TYPE_CHECKING:
    from groundup.core.checkpoint import Checkpoint
    from groundup.core.plan import Plan
    from groundup.core.preprocessing import Preprocessing
    from groundup.core.recipe import Finetune, Recipe
    from groundup.core.report import Proof, Report
    from groundup.core.run import Run
    from groundup.core.structure import Layer
    from groundup.data.cleaning.labels import LabelErrors
    from groundup.data.versions import Difference
    from groundup.stages.prepared import Prepared
    from groundup.stages.trained import Trained

# ---------------------------------------------------------------------------------------------- from data to a model


def run(recipe: str | Path | Recipe, *overrides: str, out: Path | None = None) -> Path:
    """The whole river: train and evaluate, then fine-tune and write samples where the recipe asks for it."""
    from groundup.stages import learning, predicting, preparing

    recipe = preparing.as_recipe(recipe, overrides)
    trained = _train(recipe, out)
    tuned = _finetune(trained, recipe.finetune) if recipe.finetune is not None else trained
    if recipe.prompts:
        predicting.write_samples(tuned)
    stages = terminal.stages()
    trained.run.write_json("stages.json", stages)
    terminal.spent(stages)
    learning.write_page(trained.run)
    terminal.say(f"\n[bold]Done.[/bold] Everything lies in [bold]{trained.run.folder}[/bold]; open report.html there.")
    return trained.run.folder


def prepare(recipe: str | Path | Recipe, *overrides: str, preprocessing: Preprocessing | None = None) -> Prepared:
    """Sources, cleaning, split, preprocessing fitted on train (or as given), samples.

    What does not fit in ``recipe.data.memory`` goes through files, a shard at a time; the steps are the same.
    """
    from groundup.core.errors import RecipeError
    from groundup.data import any_size
    from groundup.stages import preparing, starting
    from groundup.stages.prepared import Prepared

    recipe, fresh = preparing.as_recipe(recipe, overrides), preprocessing is None
    shop = preparing.workshop(recipe)
    with contextlib.closing(shop.executor):
        source = preparing.read(recipe, shop)
        recipe = preparing.settled(recipe, source, shop)
        cleaned = preparing.clean(recipe, source, shop)
        fingerprint = any_size.fingerprint(cleaned)
        unprepared, leaks = preparing.split(recipe, cleaned, source, shop)
        terminal.stage("preprocess", "fitted on train alone" if preprocessing is None else "as it was fitted")
        with terminal.busy("fitting and encoding"):
            if preprocessing is None:
                preprocessing, splits = preparing.fit(recipe, unprepared, shop)
            else:
                splits = any_size.carry_out_fitted(shop, preprocessing, unprepared)
            splits = any_size.all_written(shop, splits)
            encoded = any_size.encode_all(shop, preprocessing.samples, splits)
    terminal.preprocessing(preprocessing, splits, encoded)
    start = starting.start_of(recipe, preprocessing.samples) if fresh else None
    if start is not None:
        recipe = dataclasses.replace(recipe, model=start.model)
    if recipe.prompts and preprocessing.samples.task != "generate":
        raise RecipeError(f"recipe.prompts: this model writes no text; its task is {preprocessing.samples.task}.")
    return Prepared(recipe, splits, preprocessing, encoded, leaks, fingerprint, unprepared, shop, start)


def train(
    recipe: str | Path | Recipe | None = None, *overrides: str, out: Path | None = None, resume: Path | None = None
) -> Path:
    """Prepare, prove, plan, train, evaluate; gives the run's folder.

    ``resume`` names a run instead of a recipe: it goes on from its newest checkpoint that verifies, and ends
    as an unbroken run would have.
    """
    from groundup.core.errors import RecipeError
    from groundup.stages import preparing

    if resume is not None:
        if recipe is not None:
            raise RecipeError("train: a run that is resumed has its own recipe; give a recipe or resume, not both.")
        return _resume(resume).run.folder
    if recipe is None:
        raise RecipeError("train: give a recipe, or resume=RUN to go on with a run.")
    return _train(preparing.as_recipe(recipe, overrides), out).run.folder


def _train(recipe: Recipe, out: Path | None) -> Trained:
    from groundup.core.run import Run, refuse_existing
    from groundup.stages import designing, learning, proving
    from groundup.stages.preparing import short
    from groundup.stages.trained import Trained

    if recipe.runs():
        return _train_several(recipe, Run.create(recipe, out))
    refuse_existing(out)
    terminal.begin(recipe.name, [f"recipe {recipe.digest()[:12]}, seed {recipe.seed}"])
    prepared = prepare(recipe)
    terminal.stage("design", short(recipe.model if prepared.start is None else prepared.start.call))
    model = designing.design(prepared)
    terminal.model(model)
    terminal.stage("prove", "before the first step")
    proof = proving.prove(prepared, model, recipe.training)
    terminal.proof(proof)
    terminal.sample(prepared.sample())
    proof.demand()
    terminal.stage("plan", "memory and time, before they are spent")
    planned, fits = designing.plan(prepared, model, recipe.training)
    terminal.plan(planned)
    fits.demand()
    run = Run.create(prepared.recipe, out)
    with learning.not_without_a_checkpoint(run):
        learning.write_borders(run, prepared, proof + fits, planned)
        run.write_json("structure.json", designing.outline(prepared, model, recipe.training).to_dict())
        objective = designing.objective(recipe.training, prepared)
        trained = Trained(run, prepared, model, recipe.training, objective)
        terminal.stage("train", str(run.folder))
        learning.learn(trained, learning.begin(trained))
    return _conclude(trained)


def _conclude(trained: Trained) -> Trained:
    """After the last step: choose the weights, prove that they read back, evaluate, write the report."""
    from groundup.stages import evaluating, learning, proving

    run, prepared = trained.run, trained.prepared
    checkpoint = learning.kept(trained)
    terminal.stage("evaluate", f"{checkpoint.folder.name} on {prepared.held_out}")
    proving.prove_same(trained, checkpoint)
    run.choose(checkpoint)
    report = evaluating.report_on(trained)
    run.write_json("report.json", report.to_dict())
    learning.write_page(run)
    return dataclasses.replace(trained, report=report)


def _train_several(recipe: Recipe, parent: Run) -> Trained:
    """The same recipe once for each seed (split, initialisation and order) or fold, and the figures over all of them.

    Where the parent was stopped, parts that have their report stay as they are.
    """
    from groundup.stages import several

    folders: list[Path] = []
    for name, one in recipe.runs():
        folder = parent.folder / name
        if not (folder / "report.json").is_file():
            with terminal.quiet() if folders else contextlib.nullcontext():
                if several.can_resume(one, folder):
                    _resume(folder)
                else:
                    shutil.rmtree(folder, ignore_errors=True)  # killed before its first checkpoint
                    _train(one, folder)
        folders.append(folder)
        terminal.say(f"  {name.replace('-', ' ')}: done")
    report = several.conclude_all(parent, folders)
    with terminal.quiet():
        return dataclasses.replace(_reopen(folders[0]), run=parent, report=report)


# ---------------------------------------------------------------------------------------------- from a run


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


def _finetune(trained: Trained, wanted: Finetune, out: Path | None = None) -> Trained:
    """Another training from these weights: a method that says what is trained, samples and a budget of its own."""
    from groundup.core.run import Run, refuse_existing
    from groundup.core.use import make
    from groundup.stages import designing, evaluating, finetuning, learning, proving
    from groundup.stages.preparing import short
    from groundup.training import seed_everything

    out = out or trained.run.folder / "finetune"
    refuse_existing(out)
    terminal.stage("fine-tune", short(wanted.method))
    seed_everything(trained.prepared.recipe.seed)
    prepared = finetuning.prepared_for(trained.prepared, wanted)
    objective = designing.objective(wanted.training, prepared)
    tuned = dataclasses.replace(trained, prepared=prepared, training=wanted.training, objective=objective)
    before = evaluating.scores(tuned)
    make(wanted.method, "method", where="recipe.finetune.method")(tuned.model)
    terminal.model(tuned.model)
    proof = proving.prove(prepared, tuned.model, wanted.training, fresh=False)
    terminal.proof(proof)
    terminal.sample(prepared.sample())
    proof.demand()
    planned, fits = designing.plan(prepared, tuned.model, wanted.training)
    terminal.plan(planned)
    fits.demand()
    base = trained.run.checkpoint()
    tuned = dataclasses.replace(tuned, run=Run.create(prepared.recipe, out))
    with learning.not_without_a_checkpoint(tuned.run):
        learning.write_borders(tuned.run, prepared, proof + fits, planned)
        tuned.run.write_json("before.json", {name: dataclasses.asdict(metric) for name, metric in before.items()})
        tuned.run.write_json("base.json", {"checkpoint": str(base.folder.resolve()), "sha256": base.digest()})
        learning.learn(tuned, learning.begin(tuned))
    return _conclude_finetuned(tuned)


def _conclude_finetuned(tuned: Trained) -> Trained:
    """Measure what fine-tuning changed, on held-out samples; fold it into plain weights; prove these equal."""
    from groundup.core.report import Metric, Report
    from groundup.stages import evaluating, finetuning, learning, proving

    run, prepared = tuned.run, tuned.prepared
    terminal.stage("evaluate", f"before and after fine-tuning, on {prepared.held_out}")
    learning.kept(tuned)
    before = {name: Metric(**values) for name, values in run.read_json("before.json").items()}
    after = evaluating.scores(tuned)
    terminal.metrics(prepared.held_out, {"before": before, "after": after})
    report = Report(prepared.held_out, after, {"before": before}, prepared.recipe.digest(), prepared.fingerprint)
    merged = finetuning.merged(tuned)
    proving.prove_same(tuned, merged, tolerance=1e-4)
    run.choose(merged)
    run.write_json("report.json", report.to_dict())
    learning.write_page(run)
    return dataclasses.replace(tuned, report=report)


def evaluate(run: str | Path) -> Report:
    """Measure a run's model on the held-out part of its data, beside the recipe's baselines.

    In place of a run a recipe may be named that starts from weights: these are measured as they are, untrained.
    """
    from groundup.stages import evaluating, looking, preparing, several

    if Path(run).is_file() and looking.is_recipe(run):
        return evaluating.report_on_start(prepare(evaluating.demand_start(preparing.as_recipe(run))))
    parts = several.parts_of(Path(run))
    if parts:
        return several.means([evaluate(part) for part in parts], parts)
    trained = _reopen(run)
    terminal.stage("evaluate", f"on {trained.prepared.held_out}")
    return evaluating.report_on(trained)


def predict(run: str | Path, *inputs: Any) -> list[dict[str, Any]]:
    """Labels, values or text for raw input: a row, a CSV file, an image, a prompt.

    A run's folder is one's own and may name any code. For a checkpoint from elsewhere take ``Predictor.load``, which
    carries out names of groundup and torch alone.
    """
    from groundup.core.run import Run
    from groundup.stages.predicting import predictor

    opened = Run.open(run)
    opened.recipe()  # what lies beside the recipe can be imported from here on
    serving = predictor(opened.checkpoint())
    return [line for raw in inputs for line in serving.predict(raw)]


def _reopen(folder: str | Path, overrides: tuple[str, ...] = ()) -> Trained:
    """A finished run with the weights it chose."""
    from groundup.core.run import Run

    run = Run.open(folder)
    checkpoint = run.checkpoint()
    trained = _opened(run, checkpoint, overrides)
    trained.model.load_state_dict(checkpoint.tensors("model.safetensors"))
    return trained


def _resume(folder: Path) -> Trained:
    """Everything as it was at the newest checkpoint that verifies; then the loop goes on."""
    from groundup.core.run import Run
    from groundup.stages import finetuning, learning

    run = Run.open(folder)
    if run.recipe().runs() and not run.checkpoints.is_dir():
        return _train_several(run.recipe(), run)
    checkpoint, passed_over = run.newest()
    for line in passed_over:
        terminal.warn(f"passed over: {line}")
    trained = _opened(run, checkpoint, same_data=True)
    finetuned = (run.folder / "before.json").is_file()
    if finetuned:
        trained = finetuning.as_stopped(trained)
    state = learning.restored(trained, checkpoint)
    terminal.stage("train", f"goes on behind step {state.step:,} of {state.total_steps:,}")
    learning.learn(trained, state)
    return _conclude_finetuned(trained) if finetuned else _conclude(trained)


def _opened(run: Run, checkpoint: Checkpoint, overrides: tuple[str, ...] = (), *, same_data: bool = False) -> Trained:
    """A run's data, prepared again by the preprocessing that was fitted then, and its model as designed."""
    from groundup.core.preprocessing import Preprocessing
    from groundup.stages import designing, learning, preparing

    recipe = preparing.as_recipe(run.recipe(), overrides)
    terminal.begin(recipe.name, [f"from {checkpoint.folder}"])
    preprocessing = Preprocessing.from_json(checkpoint.text("preprocessing.json"))
    prepared = prepare(recipe, preprocessing=preprocessing)
    learning.demand_same_data(run, checkpoint, prepared, refuse=same_data)
    return designing.as_designed(run, prepared)


# ---------------------------------------------------------------------------------------------- before a training


def check(recipe: str | Path | Recipe, *overrides: str) -> Proof:
    """Prepare the data, build the model, and prove both before anything is spent on training.

    In place of a recipe a layer may be named, by an import path or a name of ours: then what every layer promises is
    proved of it. ``input_shape=[6,8]`` says what sample it takes, and other words are its arguments.
    """
    from groundup.stages import proving

    if isinstance(recipe, (str, Path)) and not Path(recipe).is_file():
        name = str(recipe)
        if name.isidentifier() or (":" in name and Path(name).suffix not in (".toml", ".py")):
            return proving.check_layer(name, overrides)
    from groundup.stages import designing

    prepared = prepare(recipe, *overrides)
    training = prepared.recipe.training
    terminal.stage("prove", "nothing is trained")
    model = designing.design(prepared)
    proof = proving.prove(prepared, model, training) + designing.plan(prepared, model, training)[1]
    if all(check.passed for check in proof.checks):
        proving.tell_scales(prepared, model)
    terminal.proof(proof)
    return proof.demand()


def show(recipe: str | Path | Recipe, *overrides: str) -> Layer:
    """The model's structure as a tree, with shapes, parameters, operations and memory of each layer for one sample."""
    from groundup.stages import designing

    prepared = prepare(recipe, *overrides)
    terminal.stage("structure", "nothing is trained")
    outlined = designing.outline(prepared, designing.design(prepared), prepared.recipe.training)
    terminal.structure(outlined)
    return outlined


def plan(recipe: str | Path | Recipe, *overrides: str) -> Plan:
    """Memory and time of a training, part by part, with the assumptions, before it is started."""
    from groundup.stages import designing

    prepared = prepare(recipe, *overrides)
    terminal.stage("plan", "nothing is trained")
    planned, proof = designing.plan(prepared, designing.design(prepared), prepared.recipe.training)
    terminal.plan(planned)
    proof.demand()
    return planned


# ---------------------------------------------------------------------------------------------- data alone


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
    256 MiB in memory, with ``record`` whatever their size; it takes about twice what the steps change.

    >>> clean("recipes/diabetes.toml", out=Path("cleaned/diabetes"))
    """
    from groundup.data import any_size
    from groundup.data.shards import gather_removed
    from groundup.data.undoing import recording
    from groundup.stages import cleaning, preparing

    recipe = preparing.as_recipe(recipe, overrides)
    folder = out or Path("cleaned") / recipe.name
    recipe = cleaning.worked_by(recipe, runner, memory, folder)
    if cleaning.begun(recipe, folder):
        terminal.say(f"  {folder} holds this already")
        return folder
    terminal.begin(recipe.name, [f"cleaned data for {folder}"])
    shop = preparing.workshop(recipe, folder / "work")
    with contextlib.closing(shop.executor):
        source = preparing.read(recipe, shop)
        wanted = cleaning.is_recorded(record, source, shop)
        with recording(folder, shop, source) if wanted else contextlib.nullcontext((None, shop)) as (recorder, shop):
            cleaned = preparing.clean(recipe, source, shop, recorder)
            fingerprint = any_size.fingerprint(cleaned)
            splits, leaks = preparing.split(recipe, cleaned, source, shop, recorder)
            terminal.stage("prepare", "fitted on train alone")
            with terminal.busy("fitting, and carrying out"):
                schema, splits = any_size.learn_schema(shop, splits, recipe.data.on_new)
                steps, splits = any_size.fit_steps(shop, preparing.steps(recipe.data), splits, recorder)
                delivered = any_size.delivered(shop, splits, folder)
    terminal.prepared(delivered)
    if shop.folder.exists():
        gather_removed([shop.folder, *(folder / split for split in delivered.parts())], folder / "removed.jsonl")
    read = any_size.write_quarantine(shop, source, folder)
    told = {"schema": schema, "leaks": len(leaks), "fingerprint": fingerprint, "read": read}
    cleaning.write_cleaned(folder, recipe, delivered, steps, told)
    shutil.rmtree(shop.folder, ignore_errors=True)
    terminal.say(f"\n[bold]Done.[/bold] Everything lies in [bold]{folder}[/bold]; open report.html there.")
    return folder


def undo(cleaned: str | Path, *, before: str | None = None, out: Path | None = None) -> Path:
    """Give back cleaned data as they were before a step: every cell, row and column, proved by their fingerprint.

    ``cleaned`` is a folder that ``clean`` wrote. ``before`` is the number or name of a step; without it all of them are
    undone, up to the data as they were read. The data lie in ``CLEANED-before-N`` unless told otherwise: train, valid
    and test, or where the split is undone too ``data.parquet``, or the shards of ``data``. The cleaned data stay as
    they are.
    """
    from groundup.data.undoing import place_of, read_record, write_back

    place = Path(cleaned)
    terminal.begin("undo", [str(place)])
    recorded = read_record(place)
    number = place_of(recorded, before)
    terminal.undone(recorded.steps(), number)
    with terminal.busy("going back"):
        folder = write_back(recorded, number, out or place.with_name(f"{place.name}-before-{number}"))
    terminal.say(f"\n[bold]{folder}[/bold] holds the data as they were before step {number}.")
    return folder


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
    from groundup.stages import looking

    terminal.begin("inspect", [str(data) if isinstance(data, (str, Path)) else data.name])
    if isinstance(data, (str, Path)) and not looking.is_recipe(data):
        with terminal.busy("looking at every column"):
            name, found = inspect_path(data, target)
    else:
        name, found = looking.inspect_recipe(data, overrides, target)
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
    from groundup.stages import looking

    terminal.begin("diff", [str(first), str(second)])
    with terminal.busy("reading"):
        before, after = looking.version(first), looking.version(second)
    with terminal.busy("comparing"):
        found = compare(before, after, [name.strip() for name in key.split(",")] if key else [])
    terminal.difference(found)
    if out is not None:
        out.write_text(json.dumps(found.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")
    return found


def labels(
    recipe: str | Path | Recipe, *overrides: str, by: str = "logistic_regression", into: Path | None = None
) -> LabelErrors:
    """Rows of any split whose label is likely wrong, by confident learning; nothing is dropped.

    In five folds a model answers for rows that it has not seen: a logistic regression on the recipe's own prepared
    samples, or with ``by`` "recipe" the recipe's own model, trained anew for each fold. The likeliest are shown with
    what stands in them; ``into`` names a file for all of them, as JSON lines. The step DropLabelErrors drops them, from
    train alone.
    """
    from groundup.core.errors import RecipeError
    from groundup.data.cleaning import labels as checking
    from groundup.stages import labelling

    if by not in ("logistic_regression", "recipe"):
        raise RecipeError(f"labels: by is {by!r}; expected logistic_regression or recipe.")
    prepared = prepare(recipe, *overrides)
    if prepared.samples.task != "classify":
        raise RecipeError(f"labels: classes can be wrong, and this recipe's task is {prepared.samples.task}.")
    together = labelling.together(prepared)
    given, classes = checking.given_labels(together, prepared.samples.target, "labels")
    terminal.stage("cross-validate", "each row is answered for by a model that has not seen it")
    probabilities = labelling.out_of_fold(prepared, together, given, classes, own_model=by == "recipe")
    found = checking.judged(given, probabilities, classes)
    rows = labelling.told(prepared, together, found)
    terminal.label_errors(rows, len(given))
    if into is not None:
        into.write_text("".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows), "utf-8")
    return found


# ---------------------------------------------------------------------------------------------- published weights


def fetch(name: str, *, revision: str | None = None, out: Path | None = None) -> Path:
    """Download a published model, ``org/name``, from a hub: safetensors and the texts beside them, nothing else.

    ``revision`` is a branch, tag or commit. Lies in ``models/NAME`` unless told otherwise; a download that broke off
    goes on where it stopped. HF_TOKEN and HF_ENDPOINT are honoured. A recipe trains it further by ``start``.
    """
    from groundup.stages import starting

    terminal.begin("fetch", [name if revision is None else f"{name} at {revision}"])
    return starting.downloaded(name, revision, out)


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
    from groundup.stages import starting

    terminal.begin("convert", [str(file)])
    if Path(model).is_file():
        made = starting.model_prepared(prepare(model, *overrides))
    else:
        made = starting.model_named(model, overrides)
    return starting.converted(Path(file), made, mapping, out or Path("models") / Path(file).stem)
