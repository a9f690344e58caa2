"""The multilayer perceptron, for rows of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from groundup.core.errors import RecipeError
from groundup.core.use import Use, make
from groundup.nn.activations import relu
from groundup.nn.dense import Dense
from groundup.nn.norm import BatchNorm1d, LayerNorm, RMSNorm
from groundup.nn.sequential import Function

NORMS: dict[str, type[BatchNorm1d] | type[LayerNorm] | type[RMSNorm]] = {
    "batch": BatchNorm1d,
    "layer": LayerNorm,
    "rms": RMSNorm,
}


class MLP(nn.Module):
    """Dense layers of the widths in ``hidden``, each followed by norm, activation and dropout; then one to the output.

    [B, *input_shape] -> [B, out_features]; an input of several dimensions is flattened first. Without ``input_shape``
    the input is [B, in_features]. ``init`` fills every weight and sets the biases to zero.
    """

    def __init__(
        self,
        hidden: Sequence[int],
        *,
        out_features: int,
        in_features: int | None = None,
        input_shape: Sequence[int] | None = None,
        activation: Use | Callable[[Tensor], Tensor] = relu,
        dropout: float = 0.0,
        norm: Literal["batch", "layer", "rms"] | None = None,
        init: Use | Callable[[Tensor], object] | None = None,
    ) -> None:
        super().__init__()
        if norm is not None and norm not in NORMS:
            raise RecipeError(f"MLP.norm: read {norm!r}, expected one of {', '.join(NORMS)}.")
        width = in_features if input_shape is None else math.prod(input_shape)
        if width is None:
            raise RecipeError("MLP: the width of its input is not known; give in_features or input_shape.")
        self.layers = nn.ModuleList()
        for features in hidden:
            self.layers.append(Dense(features, in_features=width, init=init))
            if norm is not None:
                self.layers.append(NORMS[norm](in_features=features))
            self.layers.append(_activation(activation))
            if dropout:
                self.layers.append(nn.Dropout(dropout))
            width = features
        self.layers.append(Dense(out_features, in_features=width, init=init))

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, *input_shape] -> [B, out_features]."""
        inputs = inputs.flatten(1)
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs


def _activation(activation: Use | Callable[[Tensor], Tensor]) -> nn.Module:
    made = make(activation, "activation") if isinstance(activation, Use) else activation
    return made if isinstance(made, nn.Module) else Function(made)
