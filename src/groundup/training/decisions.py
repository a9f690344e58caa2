"""What is decided once, on the first batch, and must hold after a resume: precision, compiling, number of steps."""

from __future__ import annotations

import dataclasses
import time
from typing import Literal

import torch

from groundup.core.batch import Batch
from groundup.core.errors import RecipeError
from groundup.core.state import TrainState
from groundup.training.compiling import Decision, compiled_regions, decide_compile
from groundup.training.gradients import Objective
from groundup.training.precision import choose_precision
from groundup.training.timing import measure_step_time, steps_for


def settle(
    state: TrainState,
    batch: Batch,
    objective: Objective,
    *,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    compile: Literal["auto", "on", "off"] = "auto",
    minutes: float | None = None,
    accumulate: int = 1,
) -> None:
    """Write into ``state.decisions`` what ``fit`` goes by, each with its reason, measured on ``batch`` where need be.

    ``minutes`` becomes ``state.total_steps``, less the time that deciding takes; otherwise that is set already.
    Neither the batch, the weights nor the random numbers are used up. A state that has its decisions (one that is
    resumed) keeps them.
    """
    if "compile" in state.decisions:
        return
    started = time.perf_counter()
    model = state.model
    device = next(model.parameters()).device
    if minutes is None and state.total_steps < 1:
        raise RecipeError("recipe.training: the budget has no steps; give steps, epochs or minutes.")
    chosen = choose_precision(precision, device, sum(p.numel() for p in model.parameters()))
    state.decisions.update(device=str(device), threads=torch.get_num_threads(), precision=chosen.to_dict())
    decided, step_s = Decision(False, "asked for"), 0.0
    if minutes is not None or compile != "off":
        batch = batch.to(device)
        step_s = measure_step_time(model, objective, batch, chosen, state.optimizer, accumulate)
        plain_s = measure_step_time(model, objective, batch, chosen, accumulate=accumulate)
        steps = state.total_steps - state.step if minutes is None else minutes * 60 / step_s
        # Parts of a batch are tried one at a time, as the steps will run them.
        part = next(batch.parts(-(-batch.num_samples // accumulate)))
        decided = decide_compile(compile, model, objective, part, chosen, plain_s / accumulate, steps * accumulate)
        if decided.on:
            with compiled_regions(model, dataclasses.asdict(decided))():
                step_s = measure_step_time(model, objective, batch, chosen, state.optimizer, accumulate)
    state.decisions["compile"] = dataclasses.asdict(decided)
    if minutes is not None:
        left_minutes = max(minutes - (time.perf_counter() - started) / 60, minutes / 10)
        state.total_steps = state.step + steps_for(left_minutes, step_s)
        state.decisions["seconds_per_step"] = step_s
