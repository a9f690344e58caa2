"""The temporal convolutional network: dilated convolutions that look back alone, further in each block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from groundup.core.errors import RecipeError
from groundup.nn.conv import Conv1d
from groundup.nn.dense import Dense


class TCN(nn.Module):
    """Causal residual blocks of dilation 1, 2, 4, ..., then one dense layer on the last step: [B, T, F] -> [B, out].

    The last step sees 1 + 2 (kernel - 1) (2^layers - 1) steps back; ``layers`` left open are as many as see the whole
    window. ``weight_normed`` learns each kernel's direction and length apart (Salimans and Kingma 2016). Bai, Kolter
    and Koltun 2018, section 3.
    """

    def __init__(
        self,
        hidden: int = 64,
        layers: int | None = None,
        kernel: int = 3,
        *,
        input_shape: Sequence[int],
        out_features: int,
        dropout: float = 0.0,
        weight_normed: bool = True,
    ) -> None:
        super().__init__()
        if kernel < 2:
            raise RecipeError(f"TCN.kernel: read {kernel}, expected at least 2 steps.")
        steps, features = input_shape
        depth = layers or max(1, math.ceil(math.log2(1 + (steps - 1) / (2 * (kernel - 1)))))
        self.blocks = nn.ModuleList(
            CausalBlock(hidden, kernel, 2**place, hidden if place else features, dropout, weight_normed)
            for place in range(depth)
        )
        self.output = Dense(out_features, in_features=hidden)

    def states(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, T, hidden]; none sees a later step."""
        for block in self.blocks:
            inputs = block(inputs)
        return inputs

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, out_features]."""
        outputs: Tensor = self.output(self.states(inputs)[:, -1])
        return outputs


class CausalBlock(nn.Module):
    """relu(x + two causal convolutions, each with relu and dropout): [B, T, F] -> [B, T, hidden].

    Where the widths differ, x goes through a convolution of one step. Bai et al. 2018, figure 1(b).
    """

    def __init__(
        self, hidden: int, kernel: int, dilation: int, in_features: int, dropout: float, weight_normed: bool
    ) -> None:
        super().__init__()
        self.causal = True
        self.first = Conv1d(hidden, kernel, padding="causal", dilation=dilation, in_features=in_features)
        self.second = Conv1d(hidden, kernel, padding="causal", dilation=dilation, in_features=hidden)
        for convolution in (self.first, self.second) if weight_normed else ():
            weight_norm(convolution.conv)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Identity() if hidden == in_features else Dense(hidden, in_features=in_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, in_features] -> [B, T, hidden]."""
        inner = self.dropout(torch.relu(self.first(inputs)))
        inner = self.dropout(torch.relu(self.second(inner)))
        return torch.relu(self.shortcut(inputs) + inner)
