"""Run a model over batches without gradients, and gather what metrics are computed from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from groundup.core.batch import Batch, Loss
from groundup.core.errors import DataError

Array = np.ndarray[Any, Any]
Objective = Callable[[nn.Module, Batch], Loss]

MASKED = -100
"""The target that marks a position as not learned from."""


class Decoder(Protocol):
    """What turns outputs and targets into a person's units: the fitted builder of samples."""

    task: str

    def decode(self, output: Tensor) -> Array:
        """A model's output as probabilities or values."""
        ...

    def decode_targets(self, targets: Mapping[str, Tensor]) -> Array:
        """A batch's targets in the same units."""
        ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A model's answers beside the truth: what every metric takes."""

    decoded: Array
    """Probabilities [N, C], values [N] or [N, H]; for text nats [M], one sum for each batch."""
    targets: Array
    """Class numbers [N], values alike; for text tokens and bytes [M, 2]."""
    rows: Array = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Rows the samples came from [N]; empty where batches do not say."""
    loss: float | None = None
    """Mean of the objective over its targets, where one was given; for text in nats per token."""
    block: int = 1
    """How many neighbours hang together, as windows do that overlap; intervals allow for it."""

    def __len__(self) -> int:
        return len(self.targets)


def measure(model: nn.Module, batches: Iterable[Batch], samples: Decoder, encoded: Any) -> Outcome:
    """``evaluate`` with what the samples say of themselves: bytes of text, windows that overlap."""
    found = evaluate(model, batches, samples, num_bytes=getattr(encoded, "num_bytes", None))
    if samples.task != "forecast":
        return found
    span = int(getattr(samples, "length", 1)) + int(getattr(samples, "horizon", 0))
    return dataclasses.replace(found, block=max(1, span // max(1, int(getattr(samples, "stride", 1)))))


def mean_loss(model: nn.Module, batches: Iterable[Batch], objective: Objective) -> float:
    """The objective's mean over all targets, without gradients and in evaluation mode, which is undone afterwards.

    Raises DataError when there are no batches.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    total, count = 0.0, 0.0
    with evaluating(model):
        for batch in batches:
            found = objective(model, batch.to(device))
            total, count = total + float(found.total) * found.count, count + found.count
    if not count:
        raise DataError("mean_loss: there are no targets, so nothing to evaluate on.")
    return total / count


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    samples: Decoder | None = None,
    objective: Objective | None = None,
    num_bytes: float | None = None,
) -> Outcome:
    """Run the model over all batches, without gradients and in evaluation mode, which is undone afterwards.

    With ``samples`` outputs and targets are decoded by it and gathered. A language model (``samples`` None,
    or of task "generate") gives its mean loss per batch instead, which is kept as a sum: no more than one batch
    is held. ``num_bytes`` of text that the targets stand for is shared out by tokens, for bits per byte.
    ``objective`` is averaged as well, or in a language model's case replaces its own loss. Mixed precision is
    the caller's: call within ``torch.autocast``. Raises DataError when there is nothing to evaluate on.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with evaluating(model):
        if samples is None or samples.task == "generate":
            return _text(model, batches, objective or _own_loss, device, num_bytes)
        return _answers(model, batches, samples, objective, device)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module's own mode is restored, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():  # tensors of inference_mode that a model keeps could not be trained with later
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _own_loss(model: nn.Module, batch: Batch) -> Loss:
    """A language model's mean cross entropy over the targets that are not masked."""
    return Loss(model(**batch.inputs, **batch.targets), int((batch.targets["targets"] != MASKED).sum()))


def _text(
    model: nn.Module, batches: Iterable[Batch], objective: Objective, device: torch.device, num_bytes: float | None
) -> Outcome:
    nats: list[float] = []
    tokens: list[float] = []
    rows: list[Array] = []
    for batch in batches:
        if not bool((batch.targets["targets"] != MASKED).any()):
            continue  # the tail of a packed stream may hold padding alone
        found = objective(model, batch.to(device))
        nats.append(float(found.total) * found.count)
        tokens.append(found.count)
        if batch.rows is not None:
            rows.append(batch.rows)
    if not tokens:
        raise DataError("evaluate: there is no batch with a target that is not masked, so nothing to evaluate on.")
    counts = np.array(tokens, dtype=np.float64)
    share = counts * ((num_bytes if num_bytes is not None else np.nan) / counts.sum())
    return Outcome(
        decoded=np.array(nats),
        targets=np.stack([counts, share], axis=1),
        rows=_joined(rows),
        loss=float(sum(nats) / counts.sum()),
    )


def _answers(
    model: nn.Module, batches: Iterable[Batch], samples: Decoder, objective: Objective | None, device: torch.device
) -> Outcome:
    decoded: list[Array] = []
    targets: list[Array] = []
    rows: list[Array] = []
    total, count = 0.0, 0.0
    for batch in batches:
        output, found = _run(model, batch.to(device), objective)
        decoded.append(samples.decode(output))
        targets.append(samples.decode_targets(batch.targets))
        if batch.rows is not None:
            rows.append(batch.rows)
        if found is not None:
            total, count = total + float(found.total) * found.count, count + found.count
    if not decoded:
        raise DataError("evaluate: there are no batches, so nothing to evaluate on.")
    return Outcome(np.concatenate(decoded), np.concatenate(targets), _joined(rows), total / count if count else None)


def _run(model: nn.Module, batch: Batch, objective: Objective | None) -> tuple[Any, Loss | None]:
    """The model's output for the batch, and the objective's loss on it from the same forward pass."""
    if objective is None:
        return model(**batch.inputs), None
    outputs: list[Any] = []
    handle = model.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        found = objective(model, batch)
    finally:
        handle.remove()
    return (outputs[0] if outputs else model(**batch.inputs)), found


def _joined(rows: list[Array]) -> Array:
    return np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
