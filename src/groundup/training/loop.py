"""The training loop as an iterator: whoever trains writes the ``for``."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from groundup.core.batch import Batch, Step
from groundup.core.errors import DataError, RecipeError
from groundup.core.state import TrainState
from groundup.training.autopsy import autopsy
from groundup.training.compiling import compiled_regions
from groundup.training.gradients import Computed, Objective, compute_gradients, gradient_norm, micro_batches
from groundup.training.precision import Precision
from groundup.training.seeds import RandomState


def fit(
    state: TrainState,
    batches: Iterable[Batch],
    objective: Objective,
    *,
    clip_norm: float | None = 1.0,
    accumulate: int = 1,
) -> Iterator[Step]:
    """Make one update for each batch until ``state.total_steps``, and yield what each one was.

    Precision and compiling are as ``state.decisions`` says (see ``settle``); without decisions, fp32 as written.
    Each batch is one update, computed in ``accumulate`` parts with the exact gradient of the whole. Gradients
    are scaled down to the norm ``clip_norm``. A group's learning rate is the one it began with, times its
    ``lr_scale``, times ``state.schedule`` in the middle of the step. ``state`` stands behind the step when it is
    yielded, and the model is in training mode within a step whatever the caller did in between.

    Raises NonFiniteError, before the update, for a loss or gradient that is not finite, and DataError when
    ``batches`` gives none at all; ends early when they run out.

    >>> for step in fit(state, batches, objective):
    ...     if step.every(100):
    ...         print(step.number, step.loss)
    """
    if state.total_steps < 1:
        raise RecipeError(f"the budget: state.total_steps is {state.total_steps}, expected 1 or more.")
    if accumulate < 1:
        raise RecipeError(f"recipe.training.accumulate: read {accumulate}, expected 1 or more.")
    if clip_norm is not None and not clip_norm > 0:
        raise RecipeError(f"recipe.training.clip_norm: read {clip_norm}, expected more than 0, or none at all.")
    return _fit(state, batches, _Update(state, objective, clip_norm, accumulate))


def _fit(state: TrainState, batches: Iterable[Batch], update: Callable[[Batch, float], Step]) -> Iterator[Step]:
    """The loop itself; it yields outside every context, so that nothing leaks into the caller's code."""
    stream = iter(batches)
    first = True
    while state.step < state.total_steps:
        started = time.perf_counter()
        batch = next(stream, None)
        if batch is None:
            if first:
                raise DataError("there are no batches: the training split is empty, or the stream was used up before.")
            return
        first = False
        yield update(batch, started)


class _Update:
    """One update of a state by a batch."""

    def __init__(self, state: TrainState, objective: Objective, clip_norm: float | None, accumulate: int) -> None:
        self.state, self.objective = state, objective
        self.clip_norm, self.accumulate = clip_norm, accumulate
        self.device = next(state.model.parameters()).device
        self.precision = Precision(**state.decisions.get("precision", {"device": self.device.type}))
        self.compiled = compiled_regions(state.model, state.decisions.get("compile", {}))
        self.modes = [(m, m.training) for m in state.model.modules()] if state.model.training else None
        threads = state.decisions.get("threads", torch.get_num_threads())
        if self.device.type == "cpu" and threads != torch.get_num_threads():
            warnings.warn(
                f"this run began with {threads} threads and goes on with {torch.get_num_threads()}: sums are then made "
                "in another order, and results differ in their last digits from those of an unbroken run",
                stacklevel=3,
            )
        for group in state.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def __call__(self, batch: Batch, started: float) -> Step:
        """Compute, guard, clip, update, count."""
        state = self.state
        self._training_mode()
        batch = batch.to(self.device)
        random = RandomState.now(self.device)
        state.optimizer.zero_grad(set_to_none=True)
        with self.compiled():
            computed = compute_gradients(state.model, self.objective, batch, self.precision, self.accumulate)
        norm = self._clipped(computed, batch, random)
        for group in state.optimizer.param_groups:
            group["lr"] = self._learning_rate(group)
        state.optimizer.step()
        state.step += 1
        state.samples += batch.num_samples
        state.tokens += batch.num_tokens
        state.bookmark = batch.bookmark
        return Step(
            number=state.step,
            total=state.total_steps,
            loss=computed.loss,
            parts=computed.parts,
            learning_rate=state.optimizer.param_groups[0]["lr"],
            gradient_norm=norm,
            samples=state.samples,
            tokens=state.tokens,
            time_s=time.perf_counter() - started,
        )

    def _training_mode(self) -> None:
        """Training mode, each layer in the mode it was found in, if the caller has switched to evaluation."""
        model = self.state.model
        if model.training:
            return
        if self.modes is None:
            model.train()
            self.modes = [(module, True) for module in model.modules()]
        for module, mode in self.modes:
            module.training = mode

    def _clipped(self, computed: Computed, batch: Batch, random: RandomState) -> float:
        """The norm of all gradients as they were before they are scaled down to ``clip_norm``."""
        gradients = [
            p.grad for group in self.state.optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        norm = gradient_norm(gradients)
        if not (math.isfinite(norm) and math.isfinite(computed.loss)):
            seen = (
                f"the loss is {computed.loss}" if not math.isfinite(computed.loss) else f"the gradient norm is {norm}"
            )
            parts = list(micro_batches(batch, self.accumulate))
            where = f"step {self.state.step + 1}: {seen}"
            raise autopsy(self.state.model, self.objective, parts, self.precision, random, where)
        if self.clip_norm is not None and norm > self.clip_norm:
            torch._foreach_mul_(gradients, self.clip_norm / (norm + 1e-6))
        return norm

    def _learning_rate(self, group: dict[str, Any]) -> float:
        factor = 1.0
        if self.state.schedule is not None:
            # The middle of the step: neither a first step at rate 0 in the warmup, nor a last one at the floor.
            factor = self.state.schedule((self.state.step + 0.5) / self.state.total_steps)
        return float(group["initial_lr"] * group.get("lr_scale", 1.0) * factor)
