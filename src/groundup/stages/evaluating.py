"""What a trained model is worth: its metrics on held-out rows, beside baselines, and on leaked rows apart."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np

from groundup import evaluation, terminal
from groundup.core.errors import RecipeError
from groundup.core.recipe import Recipe
from groundup.core.report import Metric, Report
from groundup.core.run import Run
from groundup.core.use import make
from groundup.data import any_size
from groundup.data.samples.targets import class_names
from groundup.evaluation import Outcome
from groundup.stages.designing import as_designed
from groundup.stages.prepared import Prepared
from groundup.stages.preparing import short
from groundup.stages.trained import Trained
from groundup.training import choose_precision


def report_on(trained: Trained) -> Report:
    """Metrics on the held-out split with their intervals, beside the recipe's baselines on the same samples."""
    prepared, recipe = trained.prepared, trained.prepared.recipe
    split = prepared.held_out
    metrics = [make(use, "metrics") for use in recipe.evaluation.metrics]
    outcome = measure(trained)
    found = {"model": evaluation.score(metrics, outcome, recipe.seed)}
    for use in recipe.evaluation.baselines:
        with terminal.busy(f"baseline {short(use)}"):
            answers = make(use, "baselines")(prepared.encoded["train"], prepared.encoded[split])
        found[short(use)] = evaluation.score_baseline(metrics, answers, outcome, recipe.seed)
    terminal.metrics(split, found)
    apart = _scores_apart(trained, outcome)
    if apart:
        terminal.metrics(f"{split}: leaked rows apart", {"all": found["model"], **apart})
    report = Report(split, found.pop("model"), found, recipe.digest(), prepared.fingerprint, leaks=apart)
    target = (prepared.samples.learned or {}).get("target") or {}
    if "classes" not in target:
        return report
    return dataclasses.replace(report, figures=evaluation.pictures_of(outcome, class_names(target)))


def demand_start(recipe: Recipe) -> Recipe:
    """The recipe. Raises RecipeError where it starts from no weights."""
    if recipe.start is None:
        raise RecipeError(
            "recipe.start: it names no weights, so there is nothing to measure. Train first: groundup train."
        )
    terminal.begin(recipe.name, [f"the weights of {recipe.start}, untrained"])
    return recipe


def report_on_start(prepared: Prepared) -> Report:
    """The figures of the weights that a recipe starts from, before anything is learned."""
    trained = as_designed(Run(Path()), prepared)
    terminal.stage("evaluate", f"on {prepared.held_out}")
    return report_on(trained)


def _scores_apart(trained: Trained, outcome: Outcome) -> dict[str, dict[str, Metric]]:
    """The metrics on rows that stand in an earlier split as well, and on the others; empty where none does."""
    prepared, recipe = trained.prepared, trained.prepared.recipe
    split = prepared.held_out
    leaked = {leak.row for leak in prepared.leaks if leak.split == split}
    if not leaked or prepared.samples.task == "forecast":  # a window is of many rows
        return {}
    metrics = [make(use, "metrics") for use in recipe.evaluation.metrics]
    if prepared.samples.task != "generate":
        return evaluation.score_apart(metrics, outcome, leaked, recipe.seed)
    part = prepared.splits.parts()[split]
    found, marked = {}, any_size.marked(part, leaked)
    for name, rows in (("clean", ~marked), ("leaked", marked)):
        if rows.any():  # a text's windows may hold several texts, so these are cut anew
            with contextlib.closing(prepared.shop.executor):
                some = any_size.take(prepared.shop, part, np.flatnonzero(rows), f"{split}-{name}")
                encoded = any_size.encode(prepared.shop, prepared.samples, some, f"{split}-{name}-samples")
            again = dataclasses.replace(prepared, encoded={**prepared.encoded, split: encoded})
            answers = measure(dataclasses.replace(trained, prepared=again))
            found[name] = evaluation.score(metrics, answers, recipe.seed)
    return found


def scores(trained: Trained) -> dict[str, Metric]:
    """The recipe's metrics of the model on the held-out split."""
    metrics = [make(use, "metrics") for use in trained.prepared.recipe.evaluation.metrics]
    return dict(evaluation.score(metrics, measure(trained), trained.prepared.recipe.seed))


def measure(trained: Trained) -> Outcome:
    """The model's answers on the held-out split beside the truth."""
    prepared, device = trained.prepared, next(trained.model.parameters()).device
    size = sum(p.numel() for p in trained.model.parameters())
    precision = choose_precision(trained.training.precision, device, size)
    batches = prepared.once(prepared.held_out, trained.training.batch_size)
    with terminal.busy("measuring"), precision.autocast():
        return evaluation.measure(trained.model, batches, prepared.samples, prepared.encoded[prepared.held_out])
