"""The scale of a signal through a model's depth, forward and back: where it dies or explodes, the layer is named."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from groundup.core.batch import Batch, Loss
from groundup.core.report import Check, LayerSignal, StartedWeight
from groundup.proof.model import untouched

Objective = Callable[[nn.Module, Batch], Loss]

WANES, GROWS = 1e-4, 1e4
"""A signal that falls to this share of what it was has died; one that grows so many times has exploded."""

SCALE_SLACK, CHANCE, ROUNDING = 0.02, 20.0, 1e-6
"""A deviation measured on n numbers scatters by 1 / sqrt(2 n) of itself where they are normal, more where they are
sparse (2.7 / sqrt(n) at a tenth): so many times 1 / sqrt(n) is left to chance."""

MEND = (
    "Start its weights at a scale that keeps the variance (init = he_normal for relu, xavier_normal for tanh), put a "
    "norm between the layers, or residual connections around them."
)


@dataclasses.dataclass
class _Call:
    """One module carried out: what went in, what came out, how deep in the tree the module lies."""

    name: str
    kind: str
    depth: int
    inputs: Tensor
    output: Tensor


def signal(model: nn.Module, objective: Objective, batch: Batch) -> tuple[Check, tuple[LayerSignal, ...]]:
    """Activation and gradient scale behind each layer on the way from the input to the output.

    The check fails for values that are not finite, and warns where the activations' deviation falls below 1e-4 of
    what it was before, or grows 1e4 times; the gradient likewise, from the last layer back. The output layer itself
    may start small. A block that adds to its input counts as one layer. The model is left as it was.
    """
    name = "signal through the depth"
    with untouched(model):
        model.train()
        calls = _carry_out(model, objective, batch)
        found = tuple(_measured(call) for call in calls)
    if len(found) < 2:
        return Check(name, True, "the model has too few layers to compare"), found
    broken = next((layer for layer in found if not math.isfinite(layer.activation)), None)
    if broken is not None:
        return Check(name, False, f"the activations behind {broken.name} ({broken.kind}) are not finite", MEND), found
    broken = next((layer for layer in reversed(found) if not math.isfinite(layer.gradient)), None)
    if broken is not None:
        return Check(name, False, f"the gradient behind {broken.name} ({broken.kind}) is not finite", MEND), found
    forward = _first_off([layer.activation for layer in found[:-1]])
    back = _first_off([layer.gradient for layer in reversed(found)])
    told = []
    if forward is not None:
        place, share = forward
        told.append(_told("activations", found[place], share))
    if back is not None:
        place, share = back
        told.append(_told("the gradient", found[len(found) - 1 - place], share))
    if told:
        return Check(name, True, "; ".join(told), MEND, warned=True), found
    first, last = found[0], found[-2] if len(found) > 2 else found[-1]
    seen = (
        f"over {len(found)} layers activations go from {first.activation:.2g} to {last.activation:.2g}, gradients back "
        f"from {found[-1].gradient:.2g} to {first.gradient:.2g}"
    )
    return Check(name, True, seen), found


def promised_scale(weights: Sequence[StartedWeight]) -> Check:
    """What initialisers filled has the deviation that they promise, but for 2% and what chance allows.

    It warns of the first that has not: something wrote over it, or made it smaller or larger, afterwards.
    """
    name = "initial weights"
    if not weights:
        return Check(name, True, "no initialiser is named: the layers' own defaults stand")
    kept = [weight for weight in weights if weight.promised is not None]
    for weight in kept:
        promised = weight.promised or 0.0
        if abs(weight.found - promised) > promised * (SCALE_SLACK + CHANCE / math.sqrt(weight.size)) + ROUNDING:
            said = f"{weight.name} deviates by {weight.found:.3g}, {weight.initialiser} promises {promised:.3g}"
            return Check(name, True, said, "Look at what fills or scales it after that.", warned=True)
    said = f"{len(kept)} of {len(weights)} filled weights deviate as their initialisers promise"
    others = sorted({weight.initialiser for weight in weights if weight.promised is None})
    return Check(name, True, said + (f"; {', '.join(others)} promise nothing" if others else ""))


def _told(what: str, layer: LayerSignal, share: float) -> str:
    verb = "explode" if share > 1 else "die"
    verb += "s" if what == "the gradient" else ""
    return f"{what} {verb} at {layer.name} ({layer.kind}): {share:.1g} of what they were"


def _first_off(scales: list[float]) -> tuple[int, float] | None:
    """(place, share of the scale before) of the first that is far smaller or larger than those before it."""
    largest, smallest = scales[0], scales[0]
    for place, scale in enumerate(scales):
        if scale < WANES * largest:
            return place, scale / largest
        if scale > GROWS * smallest > 0:
            return place, scale / smallest
        largest, smallest = max(largest, scale), min(smallest, scale)
    return None


def _carry_out(model: nn.Module, objective: Objective, batch: Batch) -> list[_Call]:
    """The calls on the way from input to output, their outputs' gradients in place."""
    calls: list[_Call] = []

    def book(name: str, depth: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            given = next((value for value in inputs if isinstance(value, Tensor)), None)
            if given is None or not isinstance(output, Tensor) or not output.is_floating_point():
                return
            if output.requires_grad:
                output.retain_grad()
            calls.append(_Call(name, type(module).__name__, depth, given, output))

        return hook

    handles = [
        module.register_forward_hook(book(name, name.count(".") + 1)) for name, module in model.named_modules() if name
    ]
    try:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        objective(model, batch.to(device)).total.backward()  # type: ignore[no-untyped-call]
    finally:
        for handle in handles:
            handle.remove()
    return _spine(calls)


def _spine(calls: list[_Call]) -> list[_Call]:
    """From the last output back: who made it, from what, who made that. Of a tensor's makers the innermost counts.

    Where a tensor was made outside of any module (a sum, another shape), the call before goes on.
    """
    if not calls:
        return []
    makers: dict[int, int] = {}
    for index, call in enumerate(calls):
        known = makers.get(id(call.output))
        if known is None or call.depth > calls[known].depth:
            makers[id(call.output)] = index
    path: list[_Call] = []
    place: int | None = makers[id(calls[-1].output)]
    while place is not None:
        call = calls[place]
        path.append(call)
        maker = makers.get(id(call.inputs))
        if maker is None or maker >= place:
            # What ran inside this call, before it ended, is a part of it and no step before it.
            outside = (i for i in range(place - 1, -1, -1) if not _inside(calls[i].name, call.name))
            maker = next(outside, None)
            maker = None if maker is None else makers[id(calls[maker].output)]
            if maker is not None and maker >= place:
                maker = None
        place = maker
    return path[::-1]


def _inside(name: str, outer: str) -> bool:
    return name.startswith(outer + ".")


def _measured(call: _Call) -> LayerSignal:
    """The scales of one call; what does not vary from sample to sample, such as a bias, is no signal."""
    values = call.output.detach().double()
    over = tuple(range(values.ndim - 1)) if values.ndim < 4 else (0, 2, 3)
    activation = float((values - values.mean(over, keepdim=True)).square().mean().sqrt())
    gradient = call.output.grad
    size = 0.0 if gradient is None else float(gradient.detach().double().norm()) * math.sqrt(len(values))
    return LayerSignal(call.name, call.kind, activation, size)
