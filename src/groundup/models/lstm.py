"""The LSTM as a model of a series: what the last step's state says."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from groundup.nn.dense import Dense


class Recurrent(nn.Module):
    """A torch recurrence over the steps, then one dense layer on the last state: [B, T, F] -> [B, out_features].

    ``dropout`` acts between layers and on the last state. Which recurrence it is, a model says by ``cell``.
    """

    cell: ClassVar[type[nn.LSTM] | type[nn.GRU]]

    def __init__(
        self, hidden: int, layers: int = 1, *, in_features: int, out_features: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        between = dropout if layers > 1 else 0.0
        self.recurrence = self.cell(in_features, hidden, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.output = Dense(out_features, in_features=hidden)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T, in_features] -> [B, out_features]."""
        states, _ = self.recurrence(inputs)
        outputs: Tensor = self.output(self.dropout(states[:, -1]))
        return outputs


class LSTM(Recurrent):
    """Long short-term memory over the steps, then one dense layer on the last state: [B, T, F] -> [B, out_features].

    ``dropout`` acts between layers and on the last state. Hochreiter and Schmidhuber 1997.
    """

    cell = nn.LSTM
