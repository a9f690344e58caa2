"""Recurrent layers over a series, each giving its state at every step; ``LastStep`` keeps the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from groundup.core.errors import RecipeError
from groundup.core.use import Use
from groundup.nn.dense import Dense
from groundup.nn.init import start
from groundup.nn.kinds import SERIES
from groundup.nn.scan import linear_scan


class _Recurrent(nn.Module):
    """A torch recurrence that gives its states alone: [B, T, in_features] -> [B, T, hidden (x 2 if bidirectional)].

    ``init`` fills the matrices of each gate by itself and sets the biases to zero.
    """

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
        init: Use | Callable[[Tensor], object] | None = None,
    ) -> None:
        super().__init__()
        if dropout and layers == 1:
            raise RecipeError(
                f"{type(self).__name__}: dropout acts between layers and there is one; "
                "take layers = 2 or put a Dropout layer behind it."
            )
        self.causal = not bidirectional
        self.recurrence = self.cell(
            in_features, hidden, layers, batch_first=True, dropout=dropout, bidirectional=bidirectional
        )
        for parameter in self.recurrence.parameters() if init is not None else ():
            for gate in torch.split(parameter.detach(), hidden):  # each is a matrix of its own
                if gate.ndim > 1:
                    start(gate, None, init)
                else:
                    gate.zero_()

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, T, in_features] -> [B, T, hidden]; with ``lengths`` [B], 0 behind each series' end.

        A backward direction then begins at each series' own end.
        """
        if lengths is None:
            states: Tensor = self.recurrence(inputs)[0]
            return states
        packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.recurrence(packed)[0], batch_first=True, total_length=inputs.shape[1])
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


class MinGRU(nn.Module):
    """h_t = (1 - z_t) h_(t-1) + z_t g(W x_t), z_t = sigmoid(V x_t): [B, T, F] -> [B, T, hidden].

    Gate and candidate do not see the state, so that all steps are computed at once, and a step at a time in
    generation. g(x) = x + 1/2 where x is positive, sigmoid(x) elsewhere. Feng et al. 2024, sections 3.1 and A.
    """

    takes: ClassVar = SERIES

    def __init__(
        self,
        hidden: int,
        *,
        in_features: int,
        bias: bool = True,
        init: Use | Callable[[Tensor], object] | None = None,
    ) -> None:
        super().__init__()
        self.causal = True
        self.gate = Dense(hidden, in_features=in_features, bias=bias, init=init)
        self.candidate = Dense(hidden, in_features=in_features, bias=bias, init=init)

    def forward(self, inputs: Tensor, before: Tensor | None = None) -> Tensor:
        """[B, T, F] -> [B, T, hidden]; ``before`` [B, hidden] is the state that a former call ended with."""
        exact = torch.promote_types(inputs.dtype, torch.float32)
        gate = self.gate(inputs).to(exact).sigmoid()
        candidate = self.candidate(inputs).to(exact)
        added = gate * torch.where(candidate >= 0, candidate + 0.5, F.sigmoid(candidate))
        if before is not None:
            first = added[:, :1] + (1 - gate[:, :1]) * before[:, None]
            added = torch.cat((first, added[:, 1:]), dim=1)
        return linear_scan(1 - gate, added).to(inputs.dtype)


class LastStep(nn.Module):
    """The last step of a series: [B, T, F] -> [B, F]."""

    takes: ClassVar = SERIES

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, T, F] -> [B, F]; with ``lengths`` [B], the last step of each series itself."""
        if lengths is None:
            return inputs[:, -1]
        last = (lengths - 1).clamp_min(0)[:, None, None].expand(-1, 1, inputs.shape[2])
        return inputs.gather(1, last.to(inputs.device))[:, 0]
