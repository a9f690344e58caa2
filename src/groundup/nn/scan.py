"""A linear recurrence over time, for all steps at once: what lets minimal recurrent layers train in parallel."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear_scan(decay: Tensor, inputs: Tensor) -> Tensor:
    """h_t = decay_t * h_(t-1) + inputs_t with h_(-1) = 0: both [B, T, F], the states [B, T, F].

    In log2(T) passes over the whole (Hillis and Steele 1986), each a multiply-add, or on a CPU step by step; the
    backward pass is the same recurrence from the end. For a state before the first step add decay_0 times it to
    inputs_0.
    """
    states: Tensor = _LinearScan.apply(decay, inputs)  # type: ignore[no-untyped-call]
    return states


class _LinearScan(torch.autograd.Function):
    """States and decays alone are kept, not what the passes made in between."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, inputs: Tensor) -> Tensor:
        states = _scan(decay, inputs)
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_states: Tensor) -> tuple[Tensor, Tensor]:
        decay, states = ctx.saved_tensors
        ahead = torch.cat((decay[:, 1:], torch.zeros_like(decay[:, :1])), dim=1)
        by_inputs = _scan(ahead.flip(1), by_states.flip(1)).flip(1)
        before = torch.cat((torch.zeros_like(states[:, :1]), states[:, :-1]), dim=1)
        return by_inputs * before, by_inputs


def _scan(decay: Tensor, inputs: Tensor) -> Tensor:
    if inputs.device.type == "cpu" and not torch.compiler.is_compiling():
        return _step_by_step(decay, inputs)
    return _in_passes(decay, inputs)


def _step_by_step(decay: Tensor, inputs: Tensor) -> Tensor:
    """One multiply-add a step: with few cores a tenth of the passes' time, which move the whole log2(T) times."""
    decay_TBF, inputs_TBF = decay.transpose(0, 1).contiguous(), inputs.transpose(0, 1).contiguous()
    states_TBF = torch.empty_like(inputs_TBF)
    states_TBF[0] = inputs_TBF[0]
    states = states_TBF.unbind()
    steps = zip(itertools.pairwise(states), decay_TBF[1:].unbind(), inputs_TBF[1:].unbind(), strict=True)
    for (before, state), kept, added in steps:
        torch.addcmul(added, kept, before, out=state)
    return states_TBF.transpose(0, 1)


def _in_passes(decay: Tensor, inputs: Tensor) -> Tensor:
    """Each pass doubles how many steps every state covers."""
    steps, reach = inputs.shape[1], 1
    while reach < steps:
        inputs = torch.cat((inputs[:, :reach], inputs[:, reach:] + decay[:, reach:] * inputs[:, :-reach]), dim=1)
        if 2 * reach < steps:
            decay = torch.cat((decay[:, :reach], decay[:, reach:] * decay[:, :-reach]), dim=1)
        reach *= 2
    return inputs
