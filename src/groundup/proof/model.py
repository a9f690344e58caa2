"""Checks of a model: before its first step, and after it was written and read back."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from groundup.core.batch import Batch, Loss
from groundup.core.misfit import layers_named
from groundup.core.plan import Plan, format_bytes
from groundup.core.report import Check

Objective = Callable[[nn.Module, Batch], Loss]

SHOWN = 5
"""How many parameters a message names."""


def initial_loss(value: float, expected: float, tolerance: float = 0.25) -> Check:
    """The loss before the first step lies where theory puts a model that knows nothing.

    log(classes) or log(vocabulary) for cross entropy, the variance for squared error (1 for standardised
    targets). ``tolerance`` is the share of it by which it may be off. Lower means that the answer leaks into
    the input, higher that the initialisation is confident and wrong.
    """
    off = value / expected - 1 if expected else math.inf
    seen = f"{value:.4g} where {expected:.4g} is expected ({off:+.1%})"
    if math.isfinite(value) and abs(off) <= tolerance:
        return Check("loss at the start", True, seen)
    if not math.isfinite(value):
        mend = "Look for division by 0 and logarithms of 0, and at the inputs for NaN."
    elif off < 0:
        mend = "It knows more than it can: look whether the input holds the target."
    else:
        mend = (
            "Its first answers are confident and wrong: start the last layer with smaller weights, or scale the inputs."
        )
    return Check("loss at the start", False, seen, mend)


def gradients(model: nn.Module, objective: Objective, batch: Batch) -> Check:
    """One backward pass gives every trainable parameter a finite gradient, and frozen ones none.

    The model is left as it was: gradients, modes, buffers (batch norm's statistics) and random states. Raises
    RecipeError, with its place, for a layer that does not fit what reaches it.
    """
    name = "gradients"
    named = list(model.named_parameters())
    trainable = [(n, p) for n, p in named if p.requires_grad]
    if not trainable:
        return Check(name, False, "every parameter is frozen", "Unfreeze what is to be trained.")
    with untouched(model):
        model.train()
        with layers_named(model):
            total = objective(model, _beside(model, batch)).total
        if not total.requires_grad:
            mend = "The objective is cut off from the model: look for detach(), .item() or no_grad on the way."
            return Check(name, False, "the loss does not depend on any parameter", mend)
        total.backward()  # type: ignore[no-untyped-call]
        missing = [n for n, p in trainable if p.grad is None]
        broken = [n for n, p in trainable if p.grad is not None and not bool(p.grad.isfinite().all())]
        strays = [n for n, p in named if not p.requires_grad and p.grad is not None]
        zero = [n for n, p in trainable if p.grad is not None and not bool(p.grad.any())]
    if missing:
        seen = f"{len(missing)} of {len(trainable)} trainable parameters have none: {_few(missing)}"
        return Check(name, False, seen, "They are not used by forward; use them, remove them or freeze them.")
    if broken:
        seen = f"{len(broken)} of {len(trainable)} are not finite: {_few(broken)}"
        return Check(name, False, seen, "Look for division by 0, logarithms of 0 and inputs that are NaN or huge.")
    if strays:
        return Check(name, False, f"{len(strays)} frozen parameters have one: {_few(strays)}", "Freeze them anew.")
    frozen = len(named) - len(trainable)
    seen = f"all {len(trainable)} trainable parameters have a finite one"
    seen += f", all {frozen} frozen ones none" if frozen else ""
    seen += f"; {len(zero)} are 0 so far: {_few(zero)}" if zero else ""
    return Check(name, True, seen)


def same_outputs(ours: nn.Module, other: nn.Module, batch: Batch, tolerance: float = 0.0) -> Check:
    """Two models give the same outputs for a batch, in evaluation mode: one as trained, one as read back or exported.

    ``tolerance`` is on the absolute difference; 0 asks for equal bits. Both models are left as they were.
    """
    name = "same outputs"
    found: list[list[Tensor]] = []
    for model in (ours, other):
        with untouched(model), torch.no_grad():
            model.eval()
            outputs = tree_leaves(model(**_beside(model, batch).inputs))
            found.append([leaf.detach().cpu() for leaf in outputs if isinstance(leaf, Tensor)])
    shapes = [[tuple(leaf.shape) for leaf in leaves] for leaves in found]
    if shapes[0] != shapes[1]:
        return Check(name, False, f"shapes {shapes[0]} and {shapes[1]}", "They are different models.")
    pairs = list(zip(*found, strict=True))
    largest = max((_distance(one, two) for one, two in pairs), default=0.0)
    count = sum(one.numel() for one, _ in pairs)
    seen = f"the largest difference among {count:,} numbers is {largest:.3g}"
    if largest <= tolerance:
        return Check(name, True, seen + (f" (at most {tolerance:g} allowed)" if tolerance else ""))
    mend = "Weights or settings were lost on the way: compare both state_dicts, and what is kept outside of them."
    return Check(name, False, f"{seen}, {tolerance:g} allowed", mend)


def overfits_one_batch(
    model: nn.Module, objective: Objective, batch: Batch, steps: int = 60, lr: float = 3e-3, share: float = 0.5
) -> Check:
    """A copy of the model, trained on this one batch, brings its loss below ``share`` of what it was."""
    with untouched(model):
        twin = copy.deepcopy(model)
        twin.train()
        optimizer = torch.optim.AdamW([p for p in twin.parameters() if p.requires_grad], lr=lr, weight_decay=0.0)
        losses: list[float] = []
        batch = _beside(model, batch)
        for _ in range(steps):
            optimizer.zero_grad()
            total = objective(twin, batch).total
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(total.detach()))
    seen = f"{losses[0]:.4g} -> {losses[-1]:.4g} in {steps} steps on one batch"
    if losses[-1] <= share * losses[0]:
        return Check("overfits one batch", True, seen)
    return Check("overfits one batch", False, seen, "A model that cannot learn one batch by heart will not learn more.")


def fits_memory(plan: Plan, available_bytes: int, margin: float = 1.25) -> Check:
    """The planned peak, times a margin for what no plan sees (gaps in the heap, kernels' own space), is there."""
    need = int(plan.total_bytes * margin)
    planned, there = format_bytes(plan.total_bytes), format_bytes(available_bytes)
    seen = f"{planned} planned, {format_bytes(need)} with margin, of {there}"
    if need <= available_bytes:
        return Check("memory", True, seen)
    largest = max(plan.memory_bytes, key=lambda part: plan.memory_bytes[part])
    mend = {
        "activations": "Activations take most: make batch_size smaller and accumulate larger, or sequences shorter.",
        "optimizer": "The optimizer's state takes most: take one that keeps less, or train fewer parameters.",
        "batch": "The batch itself takes most: make batch_size smaller.",
    }.get(largest, "The weights take most: make the model smaller, or train fewer of its parameters.")
    return Check("memory", False, seen, mend)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put back gradients, modes, buffers and random states, whatever is done to the model within."""
    modes = [(module, module.training) for module in model.modules()]
    kept = [(p, p.grad) for p in model.parameters()]
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    for parameter, _ in kept:
        parameter.grad = None
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer  # it may have been replaced as well as written into
                if buffer is not None and value is not None:
                    buffer.copy_(value)
        for parameter, gradient in kept:
            parameter.grad = gradient
        for module, mode in modes:
            module.training = mode


def _beside(model: nn.Module, batch: Batch) -> Batch:
    """The batch on the model's device."""
    return batch.to(next((p.device for p in model.parameters()), torch.device("cpu")))


def _distance(one: Tensor, two: Tensor) -> float:
    """Largest absolute difference; NaN beside a number, or infinity beside another, is infinitely far."""
    if torch.equal(one, two) or not one.numel():
        return 0.0
    largest = 0.0
    pairs = zip(torch.split(one.reshape(-1), 2**22), torch.split(two.reshape(-1), 2**22), strict=True)
    for ours, theirs in ((left.double(), right.double()) for left, right in pairs):
        same = (ours == theirs) | (ours.isnan() & theirs.isnan())
        difference = torch.where(same, 0.0, (ours - theirs).abs())
        largest = max(largest, float(difference.nan_to_num(math.inf, math.inf).max()))
    return largest


def _few(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
