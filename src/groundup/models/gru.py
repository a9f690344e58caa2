"""The GRU as a model of a series: what the last step's state says."""

from __future__ import annotations

from torch import nn

from groundup.models.lstm import Recurrent


class GRU(Recurrent):
    """Gated recurrent units over the steps, then one dense layer on the last state: [B, T, F] -> [B, out_features].

    ``dropout`` acts between layers and on the last state. Cho et al. 2014; three quarters of the LSTM's weights.
    """

    cell = nn.GRU
