"""What must hold before the first step, and of what serves after the last: each check says what it saw."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn

from groundup import evaluation, proof, terminal
from groundup.core.batch import Batch, Bookmark
from groundup.core.checkpoint import Checkpoint
from groundup.core.errors import DataError, RecipeError
from groundup.core.misfit import layers_named
from groundup.core.recipe import Training, read_call
from groundup.core.report import Check, LayerSignal, Proof
from groundup.core.use import check as checked
from groundup.core.use import make
from groundup.data import any_size
from groundup.data.causality import look_ahead
from groundup.nn.init import started_weights
from groundup.stages.designing import objective
from groundup.stages.predicting import predictor
from groundup.stages.prepared import Prepared
from groundup.stages.preparing import augmentation, short
from groundup.stages.trained import Objective, Trained

SIGNAL_SAMPLES = 64
"""Samples that the scale of a signal through the layers is measured on."""


def prove(prepared: Prepared, model: nn.Module, training: Training, *, fresh: bool = True) -> Proof:
    """What must hold before step 1; each check says what it saw. A model that is not fresh may know something."""
    wanted = objective(training, prepared)
    batch = next(prepared.batches(training, Bookmark())).to("cpu")  # where the model is until it is trained
    _try_mixed_targets(prepared, model, batch, wanted)
    some = prepared.targets_of_some("train")
    refuse = prepared.recipe.data.leaks == "refuse"
    checks = [proof.no_leaks(prepared.leaks, refuse=refuse), proof.masks([some])]
    if prepared.samples.task == "generate":
        checks.append(proof.end_of_text_learned(some, prepared.samples.learned_tokenizer.end_of_text))
    else:
        checks.append(proof.constant_target(some.targets["targets"], prepared.samples.target))
    if prepared.samples.task == "forecast":
        valid = any_size.whole(prepared.shop, prepared.unprepared.valid, "no look-ahead")
        checks.append(look_ahead(prepared.samples, valid, prepared.preprocessing))
    fresh = fresh and prepared.start is None and not getattr(model, "ANSWERS_FROM_INPUTS", False)
    expected = _expected_loss(prepared, training, batch) if fresh else None
    if expected is not None:
        tolerance = 0.1 if prepared.samples.task == "generate" else 0.5  # few samples and features scatter more
        checks.append(proof.initial_loss(_loss_of(model, batch, wanted), expected, tolerance))
    checks.append(proof.gradients(model, wanted, batch))
    if fresh:
        checks.append(proof.promised_scale(started_weights(model)))
        checks.append(signal(prepared, model, training)[0])
    _try_metrics(prepared, model)
    return Proof(tuple(checks))


def check_layer(target: str, arguments: tuple[str, ...]) -> Proof:
    """What every layer promises, proved of one by its import path or name; ``input_shape`` among its arguments."""
    use = read_call(target, arguments)
    shape = use.arguments.get("input_shape")
    rest = {name: value for name, value in use.arguments.items() if name != "input_shape"}
    layer = checked(type(use)(target, **rest), "layers", "layer")
    terminal.say(f"  what every layer promises, asked of {target}")
    found = proof.contract(layer, shape)
    terminal.proof(found)
    return found.demand()


def _try_mixed_targets(prepared: Prepared, model: nn.Module, batch: Batch, wanted: Objective) -> None:
    """Augmentation that mixes samples makes probabilities of classes: a loss that cannot take them is refused now."""
    if prepared.samples.task != "classify" or not batch.targets["targets"].is_floating_point():
        return
    try:
        _loss_of(model, batch, wanted)
    except Exception as error:  # whatever a loss of one's own says of targets that it does not know
        names = [type(step).__name__ for step in augmentation(prepared.recipe) if hasattr(step, "draw_mix")]
        raise RecipeError(
            f"recipe.data.augment: {' and '.join(names)}: mixing makes probabilities [B, classes] of classes, and the "
            f"objective does not take them ({type(error).__name__}: {error}). Use cross_entropy, or leave out "
            "the steps that mix."
        ) from error


def signal(prepared: Prepared, model: nn.Module, training: Training) -> tuple[Check, tuple[LayerSignal, ...]]:
    """How large activations and gradients are through the depth of the model."""
    batch = prepared.first("train", min(SIGNAL_SAMPLES, training.batch_size))
    return proof.signal(model, objective(training, prepared), batch)


def tell_scales(prepared: Prepared, model: nn.Module) -> None:
    """Say what initialisers promised beside what they left, and how a signal fares through the depth."""
    terminal.started(started_weights(model))
    terminal.signals(signal(prepared, model, prepared.recipe.training)[1])


def _try_metrics(prepared: Prepared, model: nn.Module) -> None:
    """Each metric once on the untrained model: one that does not fit the task is refused now, not at the end."""
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
    name = short(loss) if loss is not None else "cross_entropy"
    if task == "classify" and name == "cross_entropy":
        return math.log(sizes["num_classes"])
    if task in ("regress", "forecast") and name == "mse":
        return float(batch.targets["targets"].square().mean())
    return None


def _loss_of(model: nn.Module, batch: Batch, wanted: Objective) -> float:
    with torch.no_grad(), layers_named(model):
        return float(wanted(model, batch).total)


def prove_same(trained: Trained, checkpoint: Checkpoint, tolerance: float = 0.0) -> None:
    """What serves, made from the checkpoint's folder alone, gives the trained model's outputs."""
    batch = trained.prepared.first(trained.prepared.held_out, 8)
    device = next(trained.model.parameters()).device
    served = predictor(checkpoint).model.to(device)
    found = Proof((proof.same_outputs(trained.model, served, batch.to(device), tolerance),))
    terminal.proof(found)
    added = dataclasses.asdict(found)["checks"]
    names = [check["name"] for check in added]
    before = [check for check in trained.run.read_json("proof.json")["checks"] if check["name"] not in names]
    trained.run.write_json("proof.json", {"checks": [*before, *added]})
    found.demand()
