"""The gradient of a batch, whole or in parts that add up exactly."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from groundup.core.batch import Batch, Loss
from groundup.training.objectives import NoTargetsError
from groundup.training.precision import Precision

Objective = Callable[[nn.Module, Batch], Loss]


@dataclasses.dataclass(frozen=True)
class Computed:
    """A batch's mean loss and its named parts; the gradients lie in the parameters."""

    loss: float
    parts: Mapping[str, float]
    count: float


def micro_batches(batch: Batch, accumulate: int) -> Iterator[Batch]:
    """The batch in at most ``accumulate`` parts of nearly equal size."""
    return batch.parts(math.ceil(batch.num_samples / accumulate)) if accumulate > 1 else iter((batch,))


def compute_gradients(
    model: nn.Module, objective: Objective, batch: Batch, precision: Precision, accumulate: int = 1
) -> Computed:
    """Give the parameters, which have no gradients yet, those of the batch's mean loss, in ``accumulate`` parts.

    The gradient is the same for any number of parts: each part's mean is weighted by its count of
    targets, and the sum divided by the whole count. A part in which nothing counts adds nothing.
    """
    if accumulate == 1:
        loss = _evaluate(model, objective, batch, precision)
        loss.total.backward()  # type: ignore[no-untyped-call]
        return Computed(loss.total.item(), {name: value.item() for name, value in loss.parts.items()}, loss.count)
    total, count, parts = 0.0, 0.0, dict[str, float]()
    nothing: NoTargetsError | None = None
    for part in micro_batches(batch, accumulate):
        try:
            loss = _evaluate(model, objective, part, precision)
        except NoTargetsError as error:
            nothing = error
            continue
        loss.total.backward(torch.full_like(loss.total, loss.count))  # type: ignore[no-untyped-call]
        total += loss.total.item() * loss.count
        count += loss.count
        for name, value in loss.parts.items():
            parts[name] = parts.get(name, 0.0) + value.item() * loss.count
    if nothing is not None and not count:
        raise nothing
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if gradients:
        torch._foreach_div_(gradients, count)
    return Computed(total / count, {name: value / count for name, value in parts.items()}, count)


def _evaluate(model: nn.Module, objective: Objective, batch: Batch, precision: Precision) -> Loss:
    with torch.enable_grad(), precision.autocast():
        return objective(model, batch)


def gradient_norm(gradients: list[Tensor]) -> float:
    """The Euclidean norm over all gradients together."""
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
