"""A model's tree with shapes, parameters, operations and memory, found by one pass on tensors without memory."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from groundup.core.batch import Batch
from groundup.core.errors import GroundupError
from groundup.core.misfit import layers_named
from groundup.core.structure import Layer
from groundup.planning.simulation import (
    ANY_FAULT,
    Objective,
    Stage,
    Whole,
    default_objective,
    fake_stage,
    no_values,
    shell_of,
)
from groundup.planning.timeline import Timeline, Watch

SAMPLES = 2
"""Samples that are carried out; batch norm needs more than one."""


def outline(model: nn.Module, batch: Batch, objective: Objective | None = None) -> Layer:
    """The model as a tree of layers; nothing is computed or changed. Figures are for one sample of ``batch``.

    The model may be on the meta device. One that looks at values is carried out in truth, on a copy. Raises
    GroundupError when it cannot take the batch.
    """
    objective = objective or default_objective
    batch = next(batch.parts(SAMPLES))
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            try:
                shell = shell_of(model)
                with no_values():
                    figures = _carry_out(fake_stage(shell, batch), objective)
            except ANY_FAULT:
                if any(p.device.type == "meta" for p in model.parameters()):
                    raise
                twin = copy.deepcopy(model)
                with layers_named(twin):
                    figures = _carry_out(Stage(twin, {}, {}, batch, {}), objective)
    except ANY_FAULT as error:
        raise GroundupError(
            f"{type(model).__name__} cannot take this batch: {type(error).__name__}: {error}."
        ) from error
    return _tree(model, "", figures, batch.num_samples)


@dataclasses.dataclass
class _Figures:
    """What was seen of one module, over all its calls."""

    input_shape: tuple[int, ...] | None = None
    output_shape: tuple[int, ...] | None = None
    flops: float = 0.0
    memory_bytes: float = 0.0
    spans: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    """Positions among the allocations at which each call began and ended."""
    begun: tuple[float, int] = (0.0, 0)


def _carry_out(stage: Stage, objective: Objective) -> dict[str, _Figures]:
    """One pass forward, as in training: each module's work, and what it made that is still there at the end."""
    timeline = Timeline()
    for tensor in (*stage.parameters.values(), *stage.buffers.values(), *stage.batch.inputs.values()):
        timeline.see(tensor)
    found: dict[str, _Figures] = {}
    handles = []
    for name, module in stage.model.named_modules():
        enter, leave = _hooks(found.setdefault(name, _Figures()), timeline)
        handles += [
            module.register_forward_pre_hook(enter, with_kwargs=True),
            module.register_forward_hook(leave),
        ]
    stage.model.train()
    try:
        with Watch(timeline):
            total = functional_call(
                Whole(stage.model, objective), {**stage.parameters, **stage.buffers}, (stage.batch,)
            )
        events = list(timeline.events)
        del total
    finally:
        for handle in handles:
            handle.remove()
    gone = {number for number, size in events if size < 0}
    for figures in found.values():
        made = {number: size for start, end in figures.spans for number, size in events[start:end] if size > 0}
        figures.memory_bytes = float(sum(size for number, size in made.items() if number not in gone))
    return found


def _hooks(seen: _Figures, timeline: Timeline) -> tuple[Callable[..., None], Callable[..., None]]:
    def flops() -> float:
        return sum(amount for name, amount in timeline.work.items() if name.startswith("flops"))

    def enter(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.begun = (flops(), len(timeline.events))
        seen.input_shape = _shape((*inputs, *named.values())) or seen.input_shape

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        seen.output_shape = _shape(output if isinstance(output, tuple) else (output,))
        seen.flops += flops() - seen.begun[0]
        seen.spans.append((seen.begun[1], len(timeline.events)))

    return enter, leave


def _shape(values: tuple[Any, ...]) -> tuple[int, ...] | None:
    """The first tensor's, without the batch."""
    first = next((value for value in values if isinstance(value, Tensor)), None)
    return None if first is None else tuple(first.shape[1:])


def _tree(module: nn.Module, path: str, figures: dict[str, _Figures], samples: int) -> Layer:
    children = tuple(
        _tree(child, f"{path}.{name}" if path else name, figures, samples) for name, child in module.named_children()
    )
    seen = figures.get(path, _Figures())
    called = seen.output_shape is not None
    flops = seen.flops / samples if called else sum(child.flops for child in children)
    memory = seen.memory_bytes / samples if called else sum(child.memory_bytes for child in children)
    parameters = list(module.parameters())
    return Layer(
        name=path.rpartition(".")[2],
        kind=type(module).__name__,
        input_shape=seen.input_shape,
        output_shape=seen.output_shape,
        num_parameters=sum(p.numel() for p in parameters),
        num_trainable=sum(p.numel() for p in parameters if p.requires_grad),
        flops=flops,
        memory_bytes=memory,
        children=children,
    )
