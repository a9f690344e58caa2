"""Two dense layers with an activation between, and the gated kinds with three: what follows attention in a block."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from groundup.core.use import Use, make
from groundup.nn.activations import gelu, silu
from groundup.nn.dense import Dense

Activation = Use | Callable[[Tensor], Tensor]


class FeedForward(nn.Module):
    """down(activation(up(x))): [..., F] -> [..., F], ``hidden`` features between. Vaswani et al. 2017, section 3.3.

    ``activation`` "relu_squared" makes it Primer's (So et al. 2021).
    """

    def __init__(
        self,
        hidden: int,
        activation: Activation = gelu,
        *,
        in_features: int,
        bias: bool = True,
        dropout: float = 0.0,
        init: Use | Callable[[Tensor], object] | None = None,
    ) -> None:
        super().__init__()
        self.up = Dense(hidden, in_features=in_features, bias=bias, init=init)
        self.activation = made_activation(activation)
        self.dropout = nn.Dropout(dropout)
        self.down = Dense(in_features, in_features=hidden, bias=bias, init=init)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., F] -> [..., F]."""
        outputs: Tensor = self.down(self.dropout(self.activation(self.up(inputs))))
        return outputs


class GatedFeedForward(nn.Module):
    """down(activation(gate(x)) * up(x)): [..., F] -> [..., F]. Shazeer 2020 (GLU variants), equations 5 and 6.

    ``activation`` "silu" makes it SwiGLU, "gelu" GeGLU, "relu" ReGLU.
    """

    def __init__(
        self,
        hidden: int,
        activation: Activation = silu,
        *,
        in_features: int,
        bias: bool = False,
        dropout: float = 0.0,
        init: Use | Callable[[Tensor], object] | None = None,
    ) -> None:
        super().__init__()
        self.gate = Dense(hidden, in_features=in_features, bias=bias, init=init)
        self.up = Dense(hidden, in_features=in_features, bias=bias, init=init)
        self.activation = made_activation(activation)
        self.dropout = nn.Dropout(dropout)
        self.down = Dense(in_features, in_features=hidden, bias=bias, init=init)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., F] -> [..., F]."""
        outputs: Tensor = self.down(self.dropout(self.activation(self.gate(inputs)) * self.up(inputs)))
        return outputs


def made_activation(activation: Activation) -> Callable[[Tensor], Tensor]:
    """The function that a recipe names, or the one that is given."""
    made: Callable[[Tensor], Tensor] = make(activation, "activation") if isinstance(activation, Use) else activation
    return made
