"""The model, and all that is made to train it: what the recipe names, with sizes that the data have."""

from __future__ import annotations

import math

import torch
from torch import nn

from groundup import planning, proof
from groundup.core.batch import Bookmark
from groundup.core.errors import RecipeError
from groundup.core.plan import Plan
from groundup.core.recipe import Training
from groundup.core.report import Proof
from groundup.core.run import Run
from groundup.core.structure import Layer
from groundup.core.use import make, resolve, signature_of
from groundup.nn.init import initialise
from groundup.nn.swap import swap
from groundup.optim import parameter_groups
from groundup.stages.prepared import Prepared
from groundup.stages.trained import Objective, Trained
from groundup.training import choose_device, choose_precision, move, seed_everything


def design(prepared: Prepared) -> nn.Module:
    """The model as the recipe describes it: sizes taken from the data, swapped, initialised by the seed.

    Where it starts from weights that lie somewhere, it has these.
    """
    recipe = prepared.recipe
    _need_categories_taken(prepared)
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


def as_designed(run: Run, prepared: Prepared) -> Trained:
    """The model of a run before its weights are read, where it is to be carried out."""
    training = prepared.recipe.training
    model = move(design(prepared), choose_device(training.device))
    return Trained(run, prepared, model, training, objective(training, prepared))


def _need_categories_taken(prepared: Prepared) -> None:
    """Raises RecipeError where an input is a category's index and the model would take it for a number."""
    target = prepared.recipe.model.target
    taken, _ = signature_of(resolve(target, "model", where="recipe.model"))
    if "categories" in prepared.sizes and "categories" not in taken:
        known = ", ".join(prepared.samples.learned["categories"])
        raise RecipeError(
            f"recipe.model: {target.rpartition(':')[2]} takes numbers, and there is category: {known}. Turn categories "
            'into numbers with { use = "OneHot" } under prepare, leave them out with samples.inputs, or take '
            "FTTransformer, which learns a vector for each category."
        )


def objective(training: Training, prepared: Prepared) -> Objective:
    """What is minimised: ``(model, batch) -> Loss``."""
    counts = prepared.class_counts
    made: Objective = make(training.objective, "objective", where="recipe.training.objective", class_counts=counts)
    return made


def optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer over the model's parameters, in the recipe's groups."""
    groups = parameter_groups(model, rules=training.groups)
    made: torch.optim.Optimizer = make(
        training.optimizer, "optimizer", where="recipe.training.optimizer", params=groups
    )
    return made


def steps_of(prepared: Prepared, training: Training) -> int | None:
    """The budget in steps, or None where it is given in minutes and has to be measured."""
    if training.steps is not None:
        return training.steps
    if training.epochs is None:
        return None
    a_pass = math.ceil(len(prepared.encoded["train"]) / training.batch_size)
    return max(1, round(training.epochs * a_pass))


def outline(prepared: Prepared, model: nn.Module, training: Training) -> Layer:
    """The model's structure, with what each layer makes of one sample."""
    return planning.outline(model, prepared.first("train", 2), objective(training, prepared))


def plan(prepared: Prepared, model: nn.Module, training: Training) -> tuple[Plan, Proof]:
    """Memory and time before anything is spent, and whether the memory is there."""
    device = choose_device(training.device)
    precision = choose_precision(training.precision, device, sum(p.numel() for p in model.parameters()))
    batch = next(
        next(prepared.batches(training, Bookmark())).to("cpu").parts(-(-training.batch_size // training.accumulate))
    )
    wanted = objective(training, prepared)
    planned = planning.plan_memory(
        model, batch, optimizer(model, training), wanted, precision.name, training.accumulate
    )
    speed = planning.measure_speed(device.type)
    planned = planning.plan_time(planned, speed, steps_of(prepared, training), training.minutes)
    machine = planning.hardware()
    room = machine.gpus[device.index or 0][1] if device.type == "cuda" else machine.available_bytes
    return planned, Proof((proof.fits_memory(planned, room),))
