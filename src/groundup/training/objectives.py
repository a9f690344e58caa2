"""What a step descends on: functions ``(model, batch) -> Loss``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from groundup.core.batch import Batch, Loss
from groundup.core.errors import ProofError, RecipeError
from groundup.core.use import resolve

__all__ = ["language_modelling", "supervised"]

IGNORED = -100
"""The class of a target that is no target."""

LossFunction = Callable[..., Tensor]


class NoTargetsError(ProofError):
    """A batch, or a part of one, in which there is nothing to learn."""


def supervised(
    model: nn.Module,
    batch: Batch,
    loss: LossFunction | None = None,
    class_weights: Sequence[float] | Literal["balanced"] | None = None,
    class_counts: Sequence[int] | None = None,
    balance: float = 0.0,
) -> Loss:
    """``loss(model(**inputs), **targets)``, a mean over the targets; without ``loss``, the cross entropy.

    Class targets of -100 do not count. ``class_weights`` are given to the loss, one for each class in sorted order, or
    "balanced": n / (C n_c) for a class with n_c of the n rows of train and C classes, so that all classes weigh the
    same together (King and Zeng 2001); ``class_counts`` are train's n_c, which a run supplies. In training
    ``balance`` times the mean balance loss of the model's mixtures of experts is added. Raises NoTargetsError when no
    target counts, RecipeError when the loss is not one number, or takes no class weights.
    """
    count: float = count_targets(batch)
    loss = loss or _cross_entropy()
    if class_weights is not None:
        weights = balanced_weights(class_counts) if class_weights == "balanced" else list(class_weights)
        loss, count = _weighted(loss, weights, batch, count)
    with _balances(model, balance) as balances:
        output = model(**batch.inputs)
    if len(batch.targets) == 1:  # by place, since torch's own losses name it otherwise
        total = _scalar(loss(output, *batch.targets.values()), loss)
    else:
        total = _scalar(loss(output, **batch.targets), loss)
    return _with_balance(total, count, balances, balance)


def balanced_weights(class_counts: Sequence[int] | None) -> list[float]:
    """n / (C n_c) for each class. Raises RecipeError where there are no counts, or a class has none."""
    if not class_counts or min(class_counts) < 1:
        raise RecipeError(
            'objective.class_weights: "balanced" is made from how many rows of each class train has; '
            f"read {class_counts}. Is there a class to predict?"
        )
    total = sum(class_counts)
    return [total / (len(class_counts) * count) for count in class_counts]


def _weighted(loss: LossFunction, weights: list[float], batch: Batch, count: float) -> tuple[LossFunction, float]:
    """The loss with its weights, and what its mean is over: the targets, or for cross entropy their weights."""
    plain = getattr(loss, "func", loss)
    if "class_weights" not in inspect.signature(plain).parameters:
        name = getattr(plain, "__name__", type(plain).__name__)
        raise RecipeError(
            f"objective.class_weights: the loss {name} takes no class_weights; cross_entropy and focal do."
        )
    weighted = functools.partial(loss, class_weights=weights)
    if plain is not _cross_entropy():
        return weighted, count
    targets = batch.targets["targets"]
    table = torch.tensor(weights, dtype=torch.float64)
    if targets.is_floating_point():
        return weighted, float((targets.detach().cpu().to(torch.float64) @ table).sum())
    numbers = targets.detach().cpu().flatten()
    return weighted, float(table[numbers[numbers != IGNORED]].sum())


def language_modelling(model: nn.Module, batch: Batch, balance: float = 0.0) -> Loss:
    """The mean cross entropy of each next token, which the model computes itself: ``model(**inputs, **targets)``.

    ``count`` is the number of tokens that are predicted: targets other than -100. In training ``balance`` times the
    mean balance loss of its mixtures of experts is added. Raises NoTargetsError when there are no targets, RecipeError
    when there is nothing to balance, or the model does not take what the batch has.
    """
    count = count_targets(batch)
    with _balances(model, balance) as balances:
        try:
            output = model(**batch.inputs, **batch.targets)
        except TypeError as error:
            _demand_taken(model, batch, error)
            raise
        total = _scalar(output, model)
    return _with_balance(total, count, balances, balance)


def _demand_taken(model: nn.Module, batch: Batch, error: TypeError) -> None:
    """Raise RecipeError where a call failed since samples and model are not made for each other."""
    kind: Any = type(model)
    takes = _taken(kind)
    given = [*batch.inputs, *batch.targets]
    needed = [name for name, optional in takes.items() if not optional and name not in given]
    if takes and (needed or not takes.keys() >= set(given)):
        raise RecipeError(
            f"recipe.model: {type(model).__name__} takes {', '.join(takes)}; the samples give {', '.join(given)}. "
            "Samples and model do not fit: a model that goes on from a text takes PackedText or FunctionBodies, one "
            "that reads a text and writes another TextPairs."
        ) from error


def _taken(kind: type[nn.Module]) -> dict[str, bool]:
    """What a model's forward takes by name, and whether it can do without; empty where it takes anything."""
    parameters = list(inspect.signature(kind.forward).parameters.values())[1:]
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters):
        return {}
    return {p.name: p.default is not p.empty for p in parameters}


