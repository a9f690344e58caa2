"""Where a number that is not finite came from: the batch is run once more, and every layer is watched."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from groundup.core.batch import Batch
from groundup.core.errors import NonFiniteError
from groundup.training.gradients import Objective
from groundup.training.objectives import NoTargetsError, describe_rows
from groundup.training.precision import Precision
from groundup.training.seeds import RandomState
from groundup.training.timing import as_before

# Operations that write infinities on purpose (attention masks), or whose result is not yet meant to be read.
DELIBERATE = ("masked_fill", "where", "full", "fill", "empty", "new_full", "new_empty", "scatter", "copy")
MOST_SAMPLES = 64
"""Batches up to this size are searched sample by sample where no layer's output says which it was."""


@dataclasses.dataclass(frozen=True)
class _Finding:
    """What went wrong first, in words, with the samples it went wrong for (None: all, or unknown)."""

    place: str
    samples: list[int] | None
    advice: str


def autopsy(
    model: nn.Module,
    objective: Objective,
    parts: Sequence[Batch],
    precision: Precision,
    random: RandomState,
    seen: str,
) -> NonFiniteError:
    """The error to raise for a loss or gradient that is not finite: layer, operation, rows, and what to try.

    ``parts`` are the step's micro-batches, ``random`` where random numbers stood before it, and ``seen``
    says what was not finite. The model is left as it is.
    """
    finding, part = None, parts[0]
    with as_before(model):
        random.restore()
        for part in parts:
            with contextlib.suppress(NoTargetsError):
                finding = _examine(model, objective, part, precision)
            if finding is not None:
                break
    if finding is None:
        finding = _Finding(
            "run once more, the same batch gave only finite numbers, so it is not one layer's doing but the sum's",
            None,
            "a lower learning rate, a smaller clip_norm, or precision = 'fp32'; on a GPU also its memory for faults",
        )
    rows = describe_rows(part, finding.samples)
    return NonFiniteError(
        f"{seen}; the weights were not updated. {finding.place[:1].upper()}{finding.place[1:]}; {rows}. "
        f"Try {finding.advice}."
    )


def _examine(model: nn.Module, objective: Objective, batch: Batch, precision: Precision) -> _Finding | None:
    """The first thing that is not finite: an input, a weight, a layer's output, the loss, or a gradient."""
    for name, value in (*batch.inputs.items(), *batch.targets.items()):
        if not _finite(value):
            advice = "to fill or drop missing values in the recipe's prepare steps, and look at those rows"
            return _Finding(f"the data itself has it: {name!r} is not finite", _bad_samples(value, batch), advice)
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            advice = "to go on from an older checkpoint with a lower learning rate"
            return _Finding(f"{name} was not finite even before this step", None, advice)
    model.zero_grad(set_to_none=True)
    with _watching(model, batch) as watch:
        with torch.enable_grad(), precision.autocast():
            loss = objective(model, batch).total
        if watch.first is None and not _finite(loss):
            watch.first = _First("the loss", "the loss", _suspects(model, objective, batch, precision, backward=False))
        if watch.first is not None:
            operation = watch.operations.get(watch.first.path)
            place = f"it began in {watch.first.name}{_by(operation)}"
            return _Finding(place, watch.first.samples, _advice(precision, operation))
        watch.path = "the backward pass"
        loss.backward()  # type: ignore[no-untyped-call]
    if watch.first is None:
        return None
    operation = watch.operations.get("the backward pass")
    samples = _suspects(model, objective, batch, precision, backward=True)
    place = f"outputs and loss are finite, but the gradient of {watch.first.name} is not{_by(operation)}"
    return _Finding(place, samples, _advice(precision, operation))


class _First(NamedTuple):
    """The first module whose output, or parameter whose gradient, was not finite, and for which samples."""

    path: str
    name: str
    samples: list[int] | None


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes, for each module, the first operation that made something not finite out of what was."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = "the loss"
        """The module that is running now; outside the model it is the loss."""
        self.operations: dict[str, str] = {}
        self.first: _First | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if self.path not in self.operations and not name.strip("_").startswith(DELIBERATE):
            given = list(_tensors((args, kwargs)))
            if given and all(map(_finite, given)) and not all(map(_finite, _tensors(out))):
                self.operations[self.path] = name.strip("_")
        return out


@contextlib.contextmanager
def _watching(model: nn.Module, batch: Batch) -> Iterator[_Watch]:
    watch = _Watch()
    outer: list[str] = []
    hooks: list[Any] = []

    def enter(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            outer.append(watch.path)
            watch.path = path

        return hook

    def leave(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            watch.path = outer.pop()
            bad = [tensor for tensor in _tensors(output) if not _finite(tensor)]
            if bad and watch.first is None:  # children leave before their parents, so the first is the innermost
                watch.first = _First(path, f"{path} ({type(module).__name__})", _bad_samples(bad[0], batch))

        return hook

    def arrive(name: str) -> Any:
        def hook(parameter: Tensor) -> None:
            if watch.first is None and parameter.grad is not None and not _finite(parameter.grad):
                watch.first = _First(name, name, None)

        return hook

    for path, module in model.named_modules():
        path = path or "the model"
        hooks += [module.register_forward_pre_hook(enter(path)), module.register_forward_hook(leave(path))]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            hooks.append(parameter.register_post_accumulate_grad_hook(arrive(name)))  # type: ignore[no-untyped-call]
    try:
        with watch:
            yield watch
    finally:
        for hook in hooks:
            hook.remove()


def _suspects(
    model: nn.Module, objective: Objective, batch: Batch, precision: Precision, *, backward: bool
) -> list[int] | None:
    """The samples that, each on its own, give a loss or gradient that is not finite."""
    if batch.num_samples > MOST_SAMPLES:
        return None
    found = []
    modes = [(module, module.training) for module in model.modules()]
    model.eval()  # a single sample has no batch statistics
    try:
        for position, sample in enumerate(batch.parts(1)):
            model.zero_grad(set_to_none=True)
            try:
                with torch.enable_grad(), precision.autocast():
                    loss = objective(model, sample).total
                if backward:
                    loss.backward()  # type: ignore[no-untyped-call]
            except NoTargetsError:
                continue
            if not _finite(loss) or not all(_finite(p.grad) for p in model.parameters() if p.grad is not None):
                found.append(position)
    finally:
        for module, mode in modes:
            module.training = mode
    return found or None


def _bad_samples(value: Tensor, batch: Batch) -> list[int] | None:
    """The samples in which ``value``, if its first dimension is the batch's, is not finite."""
    if not value.ndim or len(value) != batch.num_samples:
        return None
    bad = (~torch.isfinite(value.detach())).reshape(len(value), -1).any(dim=1)
    return [int(position) for position in bad.nonzero().flatten()]


def _finite(value: Tensor | None) -> bool:
    if value is None or not (value.is_floating_point() or value.is_complex()):
        return True
    return bool(torch.isfinite(value.detach()).all())


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _by(operation: str | None) -> str:
    return f", by the operation {operation}" if operation else ""


def _advice(precision: Precision, operation: str | None) -> str:
    fp32 = " or precision = 'fp32'" if precision.name == "bf16" else ""
    if operation is not None and any(word in operation for word in ("log", "sqrt", "div", "pow", "reciprocal", "exp")):
        return f"a small constant inside {operation} (its argument left the range it is defined or finite on){fp32}"
    return f"a lower learning rate, a longer warmup, a smaller clip_norm{fp32}"
