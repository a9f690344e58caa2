"""Forecasts of series whose level moves: each window normalised by itself, and the forecast brought back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use, make


class RevIN(nn.Module):
    """A forecaster between reversible normalisation of each window: [B, T, F] -> [B, H].

    Each series of a window is brought to mean 0 and deviation 1 by its own mean m and deviation d over the T steps,
    both taken from the inputs and not learned through, then goes through a learned line, a x + b, one for each series;
    the forecast goes back through the target's line and becomes d y + m. ``affine = false`` leaves out the line. Kim
    et al., Reversible Instance Normalization for Accurate Time-Series Forecasting against Distribution Shift, ICLR
    2022, equations 1 to 3.

    ``model`` is any forecaster. The target's own past must be among the inputs, and the target on their scale
    (``Windows`` with ``target_scale`` z_score). What is missing in a window stands there as train's mean, and counts.
    """

    ANSWERS_FROM_INPUTS: ClassVar = True
    """Before it has learned anything it answers near the window's mean, which is more than nothing."""

    def __init__(
        self,
        model: Use,
        affine: bool = True,
        epsilon: float = 1e-5,
        *,
        in_features: int,
        out_features: int,
        input_shape: Sequence[int],
        target_input: int | None,
    ) -> None:
        super().__init__()
        if target_input is None:
            raise RecipeError(
                "RevIN: the target's own past is not among the inputs, or on another scale, so a forecast cannot be "
                'brought back. Name it in samples.inputs, and leave target_scale at "z_score".'
            )
        self.target_input, self.epsilon = target_input, epsilon
        sizes: dict[str, Any] = {
            "in_features": in_features,
            "input_shape": tuple(input_shape),
            "out_features": out_features,
        }
        sizes |= {"length": input_shape[0], "horizon": out_features, "target_input": target_input}
        self.model: nn.Module = make(model, "model", where="RevIN.model", **sizes)
        self.weight = nn.Parameter(torch.ones(in_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(in_features)) if affine else None

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, H], on the scale of the target's own past."""
        variance, mean = torch.var_mean(inputs.detach(), dim=1, keepdim=True, correction=0)
        deviation = (variance + self.epsilon).sqrt()
        normal = (inputs - mean) / deviation
        at = self.target_input
        if self.weight is None or self.bias is None:
            forecast = self.model(normal)
        else:
            forecast = self.model(normal * self.weight + self.bias)
            forecast = (forecast - self.bias[at]) / (self.weight[at] + self.epsilon**2)
        found: Tensor = forecast * deviation[:, :, at] + mean[:, :, at]
        return found