@contextmanager
def _balances(model: nn.Module, weight: float) -> Iterator[list[Tensor]]:
    """Gathers ``module.balance(inputs)`` of every module that has such a method, while the model is carried out.

    Nothing is left in the modules: what they route is a function of their inputs alone.
    """
    found: list[Tensor] = []
    if not weight or not model.training:
        yield found
        return
    mixtures = [module for module in model.modules() if callable(getattr(module, "balance", None))]
    if not mixtures:
        raise RecipeError(f"objective.balance: read {weight}, and the model has no mixture of experts; leave it out.")
    handles = [m.register_forward_hook(lambda m, inputs, _: found.append(m.balance(inputs[0]))) for m in mixtures]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _with_balance(total: Tensor, count: float, balances: list[Tensor], weight: float) -> Loss:
    if not balances:
        return Loss(total, count)
    balance = torch.stack(balances).mean()
    return Loss(total + weight * balance, count, {"balance": balance.detach()})


def count_targets(batch: Batch) -> int:
    """How many targets count. Raises NoTargetsError, which names the rows, when none does."""
    targets: Mapping[str, Tensor] = batch.targets
    if "targets" not in targets:
        raise RecipeError(f"the objective needs targets; the batch has {', '.join(targets) or 'none'}.")
    values = targets["targets"]
    masked = not (values.is_floating_point() or values.is_complex())
    count = int((values != IGNORED).sum()) if masked else values.numel()
    if count == 0:
        raise NoTargetsError(
            f"every target of this batch is masked ({describe_rows(batch)}), so there is nothing to learn from it: "
            "look at how the mask is made, and at samples cut off before their answer begins."
        )
    return count


def describe_rows(batch: Batch, positions: list[int] | None = None) -> str:
    """Where samples of a batch came from, for messages: at most eight rows."""
    if batch.rows is None:
        return "rows unknown" if positions is None else f"samples {_listed(positions)} of the batch"
    rows = batch.rows.tolist() if positions is None else [batch.rows[position] for position in positions]
    return f"row{'s' if len(rows) > 1 else ''} {_listed(rows)}"


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values[:8])) + (f" and {len(values) - 8} more" if len(values) > 8 else "")


def _scalar(total: Any, source: Any) -> Tensor:
    if not isinstance(total, Tensor) or total.ndim:
        name = getattr(source, "__name__", None) or type(source).__name__
        seen = f"shape {tuple(total.shape)}" if isinstance(total, Tensor) else type(total).__name__
        raise RecipeError(f"{name}: a loss is one number, the mean over the targets; this one gave {seen}.")
    return total


@functools.cache
def _cross_entropy() -> LossFunction:
    return cast("LossFunction", resolve("cross_entropy", "loss"))
