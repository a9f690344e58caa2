"""A linear recurrence over time, for all steps at once: what lets minimal recurrent layers train in parallel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear_scan(decay: Tensor, inputs: Tensor) -> Tensor:
    """h_t = decay_t * h_(t-1) + inputs_t with h_(-1) = 0: both [B, T, F], the states [B, T, F].

    In log2(T) passes over the whole (Hillis and Steele 1986), each a multiply-add; the backward pass is the same
    recurrence from the end. For a state before the first step add decay_0 times it to inputs_0.
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
    steps, reach = inputs.shape[1], 1
    while reach < steps:
        # Each state so far covers ``reach`` steps; the one ``reach`` before it covers as many more.
        inputs = torch.cat((inputs[:, :reach], inputs[:, reach:] + decay[:, reach:] * inputs[:, :-reach]), dim=1)
        if 2 * reach < steps:
            decay = torch.cat((decay[:, :reach], decay[:, reach:] * decay[:, :-reach]), dim=1)
        reach *= 2
    return inputs
