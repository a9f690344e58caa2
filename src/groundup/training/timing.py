"""How long a step takes, measured on a real batch without a trace: weights, buffers and random numbers are put back."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from groundup.core.batch import Batch
from groundup.core.errors import RecipeError
from groundup.training.gradients import Objective, compute_gradients
from groundup.training.precision import Precision
from groundup.training.seeds import RandomState

LONG_ENOUGH_S = 2.0
"""Measuring stops after so long, even before all repeats are made."""


def measure_step_time(
    model: nn.Module,
    objective: Objective,
    batch: Batch,
    precision: Precision,
    optimizer: torch.optim.Optimizer | None = None,
    accumulate: int = 1,
    repeats: int = 3,
) -> float:
    """Median seconds of a step (forward, backward and, with ``optimizer``, the update) after one to warm up.

    The same batch is used each time. Afterwards weights, buffers, optimizer, random numbers and the mode of
    the model are as they were.
    """
    device = next(model.parameters()).device
    batch = batch.to(device)
    times: list[float] = []
    with as_before(model, optimizer):
        model.train()
        while len(times) <= repeats and (len(times) < 2 or sum(times[1:]) < LONG_ENOUGH_S):
            model.zero_grad(set_to_none=True)
            start = time.perf_counter()
            compute_gradients(model, objective, batch, precision, accumulate)
            if optimizer is not None:
                optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def steps_for(minutes: float, seconds_per_step: float) -> int:
    """The number of steps, at least 1, that fit into a budget in minutes."""
    if minutes <= 0 or seconds_per_step <= 0:
        raise RecipeError(f"a budget of {minutes} minutes at {seconds_per_step} s a step has no steps in it.")
    return max(1, int(minutes * 60 / seconds_per_step))


@contextlib.contextmanager
def as_before(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Iterator[None]:
    """Whatever happens inside, model, optimizer, random numbers and modes come out as they went in.

    Without an optimizer only the buffers are kept beside, since nothing else then changes the weights.
    """
    random = RandomState.now(next(model.parameters()).device)
    modes = [(module, module.training) for module in model.modules()]
    kept: list[Tensor] = list(model.buffers())
    state: dict[Tensor, dict[str, object]] = {}
    if optimizer is not None:
        kept += [parameter for parameter in model.parameters() if parameter.requires_grad]
        state = {p: {name: _copy(value) for name, value in entry.items()} for p, entry in optimizer.state.items()}
    copies = [tensor.detach().clone() for tensor in kept]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, copy in zip(kept, copies, strict=True):
                tensor.copy_(copy)
        if optimizer is not None:
            optimizer.state.clear()
            optimizer.state.update(state)
        model.zero_grad(set_to_none=True)
        for module, mode in modes:
            module.training = mode
        random.restore()


def _copy(value: object) -> object:
    return value.clone() if isinstance(value, Tensor) else value
