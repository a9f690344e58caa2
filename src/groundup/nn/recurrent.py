"""Recurrent layers over a series, each giving its state at every step; ``LastStep`` keeps the last."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from groundup.core.errors import RecipeError

SERIES = ("steps", "features")


class _Recurrent(nn.Module):
    """A torch recurrence that gives its states alone: [B, T, in_features] -> [B, T, hidden (x 2 if bidirectional)]."""

    takes: ClassVar = SERIES
    cell: ClassVar[type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]]

    def __init__(
        self,
        hidden: int,
        layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        in_features: int,
    ) -> None:
        super().__init__()
        if dropout and layers == 1:
            raise RecipeError(
                f"{type(self).__name__}: dropout acts between layers and there is one; "
                "take layers = 2 or put a Dropout layer behind it."
            )
        self.recurrence = self.cell(
            in_features, hidden, layers, batch_first=True, dropout=dropout, bidirectional=bidirectional
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, in_features] -> [B, T, hidden]."""
        states: Tensor = self.recurrence(inputs)[0]
        return states


class LSTM(_Recurrent):
    """Long short-term memory: [B, T, F] -> [B, T, hidden]. Hochreiter and Schmidhuber 1997."""

    cell = nn.LSTM


class GRU(_Recurrent):
    """Gated recurrent unit: [B, T, F] -> [B, T, hidden]. Cho et al. 2014."""

    cell = nn.GRU


class RNN(_Recurrent):
    """Plain recurrence h = tanh(W x + U h + b): [B, T, F] -> [B, T, hidden]. Elman 1990."""

    cell = nn.RNN


class LastStep(nn.Module):
    """The last step of a series: [B, T, F] -> [B, F]."""

    takes: ClassVar = SERIES

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, F] -> [B, F]."""
        return inputs[:, -1]
