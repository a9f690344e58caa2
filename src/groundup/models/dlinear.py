"""DLinear: trend and rest of a window, each mapped to the forecast by one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.nn.dense import Dense


class DLinear(nn.Module):
    """A dense layer on the moving average of the window and one on what is left: [B, T, F] -> [B, out_features].

    The average is over ``kernel`` steps around each one, the window's ends repeated beyond it. Zeng et al., Are
    Transformers Effective for Time Series Forecasting?, AAAI 2023, section 4.

    ``individual`` gives each input series maps of its own, and what they say of the target is added. Without it the
    target is forecast from its own past alone, as by the paper's shared maps, which see no other series. With one
    input both are the paper's. It begins by answering the window's mean.
    """

    ANSWERS_FROM_INPUTS: ClassVar = True

    def __init__(
        self,
        kernel: int = 25,
        individual: bool = True,
        *,
        input_shape: Sequence[int],
        out_features: int,
        target_input: int | None = None,
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise RecipeError(f"DLinear.kernel: read {kernel}, expected an odd number of steps.")
        self.kernel = kernel
        self.series = None if individual else need_target(target_input, "DLinear")
        self.trend = window_map(input_shape, out_features, target_input, individual)
        self.rest = window_map(input_shape, out_features, target_input, individual)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, out_features]."""
        if self.series is not None:
            inputs = inputs[:, :, self.series, None]
        trend = moving_average(inputs, self.kernel)
        outputs: Tensor = self.trend(trend.flatten(1)) + self.rest((inputs - trend).flatten(1))
        return outputs


def moving_average(inputs: Tensor, kernel: int) -> Tensor:
    """The mean over ``kernel`` steps around each, the first and the last repeated beyond the ends: [B, T, F]."""
    beyond = (kernel - 1) // 2
    before, behind = inputs[:, :1].expand(-1, beyond, -1), inputs[:, -1:].expand(-1, beyond, -1)
    padded = torch.cat((before, inputs, behind), dim=1)
    return F.avg_pool1d(padded.transpose(1, 2), kernel, stride=1).transpose(1, 2)


def window_map(shape: Sequence[int], out_features: int, target_input: int | None, individual: bool) -> Dense:
    """A dense layer from all steps of all series, or of one, that begins as the mean of the target's own."""
    steps, features = shape[0], shape[1] if individual else 1
    layer = Dense(out_features, in_features=steps * features)
    at = target_input if individual else 0
    with torch.no_grad():
        layer.weight.zero_()
        if at is not None:
            layer.weight.view(-1, steps, features)[:, :, at] = 1 / steps
    nn.init.zeros_(layer.bias)
    return layer


def need_target(target_input: int | None, by: str) -> int:
    """The target's place among the inputs. Raises RecipeError where its past is not there, or on another scale."""
    if target_input is None:
        raise RecipeError(
            f"{by}: the target's own past, which it forecasts from, is not among the inputs, or on another scale. Name "
            'it in samples.inputs, and leave target_scale at "z_score".'
        )
    return target_input
